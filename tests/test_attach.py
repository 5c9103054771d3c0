"""Attaching to an unprepared node: exact counts, and nothing left behind however the attacher ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors import total
from attach_actors import COOKIE, NEWER_ERL, Attacher, BareNode, Epmd
from harness.collector import Collector, dichroic_bin
from harness.erlang import erlang_paths
from harness.process import ROOT, Process, wait_until

# Prefixes of the node's own output.
ANSWERS = ("snapshot", "emitted", "serving", "truth", "held", "watching", "gone", "loading")
EMITTED = "http_server_request_duration_seconds_count"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def node() -> Iterator[BareNode]:
    yield from quiet(BareNode())


@pytest.fixture(params=["erl", NEWER_ERL], ids=["installed", "newer"])
def any_node(request: pytest.FixtureRequest) -> Iterator[BareNode]:
    """A node of each available OTP: a newer one gets other code."""
    yield from quiet(BareNode(erl=request.param))


def quiet(node: BareNode) -> Iterator[BareNode]:
    with node:
        yield node
        # No log line of the node may have been caused by the relay.
        said = [line for line in node.lines if not line.startswith((*ANSWERS, "attach_node"))]
        assert said == []


def counted(collector: Collector, expected: float, **labels: str) -> None:
    wait_until(
        lambda: total(collector.metrics(), EMITTED, **labels) == expected,
        15,
        f"{expected} requests; there are {total(collector.metrics(), EMITTED, **labels)}",
    )


def as_before(node: BareNode, before: dict[str, str], seconds: float = 10) -> None:
    """Waits until the node is as it was before."""
    last: dict[str, tuple[str, str | None]] = {}

    def same() -> bool:
        now = node.snapshot()
        last.clear()
        last.update({key: (value, now.get(key)) for key, value in before.items() if now.get(key) != value})
        return not last

    try:
        wait_until(same, seconds, "the node to be as before")
    except AssertionError:
        raise AssertionError(f"left behind, before and after: {last}") from None


def test_events_are_counted_exactly_and_ctrl_c_leaves_the_node_as_it_was(collector: Collector, any_node: BareNode) -> None:
    before = any_node.snapshot()
    with Attacher(any_node, collector) as attacher:
        assert any_node.snapshot()["handlers"] != before["handlers"]
        any_node.emit(1000)
        counted(collector, 1000, http_route="/emitted", http_request_method="GET", http_response_status_code="200")
        any_node.emit(234)
        assert attacher.interrupt() == 0
        assert re.search(r"detached; \d+ modules unloaded, nothing is left", attacher.output()), attacher.output()
    # Events just before the end are counted by the last flush.
    counted(collector, 1234)
    as_before(any_node, before)
    any_node.emit(10)
    counted(collector, 1234)


def test_loaded_modules_are_listed_with_the_digest_of_their_code(collector: Collector, any_node: BareNode) -> None:
    loaded = max(otp for otp in (25, 27) if otp <= any_node.release())
    manifest = (ROOT / f"collector/beam-attach/beams/otp{loaded}/MANIFEST").read_text()
    expected = set(re.findall(r"^beam (\w+) (\w+) \w+$", manifest, re.MULTILINE))
    with Attacher(any_node, collector) as attacher:
        told = {(name, md5) for md5, name in re.findall(r"^  ([0-9a-f]{32}) (\w+)$", attacher.output(), re.MULTILINE)}
    assert told == {(name, md5) for name, md5 in expected if not name.startswith("dichroic_discover")}


def test_the_counts_of_a_shop_under_load_equal_its_own(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector) as attacher:
        node.send_line("go 200")
        node.wait_line("serving 200")
        wait_until(lambda: total(collector.metrics(), EMITTED) > 400, 30, "some requests")
        node.send_line("stop")
        truth = json.loads(node.wait_line(r"^truth (\{.*\})$", 30)[1])
        counted(collector, truth["requests"])
        page = collector.metrics()
        assert total(page, EMITTED, http_response_status_code="500") == truth["errors"]
        assert total(page, "db_client_operation_duration_seconds_count") == truth["queries"]
        assert attacher.interrupt() == 0


def test_the_attachers_connection_has_no_distribution_metrics(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector):
        wait_until(lambda: "vm_uptime_seconds" in collector.metrics(), 30, "a reading of the VM")
        assert "vm_distribution" not in collector.metrics()


def test_detaching_under_load_disturbs_no_request(collector: Collector, any_node: BareNode) -> None:
    any_node.send_line("go 500")
    any_node.wait_line("serving 500", 60)
    for _ in range(3):
        with Attacher(any_node, collector) as attacher:
            seen = total(collector.metrics(), EMITTED)
            wait_until(lambda: total(collector.metrics(), EMITTED) > seen, 20, "requests")  # noqa: B023
            assert attacher.interrupt() == 0
    any_node.send_line("stop")
    # The shop would wait for a request that was killed.
    assert json.loads(any_node.wait_line(r"^truth (\{.*\})$", 30)[1])["active"] == 0


def test_detach_ends_the_attacher_and_leaves_the_node_as_it_was(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    with Attacher(node, collector) as attacher:
        node.emit(5)
        done = collector.run_command("detach", *node.reach())
        assert done.returncode == 0, done.stderr
        assert "nothing is left" in done.stdout
        assert attacher.child.wait(10) == 0
        attacher.stop()
        assert "detached by another" in attacher.output()
    counted(collector, 5)
    as_before(node, before)
    again = collector.run_command("detach", *node.reach())
    assert again.returncode == 1
    assert "is not attached" in again.stderr


def test_a_process_inside_a_handler_keeps_its_code_while_another_attaches(collector: Collector, any_node: BareNode) -> None:
    any_node.send_line("hold")
    before = any_node.snapshot()
    with Attacher(any_node, collector) as first:
        any_node.send_line("held")
        any_node.wait_line("held")
        assert first.interrupt() == 1
        assert "processes of the application still run" in first.output()
    any_node.send_line("watch")
    any_node.wait_line("watching")
    with Attacher(any_node, collector) as second:
        any_node.emit(3)
        counted(collector, 3)
        any_node.send_line("release")
        assert any_node.wait_line("gone (.*) times")[1] == "0"
        assert any_node.wait_line("held process: (.*)")[1] == "ok"
        assert second.interrupt() == 0
    as_before(any_node, before)


def test_an_attach_with_a_duration_ends_by_itself(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    attacher = Attacher(node, collector, "--for", "1s")
    with attacher:
        assert attacher.child.wait(15) == 0
    as_before(node, before)


def test_after_a_killed_attacher_another_takes_over_without_losing_counts(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    with Attacher(node, collector) as first:
        node.emit(10)
        counted(collector, 10)
        first.kill()
        node.emit(5)
        with Attacher(node, collector) as second:
            node.emit(3)
            # The same epoch: totals of a restarted relay would start at zero.
            counted(collector, 18)
            assert second.interrupt() == 0
    as_before(node, before)


def test_after_a_killed_attacher_the_relay_removes_itself(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    with Attacher(node, collector) as attacher:
        node.emit(10)
        counted(collector, 10)
        attacher.kill()
        node.emit(7)
        counted(collector, 17)
        as_before(node, before, 40)


def test_a_restarted_collector_gets_the_totals_of_the_attached_relay(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector) as attacher:
        node.emit(6)
        counted(collector, 6)
        collector.kill()
        node.emit(4)
        collector.start()
        counted(collector, 10)
        assert attacher.interrupt() == 0


def test_a_second_attacher_is_refused_with_the_command_to_detach(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector):
        second = collector.run_command("attach", *node.reach(), "--socket", str(collector.socket))
        assert second.returncode == 1
        assert "is attached already" in second.stderr
        assert f"dichroic detach {node.node}" in second.stderr
        node.emit(4)
        counted(collector, 4)


def test_a_node_with_an_installed_relay_is_not_changed(collector: Collector) -> None:
    relay = erlang_paths()[1]
    with BareNode("installed", also=[relay], boot="{ok, _} = application:ensure_all_started(dichroic),") as node:
        before = node.snapshot()
        done = collector.run_command("attach", *node.reach(), "--socket", str(collector.socket))
        assert done.returncode == 0, done.stderr
        assert "as part of its application" in done.stdout
        assert node.snapshot()["modules"] == before["modules"]
        done = collector.run_command("detach", *node.reach())
        assert done.returncode == 1
        assert "does not touch" in done.stderr


def test_a_node_with_an_installed_relay_that_is_not_started_is_not_changed(collector: Collector) -> None:
    relay = erlang_paths()[1]
    with BareNode("later", also=[relay]) as node:
        before = node.snapshot()
        done = collector.run_command("attach", *node.reach(), "--socket", str(collector.socket))
        assert done.returncode == 1
        assert "dichroic.app: the relay is part of its application; start that instead" in done.stderr
        assert node.snapshot() == before


def test_without_a_collector_nothing_is_loaded(node: BareNode, tmp_path: Path, collector: Collector) -> None:
    before = node.snapshot()
    done = collector.run_command("attach", *node.reach(), "--socket", str(tmp_path / "none.sock"))
    assert done.returncode == 1
    assert "no collector" in done.stderr
    assert "--socket" in done.stderr
    assert node.snapshot() == before


def test_the_socket_is_read_from_the_collectors_configuration(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector, "--config", str(collector.config_file), socket=False) as attacher:
        node.emit(2)
        counted(collector, 2)
        assert attacher.interrupt() == 0


def test_a_wrong_cookie_is_reported_and_never_printed(collector: Collector, tmp_path: Path) -> None:
    wrong = tmp_path / "cookie"
    wrong.write_text("AnotherSecret")
    wrong.chmod(0o600)
    with BareNode() as node:
        where = ["--port", str(node.port)]
        done = collector.run_command("discover", node.node, "--cookie-file", str(wrong), *where)
        assert done.returncode == 1
        assert "does not accept the cookie" in done.stderr
        assert "AnotherSecret" not in done.stdout + done.stderr
        wrong.chmod(0o644)
        done = collector.run_command("discover", node.node, "--cookie-file", str(wrong), *where)
        assert done.returncode == 1
        assert "chmod 0600" in done.stderr


def test_the_cookie_is_in_no_argument_and_no_output(collector: Collector, node: BareNode) -> None:
    with Attacher(node, collector) as attacher:
        assert COOKIE not in Path(f"/proc/{attacher.pid}/cmdline").read_text()
        assert COOKIE not in Path(f"/proc/{attacher.pid}/environ").read_text()
        attacher.interrupt()
        assert COOKIE not in attacher.output()


def test_a_node_of_another_machine_is_refused(collector: Collector, node: BareNode) -> None:
    done = collector.run_command("attach", "shop@192.0.2.7", *node.reach()[1:], "--socket", str(collector.socket))
    assert done.returncode == 1
    assert "is another machine" in done.stderr
    assert "root" in done.stderr


def test_the_port_is_looked_up_in_epmd(collector: Collector) -> None:
    with Epmd() as epmd, BareNode("mapped", epmd=epmd) as node:
        with Attacher(node, collector) as attacher:
            node.emit(3)
            counted(collector, 3)
            assert attacher.interrupt() == 0
        stranger = collector.run_command("detach", "stranger@127.0.0.1", *node.reach()[1:])
        assert stranger.returncode == 1
        assert "knows no node" in stranger.stderr


# ---- discover ------------------------------------------------------------------------------------------------------------


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


ECTO = """
-module('Elixir.Ecto.Repo').
-export([all_running/0]).
all_running() -> ['Elixir.Stock.Repo', 'Elixir.Broken.Repo', self()].
"""
REPO = """
-module('Elixir.Stock.Repo').
-export([config/0]).
config() -> [{password, <<"hidden">>}, {telemetry_prefix, [stock, repo]}].
"""


def compile_modules(folder: Path, *sources: str) -> None:
    for source in sources:
        name = re.findall(r"-module\('(.*)'\)", source)[0]
        (folder / f"{name}.erl").write_text(source)
        subprocess.run(["erlc", f"{name}.erl"], cwd=folder, check=True)


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


ADAPTER = """
-module('Elixir.Ecto.Adapter').
-export([lookup_meta/1]).
lookup_meta('Elixir.Stock.Repo') -> #{telemetry => {'Elixir.Stock.Repo', debug, [by, another, name, query]}}.
"""


def test_repositories_are_counted_under_their_own_names_also_when_they_start_later(collector: Collector, tmp_path: Path) -> None:
    compile_modules(tmp_path, ECTO, REPO, ADAPTER)
    with BareNode("stock", also=[tmp_path]) as node, Attacher(node, collector):
        for module in ("Elixir.Ecto.Adapter", "Elixir.Ecto.Repo"):
            node.send_line(f"load {module}")
        wait_until(lambda: "[by,another,name,query]" in node.snapshot()["handlers"], 20, "a handler of the repository")
        node.send_line("query by.another.name 42")
        wait_until(
            lambda: total(collector.metrics(), "db_client_operation_duration_seconds_count", db_collection_name="books") == 42,
            15,
            "the queries",
        )
        # A restarted collector sends the same plan at once, so that no count is reset.
        collector.restart()
        node.send_line("query by.another.name 8")
        wait_until(
            lambda: total(collector.metrics(), "db_client_operation_duration_seconds_count", db_collection_name="books") == 50,
            15,
            "the queries before and after",
        )


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
    assert "no pack knows it" in findings["made.at.run.time"]["message"]
    assert not any(subject.endswith("endpoint.stop") for subject in findings), findings
    assert document["notes"] == sum(f["level"] == "note" for f in document["findings"])
    assert re.search(r"^note: made\.at\.run\.time \(bare@127\.0\.0\.1\): fired \d+ times", text.stdout, re.MULTILINE)
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


# ---- receivers.beam.attach -----------------------------------------------------------------------------------------------


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
        as_before(two, before[1])


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
    """Whether `now` is a complete attachment with another epoch: a relay that detaches reports only a part of its own."""
    return len(now) == len(first) == 3 and now[1] != first[1]


def test_on_sighup_new_nodes_are_attached_removed_ones_detached_and_others_kept() -> None:
    with BareNode("stays") as stays, BareNode("goes") as goes, BareNode("comes") as comes:
        before = {node: node.snapshot() for node in (stays, goes, comes)}
        with Collector(config={"receivers": {"beam": {"attach": [stays.config(), goes.config()]}}}) as collector:
            for node in (stays, goes):
                wait_until(lambda: handlers(node), 15, "handlers")  # noqa: B023
            stays.emit(5)
            goes.emit(6)
            first = attachment(stays)
            reload(collector, comes.config(), stays.config())
            wait_until(lambda: handlers(comes), 15, "handlers of the new node")
            as_before(goes, before[goes])
            counted(collector, 6, instance=goes.node)
            stays.emit(2)
            comes.emit(3)
            counted(collector, 7, instance=stays.node)
            counted(collector, 3, instance=comes.node)
            assert len(first) == 3
            assert attachment(stays) == first
            assert "changed setting takes effect" not in collector.output()
            assert collector.stop() == 0
        as_before(stays, before[stays])
        as_before(comes, before[comes])


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
    assert "is attached already" not in collector.output()


def test_a_node_that_is_removed_while_its_code_is_loaded_is_detached(collector: Collector, node: BareNode) -> None:
    before = node.snapshot()
    node.send_line("pause_load")
    reload(collector, node.config())
    node.wait_line("loading paused")
    reload(collector)
    # A detach that does not wait for the load finds nothing to detach, in far less than this time.
    time.sleep(1)
    node.send_line("continue_load")
    # Without a detach the relay would remove itself after 30 s.
    as_before(node, before, 15)


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
