"""The time that a stop takes: idle peers and dead endpoints do not use `limits.shutdown`, requests in flight do."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable

import grpc
import pytest
from actors import total
from harness.collector import Collector
from harness.process import wait_until

DEADLINE = 10
LIMIT = {"limits": {"shutdown": f"{DEADLINE}s"}}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
EMPTY_REQUEST = b"POST /v1/metrics HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


def connected(address: str, sent: bytes) -> socket.socket:
    host, port = address.split(":")
    peer = socket.create_connection((host, int(port)), 60)
    peer.sendall(sent)
    return peer


def stop_seconds(collector: Collector) -> float:
    started = time.monotonic()
    assert collector.stop() == 0
    return time.monotonic() - started


def silent_http2(collector: Collector) -> socket.socket:
    """Sends a preface, then neither reads nor writes."""
    return connected(str(collector.endpoints["otlp_grpc"]), PREFACE)


def kept_alive(collector: Collector) -> socket.socket:
    """HTTP/1.1 after a request."""
    peer = connected(str(collector.endpoints["otlp_http"]), EMPTY_REQUEST)
    assert peer.recv(4096).startswith(b"HTTP/1.1 200")
    return peer


def half_a_head(collector: Collector) -> socket.socket:
    return connected(str(collector.endpoints["otlp_http"]), b"POST /v1/metrics HT")


def never_used(collector: Collector) -> socket.socket:
    return connected(str(collector.endpoints["otlp_grpc"]), b"")


def grpc_channel(collector: Collector) -> grpc.Channel:
    channel = grpc.insecure_channel(str(collector.endpoints["otlp_grpc"]))
    grpc.channel_ready_future(channel).result(60)
    return channel


@pytest.mark.parametrize("peer", [silent_http2, kept_alive, half_a_head, never_used, grpc_channel])
def test_an_idle_connection_does_not_delay_the_stop(peer: Callable):
    with Collector(config=LIMIT) as collector:
        idle = peer(collector)
        time.sleep(0.2)
        assert stop_seconds(collector) < DEADLINE / 3
        idle.close()


def test_a_request_in_flight_gets_the_time_to_finish():
    with Collector(config=LIMIT) as collector:
        peer = connected(str(collector.endpoints["otlp_http"]), EMPTY_REQUEST.replace(b"length: 0", b"length: 4"))
        in_flight = lambda: sum(request["in_flight"] for request in collector.ledger()["requests"])
        wait_until(lambda: in_flight() == 1, 20, "the request")
        collector.child.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping: detaching nodes" in collector.output(), 20, "the stop")
        time.sleep(1)
        # An unknown field.
        peer.sendall(b"\xfa\x01\x01x")
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
        assert collector.child.wait(60) == 0


def test_a_request_that_is_never_complete_does_not_keep_the_process():
    with Collector(config={"limits": {"shutdown": "1s"}}) as collector:
        peer = connected(str(collector.endpoints["otlp_http"]), EMPTY_REQUEST.replace(b"length: 0", b"length: 4"))
        in_flight = lambda: sum(request["in_flight"] for request in collector.ledger()["requests"])
        wait_until(lambda: in_flight() == 1, 20, "the request")
        assert collector.stop() == 0
        assert "shutdown deadline reached" in collector.output()
        peer.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_endpoint_of_own_telemetry_that_does_not_respond_takes_a_part_of_the_time(protocol: str):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        otlp = {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}", "protocol": protocol}
        with Collector(config={**LIMIT, "telemetry": {"interval": "1s", "otlp": otlp}}) as collector:
            wait_until(lambda: total(collector.metrics(), "dichroic_build_info") == 1, 20, "a page")
            assert stop_seconds(collector) < DEADLINE / 3
