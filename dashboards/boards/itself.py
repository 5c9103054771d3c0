"""Dichroic itself: whether the collector accepts all data within its limits, and its resource usage."""

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
        description="Whether the collector accepts all data within its limits, and its resource usage.",
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
        stat("Received", "Points, events and logs received per second.", "short", Query(total(RECEIVED)), width=3),
        stat(
            "Dropped",
            "Share of the received data that was dropped. Expected: 0. See the reasons in the panels below.",
            "percentunit",
            Query(ratio(DROPPED, RECEIVED)),
            width=3,
            thresholds=warn_at(0.0001, 0.01),
        ),
        stat(
            "Page, p99",
            "99th percentile of the time to render a `/metrics` page, from the request on.",
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
            "Connected sources, and sources whose series have not expired yet.",
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
            "Points, events and logs received per second. A line that ends: the source stopped sending.",
            "short",
            Query(total(RECEIVED, BY_SOURCE), SOURCE),
        ),
        timeseries(
            "Applied by source",
            "Points, events and logs per second that reached a series or a stream.",
            "short",
            Query(total(APPLIED, BY_SOURCE), SOURCE),
        ),
        timeseries(
            "Dropped by source and reason",
            "Losses per second. A reason ending in `_limit` names the limit to raise; `malformed` and `duplicate`: source errors.",
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
        against("Series", "Live series and their limit (`limits.series`).", "dichroic_series", "short"),
        against(
            "Accounted bytes",
            "Bytes of series, labels and tables, and their limit (`limits.memory`).",
            "dichroic_series_bytes",
            "bytes",
        ),
        timeseries(
            "Memory in flight",
            "Bytes reserved for data in flight and queued, by part; the most since the start; the limit (`limits.in_flight`).",
            "bytes",
            [
                Query(series("dichroic_in_flight_bytes"), "{{instance}} {{part}}"),
                Query(series("dichroic_in_flight_peak_bytes"), "{{instance}} {{part}} most"),
                Query(series("dichroic_in_flight_bytes_limit"), "{{instance}} limit"),
            ],
            width=12,
        ),
        timeseries(
            "Refused memory",
            "Reservations per second that were refused, by part and reason. The peer gets an error, and may try again.",
            "short",
            Query(total(rate("dichroic_in_flight_refused_total"), "part, reason"), "{{part}}: {{reason}}"),
            width=12,
        ),
    ]


def itself_ledger() -> list[Panel]:
    def requests(what: str, by: str = "transport, signal") -> str:
        return total(rate(f"dichroic_requests_{what}_total"), by)

    sums = {what: total(series(f"dichroic_ingest_{what}_total")) for what in ("received", "applied", "hidden", "dropped")}
    unaccounted = f"{sums['received']} - {sums['applied']} - ({sums['hidden']} or vector(0)) - ({sums['dropped']} or vector(0))"
    columns = [
        Column("Received", total(RECEIVED, BY_SOURCE)),
        Column("Applied", total(APPLIED, BY_SOURCE)),
        Column("Dropped", f"{total(DROPPED, BY_SOURCE)} or {total(RECEIVED, BY_SOURCE)} * 0"),
    ]
    return [
        table(
            "Sources now",
            "Data received, applied and dropped per second, by source.",
            columns,
            {"source": "Source", "protocol": "Protocol", "signal": "Signal"},
            width=12,
        ),
        timeseries(
            "In flight or unaccounted",
            "Received minus applied, hidden and dropped, since the start. Steady: data in flight. Growing: a bug in Dichroic.",
            "short",
            Query(unaccounted, "in flight"),
            width=6,
        ),
        timeseries(
            "Warnings",
            "Warnings per second. Nothing is lost, but check the cause: resets, colliding labels and names, gaps in deltas, "
            "truncated values, refused connections of relays and subscribers, panics, lost lines of the log, incomplete pages.",
            "short",
            [
                Query(total(rate("dichroic_warnings_total"), "kind"), "{{kind}}"),
                Query(total(rate("dichroic_connections_refused_total"), "listener, reason"), "refused at {{listener}}: {{reason}}"),
                Query(total(rate("dichroic_task_panics_total")), "panics of tasks"),
                Query(total(rate("dichroic_log_lines_dropped_total"), "reason"), "log lines lost: {{reason}}"),
                Query(total(rate("dichroic_pages_total", 'result!="complete"'), "result"), "incomplete pages: {{result}}"),
                Query(
                    total(rate("dichroic_responses_cut_total"), "listener, reason"), "responses cut off at {{listener}}: {{reason}}"
                ),
            ],
            width=6,
        ),
        timeseries(
            "OTLP requests",
            "Requests per second, by transport and signal: received, accepted as a whole, accepted in part.",
            "short",
            [
                Query(requests("received"), "{{signal}} over {{transport}}: received"),
                Query(requests("accepted"), "{{signal}} over {{transport}}: accepted"),
                Query(requests("partial"), "{{signal}} over {{transport}}: accepted in part"),
            ],
            width=12,
        ),
        timeseries(
            "Refused OTLP requests",
            "Requests per second that were refused, by reason. Most SDKs do not report it; the collector's log names the senders.",
            "short",
            Query(requests("refused", "transport, signal, reason"), "{{signal}} over {{transport}}: {{reason}}"),
            width=12,
        ),
    ]


def itself_relays() -> list[Panel]:
    def lost(what: str, by: str = "source") -> str:
        return total(rate(f"dichroic_relay_{what}_total"), by)

    return [
        timeseries(
            "Raw events that relays sent",
            "Rows per second, by node and event. Relays send them only for a subscriber or for `exporters.stream.retain`.",
            "short",
            Query(lost("rows_sent", "source, event"), "{{source}} {{event}}"),
        ),
        timeseries(
            "Measurements that are not numbers",
            "Measurements per second that a metric or a subscriber's row could not use: not a number, or too large for a "
            "sum. Events without the measurement are not counted.",
            "short",
            Query(lost("skipped", "source, metric, event, reason"), "{{source}} {{metric}}{{event}}: {{reason}}"),
        ),
        timeseries(
            "What relays could not count or send",
            "Rows dropped in the VM (no credit, rate limit), series over the limit folded into the overflow series, handlers "
            "that failed or were detached and re-attached.",
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
            "Rows per second offered to an exporter, and sent by it.",
            "short",
            [Query(hop("offered"), "{{exporter}} offered"), Query(hop("sent"), "{{exporter}} sent")],
        ),
        timeseries(
            "Lost in exporters",
            "Rows per second dropped because an exporter or subscriber was too slow. Subscribers receive the number of lost rows.",
            "short",
            Query(hop("dropped"), "{{exporter}}"),
        ),
        timeseries(
            "Sources and subscribers",
            "Sources, and subscribers of events and logs.",
            "short",
            [
                Query(series("dichroic_sources"), "{{instance}} sources"),
                Query(series("dichroic_subscribers"), "{{instance}} subscribers"),
            ],
        ),
        status(
            "Scraped by Prometheus",
            "Whether Prometheus reached the page (`up`; the scrape job must have the name chosen under Job).",
            Query(series("up"), "{{instance}}"),
        ),
        timeseries(
            "Scrape duration as Prometheus sees it",
            "Time to fetch and parse the page.",
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
            f"{name} of each stage. `page` is the time to render a `/metrics` page; `ingest_lag` is the delay before the ingest "
            "thread wakes, which grows under overload."
        )
        return timeseries(f"Stages, {name}", description, "s", latency(STAGE, q, "stage", "{{stage}}"))

    slowest = series("dichroic_stage_duration_quantile_seconds", 'quantile="0.999"')
    return [
        stage("p50", 0.5),
        stage("p95", 0.95),
        stage("p99", 0.99),
        heatmap("Pages", "Time to render a `/metrics` page.", STAGE, 'stage="page"'),
        heatmap("Lag of the ingest thread", "Delay before the ingest thread woke.", STAGE, 'stage="ingest_lag"'),
        timeseries(
            "Stages, p99.9 since the start",
            "p99.9 of each stage since the collector started, with two significant digits.",
            "s",
            Query(f"max by (stage) ({slowest})", "{{stage}}"),
            width=24,
        ),
    ]


def itself_process() -> list[Panel]:
    return [
        timeseries(
            "CPU",
            "CPU time per second: 1 is one fully used core.",
            "none",
            Query(rate("process_cpu_seconds_total"), "{{instance}}"),
        ),
        timeseries(
            "Memory",
            "Resident memory, and the part accounted to series.",
            "bytes",
            [
                Query(series("process_resident_memory_bytes"), "{{instance}} resident"),
                Query(series("dichroic_series_bytes"), "{{instance}} series"),
            ],
        ),
        timeseries(
            "Open file descriptors",
            "Open file descriptors, mostly sockets of sources and subscribers.",
            "short",
            Query(series("process_open_fds"), "{{instance}}"),
        ),
        timeseries(
            "Time since the start",
            "Time since the collector started.",
            "s",
            Query(f"time() - {series('process_start_time_seconds')}", "{{instance}}"),
            width=12,
        ),
        timeseries(
            "CPU for a thousand rows",
            "CPU time of the whole collector per thousand received points, events and logs.",
            "s",
            Query(f"1000 * {total(rate('process_cpu_seconds_total'))} / ({total(RECEIVED)} > 0)", "CPU time"),
            width=12,
        ),
    ]
