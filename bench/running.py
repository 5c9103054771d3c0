"""A collector for a bench, its resident memory, and what it is sent."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("DICHROIC_BIN", ROOT / "target" / "release" / "dichroic"))
CONFIG = """\
receivers: {{ otlp: {{ grpc: "127.0.0.1:0", http: "127.0.0.1:0" }} }}
exporters: {{ prometheus: {{ listen: "127.0.0.1:0" }} }}
admin: {{ listen: "127.0.0.1:0" }}
security: {{ local_socket: {{ path: {folder}/dichroic.sock }} }}
"""
MIB = 1 << 20
PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Running:
    """A collector that is ready. `ends` has its addresses, without a scheme."""

    def __init__(self, pid: int, ends: dict[str, str]):
        self.pid, self.ends = pid, ends
        self.otlp = http.client.HTTPConnection(ends["otlp_http"], timeout=120)

    def address(self, listener: str) -> tuple[str, int]:
        host, port = self.ends[listener].rsplit(":", 1)
        return host, int(port)

    def send(self, path: str, body: bytes) -> None:
        """Sends an OTLP request, which must be accepted."""
        self.otlp.request("POST", path, body, PROTOBUF)
        response = self.otlp.getresponse()
        answer = response.read()
        if response.status != 200:
            sys.exit(f"refused: {answer!r}")

    def resident(self, settled_seconds: float = 0) -> float:
        """Resident memory in MiB, after some time in which it settles."""
        time.sleep(settled_seconds)
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


class Peak(threading.Thread):
    """The largest resident memory in MiB until it is stopped, sampled every 20 ms."""

    def __init__(self, running: Running):
        super().__init__(daemon=True)
        self.running, self.peak, self.done = running, 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.running.resident())
            self.sampled()

    def sampled(self) -> None:
        """Called after each sample."""

    def stop(self) -> float:
        self.done.set()
        self.join()
        return self.peak


@contextmanager
def running(binary: Path = BINARY) -> Iterator[Running]:
    """Starts a collector, and ends it."""
    with tempfile.TemporaryDirectory() as folder:
        config, ready = Path(folder, "c.yaml"), Path(folder, "ready.json")
        config.write_text(CONFIG.format(folder=folder))
        command = [str(binary), "run", "--config", str(config), "--ready-file", str(ready)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    sys.exit("the collector did not start")
                time.sleep(0.01)
            ends = {key: str(at).removeprefix("http://") for key, at in json.loads(ready.read_text()).items()}
            yield Running(process.pid, ends)
        finally:
            process.terminate()
            process.wait()
