"""The blocking client, with a collector in another thread: the same items and the same recovery."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dichroic
from dichroic import Gap
from dichroic._frames import Ping, Pong
from dichroic.testing import FakeCollector


class Thread:
    """A fake collector whose event loop runs in a thread; `do` runs a call there and waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.fake = self.do(self._make)
        self.do(self.fake.listen)

    async def _make(self) -> FakeCollector:
        return FakeCollector()

    def do(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def run() -> Any:
            result = call(*args, **kwargs)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def stop(self) -> None:
        self.do(self.fake.__aexit__, None, None, None)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def there() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.stop()


def test_events_points_and_logs_arrive(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client:
        assert client.agent == "fake/0"
        with (
            client.subscribe("shop.**", where={"ok": True}) as events,
            client.subscribe("**", kind="metric") as points,
            client.subscribe("**", kind="log") as logs,
        ):
            there.do(there.fake.emit, "shop.sold", {"n": 1}, {"ok": False})
            there.do(there.fake.emit, "shop.sold", {"n": 2}, {"ok": True})
            there.do(there.fake.point, "load", 0.5)
            there.do(there.fake.log, "worker", "hello")
            assert next(events).measurements == {"n": 2}
            assert next(points).value == 0.5
            assert next(logs).body == "hello"


def test_a_broken_connection_resumes_without_loss_or_duplicates(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**", on_gap="raise") as events:
        seen = []
        for start in range(0, 60, 20):
            for number in range(start, start + 20):
                there.do(there.fake.emit, "shop.sold", {"n": number})
            seen += [next(events).measurements["n"] for _ in range(12)]
            there.do(there.fake.drop_connections)
        seen += [next(events).measurements["n"] for _ in range(60 - len(seen))]
        assert seen == list(range(60))
        assert events.stats.reconnects >= 1


def test_a_restart_and_a_loss_are_gaps(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**", on_gap="yield") as events:
        there.do(there.fake.gap, 2)
        assert next(events) == Gap(2, "slow")
        there.do(there.fake.restart)
        there.do(there.fake.emit, "after")
        gap, after = next(events), next(events)
        assert gap == Gap(None, "collector restarted")
        assert isinstance(after, dichroic.Event)
        assert after.name == "after"


def test_batches_gather_the_items_that_arrive_in_time(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**") as events:
        for number in range(10):
            there.do(there.fake.emit, "shop.sold", {"n": number})
        batches = events.batches(max_events=4, within=0.05)
        began = time.monotonic()
        assert [len(next(batches)) for _ in range(3)] == [4, 4, 2]
        assert 0.04 <= time.monotonic() - began < 5


def test_a_ping_is_answered_by_the_next_read(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**") as events:
        there.do(there.fake.subscribers[0].send, Ping(9))
        there.do(there.fake.emit, "after")
        next(events)
        there.do(there.fake.wait_for, lambda fake: fake.subscribers[0].received)
        assert there.fake.subscribers[0].received == [Pong(9)]


def test_closing_keeps_decoded_rows_readable_and_ends_the_iteration(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client:
        with client.subscribe("**") as events:
            there.do(there.fake.emit, "one")
            assert next(events).name == "one"
        assert list(events) == []
    with pytest.raises(dichroic.ClosedError):
        client.subscribe("**")


def test_closing_from_another_thread_ends_an_iteration(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client:
        events = client.subscribe("**").__enter__()
        seen: list[Any] = []
        reader = threading.Thread(target=lambda: seen.extend(events))
        reader.start()
        there.do(there.fake.emit, "one")
        deadline = time.monotonic() + 5
        while not seen:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        events.close()
        reader.join(5)
        assert not reader.is_alive()
        assert [event.name for event in seen] == ["one"]


def test_without_reconnect_the_end_is_raised(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**", reconnect=False) as events:
        there.do(there.fake.goodbye, 7, "going down")
        with pytest.raises(dichroic.ShuttingDownError, match="going down"):
            next(events)
