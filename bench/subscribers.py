"""Memory of many subscribers and the latency of `/healthz` beside them.

`bench/subscribers.py [--before BINARY] [--turns N]` runs each build in turns and prints the largest
resident size, sampled every 20 ms. Logs: 100 subscribers with a filter read nothing while records arrive. Points: 50 subscribers of
90,000 series.
"""

import argparse
import http.client
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idle import BINARY, CONFIG
from large import PROTOBUF, field

MIB = 1 << 20
STALLED = 100
LOG_REQUESTS = 1_000
RECORDS_A_REQUEST = 50
RECORD_BYTES = 2_000
LOG_SECONDS = 25
READERS = 50
SERIES = 90_000
SERIES_A_REQUEST = 2_000
SETTLED_SECONDS = 8
READING_SECONDS = 40


def string(key: int, text: str) -> bytes:
    return field(key, text.encode())


def attribute(number: int, name: str, value: str) -> bytes:
    return field(number, string(1, name) + field(2, string(1, value)))


def logs(number: int) -> bytes:
    """Records of which half are errors."""
    records = b""
    for at in range(RECORDS_A_REQUEST):
        time_ns = b"\x09" + time.time_ns().to_bytes(8, "little")
        severity = b"\x10" + bytes([(9, 17)[at % 2]])
        body = field(5, string(1, f"{number} {at} ".ljust(RECORD_BYTES, "x")))
        records += field(2, time_ns + severity + body + attribute(6, "order", f"{at}"))
    resource = field(1, attribute(1, "service.name", "shop"))
    return field(1, resource + field(2, records))


def points(first: int) -> bytes:
    now = time.time_ns().to_bytes(8, "little")
    rows = b""
    for at in range(first, first + SERIES_A_REQUEST):
        labels = attribute(7, "http.route", f"/api/v1/items/{at % 500}") + attribute(7, "shard", f"shard-{at // 500:05}")
        rows += field(1, b"\x19" + now + b"\x31" + at.to_bytes(8, "little") + labels)
    metric = field(2, string(1, f"bench.metric{first // 10_000:02}") + field(5, rows))
    return field(1, field(1, attribute(1, "service.name", "shop")) + field(2, metric))


class Sampler(threading.Thread):
    """The largest resident size of a process, and the time of each `/healthz`, until it is stopped."""

    def __init__(self, pid: int, admin: str):
        super().__init__(daemon=True)
        self.pid, self.admin, self.peak, self.done = pid, admin, 0.0, threading.Event()
        self.waits: list[float] = []

    def resident(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.admin, timeout=120)
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.resident())
            begun = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.waits.append((time.perf_counter() - begun) * 1e3)

    def stop(self) -> tuple[float, float, float]:
        self.done.set()
        self.join()
        return self.peak, statistics.quantiles(self.waits, n=100)[98], max(self.waits)


class Collector:
    def __init__(self, binary: Path, folder: str):
        config, ready = Path(folder, "c.yaml"), Path(folder, "ready.json")
        config.write_text(CONFIG.format(folder=folder))
        command = [str(binary), "run", "--config", str(config), "--ready-file", str(ready)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not ready.exists():
            if self.process.poll() is not None:
                sys.exit("the collector did not start")
            time.sleep(0.01)
        ends = {key: str(at).removeprefix("http://") for key, at in json.loads(ready.read_text()).items()}
        self.admin = ends["admin"]
        self.otlp = http.client.HTTPConnection(ends["otlp_http"], timeout=120)

    def send(self, path: str, body: bytes) -> None:
        self.otlp.request("POST", path, body, PROTOBUF)
        response = self.otlp.getresponse()
        answer = response.read()
        if response.status != 200:
            sys.exit(f"refused: {answer!r}")

    def sampler(self) -> Sampler:
        sampler = Sampler(self.process.pid, self.admin)
        sampler.start()
        return sampler

    def settled(self) -> float:
        time.sleep(SETTLED_SECONDS)
        return Sampler(self.process.pid, self.admin).resident()

    def subscribe(self, query: str) -> socket.socket:
        host, port = self.admin.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), timeout=120)
        connection.sendall(f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection

    def subscribers(self) -> list[dict[str, object]]:
        connection = http.client.HTTPConnection(self.admin, timeout=120)
        connection.request("GET", "/api/v1/subscribers")
        body: list[dict[str, object]] = json.loads(connection.getresponse().read()).get("subscribers", [])
        return body


@contextmanager
def collector(binary: Path) -> Iterator[Collector]:
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(binary, folder)
        try:
            yield collector
        finally:
            collector.process.terminate()
            collector.process.wait()


def stalled_logs(binary: Path) -> dict[str, float]:
    with collector(binary) as running:
        for number in range(200):
            running.send("/v1/logs", logs(number))
        before = running.settled()
        query = "kind=log&match=**&where=severity:17"
        stalled = [running.subscribe(query) for _ in range(STALLED)]
        sampler, begun = running.sampler(), time.perf_counter()
        for number in range(LOG_REQUESTS):
            running.send("/v1/logs", logs(number))
            time.sleep(max(0.0, begun + number * LOG_SECONDS / LOG_REQUESTS - time.perf_counter()))
        sent = time.perf_counter() - begun
        time.sleep(5)
        peak, p99, longest = sampler.stop()
        for connection in stalled:
            connection.close()
        after = running.settled()
    return {
        "before MiB": before, "peak MiB": peak, "after MiB": after, "healthz p99 ms": p99, "healthz max ms": longest,
        "send s": sent,
    }  # fmt: skip


def read_all(connections: list[socket.socket], seconds: float) -> tuple[list[int], int]:
    """Reads for some time; bytes of each connection, and how many were closed by the collector."""
    selector = selectors.DefaultSelector()
    for at, connection in enumerate(connections):
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, at)
    counts, closed = [0] * len(connections), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and selector.get_map():
        for key, _ in selector.select(0.1):
            piece = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
            counts[key.data] += len(piece)
            if not piece:
                closed += 1
                selector.unregister(key.fileobj)
    return counts, closed


def metric_subscribers(binary: Path, reads: bool) -> dict[str, float]:
    with collector(binary) as running:
        for first in range(0, SERIES, SERIES_A_REQUEST):
            running.send("/v1/metrics", points(first))
        before = running.settled()
        subscribers = [running.subscribe("kind=metric&match=bench.*&every_ms=1000") for _ in range(READERS)]
        sampler = running.sampler()
        if reads:
            counts, closed = read_all(subscribers, READING_SECONDS)
        else:
            time.sleep(READING_SECONDS / 2)
            counts, closed = [0], 0
        peak, p99, longest = sampler.stop()
        for connection in subscribers:
            connection.close()
        after = running.settled()
    return {
        "before MiB": before, "peak MiB": peak, "after MiB": after, "healthz p99 ms": p99, "healthz max ms": longest,
        "least read MiB": min(counts) / MIB, "closed": closed,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="release build to compare with")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--case", choices=["logs", "reading", "stalled"], action="append")
    options = parser.parse_args()
    builds = {"before": options.before, "now": BINARY} if options.before else {"now": BINARY}
    cases = {
        "logs": stalled_logs,
        "stalled": lambda binary: metric_subscribers(binary, False),
        "reading": lambda binary: metric_subscribers(binary, True),
    }
    for name in options.case or cases:
        for _ in range(options.turns):
            for build, binary in builds.items():
                figures = cases[name](binary)
                print(f"{name:<8} {build:<7}", ", ".join(f"{key} {value:.0f}" for key, value in figures.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
