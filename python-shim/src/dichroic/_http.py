"""Frames over HTTP: the request for `/v1/stream` and an incremental parser of the response, without I/O.

Used by both clients for `http://` addresses. Over HTTP only the server sends frames.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from ._address import Endpoint
from ._errors import (
    BadRequestError,
    ConnectionLostError,
    DichroicError,
    GoodbyeError,
    InternalError,
    LimitExceededError,
    ProtocolError,
    UnauthorizedError,
)
from ._frames import MAJOR, MINOR
from ._values import Value

MAX_HEAD: Final = 16_384
MAX_CHUNK_LINE: Final = 1_024
MAX_MESSAGE: Final = 512
_STATUS: Final[dict[int, type[GoodbyeError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: UnauthorizedError,
    422: BadRequestError,
    503: LimitExceededError,
}


def stream_request(endpoint: Endpoint, token: str | None, subscribe: dict[str, Value]) -> bytes:
    """Builds `GET /v1/stream?format=frames&…`.

    Each key of the `subscribe` map is a parameter; a list repeats it; a pattern of `where` is `where.LABEL=PATTERN`;
    the cursor is `EPOCH,POSITION,ROWS`.
    """
    query: list[tuple[str, str]] = [("format", "frames")]
    for key, value in subscribe.items():
        if isinstance(value, dict):
            for label, patterns in value.items():
                query += [(f"{key}.{label}", str(pattern)) for pattern in patterns]
        elif key == "cursor" and isinstance(value, list):
            query.append((key, ",".join(map(str, value))))
        elif isinstance(value, list):
            query += [(key, str(item)) for item in value]
        else:
            query.append((key, str(value)))
    host = str(endpoint).removeprefix("http://")
    lines = [
        f"GET /v1/stream?{urlencode(query, quote_via=quote)} HTTP/1.1",
        f"Host: {host}",
        f"Accept: application/vnd.dichroic.frames; version={MAJOR}; minor={MINOR}",
        "User-Agent: dichroic-py",
    ]
    if token is not None:
        if "\r" in token or "\n" in token:
            raise ValueError("invalid token: it contains a line break")
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class HttpBody:
    """Extracts the body of a response; raises the exception for an error status."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._chunked = False
        self._head = True
        self._left: int | None = None  # bytes of the chunk or body; None: until the connection closes
        self._ended = False
        self._refused_status: int | None = None
        self._message = bytearray()  # body of an error response
        self._retry_ms = 0

    def feed(self, data: bytes) -> bytes:
        self._rest += data
        if self._head and not self._read_head():
            return b""
        body = self._read_chunks() if self._chunked else self._read_plain()
        if self._refused_status is not None:
            self._message += body
            if self._ended or len(self._message) >= MAX_MESSAGE:
                raise self._refused()
            return b""
        if self._ended and not body:
            raise ConnectionLostError("the HTTP response ended")
        return body

    def end(self) -> DichroicError | None:
        """Called at the end of the connection: returns the error of a response that had no length."""
        if self._refused_status is not None:
            return self._refused()
        return None

    def _read_head(self) -> bool:
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            if len(self._rest) > MAX_HEAD:
                raise ProtocolError(f"HTTP response head exceeds {MAX_HEAD} bytes")
            return False
        lines = self._rest[:end].decode("latin-1").split("\r\n")
        del self._rest[: end + 4]
        status = lines[0].split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/1.") or not status[1].isdigit():
            raise ProtocolError(f"not an HTTP server: it answers {lines[0][:80]!r}")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        if length is not None and length.isdigit() and not self._chunked:
            self._left = int(length)
            self._ended = self._left == 0
        retry = headers.get("retry-after", "")
        if retry.isdigit() and len(retry) < 6:
            self._retry_ms = int(retry) * 1000
        self._head = False
        if int(status[1]) != 200:
            self._refused_status = int(status[1])
        elif "vnd.dichroic.frames" not in headers.get("content-type", "vnd.dichroic.frames"):
            raise ProtocolError(
                f"unexpected content type {headers['content-type']!r}: use the collector's admin address"
            )
        return True

    def _refused(self) -> DichroicError:
        message = bytes(self._message[:MAX_MESSAGE]).decode("utf-8", "replace").strip()
        status = self._refused_status or 0
        if status == 404:
            return BadRequestError(f"HTTP 404 at /v1/stream: use the collector's admin address. {message}")
        return _STATUS.get(status, InternalError)(f"HTTP {status}: {message}", self._retry_ms)

    def _read_plain(self) -> bytes:
        body = bytes(self._rest)
        self._rest.clear()
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            self._ended = not self._left
        return body

    def _read_chunks(self) -> bytes:
        out = bytearray()
        at = 0
        rest = self._rest
        while at < len(rest) and not self._ended:
            if self._left:
                piece = rest[at : at + self._left]
                out += piece
                at += len(piece)
                self._left -= len(piece)
                continue
            # A chunk's data ends with a line break, which may still precede the next size line.
            start = at + 2 if rest[at : at + 2] == b"\r\n" else at
            end = rest.find(b"\r\n", start)
            if end < 0:
                if len(rest) - at > MAX_CHUNK_LINE:
                    raise ProtocolError("HTTP chunk without a size")
                break
            self._left = self._chunk_size(bytes(rest[start:end]))
            self._ended = self._left == 0
            at = end + 2
        del rest[:at]
        return bytes(out)

    @staticmethod
    def _chunk_size(line: bytes) -> int:
        digits = line.partition(b";")[0].strip()
        try:
            if not 1 <= len(digits) <= 8 or not digits.isalnum():
                raise ValueError
            return int(digits, 16)
        except ValueError:
            raise ProtocolError(f"invalid HTTP chunk size {line[:40]!r}") from None
