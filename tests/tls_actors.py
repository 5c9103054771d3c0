"""Actors of the tests of TLS: a certificate authority, and a node whose distribution uses TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attach_actors import BareNode

_CONFIG = """
[ca]
default_ca = this
[this]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*args: str) -> None:
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority; its certificate is `pem`."""

    def __init__(self, folder: Path, name: str = "ca"):
        self.folder = folder / name
        self.folder.mkdir()
        self.pem = self.folder / "ca.pem"
        (self.folder / "index.txt").touch()
        (self.folder / "serial").write_text("01\n")
        (self.folder / "config").write_text(_CONFIG.format(folder=self.folder))
        own = ["-keyout", str(self.folder / "ca.key"), "-out", str(self.pem), "-subj", f"/CN={name}", "-days", "2"]
        openssl("req", "-x509", *_KEY, *own, "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def sign(self, name: str, san: str = "IP:127.0.0.1", begin: str = "20200101000000Z", end: str = "20990101000000Z") -> Pair:
        """Returns a certificate for `san`, valid between the two times."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = str(self.folder / f"{name}.csr")
        openssl("req", *_KEY, "-keyout", str(pair.key), "-out", request, "-subj", f"/CN={name}", "-addext", f"subjectAltName={san}")
        config = ["-config", str(self.folder / "config"), "-batch", "-notext"]
        openssl("ca", *config, "-in", request, "-out", str(pair.cert), "-startdate", begin, "-enddate", end)
        pair.key.chmod(0o600)
        return pair


class TlsNode(BareNode):
    """A bare node with TLS distribution. With `client_cert` it requires client certificates of the same authority."""

    def __init__(
        self,
        authority: Authority,
        pair: Pair,
        client: Pair | None = None,
        client_cert: bool = False,
        versions: str = "'tlsv1.3','tlsv1.2'",
        erl: str = "erl",
    ):
        super().__init__("secure", erl=erl)
        self.authority = authority
        self.client = client
        self.name_in_certificate: str | None = None
        verification = (
            f'{{cacertfile,"{authority.pem}"}},{{verify,verify_peer}},{{fail_if_no_peer_cert,true}}'
            if client_cert
            else "{verify,verify_none}"
        )
        options = f'{{certfile,"{pair.cert}"}},{{keyfile,"{pair.key}"}},{{versions,[{versions}]}},{verification}'
        self.options = self.folder / "ssl_dist.conf"
        self.options.write_text(f"[{{server,[{options}]}}].\n")

    def argv(self) -> Sequence[str]:
        erl, *rest = super().argv()
        return [erl, "-proto_dist", "inet_tls", "-ssl_dist_optfile", str(self.options), *rest]

    def reach(self) -> list[str]:
        return [*self.without_tls(), *self.tls()]

    def without_tls(self) -> list[str]:
        return super().reach()

    def tls(self) -> list[str]:
        own = [] if self.client is None else ["--tls-cert", str(self.client.cert), "--tls-key", str(self.client.key)]
        name = [] if self.name_in_certificate is None else ["--tls-name", self.name_in_certificate]
        return ["--tls-ca", str(self.authority.pem), *own, *name]

    def config(self) -> dict[str, object]:
        own = {} if self.client is None else {"cert_file": str(self.client.cert), "key_file": str(self.client.key)}
        return {**super().config(), "tls": {"ca_file": str(self.authority.pem), **own}}
