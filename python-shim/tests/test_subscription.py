"""Subscriptions: items, gap policies, reconnect and resume, cancellation, closing."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

import dichroic
from dichroic import Event, Gap, GapReason, GapWarning, Histogram, Log, Point, Subscription
from dichroic._events import columns_of
from dichroic._frames import COLLECTOR, SCHEMA, SOURCE, Define, Events, Hello, Ping, Pong, encode_frame
from dichroic.testing import FakeCollector, Subscriber, matches

from .conftest import asynchronous

NOW = 1_763_800_000_000_000_000


@contextlib.asynccontextmanager
async def subscribed(
    *patterns: str, collector: FakeCollector | None = None, **options: Any
) -> AsyncIterator[tuple[FakeCollector, Subscription[Any]]]:
    async with (
        collector or FakeCollector() as fake,
        dichroic.connect(fake.address) as client,
        client.subscribe(*(patterns or ("**",)), **options) as items,
    ):
        yield fake, items


async def take(items: Any, n: int) -> list[Any]:
    return [await items.__anext__() for _ in range(n)]


def numbered(fake: FakeCollector, *range_of: int) -> None:
    for number in range(*range_of):
        fake.emit("shop.sold", {"n": number}, {}, time=NOW + number)


def numbers(items: list[Any]) -> list[Any]:
    return [item.measurements["n"] if isinstance(item, Event) else item for item in items]


@asynchronous
async def test_connect_returns_the_agent_and_epoch_of_the_collector() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        assert (client.agent, client.epoch) == ("fake/0", fake.epoch)
        assert fake.hellos[0].fields == {"agent": "dichroic-py/0.1.0"}


@asynchronous
async def test_an_event_arrives_as_it_was_emitted() -> None:
    async with subscribed("shop.**") as (fake, events):
        fake.emit(
            "shop.sold", {"price": 2.5, "n": 1}, {"plan": "free", "ok": True, "who": None, "status": 200}, time=NOW
        )
        event = await events.__anext__()
        expected = Event(
            "shop.sold",
            {"price": 2.5, "n": 1},
            {"plan": "free", "ok": True, "who": None, "status": 200},
            NOW,
            "fake@127.0.0.1",
        )
        assert event == expected
        assert (event.source.runtime, event.kind) == ("beam", "event")
        assert pickle.loads(pickle.dumps(event)) == event
        match event:
            case Event(name, measurements):
                assert (name, measurements["n"]) == ("shop.sold", 1)
            case _:
                pytest.fail("the event does not match its class pattern")


@asynchronous
async def test_where_selects_the_sender_alike_for_events_logs_and_points() -> None:
    for where in ({"source": "shop@*"}, {"node": "shop@host"}, {"runtime": "beam", "source": "shop*"}):
        async with (
            FakeCollector() as fake,
            dichroic.connect(fake.address) as client,
            client.subscribe("**", where=where) as events,
            client.subscribe("**", where=where, kind="log") as logs,
            client.subscribe("**", where=where, kind="metric") as points,
        ):
            for source in ("other@host", "shop@host"):
                fake.emit("e", source=source)
                fake.log("l", "", source=source, runtime="beam")
                fake.point("p", 1, source=source)
            for item in (await anext(events), await anext(logs), await anext(points)):
                assert item.source == "shop@host"


@asynchronous
async def test_an_absent_measurement_is_omitted() -> None:
    async with subscribed() as (fake, events):
        schema = fake.subscribers[0].schema("event", "a", ("x", "y"), ("m",))
        source = fake.subscribers[0].source("node", "beam")
        fake.subscribers[0].send(Events(columns_of(schema, source, 1, [(NOW, 1, None, None), (NOW, None, 2.5, "z")])))
        first, second = await take(events, 2)
        assert (first.measurements, first.metadata) == ({"x": 1}, {"m": None})
        assert (second.measurements, second.metadata) == ({"y": 2.5}, {"m": "z"})


@asynchronous
async def test_an_otlp_record_with_an_event_name_has_its_attributes_as_metadata() -> None:
    async with subscribed() as (fake, events):
        peer = fake.subscribers[0]
        schema = peer.schema("event", "shop.sold", (), ("severity", "body", "trace_id", "span_id", "attributes"))
        source = peer.source("worker", "python")
        trace = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
        attributes = {"plan": "free", "n": 1 << 60, "tags": ["a", 1], "raw": b"\xab", "body": "of the attributes"}
        rows = [
            (NOW, 9, "sold", trace, trace[:8], attributes),
            (NOW, None, None, None, None, {"plan": "pro"}),
            (NOW, None, None, None, None, None),
        ]
        peer.send(Events(columns_of(schema, source, 1, rows)))
        first, second, third = await take(events, 3)
        assert isinstance(first, Event)
        assert not isinstance(first, Log)
        assert first.metadata == {
            "plan": "free", "n": 1 << 60, "tags": '["a", 1]', "raw": "ab", "body": "of the attributes",
            "severity": 9, "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "0af7651916cd43dd",
        }  # fmt: skip
        assert (second.metadata, third.metadata) == ({"plan": "pro"}, {})
        assert (first.measurements, first.units) == ({}, {})
        assert pickle.loads(pickle.dumps(first)) == first


@asynchronous
async def test_pickled_items_keep_their_units_and_series() -> None:
    async with subscribed() as (fake, events), dichroic.connect(fake.address) as client:
        fields: dict[str, Any] = {
            "name": "a",
            "kind": "event",
            "measurements": [["duration", "s"], ["n", ""]],
            "metadata": [],
        }
        fake.subscribers[0].send(Define(SCHEMA, [(1, fields)]))
        source = fake.subscribers[0].source("node", "beam")
        fake.subscribers[0].send(Events(columns_of(1, source, 1, [(NOW, 0.5, 1)])))
        event = await anext(events)
        copy = pickle.loads(pickle.dumps(event))
        assert (copy.units, event.units) == ({"duration": "s", "n": ""}, {"duration": "s", "n": ""})
        assert (copy.source.runtime, copy) == ("beam", event)
        async with client.subscribe("**", kind="metric") as points:
            fake.point("d", Histogram(0.5, ((1, 1, 2),), None, (1.0, 2.0)), {"a": "b"}, unit="s")
            point = await anext(points)
            copied = pickle.loads(pickle.dumps(point))
            assert copied == point
            assert (copied.unit, copied.series.bounds, copied.source.runtime) == ("s", (1.0, 2.0), "beam")


@asynchronous
async def test_a_pattern_that_matches_nothing_known_warns_once_and_opens() -> None:
    known = ["phoenix.endpoint.stop", "oban.job.stop"]
    async with FakeCollector(known=known) as fake, dichroic.connect(fake.address) as client:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with client.subscribe("oban.**", "pheonix.endpoint.stop", "xyz") as events:
                fake.emit("xyz")
                assert (await anext(events)).name == "xyz"
                await fake.drop_connections()
                fake.emit("xyz")
                await anext(events)
        assert {warning.category for warning in warned} == {dichroic.UnmatchedWarning}
        unknown = "matches no name that the collector knows yet"
        assert [str(warning.message) for warning in warned] == [
            f"'pheonix.endpoint.stop' {unknown}; did you mean 'phoenix.endpoint.stop'?",
            f"'xyz' {unknown}",
        ]


@asynchronous
async def test_patterns_and_where_select_the_events() -> None:
    async with subscribed("shop.*.stop", "cart", where={"status": ["5*", 404]}) as (fake, events):
        for name, status in (
            ("shop.a.stop", 503),
            ("shop.a.b.stop", 503),
            ("cart", 404),
            ("cart", 200),
            ("shop.x.stop", 500),
        ):
            fake.emit(name, {}, {"status": status})
        assert [event.metadata["status"] for event in await take(events, 3)] == [503, 404, 500]
        subscribe = fake.hellos[-1].fields["subscribe"]
        assert subscribe == {
            "kind": "event", "match": ["shop.*.stop", "cart"], "where": {"status": ["5*", "404"]},
            "buffer": 8192, "on_full": "drop_oldest",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("**", "a.b", True),
        ("a.**", "a.b.c", True),
        ("a.**", "a", True),
        ("a.*", "a.b.c", False),
        ("a.**.z", "a.b.c.z", True),
        ("a.b*", "a.bc", True),
        ("a", "a.b", False),
    ],
)
def test_the_fake_collector_matches_patterns_as_specified(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@asynchronous
async def test_points_have_name_labels_kind_value_start_and_time() -> None:
    async with subscribed("http.**", kind="metric", every=0.5) as (fake, points):
        assert fake.hellos[-1].fields["subscribe"]["every_ms"] == 500  # type: ignore[call-overload, index]
        fake.point("http.requests", 7, {"route": "/"}, start=1, time=NOW)
        fake.point("http.load", 0.5, kind="last", time=NOW)
        first, second = await take(points, 2)
        assert first == Point("http.requests", {"route": "/"}, "counter", 7, 1, NOW, source="fake@127.0.0.1")
        assert isinstance(first.value, int)
        assert (second.kind, second.value, points.cursor) == ("last", 0.5, None)
        assert pickle.loads(pickle.dumps(first)) == first


@asynchronous
async def test_distributions_have_count_sum_and_buckets() -> None:
    async with subscribed(kind="metric") as (fake, points):
        fake.point("a", Histogram(12.5, ((0, 1, 2), (1, 1, 3), (2, 1, 1)), bounds=(0.5, 1.0)), time=NOW)
        fake.point("b", Histogram(9, ((0, 0, 2), (0, 1, 3), (-1, 2, 1)), scale=0), time=NOW)
        explicit, exponential = [point.value for point in await take(points, 2)]
        infinity = float("inf")
        assert (explicit.count, explicit.sum) == (6, 12.5)
        assert explicit.buckets == [(-infinity, 0.5, 2), (0.5, 1.0, 3), (1.0, infinity, 1)]
        assert (exponential.count, exponential.sum) == (6, 9)
        assert exponential.buckets == [(-1.0, -0.5, 1), (0.0, 0.0, 2), (1.0, 2.0, 3)]
        assert explicit.quantile(0.5) == pytest.approx(0.5 + 0.5 / 3)
        assert exponential.quantile(1.0) == 2.0


@asynchronous
async def test_logs_are_events_with_severity_and_body() -> None:
    async with subscribed(kind="log") as (fake, logs):
        fake.log("worker.log", "it broke", {"shard": 3}, severity=17, trace_id=b"\x01" * 16, time=NOW)
        record = await logs.__anext__()
        assert isinstance(record, Log)
        assert (record.kind, record.severity, record.body, record.metadata) == ("log", 17, "it broke", {"shard": 3})
        assert (record.trace_id, record.span_id) == ("01" * 16, None)
        assert pickle.loads(pickle.dumps(record)) == record


@asynchronous
async def test_replay_starts_in_the_past() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        fake.emit("old", time=NOW)
        fake.emit("recent")
        async with client.subscribe("**", replay="30s") as events:
            fake.emit("now")
            assert [event.name for event in await take(events, 2)] == ["recent", "now"]


@asynchronous
async def test_a_removed_id_can_be_reused() -> None:
    async with subscribed() as (fake, events):
        peer = fake.subscribers[0]
        peer.send(Define(SOURCE, [(1, {"name": "node", "runtime": "beam"})]))
        for name in ("first", "second"):
            peer.send(Define(SCHEMA, [(1, {"name": name, "kind": "event", "measurements": [], "metadata": []})]))
            peer.send(Events(columns_of(1, 1, 1, [(NOW,)])), Define(SCHEMA, [(1, None)]))
        assert [event.name for event in await take(events, 2)] == ["first", "second"]


# -- gaps ---------------------------------------------------------------------------------------------------------


@asynchronous
async def test_a_gap_is_a_warning_by_default() -> None:
    async with subscribed() as (fake, events):
        for _ in range(2):  # equal warnings are two losses
            fake.gap(3)
            fake.emit("after")
            with pytest.warns(GapWarning, match="3 rows lost: slow"):
                assert (await events.__anext__()).name == "after"
        assert (events.stats.gaps, events.stats.lost) == (2, 6)


@asynchronous
async def test_a_gap_can_be_yielded_at_its_position() -> None:
    async with subscribed(on_gap="yield") as (fake, events):
        fake.emit("before")
        fake.gap(3)
        fake.gap(None, reason=6)
        fake.emit("after")
        before, first, second, after = await take(events, 4)
        assert (before.name, after.name) == ("before", "after")
        assert (first, second) == (Gap(3, "slow"), Gap(None, "relay connection broke"))
        match first:
            case Gap(lost=3):
                pass
            case _:
                pytest.fail("the gap does not match its class pattern")


@asynchronous
async def test_a_gap_of_rows_that_were_not_requested_has_its_time() -> None:
    start, end = 1_763_800_000_000_000_000, 1_763_800_002_800_000_000
    async with subscribed(on_gap="yield") as (fake, events):
        fake.gap(None, GapReason.NOT_SUBSCRIBED, (start, end))
        gap = await events.__anext__()
        assert gap == Gap(None, "not subscribed", start=start, end=end)
        assert gap != Gap(None, "not subscribed")
        assert str(gap) == "an unknown number of rows lost: not subscribed for 2.8 s until 08:26:42.800 UTC"
        assert eval(repr(gap)) == gap
        assert (events.stats.gaps, events.stats.lost) == (1, 0)
    async with subscribed(on_gap="raise") as (fake, events):
        fake.gap(None, GapReason.NOT_SUBSCRIBED, (start, end))
        with pytest.raises(dichroic.GapError, match=r"not subscribed for 2\.8 s") as caught:
            await events.__anext__()
        assert (caught.value.gap.start, caught.value.gap.end) == (start, end)


@asynchronous
async def test_a_gap_can_be_raised_and_iteration_continues_after_it() -> None:
    async with subscribed(on_gap="raise") as (fake, events):
        fake.gap(1)
        fake.emit("after")
        with pytest.raises(dichroic.GapError, match="1 row lost: slow") as caught:
            await events.__anext__()
        assert caught.value.gap.lost == 1
        assert (await events.__anext__()).name == "after"


@asynchronous
async def test_a_warning_filter_may_turn_the_gap_into_an_error() -> None:
    async with subscribed() as (fake, events):
        fake.gap(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(GapWarning):
                await events.__anext__()


# -- reconnect ----------------------------------------------------------------------------------------------------


@asynchronous
async def test_a_broken_connection_resumes_without_loss_or_duplicates() -> None:
    async with subscribed(on_gap="yield") as (fake, events):
        seen: list[Any] = []
        for start in range(0, 400, 40):
            numbered(fake, start, start + 40)
            seen += numbers(await take(events, 25))
            await fake.drop_connections()
        # Each break discarded rows that were decoded or in transit; every row still arrives once.
        seen += numbers(await take(events, 400 - len(seen)))
        assert seen == list(range(400))
        assert events.stats.reconnects >= 3
        assert events.stats.lost == 0


@asynchronous
async def test_a_cursor_continues_a_subscription_in_another_one() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        async with client.subscribe("**") as events:
            numbered(fake, 10)
            assert numbers(await take(events, 4)) == [0, 1, 2, 3]
            cursor = events.cursor
        async with client.subscribe("**", cursor=cursor, on_gap="raise") as events:
            assert numbers(await take(events, 6)) == [4, 5, 6, 7, 8, 9]


@asynchronous
async def test_a_restarted_collector_is_one_gap_of_unknown_size() -> None:
    async with subscribed(on_gap="yield") as (fake, events):
        fake.emit("before")
        assert (await events.__anext__()).name == "before"
        await fake.restart()
        fake.emit("after")
        gap, after = await take(events, 2)
        assert gap == Gap(None, "collector restarted")
        assert after.name == "after"
        assert (events.stats.gaps, events.stats.reconnects) == (1, 1)


@asynchronous
async def test_a_cursor_older_than_the_replay_is_a_counted_gap() -> None:
    async with subscribed(on_gap="yield", collector=FakeCollector(ring=5)) as (fake, events):
        numbered(fake, 1)
        assert numbers(await take(events, 1)) == [0]
        await fake.drop_connections()
        numbered(fake, 1, 20)
        gap, first = await take(events, 2)
        assert gap == Gap(14, "beyond replay")
        assert numbers([first]) == [15]
        assert (events.stats.gaps, events.stats.lost) == (1, 14)


@asynchronous
async def test_without_reconnect_a_broken_connection_is_raised_after_its_rows() -> None:
    async with subscribed(reconnect=False) as (fake, events):
        fake.emit("last")
        assert (await events.__anext__()).name == "last"
        await fake.drop_connections()
        for _ in range(2):
            with pytest.raises(dichroic.ConnectionLostError):
                await events.__anext__()


@asynchronous
async def test_a_subscription_reconnects_after_a_shutdown() -> None:
    async with subscribed(on_gap="yield") as (fake, events):
        fake.goodbye(7, "shutting down")
        waiting = asyncio.ensure_future(events.__anext__())
        await fake.wait_for(lambda fake: fake.subscribers and len(fake.hellos) >= 3)
        fake.emit("back")
        assert (await waiting).name == "back"


@asynchronous
async def test_a_subscription_that_was_too_slow_comes_back_without_a_gap_where_nothing_is_lost() -> None:
    async with subscribed(on_gap="yield", on_full="disconnect") as (fake, events):
        for name in ("first", "second"):
            fake.goodbye(8, "the ring is full")
            waiting = asyncio.ensure_future(events.__anext__())
            await fake.wait_for(lambda fake: fake.subscribers)
            fake.emit(name)
            assert (await waiting).name == name


@asynchronous
async def test_a_cancelled_wait_for_the_reconnect_can_be_repeated() -> None:
    async with subscribed() as (fake, events):
        fake.emit("before")
        await events.__anext__()
        await fake.kill()
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(events.__anext__(), 0.05)
        await fake.listen()
        fake.emit("after")
        assert (await events.__anext__()).name == "after"


# -- cancellation, concurrency, speed -----------------------------------------------------------------------------


@asynchronous
async def test_cancelling_next_loses_nothing() -> None:
    async with subscribed(on_gap="raise") as (fake, events):
        seen: list[Any] = []
        for number in range(200):
            waiting = asyncio.ensure_future(events.__anext__())
            for _ in range(number % 7):
                await asyncio.sleep(0)
            fake.emit("shop.sold", {"n": number})
            for _ in range(number % 5):
                await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen += numbers([await waiting])
        seen += numbers(await take(events, 200 - len(seen)))
        assert seen == list(range(200))


@asynchronous
async def test_a_second_concurrent_iterator_is_an_error() -> None:
    async with subscribed() as (fake, events):
        first = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already being iterated"):
            await events.__anext__()
        fake.emit("for the first")
        assert (await first).name == "for the first"


@asynchronous
async def test_a_consumer_that_stops_buffers_a_bounded_number_of_bytes() -> None:
    async def flood(peer: Subscriber) -> None:
        peer.send(Hello(COLLECTOR, {"agent": "flood", "epoch": 1, "position": 1, "resumed": False}))
        if peer.subscribe is None:
            return
        peer.send(Define(SOURCE, [(0, {"name": "node", "runtime": "beam"})]))
        peer.send(Define(SCHEMA, [(0, {"name": "e", "kind": "event", "measurements": [["n", ""]], "metadata": []})]))
        for frame in range(200):
            rows = [(NOW, frame * 4096 + row) for row in range(4096)]
            peer.send(Events(columns_of(0, 0, frame * 4096 + 1, rows)))
            await peer.writer.drain()

    collector = FakeCollector(on_hello=flood)
    async with subscribed(collector=collector) as (_, events):
        await events.__anext__()
        await asyncio.sleep(0.2)  # long enough to read all 13 MB
        assert events._stream.backlog < 2_000_000
        seen = 1
        async for event in events:
            assert event.measurements["n"] == seen
            seen += 1
            if seen == 200 * 4096:
                break


@asynchronous
async def test_a_fast_stream_does_not_starve_the_loop() -> None:
    async with subscribed() as (fake, events):
        turns = 0

        async def heartbeat() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        numbered(fake, 20 * 256)
        await asyncio.sleep(0.01)
        task = asyncio.ensure_future(heartbeat())
        await take(events, 20 * 256)
        task.cancel()
        assert turns >= 20


@asynchronous
async def test_a_ping_is_answered_without_iteration() -> None:
    async with subscribed() as (fake, _):
        fake.subscribers[0].send(Ping(7))
        await fake.wait_for(lambda fake: fake.subscribers[0].received)
        assert fake.subscribers[0].received == [Pong(7)]


# -- closing ------------------------------------------------------------------------------------------------------


@asynchronous
async def test_closing_sends_a_goodbye_and_keeps_decoded_rows_readable() -> None:
    async with subscribed() as (fake, events):
        peer = fake.subscribers[0]
        schema, source = peer.schema("event", "e", ("n",), ()), peer.source("node", "beam")
        peer.send(Events(columns_of(schema, source, 1, [(NOW, 0), (NOW, 1), (NOW, 2)])))
        await events.__anext__()
        await events.aclose()
        assert numbers([event async for event in events]) == [1, 2]
        await fake.wait_for(lambda fake: not fake.subscribers)
        assert getattr(peer.received[-1], "code", None) == 7


@asynchronous
async def test_closing_ends_a_waiting_iteration() -> None:
    async with subscribed() as (_, events):
        waiting = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0)
        await events.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


@asynchronous
async def test_closing_ends_a_wait_for_the_next_connection() -> None:
    async with subscribed() as (fake, events):
        fake.goodbye(4, "retry tomorrow", retry_ms=86_400_000)
        waiting = asyncio.ensure_future(events.__anext__())
        await fake.wait_for(lambda fake: not fake.subscribers)
        for _ in range(10):
            await asyncio.sleep(0)
        await events.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


@asynchronous
async def test_a_client_releases_closed_subscriptions() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client:
        for _ in range(3):
            async with client.subscribe("**"):
                assert len(client._subscriptions) == 1
        assert not client._subscriptions


@asynchronous
async def test_a_closed_client_closes_its_subscriptions_and_creates_no_more() -> None:
    async with FakeCollector() as fake:
        client = dichroic.connect(fake.address)
        async with client:
            events = await client.subscribe("**").__aenter__()
        assert [event async for event in events] == []
        with pytest.raises(dichroic.ClosedError):
            client.subscribe("**")


@asynchronous
async def test_the_generator_yields_and_closes_its_connection() -> None:
    async with FakeCollector() as fake:
        generator = dichroic.events("shop.**", address=fake.address)
        first = asyncio.ensure_future(generator.__anext__())
        await fake.wait_for(lambda fake: fake.subscribers)
        fake.emit("shop.sold")
        assert (await first).name == "shop.sold"
        await generator.aclose()
        await fake.wait_for(lambda fake: not fake.subscribers)


@asynchronous
async def test_breaking_out_of_the_generator_is_safe() -> None:
    async with FakeCollector() as fake:
        for number in range(5):
            fake.emit("shop.sold", {"n": number})
        async for event in dichroic.events("**", address=fake.address, replay="1h"):
            assert event.measurements["n"] == 0
            break
        await asyncio.sleep(0)


@asynchronous
async def test_stats_count_received_rows_and_their_age() -> None:
    async with subscribed() as (fake, events):
        assert events.stats.lag_seconds is None
        peer = fake.subscribers[0]
        schema, source = peer.schema("event", "e", (), ()), peer.source("node", "beam")
        peer.send(Events(columns_of(schema, source, 1, [(NOW,)] * 3)))
        await events.__anext__()
        stats = events.stats
        assert (stats.received, stats.buffered, stats.reconnects) == (3, 2, 0)
        assert stats.lag_seconds is not None
        assert stats.lag_seconds > 1e6
        assert stats.bytes > len(encode_frame(Ping(1)))
