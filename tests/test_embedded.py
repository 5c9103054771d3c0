"""Nodes in embedded mode, as releases run by default: with the relay in the release, started or not, and without it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from attach_actors import Attacher, as_before, counted
from conftest import quiet
from embedded_actors import EmbeddedNode
from harness.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(params=["permanent", "load", None], ids=["relay_started", "relay_loaded", "no_relay"])
def embedded(request: pytest.FixtureRequest) -> Iterator[EmbeddedNode]:
    yield from quiet(EmbeddedNode(request.param))


def test_discover_and_lint_leave_a_node_in_embedded_mode_as_it_was(collector: Collector, embedded: EmbeddedNode) -> None:
    before = embedded.snapshot()
    assert "dichroic_connection" in before["modules"] or embedded.relay is None
    for command in [["discover"], ["discover", "--live", "1s"], ["lint"], ["discover"]]:
        done = collector.run_command(command[0], *embedded.reach(), *command[1:], "--format", "json")
        assert done.returncode == 0, done.stderr
        if command[0] == "discover":
            assert "phoenix.endpoint.stop" in [event["event"] for event in json.loads(done.stdout)["events"]]
        as_before(embedded, before)


def test_attach_leaves_a_release_with_the_relay_as_it_was(collector: Collector, embedded: EmbeddedNode) -> None:
    if embedded.relay is None:
        return
    before = embedded.snapshot()
    for _ in range(2):
        done = collector.run_command("attach", *embedded.reach(), "--socket", str(collector.socket))
        if embedded.relay == "permanent":
            assert (done.returncode, "as part of its application" in done.stdout) == (0, True), done.stderr
        else:
            assert (done.returncode, "the relay is part of its application" in done.stderr) == (1, True), done.stderr
        done = collector.run_command("detach", *embedded.reach())
        assert done.returncode == 1
        as_before(embedded, before)


def test_attach_and_detach_leave_a_release_without_the_relay_as_it_was(collector: Collector) -> None:
    for node in quiet(EmbeddedNode(None)):
        before = node.snapshot()
        for n in (1, 2):
            with Attacher(node, collector) as attacher:
                node.emit(5 * n)
                counted(collector, 5 * n)
                # A visit while the relay is attached.
                done = collector.run_command("discover", *node.reach())
                assert done.returncode == 0, done.stderr
                assert attacher.interrupt() == 0
            as_before(node, before)
