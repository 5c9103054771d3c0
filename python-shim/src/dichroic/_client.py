"""The asyncio client: `connect`, subscriptions as plain objects with `__anext__`, batches, and the `events` generator.

A subscription owns no task. Everything it waits for is awaited inside `__anext__`, so a cancelled `__anext__` leaves
what has been decoded where it was, a broken connection is re-established by whoever asks for the next item, and no
timeout, lock or task group is ever held across a `yield`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, overload

from ._address import Address, Endpoint
from ._batch import Batch
from ._errors import ClosedError, DichroicError, GapError, GapWarning, ProtocolError
from ._http import stream_request
from ._link import Link, connect_link
from ._points import Point
from ._protocol import Stream, complaint, greeting
from ._recovery import Recovery
from ._request import Duration, Kind, OnFull, OnGap, Patterns, Request, milliseconds
from ._types import Event, Gap, Log, Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
Cursor = tuple[int, int, int]
Where = Mapping[str, Patterns]


class Options(TypedDict, total=False):
    """The keywords of `subscribe` that do not change what it hands out."""

    where: Where | None
    replay: Duration | None
    every: Duration
    buffer: int
    on_full: OnFull
    sample: float | None
    cursor: Cursor | None
    reconnect: bool


class EventsOptions(Options, total=False):
    """The keywords of `events`: those of `subscribe` and of `connect`."""

    address: str | os.PathLike[str] | None
    token: str | None


def hand_out_gaps(stream: Stream) -> None:
    """Applies `on_gap` to the gaps that stand next in line. "yield" leaves them for the consumer."""
    policy = stream.request.on_gap
    if policy == "yield":
        return
    items = stream.items
    while items and type(items[0]) is Gap:
        gap = items.popleft()
        if policy == "raise":
            raise GapError(gap)
        # No registry: the same loss twice is two losses, and the usual filter would show only the first.
        patterns = ", ".join(map(repr, stream.request.patterns))
        warnings.warn_explicit(str(gap), GapWarning, f"dichroic.subscribe({patterns})", 1, "dichroic", {})


def take(stream: Stream, room: int, into: list[Any]) -> None:
    """Moves up to `room` decoded items."""
    items = stream.items
    if room >= len(items):
        into.extend(items)
        items.clear()
    else:
        into.extend(items.popleft() for _ in range(room))


class Subscription(Generic[T]):
    """Items as they happen: `async with client.subscribe(…) as events: async for event in events: …`"""

    def __init__(
        self, address: Address, request: Request, reconnect: bool, siblings: set[Subscription[Any]] | None = None
    ) -> None:
        self._siblings = siblings if siblings is not None else set()
        self._siblings.add(self)
        self._address = address
        self._stream = Stream(request)
        self._recovery = Recovery(self._stream, reconnect)
        self._link: Link | None = None
        self._filling = False
        self._closed = False
        self._closing = asyncio.Event()  # ends a wait for the next connection
        self._ended: DichroicError | None = None
        self._retry_at = 0.0
        self._unbroken = 0  # rows since others could run, each frame counted as four more

    async def __aenter__(self) -> Subscription[T]:
        if self._link is None and not self._closed:
            await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T:
        stream = self._stream
        while not stream.items:
            await self._fill()
        item: T = stream.items.popleft()
        return item

    def batches(self, max_events: int = 4096, within: Duration = 0.25) -> Batches[T]:
        """Iterates over `Batch`es: up to `max_events` items, or what came `within` that time after the first."""
        return Batches(self, max_events, milliseconds(within, "within") / 1000)

    @property
    def cursor(self) -> Cursor | None:
        """Where the next item stands; `subscribe(…, cursor=…)` goes on there. None for points and before connecting."""
        return self._stream.cursor

    @property
    def stats(self) -> Stats:
        return self._stream.stats()

    async def aclose(self) -> None:
        """Says goodbye and closes. What has been decoded already can still be iterated over."""
        self._closed = True
        self._closing.set()
        self._siblings.discard(self)
        link, self._link = self._link, None
        if link is not None:
            link.close()
            link._wake()
            await asyncio.sleep(0)

    # -- filling -----------------------------------------------------------------------------------------------

    async def _fill(self, once: bool = False) -> None:
        """Returns once there are items, or after one step; every await in here may be cancelled without loss."""
        if self._filling:
            raise RuntimeError("this subscription is already being iterated by another task; subscribe once for each")
        self._filling = True
        try:
            while not self._stream.items:
                await self._step()
                if once:
                    break
        finally:
            self._filling = False

    async def _step(self) -> None:
        if self._closed:
            raise StopAsyncIteration
        if self._ended is not None:
            raise self._ended
        try:
            if self._link is None:
                await self._open()
            elif self._stream.advance():
                self._link.read_on()
                hand_out_gaps(self._stream)
                await self._breathe()
            else:
                self._link.read_on()
                await self._link.wait()
        except GapError:
            raise
        except DichroicError as error:
            self._lost(error)

    async def _breathe(self) -> None:
        """Lets others run once a full frame, or a few dozen small ones: a fast stream starves nobody."""
        self._unbroken += 4 + len(self._stream.items)
        if self._unbroken >= 256:
            self._unbroken = 0
            await asyncio.sleep(0)

    def _lost(self, error: DichroicError) -> None:
        """The connection is over: decides whether another one follows."""
        link, self._link = self._link, None
        if link is not None:
            link.close(complaint(error) if isinstance(error, ProtocolError) else b"")
        try:
            delay = self._recovery.delay(error)
        except DichroicError as final:
            self._ended = final
            raise
        self._retry_at = asyncio.get_running_loop().time() + delay
        hand_out_gaps(self._stream)

    async def _open(self) -> None:
        """One attempt at a greeted connection, not before its time."""
        wait = self._retry_at - asyncio.get_running_loop().time()
        if wait > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), wait)
        if self._closed:
            return
        self._stream.open()
        link = await open_link(self._address, self._stream, self._stream.subscribe_map())
        if self._closed:
            link.close()
            return
        self._link = link


async def open_link(address: Address, stream: Stream, subscribe: dict[str, Any] | None) -> Link:
    """Connects to the first candidate that listens, and greets. The link is closed when this is cancelled or fails."""
    failures: list[tuple[Endpoint, OSError]] = []
    for endpoint in address.candidates():
        try:
            link = await connect_link(endpoint, stream)
        except OSError as failure:
            failures.append((endpoint, failure))
            continue
        try:
            if endpoint.kind == "http":
                link.write(stream_request(endpoint, address.token, subscribe or {}))
            else:
                link.write(greeting(address.token, subscribe))
            while not stream.greeted and not stream.queued:
                await link.wait()
            if not stream.greeted:
                stream.advance()
            return link
        except BaseException:
            link.abort()
            raise
    raise address.nobody(failures)


class Batches(Generic[T]):
    """An iterator over batches of a subscription. Cancelling its `__anext__` keeps what it had gathered."""

    def __init__(self, subscription: Subscription[T], max_events: int, within: float) -> None:
        if max_events < 1:
            raise ValueError(f"max_events={max_events} is not at least 1")
        self._subscription = subscription
        self._max = max_events
        self._within = within
        self._gathered: list[T] = []
        self._deadline = 0.0
        self._error: Exception | None = None

    def __aiter__(self) -> Batches[T]:
        return self

    async def __anext__(self) -> Batch[T]:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        try:
            await self._gather()
        except (DichroicError, StopAsyncIteration) as error:
            if not self._gathered:
                raise
            self._error = error  # first the items that came before it
        batch, self._gathered = Batch(self._gathered), []
        return batch

    async def _gather(self) -> None:
        loop = asyncio.get_running_loop()
        subscription = self._subscription
        stream = subscription._stream
        while len(self._gathered) < self._max:
            if stream.items:
                if not self._gathered:
                    self._deadline = loop.time() + self._within
                take(stream, self._max - len(self._gathered), self._gathered)
            elif not self._gathered:
                await subscription._fill()
            elif stream.queued:
                await subscription._fill(once=True)
            elif not await self._more(self._deadline - loop.time()):
                return

    async def _more(self, left: float) -> bool:
        """Whether something arrives in time. A lost connection ends the batch: its return is nobody's deadline."""
        link = self._subscription._link
        if link is None or left <= 0:
            return False
        try:
            await asyncio.wait_for(link.wait(), left)
        except asyncio.TimeoutError:
            return False
        return True


class Client:
    """A collector that has been found and greeted. Each subscription is a connection of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._closed = False
        self._subscriptions: set[Subscription[Any]] = set()  # those not closed
        self.agent = ""  #: what the collector calls itself, such as "dichroic/0.1.0"
        self.epoch: int | None = None  #: when the collector started, ns since the epoch

    async def __aenter__(self) -> Client:
        if self._address.endpoint is not None and self._address.endpoint.kind == "http":
            return self  # HTTP has only subscriptions: the first one will tell
        stream = Stream(Request(("**",)))
        link = await open_link(self._address, stream, None)
        link.close()
        self.agent, self.epoch = stream.agent, stream.epoch
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every subscription that is still open."""
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.aclose()

    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["event"] = "event",
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> Subscription[Event]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["event"] = "event", on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> Subscription[Event | Gap]: ...
    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["metric"],
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> Subscription[Point]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["metric"], on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> Subscription[Point | Gap]: ...
    @overload
    def subscribe(
        self,
        *patterns: str,
        kind: Literal["log"],
        on_gap: Literal["warn", "raise"] = "warn",
        **options: Unpack[Options],
    ) -> Subscription[Log]: ...
    @overload
    def subscribe(
        self, *patterns: str, kind: Literal["log"], on_gap: Literal["yield"], **options: Unpack[Options]
    ) -> Subscription[Log | Gap]: ...
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
    ) -> Subscription[Any]:
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
        return Subscription(self._address, request, reconnect, self._subscriptions)


def connect(address: str | os.PathLike[str] | None = None, *, token: str | None = None) -> Client:
    """The collector at `address`, or the one that the usual places of its local socket lead to.

    `unix:///path`, a plain path, `tcp://host:port` (with a token), `http://host:port` (the admin address). The token
    may also stand in `$DICHROIC_TOKEN`. Use it as `async with dichroic.connect() as client:`.
    """
    return Client(Address.parse(address, token))


@overload
def events(
    *patterns: str,
    kind: Literal["event"] = "event",
    on_gap: Literal["warn", "raise"] = "warn",
    **options: Unpack[EventsOptions],
) -> AsyncIterator[Event]: ...
@overload
def events(
    *patterns: str, kind: Literal["event"] = "event", on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncIterator[Event | Gap]: ...
@overload
def events(
    *patterns: str, kind: Literal["metric"], on_gap: Literal["warn", "raise"] = "warn", **options: Unpack[EventsOptions]
) -> AsyncIterator[Point]: ...
@overload
def events(
    *patterns: str, kind: Literal["metric"], on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncIterator[Point | Gap]: ...
@overload
def events(
    *patterns: str, kind: Literal["log"], on_gap: Literal["warn", "raise"] = "warn", **options: Unpack[EventsOptions]
) -> AsyncIterator[Log]: ...
@overload
def events(
    *patterns: str, kind: Literal["log"], on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncIterator[Log | Gap]: ...
async def events(
    *patterns: str,
    address: str | os.PathLike[str] | None = None,
    token: str | None = None,
    **options: Any,
) -> AsyncIterator[Any]:
    """`async for event in dichroic.events("oban.job.exception"): …`, for notebooks and scripts.

    A real async generator; it takes the arguments of `connect` and `Client.subscribe`. It holds nothing but its
    subscription, so leaving the loop early is safe; the connection closes when the generator does.
    """
    subscription = connect(address, token=token).subscribe(*patterns, **options)
    try:
        while True:
            try:
                item = await subscription.__anext__()
            except StopAsyncIteration:
                return
            yield item
    finally:
        await subscription.aclose()
