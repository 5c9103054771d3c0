"""Everything this package raises, in one tree, so that one `except dichroic.DichroicError` is enough.

Every message says what happened, where, and what to do about it. `GOODBYE` frames of the collector become
the subclass of `Goodbye` for their code, carrying the collector's own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._types import Gap

#: retry_ms of a GOODBYE that asks not to come back.
NEVER_RETRY: Final = 0xFFFF_FFFF


class DichroicError(Exception):
    """Root of all errors of this package."""


class CollectorNotFound(DichroicError, ConnectionError):
    """Nobody answered at any of the addresses that were tried; the message lists them."""


class HandshakeTimeout(DichroicError, TimeoutError):
    """The peer accepted the connection but did not finish its HELLO in time."""


class ConnectionLost(DichroicError, ConnectionError):
    """The connection ended and the subscription was told not to reconnect."""


class Closed(DichroicError):
    """The client or subscription was used after it had been closed."""


class ProtocolError(DichroicError):
    """The peer sent bytes that the framing does not allow."""


class FrameTooLarge(ProtocolError):
    """The peer announced or sent more than a named limit allows."""


class GapError(DichroicError):
    """Rows were lost and the subscription's policy is `on_gap="raise"`. Iteration may go on afterwards."""

    def __init__(self, gap: Gap) -> None:
        super().__init__(f"{gap}; iterate again to go on after it")
        self.gap = gap


class GapWarning(UserWarning):
    """Rows were lost and the subscription's policy is `on_gap="warn"`."""


class MissingDependency(DichroicError, ImportError):
    """An optional package (pyarrow, pandas) is needed for what was asked."""


class BinaryNotFound(DichroicError, FileNotFoundError):
    """The `dichroic` executable is in none of the places where an installation puts it."""


class SidecarFailed(DichroicError):
    """The sidecar process ended, or was not ready in time."""


class Goodbye(DichroicError):
    """The peer closed the connection with a code and words."""

    code: int = 0
    meaning = "unknown code"

    def __init__(self, words: str = "", retry_ms: int = 0, code: int | None = None) -> None:
        if code is not None:
            self.code = code
        super().__init__(f"the collector said goodbye ({self.meaning}, code {self.code}): {words or 'no words'}")
        self.words = words
        self.retry_ms = retry_ms

    @property
    def final(self) -> bool:
        """Whether coming back by itself is pointless or unwanted."""
        return self.code in (1, 2, 10) or self.retry_ms == NEVER_RETRY


class VersionMismatch(Goodbye):
    """The two sides speak different major versions of the framing."""

    code, meaning = 1, "version"


class Unauthorised(Goodbye):
    """The token is missing or wrong, or the socket's peer is not allowed."""

    code, meaning = 2, "unauthorised"


class Malformed(Goodbye):
    """The peer could not read what was sent to it."""

    code, meaning = 3, "malformed"


class LimitExceeded(Goodbye):
    """A limit of the collector, such as the number of subscribers."""

    code, meaning = 4, "limit"


class TimedOut(Goodbye):
    """The peer waited too long."""

    code, meaning = 5, "timeout"


class Superseded(Goodbye):
    """A newer connection of the same identity took over."""

    code, meaning = 6, "superseded"


class ShuttingDown(Goodbye):
    """The collector is going down in good order."""

    code, meaning = 7, "shutdown"


class TooSlow(Goodbye):
    """The subscription asked to be disconnected when it falls behind, and it did."""

    code, meaning = 8, "slow"


class Detached(Goodbye):
    """The connection was detached on purpose."""

    code, meaning = 9, "detach"


class BadRequest(Goodbye):
    """The subscription asks for something the collector does not offer; the words name it."""

    code, meaning = 10, "bad request"


class InternalError(Goodbye):
    """The collector failed."""

    code, meaning = 11, "internal"


_BY_CODE: Final[dict[int, type[Goodbye]]] = {
    kind.code: kind
    for kind in (
        VersionMismatch, Unauthorised, Malformed, LimitExceeded, TimedOut, Superseded,
        ShuttingDown, TooSlow, Detached, BadRequest, InternalError,
    )
}  # fmt: skip


def goodbye(code: int, retry_ms: int, words: str) -> Goodbye:
    """The exception for a GOODBYE frame; an unknown code keeps its number."""
    kind = _BY_CODE.get(code)
    return Goodbye(words, retry_ms, code) if kind is None else kind(words, retry_ms)
