"""The asynchronous client under trio, with a collector in another thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import dichroic
from dichroic import Gap
from dichroic._frames import Ping, Pong

from .conftest import DEADLINE, Thread


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(DEADLINE):
            await test()

    trio.run(bounded)


def test_events_points_and_logs_arrive(there: Thread) -> None:
    async def test() -> None:
        async with (
            dichroic.connect(there.fake.address) as client,
            client.subscribe("shop.**", where={"ok": True}) as events,
            client.subscribe("**", kind="metric") as points,
            client.subscribe("**", kind="log") as logs,
        ):
            assert client.agent == "fake/0"
            there.do(there.fake.emit, "shop.sold", {"n": 1}, {"ok": False})
            there.do(there.fake.emit, "shop.sold", {"n": 2}, {"ok": True})
            there.do(there.fake.point, "load", 0.5)
            there.do(there.fake.log, "worker", "hello")
            assert (await anext(events)).measurements == {"n": 2}
            assert (await anext(points)).value == 0.5
            assert (await anext(logs)).body == "hello"

    run(test)


def test_a_broken_connection_resumes_without_loss_or_duplicates(there: Thread) -> None:
    async def test() -> None:
        async with (
            dichroic.connect(there.fake.address) as client,
            client.subscribe("**", on_gap="raise") as events,
        ):
            seen = []
            for start in range(0, 60, 20):
                for number in range(start, start + 20):
                    there.do(there.fake.emit, "shop.sold", {"n": number})
                seen += [(await anext(events)).measurements["n"] for _ in range(12)]
                there.do(there.fake.drop_connections)
            seen += [(await anext(events)).measurements["n"] for _ in range(60 - len(seen))]
            assert seen == list(range(60))

    run(test)


def test_a_cancelled_wait_loses_nothing(there: Thread) -> None:
    async def test() -> None:
        async with dichroic.connect(there.fake.address) as client, client.subscribe("**") as events:
            seen: list[Any] = []
            for number in range(20):
                with trio.move_on_after(0.005):
                    while True:
                        seen.append((await anext(events)).measurements["n"])
                there.do(there.fake.emit, "shop.sold", {"n": number})
            while len(seen) < 20:
                seen.append((await events.get(timeout=5)).measurements["n"])
            assert seen == list(range(20))
            with pytest.raises(TimeoutError):
                await events.get(timeout=0.02)

    run(test)


def test_a_wait_for_the_next_connection_can_be_cancelled_and_closed(there: Thread) -> None:
    async def test() -> None:
        async with dichroic.connect(there.fake.address) as client, client.subscribe("**", on_gap="yield") as events:
            there.do(there.fake.goodbye, 4, "retry tomorrow", 86_400_000)
            with trio.move_on_after(0.05) as scope:
                await anext(events)
            assert scope.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(iterate_to_the_end, events)
                await trio.sleep(0.02)
                await events.aclose()

    run(test)


async def iterate_to_the_end(events: dichroic.Subscription[Any]) -> None:
    assert [item async for item in events] == []


def test_closing_ends_a_waiting_iteration(there: Thread) -> None:
    async def test() -> None:
        async with (
            dichroic.connect(there.fake.address) as client,
            client.subscribe("**") as events,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(iterate_to_the_end, events)
            await trio.sleep(0.02)
            await events.aclose()
            there.do(there.fake.wait_for, lambda fake: not fake.subscribers)

    run(test)


def test_batches_and_gaps(there: Thread) -> None:
    async def test() -> None:
        async with dichroic.connect(there.fake.address) as client, client.subscribe("**", on_gap="yield") as events:
            for number in range(10):
                there.do(there.fake.emit, "shop.sold", {"n": number})
            batches = events.batches(max_events=4, within=0.05)
            assert [len(await anext(batches)) for _ in range(3)] == [4, 4, 2]
            there.do(there.fake.gap, 2)
            assert await anext(events) == Gap(2, "slow")

    run(test)


def test_the_generator_and_pings(there: Thread) -> None:
    async def test() -> None:
        there.do(there.fake.emit, "shop.sold")
        async with contextlib.aclosing(dichroic.events("**", address=there.fake.address, replay="1h")) as events:
            assert (await anext(events)).name == "shop.sold"
        there.do(there.fake.wait_for, lambda fake: not fake.subscribers)
        async with dichroic.connect(there.fake.address) as client, client.subscribe("**") as items:
            there.do(there.fake.subscribers[-1].send, Ping(9))
            there.do(there.fake.emit, "after")
            await anext(items)
            there.do(there.fake.wait_for, lambda fake: fake.subscribers[-1].received)
            assert there.fake.subscribers[-1].received == [Pong(9)]

    run(test)


def test_tcp_is_an_address_too(there: Thread) -> None:
    async def test() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def relay(client: trio.SocketStream) -> None:
            async with await trio.open_unix_socket(there.fake.path) as server, trio.open_nursery() as both:
                both.start_soon(copy, client, server)
                both.start_soon(copy, server, client)

        async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
            async for data in source:
                await target.send_all(data)
            await target.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, relay, listeners)
            async with (
                dichroic.connect(f"tcp://localhost:{port}", token="t") as client,
                client.subscribe("**") as events,
            ):
                there.do(there.fake.emit, "one")
                assert (await anext(events)).name == "one"
            nursery.cancel_scope.cancel()

    run(test)


def test_an_absent_collector_and_silence_are_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    async def test() -> None:
        with pytest.raises(dichroic.CollectorNotFoundError):
            async with dichroic.connect(str(tmp_path / "none.sock")):
                pass
        monkeypatch.setattr("dichroic._socket_link.HELLO_TIMEOUT", 0.05)
        silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = silent[0].socket.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(dichroic.HandshakeTimeoutError):
            async with dichroic.connect(f"tcp://127.0.0.1:{port}", token="t"):
                pass
        assert time.monotonic() - began < 2
        await silent[0].aclose()

    run(test)
