"""Where the collector is: explicit addresses, and the list of places that both sides probe when none is given.

Called by both clients before every connection, also before a reconnect, so that a collector may come back elsewhere on
the list.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from ._errors import CollectorNotFoundError

SOCKET_VARIABLE: Final = "DICHROIC_SOCKET"
TOKEN_VARIABLE: Final = "DICHROIC_TOKEN"
ADMIN_PORT: Final = 9465


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to try."""

    kind: Literal["unix", "tcp", "http"]
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.path}" if self.kind == "unix" else f"{self.kind}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """What `connect` was given: an explicit endpoint, or None for the list."""

    endpoint: Endpoint | None
    token: str | None

    @classmethod
    def parse(cls, address: str | os.PathLike[str] | None, token: str | None = None) -> Address:
        """`unix:///path`, a plain path, `tcp://host:port`, `http://host:port`, or None to discover."""
        token = token if token is not None else os.environ.get(TOKEN_VARIABLE) or None
        if address is None:
            return cls(None, token)
        text = os.fspath(address)
        if "://" not in text:
            return cls(Endpoint("unix", path=text.removeprefix("unix:")), token)
        url = urlsplit(text)
        given = parse_qs(url.query).get("token")
        if given:
            token = given[-1]
        if url.scheme == "unix":
            return cls(Endpoint("unix", path=unquote(url.netloc + url.path)), token)
        if url.scheme == "tcp":
            if not url.hostname or not url.port:
                raise ValueError(f"{text!r} lacks a host or port: write tcp://127.0.0.1:4319")
            if token is None:
                raise ValueError(f"a TCP address wants a token: connect({text!r}, token=…) or ${TOKEN_VARIABLE}")
            return cls(Endpoint("tcp", host=url.hostname, port=url.port), token)
        if url.scheme == "http":
            if not url.hostname:
                raise ValueError(f"{text!r} lacks a host: write http://127.0.0.1:{ADMIN_PORT}")
            return cls(Endpoint("http", host=url.hostname, port=url.port or ADMIN_PORT), token)
        raise ValueError(f"{text!r} is no address of a collector: use unix://, tcp:// or http://")

    def candidates(self) -> list[Endpoint]:
        """What to try, in order."""
        if self.endpoint is not None:
            return [self.endpoint]
        return [Endpoint("unix", path=path) for path in socket_paths()]

    def nobody(self, failures: list[tuple[Endpoint, OSError]]) -> CollectorNotFoundError:
        """The error after all candidates failed."""
        tried = "; ".join(f"{endpoint} ({failure.strerror or failure})" for endpoint, failure in failures)
        hint = "" if self.endpoint else f", or name its socket in ${SOCKET_VARIABLE}"
        return CollectorNotFoundError(f"no collector answered at {tried}. Start one with `dichroic run`{hint}")


def socket_paths() -> list[str]:
    """The places of the local socket. `$DICHROIC_SOCKET`, when set, is the only one."""
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return [named.removeprefix("unix://")]
    paths = ["/run/dichroic/dichroic.sock"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        paths.append(os.path.join(runtime, "dichroic.sock"))
    private = f"/tmp/dichroic-{os.geteuid()}"
    if _is_ours(private):
        paths.append(os.path.join(private, "dichroic.sock"))
    return paths


def _is_ours(directory: str) -> bool:
    """Anyone may create a name in /tmp: a directory of somebody else's is no place to find our collector."""
    try:
        return os.lstat(directory).st_uid in (0, os.geteuid())
    except OSError:
        return True  # it is not there: let the connection attempt say so
