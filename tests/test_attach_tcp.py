"""An attached relay that connects to the collector's TCP port, by option or because it cannot open the socket."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attach_actors import NEWER_ERL, Attacher, BareNode, as_before, counted
from harness.collector import Collector, dichroic_bin
from harness.process import wait_until

TOKEN = "9b1d7c0a5be34286a7ff00d1c2b3e4958677a8b9cadbecfd0e1f2a3b4c5d6e70"
TCP = {"security": {"local_tcp": {"listen": "127.0.0.1:0", "token": TOKEN}}}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(config=TCP) as collector:
        yield collector
        assert TOKEN not in collector.output()


@pytest.fixture(params=["erl", NEWER_ERL], ids=["installed", "newer"])
def any_node(request: pytest.FixtureRequest) -> Iterator[BareNode]:
    with BareNode(erl=request.param) as node:
        yield node


@pytest.fixture
def node() -> Iterator[BareNode]:
    with BareNode() as node:
        yield node


def secret(folder: Path, token: str = TOKEN) -> str:
    """A file with the token."""
    file = folder / "token"
    file.write_text(token + "\n")
    file.chmod(0o600)
    return str(file)


def by_tcp(collector: Collector, file: str) -> list[str]:
    return ["--transport", "tcp", "--tcp", collector.local_tcp, "--token-file", file]


def test_a_relay_over_tcp_counts_exactly_and_leaves_nothing_behind(
    collector: Collector, any_node: BareNode, tmp_path: Path
) -> None:
    before = any_node.snapshot()
    with Attacher(any_node, collector, *by_tcp(collector, secret(tmp_path)), socket=False) as attacher:
        assert f"data goes to tcp://{collector.local_tcp}" in attacher.output()
        any_node.emit(1000)
        counted(collector, 1000)
        assert attacher.interrupt() == 0
        assert TOKEN not in attacher.output()
    as_before(any_node, before)


def test_the_token_is_visible_nowhere_on_the_node(collector: Collector, any_node: BareNode, tmp_path: Path) -> None:
    with Attacher(any_node, collector, *by_tcp(collector, secret(tmp_path)), socket=False) as attacher:
        seen = any_node.secrets()
        assert f"tcp://{collector.local_tcp}" in seen
        assert TOKEN not in seen
        collector.kill()
        wait_until(lambda: "cannot_connect" in any_node.secrets(), 10, "the relay to lose the collector")
        assert TOKEN not in any_node.secrets()
        collector.start()
        any_node.emit(3)
        counted(collector, 3)
        assert attacher.interrupt() == 0
    assert TOKEN not in any_node.output()


def test_another_attacher_takes_over_a_relay_over_tcp_with_its_totals(collector: Collector, node: BareNode, tmp_path: Path) -> None:
    before = node.snapshot()
    args = by_tcp(collector, secret(tmp_path))
    with Attacher(node, collector, *args, socket=False) as first:
        node.emit(10)
        counted(collector, 10)
        first.kill()
        node.emit(5)
        with Attacher(node, collector, *args, socket=False) as second:
            node.emit(3)
            counted(collector, 18)
            assert second.interrupt() == 0
    as_before(node, before)


def test_a_wrong_token_is_reported_and_the_relay_is_removed(collector: Collector, node: BareNode, tmp_path: Path) -> None:
    before = node.snapshot()
    wrong = TOKEN[::-1]
    done = collector.run_command("attach", *node.reach(), *by_tcp(collector, secret(tmp_path, wrong)))
    assert done.returncode == 1
    assert "the token is not that of security.local_tcp" in done.stderr
    assert "the relay was removed" in done.stderr
    assert wrong not in done.stdout + done.stderr
    as_before(node, before)


def test_address_and_token_are_read_from_the_collectors_configuration(collector: Collector, node: BareNode) -> None:
    collector.restart()  # writes the port it took to its configuration
    with Attacher(node, collector, "--transport", "tcp", "--config", str(collector.config_file), socket=False) as attacher:
        node.emit(4)
        counted(collector, 4)
        assert attacher.interrupt() == 0


def test_without_the_socket_the_relay_is_sent_to_the_tcp_port(collector: Collector, node: BareNode, tmp_path: Path) -> None:
    where = ["--socket", str(tmp_path / "none.sock"), "--tcp", collector.local_tcp, "--token-file", secret(tmp_path)]
    with Attacher(node, collector, *where, socket=False) as attacher:
        assert f"data goes to tcp://{collector.local_tcp}" in attacher.output()
        assert attacher.interrupt() == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--transport", "tcp"], "--token-file"),
        (["--transport", "tcp", "--tcp", "127.0.0.1:1"], "DICHROIC_TOKEN"),
        (["--transport", "tcp", "--tcp", "127.0.0.1:1", "--token-file", "TOKEN"], "no collector: tcp://127.0.0.1:1"),
    ],
)
def test_missing_options_are_reported_and_nothing_is_loaded(
    collector: Collector, node: BareNode, tmp_path: Path, args: list[str], message: str
) -> None:
    before = node.snapshot()
    args = [secret(tmp_path) if arg == "TOKEN" else arg for arg in args]
    done = collector.run_command("attach", *node.reach(), *args)
    assert done.returncode == 1
    assert message in done.stderr
    as_before(node, before)


# ---- receivers.beam.attach -----------------------------------------------------------------------------------------------


def test_a_collector_redirects_nodes_that_cannot_open_its_socket() -> None:
    with BareNode() as node:
        before = node.snapshot()
        node.kill()
        attach = {"receivers": {"beam": {"attach": [node.config()]}}}
        with Collector(config={**TCP, **attach}) as collector:
            # As in another container, the socket does not exist.
            collector.socket.rename(collector.socket.with_name("hidden"))
            node.start()
            # The first connection, for which the node waits, may have detached the collector's relay.
            wait_until(lambda: any(r["connected"] and r["attached"] for r in collector.sources()["relays"]), 40, "a relay over TCP")
            assert "its relay sends to tcp://" in collector.output()
            assert "no_socket_found" in collector.output()
            node.emit(7)
            counted(collector, 7)
            assert collector.stop() == 0
            assert TOKEN not in collector.output()
        as_before(node, before, restarted=True)


def test_a_collector_attaches_over_tcp_when_configured() -> None:
    with BareNode() as node:
        before = node.snapshot()
        attach = {"receivers": {"beam": {"attach": [{**node.config(), "transport": "tcp"}]}}}
        with Collector(config={**TCP, **attach}) as collector:
            node.emit(1)
            wait_until(lambda: "{dichroic," in node.snapshot()["handlers"], 15, "handlers")
            collector.wait_line(f"tcp://{collector.local_tcp}")
            assert TOKEN not in node.secrets()
            assert collector.stop() == 0
        as_before(node, before)


def test_a_tcp_listener_added_on_sighup_needs_a_restart() -> None:
    with BareNode() as node, Collector() as collector:
        before = node.snapshot()
        collector.config["receivers"]["beam"] = {"attach": [{**node.config(), "transport": "tcp"}]}
        collector.config["security"].update(TCP["security"])
        collector.config_file.write_text(json.dumps(collector.config))
        collector.child.send_signal(signal.SIGHUP)
        wait_until(lambda: "which takes effect after a restart" in collector.output(), 10, "the reason")
        assert "security.local_tcp" in collector.output()
        assert TOKEN not in collector.output()
        as_before(node, before)


def test_attach_over_tcp_requires_the_tcp_listener(tmp_path: Path) -> None:
    file = tmp_path / "dichroic.yaml"
    file.write_text("receivers: { beam: { attach: [{ node: a@127.0.0.1, transport: tcp }] } }\n")
    done = subprocess.run([str(dichroic_bin()), "check", "--config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "transport: tcp requires security.local_tcp" in done.stderr
