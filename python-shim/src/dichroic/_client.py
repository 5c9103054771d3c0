"""The asynchronous client: `connect`, `Subscription` with `__anext__`, batches, and the `events` generator.

A subscription has no task. Every await happens inside `__anext__`: cancelling it keeps the decoded items, the next
call reconnects if the connection broke, and no timeout, lock or task group is held across a `yield`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._address import Address, Endpoint
from ._base import ClientBase, SubscriptionBase, apply_gap_policy, move_items, opening_bytes
from ._batch import Batch
from ._errors import ClosedError, DichroicError, GapError, ProtocolError
from ._gap import Gap
from ._loop import Link, Pause, checkpoint, connect_link, new_pause, within
from ._points import Point
from ._protocol import Stream, violation_goodbye
from ._request import Duration, Options, Request, milliseconds
from ._types import Event, Log

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._request import SubscribeOptions

T = TypeVar("T")


class EventsOptions(Options, total=False):
    """The keywords of `events`: those of `subscribe` and of `connect`."""

    address: str | os.PathLike[str] | None
    token: str | None


class Subscription(SubscriptionBase[T]):
    """A live stream of items.

        async with client.subscribe("phoenix.**") as events:
            async for event in events: ...

    One task may iterate at a time. Items that are decoded when it closes can still be read.
    """

    def __init__(self, address: Address, request: Request, open_subscriptions: set[Any]) -> None:
        super().__init__(address, request, open_subscriptions)
        self._link: Link | None = None
        self._pause: Pause | None = None  # the wait for the next connection
        self._unbroken = 0  # rows since the event loop last ran; a frame counts as four more

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

    async def get(self, timeout: float | None = None) -> T:
        """Returns the next item, as `anext` does.

        Args:
            timeout: Seconds to wait for it; None: no limit. A timeout loses nothing.

        Raises:
            TimeoutError: No item arrived in time.
            ClosedError: The subscription is closed and its items are consumed.
        """
        stream = self._stream
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while not stream.items:
                if not await self._fill(until):
                    raise TimeoutError(f"no item within {timeout} s")
        except StopAsyncIteration:
            raise ClosedError("the subscription is closed") from None
        item: T = stream.items.popleft()
        return item

    def batches(self, max_events: int = 4096, within: Duration = 0.25) -> Batches[T]:
        """Returns an iterator over batches.

        Args:
            max_events: Largest number of items in a batch.
            within: Longest time from the first item of a batch to its end: "250ms", or seconds.
        """
        return Batches(self, max_events, milliseconds(within, "within") / 1000)

    async def aclose(self) -> None:
        """Closes the connection. Decoded items can still be iterated over."""
        self._closed = True
        self._open_subscriptions.discard(self)
        if self._pause is not None:
            self._pause.wake()
        link, self._link = self._link, None
        if link is not None:
            link.close()
            link.wake()
            await checkpoint()

    # -- filling -----------------------------------------------------------------------------------------------

    async def _fill(self, until: float | None = None, once: bool = False) -> bool:
        """Returns when there are items, at the deadline, or after one step; False if the deadline came first.

        Every await in it may be cancelled without loss.
        """
        if self._filling:
            raise RuntimeError("the subscription is already being iterated by another task; subscribe once per task")
        self._filling = True
        try:
            while not self._stream.items:
                await self._step(until)
                if once:
                    break
                idle = not self._stream.items and not self._stream.queued
                if idle and until is not None and time.monotonic() >= until:
                    return False
            return True
        finally:
            self._filling = False

    async def _step(self, until: float | None) -> None:
        if self._closed:
            raise StopAsyncIteration
        if self._ended is not None:
            raise self._ended
        left = None if until is None else max(0.001, until - time.monotonic())  # with 0 nothing would be read
        try:
            if self._link is None:
                await within(left, self._open())
            elif self._stream.advance():
                self._link.resume_reading()
                apply_gap_policy(self._stream)
                await self._yield_to_loop()
            else:
                self._link.resume_reading()
                self._unbroken = 0  # it waits, so the loop runs
                await self._link.wait(left)
        except GapError:
            raise
        except DichroicError as error:
            self._disconnected(error)

    async def _yield_to_loop(self) -> None:
        """Runs other tasks once per full frame, or per few dozen small ones, so that a fast stream starves none."""
        self._unbroken += 4 + len(self._stream.items)
        if self._unbroken >= 256:
            self._unbroken = 0
            await checkpoint()

    def _disconnected(self, error: DichroicError) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close(violation_goodbye(error) if isinstance(error, ProtocolError) else b"")
        self._schedule_reconnect(error)

    async def _open(self) -> None:
        """Waits until the scheduled time, then connects once."""
        wait = self._retry_at - time.monotonic()
        if wait > 0:
            self._pause = new_pause()
            await self._pause.wait(wait)
        if self._closed:
            return
        self._stream.open()
        link = await open_link(self._address, self._stream, self._stream.subscribe_map())
        if self._closed:
            link.close()
            return
        self._link = link
        self._report_connect()


async def open_link(address: Address, stream: Stream, subscribe: dict[str, Any] | None) -> Link:
    """Connects to the first endpoint that accepts, and completes the handshake. Cancelling it closes the link."""
    failures: list[tuple[Endpoint, OSError]] = []
    for endpoint in address.candidates():
        try:
            link = await connect_link(endpoint, stream)
        except OSError as failure:
            failures.append((endpoint, failure))
            continue
        try:
            link.write(opening_bytes(endpoint, address.token, subscribe))
            while not stream.established and not stream.queued:
                await link.wait()
            if not stream.established:
                stream.advance()
            return link
        except BaseException:
            link.abort()
            raise
    raise address.not_found(failures)


class Batches(Generic[T]):
    """An iterator over batches of a subscription. Cancelling its `__anext__` keeps the items gathered so far."""

    def __init__(self, subscription: Subscription[T], max_events: int, within: float) -> None:
        if max_events < 1:
            raise ValueError(f"invalid max_events={max_events}: expected at least 1")
        self._subscription = subscription
        self._kind = subscription._stream.request.kind
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
            self._error = error  # raised after the items that precede it
        batch, self._gathered = Batch(self._gathered, self._kind), []
        return batch

    async def _gather(self) -> None:
        subscription = self._subscription
        stream = subscription._stream
        while len(self._gathered) < self._max:
            if stream.items:
                if not self._gathered:
                    self._deadline = time.monotonic() + self._within
                move_items(stream, self._max - len(self._gathered), self._gathered)
            elif not self._gathered:
                await subscription._fill()
            elif stream.queued:
                await subscription._fill(once=True)
            elif not await self._more(self._deadline - time.monotonic()):
                return

    async def _more(self, left: float) -> bool:
        """Whether bytes arrive in time. A lost connection ends the batch: a reconnect may exceed the deadline."""
        link = self._subscription._link
        if link is None or left <= 0:
            return False
        await link.wait(left)
        return True


class Client(ClientBase):
    """A connection factory for one collector; each subscription has its own connection.

    Entering the context checks that the collector is reachable and accepts the token.
    """

    async def __aenter__(self) -> Client:
        if self._has_handshake:
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
        """Closes every open subscription."""
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
    def subscribe(self, *patterns: str, **options: Unpack[SubscribeOptions]) -> Subscription[Any]:
        """Subscribes to all events, points or logs that match any of the patterns.

        Args:
            patterns: Dotted names; `*` matches within a segment, `**` across segments.
            kind: "event" (default), "metric" or "log".
            where: Filter on label values: `{label: pattern or list of patterns}`.
            replay: Start this far in the past, as far as the collector retains rows: "30s", or seconds.
            every: Interval of points, only with kind="metric"; default 1 s. The collector allows no less than 100 ms.
            buffer: Rows the collector queues for this subscription, 64 to 1,048,576; default 8192.
            on_full: When the queue is full: "drop_oldest" (default), "drop_newest" or "disconnect".
            on_gap: On lost rows: "warn" with a `GapWarning` (default), "yield" a `Gap`, "raise" a `GapError`.
            sample: Share of the rows to deliver, above 0 and at most 1; default all.
            within: Longest time that the collector lets an event or log wait so that more of them share a frame: "5ms",
                or seconds, at most 10 s. Default 5 ms; 0: none, which costs more CPU. A full frame is sent at once.
            cursor: Resume at `subscription.cursor` of an earlier subscription.
            reconnect: Reconnect and resume when the connection breaks; default True.
            on_disconnect: Called with the error when an established connection ends, before the reconnect.

        Raises:
            ClosedError: The client is closed.
            ValueError, TypeError: An argument is invalid.
        """
        return Subscription(self._address, self._request(patterns, options), self._subscriptions)


def connect(address: str | os.PathLike[str] | None = None, *, token: str | None = None) -> Client:
    """Returns a client; use it as `async with dichroic.connect() as client:`.

    Args:
        address: `unix:///path`, a path, `tcp://host:port`, or `http://host:port` of the admin address. Default:
            `$DICHROIC_SOCKET`, else the first default path of the local socket that accepts a connection.
        token: Required over TCP; default `$DICHROIC_TOKEN`.

    Raises:
        ValueError: The address is invalid.
    """
    return Client(Address.parse(address, token))


@overload
def events(
    *patterns: str,
    kind: Literal["event"] = "event",
    on_gap: Literal["warn", "raise"] = "warn",
    **options: Unpack[EventsOptions],
) -> AsyncGenerator[Event, None]: ...
@overload
def events(
    *patterns: str, kind: Literal["event"] = "event", on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncGenerator[Event | Gap, None]: ...
@overload
def events(
    *patterns: str, kind: Literal["metric"], on_gap: Literal["warn", "raise"] = "warn", **options: Unpack[EventsOptions]
) -> AsyncGenerator[Point, None]: ...
@overload
def events(
    *patterns: str, kind: Literal["metric"], on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncGenerator[Point | Gap, None]: ...
@overload
def events(
    *patterns: str, kind: Literal["log"], on_gap: Literal["warn", "raise"] = "warn", **options: Unpack[EventsOptions]
) -> AsyncGenerator[Log, None]: ...
@overload
def events(
    *patterns: str, kind: Literal["log"], on_gap: Literal["yield"], **options: Unpack[EventsOptions]
) -> AsyncGenerator[Log | Gap, None]: ...
async def events(
    *patterns: str,
    address: str | os.PathLike[str] | None = None,
    token: str | None = None,
    **options: Any,
) -> AsyncGenerator[Any, None]:
    """Connects and yields items: `async for event in dichroic.events("oban.job.exception"): …`.

    An async generator for notebooks and scripts. Leaving the loop early is safe: the generator holds only its
    subscription, and closes the connection when it is closed.

    Args:
        patterns: See `Client.subscribe`.
        address: See `connect`.
        token: See `connect`.
        options: See `Client.subscribe`.
    """
    subscription = connect(address, token=token).subscribe(*patterns, **options)
    stream = subscription._stream
    try:
        while True:
            while not stream.items:  # as `__anext__`, without a coroutine for each item
                try:
                    await subscription._fill()
                except StopAsyncIteration:
                    return
            yield stream.items.popleft()
    finally:
        await subscription.aclose()
