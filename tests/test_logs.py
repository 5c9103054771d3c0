"""Log records of a node in a subscription, and the effect of very many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import dichroic
from actors import RelayNode, total, wait_total
from harness.collector import Collector
from harness.process import wait_until


class Logs(RelayNode):
    """`tests/logs.erl`: a node that logs on command."""

    name = module = "logs"

    def wait_ready(self) -> None:
        self.wait_line("^ready")
        wait_until(lambda: self.collector.sources()["relays"][0]["attached"] > 0, 20, "the relay to have its plan")

    def command(self, command: str, seconds: float = 60) -> None:
        done = self.lines.count("done")
        self.send_line(command)
        wait_until(lambda: self.lines.count("done") > done, seconds, f"{command} to be done: {self.output()}")


def generation(collector: Collector) -> int:
    """The generation of the last plan that the node confirmed."""
    return int(collector.sources()["relays"][0]["generation"])


def reading(collector: Collector, then: Callable[[], None], enough: Callable[[list], bool]) -> list:
    """Subscribes to logs, calls `then` when the node has the plan with them, and reads until `enough`."""

    async def read() -> list:
        got: list = []
        loop = asyncio.get_running_loop()
        before = generation(collector)
        async with dichroic.connect(collector.address) as client:
            async with client.subscribe("**", kind="log", on_gap="yield", buffer=200_000) as records:
                planned = lambda: generation(collector) > before
                await loop.run_in_executor(None, wait_until, planned, 20, "the node to confirm the plan with logs")
                done = loop.run_in_executor(None, then)
                async for record in records:
                    got.append(record)
                    if enough(got):
                        break
                await done
        return got

    return asyncio.run(asyncio.wait_for(read(), 90))


def records(got: list) -> list[dichroic.Log]:
    return [record for record in got if isinstance(record, dichroic.Log)]


def test_log_records_have_severity_body_ids_and_attributes():
    def then() -> None:
        node.command("info it went well")
        node.command("error it broke")

    with Collector() as collector, Logs(collector) as node:
        info, error = reading(collector, then, lambda got: len(got) == 2)
        assert (info.severity, info.body, info.trace_id) == (9, "it went well", None)
        assert info.metadata["request_id"] == "r-1"
        assert info.source.name == "logs@127.0.0.1"
        assert (error.severity, error.body) == (17, "it broke")
        assert (error.trace_id, error.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
        assert str(error.metadata["beam.pid"]).startswith("<0.")
        assert collector.ledger()["balances"]


def test_a_crash_is_a_record_and_is_counted_by_its_origin():
    with Collector() as collector, Logs(collector) as node:

        def crash() -> None:
            node.command("crash")

        got = reading(collector, crash, lambda got: len(got) == 2)
        assert {record.severity for record in got} == {17}
        assert all("on_purpose" in record.body for record in got), [record.body for record in got]
        wait_total(collector, 1, "process_crashes_total", initial_call="logs:init/1", **{"class": "error"})
        wait_total(collector, 2, "log_messages_total", level="error")


def test_levels_below_the_configured_one_are_not_sent_but_counted():
    config = {"receivers": {"beam": {"logs": {"level": "error"}}}}

    def then() -> None:
        for _ in range(10):
            node.command("info below the level")
        node.command("error it broke")

    with Collector(config=config) as collector, Logs(collector) as node:
        got = reading(collector, then, lambda got: len(got) == 1)
        assert [record.body for record in got] == ["it broke"]
        wait_total(collector, 10, "log_messages_total", level="info")


def test_retained_logs_are_replayed_to_a_later_subscriber():
    async def read(collector: Collector) -> dichroic.Log:
        async with dichroic.connect(collector.address) as client:
            async with client.subscribe("**", kind="log", replay="60s", on_gap="yield") as stream:
                # The start of the node, before it had a plan.
                gap, record = await stream.get(60), await stream.get(60)
                assert (gap.reason, gap.lost) == ("not subscribed", None)
                assert gap.end <= record.time
                return record

    with Collector(config={"exporters": {"stream": {"retain_logs": True}}}) as collector, Logs(collector) as node:
        node.command("error long ago")
        wait_until(lambda: collector.sources()["relays"][0]["events"] > 0, 20, "the record to be retained")
        assert asyncio.run(asyncio.wait_for(read(collector), 60)).body == "long ago"


def test_excess_logs_are_dropped_and_counted_and_event_counts_stay_exact():
    lines, requests = 100_000, 20_000

    accounted = 0

    def all_accounted(got: list) -> bool:
        nonlocal accounted
        accounted += 1 if isinstance(got[-1], dichroic.Log) else got[-1].lost or 0
        return accounted == lines

    with Collector() as collector, Logs(collector) as node:
        got = reading(collector, lambda: node.command(f"storm {lines} {requests}"), all_accounted)
        seen, gaps = records(got), [item for item in got if isinstance(item, dichroic.Gap)]
        assert gaps, "100,000 lines at once exceed the limits of a node"
        assert {gap.reason for gap in gaps} <= {"relay overload", "rate limit", "relay_overload", "rate_limit"}
        assert len(seen) + sum(gap.lost or 0 for gap in gaps) == lines
        wait_total(collector, requests, "http_server_request_duration_seconds_count")
        wait_total(collector, lines, "log_messages_total", level="error")
        assert total(collector.metrics(), "vm_gc_count_total") >= 0
        assert collector.ledger()["balances"]
