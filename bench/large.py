"""Latency of small requests on another connection while the largest OTLP bodies are received."""

import gzip
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

from running import MIB, PROTOBUF, running

ROUNDS = 3
BUDGET_MS = 20
JSON = {"Content-Type": "application/json"}


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def request(points: int) -> bytes:
    attribute = field(1, b"k") + field(2, field(1, b"v" * 40))
    point = field(1, field(7, attribute) + b"\x19" + b"\1" * 8 + b"\x31" + b"\1" * 8)
    return field(1, field(2, field(2, field(1, b"bench") + field(5, point * points))))


def request_json(points: int) -> bytes:
    point = {"asInt": "1", "attributes": [{"key": "k", "value": {"stringValue": "v" * 40}}]}
    metric = {"name": "bench", "gauge": {"dataPoints": [point] * points}}
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()


def just_below(limit: int, make: Callable[[int], bytes]) -> bytes:
    return make(limit * 1_000 // len(make(1_000)) * 99 // 100)


def send(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> int:
    connection.request("POST", "/v1/metrics", body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


def longest_wait(open_connection: Callable[[], http.client.HTTPConnection], body: bytes, headers: dict[str, str]) -> str:
    statuses: list[int] = []
    large = threading.Thread(target=lambda: statuses.append(send(open_connection(), body, headers)))
    small, connection, waits = request(1), open_connection(), []
    large.start()
    begun = time.perf_counter()
    while large.is_alive():
        before = time.perf_counter()
        send(connection, small, PROTOBUF)
        waits.append((time.perf_counter() - before) * 1e3)
    took = time.perf_counter() - begun
    return f"{statuses[0]} after {took * 1e3:4.0f} ms; {len(waits):5} small requests meanwhile, slowest {max(waits):5.1f} ms"


def main() -> int:
    protobuf, text = (just_below(64 * MIB, make) for make in (request, request_json))
    bodies = {
        "protobuf": (protobuf, PROTOBUF),
        "protobuf, gzip": (gzip.compress(protobuf, 1), PROTOBUF | {"Content-Encoding": "gzip"}),
        "protobuf, gzip, cut short": (gzip.compress(protobuf[:-1], 1), PROTOBUF | {"Content-Encoding": "gzip"}),
        "JSON, gzip": (gzip.compress(text, 1), JSON | {"Content-Encoding": "gzip"}),
    }
    with running() as collector:
        address = collector.ends["otlp_http"]
        for what, (body, headers) in bodies.items():
            for _ in range(ROUNDS):
                result = longest_wait(lambda: http.client.HTTPConnection(address, timeout=60), body, headers)
                print(f"{what:<26} {result}, budget {BUDGET_MS} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
