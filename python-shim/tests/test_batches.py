"""Batches: how they fill, what they keep on errors, and their columns."""

from __future__ import annotations

import asyncio
import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

import dichroic
from dichroic import Batch, Event, Gap, Histogram, Point
from dichroic._types import log
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
    assert columns["buckets"] == [None, [(1.0, 2.0, 3)]]


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


NS = 1_764_500_000_123_456_789  # not a double


def mixed(kind: str) -> tuple[Batch[Any], Batch[Any]]:
    """Two batches of one subscription that have no column in common."""
    if kind == "event":
        return (
            Batch([Event("a", {"at": NS, "n": 1}, {"status": 200, "ok": True}, NS, "node")]),
            Batch(
                [Event("b", {"x": 0.5}, {"plan": None}, NS + 1), Gap(3, "slow"), Event("c", {"at": 1 << 63}, {}, NS)]
            ),
        )
    if kind == "log":
        attributes: dict[str, Any] = {"n": 1, "tags": ["a", "b"]}
        fields = {"severity": 9, "body": "hello", "trace_id": "0af7", "span_id": None}
        return (
            Batch([log("log", attributes, NS, "w", fields)]),
            Batch([log("log", {}, NS, "w", {"severity": None, "body": {"k": [1]}, "trace_id": None, "span_id": None})]),
        )
    return (
        Batch([Point("m", {"route": "/", "code": 200}, "counter", NS, NS, NS + 1, unit="s")]),
        Batch(
            [Point("d", {}, "buckets", Histogram(2.5, ((0, 1, 3), (1, 1, 1)), None, (1.0,))), Point("l", {}, value=0.5)]
        ),
    )


@pytest.mark.parametrize("kind", ["event", "log", "metric"])
def test_all_batches_of_a_subscription_fit_into_one_parquet_file(kind: str, tmp_path: Path) -> None:
    import pyarrow.parquet  # type: ignore[import-untyped]

    batches = [batch.to_arrow() for batch in (*mixed(kind), Batch([], kind))]
    assert batches[0].schema == batches[1].schema == batches[2].schema
    with pyarrow.parquet.ParquetWriter(tmp_path / "rows.parquet", batches[2].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    rows = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(rows) == sum(batch.num_rows for batch in batches)
    assert rows[0]["time"].value in (NS, NS + 1)
    if kind == "event":
        assert dict(rows[0]["integers"]) == {"at": NS, "n": 1}
        assert dict(rows[0]["measurements"]) == {"at": float(NS), "n": 1.0}
        assert dict(rows[0]["metadata"]) == {"status": "200", "ok": "true"}
        assert dict(rows[1]["metadata"]) == {"plan": None}
        assert (rows[2]["integers"], rows[2]["measurements"]) == ([], [("at", float(1 << 63))])
    elif kind == "log":
        assert (rows[0]["severity"], rows[0]["body"], rows[0]["trace_id"]) == (9, "hello", "0af7")
        assert dict(rows[0]["attributes"]) == {"n": "1", "tags": '["a", "b"]'}
        assert (rows[1]["severity"], rows[1]["body"]) == (None, '{"k": [1]}')
    else:
        assert (rows[0]["integer"], rows[0]["value"], rows[0]["start"].value) == (NS, float(NS), NS)
        assert dict(rows[0]["labels"]) == {"route": "/", "code": "200"}
        assert (rows[1]["count"], rows[1]["sum"], rows[1]["value"]) == (4, 2.5, None)
        assert rows[1]["buckets"] == [
            {"lower": float("-inf"), "upper": 1.0, "count": 3},
            {"lower": 1.0, "upper": float("inf"), "count": 1},
        ]
        assert (rows[2]["value"], rows[2]["integer"], rows[2]["buckets"]) == (0.5, None, None)


def test_pandas_keeps_integers_beside_missing_values() -> None:
    batch = Batch(
        [
            Event("a", {"at": NS, "mixed": 1, "big": 1 << 63}, {"ok": True}, NS, "node"),
            Event("b", {"x": 0.5, "mixed": 0.5}, {"status": 200}, NS + 1, "node"),
            Event("c", {"x": 1.5, "exact": NS}, {"status": "late"}, NS + 2, "node"),
            Event("d", {"exact": 0.5}, {}, NS + 3, "node"),
        ]
    )
    frame = batch.to_pandas()
    assert (str(frame["at"].dtype), int(frame["at"][0]), frame["at"].isna().tolist()) == (
        "Int64",
        NS,
        [False, True, True, True],
    )
    assert [time.value for time in frame["time"]] == [NS, NS + 1, NS + 2, NS + 3]
    assert (str(frame["mixed"].dtype), str(frame["x"].dtype), str(frame["ok"].dtype)) == (
        "float64",
        "float64",
        "boolean",
    )
    assert int(frame["big"][0]) == 1 << 63
    assert (frame["exact"][2], frame["exact"][3]) == (NS, 0.5)
    assert frame["status"].tolist()[1:3] == [200, "late"]


def test_pandas_keeps_the_start_of_points_and_buckets() -> None:
    first, second = mixed("metric")
    frame = Batch([*first, *second]).to_pandas()
    assert frame["start"][0].value == NS
    assert (int(frame["count"][1]), frame["buckets"][1][0]) == (4, (float("-inf"), 1.0, 3))
    assert frame["value"][0] == NS


def test_a_batch_of_a_subscription_has_its_kind() -> None:
    batches: list[list[Any]] = [[], [Gap(1, "slow"), Point("m")], [Event("a")]]
    assert [Batch(items).kind for items in batches] == ["event", "metric", "event"]
    assert Batch([], "log")[:0].kind == "log"
