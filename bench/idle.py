"""Resident memory, CPU and binary size of an idle collector, compared with their budgets."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("DICHROIC_BIN", ROOT / "target" / "release" / "dichroic"))
CONFIG = """\
receivers: {{ otlp: {{ grpc: "127.0.0.1:0", http: "127.0.0.1:0" }} }}
exporters: {{ prometheus: {{ listen: "127.0.0.1:0" }} }}
admin: {{ listen: "127.0.0.1:0" }}
security: {{ local_socket: {{ path: {folder}/dichroic.sock }} }}
"""
SECONDS = 20


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        config, ready = Path(folder, "c.yaml"), Path(folder, "ready.json")
        config.write_text(CONFIG.format(folder=folder))
        command = [str(BINARY), "run", "--config", str(config), "--ready-file", str(ready)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    sys.exit("the collector did not start")
                time.sleep(0.01)
            pid = json.loads(ready.read_text())["pid"]
            before = cpu_seconds(pid)
            time.sleep(SECONDS)
            cpu = (cpu_seconds(pid) - before) / SECONDS * 100
            status = Path(f"/proc/{pid}/status").read_text()
            rss = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))
        finally:
            process.terminate()
            process.wait()
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
