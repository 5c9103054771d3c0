"""The blocking client, with a collector in another thread: the same items and the same recovery."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

import dichroic
from dichroic import Gap, GapReason
from dichroic._frames import Ping, Pong

from .conftest import Thread


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
        there.do(there.fake.gap, None, GapReason.NOT_SUBSCRIBED, (1, 2))
        assert next(events) == Gap(None, "not subscribed", start=1, end=2)
        assert (events.stats.gaps, events.stats.lost) == (2, 2)
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


def test_get_returns_an_item_or_times_out_without_loss(there: Thread) -> None:
    with dichroic.connect_sync(there.fake.address) as client, client.subscribe("**") as events:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no item within 0\.05 s"):
            events.get(timeout=0.05)
        assert 0.04 <= time.monotonic() - began < 2
        with pytest.raises(TimeoutError):
            events.get(timeout=0)
        there.do(there.fake.emit, "one")
        there.do(there.fake.emit, "two")
        assert (events.get(timeout=5).name, events.get().name) == ("one", "two")
        # No collector to connect to: the time counts all the same.
        there.do(there.fake.kill)
        with pytest.raises(TimeoutError):
            events.get(timeout=0.3)
        there.do(there.fake.listen)
        there.do(there.fake.emit, "three")
        assert events.get(timeout=5).name == "three"
    with pytest.raises(dichroic.ClosedError):
        events.get(timeout=1)


def test_the_state_of_the_connection_is_known(there: Thread, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dichroic")
    ends: list[dichroic.DichroicError] = []
    with dichroic.connect_sync(there.fake.address) as client:
        events = client.subscribe("shop.**", on_disconnect=ends.append)
        assert not events.connected
        with events:
            assert events.connected
            there.do(there.fake.drop_connections)
            there.do(there.fake.emit, "shop.sold")
            assert next(events).name == "shop.sold"
            assert events.connected
            assert [type(end) for end in ends] == [dichroic.ConnectionLostError]
        assert not events.connected
        assert len(ends) == 1
    texts = [record.getMessage() for record in caplog.records if record.name == "dichroic"]
    assert texts[0] == "subscription shop.** connected to fake/0"
    assert texts[1].startswith("subscription shop.** disconnected, reconnecting in 0.")
    assert texts[2] == "subscription shop.** reconnected to fake/0"


def test_a_refused_permission_names_the_key(there: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(self: object, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", refuse)
        with (
            pytest.raises(dichroic.AccessDeniedError, match=r"security\.local_socket\.allow_uids"),
            dichroic.connect_sync(there.fake.address),
        ):
            pass
    there.fake._token = "secret"
    with pytest.raises(PermissionError, match="invalid token"), dichroic.connect_sync(there.fake.address):
        pass
