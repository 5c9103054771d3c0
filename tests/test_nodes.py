"""Several nodes at one collector: identities, restarts, broken connections, code that changes under load."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

import pytest
from actors import RelayNode, samples, total, wait_total
from attach_actors import Epmd
from harness.collector import Collector
from harness.process import wait_until

REQUESTS = "http_server_request_duration_seconds_count"


class Node(RelayNode):
    """`tests/nodes.erl` with a name, which other nodes can connect to when it has an epmd."""

    module = "nodes"

    def __init__(self, collector: Collector, name: str, service: str = "shop", epmd: Epmd | None = None, args: Sequence[str] = ()):
        self.name = name
        super().__init__(collector, service)
        self.epmd, self.args = epmd, list(args)

    def vm_arguments(self) -> Sequence[str]:
        return self.args if self.epmd else [*super().vm_arguments(), *self.args]

    def environment(self) -> dict[str, str]:
        epmd = {"ERL_EPMD_PORT": str(self.epmd.port), "ERL_EPMD_ADDRESS": "127.0.0.1"} if self.epmd else {}
        return {**super().environment(), **epmd}

    def wait_ready(self) -> None:
        self.wait_line("^ready")
        wait_until(lambda: self.relay()["connected"] and self.relay()["attached"] > 0, 20, f"the plan of {self.name}")

    def relay(self) -> dict:
        mine = [r for r in self.collector.sources()["relays"] if r["node"] == self.node and r["os_pid"] == self.pid]
        assert len(mine) == 1, mine
        return mine[0]

    def command(self, command: str, seconds: float = 60) -> str:
        before = len(self.lines)
        self.send_line(command)

        def answer() -> str | None:
            done = [match[1] for line in self.lines[before:] if (match := re.match("done (.*)", line))]
            return done[0] if done else None

        return wait_until(answer, seconds, f"{command} to be done: {self.output()}")

    def emit(self, requests: int) -> None:
        assert self.command(f"emit {requests}") == str(requests)


def counts(collector: Collector) -> dict[tuple[str, str], float]:
    """Returns requests by service and node."""
    found: dict[tuple[str, str], float] = {}
    for name, labels, value in samples(collector.metrics()):
        if name == REQUESTS:
            identity = (labels["job"], labels["instance"])
            found[identity] = found.get(identity, 0) + value
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def loaded(application: str) -> list[str]:
    """Arguments of a VM that has loaded this application before the relay starts."""
    return ["-eval", f'application:load({{application, {application}, [{{vsn, "0"}}]}}).']


def test_a_node_with_phoenix_and_one_with_bandit_share_a_metric(collector: Collector):
    with (
        Node(collector, "phoenix", args=loaded("phoenix")) as phoenix,
        Node(collector, "bandit", service="files", args=loaded("bandit")) as bandit,
    ):
        phoenix.emit(100)
        assert phoenix.command("bandit 100") == "100"
        assert bandit.command("bandit 40") == "40"
        wait_until(
            lambda: counts(collector) == {("shop", phoenix.node): 100, ("files", bandit.node): 40} or None,
            20,
            f"each request once: {counts(collector)}",
        )
        wait_total(collector, 100, "bandit_request_duration_seconds_count", job="shop")


def test_events_before_the_first_collector_are_on_its_page():
    collector = Collector()

    class EarlyNode(Node):
        def wait_ready(self) -> None:
            self.wait_line("^ready")

    metrics = ["-dichroic", "metrics", "{nodes,metrics,[]}"]
    with EarlyNode(collector, "early", args=[*loaded("phoenix"), *metrics]) as node:
        node.emit(1000)
        assert node.command("checkout 10 gold") == "10"
        with collector:
            wait_total(collector, 1000, REQUESTS, job="shop", instance=node.node)
            wait_total(collector, 10, "shop_checkout_stop_count_total", job="shop", plan="gold")
            node.emit(100)
            wait_total(collector, 1100, REQUESTS, job="shop", instance=node.node)


def test_a_node_named_later_is_one_source_with_its_counts(collector: Collector):
    class UnnamedNode(Node):
        named = False

        @property
        def node(self) -> str:
            return super().node if self.named else "nonode@nohost"

        def argv(self) -> Sequence[str]:
            argv = list(super().argv())
            at = argv.index("-name")
            return [*argv[:at], *argv[at + 4 :]]

    with UnnamedNode(collector, "late") as node:
        node.emit(1000)
        wait_until(lambda: counts(collector) == {("shop", "nonode@nohost"): 1000} or None, 20, "requests of a node without a name")
        node.named = True
        assert node.command(f"name {node.node}") == f"'{node.node}'"
        node.emit(100)
        wait_until(lambda: counts(collector) == {("shop", node.node): 1100} or None, 20, f"its name: {counts(collector)}")
        assert node.relay()["connected"]


def test_nodes_of_two_services_on_one_host_are_separate_sources(collector: Collector):
    with (
        Node(collector, "a") as a,
        Node(collector, "b") as b,
        Node(collector, "c") as c,
        Node(collector, "d", service="billing") as d,
    ):
        for node, requests in ((a, 1000), (b, 2000), (c, 3000), (d, 400)):
            node.emit(requests)
        expected = {
            ("shop", "a@127.0.0.1"): 1000,
            ("shop", "b@127.0.0.1"): 2000,
            ("shop", "c@127.0.0.1"): 3000,
            ("billing", "d@127.0.0.1"): 400,
        }
        wait_until(lambda: counts(collector) == expected, 20, f"{expected}; {counts(collector)}")
        ledger = collector.ledger()
        assert ledger["balances"]
        accounts = {a["source"]: a for a in ledger["ingest"] if a["protocol"] == "beam" and a["signal"] == "metrics"}
        assert sorted(accounts) == [node.node for node in (a, b, c, d)]
        assert all(account["balances"] and account["applied"] > 0 for account in accounts.values())


def test_a_restarted_node_starts_at_zero_and_the_others_continue(collector: Collector):
    with Node(collector, "a") as a, Node(collector, "b") as b:
        a.emit(1000)
        b.emit(1000)
        wait_total(collector, 2000, REQUESTS)
        for end in (a.kill, a.stop):
            end()
            a.start()
            a.emit(40)
            wait_until(
                lambda: counts(collector) == {("shop", a.node): 40, ("shop", b.node): 1000},
                20,
                f"40 of the new node and no other; {counts(collector)}",
            )
        b.emit(8)
        wait_total(collector, 1008, REQUESTS, instance=b.node)
        assert collector.ledger()["balances"]


def test_connections_that_break_under_load_neither_duplicate_nor_lose_counts(collector: Collector):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with Node(collector, "a") as a, Node(collector, "b") as b:
        emitted = {a: 0, b: 0}
        for _ in range(8):
            node = chance.choice([a, b])
            for each in (a, b):
                requests = 4 * chance.randrange(1, 2000)
                each.emit(requests)
                emitted[each] += requests
            node.command("cut")
        for node, requests in emitted.items():
            wait_total(collector, requests, REQUESTS, instance=node.node)
        wait_until(lambda: a.relay()["attempt"] + b.relay()["attempt"] >= 10, 20, f"reconnections (seed {seed})")
        wait_until(lambda: a.relay()["connected"] and b.relay()["connected"], 20, "both to reconnect")
        assert collector.ledger()["balances"], f"seed {seed}"


def test_code_that_is_replaced_under_load_is_counted_exactly(collector: Collector):
    with Node(collector, "a") as a:
        emitted = int(a.command("upgrade 30"))
        assert emitted > 1000
        wait_total(collector, emitted, REQUESTS)
        relay = [text for text in str(collector.ledger()).split("'") if "handler_failures" in text or "reattached" in text]
        assert relay == [], "no handler was lost"


def test_nodes_of_a_cluster_report_their_distribution_queues(collector: Collector):
    with Epmd() as epmd, Node(collector, "a", epmd=epmd) as a, Node(collector, "b", epmd=epmd) as b:
        assert a.command(f"join {b.node}") == "true"
        peer = {"instance": a.node, "peer": b.node}

        def traffic() -> bool:
            a.command(f"talk {b.node}")
            page = collector.metrics()
            return total(page, "vm_distribution_output_bytes_total", **peer) > 0 and any(
                n == "vm_distribution_queue_bytes" and peer.items() <= have.items() for n, have, _ in samples(page)
            )

        wait_until(traffic, 40, "bytes between the nodes")
        b.kill()
        wait_until(
            lambda: not any(r["connected"] for r in collector.sources()["relays"] if r["node"] == b.node),
            20,
            "b to disconnect",
        )


def test_metrics_of_the_vm_are_on_the_page(collector: Collector):
    with Node(collector, "a"):
        names = {
            "vm_gc_count_total",
            "vm_gc_reclaimed_bytes_total",
            "vm_reductions_total",
            "vm_context_switches_total",
            "vm_io_input_bytes_total",
            "vm_uptime_seconds",
            "vm_scheduler_utilization_ratio",
            "vm_scheduler_run_queue_length",
            "vm_active_tasks",
            "vm_schedulers_online",
            "vm_persistent_term_count",
            "vm_ets_count",
            "vm_process_mailbox_messages",
            "vm_info",
        }

        def missing() -> set[str]:
            return names - {name for name, _, _ in samples(collector.metrics())}

        wait_until(lambda: not missing(), 40, f"{missing()} on the page")
        page = collector.metrics()
        assert 0 < total(page, "vm_uptime_seconds") < 120
        assert 0 <= total(page, "vm_scheduler_utilization_ratio", scheduler="1") <= 1.001


def test_app_metrics_are_on_the_page_and_survive_a_restart_of_the_collector(collector: Collector):
    with Node(collector, "a", args=["-dichroic", "metrics", "{nodes,metrics,[]}"]) as a:
        a.command("checkout 30 gold")
        a.command("checkout 5 trial")
        for _ in range(2):
            wait_total(collector, 30, "shop_checkout_stop_count_total", plan="gold")
            wait_total(collector, 5, "shop_checkout_stop_count_total", plan="trial")
            wait_total(collector, 105, "shop_checkout_stop_size_bytes_total")
            wait_total(collector, 30, "shop_checkout_stop_duration_seconds_count")
            page = collector.metrics()
            assert total(page, "shop_checkout_stop_duration_seconds_bucket", le="0.01") == 0
            assert total(page, "shop_checkout_stop_duration_seconds_bucket", le="0.1", plan="gold") == 30
            assert abs(total(page, "shop_checkout_stop_duration_seconds_sum") - 1.5) < 1e-9
            assert "# HELP shop_checkout_stop_duration_seconds Time of a checkout." in page
            collector.restart()
        assert collector.ledger()["balances"]
