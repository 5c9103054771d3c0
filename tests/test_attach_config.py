"""`receivers.beam.attach`: the collector keeps the nodes of its configuration attached."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from actors import total
from attach_actors import COOKIE, EMITTED, BareNode, as_before, counted
from harness.collector import Collector, dichroic_bin
from harness.process import wait_until


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def test_a_collector_attaches_to_configured_nodes_and_detaches_when_it_stops() -> None:
    with BareNode("one") as one, BareNode("two") as two:
        before = [node.snapshot() for node in (one, two)]
        with Collector(config={"receivers": {"beam": {"attach": [one.config(), two.config()]}}}) as collector:
            for node in (one, two):
                wait_until(lambda: "{dichroic," in node.snapshot()["handlers"], 15, "handlers")  # noqa: B023
            one.emit(7)
            two.emit(9)
            counted(collector, 7, instance=one.node)
            counted(collector, 9, instance=two.node)
            # A restarted node is attached again.
            two.restart()
            wait_until(lambda: "{dichroic," in two.snapshot()["handlers"], 30, "handlers after a restart")
            two.emit(2)
            wait_until(lambda: total(collector.metrics(), EMITTED, instance=two.node) == 2, 15, "two requests")
            assert collector.stop() == 0
        as_before(one, before[0])
        as_before(two, before[1], restarted=True)


def test_a_restarted_collector_takes_over_its_attached_nodes_with_their_totals() -> None:
    with BareNode() as node:
        before = node.snapshot()
        with Collector(config={"receivers": {"beam": {"attach": [node.config()]}}}) as collector:
            wait_until(lambda: "{dichroic," in node.snapshot()["handlers"], 15, "handlers")
            node.emit(7)
            counted(collector, 7)
            collector.kill()
            node.emit(5)
            collector.start()
            counted(collector, 12)
            assert collector.stop() == 0
        as_before(node, before)


def reload(collector: Collector, *entries: dict[str, object]) -> None:
    read = lambda: sum(collector.output().count(message) for message in ("configuration reloaded", "invalid configuration"))
    before = read()
    collector.config["receivers"]["beam"] = {"attach": list(entries)}
    collector.config_file.write_text(json.dumps(collector.config))
    collector.child.send_signal(signal.SIGHUP)
    wait_until(lambda: read() > before, 10, "the file to be read")


def handlers(node: BareNode) -> bool:
    return "{dichroic," in node.snapshot()["handlers"]


def attachment(node: BareNode) -> list[str]:
    """Identifies one attachment: guardian, epoch of its counts, start time."""
    return re.findall(r"(?:guardian|since|epoch) => ([^,}]+)", node.secrets().split("mode,attached")[0])


def another(first: list[str], now: list[str]) -> bool:
    """Whether `now` is a complete attachment with another epoch: a relay that detaches reports only a part of these."""
    return len(now) == len(first) == 3 and now[1] != first[1]


def test_on_sighup_new_nodes_are_attached_removed_ones_detached_and_others_kept() -> None:
    with BareNode("kept") as kept, BareNode("removed") as removed, BareNode("added") as added:
        before = {node: node.snapshot() for node in (kept, removed, added)}
        with Collector(config={"receivers": {"beam": {"attach": [kept.config(), removed.config()]}}}) as collector:
            for node in (kept, removed):
                wait_until(lambda: handlers(node), 15, "handlers")  # noqa: B023
            kept.emit(5)
            removed.emit(6)
            first = attachment(kept)
            reload(collector, added.config(), kept.config())
            wait_until(lambda: handlers(added), 15, "handlers of the new node")
            as_before(removed, before[removed])
            counted(collector, 6, instance=removed.node)
            kept.emit(2)
            added.emit(3)
            counted(collector, 7, instance=kept.node)
            counted(collector, 3, instance=added.node)
            assert len(first) == 3
            assert attachment(kept) == first
            assert "changed section takes effect" not in collector.output()
            assert collector.stop() == 0
        as_before(kept, before[kept])
        as_before(added, before[added])


def test_a_node_whose_entry_changes_is_detached_and_attached_again(tmp_path: Path) -> None:
    with BareNode() as node:
        # Loads the modules that it needs, so that they are in the snapshot.
        node.secrets()
        before = node.snapshot()
        with Collector(config={"receivers": {"beam": {"attach": [node.config()]}}}) as collector:
            wait_until(lambda: handlers(node), 15, "handlers")
            first = attachment(node)
            cookie = tmp_path / "cookie"
            cookie.write_text(COOKIE)
            cookie.chmod(0o600)
            reload(collector, {**node.config(), "cookie_file": str(cookie)})
            wait_until(lambda: another(first, attachment(node)) and handlers(node), 20, "another attachment")
            node.emit(4)
            counted(collector, 4)
            assert collector.stop() == 0
        as_before(node, before)


def test_a_node_that_is_removed_while_it_is_attached_is_detached(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    for _ in range(5):
        reload(collector, node.config())
        reload(collector)
    as_before(node, before, 30)
    reload(collector, node.config())
    wait_until(lambda: handlers(node), 30, "handlers")
    assert "already attached" not in collector.output()


def test_a_node_that_is_removed_while_its_code_is_loaded_is_detached(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    node.send_line("pause_load")
    reload(collector, node.config())
    node.wait_line("loading paused")
    reload(collector)
    # A detach that does not wait for the load finds nothing to detach, in far less than this time.
    time.sleep(1)
    node.send_line("continue_load")
    as_before(node, before)


def test_a_failure_is_logged_again_after_the_node_was_attached(collector: Collector, node: BareNode) -> None:
    detached = lambda: collector.output().count("detached by another process")
    before = detached()
    reload(collector, node.config())
    for n in (1, 2):
        wait_until(lambda: handlers(node), 30, "handlers")
        wait_until(lambda: collector.run_command("detach", *node.reach()).returncode == 0, 20, "a detached node")
        wait_until(lambda: detached() == before + n, 20, f"message {n}")  # noqa: B023


def attachment_state(collector: Collector) -> dict[str, Any]:
    """The entry of the only node in `/api/v1/sources`."""
    return collector.sources()["attachments"][0]


def refusals(node: BareNode) -> int:
    """Lines of the node's log about a wrong cookie."""
    return sum("Invalid challenge reply" in line for line in node.lines)


def test_a_wrong_cookie_is_tried_hourly_and_at_once_when_its_file_changes(tmp_path: Path) -> None:
    cookie = tmp_path / "cookie"
    cookie.write_text("AnotherSecret")
    cookie.chmod(0o600)
    with BareNode() as node:
        entry = {**node.config(), "cookie_file": str(cookie)}
        with Collector(config={"receivers": {"beam": {"attach": [entry]}}}) as collector:
            wait_until(lambda: attachment_state(collector)["state"] == "refused", 60, "the refusal")
            begin = attachment_state(collector)
            assert "does not accept the cookie" in begin["reason"]
            assert 3500 < begin["next_attempt_seconds"] <= 3600
            assert "retrying hourly" in collector.output()
            lint = collector.run_command("lint").stdout
            assert re.search(r"^warning: bare@127.0.0.1: .*cookie.*; next attempt in \d+ s", lint, re.MULTILINE), lint
            # Longer than the former pause, and than that between examinations of the node.
            enough = begin["next_attempt_seconds"] - 20
            wait_until(lambda: attachment_state(collector)["next_attempt_seconds"] < enough, 60, "20 s")
            assert refusals(node) == 2, node.output()
            cookie.write_text(COOKIE)
            wait_until(lambda: handlers(node), 15, "handlers")
            assert refusals(node) == 2
            wait_until(lambda: attachment_state(collector)["state"] == "attached", 15, "the state")
            assert collector.stop() == 0


def test_a_refused_node_that_restarts_with_the_right_cookie_is_attached(tmp_path: Path) -> None:
    with BareNode() as node:
        home = node.folder / ".erlang.cookie"
        with Collector(config={"receivers": {"beam": {"attach": [node.config()]}}}) as collector:
            wait_until(lambda: handlers(node), 30, "handlers")
            node.kill()
            home.chmod(0o600)
            home.write_text("AnotherSecret")
            home.chmod(0o400)
            node.start()
            wait_until(lambda: attachment_state(collector)["state"] == "refused", 60, "the refusal")
            node.kill()
            home.chmod(0o600)
            home.write_text(COOKIE)
            home.chmod(0o400)
            node.start()
            wait_until(lambda: handlers(node), 60, "handlers")


def test_an_invalid_file_detaches_no_node() -> None:
    with BareNode() as node, Collector(config={"receivers": {"beam": {"attach": [node.config()]}}}) as collector:
        wait_until(lambda: handlers(node), 15, "handlers")
        first = attachment(node)
        reload(collector, node.config(), node.config())
        wait_until(lambda: "duplicate node" in collector.output(), 10, "the refusal")
        node.emit(3)
        counted(collector, 3)
        assert attachment(node) == first


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"node": "nohost"}, "name@host"),
        ({"node": "a@127.0.0.1", "port": 1, "epmd": "127.0.0.1:2"}, "epmd and port exclude each other"),
        ({"node": "a@127.0.0.1", "cookie": "secret"}, "cookie_file"),
        ({"node": "a@127.0.0.1", "transport": "pigeon"}, "socket"),
    ],
)
def test_an_invalid_entry_is_reported_with_a_reason(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    file = tmp_path / "dichroic.yaml"
    file.write_text(json.dumps({"receivers": {"beam": {"attach": [entry]}}}))
    done = subprocess.run([str(dichroic_bin()), "check", "--config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert message in done.stderr
