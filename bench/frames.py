"""What a stream costs its Python consumer at 10,000 events/s of 20 names: CPU for each event, and the age of events.

Two parts. *node*: a real node with the relay, a real collector and a consumer; two builds run in turns when the other one
is given. *rows*: frames of 1, 2, 16 and 256 rows from a paced feeder, the same for every build of the collector. Figures
are CPU time of the consumer's process, which the load of the machine changes less than wall time.

    python bench/frames.py [node|rows] [--seconds 10] [--turns 3] [--before BINARY --before-shim FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIM = ROOT / "python-shim" / "src"
sys.path += [str(SHIM), str(ROOT / "tests")]

RATE = 10_000
NAMES = 20
EPOCH_FIELDS = {"agent": "bench/0", "epoch": 1, "max_frame": 262_144, "position": 1, "resumed": False}

#: Runs in a process of its own, with the package of the build that is measured.
CONSUMER = """
import asyncio, json, sys, time
import dichroic

async def consume(address, seconds, read):
    ages, names, count = [], set(), 0
    async with dichroic.connect(address) as client, client.subscribe("**") as events:
        warm = time.monotonic() + 2
        async for event in events:
            if time.monotonic() > warm:
                break
        frames, rows = events.stats.frames, events.stats.received
        cpu, end = time.process_time(), time.monotonic() + seconds
        async for event in events:
            count += 1
            if read:
                event.measurements, event.metadata
            if count % 50 == 0:
                ages.append(time.time_ns() - event.time)
                names.add(event.name)
                if time.monotonic() > end:
                    break
        cpu = time.process_time() - cpu
        frames, rows = events.stats.frames - frames, events.stats.received - rows
        lost = events.stats.lost
    ages.sort()
    print(json.dumps({
        "events": count, "cpu": cpu, "rows": rows / frames, "names": len(names), "lost": lost,
        "p50": ages[len(ages) // 2] / 1e6, "p99": ages[len(ages) * 99 // 100] / 1e6,
    }))

asyncio.run(consume(sys.argv[1], float(sys.argv[2]), sys.argv[3] == "read"))
"""


def consume(address: str, shim: Path, seconds: float, read: str) -> dict[str, float]:
    command = [sys.executable, "-c", CONSUMER, address, str(seconds), read]
    environment = {**os.environ, "PYTHONPATH": str(shim)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


# -- a real node ---------------------------------------------------------------------------------------------------


def node(arguments: argparse.Namespace) -> None:
    from actors import RelayNode
    from harness.collector import Collector
    from harness.erlang import compiled, erlang_paths

    class Names(RelayNode):
        name = module = "names"

        def argv(self) -> list[str]:
            ebins = [*erlang_paths(), compiled("names", [ROOT / "bench" / "names.erl"])]
            paths = [part for ebin in ebins for part in ("-pa", str(ebin))]
            start = "[{ok, _} = application:ensure_all_started(A) || A <- [telemetry, dichroic]], "
            # Eight schedulers, as on a small server, whatever machine this is; waiting ones leave the processors to others.
            schedulers = ["+S", "8:8", "+sbwt", "none"]
            name = ["-name", self.node, "-setcookie", "x", "-start_epmd", "false", *self.vm_arguments()]
            return ["erl", "-noshell", *schedulers, *name, *paths, "-eval", f"{start}names:main({RATE})."]

    builds = {"now": (str(ROOT / "target" / "release" / "dichroic"), SHIM)}
    if arguments.before:
        builds = {"before": (arguments.before, Path(arguments.before_shim or SHIM)), **builds}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(arguments.turns):
        for build, (binary, shim) in builds.items():
            os.environ["DICHROIC_BIN"] = binary
            with Collector() as collector, Names(collector):
                for read in ("unread", "read"):
                    began, cpu = time.monotonic(), cpu_seconds(collector.pid)
                    one = consume(collector.address, shim, arguments.seconds, read)
                    one["collector"] = (cpu_seconds(collector.pid) - cpu) / (time.monotonic() - began) / RATE
                    found.setdefault((build, read), []).append(one)
    for (build, read), turns in found.items():
        middle = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        each = statistics.median(turn["cpu"] / turn["events"] for turn in turns)
        print(
            f"node {build:<7} {read:<7} {each * 1e6:7.2f} µs/event  {each * RATE * 100:5.1f} % of a core  "
            f"{middle['rows']:6.1f} rows/frame  age p50 {middle['p50']:5.1f} ms  p99 {middle['p99']:5.1f} ms  "
            f"{middle['names']:.0f} names, {sum(turn['lost'] for turn in turns):.0f} lost, "
            f"collector {middle['collector'] * 1e6:.1f} µs/event"
        )


# -- frames of a given size ----------------------------------------------------------------------------------------


def frames_of(rows: int, mixed: bool) -> tuple[bytes, list[bytes]]:
    """The first frames of a stream, and frames to repeat: rows of 20 schemas, or each frame of one."""
    from dichroic import _frames as frames
    from dichroic._events import columns_of
    from dichroic._frames import Define, Events, Hello, encode_frame

    opening = [Hello(frames.COLLECTOR, dict(EPOCH_FIELDS))]
    opening.append(Define(frames.SOURCE, [(1, {"name": "shop@127.0.0.1", "runtime": "beam", "resource": {}})]))
    for schema in range(1, NAMES + 1):
        fields = {"name": f"app.part{schema}.stop", "kind": "event", "measurements": [["duration", "s"]]}
        opening.append(Define(frames.SCHEMA, [(schema, {**fields, "metadata": ["method", "status", "route"]})]))
    now, repeated = time.time_ns(), []
    for frame in range(NAMES):
        cells = [
            (now, 1_000_000 + row, ("GET", "POST")[row % 7 == 0], (200, 404)[row % 3 == 0], f"/{row % 5}") for row in range(rows)
        ]
        if mixed:
            from dichroic._mixed import mix

            repeated.append(frames.Mixed(mix(1, [(1 + row % NAMES, 1, cells[row]) for row in range(rows)])))
        else:
            repeated.append(Events(columns_of(1 + frame, 1, 1, cells)))
    return b"".join(map(encode_frame, opening)), list(map(encode_frame, repeated))


def feed(path: str, rows: int, mixed: bool) -> int:
    """Forks a feeder that sends each frame by itself, as many as are due at the rate."""
    opening, repeated = frames_of(rows, mixed)
    listener = socket.socket(socket.AF_UNIX)
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
            start, sent = time.monotonic(), 0
            while True:
                while (sent + 1) * rows <= (time.monotonic() - start) * RATE:
                    peer.sendall(repeated[sent % NAMES])
                    sent += 1
                time.sleep(0.0005)
        except OSError:
            peer.close()


def rows(arguments: argparse.Namespace) -> None:
    shims = {"now": SHIM}
    if arguments.before_shim:
        shims = {"before": Path(arguments.before_shim), **shims}
    for size, mixed in ((1, False), (2, False), (16, False), (16, True), (256, False), (256, True)):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            pid = feed(path, size, mixed)
            try:
                found: dict[tuple[str, str], list[float]] = {}
                for _ in range(arguments.turns):
                    for build, shim in shims.items():
                        if mixed and build == "before":
                            continue
                        for read in ("unread", "read"):
                            one = consume(f"unix://{path}", shim, arguments.seconds, read)
                            found.setdefault((build, read), []).append(one["cpu"] / one["events"])
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
        for (build, read), each in found.items():
            middle = statistics.median(each)
            kind = f"{NAMES} names" if mixed else "one name "
            cost = f"{middle * 1e6:7.2f} µs/event  {middle * RATE * 100:5.1f} % of a core"
            print(f"rows {size:>4} a frame of {kind} {build:<7} {read:<7} {cost}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("node", "rows"))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--before", help="binary of another build, measured in turns")
    parser.add_argument("--before-shim", help="folder of the Python package of that build")
    arguments = parser.parse_args()
    if arguments.part != "rows":
        node(arguments)
    if arguments.part != "node":
        rows(arguments)


if __name__ == "__main__":
    main()
