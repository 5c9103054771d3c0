"""Memory and time of many scrapers of a large page: stalled ones, and honest ones that come together.

`bench/pages.py [--before BINARY] [--turns N]` runs each build in turns, on 200,000 series (26 MiB of text), and prints the ratios.
A stalled reader requests the page and reads nothing of it. Memory is the largest resident size, sampled every 20 ms.
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
SERIES = 200_000
FAMILIES = 50
A_REQUEST = 2_000
STALLED = 150
HONEST = 200
SETTLED_SECONDS = 5
REQUEST = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{encoding}\r\n"


def attribute(name: str, value: str) -> bytes:
    return field(7, field(1, name.encode()) + field(2, field(1, value.encode())))


def request(first: int) -> bytes:
    now = time.time_ns().to_bytes(8, "little")
    points = b""
    for at in range(first, first + A_REQUEST):
        labels = attribute("http.route", f"/api/v1/items/{at % 500}") + attribute("shard", f"shard-{at // 500:05}")
        points += field(1, b"\x19" + now + b"\x31" + at.to_bytes(8, "little") + labels)
    name = f"bench.metric{first * FAMILIES // SERIES:02}".encode()
    resource = field(1, field(1, b"service.name") + field(2, field(1, b"shop-checkout")))
    instance = field(1, field(1, b"service.instance.id") + field(2, field(1, b"627cc493-f310-47de-96bd-71410b7dec09")))
    metric = field(2, field(1, name) + field(5, points))
    return field(1, field(1, resource + instance) + field(2, metric))


class Memory(threading.Thread):
    """Samples the resident size of a process."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, 0, threading.Event()

    def resident(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.resident())

    def stop(self) -> float:
        self.done.set()
        self.join()
        return self.peak / MIB


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
        host, port = ends["prometheus"].rsplit(":", 1)
        self.page = (host, int(port))
        otlp = http.client.HTTPConnection(ends["otlp_http"], timeout=60)
        for first in range(0, SERIES, A_REQUEST):
            otlp.request("POST", "/v1/metrics", request(first), PROTOBUF)
            response = otlp.getresponse()
            if response.status != 200:
                sys.exit(f"refused: {response.read()!r}")
            response.read()
        otlp.close()

    def memory(self) -> Memory:
        memory = Memory(self.process.pid)
        memory.start()
        return memory

    def resident(self) -> float:
        time.sleep(SETTLED_SECONDS)
        return Memory(self.process.pid).resident() / MIB


@contextmanager
def collector(binary: Path) -> Iterator[Collector]:
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(binary, folder)
        try:
            yield collector
        finally:
            collector.process.terminate()
            collector.process.wait()


def connect(address: tuple[str, int], encoding: str) -> socket.socket:
    connection = socket.create_connection(address, timeout=120)
    connection.sendall(REQUEST.format(encoding=encoding).encode())
    return connection


def stalled(at: Collector) -> dict[str, float]:
    """Stalled readers, in three waves."""
    before, memory = at.resident(), at.memory()
    readers = []
    for _ in range(STALLED):
        readers.append(connect(at.page, ""))
        time.sleep(0.02)
    begun = time.perf_counter()
    health = http.client.HTTPConnection(*at.page, timeout=60)
    health.request("GET", "/healthz")
    health.getresponse().read()
    health = (time.perf_counter() - begun) * 1e3
    begun = time.perf_counter()
    status, _ = read([connect(at.page, "")])[0]
    page = time.perf_counter() - begun
    time.sleep(SETTLED_SECONDS)
    peak = memory.stop()
    for reader in readers:
        reader.close()
    return {
        "MiB before": before,
        "MiB at most": peak,
        "at most / before": peak / before,
        "MiB when they have left": at.resident(),
        "ms for /healthz": health,
        "s for an honest scraper, status " + status: page,
    }


def read(connections: list[socket.socket]) -> list[tuple[str, int]]:
    """Reads all responses to their ends. Returns the status and the size of each; the size is 0 if it has no end."""
    selector = selectors.DefaultSelector()
    state: dict[socket.socket, list] = {}
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        state[connection] = [b"", 0, b""]
    buffer = bytearray(MIB)
    left = len(connections)
    while left:
        for key, _ in selector.select(timeout=120):
            seen = state[key.fileobj]
            try:
                size = key.fileobj.recv_into(buffer)
            except BlockingIOError:
                continue
            except ConnectionError:
                size, seen[2] = 0, b"reset"
            if size == 0:
                selector.unregister(key.fileobj)
                left -= 1
                continue
            if not seen[0]:
                seen[0] = bytes(buffer[: min(size, 400)])
            seen[1] += size
            seen[2] = bytes((seen[2] + buffer[max(0, size - 16) : size])[-16:])
    results = []
    for connection in connections:
        head, size, end = state[connection]
        connection.close()
        chunked = b"transfer-encoding: chunked" in head.lower()
        complete = end.endswith(b"\r\n0\r\n\r\n") if chunked else end != b"reset"
        results.append((head[9:12].decode(), size if complete else 0))
    return results


def honest(at: Collector, encoding: str) -> dict[str, float]:
    """Scrapers that come together and read as fast as they can."""
    before, memory = at.resident(), at.memory()
    begun = time.perf_counter()
    results = read([connect(at.page, encoding) for _ in range(HONEST)])
    took = time.perf_counter() - begun
    peak = memory.stop()
    whole = [size for status, size in results if status == "200" and size]
    return {
        "s until all have their page": took,
        "MiB at most": peak,
        "MiB at most, beyond before": peak - before,
        "MiB when they have left": at.resident(),
        "when they have left / before": at.resident() / before,
        "pages that were complete": len(whole),
        "MiB a page": statistics.median(whole) / MIB if whole else 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--now", type=Path, default=BINARY)
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    builds = {"before": options.before, "now": options.now} if options.before else {"now": options.now}
    cases = {
        f"{STALLED} stalled readers": stalled,
        f"{HONEST} honest scrapers": lambda at: honest(at, ""),
        f"{HONEST} honest scrapers, gzip": lambda at: honest(at, "Accept-Encoding: gzip\r\n"),
    }
    for name, case in cases.items():
        print(f"{name}:")
        results: dict[str, list[dict[str, float]]] = {build: [] for build in builds}
        for _ in range(options.turns):
            for build, binary in builds.items():
                with collector(binary) as at:
                    results[build].append(case(at))
        for what in results["now"][0]:
            medians = [statistics.median(turn.get(what, 0) for turn in turns) for turns in results.values()]
            ratio = f"   ratio {medians[1] / medians[0]:.3f}" if len(medians) > 1 and medians[0] else ""
            print(f"  {what:<42}" + "".join(f"{value:>12.2f}" for value in medians) + ratio, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
