"""One asyncio connection that feeds one `Stream`: answers pings, detects silence, pauses reading when the consumer is
behind. Decoding is in `Stream`, reconnecting in `_client`.

An event loop only logs an exception of a protocol's callback, and the connection stays as it is. So every callback here
is guarded: its exception ends the link at once, as the cause of the error that the consumer gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, cast

from ._address import Endpoint
from ._deadline import bounded
from ._errors import ConnectionLostError, DichroicError, HandshakeTimeoutError
from ._http import HttpBody
from ._protocol import CLOSE, HELLO_TIMEOUT, READ_SIZE, SILENCE_TIMEOUT, Stream

P = ParamSpec("P")


def _guarded(callback: Callable[Concatenate[Link, P], None]) -> Callable[Concatenate[Link, P], None]:
    """Ends the link when the callback raises."""

    def guarded(self: Link, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(self, *args, **kwargs)
        except Exception as fault:
            self._fault(fault)

    return guarded


class Pause:
    """A wait that ends when it is woken, or when its time is over."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    async def wait(self, seconds: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = None if seconds is None else loop.call_later(max(0.0, seconds), self.wake)
        try:
            await self._future
        finally:
            self._future = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Link(asyncio.BufferedProtocol):
    """The protocol of one connection.

    It reads into one buffer: for a plain `Protocol`, asyncio allocates 256 KiB for every read, which costs more than
    decoding a small frame.
    """

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop, http: HttpBody | None = None) -> None:
        self._stream = stream
        self._loop = loop
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._pause = Pause()
        self._paused = False
        self._closed = False
        self._last_received = loop.time()
        self._timer = loop.call_later(HELLO_TIMEOUT, self._check_silence)
        self._buffer = memoryview(bytearray(READ_SIZE))

    # -- called by the event loop ------------------------------------------------------------------------------

    @_guarded
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: the transports of uvloop have the methods of `asyncio.Transport` but not the class.
        self._transport = cast("asyncio.Transport", transport)
        if self._closed:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    @_guarded
    def buffer_updated(self, nbytes: int) -> None:
        if self._closed:
            return  # the stream may already belong to the next connection
        data = self._buffer[:nbytes].tobytes()
        self._last_received = self._loop.time()
        if self._http is not None:
            try:
                data = self._http.feed(data)
            except DichroicError as error:
                self._stream.fail(error)
                self.wake()
                return
        answer = self._stream.receive(data)
        if answer and self._http is None and self._transport is not None:
            self._transport.write(answer)
        if self._stream.behind and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self.wake()

    @_guarded
    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._transport = None
        if self._closed:
            return
        refused = self._http.end() if self._http is not None else None
        reason = f": {exc}" if exc else ""
        self._stream.fail(
            refused or ConnectionLostError(f"the collector closed the connection without a GOODBYE frame{reason}")
        )
        self.wake()

    @_guarded
    def _check_silence(self) -> None:
        """Ends a handshake that takes too long, and a connection without data."""
        limit = SILENCE_TIMEOUT if self._stream.established else HELLO_TIMEOUT
        left = self._last_received + limit - self._loop.time()
        if left > 0 or self._paused:
            self._timer = self._loop.call_later(left if left > 0 else 1.0, self._check_silence)
            return
        error: DichroicError = (
            ConnectionLostError(f"no data from the collector for {limit:.0f} s")
            if self._stream.established
            else HandshakeTimeoutError(f"the peer accepted the connection but sent no HELLO within {limit:.0f} s")
        )
        self._stream.fail(error)
        self.abort()
        self.wake()

    def _fault(self, fault: Exception) -> None:
        error = ConnectionLostError(f"fault in the client: {fault!r}")
        error.__cause__ = fault
        self._stream.fail(error)
        self.abort()
        self.wake()

    # -- called by the subscription ----------------------------------------------------------------------------

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when bytes arrived, the connection ended or the time is over. Cancelling it loses nothing."""
        if not self._stream.queued:
            await self._pause.wait(seconds)

    def wake(self) -> None:
        self._pause.wake()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def resume_reading(self) -> None:
        """Resumes reading when the consumer has caught up."""
        if self._paused and self._stream.caught_up:
            self._paused = False
            self._last_received = self._loop.time()
            if self._transport is not None:
                self._transport.resume_reading()

    def close(self, last_frame: bytes = CLOSE) -> None:
        """Sends `last_frame` and closes, in the background."""
        self._closed = True
        self._timer.cancel()
        if self._transport is not None:
            if self._http is None and last_frame:
                self._transport.write(last_frame)
            self._transport.close()

    def abort(self) -> None:
        self._closed = True
        self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()


async def connect_link(endpoint: Endpoint, stream: Stream) -> Link:
    """Connects to one endpoint; raises `OSError` when that fails."""
    loop = asyncio.get_running_loop()
    link = Link(stream, loop, HttpBody() if endpoint.kind == "http" else None)
    attempt: Any
    if endpoint.kind == "unix":
        attempt = loop.create_unix_connection(lambda: link, endpoint.path)
    else:
        attempt = loop.create_connection(lambda: link, endpoint.host, endpoint.port)
    try:
        await bounded(attempt, HELLO_TIMEOUT)
    except asyncio.TimeoutError:
        link.abort()
        raise TimeoutError(f"no connection within {HELLO_TIMEOUT:.0f} s") from None
    except BaseException:
        link.abort()  # the connection may have been made just before the cancellation
        raise
    return link
