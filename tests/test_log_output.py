"""A log that cannot be written: nothing stops, nothing blocks, and the lost lines are counted and reported."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from actors import total
from harness.collector import Collector, dichroic_bin
from harness.demo import Embedder
from harness.process import http_get, wait_until

# Linux: F_SETPIPE_SZ.
SET_PIPE_SIZE = 1031
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
HTTP2_PING = b"\x00\x00\x08\x06" + bytes(13)
LOST = "dichroic_log_lines_dropped_total"


class Quiet(Collector):
    """A collector whose standard error is this file."""

    stop_seconds = 15.0

    def __init__(self, stderr: IO[str], level: str = "info", **more):
        super().__init__(**more)
        self.stderr = stderr
        self.level = level

    def environment(self) -> dict[str, str]:
        return {"DICHROIC_LOG": self.level}


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[IO[bytes], IO[str]]]:
    """A pipe, small and full, that is not read."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, SET_PIPE_SIZE, 4096)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"-" * 4095 + b"\n")
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"-")
    os.set_blocking(writer, True)
    with open(reader, "rb") as reading, open(writer, "w") as writing:
        yield reading, writing


@contextlib.contextmanager
def broken(how: str) -> Iterator[IO[str]]:
    if how == "full disk":
        with open("/dev/full", "w") as full:
            yield full
    elif how == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "w") as closed:
            yield closed
    else:
        with full_pipe() as (_, writer):
            yield writer


def malformed_peer(collector: Collector) -> None:
    """Connects to the local socket and sends what is not a frame."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(collector.socket))
        peer.sendall(b"\xff" * 64)
        peer.settimeout(60)
        with contextlib.suppress(ConnectionError):
            while peer.recv(1024):
                pass


def refused(collector: Collector) -> float:
    return total(collector.metrics(), "dichroic_connections_refused_total", listener="local_socket", reason="malformed")


def push(collector: Collector) -> None:
    """Sends an OTLP request that cannot be decoded, and one that can."""
    for body, expected in ((b"\xff", 400), (b"", 200)):
        request = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "content-type: application/x-protobuf",
             "--data-binary", "@-", f"{collector.otlp_http}/v1/metrics"],
            input=body, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        assert request.stdout == str(expected).encode()


def healthy(collector: Collector) -> bool:
    return http_get(f"http://{collector.prometheus}/healthz", timeout=5)[0] == 200


@pytest.mark.parametrize("how", ["full disk", "closed pipe", "unread pipe"])
def test_a_log_that_cannot_be_written_stops_nothing(how: str):
    with broken(how) as stderr, Embedder() as embedder, Quiet(stderr, scrape=[embedder.url]) as collector:
        target = lambda: collector.sources()["targets"][0]
        for round_ in range(1, 3):
            wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target to be up")
            embedder.kill()
            wait_until(lambda: total(collector.metrics(), "up") == 0, 20, "the target to be down")
            embedder.start()
            scrapes = target()["scrapes"]
            wait_until(lambda n=scrapes + 2: target()["scrapes"] >= n and target()["health"] == "up", 20, "further scrapes")
            malformed_peer(collector)
            wait_until(lambda n=round_: refused(collector) == n, 20, "the listener of the local socket")
            push(collector)
            collector.child.send_signal(signal.SIGHUP)
            assert healthy(collector)
        if how != "unread pipe":
            lost = lambda: total(collector.metrics(), LOST, reason="write_failed")
            wait_until(lambda: lost() > 0, 20, "lost lines to be counted")
        assert collector.ledger()["balances"]
        started = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - started < 10


def test_a_start_that_fails_with_a_broken_log_has_its_exit_code(tmp_path: Path):
    path = tmp_path / "dichroic.yaml"
    path.write_text("receivers: { otpl: {} }\n")
    for how in ("full disk", "closed pipe", "unread pipe"):
        with broken(how) as stderr:
            ended = subprocess.run([str(dichroic_bin()), "run", "--config", str(path)], stderr=stderr, timeout=60, check=False)
        assert ended.returncode == 78, how


def flood(collector: Collector) -> None:
    """Makes the collector write several mebibytes at the level `trace`: a line or more for each HTTP/2 frame."""
    host, port = str(collector.endpoints["otlp_grpc"]).rsplit(":", 1)
    with socket.create_connection((host, int(port)), 60) as peer:
        peer.settimeout(60)
        peer.sendall(HTTP2_PREFACE)
        for _ in range(100):
            peer.sendall(HTTP2_PING * 50)
            peer.recv(1 << 16)


def test_an_unread_log_is_bounded_and_its_losses_are_reported_when_it_is_read():
    with full_pipe() as (reader, writer), Quiet(writer, "trace") as collector:
        lost = lambda: total(collector.metrics(), LOST, reason="queue_full")

        def overflows() -> bool:
            flood(collector)
            return lost() > 0

        wait_until(overflows, 60, "the queue to overflow")
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            assert healthy(collector)
            collector.metrics()
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 1
        while b"log lines were lost" not in (line := reader.readline()):
            pass
        report = json.loads(line)
        assert report["level"] == "WARN" and report["queue_full"] > 0 and report["write_failed"] == 0
        # Read on, so that the collector writes the rest and ends.
        os.set_blocking(reader.fileno(), False)
        collector.child.send_signal(signal.SIGTERM)
        while collector.running():
            reader.read()
            time.sleep(0.01)
        assert collector.child.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("cannot mount a file system here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_disk_that_was_full_gets_a_line_about_the_losses(small_disk: Path):
    filler, log = small_disk / "filler", small_disk / "log"
    with open(log, "a") as stderr, Quiet(stderr) as collector:
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        lost = lambda: total(collector.metrics(), LOST, reason="write_failed")

        def overflows() -> bool:
            malformed_peer(collector)
            return lost() > 0

        wait_until(overflows, 60, "a line that is lost")
        filler.unlink()
        wait_until(lambda: "log lines were lost" in log.read_text(), 60, "the line about the losses")
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
        report = next(line for line in lines if line["message"] == "log lines were lost")
        assert report["write_failed"] > 0 and "No space left" in report["error"]
