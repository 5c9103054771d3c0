"""The blocking client: the same names as the asyncio one, on a plain socket and the same sans-I/O `Stream`."""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._address import Address, Endpoint
from ._batch import Batch
from ._client import Cursor, Options, Where, hand_out_gaps, take
from ._errors import ClosedError, ConnectionLostError, DichroicError, GapError, HandshakeTimeoutError, ProtocolError
from ._http import HttpBody, stream_request
from ._points import Point
from ._protocol import CLOSING, HELLO_TIMEOUT, SILENCE_TIMEOUT, Stream, complaint, greeting
from ._recovery import Recovery
from ._request import Duration, Kind, OnFull, OnGap, Request, milliseconds
from ._types import Event, Gap, Log, Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
READ_SIZE = 262_144


class SyncLink:
    """One blocking connection that feeds one `Stream`."""

    def __init__(self, endpoint: Endpoint, stream: Stream) -> None:
        self._stream = stream
        self._http = HttpBody() if endpoint.kind == "http" else None
        if endpoint.kind == "unix":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.settimeout(HELLO_TIMEOUT)
                self._socket.connect(endpoint.path)
            except OSError:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection((endpoint.host, endpoint.port), HELLO_TIMEOUT)
        self._heard = time.monotonic()

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(HELLO_TIMEOUT)
            self._socket.sendall(data)
        except OSError as error:
            self._stream.fail(ConnectionLostError(f"the connection broke: {error}"))

    def read(self, until: float | None = None) -> bool:
        """Reads what there is, waiting for it `until` a monotonic time. False when that time came first."""
        limit = SILENCE_TIMEOUT if self._stream.greeted else HELLO_TIMEOUT
        silent_at = self._heard + limit
        wait = (silent_at if until is None else min(until, silent_at)) - time.monotonic()
        try:
            self._socket.settimeout(max(0.0, wait))
            data = self._socket.recv(READ_SIZE)
        except (TimeoutError, BlockingIOError):
            if time.monotonic() < silent_at:
                return False
            kind = ConnectionLostError if self._stream.greeted else HandshakeTimeoutError
            self._stream.fail(kind(f"the collector was silent for {limit:.0f} s"))
            return True
        except OSError as error:
            self._stream.fail(ConnectionLostError(f"the connection broke: {error}"))
            return True
        self._heard = time.monotonic()
        if not data:
            refused = self._http.end() if self._http is not None else None
            self._stream.fail(refused or ConnectionLostError("the collector closed the connection without a goodbye"))
            return True
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        if self._http is None:
            answer = self._stream.receive(data)
            if answer:
                self.write(answer)
            return
        try:
            self._stream.receive(self._http.feed(data))
        except DichroicError as error:
            self._stream.fail(error)

    def close(self, farewell: bytes = CLOSING) -> None:
        try:
            if farewell and self._http is None:
                self._socket.settimeout(0.1)
                self._socket.sendall(farewell)
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        except OSError:
            pass  # it is gone already, which is what closing is for
        self._socket.close()


class SyncSubscription(Generic[T]):
    """Items as they happen: `with client.subscribe(…) as events: for event in events: …`"""

    def __init__(
        self, address: Address, request: Request, reconnect: bool, siblings: set[SyncSubscription[Any]] | None = None
    ) -> None:
        self._siblings = siblings if siblings is not None else set()
        self._siblings.add(self)
        self._address = address
        self._stream = Stream(request)
        self._recovery = Recovery(self._stream, reconnect)
        self._link: SyncLink | None = None
        self._filling = False
        self._closed = False
        self._closing = threading.Event()  # ends a wait for the next connection
        self._ended: DichroicError | None = None
        self._retry_at = 0.0

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

    def batches(self, max_events: int = 4096, within: Duration = 0.25) -> SyncBatches[T]:
        """Iterates over `Batch`es: up to `max_events` items, or what came `within` that time after the first."""
        return SyncBatches(self, max_events, milliseconds(within, "within") / 1000)

    @property
    def cursor(self) -> Cursor | None:
        """Where the next item stands; `subscribe(…, cursor=…)` goes on there. None for points and before connecting."""
        return self._stream.cursor

    @property
    def stats(self) -> Stats:
        return self._stream.stats()

    def close(self) -> None:
        """Says goodbye and closes, from any thread. What has been decoded already can still be iterated over."""
        self._closed = True
        self._closing.set()
        self._siblings.discard(self)
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _fill(self, until: float | None = None) -> bool:
        """Returns True once there are items, False when the time came first."""
        if self._filling:
            raise RuntimeError("this subscription is already being iterated by another thread; subscribe once for each")
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
                self._open()
            elif self._stream.advance():
                hand_out_gaps(self._stream)
            else:
                return self._link.read(until)
        except GapError:
            raise
        except DichroicError as error:
            self._lost(error)
        return True

    def _lost(self, error: DichroicError) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close(complaint(error) if isinstance(error, ProtocolError) else b"")
        try:
            delay = self._recovery.delay(error)
        except DichroicError as final:
            self._ended = final
            raise
        self._retry_at = time.monotonic() + delay
        hand_out_gaps(self._stream)

    def _open(self) -> None:
        wait = self._retry_at - time.monotonic()
        if wait > 0:
            self._closing.wait(min(wait, threading.TIMEOUT_MAX))
        if self._closed:
            return
        self._stream.open()
        link = open_sync_link(self._address, self._stream, self._stream.subscribe_map())
        self._link = link
        if self._closed:
            link.close()


def open_sync_link(address: Address, stream: Stream, subscribe: dict[str, Any] | None) -> SyncLink:
    """Connects to the first candidate that listens, and greets."""
    failures: list[tuple[Endpoint, OSError]] = []
    for endpoint in address.candidates():
        try:
            link = SyncLink(endpoint, stream)
        except OSError as failure:
            failures.append((endpoint, failure))
            continue
        try:
            if endpoint.kind == "http":
                link.write(stream_request(endpoint, address.token, subscribe or {}))
            else:
                link.write(greeting(address.token, subscribe))
            while not stream.greeted and not stream.queued:
                link.read()
            if not stream.greeted:
                stream.advance()
            return link
        except BaseException:
            link.close(b"")
            raise
    raise address.nobody(failures)


class SyncBatches(Generic[T]):
    """An iterator over batches of a subscription."""

    def __init__(self, subscription: SyncSubscription[T], max_events: int, within: float) -> None:
        if max_events < 1:
            raise ValueError(f"max_events={max_events} is not at least 1")
        self._subscription = subscription
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
            self._error = error  # first the items that came before it
        return Batch(gathered)

    def _gather(self, gathered: list[T]) -> None:
        stream = self._subscription._stream
        deadline = 0.0
        while len(gathered) < self._max:
            if stream.items:
                if not gathered:
                    deadline = time.monotonic() + self._within
                take(stream, self._max - len(gathered), gathered)
            elif not gathered:
                self._subscription._fill()
            elif self._subscription._link is None or not self._subscription._fill(deadline):
                return  # a lost connection ends the batch: its return is nobody's deadline


class SyncClient:
    """A collector that has been found and greeted. Each subscription is a connection of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._subscriptions: set[SyncSubscription[Any]] = set()  # those not closed
        self.agent = ""  #: what the collector calls itself, such as "dichroic/0.1.0"
        self.epoch: int | None = None  #: when the collector started, ns since the epoch

    def __enter__(self) -> SyncClient:
        if self._address.endpoint is not None and self._address.endpoint.kind == "http":
            return self  # HTTP has only subscriptions: the first one will tell
        stream = Stream(Request(("**",)))
        open_sync_link(self._address, stream, None).close()
        self.agent, self.epoch = stream.agent, stream.epoch
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every subscription that is still open."""
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
    def subscribe(
        self,
        *patterns: str,
        kind: Kind = "event",
        on_gap: OnGap = "warn",
        where: Where | None = None,
        replay: Duration | None = None,
        every: Duration = 1.0,
        buffer: int = 8192,
        on_full: OnFull = "drop_oldest",
        sample: float | None = None,
        cursor: Cursor | None = None,
        reconnect: bool = True,
    ) -> SyncSubscription[Any]:
        """Subscribes to what matches any of the patterns (dotted names, `*` within a segment, `**` across them).

        `where` filters by label with the same globs; `replay` begins that long ago, as far as the collector still
        has it; `every` is the interval of points; `buffer` (rows, in the collector) and `on_full` say what happens
        when this subscription is slower than the stream; `on_gap` what a loss does here: a `GapWarning`, a `Gap`
        among the items, or a `GapError`; `sample` takes a share of the events; `cursor` goes on where another
        subscription stopped.
        """
        if self._closed:
            raise ClosedError("this client is closed; connect again")
        request = Request(patterns, kind, where, replay, every, buffer, on_full, on_gap, sample, cursor)
        return SyncSubscription(self._address, request, reconnect, self._subscriptions)


def connect_sync(address: str | os.PathLike[str] | None = None, *, token: str | None = None) -> SyncClient:
    """`connect` for programs without asyncio: `with dichroic.connect_sync() as client:`."""
    return SyncClient(Address.parse(address, token))
