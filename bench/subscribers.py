"""Memory of many subscribers and the latency of `/healthz` beside them.

`bench/subscribers.py [--before BINARY] [--turns N]` runs each build in turns and prints the largest
resident size, sampled every 20 ms. Logs: 100 subscribers with a filter read nothing while records arrive. Points: 50 subscribers of
90,000 series.
"""

import argparse
import http.client
import selectors
import socket
import statistics
import sys
import time
from pathlib import Path

from large import field
from running import BINARY, MIB, Peak, Running, running

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


class Sampler(Peak):
    """Also the time of `/healthz` in ms after each sample."""

    def __init__(self, at: Running):
        self.waits: list[float] = []
        self.connection = http.client.HTTPConnection(at.ends["admin"], timeout=120)
        super().__init__(at)

    def sampled(self) -> None:
        begun = time.perf_counter()
        self.connection.request("GET", "/healthz")
        self.connection.getresponse().read()
        self.waits.append((time.perf_counter() - begun) * 1e3)

    def health(self) -> dict[str, float]:
        return {"healthz p99 ms": statistics.quantiles(self.waits, n=100)[98], "healthz max ms": max(self.waits)}


def subscribe(at: Running, query: str) -> socket.socket:
    connection = socket.create_connection(at.address("admin"), timeout=120)
    connection.sendall(f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def stalled_logs(binary: Path) -> dict[str, float]:
    with running(binary) as at:
        for number in range(200):
            at.send("/v1/logs", logs(number))
        before = at.resident(SETTLED_SECONDS)
        query = "kind=log&match=**&where=severity:17"
        stalled = [subscribe(at, query) for _ in range(STALLED)]
        sampler, begun = Sampler(at), time.perf_counter()
        for number in range(LOG_REQUESTS):
            at.send("/v1/logs", logs(number))
            time.sleep(max(0.0, begun + number * LOG_SECONDS / LOG_REQUESTS - time.perf_counter()))
        sent = time.perf_counter() - begun
        time.sleep(5)
        peak = sampler.stop()
        for connection in stalled:
            connection.close()
        after = at.resident(SETTLED_SECONDS)
    return {
        "before MiB": before, "peak MiB": peak, "after MiB": after, **sampler.health(),
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
    with running(binary) as at:
        for first in range(0, SERIES, SERIES_A_REQUEST):
            at.send("/v1/metrics", points(first))
        before = at.resident(SETTLED_SECONDS)
        subscribers = [subscribe(at, "kind=metric&match=bench.*&every_ms=1000") for _ in range(READERS)]
        sampler = Sampler(at)
        if reads:
            counts, closed = read_all(subscribers, READING_SECONDS)
        else:
            time.sleep(READING_SECONDS / 2)
            counts, closed = [0], 0
        peak = sampler.stop()
        for connection in subscribers:
            connection.close()
        after = at.resident(SETTLED_SECONDS)
    return {
        "before MiB": before, "peak MiB": peak, "after MiB": after, **sampler.health(),
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
