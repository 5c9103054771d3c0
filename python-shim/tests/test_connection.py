"""The connection of the asyncio client: faults of its own, its state, and the bound of what it queues."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

import dichroic
from dichroic._deadline import bounded
from dichroic._events import columns_of
from dichroic._frames import HEADER, Events, Histograms, Numbers, encode_frame, rows_in
from dichroic._link import Link
from dichroic._protocol import Stream
from dichroic.testing import FakeCollector

from .conftest import asynchronous

NOW = 1_763_800_000_000_000_000


class FaultError(Exception):
    """A defect of the client."""


@asynchronous
async def test_a_fault_while_connecting_is_raised_at_once_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: object, *args: object) -> None:
        raise FaultError("of the test")

    for method in ("receive", "_handshake"):
        async with FakeCollector() as fake:
            with monkeypatch.context() as patched:
                patched.setattr(Stream, method, fault)
                began = time.monotonic()
                with pytest.raises(dichroic.ConnectionLostError, match="fault in the client") as raised:
                    await dichroic.connect(fake.address).__aenter__()
                assert time.monotonic() - began < 1
                assert isinstance(raised.value.__cause__, FaultError)


@asynchronous
async def test_a_fault_of_any_callback_ends_the_link_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[Any]]] = [
        ("connection_made", [None]),
        ("buffer_updated", [1]),
        ("connection_lost", [None]),
        ("_check_silence", []),
    ]
    for callback, arguments in calls:
        link = Link(Stream(dichroic._request.Request(("**",))), asyncio.get_running_loop())
        monkeypatch.setattr(link, "_stream", Broken(link._stream))
        monkeypatch.setattr(link, "_transport", None)
        if callback == "connection_made":
            link._closed = True  # it aborts the transport, which is None
        getattr(link, callback)(*arguments)
        link.abort()
        stream: Any = link._stream
        assert isinstance(stream.error, dichroic.ConnectionLostError), callback
        assert stream.error.__cause__ is not None


class Broken:
    """A stream whose methods fail, except the one that reports it."""

    def __init__(self, stream: Stream) -> None:
        self.error: dichroic.DichroicError | None = None

    def fail(self, error: dichroic.DichroicError) -> None:
        if error.__cause__ is None:
            raise FaultError("of the test")
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise FaultError(name)


@asynchronous
async def test_a_fault_on_an_established_connection_is_reported_and_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[dichroic.DichroicError] = []
    async with (
        FakeCollector() as fake,
        dichroic.connect(fake.address) as client,
        client.subscribe("**", on_disconnect=ends.append, on_gap="raise") as events,
    ):
        receive = Stream.receive

        def fault(self: Stream, data: bytes) -> bytes:
            monkeypatch.setattr(Stream, "receive", receive)
            raise FaultError("once")

        monkeypatch.setattr(Stream, "receive", fault)
        fake.emit("one")
        assert (await events.get(timeout=5)).name == "one"
        assert isinstance(ends[0].__cause__, FaultError)


@asynchronous
async def test_get_returns_an_item_or_times_out_without_loss() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        async with client.subscribe("**") as events:
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=r"no item within 0\.05 s"):
                await events.get(timeout=0.05)
            assert 0.04 <= time.monotonic() - began < 2
            with pytest.raises(TimeoutError):
                await events.get(timeout=0)
            fake.emit("one")
            fake.emit("two")
            assert ((await events.get(timeout=5)).name, (await events.get()).name) == ("one", "two")
            await fake.kill()
            with pytest.raises(TimeoutError):
                await events.get(timeout=0.3)
            await fake.listen()
            fake.emit("three")
            assert (await events.get(timeout=5)).name == "three"
        with pytest.raises(dichroic.ClosedError):
            await events.get(timeout=1)


@asynchronous
async def test_the_state_of_the_connection_is_known_without_iteration(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dichroic")
    ends: list[dichroic.DichroicError] = []

    def on_disconnect(error: dichroic.DichroicError) -> None:
        ends.append(error)
        raise FaultError("of the callback")

    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        events = client.subscribe("shop.**", on_disconnect=on_disconnect)
        assert not events.connected
        async with events:
            assert events.connected
            await fake.drop_connections()
            for _ in range(100):
                if ends:
                    break
                await asyncio.sleep(0.01)
            assert not events.connected
            assert [type(end) for end in ends] == [dichroic.ConnectionLostError]
            fake.emit("shop.sold")
            await anext(events)
            assert events.connected
            fake.goodbye(7, "restart", retry_ms=1)
            await fake.wait_for(lambda fake: not fake.subscribers)
            fake.emit("shop.sold")
            await anext(events)
            assert [type(end) for end in ends[1:]] == [dichroic.ShuttingDownError]
        assert len(ends) == 2
    texts = [record.getMessage() for record in caplog.records if record.name == "dichroic"]
    assert texts[:2] == ["subscription shop.** connected to fake/0", "on_disconnect of subscription shop.** failed"]
    assert texts[2].startswith("subscription shop.** disconnected, reconnecting in 0.")
    assert texts[3] == "subscription shop.** reconnected to fake/0"


@asynchronous
async def test_a_slow_consumer_queues_no_more_rows_than_its_buffer() -> None:
    async with (
        FakeCollector() as fake,
        dichroic.connect(fake.address) as client,
        client.subscribe("**", buffer=64) as events,
    ):
        peer = fake.subscribers[0]
        schema, source = peer.schema("event", "e", ("n",), ()), peer.source("node", "beam")
        most = 0
        for number in range(20_000):  # one row a frame
            peer.send(Events(columns_of(schema, source, number + 1, [(NOW, number)])))
        for number in range(20_000):
            assert (await anext(events)).measurements["n"] == number
            await asyncio.sleep(0)
            stats = events.stats
            most = max(most, stats.queued)
            assert (stats.queued_frames, stats.queued_bytes) == (stats.queued, stats.queued * 41)
        # What one read of the socket brings comes on top of the buffer.
        assert 64 < most < 64 + 262_144 // 46 + 1


def test_rows_are_counted_without_decoding() -> None:
    rows: list[tuple[int, Any]] = [
        (3, Events(columns_of(1, 1, 1, [(NOW, 1), (NOW, 2), (NOW, 3)]))),
        (2, Numbers(NOW, [(1, 2, 0.5), (2, 3, 0.0)])),
        (2, Histograms(NOW, [(1, 2, 0.5, ((1, 0, 3), (2, 0, 1))), (2, 0, 0.0, ())])),
    ]
    for expected, frame in rows:
        assert rows_in(frame.TYPE, encode_frame(frame)[HEADER.size :]) == expected
        for length in range(30):
            assert rows_in(frame.TYPE, bytes(length)) >= 0
    assert rows_in(99, b"") == 0


class EndedError(Exception):
    """The end of a piece of work."""


@asynchronous
async def test_a_cancellation_at_the_moment_when_the_work_ends_is_kept() -> None:
    async def work(ticks: int) -> None:
        for _ in range(ticks):
            await asyncio.sleep(0)
        raise EndedError

    for ticks in range(6):
        for before_cancel in range(1, 12):
            task = asyncio.ensure_future(bounded(work(ticks), 60))
            for _ in range(before_cancel):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            with pytest.raises(asyncio.CancelledError if cancelled else EndedError):
                await task
