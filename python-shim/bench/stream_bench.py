"""Events per second through `async for` from a Unix socket with pre-encoded frames, compared to an in-process ceiling.

The feeder is a separate process, so that the figure is the consumer's. The ceiling is an async generator of one
prebuilt object: the cost of asyncio itself. Rounds of both alternate because the speed of machines varies; compare the
ratio, not the absolute figures.

    python bench/stream_bench.py [--rounds 7] [--events 500000] [--rows 256] [--read]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src"))

import dichroic
from dichroic import _frames as frames
from dichroic._events import columns_of
from dichroic._frames import Define, Events, Frame, Hello, encode_frame
from dichroic._types import Event

BUDGET = 1_000_000
ROUTES = ("/users/:id", "/orders/:id", "/checkout", "/health", "/search")


def feed_bytes(rows: int) -> tuple[bytes, bytes]:
    """The first frames of a stream, and a block of eight frames to repeat."""
    schema: dict[str, Any] = {
        "name": "phoenix.endpoint.stop",
        "kind": "event",
        "measurements": [["duration", "s"]],
        "metadata": ["method", "status", "route"],
    }
    opening: list[Frame] = [
        Hello(
            frames.COLLECTOR, {"agent": "bench/0", "epoch": 1, "max_frame": 262_144, "position": 1, "resumed": False}
        ),
        Define(frames.SOURCE, [(1, {"name": "shop@127.0.0.1", "runtime": "beam", "resource": {}})]),
        Define(frames.SCHEMA, [(1, schema)]),
    ]
    block = bytearray()
    for frame in range(8):
        now = 1_763_800_000_000_000_000 + frame * 1_000_000
        cells = [
            (now + row, 1_000_000 + row, ("GET", "POST")[row % 7 == 0], (200, 404, 503)[row % 3], ROUTES[row % 5])
            for row in range(rows)
        ]
        block += encode_frame(Events(columns_of(1, 1, frame * rows + 1, cells)))
    return b"".join(map(encode_frame, opening)), bytes(block)


def feed(path: str, rows: int) -> int:
    """Forks a feeder that answers each HELLO and then writes blocks until the connection closes; returns its pid."""
    opening, block = feed_bytes(rows)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    pid = os.fork()
    if pid:
        listener.close()
        return pid
    while True:
        peer, _ = listener.accept()
        try:
            peer.recv(65_536)
            peer.sendall(opening)
            while True:
                peer.sendall(block)
        except OSError:
            peer.close()


async def ceiling(count: int) -> AsyncIterator[Event]:
    event = Event("phoenix.endpoint.stop", {"duration": 1}, {"status": 200})
    for _ in range(count):
        yield event


async def consume(events: Any, count: int, read: bool) -> float:
    """Returns the seconds for `count` events."""
    began = time.perf_counter()
    if read:
        async for event in events:
            if event.metadata["status"] == 999 or event.measurements["duration"] < 0:
                raise AssertionError(event)
            count -= 1
            if not count:
                break
    else:
        async for _ in events:
            count -= 1
            if not count:
                break
    return time.perf_counter() - began


async def stall(gaps: list[float]) -> None:
    """Records the delay of a 1 ms heartbeat in seconds."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await asyncio.sleep(0.001)
        gaps.append(loop.time() - began - 0.001)


async def socket_round(path: str, count: int, read: bool, late: list[float]) -> float:
    async with dichroic.connect(path) as client, client.subscribe("**") as events:
        heartbeat = asyncio.create_task(stall(late))
        seconds = await consume(events, count, read)
        heartbeat.cancel()
        return seconds


async def run(arguments: argparse.Namespace) -> int:
    rate: Callable[[float], float] = lambda seconds: arguments.events / seconds  # noqa: E731
    late: list[float] = []
    stream: list[float] = []
    top: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.sock")
        pid = feed(path, arguments.rows)
        try:
            for _ in range(arguments.rounds):
                top.append(rate(await consume(ceiling(arguments.events), arguments.events, False)))
                stream.append(rate(await socket_round(path, arguments.events, arguments.read, late)))
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)  # noqa: ASYNC222  # no other task is running
    median, limit = statistics.median(stream), statistics.median(top)
    late.sort()
    print(f"ceiling, in process     {limit / 1e6:6.2f} M events/s")
    what = "reading two fields" if arguments.read else "not reading them  "
    print(f"async for, Unix socket  {median / 1e6:6.2f} M events/s   {what} ({arguments.rows} rows a frame)")
    spread = f"{min(stream) / 1e6:.2f} … {max(stream) / 1e6:.2f}"
    print(f"min … max               {spread} M events/s, {arguments.rounds} rounds")
    print(f"ceiling / stream        {limit / median:6.2f}")
    print(f"loop stall p50, p99     {late[len(late) // 2] * 1e3:6.2f}, {late[len(late) * 99 // 100] * 1e3:.2f} ms")
    print(f"stream / budget         {median / BUDGET:6.2f}   (budget {BUDGET / 1e6:.0f} M events/s)")
    return 0 if median >= BUDGET / 2 else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--read", action="store_true", help="read a measurement and a label of each event")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
