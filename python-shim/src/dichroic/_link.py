"""One asyncio connection that feeds one `Stream`: answers pings, detects silence, pauses reading when the consumer is
behind. Decoding is in `Stream`, reconnecting in `_client`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ._address import Endpoint
from ._errors import ConnectionLostError, DichroicError, HandshakeTimeoutError
from ._http import HttpBody
from ._protocol import CLOSE, HELLO_TIMEOUT, HIGH_WATER, LOW_WATER, SILENCE_TIMEOUT, Stream


class Link(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop, http: HttpBody | None = None) -> None:
        self._stream = stream
        self._loop = loop
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self._last_received = loop.time()
        self._timer = loop.call_later(HELLO_TIMEOUT, self._check_silence)

    # -- called by the event loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._closed:
            transport.abort()
        else:
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return  # the stream may already belong to the next connection
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
        if self._stream.backlog > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self.wake()

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

    # -- called by the subscription ----------------------------------------------------------------------------

    async def wait(self) -> None:
        """Returns when bytes arrived or the connection ended. Cancelling it loses nothing."""
        if self._stream.queued:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def resume_reading(self) -> None:
        """Resumes reading when the consumer has caught up."""
        if self._paused and self._stream.backlog < LOW_WATER:
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
        await asyncio.wait_for(attempt, HELLO_TIMEOUT)
    except asyncio.TimeoutError:
        link.abort()
        raise TimeoutError(f"no connection within {HELLO_TIMEOUT:.0f} s") from None
    except BaseException:
        link.abort()  # the connection may have been made just before the cancellation
        raise
    return link
