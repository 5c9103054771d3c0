"""The subscriber's half of the framing, without any I/O: bytes in, items and bytes out.

`Splitter` turns a byte stream into whole frames. `Stream` is one subscription across all of its connections: a driver
(asyncio, blocking, HTTP) opens a connection, sends `greeting(token, stream.subscribe_map())`, passes what arrives to
`receive`, sends what that returns, and calls `advance` until it hands out items or wants more bytes. Frames are queued
as they came and decoded one at a time when the consumer wants them, so that definitions always apply in order and a
consumer that stops costs nothing but its bounded queue.

Promises: hostile bytes raise `ProtocolError` from `advance` and nothing else; nothing is lost or doubled by where the
byte stream is split, nor by a resumed connection.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from . import _frames as frames
from ._errors import DichroicError, FrameTooLargeError, ProtocolError, VersionMismatchError, goodbye_error
from ._events import MAX_COLUMNS, parse_events
from ._frames import HEADER, Define, Frame, GapFrame, Hello, Histograms, Numbers, Ping, encode_frame
from ._points import Histogram, Point, Series
from ._request import Request
from ._types import GAP_REASONS, Event, Gap, RowContext, Schema, Source, Stats
from ._values import Value
from ._version import VERSION

AGENT: Final = f"dichroic-py/{VERSION}"
MAX_BODY_BEFORE_HELLO: Final = 16_384
MAX_BODY: Final = 262_144
MAX_SERIES: Final = 1_000_000
MAX_SCHEMAS: Final = 4_096
MAX_SOURCES: Final = 1_024
MAX_SCALE: Final = 64  # far beyond what any exponential histogram uses, and 2 ** 2 ** -scale is still a float
#: A driver stops reading above HIGH_WATER queued bytes and goes on below LOW_WATER.
HIGH_WATER: Final = 1_048_576
LOW_WATER: Final = 262_144
#: Seconds: to a full HELLO, and of silence after which a connection counts as dead.
HELLO_TIMEOUT: Final = 5.0
SILENCE_TIMEOUT: Final = 45.0

Item: TypeAlias = "Event | Point | Gap"


class Splitter:
    """Cuts a byte stream into (type, body). Copies a byte at most twice however small the pieces are."""

    __slots__ = ("_need", "_rest", "max_body")

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self._rest = bytearray()
        self._need = HEADER.size

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that `data` completes. A header that is too large or of type 0 raises before its body is kept."""
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
                raise FrameTooLargeError(f"a frame of {length} bytes is announced, the limit here is {self.max_body}")
            if type == 0:
                raise ProtocolError("a frame of type 0, which no version has: the stream is out of step")
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
        """Whether the stream would end inside a frame if it ended now."""
        return bool(self._rest)


class Decoder:
    """Bytes to frames of either direction: a `Splitter` with `decode`. Used by tests and `dichroic.testing`."""

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
        """Refuses a stream that stops inside a frame."""
        if self._splitter.inside_frame:
            raise ProtocolError("the stream ends inside a frame")


def check_collector_hello(type: int, body: bytes) -> Hello:
    """The first frame of a collector, or the exception that says why there is none."""
    if type == frames.Goodbye.TYPE:
        farewell = frames.Goodbye.decode(body)
        raise goodbye_error(farewell.code, farewell.retry_ms, farewell.message)
    if type != Hello.TYPE:
        raise ProtocolError(f"the first frame is of type {type}, not HELLO: is this a dichroic collector's socket?")
    hello = Hello.decode(body)
    if hello.major != frames.MAJOR:
        raise VersionMismatchError(
            f"the collector speaks framing {hello.major}.{hello.minor}, this package {frames.MAJOR}.{frames.MINOR}: "
            f"update {'the Python package' if hello.major > frames.MAJOR else 'the collector'}"
        )
    if hello.role != frames.COLLECTOR:
        raise ProtocolError(f"the peer is no collector, its role is {hello.role}")
    return hello


def greeting(token: str | None, subscribe: dict[str, Value] | None = None) -> bytes:
    """The HELLO of a subscriber; without `subscribe` it only greets."""
    fields: dict[str, Value] = {"agent": AGENT}
    if token is not None:
        fields["token"] = token
    if subscribe is not None:
        fields["subscribe"] = dict(subscribe)
    return encode_frame(Hello(frames.SUBSCRIBER, fields))


CLOSING: Final = encode_frame(frames.Goodbye(7, 0, "closed by the subscriber"))


def complaint(error: ProtocolError) -> bytes:
    """The GOODBYE that tells the peer what it did wrong."""
    return encode_frame(frames.Goodbye(4 if isinstance(error, FrameTooLargeError) else 3, 0, str(error)))


class Stream:
    """One subscription: its dictionaries, cursor, gaps and account, over any number of connections."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.time) -> None:
        self.request = request
        self.items: deque[Any] = deque()  #: decoded and not handed out yet: what is left of one frame
        self.epoch: int | None = None  #: of the collector, known after the first HELLO
        self.greeted = False  #: whether the current connection's HELLO has been answered
        self.connections = 0
        self.backlog = 0  #: bytes queued and not decoded yet
        self.rows_since_connect = 0
        self._clock = clock
        self._account = Stats()
        self._newest: int | None = None
        self._position: tuple[int, int] | None = None  # of the current frame, and its rows
        self._rows_waiting = False  # whether `items` holds rows of that frame, or only a gap that came after it
        self.agent = ""  #: of the collector
        self._queue: deque[tuple[int, bytes] | DichroicError] = deque()
        self._pending_gap: Gap | None = None
        given: Any = request.fields.get("cursor")
        if given is not None:
            self.epoch, self._position = given[0], (given[1], given[2])
        self._reset()

    def _reset(self) -> None:
        self._answer = bytearray()  # the beginning of the collector's HELLO
        self._splitter = Splitter(MAX_BODY)
        self._queue.clear()
        self.backlog = 0
        self.greeted = False
        self._series: dict[int, Series] = {}
        self._schemas: dict[int, Schema] = {}
        self._sources: dict[int, Source] = {}
        self._contexts: dict[tuple[int, int], RowContext] = {}

    # -- towards the driver ------------------------------------------------------------------------------------

    def subscribe_map(self) -> dict[str, Value]:
        """What to ask for on a new connection: the request, and the cursor when there is one to resume from."""
        subscribe = dict(self.request.fields)
        cursor = self.cursor
        if cursor is not None:
            subscribe["cursor"] = list(cursor)
            subscribe.pop("replay_ms", None)  # the cursor says more exactly where to begin
        return subscribe

    def open(self) -> None:
        """A new connection begins; whatever the old one had queued has been consumed or is asked for again."""
        self._reset()
        self.rows_since_connect = 0

    def receive(self, data: bytes) -> bytes:
        """Takes what arrived and returns what to send at once. Errors wait for their turn in `advance`."""
        self._account.bytes += len(data)
        answer = b""
        if self._queue and isinstance(self._queue[-1], DichroicError):
            return answer  # nothing after an error is read
        try:
            if not self.greeted:
                data = self._greet(data)
            for type, body in self._splitter.feed(data):
                self._queue.append((type, body))
                self.backlog += len(body)
                if type == Ping.TYPE and len(body) == 8:
                    answer += HEADER.pack(8, frames.Pong.TYPE) + body
        except DichroicError as error:
            self._queue.append(error)
        return answer

    def _greet(self, data: bytes) -> bytes:
        """Reads the collector's HELLO with its own small limit, and leaves what follows it to the larger one."""
        self._answer += data
        rest = self._answer
        if len(rest) < HEADER.size:
            return b""
        length, type = HEADER.unpack_from(rest)
        if length > MAX_BODY_BEFORE_HELLO or type not in (Hello.TYPE, frames.Goodbye.TYPE):
            raise ProtocolError(f"this is no dichroic collector: its answer begins with {bytes(rest[:16])!r}")
        if len(rest) < HEADER.size + length:
            return b""
        hello = check_collector_hello(type, bytes(rest[HEADER.size : HEADER.size + length]))
        after = bytes(rest[HEADER.size + length :])
        self._answer.clear()
        self._welcome(hello)
        return after

    def _welcome(self, hello: Hello) -> None:
        epoch, position = hello.fields["epoch"], hello.fields.get("position")
        resumed = hello.fields.get("resumed")
        if not isinstance(epoch, int):  # checked by Hello.decode already
            raise ProtocolError("the collector's HELLO has no epoch")
        restarted = self.epoch is not None and epoch != self.epoch
        asked = self.cursor is not None
        if restarted:
            self._pending_gap = Gap(None, GAP_REASONS[3])
        elif asked and resumed is not True:
            self._pending_gap = Gap(None, GAP_REASONS[2])
        if self.connections:
            self._account.reconnects += 1
        self.connections += 1
        self.epoch = epoch
        self.agent = str(hello.fields["agent"])
        if not asked or resumed is not True or restarted:
            self._position = (position, 0) if isinstance(position, int) and not isinstance(position, bool) else None
        self.greeted = True

    def fail(self, error: DichroicError) -> None:
        """The connection ended without a GOODBYE: raised by `advance` after everything that came before it."""
        if not (self._queue and isinstance(self._queue[-1], DichroicError)):
            self._queue.append(error)

    def advance(self) -> bool:
        """Decodes queued frames until there are `items` (False: bytes are needed); raises what ended the connection."""
        while not self.items:
            if not self._queue:
                return False
            entry = self._queue.popleft()
            if isinstance(entry, DichroicError):
                raise entry
            self.backlog -= len(entry[1])
            self._account.frames += 1
            self._apply(*entry)
        return True

    @property
    def queued(self) -> bool:
        return bool(self._queue)

    # -- towards the consumer ----------------------------------------------------------------------------------

    @property
    def cursor(self) -> tuple[int, int, int] | None:
        """(epoch, position of a frame, rows of it handed out): where a later subscription would go on."""
        if self.epoch is None or self._position is None or self.request.kind == "metric":
            return None
        position, rows = self._position
        return self.epoch, position, rows - min(rows, len(self.items)) if self._rows_waiting else rows

    def stats(self) -> Stats:
        account = Stats()
        for name in Stats.__slots__:
            setattr(account, name, getattr(self._account, name))
        account.buffered = len(self.items)
        if self._newest is not None:
            account.lag_seconds = max(0.0, self._clock() - self._newest / 1e9)
        return account

    def gap(self, gap: Gap) -> None:
        """Puts a gap at this place of the stream."""
        self._account.gaps += 1
        self._account.lost += gap.lost or 0
        self._rows_waiting = False
        self.items.append(gap)

    # -- frames ------------------------------------------------------------------------------------------------

    def _apply(self, type: int, body: bytes) -> None:
        if self._pending_gap is not None and type != GapFrame.TYPE and type <= GapFrame.TYPE:
            self._flush_gap()
        if type == 9:
            self._events(body)
        elif type == 7:
            self._numbers(body)
        elif type == 8:
            self._histograms(body)
        elif type == 6:
            self._define(Define.decode(body))
        elif type == 10:
            self._gap_frame(GapFrame.decode(body))
        elif type == 2:
            farewell = frames.Goodbye.decode(body)
            raise goodbye_error(farewell.code, farewell.retry_ms, farewell.message)
        elif type == 3 or type == 4:
            frames.decode(type, body)
        elif type == 1 or type == 5:
            raise ProtocolError(f"a frame of type {type} is out of place in a subscription")
        else:
            self._account.skipped_frames += 1

    def _flush_gap(self) -> None:
        gap, self._pending_gap = self._pending_gap, None
        if gap is not None:
            self.gap(gap)

    def _gap_frame(self, frame: GapFrame) -> None:
        # The collector's own account of why it could not resume says more than ours.
        if self._pending_gap is not None and frame.reason in (2, 3):
            self._pending_gap = None
        else:
            self._flush_gap()
        name = None
        if frame.schema and frame.schema in self._schemas:
            name = self._schemas[frame.schema].name
        lost = None if frame.lost == frames.LOST_UNKNOWN else frame.lost
        self.gap(Gap(lost, GAP_REASONS.get(frame.reason, f"reason {frame.reason}"), name))

    def _events(self, body: bytes) -> None:
        parsed = parse_events(body)
        context = self._contexts.get((parsed.schema, parsed.source))
        if context is None:
            context = self._context(parsed.schema, parsed.source)
        if len(parsed.kinds) != context.schema.columns:
            raise ProtocolError(
                f"EVENTS of schema {parsed.schema} has {len(parsed.kinds)} columns, not {context.schema.columns}"
            )
        rows = parsed.events(context)
        self._count(len(rows), rows[-1]._row[0])
        # The gap that stands before the rows is handed out first and is no row: see `cursor`.
        if self.items:
            self.items.extend(rows)
        else:
            self.items = deque(rows)
        self._position = (parsed.position, parsed.rows)
        self._rows_waiting = True

    def _count(self, rows: int, newest: int) -> None:
        self._account.received += rows
        self.rows_since_connect += rows
        self._newest = newest

    def _context(self, schema: int, source: int) -> RowContext:
        if schema not in self._schemas:
            raise ProtocolError(f"EVENTS of schema {schema}, which is not defined")
        if source not in self._sources and source != 0:
            raise ProtocolError(f"EVENTS of source {source}, which is not defined")
        context = RowContext(self._schemas[schema], self._sources.get(source) or Source(""))
        self._contexts[schema, source] = context
        return context

    def _numbers(self, body: bytes) -> None:
        frame = Numbers.decode(body)
        for id, whole, part in frame.rows:
            self.items.append(Point.of(self._known(id), whole + part if part else whole, frame.time))
        self._count(len(frame.rows), frame.time)

    def _histograms(self, body: bytes) -> None:
        frame = Histograms.decode(body)
        for id, whole, part, buckets in frame.rows:
            series = self._known(id)
            histogram = Histogram(whole + part if part else whole, buckets, series.scale, series.bounds)
            self.items.append(Point.of(series, histogram, frame.time))
        self._count(len(frame.rows), frame.time)

    def _known(self, id: int) -> Series:
        try:
            return self._series[id]
        except KeyError:
            raise ProtocolError(f"a row of series {id}, which is not defined") from None

    # -- definitions -------------------------------------------------------------------------------------------

    def _define(self, frame: Define) -> None:
        if frame.kind == frames.SERIES:
            for id, fields in frame.entries:
                if _admit(self._series, id, fields, MAX_SERIES, "series"):
                    self._series[id] = self._read_series(fields or {})
            return
        table: dict[int, Any] = self._schemas if frame.kind == frames.SCHEMA else self._sources
        what, limit = ("schema", MAX_SCHEMAS) if frame.kind == frames.SCHEMA else ("source", MAX_SOURCES)
        for id, fields in frame.entries:
            if _admit(table, id, fields, limit, what):
                table[id] = _read_schema(fields or {}) if frame.kind == frames.SCHEMA else _read_source(fields or {})
        self._contexts.clear()

    def _read_series(self, fields: dict[str, Value]) -> Series:
        frames.require(fields, {"name": str, "type": str, "source": int, "labels": dict}, "a series")
        source: Any = fields["source"]
        if source not in self._sources and source != 0:
            raise ProtocolError(f"a series of source {source}, which is not defined")
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


def _admit(table: dict[int, Any], id: int, fields: dict[str, Value] | None, limit: int, what: str) -> bool:
    """Whether the entry defines; forgets the id when it is null. Both kinds of misuse are violations."""
    if fields is None:
        if table.pop(id, None) is None:
            raise ProtocolError(f"{what} {id} is forgotten and was not defined")
        return False
    if id in table:
        raise ProtocolError(f"{what} {id} is defined twice")
    if id >= limit:
        raise FrameTooLargeError(f"{what} {id} is beyond the limit of {limit} ids")
    return True


def _read_scale(scale: int) -> int:
    if not -MAX_SCALE <= scale <= MAX_SCALE:
        raise ProtocolError(f"a series of scale {scale}, which is not from -{MAX_SCALE} to {MAX_SCALE}")
    return scale


def _read_bounds(bounds: list[Any]) -> tuple[float, ...]:
    if not all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds):
        raise ProtocolError("the bounds of a series are not all numbers")
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
            raise ProtocolError("a measurement of a schema is no [name, unit]")
        pairs.append((pair[0], pair[1] or ""))
    if not all(isinstance(name, str) for name in metadata):
        raise ProtocolError("a metadata column of a schema has no name")
    if len(pairs) + len(metadata) >= MAX_COLUMNS:
        raise ProtocolError(f"a schema of {1 + len(pairs) + len(metadata)} columns, the limit is {MAX_COLUMNS}")
    if fields["kind"] not in ("event", "log"):
        raise ProtocolError(f"a schema of unknown kind {fields['kind']!r}")
    return Schema(str(fields["name"]), str(fields["kind"]), tuple(pairs), tuple(metadata))


def _read_source(fields: dict[str, Value]) -> Source:
    frames.require(fields, {"name": str, "runtime": str}, "a source")
    resource = fields.get("resource")
    return Source(str(fields["name"]), str(fields["runtime"]), resource if isinstance(resource, dict) else None)
