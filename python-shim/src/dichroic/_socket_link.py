"""One connection over a plain socket that feeds one `Stream`: the part that the blocking client and trio share.

Reading happens only while the subscription is iterated; so do answers to pings.
"""

from __future__ import annotations

import socket
import time

from ._address import Endpoint
from ._errors import ConnectionLostError, DichroicError, HandshakeTimeoutError
from ._http import HttpBody
from ._protocol import CLOSE, HELLO_TIMEOUT, READ_SIZE, SILENCE_TIMEOUT, Stream


class SocketLink:
    """Handles received data and silence. A subclass waits for the socket."""

    def __init__(self, endpoint: Endpoint, stream: Stream, connected: socket.socket) -> None:
        self._stream = stream
        self._http = HttpBody() if endpoint.kind == "http" else None
        self._socket = connected
        self._last_received = time.monotonic()
        self._buffer = memoryview(bytearray(READ_SIZE))

    def _read(self) -> bytes:
        """Reads once, without allocating more than arrived."""
        return self._buffer[: self._socket.recv_into(self._buffer)].tobytes()

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def _limit(self) -> float:
        """Seconds without data after which the connection counts as dead."""
        return SILENCE_TIMEOUT if self._stream.established else HELLO_TIMEOUT

    def _time_left(self, until: float | None) -> float:
        """Seconds left until the caller's deadline or the silence limit, whichever is first."""
        silent_at = self._last_received + self._limit()
        return max(0.0, (silent_at if until is None else min(until, silent_at)) - time.monotonic())

    def _timed_out(self) -> bool:
        """True if the connection is dead; False if only the caller's deadline passed."""
        limit = self._limit()
        if time.monotonic() < self._last_received + limit:
            return False
        self._stream.fail(
            ConnectionLostError(f"no data from the collector for {limit:.0f} s")
            if self._stream.established
            else HandshakeTimeoutError(f"the peer accepted the connection but sent no HELLO within {limit:.0f} s")
        )
        return True

    def _broke(self, error: OSError) -> None:
        self._stream.fail(ConnectionLostError(f"the connection broke: {error}"))

    def _received(self, data: bytes) -> None:
        """Passes bytes to the stream; no bytes mean that the peer closed the connection."""
        self._last_received = time.monotonic()
        if not data:
            refused = self._http.end() if self._http is not None else None
            self._stream.fail(
                refused or ConnectionLostError("the collector closed the connection without a GOODBYE frame")
            )
        elif self._http is None:
            answer = self._stream.receive(data)
            if answer:
                self.write(answer)
        else:
            try:
                self._stream.receive(self._http.feed(data))
            except DichroicError as error:
                self._stream.fail(error)

    def close(self, last_frame: bytes = CLOSE) -> None:
        try:
            if last_frame and self._http is None:
                self._socket.settimeout(0.1)
                self._socket.sendall(last_frame)
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        except OSError:
            pass  # already disconnected
        self._socket.close()
