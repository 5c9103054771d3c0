"""`dichroic discover` and `dichroic lint` of an unprepared node: what they find, and that nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attach_actors import ECTO, REPO, Attacher, BareNode, as_before, compile_modules
from harness.collector import Collector, dichroic_bin
from harness.process import Process, wait_until


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def test_discover_finds_the_events_of_the_shop_and_how_often_they_fire(collector: Collector, any_node: BareNode) -> None:
    any_node.send_line("go 100")
    any_node.wait_line("serving 100", 60)
    done = collector.run_command("discover", *any_node.reach(), "--live", "2s", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    events = {event["event"]: event for event in found["events"]}
    assert "shop" in events["phoenix.endpoint.stop"]["modules"]
    assert events["phoenix.endpoint.stop"]["pack"] == "phoenix"
    assert 50 < events["phoenix.endpoint.stop"]["per_second"] < 150
    assert events["my_app.repo.query"]["pack"] == "ecto"
    assert events["my_app.repo.query"]["count"] > 100
    assert events["vm.memory"]["likely"]
    assert {"phoenix", "ecto", "oban", "vm"} <= set(found["packs"])
    text = collector.run_command("discover", *any_node.reach())
    assert re.search(r"^phoenix\.endpoint\.stop +phoenix +0 ", text.stdout, re.MULTILINE), text.stdout


def test_discover_finds_events_of_ecto_repositories_that_no_code_names(collector: Collector, tmp_path: Path) -> None:
    compile_modules(tmp_path, ECTO, REPO)
    boot = "_ = [code:ensure_loaded(M) || M <- ['Elixir.Ecto.Repo', 'Elixir.Stock.Repo']],"
    with BareNode("stock", also=[tmp_path], boot=boot) as node:
        done = collector.run_command("discover", *node.reach(), "--format", "json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["ecto"] == ["stock.repo.query"]
        event = next(event for event in found["events"] if event["event"] == "stock.repo.query")
        assert event["pack"] == "ecto"
        assert "hidden" not in done.stdout


def test_discover_finds_events_with_dynamic_names_when_they_fire(collector: Collector, node: BareNode) -> None:
    node.send_line("dynamic made.at.run.time")
    done = collector.run_command("discover", *node.reach(), "--live", "1s", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uncounted"] == []
    assert found["counted_late"] == ["made.at.run.time"]
    event = next(event for event in found["events"] if event["event"] == "made.at.run.time")
    # Fifty per second, from when they are first seen.
    assert 20 < event["count"] <= 60
    assert node.snapshot()["traced"] == "[{flags,[]},{traced,false}]"


def test_discover_leaves_nothing_behind(collector: Collector, any_node: BareNode) -> None:
    before = any_node.snapshot()
    for args in [[], ["--live", "1s"]]:
        done = collector.run_command("discover", *any_node.reach(), *args)
        assert done.returncode == 0, done.stderr
        as_before(any_node, before)


def test_lint_of_a_node_names_events_without_a_subscription(collector: Collector, node: BareNode) -> None:
    node.send_line("dynamic made.at.run.time")
    node.send_line("go 100")
    node.wait_line("serving 100", 60)
    bare = collector.run_command("lint", *node.reach(), "--live", "1s", "--format", "json")
    assert bare.returncode == 0, bare.stderr
    findings = [f for f in json.loads(bare.stdout)["findings"] if f["check"] == "unsubscribed"]
    assert [(f["level"], f["subject"]) for f in findings] == [("warning", node.node)]
    assert f"dichroic attach {node.node}" in findings[0]["message"]
    with Attacher(node, collector):
        done = collector.run_command("lint", *node.reach(), "--live", "2s", "--format", "json")
        text = collector.run_command("lint", *node.reach(), "--live", "1s")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    findings = {f["subject"]: f for f in document["findings"] if f["check"] == "unsubscribed"}
    assert "no pack covers it" in findings["made.at.run.time"]["message"]
    assert not any(subject.endswith("endpoint.stop") for subject in findings), findings
    assert document["notes"] == sum(f["level"] == "note" for f in document["findings"])
    assert re.search(r"^note: made\.at\.run\.time \(bare@127\.0\.0\.1\): emitted \d+ times", text.stdout, re.MULTILINE)
    node.send_line("stop")
    node.wait_line(r"^truth (\{.*\})$", 30)


class Listener(Process):
    """`dichroic discover --live`, for tests that interrupt it."""

    name = "listener"

    def __init__(self, node: BareNode):
        super().__init__()
        self.node = node

    def argv(self) -> list[str]:
        return [str(dichroic_bin()), "discover", *self.node.reach(), "--live", "60s"]


def test_a_killed_discover_leaves_nothing_behind(node: BareNode) -> None:
    before = node.snapshot()
    with Listener(node) as listener:
        wait_until(lambda: "dichroic_discover" in node.snapshot()["handlers"], 10, "the counting handler")
        listener.kill()
        as_before(node, before)
