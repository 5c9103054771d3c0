"""Frames with rows of several schemas: content, order, cursors inside them and violations, with every client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

import dichroic
from dichroic import ProtocolError
from dichroic._frames import SCHEMA, Define, Mixed
from dichroic._mixed import mix
from dichroic.testing import FakeCollector, Subscriber

from .conftest import DEADLINE, Thread, asynchronous

ROWS = 13
NOW = 1_763_800_000_000_000_000


def emit_three_names(fake: FakeCollector) -> None:
    """Rows of three schemas and two sources: a subscription with `replay` gets them in one frame."""
    for n in range(ROWS):
        if n % 3 == 0:
            fake.emit("shop.sold", {"n": n, "price": n / 2}, {"plan": "free", "ok": n > 5})
        elif n % 3 == 1:
            fake.emit("shop.seen", {"n": n}, {"plan": None}, source="other@127.0.0.1")
        else:
            fake.emit("web.stop", {"n": n}, {"route": f"/{n}", "status": 200, "method": "GET"})


def check_rows(events: list[Any], start: int = 0) -> None:
    assert [event.measurements["n"] for event in events] == list(range(start, ROWS))
    for n, event in enumerate(events, start):
        name = ("shop.sold", "shop.seen", "web.stop")[n % 3]
        assert (event.name, event.source) == (name, "other@127.0.0.1" if n % 3 == 1 else "fake@127.0.0.1")
        if n % 3 == 0:
            assert (event.measurements["price"], event.metadata) == (n / 2, {"plan": "free", "ok": n > 5})
        elif n % 3 == 1:
            assert event.metadata == {"plan": None}
        else:
            assert event.metadata == {"route": f"/{n}", "status": 200, "method": "GET"}


def mixed_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each MIXED frame that a fake collector sends."""
    sent: list[int] = []
    send = Subscriber.send

    def record(self: Subscriber, *frames: Any) -> None:
        sent.extend(len(frame.parsed.row_contexts) for frame in frames if isinstance(frame, Mixed))
        send(self, *frames)

    monkeypatch.setattr(Subscriber, "send", record)
    return sent


@asynchronous
async def test_rows_of_several_schemas_share_a_frame_and_resume_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = mixed_frames(monkeypatch)
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        emit_three_names(fake)
        for consumed in range(ROWS):
            async with client.subscribe("**", replay="1h", on_gap="raise") as events:
                first = [await anext(events) for _ in range(consumed)]
                cursor = events.cursor
                # Rows beyond the cursor are decoded and lost with the connection: they are sent again.
                await fake.drop_connections()
            async with client.subscribe("**", cursor=cursor, replay="1h", on_gap="raise") as events:
                check_rows(first + [await anext(events) for _ in range(ROWS - consumed)])
                assert events.stats.received == ROWS - consumed
    assert sent.count(ROWS) >= ROWS


def test_the_blocking_client_reads_them_and_resumes_inside(there: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = mixed_frames(monkeypatch)
    there.do(emit_three_names, there.fake)
    with dichroic.connect_sync(there.fake.address) as client:
        with client.subscribe("**", replay="1h", on_gap="raise") as events:
            first = [next(events) for _ in range(5)]
            there.do(there.fake.drop_connections)
            check_rows(first + [next(events) for _ in range(ROWS - 5)])
        for consumed in range(ROWS):
            with client.subscribe("**", replay="1h") as events:
                first = [next(events) for _ in range(consumed)]
                cursor = events.cursor
            with client.subscribe("**", replay="1h", cursor=cursor) as events:
                check_rows(first + [next(events) for _ in range(ROWS - consumed)])
        with client.subscribe("**", replay="1h") as events:
            [batch] = [next(events.batches(ROWS, within=60))]
            check_rows(list(batch))
    assert ROWS in sent


def test_trio_reads_them_and_resumes_inside(there: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = mixed_frames(monkeypatch)
    there.do(emit_three_names, there.fake)

    async def test() -> None:
        async with (
            dichroic.connect(there.fake.address) as client,
            client.subscribe("**", replay="1h", on_gap="raise") as events,
        ):
            first = [await anext(events) for _ in range(5)]
            there.do(there.fake.drop_connections)
            with trio.fail_after(DEADLINE):
                check_rows(first + [await anext(events) for _ in range(ROWS - 5)])

    trio.run(test)
    assert ROWS in sent


@asynchronous
async def test_a_client_of_an_earlier_minor_version_gets_frames_of_one_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = mixed_frames(monkeypatch)
    monkeypatch.setattr("dichroic._frames.Hello.__init__.__defaults__", (1, 0, b""))
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        emit_three_names(fake)
        async with client.subscribe("**", replay="1h") as events:
            check_rows([await anext(events) for _ in range(ROWS)])
        assert fake.hellos[-1].minor == 0
    assert sent == []


@asynchronous
async def test_containers_are_text_in_metadata_and_values_in_records() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        peer = fake.subscribers[0]
        plain = peer.schema("event", "plain", (), ("raw", "list"))
        record = peer.schema("event", "record", (), ("severity", "body", "trace_id", "span_id", "attributes"))
        rows: list[tuple[int, int, tuple[Any, ...]]] = [
            (plain, 0, (NOW, b"ab", ["a", 1])),
            (record, 0, (NOW + 1, 9, "sold", b"\xab" * 16, None, {"tags": ["a", 1]})),
        ]
        peer.send(Mixed(mix(1, rows)))
        first, second = await anext(events), await anext(events)
        assert first.metadata == {"raw": "ab", "list": '["a", 1]'}
        assert second.metadata == {"severity": 9, "body": "sold", "trace_id": "ab" * 16, "tags": '["a", 1]'}


VIOLATIONS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda peer: Mixed(mix(1, [(99, 0, (NOW,))])), "undefined schema 99"),
    (lambda peer: Mixed(mix(1, [(peer.schema("event", "a", (), ()), 99, (NOW,))])), "undefined source 99"),
    (lambda peer: Mixed(mix(1, [(peer.schema("event", "a", (), ()), 0, (NOW, 1))])), "has 2 columns, expected 1"),
]


@pytest.mark.parametrize(("frame", "message"), VIOLATIONS)
@asynchronous
async def test_rows_that_contradict_the_definitions_end_the_connection(
    frame: Callable[[Any], Any], message: str
) -> None:
    async with (
        FakeCollector() as fake,
        dichroic.connect(fake.address) as client,
        client.subscribe("**", reconnect=False) as events,
    ):
        fake.subscribers[0].send(frame(fake.subscribers[0]))
        with pytest.raises(ProtocolError, match=message):
            await anext(events)


@asynchronous
async def test_a_redefined_schema_applies_to_the_next_frame() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        peer = fake.subscribers[0]
        old = peer.schema("event", "old", (), ("key",))
        peer.send(Mixed(mix(1, [(old, 0, (NOW, "x"))])))
        new: dict[str, Any] = {"name": "new", "kind": "event", "measurements": [["n", ""]], "metadata": []}
        peer.send(Define(SCHEMA, [(old, None)]), Define(SCHEMA, [(old, new)]))
        peer.send(Mixed(mix(2, [(old, 0, (NOW, 7))])))
        first, second = await anext(events), await anext(events)
        assert (first.name, first.metadata) == ("old", {"key": "x"})
        assert (second.name, second.measurements) == ("new", {"n": 7})


def test_the_time_of_a_mixed_row_is_exact() -> None:
    now = time.time_ns()
    assert [row[1][0] for row in mix(1, [(1, 1, (now, None)), (2, 1, (now + 1,))]).rows()] == [now, now + 1]
