"""Addresses of the collector, and the default paths of its local socket.

Both clients resolve the candidates before every connection, including reconnects: a restarted collector may listen on
another default path.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from ._errors import AccessDeniedError, CollectorNotFoundError

SOCKET_VARIABLE: Final = "DICHROIC_SOCKET"
TOKEN_VARIABLE: Final = "DICHROIC_TOKEN"
ADMIN_PORT: Final = 9465


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to connect to."""

    kind: Literal["unix", "tcp", "http"]
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.path}" if self.kind == "unix" else f"{self.kind}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """The parsed argument of `connect`: an endpoint, or None for the default paths; and the token."""

    endpoint: Endpoint | None
    token: str | None

    @classmethod
    def parse(cls, address: str | os.PathLike[str] | None, token: str | None = None) -> Address:
        """Parses an address. See `connect`.

        Raises:
            ValueError: The address is invalid.
        """
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
                raise ValueError(f"missing host or port in {text!r}: expected an address such as tcp://127.0.0.1:4319")
            if token is None:
                raise ValueError(f"missing token for {text!r}: pass token=… or set ${TOKEN_VARIABLE}")
            return cls(Endpoint("tcp", host=url.hostname, port=url.port), token)
        if url.scheme == "http":
            if not url.hostname:
                raise ValueError(f"missing host in {text!r}: expected an address such as http://127.0.0.1:{ADMIN_PORT}")
            return cls(Endpoint("http", host=url.hostname, port=url.port or ADMIN_PORT), token)
        raise ValueError(f"invalid address {text!r}: expected unix://, tcp:// or http://")

    def candidates(self) -> list[Endpoint]:
        """The endpoints to try, in order."""
        if self.endpoint is not None:
            return [self.endpoint]
        return [Endpoint("unix", path=path) for path in socket_paths()]

    def not_found(self, failures: list[tuple[Endpoint, OSError]]) -> AccessDeniedError | CollectorNotFoundError:
        """The exception after all candidates failed."""
        for endpoint, failure in failures:
            if endpoint.kind == "unix" and isinstance(failure, PermissionError):
                user = os.geteuid()
                return AccessDeniedError(
                    f"user {user} may not open {endpoint}: add {user} to security.local_socket.allow_uids of the "
                    "collector, and set security.local_socket.mode and .group so that this user can write to the socket"
                )
        tried = "; ".join(f"{endpoint} ({failure.strerror or failure})" for endpoint, failure in failures)
        hint = "" if self.endpoint else f", or set ${SOCKET_VARIABLE}"
        return CollectorNotFoundError(f"no collector at {tried}; start one with `dichroic run`{hint}")


def socket_paths() -> list[str]:
    """Paths of the local socket: `$DICHROIC_SOCKET` alone when it is set, else the default paths."""
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return [named.removeprefix("unix://")]
    paths = ["/run/dichroic/dichroic.sock"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        paths.append(os.path.join(runtime, "dichroic.sock"))
    private = f"/tmp/dichroic-{os.geteuid()}"
    if _is_trusted(private):
        paths.append(os.path.join(private, "dichroic.sock"))
    return paths


def _is_trusted(directory: str) -> bool:
    """Whether root or this user owns the directory: any user can create one in /tmp."""
    try:
        return os.lstat(directory).st_uid in (0, os.geteuid())
    except OSError:
        return True  # missing: the connection attempt reports it
