"""Relays and subscribers over TCP: with the token as over the local socket, without it refused."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dichroic
import pytest
from actors import total
from harness.collector import Collector
from harness.demo import Shop
from harness.process import wait_until

TOKEN = "5f1d7c0a9be34286a7ff00d1c2b3e4958677a8b9cadbecfd0e1f2a3b4c5d6e7f"
WRONG = TOKEN[:-1] + "0"
REQUESTS = "http_server_request_duration_seconds_count"
PENDING_HANDSHAKES = 32
GOLDEN = Path(__file__).resolve().parent.parent / "collector" / "wire" / "golden"
HELLO = (GOLDEN / "hello-subscriber.bin").read_bytes()


def config(**over: object) -> dict[str, object]:
    return {"security": {"local_tcp": {"listen": "127.0.0.1:0", "token": TOKEN, **over}}}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(config=config()) as collector:
        yield collector
        assert TOKEN not in collector.output()
        assert WRONG not in collector.output()


def over_tcp(collector: Collector, token: str | None = TOKEN) -> list[str]:
    """Arguments of the VM for a relay over TCP."""
    host, port = collector.local_tcp.rsplit(":", 1)
    where = ["-dichroic", "socket", f'{{tcp,"{host}",{port}}}']
    return where if token is None else [*where, "token", f'"{token}"']


def address(collector: Collector) -> tuple[str, int]:
    host, port = collector.local_tcp.rsplit(":", 1)
    return host, int(port)


def refused(collector: Collector, reason: str, listener: str = "local_tcp") -> float:
    return total(collector.metrics(), "dichroic_connections_refused_total", listener=listener, reason=reason)


def read_all(peer: socket.socket, seconds: float = 8) -> bytes:
    """Returns the bytes received until the collector closes."""
    peer.settimeout(seconds)
    received = b""
    while chunk := peer.recv(65536):
        received += chunk
    return received


def goodbye(received: bytes) -> int:
    """Returns the code of a single GOODBYE frame."""
    assert received[4] == 2, received
    assert len(received) == 5 + int.from_bytes(received[:4], "little")
    return int.from_bytes(received[5:7], "little")


def test_a_relay_and_a_subscriber_connect_over_tcp_with_exact_counts(collector: Collector) -> None:
    async def some(n: int) -> list[str]:
        seen = []
        async with dichroic.connect(f"tcp://{collector.local_tcp}", token=TOKEN) as client:
            async with client.subscribe("phoenix.endpoint.stop") as events:
                async for event in events:
                    seen.append(event.name)
                    if len(seen) == n:
                        return seen
        return seen

    with Shop(rate=100, erl=over_tcp(collector)) as shop:
        assert asyncio.run(asyncio.wait_for(some(50), 60)) == ["phoenix.endpoint.stop"] * 50
        wait_until(lambda: total(collector.metrics(), REQUESTS) > 100, 20, "requests on the page")
        shop.stop()
        truth = shop.truth["requests"]
    wait_until(lambda: total(collector.metrics(), REQUESTS) == truth, 15, f"{truth} requests")
    assert collector.ledger()["balances"]


def test_a_relay_over_tcp_reconnects_to_a_restarted_collector_with_exact_counts(collector: Collector) -> None:
    with Shop(rate=100, erl=over_tcp(collector)) as shop:
        wait_until(lambda: total(collector.metrics(), REQUESTS) > 50, 20, "requests on the page")
        collector.restart()
        wait_until(lambda: total(collector.metrics(), REQUESTS) > 50, 20, "requests on the page again")
        shop.stop()
        truth = shop.truth["requests"]
    wait_until(lambda: total(collector.metrics(), REQUESTS) == truth, 15, f"{truth} requests")


def test_the_tcp_address_is_printed_and_the_token_is_not(collector: Collector) -> None:
    collector.wait_line(rf"local_tcp +tcp://{collector.local_tcp} \(token required\)")
    done = collector.run_command("check", "--print", "--config", str(collector.config_file))
    assert done.returncode == 0, done.stderr
    assert "redacted" in done.stdout
    assert TOKEN not in done.stdout
    with Collector() as other:
        other.wait_line(r"local_tcp +off")
        assert other.endpoints["local_tcp"] is None


def test_the_token_may_be_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    by_file = {"security": {"local_tcp": {"listen": "127.0.0.1:0", "token_file": str(file)}}}
    with Collector(config=by_file) as collector:
        with dichroic.connect_sync(f"tcp://{collector.local_tcp}", token=TOKEN):
            pass
        file.chmod(0o644)
        done = collector.run_command("check", "--config", str(collector.config_file))
        assert done.returncode == 78
        assert "chmod 0600" in done.stderr


def test_a_missing_or_wrong_token_is_refused_with_a_message_and_counted(collector: Collector) -> None:
    async def connect(token: str) -> None:
        async with dichroic.connect(f"tcp://{collector.local_tcp}", token=token):
            pass

    with pytest.raises(dichroic.UnauthorizedError, match=r"security\.local_tcp"):
        asyncio.run(asyncio.wait_for(connect(WRONG), 60))
    with socket.create_connection(address(collector)) as peer:
        peer.sendall(HELLO)
        received = read_all(peer)
        assert goodbye(received) == 2
        assert b"requires the token" in received
    assert wait_until(lambda: refused(collector, "token"), 10, "the refusals") == 2
    asyncio.run(asyncio.wait_for(connect(TOKEN), 60))


@pytest.mark.parametrize("token", [None, WRONG])
def test_a_relay_without_the_token_delivers_nothing(collector: Collector, token: str | None) -> None:
    with Shop(rate=50, erl=over_tcp(collector, token)):
        wait_until(lambda: refused(collector, "token") > 0, 20, "the refusal")
        assert collector.sources()["relays"] == []
        assert total(collector.metrics(), REQUESTS) == 0


def test_the_local_socket_requires_no_token(collector: Collector) -> None:
    with dichroic.connect_sync(collector.address):
        pass


def test_invalid_first_bytes_are_refused_with_a_message_and_counted(collector: Collector) -> None:
    with socket.create_connection(address(collector)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_all(peer).startswith(b"HTTP/1.1 400")
    with socket.create_connection(address(collector)) as peer:
        peer.sendall(bytes(64))
        assert goodbye(read_all(peer)) == 3
    wait_until(lambda: refused(collector, "malformed") == 2, 10, "the refusals")


def test_silent_connections_block_tcp_only_until_their_timeout_and_never_the_local_socket(collector: Collector) -> None:
    with ExitStack() as crowd:
        begun = time.monotonic()
        silent = [crowd.enter_context(socket.create_connection(address(collector))) for _ in range(PENDING_HANDSHAKES)]
        # One more sends its HELLO byte by byte, which counts as silence.
        one_more = crowd.enter_context(socket.create_connection(address(collector)))
        one_more.sendall(HELLO[:10])
        assert goodbye(read_all(one_more)) == 4
        with dichroic.connect_sync(collector.address):
            pass
        assert time.monotonic() - begun < 5, "before the handshakes time out"
        for peer in silent:
            assert goodbye(read_all(peer)) == 5
    assert refused(collector, "limit") == 1
    wait_until(lambda: refused(collector, "timeout") == PENDING_HANDSHAKES, 10, "the refusals")
    with dichroic.connect_sync(f"tcp://{collector.local_tcp}", token=TOKEN):
        pass
    assert refused(collector, "limit", "local_socket") == 0


def test_a_hello_sent_byte_by_byte_times_out_after_five_seconds(collector: Collector) -> None:
    with socket.create_connection(address(collector)) as peer:
        begun = time.monotonic()
        peer.settimeout(0.1)
        received = b""
        for byte in HELLO[:-1]:
            peer.sendall(bytes([byte]))
            try:
                received = peer.recv(4096)
                break
            except TimeoutError:
                pass
        assert goodbye(received) == 5
        assert time.monotonic() - begun < 8
