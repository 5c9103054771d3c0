"""kill -9 and restart of each actor: counts and gaps afterwards."""

import asyncio
import random
import time

import dichroic
from actors import FixedNode, total, wait_total
from harness.collector import Collector
from harness.demo import Embedder, Shop
from harness.process import http_get, wait_until

REQUESTS = "http_server_request_duration_seconds_count"


def relay(collector: Collector) -> dict:
    relays = collector.sources()["relays"]
    assert len(relays) == 1, relays
    return relays[0]


def test_a_collector_killed_repeatedly_under_load_ends_with_exact_counts():
    with Collector() as collector, Shop(collector, rate=200) as shop:
        for _ in range(4):
            wait_until(lambda: total(collector.metrics(), REQUESTS, runtime="beam") > 0, 20, "requests on the page")
            collector.restart()
        wait_until(lambda: relay(collector)["connected"], 20, "the relay to reconnect")
        shop.stop()
        assert shop.truth["requests"] > 100
        wait_total(collector, shop.truth["requests"], REQUESTS, runtime="beam")
        assert collector.ledger()["balances"]


def test_a_collector_killed_at_random_times_neither_duplicates_nor_loses_counts():
    kills = 100
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with Collector() as collector, Shop(collector, rate=200) as shop:
        highest = 0.0
        for kill in range(kills):
            if kill % 10 == 5:
                wait_until(lambda: total(collector.metrics(), REQUESTS, runtime="beam") > 0, 20, "the relay to connect in between")
            # Often before the relay reconnects, or during its first flush.
            time.sleep(chance.choice([0, 0.02, 0.1, 0.3]) * chance.random())
            status, page = http_get(f"http://{collector.prometheus}/metrics")
            seen = total(page, REQUESTS, runtime="beam") if status == 200 else 0
            assert seen == 0 or seen >= highest, f"{seen} after {highest} (seed {seed})"
            highest = max(highest, seen)
            collector.restart()
        wait_until(lambda: relay(collector)["connected"], 20, "the relay to reconnect")
        shop.stop()
        assert shop.truth["requests"] > 10 * kills
        wait_total(collector, shop.truth["requests"], REQUESTS, runtime="beam")
        assert collector.ledger()["balances"], f"seed {seed}"


def test_a_restarted_collector_continues_the_counts_without_a_reset():
    with Collector() as collector, FixedNode(collector, 100, [5]):
        wait_total(collector, 100, REQUESTS)
        accept = "application/openmetrics-text;version=1.0.0"
        created = [line for line in collector.metrics(accept).splitlines() if "request_duration_seconds_created" in line]
        assert created
        collector.restart()
        wait_total(collector, 100, REQUESTS)
        after = [line for line in collector.metrics(accept).splitlines() if "request_duration_seconds_created" in line]
        assert after == created


def test_a_killed_node_is_reported_as_such_and_restarts_with_a_new_start_time():
    with Collector() as collector, FixedNode(collector, 50, [5]) as node:
        wait_total(collector, 50, REQUESTS)
        node.kill()
        wait_until(lambda: not relay(collector)["connected"], 20, "the relay to be disconnected")
        assert "goodbye" in relay(collector)["end"].lower(), relay(collector)["end"]
        assert total(collector.metrics(), REQUESTS) == 50, "its series are kept for a while"
        node.requests = 7
        node.start()
        wait_total(collector, 7, REQUESTS)
        assert collector.ledger()["balances"]


def test_a_killed_scrape_target_is_down_and_its_series_expire_and_return():
    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up", job="workers") == 1, 20, "the target to be up")
        port = embedder.url.rsplit(":", 1)[1].split("/")[0]
        embedder.kill()
        wait_until(lambda: total(collector.metrics(), "up", job="workers") == 0, 20, "the target to be down")
        wait_until(lambda: "embedder_texts_total" not in collector.metrics(), 5, "its series to expire")
        embedder.port = int(port)
        embedder.start()
        wait_until(lambda: "embedder_texts_total" in collector.metrics(), 20, "its series to return")
        assert total(collector.metrics(), "up", job="workers") == 1
        assert collector.ledger()["balances"]


KEEP = {"exporters": {"stream": {"retain": ["phoenix.endpoint.stop"]}}}


def test_a_subscriber_resumes_by_cursor_without_loss_or_duplicates():
    milliseconds = list(range(1, 2_001))

    async def read(collector: Collector, upto: int, cursor=None):
        seen = []
        async with dichroic.connect(collector.address) as client:
            replay = None if cursor else "60s"
            options = {"cursor": cursor, "replay": replay, "on_gap": "raise" if cursor else "yield"}
            async with client.subscribe("phoenix.endpoint.stop", **options) as events:
                async for event in events:
                    if isinstance(event, dichroic.Gap):
                        # The start of the node, before it had a plan.
                        assert (event.reason, event.lost, seen) == ("not subscribed", None, [])
                        continue
                    seen.append(event.measurements["duration"])
                    if len(seen) == upto:
                        return seen, events.cursor
        return seen, cursor

    async def both(collector: Collector):
        first, cursor = await asyncio.wait_for(read(collector, 777), 120)
        second, _ = await asyncio.wait_for(read(collector, len(milliseconds) - 777, cursor), 120)
        return first + second

    with Collector(config=KEEP) as collector, FixedNode(collector, len(milliseconds), milliseconds):
        wait_total(collector, len(milliseconds), REQUESTS)
        durations = asyncio.run(both(collector))
    # A node sends per scheduler, so rows of a process that migrated may be out of order.
    assert sorted(round(d / 1e6) for d in durations) == milliseconds


def test_a_subscriber_gets_a_gap_after_a_restart_of_the_collector_and_continues():
    async def follow(collector: Collector) -> list:
        got: list = []
        async with dichroic.connect(collector.address) as client:
            async with client.subscribe("phoenix.endpoint.stop", on_gap="yield") as events:
                loop = asyncio.get_running_loop()
                async for row in events:
                    got.append(row)
                    if len(got) == 1:
                        await loop.run_in_executor(None, collector.restart)
                    if isinstance(got[-1], dichroic.Event) and any(isinstance(r, dichroic.Gap) for r in got):
                        return got
        return got

    with Collector() as collector, Shop(collector, rate=50):
        wait_until(lambda: total(collector.metrics(), REQUESTS) > 0, 20, "requests on the page")
        rows = asyncio.run(asyncio.wait_for(follow(collector), 120))
        gap = next(row for row in rows if isinstance(row, dichroic.Gap))
        assert gap.lost is None, "the number is unknown"
