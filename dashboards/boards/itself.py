"""Dichroic itself: whether the collector takes in everything, within its limits, and what it costs."""

from __future__ import annotations

from boards.grafana import (
    Board,
    Column,
    Panel,
    Query,
    annotation,
    datasource_variable,
    heatmap,
    latency,
    rate,
    ratio,
    series,
    stat,
    status,
    table,
    timeseries,
    total,
    variable,
    warn_at,
)

STAGE = "dichroic_stage_duration_seconds"
RECEIVED, APPLIED, DROPPED = (rate(f"dichroic_ingest_{what}_total") for what in ("received", "applied", "dropped"))
BY_SOURCE, SOURCE = "source, protocol, signal", "{{source}} ({{protocol}}, {{signal}})"


def itself() -> Board:
    started = f"changes({series('process_start_time_seconds')}[$__rate_interval]) > 0"
    board = Board(
        uid="dichroic-self",
        title="Dichroic itself",
        description="Whether the collector takes in everything, within its limits, and what it costs.",
        variables=[
            datasource_variable(),
            variable("job", "Job", "dichroic_build_info", "job"),
            variable("instance", "Instance", 'dichroic_build_info{job=~"$job"}', "instance"),
        ],
        annotations=[annotation("Restarts of the collector", started, "collector restarted", "orange")],
    )
    board.add(*itself_numbers())
    board.add(*itself_red())
    board.row("Limits", *itself_limits(), collapsed=False)
    board.row("Ledger", *itself_ledger(), collapsed=False)
    board.row("Exporters, subscribers and the scrape", *itself_exporters())
    board.row("Relays", *itself_relays())
    board.row("Stages", *itself_stages())
    board.row("The process", *itself_process())
    return board


def of_limit(what: str) -> str:
    return f"{series(what)} / {series(f'{what}_limit')}"


def itself_numbers() -> list[Panel]:
    near = warn_at(0.7, 0.9)
    return [
        stat("Received", "Points, events and logs that came in, a second.", "short", Query(total(RECEIVED)), width=3),
        stat(
            "Dropped",
            "Share of what came in that was dropped, for whatever reason. 0 is right; below, reasons are told apart.",
            "percentunit",
            Query(ratio(DROPPED, RECEIVED)),
            width=3,
            thresholds=warn_at(0.0001, 0.01),
        ),
        stat(
            "Page, p99",
            "All but one in a hundred `/metrics` pages took less than this, from request to rendered page.",
            "s",
            latency(STAGE, 0.99, "", "p99", 'stage="page"'),
            width=3,
            thresholds=warn_at(0.5, 2),
        ),
        stat(
            "Series of limit",
            "Live series against `limits.series`.",
            "percentunit",
            Query(f"max({of_limit('dichroic_series')})"),
            width=3,
            thresholds=near,
        ),
        stat(
            "Bytes of limit",
            "Accounted bytes against `limits.memory`.",
            "percentunit",
            Query(f"max({of_limit('dichroic_series_bytes')})"),
            width=3,
            thresholds=near,
        ),
        stat(
            "Sources",
            "Sources that are open, or whose series have not left yet.",
            "none",
            Query(total(series("dichroic_sources"))),
            width=3,
        ),
        stat(
            "Subscribers",
            "Subscribers of events and logs.",
            "none",
            Query(total(series("dichroic_subscribers"))),
            width=3,
        ),
        stat(
            "Version",
            "Version of the collector.",
            "none",
            Query(f"max by (version) ({series('dichroic_build_info')})", "{{version}}"),
            width=3,
            shows_name=True,
        ),
    ]


def itself_red() -> list[Panel]:
    return [
        timeseries(
            "Received by source",
            "Points, events and logs a second that came in. A line that ends is a source that went silent.",
            "short",
            Query(total(RECEIVED, BY_SOURCE), SOURCE),
        ),
        timeseries(
            "Applied by source",
            "Those that reached a series or a stream.",
            "short",
            Query(total(APPLIED, BY_SOURCE), SOURCE),
        ),
        timeseries(
            "Dropped by source and reason",
            "Losses a second. One that ends in `_limit` names the limit to raise; `malformed` and `duplicate` are of the source.",
            "short",
            Query(total(DROPPED, "source, signal, reason"), "{{source}} ({{signal}}): {{reason}}"),
            no_value="nothing dropped",
        ),
    ]


def itself_limits() -> list[Panel]:
    def against(title: str, description: str, what: str, unit: str) -> Panel:
        queries = [Query(series(what), "{{instance}} used"), Query(series(f"{what}_limit"), "{{instance}} limit")]
        return timeseries(title, description, unit, queries, width=12)

    return [
        against("Series", "Live series and how many may live at once (`limits.series`).", "dichroic_series", "short"),
        against(
            "Accounted bytes",
            "Bytes of series, labels and tables and how many may be used (`limits.memory`).",
            "dichroic_series_bytes",
            "bytes",
        ),
    ]


def itself_ledger() -> list[Panel]:
    sums = {what: total(series(f"dichroic_ingest_{what}_total")) for what in ("received", "applied", "dropped")}
    unaccounted = f"{sums['received']} - {sums['applied']} - ({sums['dropped']} or vector(0))"
    columns = [
        Column("Received", total(RECEIVED, BY_SOURCE)),
        Column("Applied", total(APPLIED, BY_SOURCE)),
        Column("Dropped", f"{total(DROPPED, BY_SOURCE)} or {total(RECEIVED, BY_SOURCE)} * 0"),
    ]
    return [
        table(
            "Sources now",
            "What came in from each source a second, and what became of it.",
            columns,
            {"source": "Source", "protocol": "Protocol", "signal": "Signal"},
            width=12,
        ),
        timeseries(
            "In flight or unaccounted",
            "Received less applied less dropped, since the start. Small and steady: what is on its way. Growing: a bug of ours.",
            "short",
            Query(unaccounted, "in flight"),
            width=6,
        ),
        timeseries(
            "Warnings",
            "A second, of what loses nothing but deserves a look: resets, colliding labels and names, gaps of deltas, cut values, "
            "refused connections of relays and subscribers.",
            "short",
            [
                Query(total(rate("dichroic_warnings_total"), "kind"), "{{kind}}"),
                Query(total(rate("dichroic_connections_refused_total"), "listener, reason"), "refused at {{listener}}: {{reason}}"),
            ],
            width=6,
        ),
    ]


def itself_relays() -> list[Panel]:
    def lost(what: str, by: str = "source") -> str:
        return total(rate(f"dichroic_relay_{what}_total"), by)

    return [
        timeseries(
            "Raw events that relays sent",
            "Rows a second, by node and event. Relays send them only while someone subscribes or `exporters.stream.retain` asks.",
            "short",
            Query(lost("rows_sent", "source, event"), "{{source}} {{event}}"),
        ),
        timeseries(
            "Measurements that are no numbers",
            "Measurements a second that a metric or a subscriber's row could not use: no number, or beyond what a sum can "
            "hold. An event that does not have the measurement at all is not among them.",
            "short",
            Query(lost("skipped", "source, metric, event, reason"), "{{source}} {{metric}}{{event}}: {{reason}}"),
        ),
        timeseries(
            "What relays could not count or send",
            "Rows dropped in the VM (no credit, a rate limit), series beyond the cap that were folded, handlers that failed or "
            "that someone detached.",
            "short",
            [
                Query(lost("rows_dropped", "source, reason"), "{{source}} rows: {{reason}}"),
                Query(lost("overflowed", "source, metric"), "{{source}} folded: {{metric}}"),
                Query(lost("handler_failures"), "{{source}} handler failures"),
                Query(lost("reattached"), "{{source}} re-attached"),
            ],
        ),
    ]


def itself_exporters() -> list[Panel]:
    def hop(what: str) -> str:
        return total(rate(f"dichroic_exporter_{what}_total"), "exporter")

    return [
        timeseries(
            "Offered and sent",
            "Rows a second that an exporter was given, and that left it.",
            "short",
            [Query(hop("offered"), "{{exporter}} offered"), Query(hop("sent"), "{{exporter}} sent")],
        ),
        timeseries(
            "Lost in exporters",
            "Rows a second that an exporter or subscriber was too slow for. Subscribers are told how many they missed.",
            "short",
            Query(hop("dropped"), "{{exporter}}"),
        ),
        timeseries(
            "Sources and subscribers",
            "Who sends, and who listens to events and logs.",
            "short",
            [
                Query(series("dichroic_sources"), "{{instance}} sources"),
                Query(series("dichroic_subscribers"), "{{instance}} subscribers"),
            ],
        ),
        status(
            "Scraped by Prometheus",
            "Whether Prometheus reached the page (`up` of the scrape job, which must be named as the job here).",
            Query(series("up"), "{{instance}}"),
        ),
        timeseries(
            "Scrape duration as Prometheus sees it",
            "Time to fetch and read the page.",
            "s",
            Query(series("scrape_duration_seconds"), "{{instance}}"),
            width=6,
        ),
        timeseries(
            "Samples on the page",
            "Samples that Prometheus read from the page.",
            "short",
            Query(series("scrape_samples_scraped"), "{{instance}}"),
            width=6,
        ),
    ]


def itself_stages() -> list[Panel]:
    def stage(name: str, q: float) -> Panel:
        description = (
            f"{name} of each stage. `page` is a `/metrics` page from request to rendered; `ingest_lag` is how late the ingest "
            "thread wakes, and grows when it is overloaded."
        )
        return timeseries(f"Stages, {name}", description, "s", latency(STAGE, q, "stage", "{{stage}}"))

    slowest = series("dichroic_stage_duration_quantile_seconds", 'quantile="0.999"')
    return [
        stage("p50", 0.5),
        stage("p95", 0.95),
        stage("p99", 0.99),
        heatmap("Pages", "How long pages took.", STAGE, 'stage="page"'),
        heatmap("Lag of the ingest thread", "How late the ingest thread woke.", STAGE, 'stage="ingest_lag"'),
        timeseries(
            "Stages, p99.9 since the start",
            "p99.9 of each stage since the collector started, to two digits.",
            "s",
            Query(f"max by (stage) ({slowest})", "{{stage}}"),
            width=24,
        ),
    ]


def itself_process() -> list[Panel]:
    return [
        timeseries(
            "CPU",
            "CPU time a second: 1 is one core kept busy.",
            "none",
            Query(rate("process_cpu_seconds_total"), "{{instance}}"),
        ),
        timeseries(
            "Memory",
            "Resident memory, and what of it is accounted to series.",
            "bytes",
            [
                Query(series("process_resident_memory_bytes"), "{{instance}} resident"),
                Query(series("dichroic_series_bytes"), "{{instance}} series"),
            ],
        ),
        timeseries(
            "Open file descriptors",
            "Sockets of sources and subscribers, mostly.",
            "short",
            Query(series("process_open_fds"), "{{instance}}"),
        ),
        timeseries(
            "Time since the start",
            "How long the collector runs.",
            "s",
            Query(f"time() - {series('process_start_time_seconds')}", "{{instance}}"),
            width=12,
        ),
        timeseries(
            "CPU for a thousand rows",
            "CPU time spent for a thousand received points, events and logs; all work of the collector shared among them.",
            "s",
            Query(f"1000 * {total(rate('process_cpu_seconds_total'))} / ({total(RECEIVED)} > 0)", "CPU time"),
            width=12,
        ),
    ]
