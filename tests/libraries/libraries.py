"""The actors of these tests: a node that runs a program, the page of its collector, servers of databases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from actors import samples
from harness.collector import Collector
from harness.erlang import erlang_paths
from harness.process import ROOT, Process, wait_until

BUILT = ROOT / "build" / "libraries"
PROGRAMS = ROOT / "tests" / "libraries" / "programs"


class Program(Process):
    """`tests/libraries/programs/<name>.exs` with the relay, once the relay has its plan."""

    def __init__(self, collector: Collector, name: str, environment: Mapping[str, str] | None = None):
        self.name = name
        super().__init__()
        self.collector = collector
        self.given = dict(environment or {})

    @property
    def node(self) -> str:
        return f"{self.name}@127.0.0.1"

    def argv(self) -> Sequence[str]:
        relay = next(path for path in erlang_paths() if path.parent.name == "dichroic")
        vm = "-start_epmd false -dist_listen false"
        return [
            str(BUILT / "elixir" / "bin" / "elixir"),
            *("--name", self.node, "--cookie", "x", "--erl", vm, "-pa", str(relay)),
            str(PROGRAMS / f"{self.name}.exs"),
        ]

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_LIBS": str(BUILT / "lib"),
            "DICHROIC_SOCKET": str(self.collector.socket),
            "OTEL_SERVICE_NAME": "shop",
            "ERL_CRASH_DUMP_SECONDS": "0",
            **self.given,
        }

    def wait_ready(self) -> None:
        self.wait_line("^ready", 60)

        def planned() -> bool:
            relays = [r for r in self.collector.sources()["relays"] if r["node"] == self.node]
            return len(relays) == 1 and relays[0]["connected"] and relays[0]["attached"] > 0

        wait_until(planned, 60, f"the plan of {self.name}: {self.output()}")

    def run(self, operations: str = "go") -> None:
        before = len([line for line in self.lines if line.strip() == "done"])
        self.send_line(operations)

        def done() -> bool:
            if not self.running():
                raise SystemError(f"{self.name} ended:\n{self.output()}")
            return len([line for line in self.lines if line.strip() == "done"]) > before

        wait_until(done, 60, f"{operations} of {self.name}")


Series = dict[str, dict[str, float]]


def page(collector: Collector, *prefixes: str) -> Series:
    """The samples of the page by name and by labels, without buckets and without the labels of the source."""
    found: Series = {}
    for name, labels, value in samples(collector.metrics()):
        if name.startswith(prefixes) and not name.endswith(("_bucket", "_created")):
            own = {k: v for k, v in labels.items() if k not in ("job", "instance", "runtime")}
            found.setdefault(name, {})[",".join(f"{k}={v}" for k, v in sorted(own.items()))] = value
    return found


def counted(series: Series) -> Series:
    """Counters and numbers of observations."""
    return {re.sub("_(total|count)$", "", name): s for name, s in series.items() if name.endswith(("_total", "_count"))}
