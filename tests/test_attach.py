"""Attaching to an unprepared node: exact counts, and nothing left behind however the attacher ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors import total
from attach_actors import COOKIE, ECTO, EMITTED, REPO, Attacher, BareNode, Epmd, as_before, compile_modules, counted
from harness.collector import Collector
from harness.erlang import erlang_paths
from harness.process import ROOT, wait_until


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def test_events_are_counted_exactly_and_ctrl_c_leaves_the_node_as_it_was(collector: Collector, any_node: BareNode) -> None:
    before = any_node.snapshot()
    with Attacher(any_node, collector) as attacher:
        assert any_node.snapshot()["handlers"] != before["handlers"]
        any_node.emit(1000)
        counted(collector, 1000, http_route="/emitted", http_request_method="GET", http_response_status_code="200")
        any_node.emit(234)
        assert attacher.interrupt() == 0
        assert re.search(r"detached; all \d+ modules unloaded", attacher.output()), attacher.output()
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
        listed = {(name, md5) for md5, name in re.findall(r"^  ([0-9a-f]{32}) (\w+)$", attacher.output(), re.MULTILINE)}
    assert listed == {(name, md5) for name, md5 in expected if not name.startswith("dichroic_visit")}


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
        assert "modules unloaded" in done.stdout
        assert attacher.child.wait(10) == 0
        attacher.stop()
        assert "detached by another process" in attacher.output()
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
        assert "processes of the application still execute" in first.output()
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
        assert attacher.child.wait(60) == 0
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
        as_before(node, before, 120)


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
        assert "is already attached" in second.stderr
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
        assert "detach removes attached relays only" in done.stderr


def test_a_node_with_an_installed_relay_that_is_not_started_is_not_changed(collector: Collector) -> None:
    relay = erlang_paths()[1]
    with BareNode("later", also=[relay]) as node:
        before = node.snapshot()
        done = collector.run_command("attach", *node.reach(), "--socket", str(collector.socket))
        assert done.returncode == 1
        assert "dichroic.app: the relay is part of its application; start that instead" in done.stderr
        as_before(node, before)


def test_without_a_collector_nothing_is_loaded(node: BareNode, tmp_path: Path, collector: Collector) -> None:
    before = node.snapshot()
    done = collector.run_command("attach", *node.reach(), "--socket", str(tmp_path / "none.sock"))
    assert done.returncode == 1
    assert "no collector" in done.stderr
    assert "--socket" in done.stderr
    as_before(node, before)


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
        assert "is not registered at epmd" in stranger.stderr


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
