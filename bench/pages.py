"""Memory and time of many scrapers of a large page: stalled ones, and honest ones that come together.

`bench/pages.py [--before BINARY] [--turns N]` runs each build in turns, on 200,000 series (26 MiB of text), and prints the ratios.
A stalled reader requests the page and reads nothing of it. Memory is the largest resident size, sampled every 20 ms.
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


def fill(at: Running) -> None:
    for first in range(0, SERIES, A_REQUEST):
        at.send("/v1/metrics", request(first))


def connect(address: tuple[str, int], encoding: str) -> socket.socket:
    connection = socket.create_connection(address, timeout=120)
    connection.sendall(REQUEST.format(encoding=encoding).encode())
    return connection


def stalled(at: Running) -> dict[str, float]:
    """Stalled readers, in three waves."""
    before, memory = at.resident(SETTLED_SECONDS), Peak(at)
    readers = []
    for _ in range(STALLED):
        readers.append(connect(at.address("prometheus"), ""))
        time.sleep(0.02)
    begun = time.perf_counter()
    health = http.client.HTTPConnection(*at.address("prometheus"), timeout=60)
    health.request("GET", "/healthz")
    health.getresponse().read()
    health = (time.perf_counter() - begun) * 1e3
    begun = time.perf_counter()
    status, _ = read([connect(at.address("prometheus"), "")])[0]
    page = time.perf_counter() - begun
    time.sleep(SETTLED_SECONDS)
    peak = memory.stop()
    for reader in readers:
        reader.close()
    return {
        "MiB before": before,
        "MiB at most": peak,
        "at most / before": peak / before,
        "MiB when they have left": at.resident(SETTLED_SECONDS),
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


def honest(at: Running, encoding: str) -> dict[str, float]:
    """Scrapers that come together and read as fast as they can."""
    before, memory = at.resident(SETTLED_SECONDS), Peak(at)
    begun = time.perf_counter()
    results = read([connect(at.address("prometheus"), encoding) for _ in range(HONEST)])
    took = time.perf_counter() - begun
    peak = memory.stop()
    whole = [size for status, size in results if status == "200" and size]
    return {
        "s until all have their page": took,
        "MiB at most": peak,
        "MiB at most, beyond before": peak - before,
        "MiB when they have left": at.resident(SETTLED_SECONDS),
        "when they have left / before": at.resident(SETTLED_SECONDS) / before,
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
                with running(binary) as at:
                    fill(at)
                    results[build].append(case(at))
        for what in results["now"][0]:
            medians = [statistics.median(turn.get(what, 0) for turn in turns) for turns in results.values()]
            ratio = f"   ratio {medians[1] / medians[0]:.3f}" if len(medians) > 1 and medians[0] else ""
            print(f"  {what:<42}" + "".join(f"{value:>12.2f}" for value in medians) + ratio, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
