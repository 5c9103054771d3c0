"""State and decisions that the asyncio and the blocking client share. No I/O, no waiting."""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._address import Address, Endpoint
from ._errors import ClosedError, DichroicError, GapError, GapWarning, UnmatchedWarning
from ._gap import Gap
from ._http import stream_request
from ._protocol import Stream, subscriber_hello
from ._recovery import Recovery
from ._request import Cursor, Request
from ._types import Stats

if TYPE_CHECKING:
    from ._request import SubscribeOptions

T = TypeVar("T")
#: Connections, disconnections and reconnects of all subscriptions.
logger = logging.getLogger("dichroic")
logger.addHandler(logging.NullHandler())


def apply_gap_policy(stream: Stream) -> None:
    """Warns about or raises the gaps at the head of the queue. With "yield" they stay for the consumer."""
    policy = stream.request.on_gap
    if policy == "yield":
        return
    items = stream.items
    while items and type(items[0]) is Gap:
        gap = items.popleft()
        if policy == "raise":
            raise GapError(gap)
        # Without a registry: the default filter would show equal gaps only once.
        patterns = ", ".join(map(repr, stream.request.patterns))
        warnings.warn_explicit(str(gap), GapWarning, f"dichroic.subscribe({patterns})", 1, "dichroic", {})


def move_items(stream: Stream, room: int, into: list[Any]) -> None:
    """Moves up to `room` decoded items."""
    items = stream.items
    if room >= len(items):
        into.extend(items)
        items.clear()
    else:
        into.extend(items.popleft() for _ in range(room))


def opening_bytes(endpoint: Endpoint, token: str | None, subscribe: dict[str, Any] | None) -> bytes:
    """The first bytes of a connection: an HTTP request or a HELLO frame."""
    if endpoint.kind == "http":
        return stream_request(endpoint, token, subscribe or {})
    return subscriber_hello(token, subscribe)


class SubscriptionBase(Generic[T]):
    """One subscription across its connections."""

    _link: Any = None

    def __init__(self, address: Address, request: Request, open_subscriptions: set[Any]) -> None:
        self._open_subscriptions = open_subscriptions
        self._open_subscriptions.add(self)
        self._address = address
        self._stream = Stream(request)
        self._stream.on_disconnect = self._report_disconnect
        self._recovery = Recovery(self._stream, request.reconnect)
        self._filling = False
        self._closed = False
        self._ended: DichroicError | None = None
        self._retry_at = 0.0

    @property
    def cursor(self) -> Cursor | None:
        """Position of the next item, for `subscribe(…, cursor=…)`. None for points and before connecting."""
        return self._stream.cursor

    @property
    def stats(self) -> Stats:
        """Counters of this subscription, as a copy."""
        return self._stream.stats()

    @property
    def connected(self) -> bool:
        """Whether a connection is established. Its loss is noticed at once under asyncio, otherwise by reading."""
        return self._link is not None and self._stream.established and not self._stream.ended

    def _report_disconnect(self, error: DichroicError) -> None:
        callback = self._stream.request.on_disconnect
        if callback is not None and not self._closed:
            try:
                callback(error)
            except Exception:
                logger.exception("on_disconnect of subscription %s failed", self._label)

    @property
    def _label(self) -> str:
        """The patterns, for log records."""
        return ", ".join(self._stream.request.patterns)

    def _report_connect(self) -> None:
        if self._stream.connections == 1:
            self._warn_unmatched()
        again = "re" if self._stream.connections > 1 else ""
        logger.info("subscription %s %sconnected to %s", self._label, again, self._stream.agent)

    def _warn_unmatched(self) -> None:
        """Warns about each pattern that matches no name known to the collector."""
        for pattern, near in self._stream.unmatched.items():
            nearest = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            message = f"{pattern!r} matches no name that the collector knows yet{nearest}"
            # Without a registry: the default filter would show equal warnings only once in a process.
            warnings.warn_explicit(message, UnmatchedWarning, f"dichroic.subscribe({pattern!r})", 1, "dichroic", {})

    def _schedule_reconnect(self, error: DichroicError) -> None:
        """Sets the time of the next connection attempt; raises `error` when the subscription ends."""
        self._stream.disconnected(error)
        try:
            delay = self._recovery.delay(error)
        except DichroicError as final:
            self._ended = final
            logger.warning("subscription %s ended: %s", self._label, error)
            raise
        logger.warning("subscription %s disconnected, reconnecting in %.1f s: %s", self._label, delay, error)
        self._retry_at = time.monotonic() + delay
        apply_gap_policy(self._stream)


class ClientBase:
    """A collector's address and what its HELLO reported.

    Attributes:
        agent: Name and version of the collector, such as "dichroic/0.1.0". Empty over HTTP.
        epoch: Start time of the collector, nanoseconds since the Unix epoch. None over HTTP.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._subscriptions: set[Any] = set()
        self.agent = ""
        self.epoch: int | None = None

    @property
    def _has_handshake(self) -> bool:
        """False over HTTP, where the first subscription detects whether the collector is reachable."""
        return self._address.endpoint is None or self._address.endpoint.kind != "http"

    def _request(self, patterns: tuple[str, ...], options: SubscribeOptions) -> Request:
        if self._closed:
            raise ClosedError("the client is closed; connect again")
        return Request(patterns, **options)
