"""BEAM VM: requests, schedulers, memory and limits of a node."""

from __future__ import annotations

from boards.grafana import (
    Board,
    Column,
    Panel,
    Query,
    datasource_variable,
    latency,
    rate,
    ratio,
    series,
    stat,
    table,
    timeseries,
    total,
    variable,
    warn_at,
)
from boards.names import FAILED, HTTP

NODE = "{{job}} {{instance}}"
BEAM, TOTAL = 'runtime="beam"', 'type="total"'


def beam() -> Board:
    board = Board(
        uid="dichroic-beam",
        title="BEAM VM",
        description="Requests, schedulers, memory and limits of BEAM nodes.",
        variables=[
            datasource_variable(),
            variable("job", "Service", "vm_memory_bytes", "job"),
            variable("instance", "Instance", 'vm_memory_bytes{job=~"$job"}', "instance"),
        ],
    )
    board.add(*beam_requests())
    board.add(*beam_limits())
    board.row("Run queues and memory", *beam_lines(), collapsed=False)
    board.row("Schedulers and work", *beam_work())
    board.row("Message queues", *beam_mailboxes())
    board.row("Counts and limits", *beam_counts())
    board.row("Memory in detail", *beam_memory())
    return board


def beam_requests() -> list[Panel]:
    requests = rate(f"{HTTP}_count", BEAM)
    failures = rate(f"{HTTP}_count", BEAM, FAILED)
    description = "Percentiles of request durations over all chosen nodes."
    return [
        timeseries(
            "Request rate by node",
            f"HTTP requests per second, by node (`{HTTP}_count`).",
            "reqps",
            Query(total(requests, "job, instance"), NODE),
        ),
        timeseries(
            "Error ratio by node",
            "Share of requests answered with status 5xx.",
            "percentunit",
            Query(ratio(failures, requests, "job, instance"), NODE),
        ),
        timeseries(
            "Request duration",
            description,
            "s",
            [latency(HTTP, q, "", f"p{q * 100:g}", BEAM) for q in (0.5, 0.95, 0.99)],
        ),
    ]


def share(what: str) -> str:
    return f"{series(f'vm_{what}_count')} / {series(f'vm_{what}_limit')}"


def beam_limits() -> list[Panel]:
    def of_limit(title: str, what: str, consequence: str) -> Panel:
        return stat(
            f"{title} of limit",
            f"Highest of the chosen nodes. {consequence}",
            "percentunit",
            Query(f"max({share(what)})"),
            thresholds=warn_at(0.7, 0.9),
        )

    waiting, memory = (series(metric, TOTAL) for metric in ("vm_run_queue_length", "vm_memory_bytes"))
    return [
        stat("Nodes", "Nodes reporting now.", "none", Query(f"count({memory})")),
        stat(
            "Longest run queue",
            "Processes waiting for a scheduler on the busiest node. More than a few per core delays requests.",
            "none",
            Query(f"max({waiting})"),
        ),
        stat(
            "Largest memory",
            "Memory of the node that uses the most.",
            "bytes",
            Query(f"max({memory})"),
        ),
        of_limit("Processes", "process", "At 100 % no process can be spawned."),
        of_limit("Atoms", "atom", "Atoms are never freed; at 100 % the node crashes."),
        of_limit("Ports", "port", "At 100 % no socket or file can be opened."),
    ]


def beam_lines() -> list[Panel]:
    kinds = {"cpu": "CPU", "io": "I/O"}
    return [
        timeseries(
            "Run queue",
            "Processes waiting for a scheduler, by node (`vm_run_queue_length`). Constantly above the number of cores: overload.",
            "short",
            Query(series("vm_run_queue_length", TOTAL), NODE),
        ),
        timeseries(
            "Run queue by kind",
            "Processes waiting for normal or dirty I/O schedulers, summed over all chosen nodes.",
            "short",
            [Query(total(series("vm_run_queue_length", f'type="{kind}"')), name) for kind, name in kinds.items()],
            stacked=True,
        ),
        timeseries(
            "Memory of the node",
            "Memory allocated by the VM (`vm_memory_bytes`, type total), by node.",
            "bytes",
            Query(series("vm_memory_bytes", TOTAL), NODE),
        ),
        timeseries(
            "Memory by type",
            "Memory by type, summed over all chosen nodes. Growing binary memory: processes keep references to binaries.",
            "bytes",
            Query(total(series("vm_memory_bytes", 'type=~"processes|binary|ets|code|atom"'), "type"), "{{type}}"),
            width=24,
            stacked=True,
        ),
    ]


def beam_work() -> list[Panel]:
    by_node = "job, instance"
    ports = {"input": "in", "output": "out"}
    return [
        timeseries(
            "Scheduler utilization",
            "Share of time that schedulers were busy, by type (`vm_scheduler_utilization_ratio`). Above 0.8 for long: no "
            "reserve for bursts.",
            "percentunit",
            Query(f"avg by ({by_node}, type) ({series('vm_scheduler_utilization_ratio')})", f"{NODE} {{{{type}}}}"),
            maximum=1,
            thresholds=warn_at(0.8, 0.95),
        ),
        timeseries(
            "Run queue by scheduler",
            "Processes waiting for each scheduler. One queue far above the others: work that cannot migrate.",
            "short",
            Query(series("vm_scheduler_run_queue_length"), f"{NODE} {{{{type}}}} {{{{scheduler}}}}"),
        ),
        timeseries(
            "Reductions",
            "Reductions per second of all processes, the VM's unit of work.",
            "short",
            Query(total(rate("vm_reductions_total"), by_node), NODE),
        ),
        timeseries(
            "Active tasks",
            "Processes and ports that run or wait (`vm_active_tasks`), normal and dirty. Constantly above the number of "
            "online schedulers: overload.",
            "short",
            Query(series("vm_active_tasks"), f"{NODE} {{{{type}}}}"),
            width=12,
        ),
        timeseries(
            "Schedulers and processors",
            "Online schedulers (`vm_schedulers_online`) and the processors the VM detected (`vm_logical_processors`). With more "
            "normal schedulers than available processors, schedulers compete for CPU time.",
            "short",
            [
                Query(series("vm_schedulers_online"), f"{NODE} {{{{type}}}} schedulers"),
                Query(series("vm_logical_processors"), f"{NODE} {{{{type}}}} processors"),
            ],
            width=12,
        ),
        timeseries(
            "Garbage collections",
            "Garbage collections per second, by node.",
            "short",
            Query(total(rate("vm_gc_count_total"), by_node), NODE),
        ),
        timeseries(
            "Memory reclaimed",
            "Bytes per second reclaimed by garbage collection: the rate at which garbage is produced.",
            "Bps",
            Query(total(rate("vm_gc_reclaimed_bytes_total"), by_node), NODE),
        ),
        timeseries(
            "Context switches",
            "Context switches per second, by node.",
            "short",
            Query(total(rate("vm_context_switches_total"), by_node), NODE),
        ),
        timeseries(
            "Port input and output",
            "Bytes per second through ports: sockets, files, external programs.",
            "Bps",
            [Query(total(rate(f"vm_io_{way}_bytes_total"), by_node), f"{NODE} {word}") for way, word in ports.items()],
        ),
        timeseries(
            "Uptime",
            "Time since the VM started.",
            "s",
            Query(series("vm_uptime_seconds"), NODE),
        ),
        timeseries(
            "ETS tables of limit",
            "ETS tables as a share of the configured limit (`vm_ets_count`, `vm_ets_limit`).",
            "percentunit",
            Query(share("ets"), NODE),
            thresholds=warn_at(0.7, 0.9),
        ),
    ]


def beam_mailboxes() -> list[Panel]:
    return [
        timeseries(
            "Longest message queues",
            "The longest message queues, by registered name or initial function. Constant growth: the process cannot keep "
            "up, and memory grows too.",
            "short",
            Query(f"topk(10, {series('vm_process_mailbox_length')})", f"{NODE} {{{{process}}}}"),
            width=12,
        ),
        timeseries(
            "Messages in the sampled queues",
            "The search is bounded: each step samples some of the processes (`vm_process_mailbox_processes`).",
            "short",
            [
                Query(series("vm_process_mailbox_messages"), f"{NODE} messages"),
                Query(series("vm_process_mailbox_processes"), f"{NODE} processes"),
            ],
            width=12,
        ),
    ]


def beam_counts() -> list[Panel]:
    def against_limit(title: str, what: str) -> list[Panel]:
        return [
            timeseries(
                title,
                f"Current number, by node (`vm_{what}_count`).",
                "short",
                Query(series(f"vm_{what}_count"), NODE),
                width=12,
            ),
            timeseries(
                f"{title} against the limit",
                f"Share of `vm_{what}_limit`.",
                "percentunit",
                Query(share(what), NODE),
                width=12,
                thresholds=warn_at(0.7, 0.9),
            ),
        ]

    return [
        *against_limit("Processes", "process"),
        *against_limit("Atoms", "atom"),
        *against_limit("Ports", "port"),
    ]


def beam_memory() -> list[Panel]:
    allocated, used = (series("vm_memory_bytes", f'type="{kind}"') for kind in ("processes", "processes_used"))

    columns = [
        Column(kind, total(series("vm_memory_bytes", f'type="{kind}"'), "job, instance"), "bytes")
        for kind in ("total", "processes", "system", "binary", "ets", "code", "atom")
    ]
    return [
        table("Nodes now", "Memory of each node by type.", columns, {"job": "Service", "instance": "Node"}, width=24),
        timeseries(
            "Used share of process memory",
            "Used share of the memory allocated for processes. Low for long: heaps that grew and were not collected since.",
            "percentunit",
            Query(f"{used} / ignoring(type) {allocated}", NODE),
            maximum=1,
        ),
        timeseries(
            "Persistent terms",
            "Number of persistent terms. Replacing or erasing one makes the VM scan every process, so changes should be rare.",
            "short",
            Query(series("vm_persistent_term_count"), NODE),
        ),
        timeseries(
            "Memory of persistent terms",
            "Memory used by persistent terms (`vm_persistent_term_memory_bytes`).",
            "bytes",
            Query(series("vm_persistent_term_memory_bytes"), NODE),
        ),
    ]
