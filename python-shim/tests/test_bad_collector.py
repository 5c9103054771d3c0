"""Collectors that are wrong, hostile or unwilling: each ends in an error that says so, or in a counted recovery."""

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
    """Answers every HELLO with these, and then closes."""

    async def greet(peer: Subscriber) -> None:
        for piece in what:
            if isinstance(piece, bytes):
                peer.writer.write(piece)
            else:
                peer.send(piece)
        peer.writer.close()

    return greet


FIRST_WORDS: list[tuple[Frame | bytes, type[Exception], str]] = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", errors.ProtocolError, "no dichroic collector"),
    (b"\x00\x00\x00\x00", errors.ConnectionLostError, "without a goodbye"),
    (b"", errors.ConnectionLostError, "without a goodbye"),
    (HEADER.pack(16_385, 1), errors.ProtocolError, "no dichroic collector"),
    (HEADER.pack(7, 1) + b"DICH\x02\x05\x00", errors.VersionMismatchError, r"framing 2\.5, this package 1\.0: update"),
    (HEADER.pack(7, 1) + b"DICH\x00\x09\x00", errors.VersionMismatchError, "update the collector"),
    (HEADER.pack(7, 1) + b"DUCH\x01\x00\x00", errors.ProtocolError, "no dichroic peer"),
    (Hello(RELAY, {
        "agent": "", "node": "", "os_pid": 1, "otp": "", "telemetry": "", "native_per_s": 1, "time_offset": 0,
        "epoch": 1, "attempt": 1, "mode": "installed",
    }), errors.ProtocolError, "no collector, its role is 1"),
    (frames.Ping(1), errors.ProtocolError, "no dichroic collector"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "error", "words"), FIRST_WORDS)
@asynchronous
async def test_whoever_is_no_collector_is_told_apart(first: Any, error: type[Exception], words: str) -> None:
    async with FakeCollector(greet=sends(first)) as fake:
        with pytest.raises(error, match=words):
            await dichroic.connect(fake.address).__aenter__()
        with pytest.raises(error, match=words):
            await dichroic.connect(fake.address).subscribe("**").__aenter__()
        client = dichroic.connect_sync(fake.address)
        with pytest.raises(error, match=words):
            await asyncio.to_thread(client.__enter__)


GOODBYES = [
    (1, errors.VersionMismatchError), (2, errors.UnauthorizedError), (3, errors.MalformedError),
    (4, errors.LimitExceededError), (5, errors.TimedOutError), (6, errors.SupersededError),
    (7, errors.ShuttingDownError), (8, errors.TooSlowError), (9, errors.DetachedError),
    (10, errors.BadRequestError), (11, errors.InternalError), (99, errors.GoodbyeError),
]  # fmt: skip


@pytest.mark.parametrize(("code", "error"), GOODBYES)
@asynchronous
async def test_every_goodbye_is_an_exception_with_its_words(code: int, error: type[errors.GoodbyeError]) -> None:
    async with FakeCollector(greet=sends(frames.Goodbye(code, 1234, "so long"))) as fake:
        with pytest.raises(error, match=f"code {code}\\): so long") as caught:
            await dichroic.connect(fake.address).subscribe("**").__aenter__()
        assert (caught.value.code, caught.value.message, caught.value.retry_ms) == (code, "so long", 1234)
        assert isinstance(caught.value, dichroic.DichroicError)


@pytest.mark.parametrize(
    ("code", "retry_ms"), [(1, 0), (2, 0), (10, 0), (7, errors.NEVER_RETRY), (4, errors.NEVER_RETRY)]
)
@asynchronous
async def test_a_goodbye_that_is_final_ends_a_running_subscription(code: int, retry_ms: int) -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        fake.goodbye(code, "enough", retry_ms)
        for _ in range(2):
            with pytest.raises(errors.GoodbyeError, match="enough"):
                await events.__anext__()


@asynchronous
async def test_the_collector_says_when_to_come_back() -> None:
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
    ([HEADER.pack(262_145, 9)], "262145 bytes is announced"),
    ([HEADER.pack(23, 9) + bytes(23)], "beyond a limit"),
    ([HELLO], "out of place"),
    ([frames.Plan({})], "out of place"),
    ([NODE, ROW], "schema 1, which is not defined"),
    ([EVENT, ROW], "source 1, which is not defined"),
    ([NODE, EVENT, Events(columns_of(1, 1, 1, [(1, 2, 3)]))], "has 3 columns, not 2"),
    ([NODE, EVENT, EVENT], "schema 1 is defined twice"),
    ([Define(SCHEMA, [(5, None)])], "schema 5 is forgotten and was not defined"),
    ([Define(SCHEMA, [(4096, {})])], "beyond the limit of 4096"),
    ([Define(SOURCE, [(1024, {})])], "beyond the limit of 1024"),
    ([Define(SERIES, [(1_000_000, {})])], "beyond the limit of 1000000"),
    ([SERIES_1], "source 1, which is not defined"),
    ([Numbers(1, [(1, 1, 0.0)])], "series 1, which is not defined"),
    ([NODE, SERIES_1, Define(SERIES, [(1, None)]), Numbers(1, [(1, 1, 0.0)])], "series 1, which is not defined"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "event", "measurements": []})])], "lacks the key 'metadata'"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "x", "measurements": [], "metadata": []})])], "unknown kind 'x'"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [1], "metadata": []})])], r"no \[name, unit\]"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [], "metadata": [1]})])], "has no name"),
    ([Define(SCHEMA, [(1, {"name": "e", "kind": "log", "measurements": [], "metadata": ["x"] * 64})])], "65 columns"),
    ([HEADER.pack(0, 0)], "out of step"),
    ([Define(SERIES, [(1, {"name": "m", "type": "c", "source": True, "labels": {}})])], "is no int"),
]


@pytest.mark.parametrize(("bad", "words"), VIOLATIONS)
@asynchronous
async def test_a_violation_is_answered_in_words_and_raised_when_it_happens_again(bad: list[Any], words: str) -> None:
    async def greet(peer: Subscriber) -> None:
        for piece in (HELLO, *bad):
            if isinstance(piece, bytes):
                peer.writer.write(piece)
            else:
                peer.send(piece)
        peers.append(peer)

    peers: list[Subscriber] = []
    async with FakeCollector(greet=greet) as fake:
        events = dichroic.connect(fake.address).subscribe("**", on_gap="yield")
        with pytest.raises(errors.ProtocolError, match=words):
            assert [item async for item in events if not isinstance(item, Gap)] == []
        assert len(peers) == 2, "a new connection may heal a confused one, once"
        await fake.wait_for(lambda _: all(peer.received for peer in peers))
        for peer in peers:
            farewell = peer.received[-1]
            assert isinstance(farewell, frames.Goodbye)
            assert farewell.code in (3, 4)


@asynchronous
async def test_a_violation_after_good_rows_is_healed_by_a_new_connection() -> None:
    async def greet(peer: Subscriber) -> None:
        peer.send(HELLO, NODE, EVENT, ROW)
        if len(fake.hellos) == 1:
            peer.writer.write(HEADER.pack(3, 10) + b"bad")

    async with FakeCollector(greet=greet) as fake:
        events = dichroic.connect(fake.address).subscribe("**", on_gap="yield")
        rows = [await events.__anext__() for _ in range(3)]
        assert [type(row).__name__ for row in rows] == ["Event", "Gap", "Event"]
        assert rows[1] == Gap(None, "beyond replay"), "this collector does not resume, and the gap says so"
        await events.aclose()


@asynchronous
async def test_frames_of_a_later_minor_version_are_skipped_and_counted() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        fake.subscribers[0].writer.write(HEADER.pack(5, 77) + b"hello")
        fake.emit("after")
        assert (await events.__anext__()).name == "after"
        assert events.stats.skipped_frames == 1


@asynchronous
async def test_nobody_listening_is_said_with_every_place_that_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICHROIC_SOCKET", "/nowhere/dichroic.sock")
    with pytest.raises(
        dichroic.CollectorNotFoundError, match=r"unix:///nowhere/dichroic\.sock \(No such file.*dichroic run"
    ):
        await dichroic.connect().__aenter__()


@asynchronous
async def test_a_peer_that_never_greets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dichroic._link.HELLO_TIMEOUT", 0.05)
    monkeypatch.setattr("dichroic._sync.HELLO_TIMEOUT", 0.05)

    async def silence(peer: Subscriber) -> None:
        pass

    async with FakeCollector(greet=silence) as fake:
        with pytest.raises(dichroic.HandshakeTimeoutError):
            await dichroic.connect(fake.address).__aenter__()
        with pytest.raises(dichroic.HandshakeTimeoutError):
            await asyncio.to_thread(dichroic.connect_sync(fake.address).__enter__)


@asynchronous
async def test_a_connection_that_falls_silent_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dichroic._link.HELLO_TIMEOUT", 0.05)
    monkeypatch.setattr("dichroic._link.SILENCE_TIMEOUT", 0.05)
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        waiting = asyncio.ensure_future(events.__anext__())
        await fake.wait_for(lambda fake: len(fake.hellos) >= 3 and fake.subscribers)
        fake.emit("after")
        assert (await waiting).name == "after"


@asynchronous
async def test_a_token_opens_and_a_wrong_one_does_not() -> None:
    async with FakeCollector(token="secret") as fake:
        async with dichroic.connect(fake.address, token="secret") as client, client.subscribe("**"):
            pass
        with pytest.raises(errors.UnauthorizedError, match="the token is wrong"):
            await dichroic.connect(fake.address, token="guess").__aenter__()
