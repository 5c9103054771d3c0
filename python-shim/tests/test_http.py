"""Frames over HTTP: a chunked response decodes the same however it is split; error responses become exceptions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dichroic
from dichroic import _frames as frames
from dichroic._events import columns_of
from dichroic._frames import COLLECTOR, SCHEMA, SOURCE, Define, Events, Frame, Hello, encode_frame
from dichroic._http import HttpBody

from .conftest import asynchronous

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.dichroic.frames\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"5\r\nhello\r\n6;ext=1\r\n world\r\n1\r\n!\r\n"
FRAMES: list[Frame] = [
    Hello(COLLECTOR, {"agent": "http/0", "epoch": 1, "position": 1, "resumed": False}),
    Define(SOURCE, [(1, {"name": "node", "runtime": "beam"})]),
    Define(SCHEMA, [(1, {"name": "e", "kind": "event", "measurements": [["n", ""]], "metadata": []})]),
    Events(columns_of(1, 1, 1, [(1, 2), (3, 4)])),
]
STREAM = b"".join(map(encode_frame, FRAMES))


def test_every_split_of_a_chunked_response_has_the_same_body() -> None:
    for cut in range(len(CHUNKED) + 1):
        body = HttpBody()
        assert body.feed(CHUNKED[:cut]) + body.feed(CHUNKED[cut:]) == b"hello world!"
    body = HttpBody()
    assert b"".join(body.feed(bytes((byte,))) for byte in CHUNKED) == b"hello world!"


def test_a_response_without_chunks_is_its_body() -> None:
    assert HttpBody().feed(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"") + b"abc") == b"abc"


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (b"SSH-2.0-x\r\n\r\n", dichroic.ProtocolError, "not an HTTP server"),
        (b"x" * 20_000, dichroic.ProtocolError, "head exceeds"),
        (HEAD + b"zz\r\n", dichroic.ProtocolError, "invalid HTTP chunk size"),
        (HEAD + b"-5\r\n", dichroic.ProtocolError, "invalid HTTP chunk size"),
        (HEAD + b"123456789\r\n", dichroic.ProtocolError, "invalid HTTP chunk size"),
        (HEAD + b"1" * 2000, dichroic.ProtocolError, "without a size"),
        (HEAD + b"0\r\n\r\n", dichroic.ConnectionLostError, "ended"),
        (
            b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfull\r\n0\r\n\r\n",
            dichroic.LimitExceededError,
            "503: full$",
        ),
        (b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 600, dichroic.InternalError, "HTTP 500: xxx"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\ntoken", dichroic.UnauthorizedError, "HTTP 401: token"),
        (b"HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\nbad", dichroic.BadRequestError, "HTTP 400: bad"),
        (
            b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            dichroic.BadRequestError,
            "admin address",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            dichroic.ProtocolError,
            "admin address",
        ),
    ],
)
def test_a_bad_response_is_an_exception_with_a_reason(response: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        HttpBody().feed(response)


def test_retry_after_is_the_delay_of_the_exception() -> None:
    with pytest.raises(dichroic.LimitExceededError) as caught:
        HttpBody().feed(b"HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
    assert caught.value.retry_ms == 5000


@asynchronous
async def test_both_clients_stream_over_http() -> None:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD)
        for at in range(0, len(STREAM), 7):
            piece = STREAM[at : at + 7]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def blocking() -> list[Any]:
        with dichroic.connect_sync(address) as client, client.subscribe("**") as events:
            return [next(events).measurements["n"] for _ in range(2)]

    async with dichroic.connect(address, token="t") as client, client.subscribe("e.**") as events:
        assert [(await events.__anext__()).measurements["n"] for _ in range(2)] == [2, 4]
    assert await asyncio.to_thread(blocking) == [2, 4]
    assert requests[0].startswith(b"GET /v1/stream?format=frames&kind=event&match=e.%2A%2A")
    server.close()


@asynchronous
async def test_an_error_response_is_raised_by_both_clients() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\nthe token is wrong")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(dichroic.UnauthorizedError, match="the token is wrong"):
        await dichroic.connect(address).subscribe("**").__aenter__()
    with pytest.raises(dichroic.UnauthorizedError, match="the token is wrong"):
        await asyncio.to_thread(dichroic.connect_sync(address).subscribe("**").__enter__)
    server.close()


def test_frames_and_exceptions_have_the_same_goodbye_codes() -> None:
    assert frames.Goodbye.decode(frames.Goodbye(10, 0, "x").body()).code == dichroic.BadRequestError.code
