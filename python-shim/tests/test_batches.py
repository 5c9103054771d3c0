"""Batches: how they fill, what they keep on errors, and their columns."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest

import dichroic
from dichroic import Batch, Event, Gap, Histogram, Point
from dichroic.testing import FakeCollector

from .conftest import asynchronous


@asynchronous
async def test_a_batch_ends_at_its_size_or_its_deadline() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        for number in range(10):
            fake.emit("shop.sold", {"n": number})
        batches = events.batches(max_events=4, within="50ms")
        sizes = [len(await batches.__anext__()) for _ in range(3)]
        assert sizes == [4, 4, 2]


@asynchronous
async def test_a_cancelled_batch_keeps_its_items() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        batches = events.batches(max_events=4, within=60)
        fake.emit("shop.sold", {"n": 0})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batches.__anext__(), 0.05)
        for number in range(1, 4):
            fake.emit("shop.sold", {"n": number})
        batch = await batches.__anext__()
        assert [event.measurements["n"] for event in batch] == [0, 1, 2, 3]


@asynchronous
async def test_items_before_an_error_are_returned_before_it_is_raised() -> None:
    async with (
        FakeCollector() as fake,
        dichroic.connect(fake.address) as client,
        client.subscribe("**", on_gap="raise") as events,
    ):
        fake.emit("before")
        fake.gap(7)
        fake.emit("after")
        batches = events.batches(within=0.05)
        assert [event.name for event in await batches.__anext__()] == ["before"]
        with pytest.raises(dichroic.GapError):
            await batches.__anext__()
        assert [event.name for event in await batches.__anext__()] == ["after"]


@asynchronous
async def test_a_lost_connection_ends_a_batch_early_and_closing_ends_the_iterator() -> None:
    async with FakeCollector() as fake, dichroic.connect(fake.address) as client, client.subscribe("**") as events:
        fake.emit("before")
        batches = events.batches(within=60)
        waiting = asyncio.ensure_future(batches.__anext__())
        for _ in range(5):
            await asyncio.sleep(0)
        await fake.drop_connections()
        assert len(await waiting) == 1
        await events.aclose()
        assert [batch async for batch in batches] == []


def test_a_batch_is_a_sequence() -> None:
    events = [Event("e", {"n": n}) for n in range(3)]
    batch = Batch(events)
    assert (len(batch), batch[0], list(batch)) == (3, events[0], events)
    assert list(batch[1:]) == events[1:]
    with pytest.raises(ValueError, match="max_events=0"):
        dichroic.connect("/x").subscribe("**").batches(max_events=0)


def test_columns_have_unique_names_and_none_for_missing_values() -> None:
    batch = Batch(
        [
            Event("a", {"n": 1}, {"status": 200, "time": "late"}, 10, "node"),
            Gap(3, "slow"),
            Event("b", {"x": 0.5}, {"n": "one"}, 11, "node"),
        ]
    )
    assert batch.to_columns() == {
        "time": [10, 11],
        "name": ["a", "b"],
        "source": ["node", "node"],
        "n": [1, None],
        "status": [200, None],
        "metadata.time": ["late", None],
        "x": [None, 0.5],
        "metadata.n": [None, "one"],
    }


def test_points_convert_to_columns() -> None:
    batch = Batch(
        [Point("m", {"route": "/"}, "counter", 7, 1, 2), Point("d", {}, "buckets", Histogram(2.5, ((0, 1, 3),)))]
    )
    columns = batch.to_columns()
    assert columns["value"] == [7, None]
    assert (columns["count"], columns["sum"], columns["route"]) == ([None, 3], [None, 2.5], ["/", None])


@pytest.mark.parametrize(("method", "package"), [("to_arrow", "pyarrow"), ("to_pandas", "pandas")])
def test_a_missing_package_is_named_with_the_command_to_install_it(
    method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(dichroic.MissingDependencyError, match=f"needs {package}: pip install"):
        getattr(Batch([Event("e")]), method)()
