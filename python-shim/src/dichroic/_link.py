"""One asyncio connection that feeds one `Stream`: bytes in, pings answered, silence noticed, reading paused when the
consumer is behind. Called by `_client`; makes no decision about what the bytes mean or what follows their end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ._address import Endpoint
from ._errors import ConnectionLostError, DichroicError, HandshakeTimeoutError
from ._http import HttpBody
from ._protocol import CLOSING, HELLO_TIMEOUT, HIGH_WATER, LOW_WATER, SILENCE_TIMEOUT, Stream


class Link(asyncio.Protocol):
    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop, http: HttpBody | None = None) -> None:
        self._stream = stream
        self._loop = loop
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self._heard = loop.time()
        self._timer = loop.call_later(HELLO_TIMEOUT, self._watch)

    # -- called by the event loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._closed:
            transport.abort()
        else:
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return  # the stream may belong to the next connection by now
        self._heard = self._loop.time()
        if self._http is not None:
            try:
                data = self._http.feed(data)
            except DichroicError as error:
                self._stream.fail(error)
                self._wake()
                return
        answer = self._stream.receive(data)
        if answer and self._http is None and self._transport is not None:
            self._transport.write(answer)
        if self._stream.backlog > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._transport = None
        if self._closed:
            return
        refused = self._http.end() if self._http is not None else None
        reason = f": {exc}" if exc else ""
        self._stream.fail(
            refused or ConnectionLostError(f"the collector closed the connection without a goodbye{reason}")
        )
        self._wake()

    def _watch(self) -> None:
        """Ends a handshake that hangs, and a connection whose peer has vanished."""
        limit = SILENCE_TIMEOUT if self._stream.greeted else HELLO_TIMEOUT
        left = self._heard + limit - self._loop.time()
        if left > 0 or self._paused:
            self._timer = self._loop.call_later(left if left > 0 else 1.0, self._watch)
            return
        error: DichroicError = (
            ConnectionLostError(f"the collector was silent for {limit:.0f} s")
            if self._stream.greeted
            else HandshakeTimeoutError(f"the peer accepted the connection and did not greet within {limit:.0f} s")
        )
        self._stream.fail(error)
        self.abort()
        self._wake()

    # -- called by the subscription ----------------------------------------------------------------------------

    async def wait(self) -> None:
        """Returns when something has arrived or the connection has ended. Losing this wait loses nothing."""
        if self._stream.queued:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def read_on(self) -> None:
        """Reads again once the consumer has caught up."""
        if self._paused and self._stream.backlog < LOW_WATER:
            self._paused = False
            self._heard = self._loop.time()
            if self._transport is not None:
                self._transport.resume_reading()

    def close(self, farewell: bytes = CLOSING) -> None:
        """Says goodbye and closes; the bytes leave in the background."""
        self._closed = True
        self._timer.cancel()
        if self._transport is not None:
            if self._http is None and farewell:
                self._transport.write(farewell)
            self._transport.close()

    def abort(self) -> None:
        self._closed = True
        self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()


async def connect_link(endpoint: Endpoint, stream: Stream) -> Link:
    """A connected link; raises OSError when nobody listens."""
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
        link.abort()  # also a connection that was made in the moment of cancellation
        raise
    return link
