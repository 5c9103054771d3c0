"""The exceptions and the warning of this package.

    DichroicError
    ├── TransportError
    │   ├── CollectorNotFoundError    also a ConnectionError
    │   ├── AccessDeniedError         also a PermissionError
    │   ├── HandshakeTimeoutError     also a TimeoutError
    │   └── ConnectionLostError       also a ConnectionError
    ├── ProtocolError
    │   └── FrameTooLargeError
    ├── GoodbyeError                  one subclass per code of a GOODBYE frame
    │   └── UnauthorizedError         also a PermissionError
    ├── ClosedError
    ├── GapError
    ├── SidecarError
    ├── BinaryNotFoundError           also a FileNotFoundError
    └── MissingDependencyError        also an ImportError

`GapWarning` is the `UserWarning` of `on_gap="warn"`, `UnmatchedWarning` that of a pattern that matches no known
name. Invalid arguments raise `ValueError` or `TypeError`.
"""

from __future__ import annotations

import enum
from typing import Final

from ._gap import Gap

#: `retry_ms` of a GOODBYE after which the subscriber does not reconnect.
NEVER_RETRY: Final = 0xFFFF_FFFF


class GoodbyeCode(enum.IntEnum):
    """The code of a GOODBYE frame."""

    VERSION = 1
    UNAUTHORIZED = 2
    MALFORMED = 3
    LIMIT = 4
    TIMEOUT = 5
    SUPERSEDED = 6
    SHUTDOWN = 7
    SLOW = 8
    DETACH = 9
    BAD_REQUEST = 10
    INTERNAL = 11


class DichroicError(Exception):
    """Base class of all exceptions of this package."""


class TransportError(DichroicError):
    """Base class of failures to connect or to stay connected."""


class CollectorNotFoundError(TransportError, ConnectionError):
    """No collector accepted a connection. The message lists the addresses tried."""


class AccessDeniedError(TransportError, PermissionError):
    """This user may not open the collector's socket. The message names the configuration keys to set."""


class HandshakeTimeoutError(TransportError, TimeoutError):
    """The peer accepted the connection but did not complete the handshake in time."""


class ConnectionLostError(TransportError, ConnectionError):
    """The connection ended without a GOODBYE frame, and `reconnect` is off."""


class ProtocolError(DichroicError):
    """The peer sent bytes that violate the protocol."""


class FrameTooLargeError(ProtocolError):
    """A frame, or an id in it, exceeds a limit of the protocol."""


class ClosedError(DichroicError):
    """The client was used after it was closed."""


class GapError(DichroicError):
    """Rows were lost and the subscription has `on_gap="raise"`. The next iteration continues after the gap.

    Attributes:
        gap: The lost rows.
    """

    def __init__(self, gap: Gap) -> None:
        super().__init__(f"{gap}; iterate again to continue after the gap")
        self.gap = gap


class GapWarning(UserWarning):
    """Rows were lost and the subscription has `on_gap="warn"`."""


class UnmatchedWarning(UserWarning):
    """A pattern matches no known name; the message suggests the nearest ones. The subscription is open."""


class SidecarError(DichroicError):
    """The collector's process exited or was not ready in time."""


class BinaryNotFoundError(DichroicError, FileNotFoundError):
    """The `dichroic` executable was not found. The message lists the paths tried."""


class MissingDependencyError(DichroicError, ImportError):
    """An optional package (pyarrow, pandas) is not installed."""


class GoodbyeError(DichroicError):
    """The collector closed the connection with a GOODBYE frame, or refused it over HTTP.

    Attributes:
        code: The code of the frame, a `GoodbyeCode` or the number of an unknown one.
        message: The collector's explanation.
        retry_ms: Milliseconds until the collector accepts a reconnect; 0: the client's own backoff applies.
    """

    code: int = 0
    meaning = "unknown code"

    def __init__(self, message: str = "", retry_ms: int = 0, code: int | None = None) -> None:
        if code is not None:
            self.code = code
        super().__init__(f"connection closed ({self.meaning}, code {self.code:d}): {message or 'no reason given'}")
        self.message = message
        self.retry_ms = retry_ms

    @property
    def final(self) -> bool:
        """Whether the subscription ends instead of reconnecting."""
        return self.code in _FINAL or self.retry_ms == NEVER_RETRY


class VersionMismatchError(GoodbyeError):
    """The collector and this package use different major versions of the protocol."""

    code, meaning = GoodbyeCode.VERSION, "version"


class UnauthorizedError(GoodbyeError, PermissionError):
    """The token is missing or invalid, or the collector does not accept this user on its socket.

    The message names the configuration key.
    """

    code, meaning = GoodbyeCode.UNAUTHORIZED, "unauthorized"


class MalformedError(GoodbyeError):
    """The collector could not decode a frame of this client."""

    code, meaning = GoodbyeCode.MALFORMED, "malformed"


class LimitExceededError(GoodbyeError):
    """A limit of the collector is reached, such as the number of subscribers."""

    code, meaning = GoodbyeCode.LIMIT, "limit"


class TimedOutError(GoodbyeError):
    """The collector received nothing in time."""

    code, meaning = GoodbyeCode.TIMEOUT, "timeout"


class SupersededError(GoodbyeError):
    """A newer connection with the same identity replaced this one."""

    code, meaning = GoodbyeCode.SUPERSEDED, "superseded"


class ShuttingDownError(GoodbyeError):
    """The collector is shutting down."""

    code, meaning = GoodbyeCode.SHUTDOWN, "shutdown"


class TooSlowError(GoodbyeError):
    """The subscription fell behind and has `on_full="disconnect"`."""

    code, meaning = GoodbyeCode.SLOW, "slow"


class DetachedError(GoodbyeError):
    """The collector detached this connection on request."""

    code, meaning = GoodbyeCode.DETACH, "detach"


class BadRequestError(GoodbyeError):
    """The collector does not support what the subscription requests. The message names the key."""

    code, meaning = GoodbyeCode.BAD_REQUEST, "bad request"


class InternalError(GoodbyeError):
    """The collector failed."""

    code, meaning = GoodbyeCode.INTERNAL, "internal"


_FINAL: Final = frozenset((GoodbyeCode.VERSION, GoodbyeCode.UNAUTHORIZED, GoodbyeCode.BAD_REQUEST))
_BY_CODE: Final[dict[int, type[GoodbyeError]]] = {kind.code: kind for kind in GoodbyeError.__subclasses__()}


def goodbye_error(code: int, retry_ms: int, message: str) -> GoodbyeError:
    """Returns the exception of a GOODBYE frame; an unknown code gives a plain `GoodbyeError`."""
    kind = _BY_CODE.get(code)
    return GoodbyeError(message, retry_ms, code) if kind is None else kind(message, retry_ms)
