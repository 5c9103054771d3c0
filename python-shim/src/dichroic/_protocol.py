"""The subscriber's side of the protocol, without I/O: bytes in; items and bytes out.

`Splitter` cuts a byte stream into frames. `Stream` is one subscription across all its connections. A driver (asyncio,
blocking, HTTP) opens a connection, sends `subscriber_hello(token, stream.subscribe_map())`, passes received bytes to
`receive`, sends what it returns, and calls `advance` until that yields items or needs more bytes. Frames are queued
undecoded and decoded one at a time on demand: definitions apply in order, and a consumer that stops reading costs only
its bounded queue.

Invalid bytes raise `ProtocolError` from `advance` and nothing else. How the byte stream is split, or a resumed
connection, neither loses nor duplicates items.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from . import _frames as frames
from ._errors import DichroicError, FrameTooLargeError, GoodbyeCode, ProtocolError, VersionMismatchError, goodbye_error
from ._events import MAX_COLUMNS, parse_events
from ._frames import (
    HEADER,
    Define,
    Events,
    Frame,
    GapFrame,
    Goodbye,
    Hello,
    Histograms,
    Mixed,
    Numbers,
    Ping,
    Plan,
    Pong,
    encode_frame,
)
from ._gap import Gap, GapReason, reason_text
from ._mixed import Context, Shape, parse_mixed, shape_of
from ._points import Histogram, Point, Series
from ._request import Cursor, Request
from ._types import Event, RowContext, Schema, Source, Stats
from ._values import Value
from ._version import VERSION

AGENT: Final = f"dichroic-py/{VERSION}"
MAX_BODY_BEFORE_HELLO: Final = 16_384
MAX_BODY: Final = 262_144
MAX_SERIES: Final = 1_000_000
MAX_SCHEMAS: Final = 4_096
MAX_SOURCES: Final = 1_024
MAX_SCALE: Final = 64  # no exponential histogram uses more, and 2 ** 2 ** -scale is still a float
#: A driver stops reading above HIGH_WATER queued bytes and resumes below LOW_WATER. See also `Stream.behind`.
HIGH_WATER: Final = 1_048_576
LOW_WATER: Final = 262_144
#: Size of a driver's read buffer.
READ_SIZE: Final = 262_144
#: Seconds to complete the handshake, and without data before a connection counts as dead.
HELLO_TIMEOUT: Final = 5.0
SILENCE_TIMEOUT: Final = 45.0

Item: TypeAlias = "Event | Point | Gap"


class Splitter:
    """Cuts a byte stream into (type, body). Copies each byte at most twice, however small the pieces."""

    __slots__ = ("_need", "_rest", "max_body")

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self._rest = bytearray()
        self._need = HEADER.size

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Returns the frames that `data` completes. Checks a header before it stores the body."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        done: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= HEADER.size:
            length, type = HEADER.unpack_from(data, at)
            if length > self.max_body:
                raise FrameTooLargeError(f"frame of {length} bytes exceeds the limit of {self.max_body}")
            if type == 0:
                raise ProtocolError("invalid frame type 0: lost synchronization with the stream")
            if end - at - HEADER.size < length:
                break
            at += HEADER.size + length
            done.append((type, data[at - length : at]))
        if at < end:
            self._rest += data[at:] if at else data
            self._need = HEADER.size
            if end - at >= HEADER.size:
                self._need += HEADER.unpack_from(self._rest)[0]
        else:
            self._need = HEADER.size
        return done

    @property
    def inside_frame(self) -> bool:
        """Whether the bytes so far end inside a frame."""
        return bool(self._rest)


class Decoder:
    """Decodes all frames of one direction. Used by tests and `dichroic.testing`."""

    def __init__(self, max_body: int = 1_048_576) -> None:
        self._splitter = Splitter(max_body)
        self.skipped = 0

    def feed(self, data: bytes) -> list[Frame]:
        decoded: list[Frame] = []
        for type, body in self._splitter.feed(data):
            frame = frames.decode(type, body)
            if frame is None:
                self.skipped += 1
            else:
                decoded.append(frame)
        return decoded

    def end(self) -> None:
        """Raises `ProtocolError` when the stream ended inside a frame."""
        if self._splitter.inside_frame:
            raise ProtocolError("the stream ends inside a frame")


def check_collector_hello(type: int, body: bytes) -> Hello:
    """Decodes the collector's first frame.

    Raises:
        GoodbyeError: It is a GOODBYE.
        VersionMismatchError: The collector has another major version.
        ProtocolError: It is not the HELLO of a collector.
    """
    if type == Goodbye.TYPE:
        raise _goodbye_error(body)
    if type != Hello.TYPE:
        raise ProtocolError(f"first frame is of type {type}, expected HELLO: check that the address is a collector's")
    hello = Hello.decode(body)
    if hello.major != frames.MAJOR:
        raise VersionMismatchError(
            f"the collector has protocol {hello.major}.{hello.minor}, this package {frames.MAJOR}.{frames.MINOR}: "
            f"update {'the Python package' if hello.major > frames.MAJOR else 'the collector'}"
        )
    if hello.role != frames.COLLECTOR:
        raise ProtocolError(f"the peer has role {hello.role}, expected a collector ({frames.COLLECTOR})")
    return hello


def subscriber_hello(token: str | None, subscribe: dict[str, Value] | None = None) -> bytes:
    """The HELLO frame of a subscriber; without `subscribe` it only completes the handshake."""
    fields: dict[str, Value] = {"agent": AGENT}
    if token is not None:
        fields["token"] = token
    if subscribe is not None:
        fields["subscribe"] = dict(subscribe)
    return encode_frame(Hello(frames.SUBSCRIBER, fields))


#: The GOODBYE frame of a subscription that is closed.
CLOSE: Final = encode_frame(Goodbye(GoodbyeCode.SHUTDOWN, 0, "closed by the subscriber"))


def violation_goodbye(error: ProtocolError) -> bytes:
    """The GOODBYE frame that reports the collector's protocol violation."""
    code = GoodbyeCode.LIMIT if isinstance(error, FrameTooLargeError) else GoodbyeCode.MALFORMED
    return encode_frame(Goodbye(code, 0, str(error)))


def _goodbye_error(body: bytes) -> DichroicError:
    frame = Goodbye.decode(body)
    return goodbye_error(frame.code, frame.retry_ms, frame.message)


class Stream:
    """One subscription across its connections: definitions, cursor, gaps and statistics."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.time) -> None:
        self.request = request
        self.items: deque[Any] = deque()  #: decoded items of one frame, not yet consumed
        self.agent = ""  #: name and version of the collector
        self.epoch: int | None = None  #: the collector's; known after the first HELLO
        self.established = False  #: whether the handshake of the current connection is complete
        self.connections = 0
        self.unmatched: dict[str, list[str]] = {}  #: patterns that match no known name, each with the nearest ones
        self.on_disconnect: Callable[[DichroicError], None] | None = None  #: called once when a connection ends
        self.backlog = 0  #: bytes queued and not yet decoded
        self.queued_rows = 0  #: rows in them
        self.ended = False  #: whether the current connection has ended; queued frames can still be decoded
        self.rows_since_connect = 0
        self._clock = clock
        self._stats = Stats()
        self._newest: int | None = None
        self._position: tuple[int, int] | None = None  # position of the current frame, and its number of rows
        self._rows_waiting = False  # whether `items` holds rows of that frame, or only a gap after it
        self._queue: deque[tuple[int, bytes, int] | DichroicError] = deque()
        self._pending_gap: Gap | None = None
        cursor: Any = request.fields.get("cursor")
        if cursor is not None:
            self.epoch, self._position = cursor[0], (cursor[1], cursor[2])
        self._reset()

    def _reset(self) -> None:
        self._hello_bytes = bytearray()  # received part of the collector's HELLO
        self._splitter = Splitter(MAX_BODY)
        self._queue.clear()
        self.backlog = self.queued_rows = 0
        self.established = self.ended = self._reported = False
        self._series: dict[int, Series] = {}
        self._schemas: dict[int, Schema] = {}
        self._sources: dict[int, Source] = {}
        self._contexts: dict[tuple[int, int], RowContext] = {}
        self._shapes: dict[Context, Shape] = {}

    # -- for the driver ----------------------------------------------------------------------------------------

    def subscribe_map(self) -> dict[str, Value]:
        """The `subscribe` map for a new connection: the request, and the cursor to resume from if there is one."""
        subscribe = dict(self.request.fields)
        cursor = self.cursor
        if cursor is not None:
            subscribe["cursor"] = list(cursor)
            subscribe.pop("replay_ms", None)  # the cursor is more precise
        return subscribe

    def open(self) -> None:
        """Starts a new connection. Frames still queued from the previous one are sent again after the resume."""
        self._reset()
        self.rows_since_connect = 0

    def receive(self, data: bytes) -> bytes:
        """Queues received bytes and returns the bytes to send at once. Errors are raised later by `advance`."""
        self._stats.bytes += len(data)
        answer = b""
        if self.ended:
            return answer  # bytes after the end are ignored
        try:
            if not self.established:
                data = self._handshake(data)
            for type, body in self._splitter.feed(data):
                if type == Goodbye.TYPE:
                    raise _goodbye_error(body)
                rows = frames.rows_in(type, body)
                self._queue.append((type, body, rows))
                self.backlog += len(body)
                self.queued_rows += rows
                if type == Ping.TYPE and len(body) == 8:
                    answer += HEADER.pack(8, Pong.TYPE) + body
        except DichroicError as error:
            self.fail(error)
        return answer

    def _handshake(self, data: bytes) -> bytes:
        """Reads the collector's HELLO, which has a smaller size limit, and returns the bytes after it."""
        self._hello_bytes += data
        received = self._hello_bytes
        if len(received) < HEADER.size:
            return b""
        length, type = HEADER.unpack_from(received)
        if length > MAX_BODY_BEFORE_HELLO or type not in (Hello.TYPE, Goodbye.TYPE):
            raise ProtocolError(f"not a dichroic collector: its answer starts with {bytes(received[:16])!r}")
        if len(received) < HEADER.size + length:
            return b""
        hello = check_collector_hello(type, bytes(received[HEADER.size : HEADER.size + length]))
        rest = bytes(received[HEADER.size + length :])
        self._hello_bytes.clear()
        self._apply_hello(hello)
        return rest

    def _apply_hello(self, hello: Hello) -> None:
        epoch, position = hello.fields["epoch"], hello.fields.get("position")
        resumed = hello.fields.get("resumed")
        if not isinstance(epoch, int):  # Hello.decode checked it; this is for mypy
            raise ProtocolError("missing key 'epoch' in HELLO")
        restarted = self.epoch is not None and epoch != self.epoch
        has_cursor = self.cursor is not None
        if restarted:
            self._pending_gap = Gap(None, reason_text(GapReason.COLLECTOR_RESTARTED))
        elif has_cursor and resumed is not True:
            self._pending_gap = Gap(None, reason_text(GapReason.BEYOND_REPLAY))
        if self.connections:
            self._stats.reconnects += 1
        self.connections += 1
        self.epoch = epoch
        self.agent = str(hello.fields["agent"])
        unmatched = hello.fields.get("unmatched")
        self.unmatched = _read_unmatched(unmatched) if isinstance(unmatched, dict) else {}
        if not has_cursor or resumed is not True or restarted:
            self._position = (position, 0) if isinstance(position, int) and not isinstance(position, bool) else None
        self.established = True

    def fail(self, error: DichroicError) -> None:
        """Ends the connection; `advance` raises the error after all queued frames. Later errors are ignored."""
        if not self.ended:
            self.ended = True
            self._queue.append(error)
            self.disconnected(error)

    def disconnected(self, error: DichroicError) -> None:
        """Reports the end of an established connection, once."""
        if self.established and not self._reported:
            self._reported = True
            if self.on_disconnect is not None:
                self.on_disconnect(error)

    def advance(self) -> bool:
        """Decodes queued frames until there are `items`; returns False when more bytes are needed.

        Raises:
            DichroicError: The error that ended the connection.
        """
        while not self.items:
            if not self._queue:
                return False
            entry = self._queue.popleft()
            if isinstance(entry, DichroicError):
                raise entry
            type, body, rows = entry
            self.backlog -= len(body)
            self.queued_rows -= rows
            self._stats.frames += 1
            self._apply(type, body)
        return True

    @property
    def queued(self) -> bool:
        """Whether `advance` has something to decode or raise."""
        return bool(self._queue)

    @property
    def behind(self) -> bool:
        """Whether the driver stops reading: the rest waits in the collector, whose `buffer` and `on_full` apply."""
        return self.queued_rows > self.request.buffer or self.backlog > HIGH_WATER

    @property
    def caught_up(self) -> bool:
        """Whether the driver reads again."""
        return self.queued_rows <= self.request.buffer // 2 and self.backlog < LOW_WATER

    # -- for the consumer --------------------------------------------------------------------------------------

    @property
    def cursor(self) -> Cursor | None:
        """Where a later subscription resumes; None for points and before the first HELLO."""
        if self.epoch is None or self._position is None or self.request.kind == "metric":
            return None
        position, rows = self._position
        return self.epoch, position, rows - min(rows, len(self.items)) if self._rows_waiting else rows

    def stats(self) -> Stats:
        """Returns a copy of the counters."""
        stats = Stats()
        for name in Stats.__slots__:
            setattr(stats, name, getattr(self._stats, name))
        stats.buffered = len(self.items)
        stats.queued = self.queued_rows
        stats.queued_frames = len(self._queue)
        stats.queued_bytes = self.backlog
        if self._newest is not None:
            stats.lag_seconds = max(0.0, self._clock() - self._newest / 1e9)
        return stats

    def add_gap(self, gap: Gap) -> None:
        """Appends a gap to the items."""
        self._stats.gaps += 1
        self._stats.lost += gap.lost or 0
        self._rows_waiting = False
        self.items.append(gap)

    # -- frames ------------------------------------------------------------------------------------------------

    def _apply(self, type: int, body: bytes) -> None:
        handler = _HANDLERS.get(type)
        if handler is None:  # of a later minor version
            self._stats.skipped_frames += 1
            return
        if self._pending_gap is not None and type != GapFrame.TYPE:
            self._flush_gap()
        handler(self, body)

    def _hello(self, body: bytes) -> None:
        raise ProtocolError("unexpected HELLO in a subscription")

    def _plan(self, body: bytes) -> None:
        raise ProtocolError("unexpected PLAN in a subscription")

    def _ping(self, body: bytes) -> None:
        Ping.decode(body)  # `receive` has answered it

    def _pong(self, body: bytes) -> None:
        Pong.decode(body)

    def _flush_gap(self) -> None:
        gap, self._pending_gap = self._pending_gap, None
        if gap is not None:
            self.add_gap(gap)

    def _gap(self, body: bytes) -> None:
        frame = GapFrame.decode(body)
        # The collector's gap has the number of lost rows, which the pending one lacks.
        if self._pending_gap is not None and frame.reason in _RESUME_REASONS:
            self._pending_gap = None
        else:
            self._flush_gap()
        name = None
        if frame.schema and frame.schema in self._schemas:
            name = self._schemas[frame.schema].name
        lost = None if frame.lost == frames.LOST_UNKNOWN else frame.lost
        start, end = frame.time or (None, None)
        self.add_gap(Gap(lost, reason_text(frame.reason), name, start, end))

    def _events(self, body: bytes) -> None:
        parsed = parse_events(body)
        self._rows(parsed.position, parsed.events(self._context(parsed.schema, parsed.source, len(parsed.kinds))))

    def _mixed(self, body: bytes) -> None:
        parsed = parse_mixed(body)
        try:
            shapes = list(map(self._shapes.__getitem__, parsed.contexts))
        except KeyError:
            for context in parsed.contexts:
                self._shapes[context] = shape_of(self._context(*context))
            shapes = list(map(self._shapes.__getitem__, parsed.contexts))
        self._rows(parsed.position, parsed.events(shapes))

    def _rows(self, position: int, rows: list[Event]) -> None:
        self._count(len(rows), rows[-1]._row[0])
        # A gap ahead of the rows is consumed first and does not count as a row: see `cursor`.
        if self.items:
            self.items.extend(rows)
        else:
            self.items = deque(rows)
        self._position = (position, len(rows))
        self._rows_waiting = True

    def _count(self, rows: int, newest: int) -> None:
        self._stats.received += rows
        self.rows_since_connect += rows
        self._newest = newest

    def _context(self, schema: int, source: int, columns: int) -> RowContext:
        context = self._contexts.get((schema, source))
        if context is None:
            context = self._new_context(schema, source)
        if columns != context.schema.columns:
            raise ProtocolError(f"row of schema {schema} has {columns} columns, expected {context.schema.columns}")
        return context

    def _new_context(self, schema: int, source: int) -> RowContext:
        if schema not in self._schemas:
            raise ProtocolError(f"row of undefined schema {schema}")
        if source not in self._sources and source != 0:
            raise ProtocolError(f"row of undefined source {source}")
        context = RowContext(self._schemas[schema], self._sources.get(source) or Source(""))
        self._contexts[schema, source] = context
        return context

    def _numbers(self, body: bytes) -> None:
        frame = Numbers.decode(body)
        for id, whole, part in frame.rows:
            self.items.append(Point.of(self._find_series(id), whole + part if part else whole, frame.time))
        self._count(len(frame.rows), frame.time)

    def _histograms(self, body: bytes) -> None:
        frame = Histograms.decode(body)
        for id, whole, part, buckets in frame.rows:
            series = self._find_series(id)
            histogram = Histogram(whole + part if part else whole, buckets, series.scale, series.bounds)
            self.items.append(Point.of(series, histogram, frame.time))
        self._count(len(frame.rows), frame.time)

    def _find_series(self, id: int) -> Series:
        try:
            return self._series[id]
        except KeyError:
            raise ProtocolError(f"row of undefined series {id}") from None

    # -- definitions -------------------------------------------------------------------------------------------

    def _define(self, body: bytes) -> None:
        frame = Define.decode(body)
        if frame.kind == frames.SERIES:
            for id, fields in frame.entries:
                if _defines(self._series, id, fields, MAX_SERIES, "series"):
                    self._series[id] = self._read_series(fields or {})
            return
        table: dict[int, Any] = self._schemas if frame.kind == frames.SCHEMA else self._sources
        what, limit = ("schema", MAX_SCHEMAS) if frame.kind == frames.SCHEMA else ("source", MAX_SOURCES)
        for id, fields in frame.entries:
            if _defines(table, id, fields, limit, what):
                table[id] = _read_schema(fields or {}) if frame.kind == frames.SCHEMA else _read_source(fields or {})
        self._contexts.clear()
        self._shapes.clear()

    def _read_series(self, fields: dict[str, Value]) -> Series:
        frames.require(fields, {"name": str, "type": str, "source": int, "labels": dict}, "a series")
        source: Any = fields["source"]
        if source not in self._sources and source != 0:
            raise ProtocolError(f"series of undefined source {source}")
        scale, bounds, start = fields.get("scale"), fields.get("bounds"), fields.get("start")
        labels: Any = fields["labels"]
        return Series(
            name=str(fields["name"]),
            labels=labels,
            kind=str(fields["type"]),
            start=start if isinstance(start, int) else 0,
            unit=str(fields.get("unit") or ""),
            source=self._sources.get(source),
            help=str(fields.get("help") or ""),
            scale=_read_scale(scale) if isinstance(scale, int) else None,
            bounds=_read_bounds(bounds) if isinstance(bounds, list) else None,
        )


def _defines(table: dict[int, Any], id: int, fields: dict[str, Value] | None, limit: int, what: str) -> bool:
    """Whether the entry defines an id. Null removes the id; removing an unknown or redefining one is a violation."""
    if fields is None:
        if table.pop(id, None) is None:
            raise ProtocolError(f"{what} {id} is removed but not defined")
        return False
    if id in table:
        raise ProtocolError(f"{what} {id} is defined twice")
    if id >= limit:
        raise FrameTooLargeError(f"{what} {id} exceeds the limit of {limit} ids")
    return True


def _read_unmatched(unmatched: dict[str, Any]) -> dict[str, list[str]]:
    return {pattern: list(map(str, near)) for pattern, near in unmatched.items() if isinstance(near, list)}


def _read_scale(scale: int) -> int:
    if not -MAX_SCALE <= scale <= MAX_SCALE:
        raise ProtocolError(f"invalid scale {scale} of a series: expected -{MAX_SCALE} to {MAX_SCALE}")
    return scale


def _read_bounds(bounds: list[Any]) -> tuple[float, ...]:
    if not all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds):
        raise ProtocolError("invalid bounds of a series: expected numbers")
    return tuple(float(bound) for bound in bounds)


def _read_schema(fields: dict[str, Value]) -> Schema:
    frames.require(fields, {"name": str, "kind": str, "measurements": list, "metadata": list}, "a schema")
    measurements, metadata = fields["measurements"], fields["metadata"]
    assert isinstance(measurements, list)
    assert isinstance(metadata, list)
    pairs: list[tuple[str, str]] = []
    for pair in measurements:
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], (str, type(None)))
        ):
            raise ProtocolError("invalid measurement of a schema: expected [name, unit]")
        pairs.append((pair[0], pair[1] or ""))
    if not all(isinstance(name, str) for name in metadata):
        raise ProtocolError("invalid metadata column of a schema: expected a name")
    if len(pairs) + len(metadata) >= MAX_COLUMNS:
        raise ProtocolError(f"schema of {1 + len(pairs) + len(metadata)} columns exceeds the limit of {MAX_COLUMNS}")
    if fields["kind"] not in ("event", "log"):
        raise ProtocolError(f"unknown kind {fields['kind']!r} of a schema")
    return Schema(str(fields["name"]), str(fields["kind"]), tuple(pairs), tuple(metadata))


def _read_source(fields: dict[str, Value]) -> Source:
    frames.require(fields, {"name": str, "runtime": str}, "a source")
    resource = fields.get("resource")
    return Source(str(fields["name"]), str(fields["runtime"]), resource if isinstance(resource, dict) else None)


#: Reasons of a GAP frame that replaces the pending gap of a failed resume.
_RESUME_REASONS: Final = (GapReason.BEYOND_REPLAY, GapReason.COLLECTOR_RESTARTED)
_HANDLERS: Final[dict[int, Callable[[Stream, bytes], None]]] = {
    Hello.TYPE: Stream._hello,
    Ping.TYPE: Stream._ping,
    Pong.TYPE: Stream._pong,
    Plan.TYPE: Stream._plan,
    Define.TYPE: Stream._define,
    Numbers.TYPE: Stream._numbers,
    Histograms.TYPE: Stream._histograms,
    Events.TYPE: Stream._events,
    GapFrame.TYPE: Stream._gap,
    Mixed.TYPE: Stream._mixed,
}
