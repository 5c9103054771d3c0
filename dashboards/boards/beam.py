"""BEAM VM: what the node serves, then its schedulers, memory and limits."""

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
        description="What a BEAM node does with memory, schedulers and its limits.",
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
    description = "Percentiles over the chosen nodes: half, nineteen in twenty and all but one in a hundred requests were faster."
    return [
        timeseries(
            "Request rate by node",
            f"HTTP requests a second that the nodes served (`{HTTP}_count`).",
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
            f"The fullest of the chosen nodes. {consequence}",
            "percentunit",
            Query(f"max({share(what)})"),
            thresholds=warn_at(0.7, 0.9),
        )

    waiting, memory = (series(metric, TOTAL) for metric in ("vm_run_queue_length", "vm_memory_bytes"))
    return [
        stat("Nodes", "Nodes that report now.", "none", Query(f"count({memory})")),
        stat(
            "Longest run queue",
            "Processes that wait for a scheduler on the busiest node. More than a few for each core means waiting requests.",
            "none",
            Query(f"max({waiting})"),
        ),
        stat(
            "Largest memory",
            "Memory of the node that uses most.",
            "bytes",
            Query(f"max({memory})"),
        ),
        of_limit("Processes", "process", "At 100 % nothing can be spawned."),
        of_limit("Atoms", "atom", "Atoms are never freed; at 100 % the node crashes."),
        of_limit("Ports", "port", "At 100 % no socket or file can be opened."),
    ]


def beam_lines() -> list[Panel]:
    kinds = {"cpu": "CPU", "io": "I/O"}
    return [
        timeseries(
            "Run queue",
            "Processes that wait for a scheduler, by node (`vm_run_queue_length`). Steadily above the number of cores: overload.",
            "short",
            Query(series("vm_run_queue_length", TOTAL), NODE),
        ),
        timeseries(
            "Run queue by kind",
            "Waiting for ordinary schedulers, or for those of dirty I/O; all chosen nodes together.",
            "short",
            [Query(total(series("vm_run_queue_length", f'type="{kind}"')), name) for kind, name in kinds.items()],
            stacked=True,
        ),
        timeseries(
            "Memory of the node",
            "All memory that the VM has allocated (`vm_memory_bytes`, type total), by node.",
            "bytes",
            Query(series("vm_memory_bytes", TOTAL), NODE),
        ),
        timeseries(
            "Memory by type",
            "Processes and parts of the system's share, all chosen nodes together. Growing binaries: somebody keeps references.",
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
            "Scheduler utilisation",
            "Share of time that schedulers had work (`vm_scheduler_utilization_ratio`), each kind taken together. Above 0.8 "
            "for long: no room for a burst.",
            "percentunit",
            Query(f"avg by ({by_node}, type) ({series('vm_scheduler_utilization_ratio')})", f"{NODE} {{{{type}}}}"),
            maximum=1,
            thresholds=warn_at(0.8, 0.95),
        ),
        timeseries(
            "Run queue by scheduler",
            "Processes that wait for each scheduler. One queue far above the others: work that cannot be moved.",
            "short",
            Query(series("vm_scheduler_run_queue_length"), f"{NODE} {{{{type}}}} {{{{scheduler}}}}"),
        ),
        timeseries(
            "Reductions",
            "Work of all processes a second, in the VM's own unit.",
            "short",
            Query(total(rate("vm_reductions_total"), by_node), NODE),
        ),
        timeseries(
            "Active tasks",
            "Processes and ports that run or wait (`vm_active_tasks`), ordinary and dirty. Steadily above the schedulers online: "
            "overload.",
            "short",
            Query(series("vm_active_tasks"), f"{NODE} {{{{type}}}}"),
            width=12,
        ),
        timeseries(
            "Schedulers and processors",
            "Schedulers online (`vm_schedulers_online`) beside the processors that the VM knows (`vm_logical_processors`). More "
            "ordinary schedulers than processors available: they take time from each other.",
            "short",
            [
                Query(series("vm_schedulers_online"), f"{NODE} {{{{type}}}} schedulers"),
                Query(series("vm_logical_processors"), f"{NODE} {{{{type}}}} processors"),
            ],
            width=12,
        ),
        timeseries(
            "Garbage collections",
            "Collections a second, by node.",
            "short",
            Query(total(rate("vm_gc_count_total"), by_node), NODE),
        ),
        timeseries(
            "Memory given back",
            "Bytes a second that garbage collections reclaimed: how fast garbage is made.",
            "Bps",
            Query(total(rate("vm_gc_reclaimed_bytes_total"), by_node), NODE),
        ),
        timeseries(
            "Context switches",
            "Times a second that a scheduler took up another process.",
            "short",
            Query(total(rate("vm_context_switches_total"), by_node), NODE),
        ),
        timeseries(
            "Port input and output",
            "Bytes a second through ports: sockets, files, external programs.",
            "Bps",
            [Query(total(rate(f"vm_io_{way}_bytes_total"), by_node), f"{NODE} {word}") for way, word in ports.items()],
        ),
        timeseries(
            "Uptime",
            "Time since the BEAM was started.",
            "s",
            Query(series("vm_uptime_seconds"), NODE),
        ),
        timeseries(
            "ETS tables of limit",
            "Share of the tables that the BEAM is laid out for (`vm_ets_count`, `vm_ets_limit`).",
            "percentunit",
            Query(share("ets"), NODE),
            thresholds=warn_at(0.7, 0.9),
        ),
    ]


def beam_mailboxes() -> list[Panel]:
    return [
        timeseries(
            "Longest message queues",
            "Messages that wait for the processes with the longest queues, by registered name or first function. Steadily growing: "
            "the process cannot keep up, and memory follows.",
            "short",
            Query(f"topk(10, {series('vm_process_mailbox_length')})", f"{NODE} {{{{process}}}}"),
            width=12,
        ),
        timeseries(
            "Messages in the queues that were looked at",
            "The search is bounded: it looks at some processes at a time (`vm_process_mailbox_processes`).",
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
                f"How many there are, by node (`vm_{what}_count`).",
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
            "Memory of processes that is used",
            "Share of what is allocated for processes. Low for long: heaps that grew once and were never collected.",
            "percentunit",
            Query(f"{used} / ignoring(type) {allocated}", NODE),
            maximum=1,
        ),
        timeseries(
            "Persistent terms",
            "Number of persistent terms. Replacing or erasing one makes the VM scan every process: it should not change often.",
            "short",
            Query(series("vm_persistent_term_count"), NODE),
        ),
        timeseries(
            "Memory of persistent terms",
            "What persistent terms take (`vm_persistent_term_memory_bytes`).",
            "bytes",
            Query(series("vm_persistent_term_memory_bytes"), NODE),
        ),
    ]
