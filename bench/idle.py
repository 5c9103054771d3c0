"""Resident memory, CPU and binary size of an idle collector, compared with their budgets."""

import sys
import time
from pathlib import Path

from running import BINARY, running

SECONDS = 20


def main() -> int:
    with running() as collector:
        pid = collector.pid
        before = cpu_seconds(pid)
        time.sleep(SECONDS)
        cpu = (cpu_seconds(pid) - before) / SECONDS * 100
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    row("resident memory", rss, "MiB", 15)
    row("CPU", cpu, "% of a core", 0.1)
    row("binary", BINARY.stat().st_size / 1e6, "MB", 15)
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads, from the scheduler's nanoseconds: clock ticks of 10 ms are too coarse here."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def row(what: str, value: float, unit: str, budget: float) -> None:
    print(f"{what:<18} {value:8.2f} {unit:<12} budget {budget:<6} ratio {value / budget:.2f}")


if __name__ == "__main__":
    sys.exit(main())
