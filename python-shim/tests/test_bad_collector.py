"""Faulty and hostile collectors: each leads to a descriptive error or to a counted recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import dichroic
from dichroic import Gap
from dichroic import _errors as errors
from dichroic import _frames as frames
from dichroic._events import columns_of
from dichroic._frames import COLLECTOR, HEADER, RELAY, SCHEMA, SERIES, SOURCE, Define, Events, Frame, Hello, Numbers
from dichroic.testing import FakeCollector, Subscriber

from .conftest import asynchronous

HELLO = Hello(COLLECTOR, {"agent": "odd", "epoch": 1, "position": 1, "resumed": False})
NODE = Define(SOURCE, [(1, {"name": "node", "runtime": "beam"})])
EVENT = Define(SCHEMA, [(1, {"name": "e", "kind": "event", "measurements": [["n", ""]], "metadata": []})])
SERIES_1 = Define(SERIES, [(1, {"name": "m", "type": "counter", "source": 1, "labels": {}})])
ROW = Events(columns_of(1, 1, 1, [(1, 2)]))


def sends(*what: Frame | bytes) -> Callable[[Subscriber], Awaitable[None]]:
    """Answers every HELLO with these bytes and frames, then closes."""

    async def on_hello(peer: Subscriber) -> None:
        for piece in what:
            if isinstance(piece, bytes):
                peer.writer.write(piece)
            else:
                peer.send(piece)
        peer.writer.close()

    return on_hello


FIRST_FRAMES: list[tuple[Frame | bytes, type[Exception], str]] = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", errors.ProtocolError, "not a dichroic collector"),
    (b"\x00\x00\x00\x00", errors.ConnectionLostError, "without a GOODBYE"),
    (b"", errors.ConnectionLostError, "without a GOODBYE"),
    (HEADER.pack(16_385, 1), errors.ProtocolError, "not a dichroic collector"),
    (HEADER.pack(7, 1) + b"DICH\x02\x05\x00", errors.VersionMismatchError, r"protocol 2\.5, this package 1\.1: update"),
    (HEADER.pack(7, 1) + b"DICH\x00\x09\x00", errors.VersionMismatchError, "update the collector"),
    (HEADER.pack(7, 1) + b"DUCH\x01\x00\x00", errors.ProtocolError, "not a dichroic peer"),
    (Hello(RELAY, {
        "agent": "", "node": "", "os_pid": 1, "otp": "", "telemetry": "", "native_per_s": 1, "time_offset": 0,
        "epoch": 1, "attempt": 1, "mode": "installed",
    }), errors.ProtocolError, "role 1, expected a collector"),
    (frames.Ping(1), errors.ProtocolError, "not a dichroic collector"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "error", "message"), FIRST_FRAMES)
@asynchronous
async def test_a_peer_that_is_not_a_collector_is_rejected(first: Any, error: type[Exception], message: str) -> None:
    async with FakeCollector(on_hello=sends(first)) as fake:
        with pytest.raises(error, match=message):
            await dichroic.connect(fake.address).__aenter__()
        with pytest.raises(error, match=message):
            await dichroic.connect(fake.address).subscribe("**").__aenter__()
        client = dichroic.connect_sync(fake.address)
        with pytest.raises(error, match=message):
            await asyncio.to_thread(client.__enter__)


GOODBYES = [
    (1, errors.VersionMismatchError), (2, errors.UnauthorizedError), (3, errors.MalformedError),
    (4, errors.LimitExceededError), (5, errors.TimedOutError), (6, errors.SupersededError),
    (7, errors.ShuttingDownError), (8, errors.TooSlowError), (9, errors.DetachedError),
    (10, errors.BadRequestError), (11, errors.InternalError), (99, errors.GoodbyeError),
]  # fmt: skip


@pytest.mark.parametrize(("code", "error"), GOODBYES)
@asynchronous
async def test_every_goodbye_is_an_exception_with_its_message(code: int, error: type[errors.GoodbyeError]) -> None:
    async with FakeCollector(on_hello=sends(frames.Goodbye(code, 1234, "done"))) as fake:
        with pytest.raises(error, match=f"code {code}\\): done") as caught:
            await dichroic.connect(fake.address).subscribe("**").__aenter__()
        assert (caught.value.code, caught.value.message, caught.value.retry_ms) == (code, "done", 1234)
        assert isinstance(caught.value, dichroic.DichroicError)


@pytest.mark.parametrize(
    ("code", "retry_ms"), [(1, 0), (2, 0), (10, 0), (7, errors.NEVER_RETRY), (4, errors.NEVER_RETRY)]
)
@asynchronous
async def test_a_final_goodbye_ends_an_established_subscription(code: int, retry_ms: int) -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        fake.goodbye(code, "enough", retry_ms)
        for _ in range(2):
            with pytest.raises(errors.GoodbyeError, match="enough"):
                await events.__anext__()


@asynchronous
async def test_the_delay_of_a_goodbye_is_respected() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        loop = asyncio.get_running_loop()
        began = loop.time()
        fake.goodbye(4, "busy", retry_ms=300)
        waiting = asyncio.ensure_future(events.__anext__())
        await fake.wait_for(lambda fake: len(fake.hellos) == 3)
        assert loop.time() - began >= 0.3
        fake.emit("back")
        assert (await waiting).name == "back"


VIOLATIONS: list[tuple[list[Frame | bytes], str]] = [
    ([HEADER.pack(262_145, 9)], "frame of 262145 bytes exceeds"),
    ([HEADER.pack(23, 9) + bytes(23)], "exceeds a limit"),
    ([HELLO], "unexpected HELLO"),
    ([frames.Plan({})], "unexpected PLAN"),
    ([NODE, ROW], "undefined schema 1"),
    ([EVENT, ROW], "undefined source 1"),
    ([NODE, EVENT, Events(columns_of(1, 1, 1, [(1, 2, 3)]))], "has 3 columns, expected 2"),
    ([NODE, EVENT, EVENT], "schema 1 is defined twice"),
    ([Define(SCHEMA, [(5, None)])], "schema 5 is removed but not defined"),
    ([Define(SCHEMA, [(4096, {})])], "exceeds the limit of 4096"),
    ([Define(SOURCE, [(1024, {})])], "exceeds the limit of 1024"),
    ([Define(SERIES, [(1_000_000, {})])], "exceeds the limit of 1000000"),
    ([SERIES_1], "undefined source 1"),
    ([Numbers(1, [(1, 1, 0.0)])], "undefined series 1"),
    ([NODE, SERIES_1, Define(SERIES, [(1, None)]), Numbers(1, [(1, 1, 0.0)])], "undefined series 1"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "event", "measurements": []})])], "missing key 'metadata'"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "x", "measurements": [], "metadata": []})])], "unknown kind 'x'"),
    (
        [Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [1], "metadata": []})])],
        r"\[name, unit\]",
    ),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [], "metadata": [1]})])], "expected a name"),
    (
        [Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [], "metadata": ["x"] * 64})])],
        "65 columns",
    ),
    ([HEADER.pack(0, 0)], "lost synchronization"),
    ([Define(SERIES, [(1, {"name": "m", "type": "c", "source": True, "labels": {}})])], "expected int"),
]


@pytest.mark.parametrize(("bad", "message"), VIOLATIONS)
@asynchronous
async def test_a_violation_is_answered_with_a_goodbye_and_raised_when_repeated(bad: list[Any], message: str) -> None:
    async def on_hello(peer: Subscriber) -> None:
        for piece in (HELLO, *bad):
            if isinstance(piece, bytes):
                peer.writer.write(piece)
            else:
                peer.send(piece)
        peers.append(peer)

    peers: list[Subscriber] = []
    async with FakeCollector(on_hello=on_hello) as fake:
        events = dichroic.connect(fake.address).subscribe("**", on_gap="yield")
        with pytest.raises(errors.ProtocolError, match=message):
            assert [item async for item in events if not isinstance(item, Gap)] == []
        assert len(peers) == 2, "a violation causes one new connection"
        await fake.wait_for(lambda _: all(peer.received for peer in peers))
        for peer in peers:
            last = peer.received[-1]
            assert isinstance(last, frames.Goodbye)
            assert last.code in (3, 4)


@asynchronous
async def test_a_violation_after_valid_rows_is_repaired_by_a_new_connection() -> None:
    async def on_hello(peer: Subscriber) -> None:
        peer.send(HELLO, NODE, EVENT, ROW)
        if len(fake.hellos) == 1:
            peer.writer.write(HEADER.pack(3, 10) + b"bad")

    async with FakeCollector(on_hello=on_hello) as fake:
        events = dichroic.connect(fake.address).subscribe("**", on_gap="yield")
        rows = [await events.__anext__() for _ in range(3)]
        assert [type(row).__name__ for row in rows] == ["Event", "Gap", "Event"]
        assert rows[1] == Gap(None, "beyond replay"), "this collector does not resume, so there is a gap"
        await events.aclose()


@asynchronous
async def test_frames_of_a_later_minor_version_are_skipped_and_counted() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        fake.subscribers[0].writer.write(HEADER.pack(5, 77) + b"hello")
        fake.emit("after")
        assert (await events.__anext__()).name == "after"
        assert events.stats.skipped_frames == 1


@asynchronous
async def test_a_missing_collector_is_reported_with_every_address_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICHROIC_SOCKET", "/nowhere/dichroic.sock")
    with pytest.raises(
        dichroic.CollectorNotFoundError, match=r"unix:///nowhere/dichroic\.sock \(No such file.*dichroic run"
    ):
        await dichroic.connect().__aenter__()


@asynchronous
async def test_a_peer_that_sends_no_hello_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dichroic._link.HELLO_TIMEOUT", 0.05)
    monkeypatch.setattr("dichroic._sync.HELLO_TIMEOUT", 0.05)

    async def silence(peer: Subscriber) -> None:
        pass

    async with FakeCollector(on_hello=silence) as fake:
        with pytest.raises(dichroic.HandshakeTimeoutError):
            await dichroic.connect(fake.address).__aenter__()
        with pytest.raises(dichroic.HandshakeTimeoutError):
            await asyncio.to_thread(dichroic.connect_sync(fake.address).__enter__)


@asynchronous
async def test_a_connection_without_data_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dichroic._link.HELLO_TIMEOUT", 0.05)
    monkeypatch.setattr("dichroic._link.SILENCE_TIMEOUT", 0.05)
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        waiting = asyncio.ensure_future(events.__anext__())
        await fake.wait_for(lambda fake: len(fake.hellos) >= 3 and fake.subscribers)
        fake.emit("after")
        assert (await waiting).name == "after"


@asynchronous
async def test_a_valid_token_is_accepted_and_an_invalid_one_rejected() -> None:
    async with FakeCollector(token="secret") as fake:
        async with dichroic.connect(fake.address, token="secret") as client, client.subscribe("**"):
            pass
        with pytest.raises(errors.UnauthorizedError, match="invalid token"):
            await dichroic.connect(fake.address, token="guess").__aenter__()
