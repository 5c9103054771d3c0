"""The blocking client: the same interface as the asyncio client, over a plain socket and the same `Stream`."""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._address import Address, Endpoint
from ._base import ClientBase, SubscriptionBase, apply_gap_policy, move_items, opening_bytes
from ._batch import Batch
from ._errors import ClosedError, DichroicError, GapError, ProtocolError
from ._gap import Gap
from ._points import Point
from ._protocol import HELLO_TIMEOUT, Stream, violation_goodbye
from ._request import Duration, Request, milliseconds
from ._socket_link import SocketLink
from ._types import Event, Log

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._request import Options, SubscribeOptions

T = TypeVar("T")


class SyncLink(SocketLink):
    """One blocking connection that feeds one `Stream`."""

    def __init__(self, endpoint: Endpoint, stream: Stream, timeout: float = HELLO_TIMEOUT) -> None:
        super().__init__(endpoint, stream, _connect(endpoint, timeout))

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(HELLO_TIMEOUT)
            self._socket.sendall(data)
        except OSError as error:
            self._broke(error)

    def read(self, until: float | None = None) -> bool:
        """Reads once, waiting at most until the monotonic time `until`. Returns False if that time came first."""
        try:
            self._socket.settimeout(self._time_left(until))
            data = self._read()
        except (TimeoutError, BlockingIOError):
            return self._timed_out()
        except OSError as error:
            self._broke(error)
            return True
        self._received(data)
        return True


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    if endpoint.kind != "unix":
        return socket.create_connection((endpoint.host, endpoint.port), timeout)
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.settimeout(timeout)
        connecting.connect(endpoint.path)
    except OSError:
        connecting.close()
        raise
    return connecting


class SyncSubscription(SubscriptionBase[T]):
    """A live stream of items.

        with client.subscribe("phoenix.**") as events:
            for event in events: ...

    One thread may iterate at a time. Items that are decoded when it closes can still be read.
    """

    def __init__(self, address: Address, request: Request, open_subscriptions: set[Any]) -> None:
        super().__init__(address, request, open_subscriptions)
        self._link: SyncLink | None = None
        self._closing = threading.Event()  # ends a wait for the next connection

    def __enter__(self) -> SyncSubscription[T]:
        if self._link is None and not self._closed:
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> SyncSubscription[T]:
        return self

    def __next__(self) -> T:
        stream = self._stream
        while not stream.items:
            self._fill()
        item: T = stream.items.popleft()
        return item

    def get(self, timeout: float | None = None) -> T:
        """Returns the next item. See `Subscription.get`."""
        stream = self._stream
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while not stream.items:
                if not self._fill(until):
                    raise TimeoutError(f"no item within {timeout} s")
        except StopIteration:
            raise ClosedError("the subscription is closed") from None
        item: T = stream.items.popleft()
        return item

    def batches(self, max_events: int = 4096, within: Duration = 0.25) -> SyncBatches[T]:
        """Returns an iterator over batches. See `Subscription.batches`."""
        return SyncBatches(self, max_events, milliseconds(within, "within") / 1000)

    def close(self) -> None:
        """Closes the connection; callable from any thread. Decoded items can still be iterated over."""
        self._closed = True
        self._closing.set()
        self._open_subscriptions.discard(self)
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _fill(self, until: float | None = None) -> bool:
        """Returns True when there are items, False at the deadline."""
        if self._filling:
            raise RuntimeError(
                "the subscription is already being iterated by another thread; subscribe once per thread"
            )
        self._filling = True
        try:
            while not self._stream.items:
                if not self._step(until):
                    return False
            return True
        finally:
            self._filling = False

    def _step(self, until: float | None) -> bool:
        if self._closed:
            raise StopIteration
        if self._ended is not None:
            raise self._ended
        try:
            if self._link is None:
                return self._open(until)
            if self._stream.advance():
                apply_gap_policy(self._stream)
            else:
                return self._link.read(until)
        except GapError:
            raise
        except DichroicError as error:
            self._disconnected(error)
        return True

    def _disconnected(self, error: DichroicError) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close(violation_goodbye(error) if isinstance(error, ProtocolError) else b"")
        self._schedule_reconnect(error)

    def _open(self, until: float | None = None) -> bool:
        """Waits until the scheduled time, then connects once. Returns False when `until` came first."""
        now = time.monotonic()
        if self._retry_at > now:
            at = self._retry_at if until is None else min(until, self._retry_at)
            self._closing.wait(min(max(0.0, at - now), threading.TIMEOUT_MAX))
            if until is not None and until < self._retry_at:
                return False
        if self._closed:
            return True
        self._stream.open()
        link = open_sync_link(self._address, self._stream, self._stream.subscribe_map(), until)
        if link is None:
            return False
        self._link = link
        if self._closed:
            link.close()
        self._report_connect()
        return True


def open_sync_link(
    address: Address, stream: Stream, subscribe: dict[str, Any] | None, until: float | None = None
) -> SyncLink | None:
    """Connects to the first endpoint that accepts, and completes the handshake. None: `until` came first."""
    failures: list[tuple[Endpoint, OSError]] = []
    for endpoint in address.candidates():
        left = HELLO_TIMEOUT if until is None else until - time.monotonic()
        try:
            link = SyncLink(endpoint, stream, min(HELLO_TIMEOUT, max(0.001, left)))
        except TimeoutError as failure:
            if left < HELLO_TIMEOUT:
                return None
            failures.append((endpoint, failure))
            continue
        except OSError as failure:
            failures.append((endpoint, failure))
            continue
        try:
            link.write(opening_bytes(endpoint, address.token, subscribe))
            while not stream.established and not stream.queued:
                if not link.read(until):
                    link.close(b"")
                    return None
            if not stream.established:
                stream.advance()
            return link
        except BaseException:
            link.close(b"")
            raise
    raise address.not_found(failures)


class SyncBatches(Generic[T]):
    """An iterator over batches of a subscription."""

    def __init__(self, subscription: SyncSubscription[T], max_events: int, within: float) -> None:
        if max_events < 1:
            raise ValueError(f"invalid max_events={max_events}: expected at least 1")
        self._subscription = subscription
        self._kind = subscription._stream.request.kind
        self._max = max_events
        self._within = within
        self._error: Exception | None = None

    def __iter__(self) -> SyncBatches[T]:
        return self

    def __next__(self) -> Batch[T]:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        gathered: list[T] = []
        try:
            self._gather(gathered)
        except (DichroicError, StopIteration) as error:
            if not gathered:
                raise
            self._error = error  # raised after the items that precede it
        return Batch(gathered, self._kind)

    def _gather(self, gathered: list[T]) -> None:
        stream = self._subscription._stream
        deadline = 0.0
        while len(gathered) < self._max:
            if stream.items:
                if not gathered:
                    deadline = time.monotonic() + self._within
                move_items(stream, self._max - len(gathered), gathered)
            elif not gathered:
                self._subscription._fill()
            elif self._subscription._link is None or not self._subscription._fill(deadline):
                return  # a lost connection ends the batch: a reconnect may exceed the deadline


class SyncClient(ClientBase):
    """The blocking `Client`: a connection factory for one collector."""

    def __enter__(self) -> SyncClient:
        if self._has_handshake:
            stream = Stream(Request(("**",)))
            link = open_sync_link(self._address, stream, None)
            if link is not None:  # always: no time was given
                link.close()
            self.agent, self.epoch = stream.agent, stream.epoch
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every open subscription."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()

    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["event"] = "event",
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> SyncSubscription[Event]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["event"] = "event", on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> SyncSubscription[Event | Gap]: ...
    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["metric"],
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> SyncSubscription[Point]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["metric"], on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> SyncSubscription[Point | Gap]: ...
    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["log"],
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> SyncSubscription[Log]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["log"], on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> SyncSubscription[Log | Gap]: ...
    def subscribe(self, *patterns: str, **options: Unpack[SubscribeOptions]) -> SyncSubscription[Any]:
        """Subscribes to all events, points or logs that match any of the patterns. See `Client.subscribe`."""
        return SyncSubscription(self._address, self._request(patterns, options), self._subscriptions)


def connect_sync(address: str | os.PathLike[str] | None = None, *, token: str | None = None) -> SyncClient:
    """Returns a blocking client; use it as `with dichroic.connect_sync() as client:`. See `connect`."""
    return SyncClient(Address.parse(address, token))
