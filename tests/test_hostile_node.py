"""A hostile application with the real relay and collector: exact counts, bounded memory, undisturbed emitters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dichroic
import pytest
from actors import RelayNode, samples, total, wait_total
from harness.collector import Collector
from harness.process import wait_until

MIB = 1024 * 1024
SERIES = 500
TAGS = {"user": "user"}
DEFINITIONS = [
    {"name": "hostile.events", "type": "counter", "event": "hostile.stop", "tags": TAGS, "series": SERIES},
    {
        "name": "hostile.duration",
        "type": "distribution",
        "event": "hostile.stop",
        "measurement": "duration",
        "tags": TAGS,
        "series": SERIES,
    },
    {
        "name": "hostile.bytes",
        "type": "sum",
        "event": "hostile.stop",
        "measurement": "bytes",
        "tags": TAGS,
        "series": SERIES,
    },
    {"name": "hostile.level", "type": "last_value", "event": "hostile.stop", "measurement": "level"},
]


class HostileNode(RelayNode):
    """`tests/hostile_node.erl` with the relay."""

    name = "hostile"
    module = "hostile_node"

    def wait_ready(self) -> None:
        self.wait_line("hostile ready", 30)

    def do(self, name: str, *args: int, seconds: float = 120) -> int:
        """Runs a command and returns the node's answer, usually the number of events it emitted."""
        begin = len(self.lines)
        self.send_line(" ".join([name, *map(str, args)]))
        pattern = re.compile(rf"{name}: (\d+) in \d+ ms")
        answer = wait_until(
            lambda: next((m for line in self.lines[begin:] if (m := pattern.match(line))), None), seconds, f"an answer to {name}"
        )
        return int(answer[1])


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(config={"metrics": {"definitions": DEFINITIONS}}) as collector:
        yield collector


@pytest.fixture
def node(collector: Collector) -> Iterator[HostileNode]:
    with HostileNode(collector) as node:
        handlers = node.do("handlers")
        yield node
        assert node.do("handlers") == handlers, "a handler was detached"
        unexpected = [line for line in node.lines if not re.match(r"hostile ready|[a-z]+: \d+ in \d+ ms$", line)]
        assert unexpected == []
        assert collector.ledger()["balances"]


def samples_of(collector: Collector, name: str) -> dict[str, float]:
    """Returns values by the label `user`; the overflow series is ''."""
    return {labels.get("user", ""): value for n, labels, value in samples(collector.metrics()) if n == name}


def users_total(collector: Collector, *users: str) -> float:
    return sum(samples_of(collector, "hostile_events_total").get(user, 0) for user in users)


def resident(collector: Collector) -> int:
    status = Path(f"/proc/{collector.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def counted(collector: Collector, events: int, durations: int | None = None) -> None:
    wait_total(collector, events, "hostile_events_total", 30)
    wait_total(collector, events if durations is None else durations, "hostile_duration_count", 30)


def test_a_hundred_thousand_label_values_are_counted_exactly_in_bounded_memory(collector: Collector, node: HostileNode) -> None:
    node.do("users", 1, 2_000)
    counted(collector, 2_000)
    vm, ours, tables = node.do("memory"), resident(collector), node.do("tables")
    node.do("users", 2_001, 100_000)
    counted(collector, 100_000)
    wait_total(collector, 200_000, "hostile_bytes_total")
    assert len(samples_of(collector, "hostile_events_total")) == SERIES + 1
    assert samples_of(collector, "hostile_events_total")[""] == 100_000 - SERIES
    assert node.do("tables") <= tables * 1.1
    assert node.do("memory") - vm < 2 * MIB
    assert resident(collector) - ours < 20 * MIB


def test_invalid_measurements_are_skipped_by_reason_and_the_rest_is_counted(collector: Collector, node: HostileNode) -> None:
    times = 20
    emitted = node.do("garbage", times)
    vm = node.do("memory")
    counted(collector, emitted, 2 * times)
    wait_total(collector, 6.5 * times, "hostile_duration_sum")
    wait_total(collector, 6.5 * times, "hostile_bytes_total")
    assert total(collector.metrics(), "hostile_level") == 2.5

    def skipped() -> float:
        return total(collector.metrics(), "dichroic_relay_skipped_total", metric="hostile.duration")

    # nil, undefined, and four maps without the key: events without a measurement.
    unusable = emitted - (2 + 6) * times
    wait_until(lambda: skipped() == unusable, 10, f"skipped to be {unusable}; it is {skipped()}")
    node.do("garbage", times)
    assert node.do("memory") - vm < 2 * MIB


def test_label_values_with_equal_text_are_one_series_with_their_sum(collector: Collector, node: HostileNode) -> None:
    times = 500
    emitted = node.do("spellings", times)
    counted(collector, emitted)
    spellings = {"1": 4, "true": 2, "ok": 2, "0.5": 2, "": 2, "\ufffd": 2}
    expected = {user: float(times * n) for user, n in spellings.items()}
    assert samples_of(collector, "hostile_events_total") == expected
    assert samples_of(collector, "hostile_duration_count") == expected
    assert samples_of(collector, "hostile_bytes_total") == {user: 2 * count for user, count in expected.items()}
    assert collector.ledger()["warnings"]["label_collisions"] == 0
    # The parser above keeps only the last of duplicate lines.
    lines = [line for line in collector.metrics().splitlines() if line.startswith("hostile_events_total{")]
    assert len(lines) == len(expected)


def test_metadata_of_any_size_and_shape_affects_neither_counts_nor_memory(collector: Collector, node: HostileNode) -> None:
    first = node.do("metadata", 1)
    vm, ours = node.do("memory"), resident(collector)
    second = node.do("metadata", 20)
    counted(collector, first + second)
    assert len(samples_of(collector, "hostile_events_total")) < SERIES
    assert max(map(len, samples_of(collector, "hostile_events_total"))) <= 512
    assert node.do("memory") - vm < 2 * MIB
    assert resident(collector) - ours < 20 * MIB


def test_a_burst_of_a_million_events_is_counted_exactly(collector: Collector, node: HostileNode) -> None:
    node.do("burst", 50, 200)
    counted(collector, 10_000)
    vm, ours = node.do("memory"), resident(collector)
    node.do("burst", 50, 20_000)
    counted(collector, 1_010_000)
    wait_total(collector, 3_030_000, "hostile_bytes_total")
    assert node.do("memory") - vm < 2 * MIB
    assert resident(collector) - ours < 20 * MIB


async def while_subscribed(
    collector: Collector, node: HostileNode, command: str, *args: int, keep: list[dichroic.Event] | None = None
) -> tuple[int, int, int]:
    """Returns how many events the command emits, how many arrive as rows, and how many are reported lost."""
    run = asyncio.get_running_loop().run_in_executor
    async with dichroic.connect(collector.address) as client, client.subscribe("hostile.**", on_gap="yield") as rows:
        # Rows start when the relay has the plan: we send events of user 0 until one arrives.
        row = asyncio.ensure_future(anext(rows))
        while not row.done():
            await run(None, node.do, "users", 0, 0)
            await asyncio.wait({row}, timeout=0.1)
        emitting = asyncio.ensure_future(run(None, node.do, command, *args))
        got = lost = 0
        while not emitting.done() or got + lost < emitting.result():
            # The command may return after its last row.
            pending: list[asyncio.Future[Any]] = [row] if emitting.done() else [row, emitting]
            done, _ = await asyncio.wait(pending, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"no row for 30 s, after {got} and {lost} lost"
            if row.done():
                match row.result():
                    case dichroic.Gap() as gap:
                        lost += gap.lost or 0
                    case event if event.metadata.get("user") != "0":
                        got += 1
                        if keep is not None:
                            keep.append(event)
                row = asyncio.ensure_future(anext(rows))
        row.cancel()
        return emitting.result(), got, lost


def test_a_subscriber_of_a_burst_gets_rows_or_counted_gaps_and_counts_stay_exact(collector: Collector, node: HostileNode) -> None:
    vm = node.do("memory")
    emitted, got, lost = asyncio.run(while_subscribed(collector, node, "burst", 50, 6_000))
    assert got > 0
    assert got + lost == emitted == 300_000
    wait_until(lambda: users_total(collector, "a", "b", "c", "d") == emitted, 30, f"{emitted} events of four users")
    assert node.do("memory") - vm < 4 * MIB


@pytest.mark.parametrize(("command", "times"), [("garbage", 2), ("metadata", 2)])
def test_invalid_values_are_omitted_from_rows(collector: Collector, node: HostileNode, command: str, times: int) -> None:
    vm = node.do("memory")
    events: list[dichroic.Event] = []
    emitted, got, lost = asyncio.run(while_subscribed(collector, node, command, times, keep=events))
    assert (got, lost) == (emitted, 0)
    assert {type(value) for event in events for value in event.measurements.values()} <= {int, float}
    assert node.do("memory") - vm < 4 * MIB


def test_values_that_are_not_numbers_are_omitted_from_rows_and_counted(collector: Collector, node: HostileNode) -> None:
    events: list[dichroic.Event] = []
    emitted, _, _ = asyncio.run(while_subscribed(collector, node, "garbage", 1, keep=events))
    found = [event.measurements for event in events if event.metadata.get("user") == "garbage"]
    assert len(found) == emitted
    # Two small numbers and five large ones, each as three measurements.
    numbers = [measurements for measurements in found if measurements]
    assert [set(measurements) for measurements in numbers] == [{"bytes", "duration", "level"}] * 6
    assert numbers[0] == {"bytes": 4, "duration": 4, "level": 4}

    def skipped() -> dict[str, float]:
        return {
            labels["reason"]: value
            for name, labels, value in samples(collector.metrics())
            if name == "dichroic_relay_skipped_total" and labels.get("event") == "hostile.stop"
        }

    # Of 23 values, six are numbers, one is out of range, and two are absent; of five maps, one has another type.
    expected = {"not_numeric": 14 * 3 + 1, "out_of_range": 3}
    wait_until(lambda: skipped() == expected, 10, f"skipped to be {expected}; it is {skipped()}")
