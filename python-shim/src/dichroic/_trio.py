"""The connection and the waiting of the asynchronous client under trio, through anyio."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ._address import Endpoint
from ._errors import ConnectionLostError, MissingDependencyError
from ._protocol import CLOSE, HELLO_TIMEOUT, Stream
from ._socket_link import SocketLink

try:
    import anyio
    import anyio.lowlevel
except ImportError:
    if not TYPE_CHECKING:
        raise MissingDependencyError("dichroic under trio needs anyio: pip install anyio") from None


class Pause:
    """A wait that ends when it is woken, or when its time is over."""

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None

    async def wait(self, seconds: float | None = None) -> None:
        with anyio.move_on_after(seconds) as self._scope:
            await anyio.sleep_forever()

    def wake(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


async def checkpoint() -> None:
    """Lets other tasks run."""
    await anyio.lowlevel.checkpoint()


async def within(seconds: float | None, work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work` and cancels it when its time is over."""
    with anyio.move_on_after(seconds):
        await work


class TrioLink(SocketLink):
    """The connection of one subscription. It reads while the subscription waits: there is no background task."""

    def __init__(self, endpoint: Endpoint, stream: Stream, connected: socket.socket) -> None:
        super().__init__(endpoint, stream, connected)
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when bytes arrived, the connection ended or the time is over. Cancelling it loses nothing."""
        if self._stream.queued or self._closed:
            return
        until = None if seconds is None else time.monotonic() + seconds
        try:
            with anyio.move_on_after(self._time_left(until)) as self._scope:
                await anyio.wait_readable(self._socket)
        except (anyio.ClosedResourceError, anyio.BusyResourceError):
            return  # closed by another task
        if self._closed:
            return
        try:
            data = self._read()
        except BlockingIOError:
            self._timed_out()
        except OSError as error:
            self._broke(error)
        else:
            self._received(data)

    def wake(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def write(self, data: bytes) -> None:
        """Sends a HELLO or a PONG, for which an empty send buffer always has room."""
        try:
            if self._socket.send(data) == len(data):
                return
            error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except OSError as failure:
            error = failure
        self._stream.fail(ConnectionLostError(f"the collector does not read: {error}"))

    def resume_reading(self) -> None:
        """Nothing is read ahead."""

    def close(self, last_frame: bytes = CLOSE) -> None:
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            super().close(last_frame)

    def abort(self) -> None:
        self.close(b"")


async def connect_link(endpoint: Endpoint, stream: Stream) -> TrioLink:
    """Connects to one endpoint; raises `OSError` when that fails."""
    try:
        with anyio.fail_after(HELLO_TIMEOUT):
            return TrioLink(endpoint, stream, await _connect(endpoint))
    except TimeoutError:
        raise TimeoutError(f"no connection within {HELLO_TIMEOUT:.0f} s") from None


async def _connect(endpoint: Endpoint) -> socket.socket:
    if endpoint.kind == "unix":
        return await _connect_to(socket.AF_UNIX, endpoint.path)
    failure: OSError | None = None
    for family, *_, address in await anyio.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM):
        try:
            return await _connect_to(family, address)
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"no address for {endpoint.host}")


async def _connect_to(family: int, address: Any) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        # EAGAIN: the backlog of a Unix socket is full, and nothing reports that it has room.
        while (code := connecting.connect_ex(address)) == errno.EAGAIN:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        if code == errno.EINPROGRESS:
            await anyio.wait_writable(connecting)
            code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        connecting.close()
        raise
    return connecting
