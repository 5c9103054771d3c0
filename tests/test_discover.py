"""`dichroic discover` and `dichroic lint` of an unprepared node: what they find, and that nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attach_actors import ECTO, REPO, Attacher, BareNode, as_before, compile_modules
from harness.collector import Collector, dichroic_bin
from harness.process import Process, wait_until

T = TypeVar("T")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


class Discovery(Process):
    """`dichroic discover --live` in the background."""

    name = "discovery"
    stop_seconds = 120.0

    def __init__(self, node: BareNode, seconds: int, *args: str):
        super().__init__()
        self.node = node
        self.args = ["--live", f"{seconds}s", *args]

    def argv(self) -> list[str]:
        return [str(dichroic_bin()), "discover", *self.node.reach(), *self.args]

    def result(self) -> dict[str, Any]:
        assert self.child.wait(self.stop_seconds) == 0, self.output()
        return wait_until(lambda: json.loads(self.lines[-1]), 10, "the document")


def counting(node: BareNode, event: str) -> bool:
    """Whether a discovery counts the event, whose name has commas."""
    ids = re.findall(r"\{(dichroic_visit|\{dichroic_visit,\d+\}),\[([^\]]*)\]\}", re.sub(r"\s", "", node.snapshot()["handlers"]))
    return event in [name for _, name in ids]


def discover_during(node: BareNode, act: Callable[[], T]) -> tuple[dict[str, Any], T]:
    """Returns the result of a discovery that counted from before `act` until after it, and the result of `act`.

    On a slow machine the discovery may end too early; then a longer one follows. `act` may return None in that case.
    """
    for seconds in (5, 20, 80):
        node.send_line("load shop")
        node.snapshot()
        with Discovery(node, seconds, "--format", "json") as discovery:
            wait_until(lambda: counting(node, "phoenix,endpoint,stop"), 20, "the counting handler")
            done = act()
            if done is not None and counting(node, "phoenix,endpoint,stop"):
                return discovery.result(), done
        node.restart()
    raise AssertionError("80 s were not enough")


def test_discover_finds_the_events_of_the_shop_and_how_often_they_fire(collector: Collector, any_node: BareNode) -> None:
    def serve() -> dict[str, int]:
        any_node.send_line("go 100")
        any_node.wait_line("serving 100", 60)
        for _ in range(10):
            any_node.snapshot()
        any_node.send_line("stop")
        return json.loads(any_node.wait_line(r"^truth (\{.*\})$", 30)[1])

    found, truth = discover_during(any_node, serve)
    events = {event["event"]: event for event in found["events"]}
    assert "shop" in events["phoenix.endpoint.stop"]["modules"]
    assert events["phoenix.endpoint.stop"]["pack"] == "phoenix"
    assert events["phoenix.endpoint.stop"]["count"] == truth["requests"] > 0
    rate = truth["requests"] / found["live_seconds"]
    assert events["phoenix.endpoint.stop"]["per_second"] == pytest.approx(rate)
    assert found["live_seconds"] >= 5
    assert events["my_app.repo.query"]["pack"] == "ecto"
    assert events["my_app.repo.query"]["count"] == truth["queries"] > 0
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


def test_discover_finds_events_with_dynamic_names_when_they_fire(node: BareNode) -> None:
    def emit() -> bool | None:
        node.send_line("dynamic made.at.run.time 1")
        # The first emission is found by the trace. The later ones are counted.
        wait_until(lambda: counting(node, "made,at,run,time") or not counting(node, "phoenix,endpoint,stop"), 20, "a handler")
        node.send_line("dynamic made.at.run.time 50")
        node.wait_line("emitted made.at.run.time 50 times")
        return counting(node, "made,at,run,time") or None

    found, _ = discover_during(node, emit)
    assert found["uncounted"] == []
    assert found["counted_late"] == ["made.at.run.time"]
    assert found["trace_limited"] is False
    event = next(event for event in found["events"] if event["event"] == "made.at.run.time")
    assert event["count"] == 50
    assert 0 < event["counted_seconds"] < found["live_seconds"]
    assert event["per_second"] == pytest.approx(50 / event["counted_seconds"])
    assert node.snapshot()["traced"] == "[{flags,[]},{traced,false}]"


def test_an_event_with_a_dynamic_name_that_fires_once_is_listed_as_not_counted(node: BareNode) -> None:
    def emit() -> bool:
        node.send_line("dynamic made.once 1")
        node.wait_line("emitted made.once 1 times")
        return True

    found, _ = discover_during(node, emit)
    assert (found["uncounted"], found["counted_late"]) == (["made.once"], [])
    assert "made.once" in [event["event"] for event in found["events"]]


def test_discover_reports_that_the_node_emits_too_many_dynamic_names(collector: Collector, node: BareNode) -> None:
    def emit() -> bool:
        for n in range(501):
            node.send_line(f"dynamic made.n{n} 1")
        node.wait_line("emitted made.n500 1 times", 60)
        return True

    found, _ = discover_during(node, emit)
    assert found["trace_limited"] is True
    assert len(found["uncounted"]) == 500


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
    assert re.search(r"^note: made\.at\.run\.time \(bare@127\.0\.0\.1\): emitted (once|\d+ times) in", text.stdout, re.MULTILINE)
    node.send_line("stop")
    node.wait_line(r"^truth (\{.*\})$", 30)


def test_a_killed_discover_leaves_nothing_behind(node: BareNode) -> None:
    before = node.snapshot()
    with Discovery(node, 60) as listener:
        wait_until(lambda: "dichroic_visit" in node.snapshot()["handlers"], 10, "the counting handler")
        listener.kill()
        as_before(node, before)


def test_a_discovery_during_another_is_refused_and_disturbs_neither_node_nor_discovery(
    collector: Collector, node: BareNode
) -> None:
    before = node.snapshot()
    with Discovery(node, 10, "--format", "json") as first:
        wait_until(lambda: "dichroic_visit" in node.snapshot()["handlers"], 20, "the counting handler")
        for _ in range(3):
            second = collector.run_command("discover", *node.reach())
            assert (second.returncode, "another discovery is running" in second.stderr) == (1, True), second.stderr
        assert first.result()["live_seconds"] >= 10
    as_before(node, before)
