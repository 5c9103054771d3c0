"""A subscriber that returns or looks back gets every event of a node, or a gap over its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import dichroic
from actors import RelayNode
from harness.collector import Collector
from harness.process import wait_until

EVENT = "phoenix.endpoint.stop"


class Ticks(RelayNode):
    """`tests/ticks.erl`: a node that emits ascending numbers."""

    name = module = "ticks"

    def wait_ready(self) -> None:
        self.wait_line("^ready")

    def connected(self) -> bool:
        return any(relay["connected"] and relay["attached"] for relay in self.collector.sources()["relays"])

    def end(self) -> list[int]:
        """Ends the emission and returns the time of each number, in ns."""
        self.send_line("end")
        self.wait_line("^truth ")
        (truth,) = [line for line in self.lines if line.startswith("truth ")]
        return [int(time) for time in truth.split()[1:]]


class Link:
    """A Unix socket before the collector's, whose connections can be broken for a time."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.path = collector.folder / "link.sock"
        self.writers: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.path}"

    async def open(self) -> None:
        self.server = await asyncio.start_unix_server(self.serve, self.path)
        os.chmod(self.path, 0o600)

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.path.unlink()
        for writer in list(self.writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(self.collector.socket)
        self.writers |= {writer, there[1]}
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self.copy(reader, there[1]), self.copy(there[0], writer))

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self.writers.discard(writer)


@contextlib.asynccontextmanager
async def link_to(collector: Collector) -> AsyncIterator[Link]:
    link = Link(collector)
    await link.open()
    yield link
    await link.close()


class Reading:
    """Reads a subscription in the background."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    @property
    def numbers(self) -> list[int]:
        return [int(item.measurements["duration"]) for item in self.items if isinstance(item, dichroic.Event)]

    @property
    def gaps(self) -> list[dichroic.Gap]:
        return [item for item in self.items if isinstance(item, dichroic.Gap)]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(wait_until, condition, 60, what)

    async def more(self, rows: int = 100) -> None:
        """Waits for more rows."""
        goal = len(self.numbers) + rows
        await self.until(lambda: len(self.numbers) >= goal, f"{rows} more rows")

    async def live(self) -> None:
        """Waits for rows that were emitted after this call."""
        now = time.time_ns()
        await self.until(lambda: any(item.time > now for item in self.items if isinstance(item, dichroic.Event)), "live rows")


@contextlib.asynccontextmanager
async def reading(address: str, sync: bool = False, **options: Any) -> AsyncIterator[Reading]:
    reading = Reading()
    if sync:
        opened = threading.Event()

        def read() -> None:
            with dichroic.connect_sync(address) as client, client.subscribe(EVENT, on_gap="yield", **options) as items:
                opened.set()
                reading.items.extend(_until_end(items))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        await asyncio.to_thread(opened.wait, 60)
        yield reading
        return

    async def follow(items: Any) -> None:
        async for item in items:
            reading.items.append(item)

    async with dichroic.connect(address) as client, client.subscribe(EVENT, on_gap="yield", **options) as items:
        task = asyncio.create_task(follow(items))
        yield reading
        task.cancel()
        await asyncio.wait([task])


def _until_end(items: Any) -> Any:
    with contextlib.suppress(dichroic.DichroicError):
        yield from items


def missing(truth: list[int], reading: Reading, first: int) -> list[int]:
    """The numbers from `first` on that were not received; each of them lies in a gap. None was received twice."""
    numbers = reading.numbers
    assert len(set(numbers)) == len(numbers)
    lost = sorted(set(range(first, len(truth))) - set(numbers))
    spans = [(gap.start, gap.end) for gap in reading.gaps if gap.reason == "not subscribed"]
    assert all(gap.lost is None for gap in reading.gaps)
    silent = [n for n in lost if not any(start <= truth[n] <= end for start, end in spans)]
    assert not silent, f"{len(silent)} of {len(lost)} numbers are in no gap: {silent[:3]}…; {spans}"
    return lost


async def broken(collector: Collector, seconds: float, sync: bool = False) -> tuple[list[int], Reading]:
    """Reads over a link that breaks for a time. Returns the lost numbers."""
    with Ticks(collector) as node:
        await asyncio.to_thread(wait_until, node.connected, 60, "the node to connect")
        async with link_to(collector) as link, reading(link.address, sync) as rows:
            await rows.more()
            first = rows.numbers[0]
            await link.close()
            await asyncio.sleep(seconds)
            await link.open()
            await rows.live()
            truth = await asyncio.to_thread(node.end)
            await rows.until(lambda: len(truth) - 1 in rows.numbers, "the last number")
            return missing(truth, rows, first), rows


def run(test: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(test, 300)

    return asyncio.run(limited())


def test_a_link_that_breaks_for_a_second_loses_nothing() -> None:
    with Collector() as collector:
        lost, rows = run(broken(collector, 1.0))
        assert (lost, rows.gaps) == ([], [])
        assert collector.ledger()["balances"]


def test_a_break_longer_than_the_lease_is_a_gap_with_its_time() -> None:
    with Collector(config={"limits": {"lease_time": "1s"}}) as collector:
        lost, rows = run(broken(collector, 4.0))
        assert len(lost) > 500
        (gap,) = rows.gaps
        assert (gap.reason, gap.name, gap.lost) == ("not subscribed", EVENT, None)
        assert 1e9 < gap.end - gap.start < 60e9
        assert collector.ledger()["balances"]


def test_the_blocking_client_gets_the_same_gap() -> None:
    with Collector(config={"limits": {"lease_time": "1s"}}) as collector:
        lost, rows = run(broken(collector, 4.0, sync=True))
        assert lost
        assert [gap.reason for gap in rows.gaps] == ["not subscribed"]


def test_a_cursor_of_a_closed_subscription_resumes_without_loss() -> None:
    async def test(collector: Collector) -> None:
        with Ticks(collector) as node:
            await asyncio.to_thread(wait_until, node.connected, 60, "the node to connect")
            numbers = []
            async with dichroic.connect(collector.address) as client, client.subscribe(EVENT, on_gap="raise") as events:
                while len(numbers) < 100:
                    numbers.append(int((await events.get(60)).measurements["duration"]))
                cursor = events.cursor
            await asyncio.sleep(1)
            async with reading(collector.address, cursor=cursor) as rows:
                await rows.live()
                truth = await asyncio.to_thread(node.end)
                await rows.until(lambda: len(truth) - 1 in rows.numbers, "the last number")
            assert rows.gaps == []
            assert sorted(numbers + rows.numbers) == list(range(min(numbers), len(truth)))

    with Collector() as collector:
        run(test(collector))


def test_a_replay_without_former_demand_starts_with_a_gap() -> None:
    async def test(collector: Collector) -> None:
        with Ticks(collector) as node:
            await asyncio.to_thread(wait_until, node.connected, 60, "the node to connect")
            await asyncio.sleep(1)
            async with reading(collector.address, replay="60s") as rows:
                await rows.live()
                truth = await asyncio.to_thread(node.end)
                await rows.until(lambda: len(truth) - 1 in rows.numbers, "the last number")
            assert len(missing(truth, rows, 0)) > 100
            assert isinstance(rows.items[0], dichroic.Gap), "before the first row"
            assert len(rows.gaps) == 1

    with Collector() as collector:
        run(test(collector))


def test_a_node_that_ran_before_the_collector_is_a_gap_for_who_looks_back() -> None:
    async def test(collector: Collector) -> None:
        with Ticks(collector) as node:
            await asyncio.sleep(2)
            with collector:
                async with reading(collector.address, replay="60s") as rows:
                    await rows.live()
                    truth = await asyncio.to_thread(node.end)
                    await rows.until(lambda: len(truth) - 1 in rows.numbers, "the last number")
                assert len(missing(truth, rows, 0)) > 100

    collector = Collector()
    run(test(collector))


def test_an_event_that_no_plan_has_is_a_gap() -> None:
    async def test(collector: Collector) -> None:
        with Ticks(collector) as node:
            await asyncio.to_thread(wait_until, node.connected, 60, "the node to connect")
            began = time.time_ns()
            async with dichroic.connect(collector.address) as client:
                options = {"replay": "10s", "on_gap": "yield"}
                async with client.subscribe("shop.no_such_event", **options) as events:
                    gap = await events.get(60)
            assert isinstance(gap, dichroic.Gap)
            assert (gap.reason, gap.lost, events.stats.gaps) == ("not subscribed", None, 1)
            assert gap.start <= began <= gap.end

    with Collector() as collector, dichroic_warnings_ignored():
        run(test(collector))


@contextlib.contextmanager
def dichroic_warnings_ignored() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dichroic.UnmatchedWarning)
        yield


def test_tap_shows_the_gap() -> None:
    with Collector() as collector, Ticks(collector) as node:
        wait_until(node.connected, 60, "the node to connect")
        shown = collector.run_command("tap", EVENT, "--replay", "30s", "--limit", "1").stdout
        assert f"rows of {EVENT} lost, not subscribed from " in shown, shown
