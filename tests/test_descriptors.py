"""Out of sockets: when descriptors or the disk are used up, who is connected goes on, and the others are let in afterwards."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest
from actors import samples
from harness import Collector, dichroic_bin, wait_until
from test_nodes import REQUESTS, Node

LIMIT = 96


class Narrow(Collector):
    """A collector that may open few files."""

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
    # A greeting of the right beginning that never ends.
    client.sendall(b"DICH")
    return client


def to_port(endpoint: str) -> Callable[[Collector], socket.socket]:
    def connect(collector: Collector) -> socket.socket:
        host, port = str(collector.endpoints[endpoint]).rsplit(":", 1)
        client = socket.create_connection((host, int(port)), timeout=5)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        return client

    return connect


def counted(collector: Collector) -> float:
    return sum(value for name, _, value in samples(collector.metrics()) if name == REQUESTS)


@pytest.mark.parametrize(
    "connect",
    [to_local_socket, to_port("prometheus"), to_port("admin"), to_port("otlp_http"), to_port("otlp_grpc")],
    ids=["local socket", "page", "admin", "OTLP over HTTP", "OTLP over gRPC"],
)
def test_a_flood_of_connections_ends_neither_counting_nor_the_collector(
    collector: Collector, connect: Callable[[Collector], socket.socket]
) -> None:
    with Node(collector, "a") as node, contextlib.ExitStack() as open_sockets:
        node.emit(100)
        wait_until(lambda: counted(collector) == 100, 10, "the counts before")
        before = processor_seconds(collector.pid)
        for _ in range(LIMIT * 2):
            # What the listener's queue does not take may be refused; nothing else may go wrong.
            with contextlib.suppress(TimeoutError, BlockingIOError):
                open_sockets.enter_context(contextlib.closing(connect(collector)))
        wait_until(lambda: descriptors(collector.pid) <= LIMIT, 5, "descriptors within the limit")
        for _ in range(5):
            node.emit(1000)
        spent = processor_seconds(collector.pid) - before
        assert collector.running()
        open_sockets.close()
        wait_until(lambda: counted(collector) == 5100, 20, "all that was counted meanwhile")
        assert spent < 3, "it must not spin on what it cannot accept"
        assert len(collector.lines) < 100, f"nor tell of every connection: {collector.output()}"
        relay = node.relay()
        assert relay["connected"], relay


def test_a_socket_that_cannot_be_made_is_told_with_the_key_to_set(tmp_path) -> None:
    # A name that is too long is refused by the kernel, as a full disk would.
    deep = tmp_path / ("d" * 90) / "s.sock"
    deep.parent.mkdir()
    config = tmp_path / "dichroic.yaml"
    config.write_text(f"security: {{ local_socket: {{ path: {deep} }} }}\n")
    done = subprocess.run(
        [str(dichroic_bin()), "run", "--config", str(config)], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 1
    assert "security.local_socket.path" in done.stderr and str(deep) in done.stderr, done.stderr
