"""Out of file descriptors: existing connections keep working, and new ones are accepted afterwards."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from actors import samples
from harness.collector import Collector, dichroic_bin
from harness.process import wait_until
from test_nodes import REQUESTS, Node

LIMIT = 96


class Narrow(Collector):
    """A collector with a low limit of open files."""

    def argv(self) -> Sequence[str]:
        return ["prlimit", f"--nofile={LIMIT}:{LIMIT}", *super().argv()]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Narrow() as collector:
        yield collector


def processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def to_local_socket(collector: Collector) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(str(collector.socket))
    # An incomplete HELLO with a valid start.
    client.sendall(b"DICH")
    return client


def to_port(endpoint: str) -> Callable[[Collector], socket.socket]:
    def connect(collector: Collector) -> socket.socket:
        host, port = str(collector.endpoints[endpoint]).rsplit(":", 1)
        client = socket.create_connection((host, int(port)), timeout=5)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
        return client

    return connect


def counted(collector: Collector) -> float:
    return sum(value for name, _, value in samples(collector.metrics()) if name == REQUESTS)


@pytest.mark.parametrize(
    "connect",
    [to_local_socket, to_port("prometheus"), to_port("admin"), to_port("otlp_http"), to_port("otlp_grpc")],
    ids=["local socket", "page", "admin", "OTLP over HTTP", "OTLP over gRPC"],
)
def test_a_flood_of_connections_stops_neither_counting_nor_the_collector(
    collector: Collector, connect: Callable[[Collector], socket.socket]
) -> None:
    with Node(collector, "a") as node, contextlib.ExitStack() as open_sockets:
        node.emit(100)
        wait_until(lambda: counted(collector) == 100, 10, "the counts before")
        before = processor_seconds(collector.pid)
        for _ in range(LIMIT * 2):
            # Only connections beyond the listener's backlog may be refused.
            with contextlib.suppress(TimeoutError, BlockingIOError):
                open_sockets.enter_context(contextlib.closing(connect(collector)))
        wait_until(lambda: descriptors(collector.pid) <= LIMIT, 5, "descriptors within the limit")
        for _ in range(5):
            node.emit(1000)
        spent = processor_seconds(collector.pid) - before
        assert collector.running()
        open_sockets.close()
        wait_until(lambda: counted(collector) == 5100, 20, "the events of the meantime")
        assert spent < 3, "accept errors must not cause a busy loop"
        assert len(collector.lines) < 100, f"nor log every connection: {collector.output()}"
        relay = node.relay()
        assert relay["connected"], relay


def test_a_socket_that_cannot_be_created_is_reported_with_its_key(tmp_path: Path) -> None:
    # A directory that allows no file, even to root.
    deep = Path("/proc/self/s.sock")
    config = tmp_path / "dichroic.yaml"
    config.write_text(f"security: {{ local_socket: {{ path: {deep} }} }}\n")
    done = subprocess.run(
        [str(dichroic_bin()), "run", "--config", str(config)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "security.local_socket.path" in done.stderr and str(deep) in done.stderr, done.stderr
