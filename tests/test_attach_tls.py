"""Nodes with TLS distribution: attached like others after mutual authentication, else refused with a reason."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attach_actors import NEWER_ERL, Attacher, BareNode, as_before, counted
from harness.collector import Collector, dichroic_bin
from harness.process import wait_until
from tls_actors import Authority, Pair, TlsNode


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "stranger")


@pytest.fixture(scope="module")
def strict(authority: Authority) -> Iterator[TlsNode]:
    """A node that requires client certificates."""
    with TlsNode(authority, authority.sign("strict"), authority.sign("client"), client_cert=True) as node:
        yield node


def detach(node: BareNode, *how: str) -> str:
    """Returns the messages of `dichroic detach` for a node that is not attached."""
    done = subprocess.run(
        [str(dichroic_bin()), "detach", node.node, "--cookie-file", str(node.cookie_file), "--port", str(node.port), *how],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("versions", ["'tlsv1.3'", "'tlsv1.2'"])
@pytest.mark.parametrize("client_cert", [True, False])
@pytest.mark.parametrize("erl", ["erl", NEWER_ERL], ids=["installed", "newer"])
def test_events_are_counted_exactly_and_nothing_is_left_behind(
    authority: Authority, versions: str, client_cert: bool, erl: str
) -> None:
    client = authority.sign("own") if client_cert else None
    with Collector() as collector, TlsNode(authority, authority.sign("node"), client, client_cert, versions, erl) as node:
        before = node.snapshot()
        with Attacher(node, collector) as attacher:
            node.emit(1000)
            counted(collector, 1000)
            assert attacher.interrupt() == 0
            assert "modules unloaded" in attacher.output()
        as_before(node, before)


def test_discover_reads_a_node_over_tls(collector: Collector, strict: TlsNode) -> None:
    done = collector.run_command("discover", *strict.reach(), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "phoenix.endpoint.stop" in {event["event"] for event in json.loads(done.stdout)["events"]}


def test_a_collector_attaches_to_a_node_of_its_configuration_over_tls(strict: TlsNode) -> None:
    before = strict.snapshot()
    with Collector(config={"receivers": {"beam": {"attach": [strict.config()]}}}) as collector:
        wait_until(lambda: "{dichroic," in strict.snapshot()["handlers"], 15, "handlers")
        strict.emit(7)
        counted(collector, 7)
        assert collector.stop() == 0
    as_before(strict, before)


def test_the_node_refuses_a_missing_or_foreign_client_certificate(
    authority: Authority, stranger: Authority, strict: TlsNode
) -> None:
    message = detach(strict, "--tls-ca", str(authority.pem))
    assert "CertificateRequired" in message
    assert "--tls-cert" in message
    own = stranger.sign("client")
    message = detach(strict, "--tls-ca", str(authority.pem), "--tls-cert", str(own.cert), "--tls-key", str(own.key))
    assert "does not trust the CA that signed the client certificate" in message


def test_a_node_of_another_authority_receives_nothing(stranger: Authority, strict: TlsNode) -> None:
    message = detach(strict, "--tls-ca", str(stranger.pem))
    assert "is not signed by a CA of" in message
    assert str(stranger.pem) in message


def test_a_certificate_with_another_name_is_refused_unless_tls_name_is_given(authority: Authority) -> None:
    with_name = authority.sign("named", "DNS:shop.internal")
    node = TlsNode(authority, with_name)
    node.name_in_certificate = "shop.internal"
    with node:
        message = detach(node, "--tls-ca", str(authority.pem))
        assert "is not for 127.0.0.1" in message
        assert "server_name" in message
        assert "is not attached" in detach(node, *node.tls())


class Refusing(TlsNode):
    """A node that refuses every client."""

    def wait_ready(self) -> None:
        self.wait_line("attach_node ready")


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ("20200101000000Z", "20210101000000Z", "has expired"),
        ("20980101000000Z", "20990101000000Z", "is not valid yet"),
    ],
)
def test_an_expired_or_future_certificate_is_reported(authority: Authority, begin: str, end: str, message: str) -> None:
    with Refusing(authority, authority.sign("timed", begin=begin, end=end)) as node:
        assert message in detach(node, *node.tls())


def test_a_node_without_tls_is_distinguished_from_one_with_tls(authority: Authority, strict: TlsNode) -> None:
    with BareNode() as plain:
        assert "start it with -proto_dist inet_tls" in detach(plain, "--tls-ca", str(authority.pem))
    message = detach(strict)
    assert "uses TLS for distribution" in message
    assert "--tls-ca" in message


def test_unusable_files_are_reported_by_name(authority: Authority, strict: TlsNode, tmp_path: Path) -> None:
    own = authority.sign("open")
    own.key.chmod(0o644)
    message = detach(strict, "--tls-ca", str(authority.pem), "--tls-cert", str(own.cert), "--tls-key", str(own.key))
    assert f"{own.key}: has mode 0644" in message
    own.key.chmod(0o600)
    other = Pair(own.cert, authority.sign("another").key)
    message = detach(strict, "--tls-ca", str(authority.pem), "--tls-cert", str(other.cert), "--tls-key", str(other.key))
    assert "does not match" in message
    assert "none.pem: No such file" in detach(strict, "--tls-ca", str(tmp_path / "none.pem"))


def test_a_certificate_without_its_key_is_an_invalid_configuration(tmp_path: Path) -> None:
    file = tmp_path / "dichroic.yaml"
    file.write_text("receivers: { beam: { attach: [{ node: a@b, tls: { ca_file: ca.pem, cert_file: c.pem } }] } }\n")
    done = subprocess.run([str(dichroic_bin()), "check", "--config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "cert_file and key_file require each other" in done.stderr
