"""Federated services: requests, errors and durations of BEAM and Python services on the same panels, and their dependencies."""

from __future__ import annotations

from boards.grafana import (
    Board,
    Column,
    Json,
    Panel,
    Query,
    annotation,
    datasource_variable,
    heatmap,
    latency,
    mean,
    quantile,
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
    warn_below,
)
from boards.names import FAILED, HTTP, OWN_JOB

DB = "db_client_operation_duration_seconds"
OTHERS = f'job!="{OWN_JOB}"'
CHOSEN = ('runtime=~"$runtime"', 'http_route=~"$route"')
BY_SERVICE, SERVICE = "job, runtime", "{{job}} ({{runtime}})"
REQUESTS = rate(f"{HTTP}_count", *CHOSEN)
FAILURES = rate(f"{HTTP}_count", *CHOSEN, FAILED)


def services() -> Board:
    board = Board(
        uid="dichroic-services",
        title="Federated services",
        description="Requests, errors and durations of BEAM and Python services on the same panels.",
        variables=[
            datasource_variable(),
            variable("job", "Service", f"target_info{{{OTHERS}}}", "job"),
            variable("instance", "Instance", f'target_info{{job=~"$job",{OTHERS}}}', "instance"),
            variable("runtime", "Runtime", series("target_info", OTHERS), "runtime"),
            variable("route", "Route", series(f"{HTTP}_count"), "http_route", all_value=".*"),
        ],
        annotations=[worker_restarts()],
    )
    board.add(*service_numbers())
    board.add(*service_lines())
    board.row("Spread and runtimes", *service_spread(), collapsed=False)
    board.row("Routes", *routes(), collapsed=False)
    board.row("Database client", *database())
    board.row("Oban jobs", *oban())
    board.row("Phoenix errors, sockets and channels", *phoenix())
    board.row("Snakepit: calls into Python", *snakepit())
    board.row("Scraped workers and their processes", *workers())
    board.row("Reporting sources", *reporters())
    return board


def worker_restarts() -> Json:
    started = f"changes({series('process_start_time_seconds', OTHERS)}[$__rate_interval]) > 0"
    return annotation("Restarts of scraped workers", started, "{{job}} restarted", "orange")


def service_numbers() -> list[Panel]:
    return [
        stat("Requests", "Requests per second of all chosen services.", "reqps", Query(total(REQUESTS))),
        stat(
            "Errors",
            "Share of requests answered with status 5xx. Warning above 1 %, critical above 5 %.",
            "percentunit",
            Query(ratio(FAILURES, REQUESTS)),
            thresholds=warn_at(0.01, 0.05),
        ),
        stat("p50", "Half of the requests took less than this.", "s", latency(HTTP, 0.5, "", "p50", *CHOSEN)),
        stat("p95", "One request in twenty took longer than this.", "s", latency(HTTP, 0.95, "", "p95", *CHOSEN)),
        stat("p99", "One request in a hundred took longer than this.", "s", latency(HTTP, 0.99, "", "p99", *CHOSEN)),
        stat(
            "Scraped workers up",
            "Share of scraped targets whose last scrape succeeded (`up`).",
            "percentunit",
            Query(f"avg({series('up', OTHERS)})"),
            thresholds=warn_below(1),
            no_value="no targets",
        ),
    ]


def service_lines() -> list[Panel]:
    def duration(name: str, q: float) -> Panel:
        description = (
            f"{name} of request durations by service and runtime, from the buckets of `{HTTP}`. BEAM and Python services "
            "have the same bucket bounds, so the lines are comparable."
        )
        return timeseries(f"Duration, {name}", description, "s", latency(HTTP, q, BY_SERVICE, SERVICE, *CHOSEN))

    return [
        timeseries(
            "Request rate by service",
            f"Requests per second by service and runtime (`{HTTP}_count`). Check sudden drops as well as peaks.",
            "reqps",
            Query(total(REQUESTS, BY_SERVICE), SERVICE),
            width=12,
        ),
        timeseries(
            "Error ratio by service",
            "Share of requests answered with status 5xx, by service. 0 means there were requests and none failed.",
            "percentunit",
            Query(ratio(FAILURES, REQUESTS, BY_SERVICE), SERVICE),
            width=12,
        ),
        duration("p50", 0.5),
        duration("p95", 0.95),
        duration("p99", 0.99),
    ]


def service_spread() -> list[Panel]:
    return [
        heatmap(
            "Request durations",
            "Requests in each bucket, all chosen services. Two bands mean two kinds of requests.",
            HTTP,
            *CHOSEN,
        ),
        timeseries(
            "BEAM and Python side by side, p95",
            "95th percentile of all services of one runtime taken together.",
            "s",
            latency(HTTP, 0.95, "runtime", "{{runtime}}", *CHOSEN),
            width=6,
        ),
        timeseries(
            "Requests by runtime",
            "Requests per second, by runtime.",
            "reqps",
            Query(total(REQUESTS, "runtime"), "{{runtime}}"),
            width=6,
            stacked=True,
        ),
    ]


def routes() -> list[Panel]:
    by, legend = "job, http_request_method, http_route", "{{job}} {{http_request_method}} {{http_route}}"
    columns = [
        Column("Requests", total(REQUESTS, by), "reqps"),
        Column("Errors", ratio(FAILURES, REQUESTS, by), "percentunit"),
        Column("p50", quantile(0.5, HTTP, by, *CHOSEN), "s"),
        Column("p95", quantile(0.95, HTTP, by, *CHOSEN), "s"),
        Column("p99", quantile(0.99, HTTP, by, *CHOSEN), "s"),
    ]
    labels = {"job": "Service", "http_request_method": "Method", "http_route": "Route"}
    statuses = total(REQUESTS, "http_response_status_code")
    return [
        table("Routes now", "Current rate, error ratio and durations of each route.", columns, labels, width=24, height=9),
        timeseries(
            "Request rate by route",
            "The ten busiest routes.",
            "reqps",
            Query(f"topk(10, {total(REQUESTS, by)})", legend),
        ),
        timeseries(
            "Duration by route, p95",
            "The ten slowest routes by their 95th percentile.",
            "s",
            Query(f"topk(10, {quantile(0.95, HTTP, by, *CHOSEN)})", legend, exemplar=True),
        ),
        timeseries(
            "Requests by status",
            "Requests per second by response status.",
            "reqps",
            Query(statuses, "{{http_response_status_code}}"),
            stacked=True,
        ),
    ]


def database() -> list[Panel]:
    by, legend = "job, db_operation_name, db_collection_name", "{{job}} {{db_operation_name}} {{db_collection_name}}"
    operations = rate(f"{DB}_count")
    # Ecto sets result="error"; other instrumentation sets error_type.
    failed = " or ".join(rate(f"{DB}_count", matcher) for matcher in ('result="error"', 'error_type!=""'))
    waits = {
        "ecto_queue_duration_seconds": "waiting for a connection",
        "ecto_query_duration_seconds": "running in the database",
        "ecto_decode_duration_seconds": "decoding the answer",
    }
    return [
        timeseries(
            "Operations by table",
            f"Database operations per second (`{DB}_count`), by operation and table.",
            "ops",
            Query(total(operations, by), legend),
        ),
        timeseries(
            "Failed operations",
            "Share of database operations that failed, by service.",
            "percentunit",
            Query(ratio(failed, operations, "job"), "{{job}}"),
        ),
        timeseries(
            "Operation duration, p95 by table",
            "95th percentile of an operation's total time, including the wait for a connection.",
            "s",
            latency(DB, 0.95, by, legend),
        ),
        timeseries(
            "Operation duration",
            "Percentiles over all chosen services.",
            "s",
            [latency(DB, q, "", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
        ),
        timeseries(
            "Query time by phase (Ecto)",
            "Mean time of each phase. A long wait for a connection: the pool is too small, or connections are held too long.",
            "s",
            [Query(mean(metric), name) for metric, name in waits.items()],
            stacked=True,
        ),
        timeseries(
            "Wait for a connection, p95 (Ecto)",
            "95th percentile of the wait for a connection, by repository (`ecto_queue_duration_seconds`).",
            "s",
            latency("ecto_queue_duration_seconds", 0.95, "job, repo", "{{job}} {{repo}}"),
        ),
        heatmap("Operation durations", "Operations in each bucket.", DB),
        timeseries(
            "Idle time of connections, p50 (Ecto)",
            "Median time a connection was idle before use. Small values mean a busy pool.",
            "s",
            latency("ecto_idle_duration_seconds", 0.5, "job, repo", "{{job}} {{repo}}"),
            width=12,
        ),
    ]


def oban() -> list[Panel]:
    by, legend = "job, queue, worker", "{{job}} {{queue}} {{worker}}"
    ended = rate("oban_jobs_total")
    return [
        timeseries(
            "Jobs by worker and outcome",
            "Jobs performed per second (`oban_jobs_total`), by worker and state.",
            "ops",
            Query(total(ended, "job, worker, state"), "{{job}} {{worker}} {{state}}"),
        ),
        timeseries(
            "Failed jobs",
            "Share of jobs that raised, threw, exited or returned an error. Oban may retry them.",
            "percentunit",
            Query(ratio(rate("oban_jobs_total", 'event="exception"'), ended, by), legend),
        ),
        timeseries(
            "Queue time, p95",
            "95th percentile of the time between a job being due and its start. Growth means too few workers.",
            "s",
            latency("oban_job_queue_time_seconds", 0.95, "job, queue", "{{job}} {{queue}}"),
        ),
        timeseries(
            "Job duration by worker, p95",
            "95th percentile of the time to perform a job (`oban_job_duration_seconds`).",
            "s",
            latency("oban_job_duration_seconds", 0.95, by, legend),
        ),
        timeseries(
            "Job duration",
            "Percentiles over all chosen services.",
            "s",
            [latency("oban_job_duration_seconds", q, "", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
        ),
        timeseries(
            "Started and ended",
            "Starts constantly above ends: running jobs pile up, or their node stopped before they ended.",
            "ops",
            [Query(total(rate("oban_jobs_started_total")), "started"), Query(total(ended), "ended")],
        ),
        timeseries(
            "Exceptions by kind",
            "Jobs that failed, by worker and kind (`oban_job_exceptions_total`).",
            "ops",
            Query(total(rate("oban_job_exceptions_total"), "worker, kind"), "{{worker}} {{kind}}"),
            no_value="none failed",
        ),
        timeseries(
            "Memory of jobs, p95",
            "95th percentile of the memory of a job's process at its end (`oban_job_memory_bytes`).",
            "bytes",
            latency("oban_job_memory_bytes", 0.95, by, legend),
        ),
        timeseries(
            "Plugins, p95",
            "95th percentile of a plugin's run, such as pruning or staging jobs.",
            "s",
            latency("oban_plugin_duration_seconds", 0.95, "plugin", "{{plugin}}"),
        ),
        timeseries(
            "Jobs that plugins changed",
            "Jobs per second that plugins staged, pruned, rescued, discarded or inserted (`oban_plugin_jobs_total`). Rescued "
            "jobs were orphaned when their node stopped.",
            "ops",
            Query(total(rate("oban_plugin_jobs_total"), "outcome"), "{{outcome}}"),
            width=12,
            no_value="none changed",
        ),
        timeseries(
            "Failed plugin runs",
            "Plugin runs that ended with an error (`oban_plugin_duration_seconds`) or raised (`oban_plugin_exceptions_total`). "
            "Expected: none.",
            "ops",
            [
                Query(total(rate("oban_plugin_duration_seconds_count", 'error="true"'), "plugin"), "{{plugin}} error"),
                Query(total(rate("oban_plugin_exceptions_total"), "plugin, kind"), "{{plugin}} raised ({{kind}})"),
            ],
            width=12,
            no_value="none failed",
        ),
    ]


def phoenix() -> list[Panel]:
    return [
        timeseries(
            "Requests that raised",
            "Requests that raised, threw or exited in a router's action, by route.",
            "reqps",
            Query(total(rate("phoenix_router_dispatch_exceptions_total"), "http_route, kind"), "{{http_route}} {{kind}}"),
            width=12,
            no_value="none raised",
        ),
        timeseries(
            "Error pages rendered",
            "Error pages per second by status. Many 404s may come from a vulnerability scan.",
            "reqps",
            Query(total(rate("phoenix_error_rendered_count_total"), "status, kind"), "{{status}} {{kind}}"),
            width=12,
            no_value="none rendered",
        ),
        timeseries(
            "Sockets connected",
            "Connections per second by transport and result.",
            "ops",
            Query(
                total(rate("phoenix_socket_connect_duration_seconds_count"), "transport, result"),
                "{{transport}} {{result}}",
            ),
        ),
        timeseries(
            "Channel joins, p95",
            "95th percentile of the time to join a channel.",
            "s",
            latency("phoenix_channel_join_duration_seconds", 0.95, "channel", "{{channel}}"),
        ),
        timeseries(
            "Channel messages, p95",
            "95th percentile of the time to handle a client's message.",
            "s",
            latency("phoenix_channel_handle_in_duration_seconds", 0.95, "channel", "{{channel}}"),
        ),
    ]


def snakepit() -> list[Panel]:
    calls = rate("snakepit_call_duration_seconds_count")
    lost = {
        "crashed": "snakepit_workers_crashed_total",
        "restarted": "snakepit_workers_restarted_total",
        "recycled": "snakepit_workers_recycled_total",
        "heartbeat missed": "snakepit_heartbeat_timeouts_total",
    }
    return [
        timeseries(
            "Calls by command",
            "Calls into Python per second, by pool and command.",
            "ops",
            Query(total(calls, "pool, command"), "{{pool}} {{command}}"),
        ),
        timeseries(
            "Failed calls",
            "Share of calls that returned an error, by pool.",
            "percentunit",
            Query(ratio(rate("snakepit_calls_failed_total"), calls, "pool"), "{{pool}}"),
        ),
        timeseries(
            "Call duration, p95",
            "95th percentile of a call's duration, measured by the BEAM.",
            "s",
            latency("snakepit_call_duration_seconds", 0.95, "pool, command", "{{pool}} {{command}}"),
        ),
        timeseries(
            "Call duration on both sides, p95",
            "Time the BEAM waited (client) and time Python worked (server). The difference is the cost of the bridge.",
            "s",
            latency("snakepit_python_call_duration_seconds", 0.95, "side", "{{side}}"),
        ),
        timeseries(
            "Full queues",
            "Requests per second rejected by a full queue, by pool. Expected: none.",
            "ops",
            Query(total(rate("snakepit_pool_saturated_total"), "pool"), "{{pool}}"),
            no_value="none",
        ),
        timeseries(
            "Workers lost and replaced",
            "Crashes, restarts, recycled workers and missed heartbeats per second.",
            "ops",
            [Query(total(rate(metric)), name) for name, metric in lost.items()],
            no_value="none",
        ),
    ]


def workers() -> list[Panel]:
    legend = "{{job}} {{instance}}"

    def gauge(metric: str) -> str:
        return series(metric, OTHERS)

    return [
        status("Targets", "Whether the last scrape of each target succeeded (`up`).", Query(gauge("up"), legend)),
        timeseries(
            "Scrape duration",
            "Duration of a scrape. A slow target is overloaded or exposes too many samples.",
            "s",
            Query(gauge("scrape_duration_seconds"), legend),
            width=6,
        ),
        timeseries(
            "Samples per scrape",
            "Samples exposed by each target, and those left after relabeling. Constant growth means a label explosion.",
            "short",
            [
                Query(gauge("scrape_samples_scraped"), f"{legend} exposed"),
                Query(gauge("scrape_samples_post_metric_relabeling"), f"{legend} kept"),
                Query(gauge("scrape_series_added"), f"{legend} new"),
            ],
            width=6,
        ),
        timeseries(
            "CPU",
            "CPU time per second: 1 is one fully used core (`process_cpu_seconds_total`).",
            "none",
            Query(rate("process_cpu_seconds_total", OTHERS), legend),
        ),
        timeseries(
            "Memory",
            "Resident and virtual memory of the process.",
            "bytes",
            [
                Query(gauge("process_resident_memory_bytes"), f"{legend} resident"),
                Query(gauge("process_virtual_memory_bytes"), f"{legend} virtual"),
            ],
        ),
        timeseries(
            "File descriptors of limit",
            "Open file descriptors as a share of the limit. At 100 % the process cannot accept connections.",
            "percentunit",
            Query(f"{gauge('process_open_fds')} / {gauge('process_max_fds')}", legend),
            maximum=1,
        ),
        timeseries(
            "Garbage collections (Python)",
            "Collections per second by generation. Those of generation 2 are expensive.",
            "ops",
            Query(rate("python_gc_collections_total", OTHERS), f"{legend} generation {{{{generation}}}}"),
        ),
        timeseries(
            "Objects collected (Python)",
            "Objects per second that the garbage collector collected, and those it could not free.",
            "ops",
            [
                Query(total(rate("python_gc_objects_collected_total", OTHERS), "job, instance"), f"{legend} collected"),
                Query(
                    total(rate("python_gc_objects_uncollectable_total", OTHERS), "job, instance"),
                    f"{legend} uncollectable",
                ),
            ],
        ),
        timeseries(
            "Time since the start",
            "Time since each worker started. A sawtooth means a crash loop.",
            "s",
            Query(f"time() - {gauge('process_start_time_seconds')}", legend),
        ),
    ]


def reporters() -> list[Panel]:
    python = f"count by (job, instance, implementation, version) ({series('python_info', OTHERS)})"
    return [
        table(
            "Sources",
            "All reporting sources and their runtimes (`target_info`).",
            [Column("Sources", f"count by (job, instance, runtime) ({series('target_info', OTHERS)})")],
            {"job": "Service", "instance": "Instance", "runtime": "Runtime"},
        ),
        table(
            "Python versions",
            "Interpreters of scraped workers (`python_info`).",
            [Column("Processes", python)],
            {"job": "Service", "instance": "Instance", "implementation": "Implementation", "version": "Version"},
        ),
    ]
