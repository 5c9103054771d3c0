"""The frames of the protocol, each a class that decodes and encodes its body.

Used by `_protocol`, `dichroic.testing` and the golden-frame tests. `decode(type, body)` raises `ProtocolError` for
everything but a complete frame, and `encode(decode(bytes)) == bytes`. Rules that depend on the state of a connection
(ids, roles, allowed senders) are in `_protocol`. The layouts are specified in `collector/wire/SPEC.md`.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final, TypeAlias

from ._errors import ProtocolError
from ._events import EVENTS_HEAD, EventsBody, encode_events, parse_events
from ._gap import GapReason
from ._mixed import MIXED_HEAD, MixedBody, encode_mixed, parse_mixed
from ._values import Reader, Value, encode

MAGIC: Final = b"DICH"
MAJOR: Final = 1
MINOR: Final = 1
#: The first minor version with MIXED frames.
MINOR_OF_MIXED: Final = 1
COLLECTOR, RELAY, SUBSCRIBER, EMITTER = 0, 1, 2, 3
SERIES, SCHEMA, SOURCE = 1, 2, 3
MAX_BUCKETS: Final = 1_024
MAX_GOODBYE_BYTES: Final = 1_024
LOST_UNKNOWN: Final = (1 << 64) - 1

HEADER: Final = struct.Struct("<IB")
_U32, _U64, _I64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q")
_GOODBYE, _GAP, _SPAN = struct.Struct("<HI"), struct.Struct("<IBQ"), struct.Struct("<qq")
NUMBER_ROW: Final = struct.Struct("<Iqd")
HISTOGRAM_ROW: Final = struct.Struct("<IHqd")
BUCKET: Final = struct.Struct("<hBQ")

#: Required keys of HELLO, by role.
_HELLO_KEYS: Final[dict[int, dict[str, type]]] = {
    COLLECTOR: {"agent": str, "epoch": int},
    RELAY: {
        "agent": str, "node": str, "os_pid": int, "otp": str, "telemetry": str, "native_per_s": int,
        "time_offset": int, "epoch": int, "attempt": int, "mode": str,
    },
    SUBSCRIBER: {"agent": str},
    EMITTER: {"agent": str},
}  # fmt: skip


def has_type(value: Value, kind: type) -> bool:
    """`isinstance`, except that a boolean is not an integer."""
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def require(fields: dict[str, Value], keys: dict[str, type], what: str) -> None:
    """Raises `ProtocolError` when a key is missing or its value has another type."""
    for key, kind in keys.items():
        if key not in fields:
            raise ProtocolError(f"missing key {key!r} in {what}")
        if not has_type(fields[key], kind):
            raise ProtocolError(f"invalid {key!r} in {what}: expected {kind.__name__}")


class _Frame:
    """Equality and repr by slots."""

    __slots__: tuple[str, ...] = ()
    TYPE: ClassVar[int]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Hello(_Frame):
    __slots__ = ("fields", "foreign", "major", "minor", "role")
    TYPE = 1

    def __init__(
        self, role: int, fields: dict[str, Value], major: int = MAJOR, minor: int = MINOR, foreign: bytes = b""
    ) -> None:
        self.role = role
        self.fields = fields
        self.major = major
        self.minor = minor
        self.foreign = foreign  # of another major version: the bytes after the first 7

    def body(self) -> bytes:
        out = bytearray(MAGIC)
        out += bytes((self.major, self.minor, self.role))
        if self.major == MAJOR:
            encode(self.fields, out)
        else:
            out += self.foreign
        return bytes(out)

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """Decodes only the first 7 bytes of another major version; no other bytes are common to all versions."""
        if len(body) < 7 or body[:4] != MAGIC:
            raise ProtocolError(f"not a dichroic peer: its HELLO starts with {bytes(body[:7])!r}")
        major, minor, role = body[4], body[5], body[6]
        if major != MAJOR:
            return cls(role, {}, major, minor, bytes(body[7:]))
        if role not in _HELLO_KEYS:
            raise ProtocolError(f"unknown role {role} in HELLO")
        fields = _decode_map(body, 7, "HELLO")
        require(fields, _HELLO_KEYS[role], "HELLO")
        return cls(role, fields, major, minor)


class Goodbye(_Frame):
    __slots__ = ("code", "message", "retry_ms")
    TYPE = 2

    def __init__(self, code: int, retry_ms: int = 0, message: str = "") -> None:
        self.code = code
        self.retry_ms = retry_ms
        self.message = message

    def body(self) -> bytes:
        message = self.message.encode()[:MAX_GOODBYE_BYTES].decode(errors="ignore").encode()
        return _GOODBYE.pack(self.code, self.retry_ms) + message

    @classmethod
    def decode(cls, body: bytes) -> Goodbye:
        if not 6 <= len(body) <= 6 + MAX_GOODBYE_BYTES:
            raise ProtocolError(f"GOODBYE of {len(body)} bytes, expected 6 to {6 + MAX_GOODBYE_BYTES}")
        code, retry_ms = _GOODBYE.unpack_from(body)
        return cls(code, retry_ms, Reader(body, 6).text(len(body) - 6))


class _Token(_Frame):
    __slots__ = ("token",)

    def __init__(self, token: int) -> None:
        self.token = token

    def body(self) -> bytes:
        return _U64.pack(self.token)

    @classmethod
    def decode(cls, body: bytes) -> Any:
        if len(body) != 8:
            raise ProtocolError(f"{cls.__name__.upper()} of {len(body)} bytes, expected 8")
        return cls(_U64.unpack(body)[0])


class Ping(_Token):
    __slots__ = ()
    TYPE = 3

    def __eq__(self, other: object) -> bool:
        return type(other) is Ping and other.token == self.token


class Pong(_Token):
    __slots__ = ()
    TYPE = 4

    def __eq__(self, other: object) -> bool:
        return type(other) is Pong and other.token == self.token


class Plan(_Frame):
    __slots__ = ("fields",)
    TYPE = 5

    def __init__(self, fields: dict[str, Value]) -> None:
        self.fields = fields

    def body(self) -> bytes:
        out = bytearray()
        encode(self.fields, out)
        return bytes(out)

    @classmethod
    def decode(cls, body: bytes) -> Plan:
        return cls(_decode_map(body, 0, "PLAN"))


class Define(_Frame):
    """Definitions of one kind: (id, fields), or (id, None) to remove the id."""

    __slots__ = ("entries", "kind")
    TYPE = 6

    def __init__(self, kind: int, entries: list[tuple[int, dict[str, Value] | None]]) -> None:
        self.kind = kind
        self.entries = entries

    def body(self) -> bytes:
        out = bytearray((self.kind,))
        for id, fields in self.entries:
            out += _U32.pack(id)
            encode(fields, out)
        return bytes(out)

    @classmethod
    def decode(cls, body: bytes) -> Define:
        reader = Reader(body)
        kind = body[reader.take(1)]
        if kind not in (SERIES, SCHEMA, SOURCE):
            raise ProtocolError(f"unknown kind {kind} in DEFINE")
        entries: list[tuple[int, dict[str, Value] | None]] = []
        while reader.at < reader.end:
            id = _U32.unpack_from(body, reader.take(4))[0]
            fields = reader.value()
            if fields is not None and not isinstance(fields, dict):
                raise ProtocolError(f"invalid definition of id {id} in DEFINE: expected a map or null")
            entries.append((id, fields))
        return cls(kind, entries)


class Numbers(_Frame):
    """Values of series at one time, as rows (series, integer part, float part)."""

    __slots__ = ("rows", "time")
    TYPE = 7

    def __init__(self, time: int, rows: list[tuple[int, int, float]]) -> None:
        self.time = time
        self.rows = rows

    def body(self) -> bytes:
        return _I64.pack(self.time) + b"".join(NUMBER_ROW.pack(*row) for row in self.rows)

    @classmethod
    def decode(cls, body: bytes) -> Numbers:
        if len(body) < 8 or (len(body) - 8) % NUMBER_ROW.size:
            raise ProtocolError(f"NUMBERS of {len(body)} bytes, expected 8 and {NUMBER_ROW.size} per row")
        return cls(_I64.unpack_from(body)[0], list(NUMBER_ROW.iter_unpack(body[8:])))


#: (series, integer part of the sum, float part of the sum, ((index, side, count), …))
HistogramRow: TypeAlias = "tuple[int, int, float, tuple[tuple[int, int, int], ...]]"


class Histograms(_Frame):
    __slots__ = ("rows", "time")
    TYPE = 8

    def __init__(self, time: int, rows: list[HistogramRow]) -> None:
        self.time = time
        self.rows = rows

    def body(self) -> bytes:
        out = bytearray(_I64.pack(self.time))
        for series, whole, part, buckets in self.rows:
            out += HISTOGRAM_ROW.pack(series, len(buckets), whole, part)
            for bucket in buckets:
                out += BUCKET.pack(*bucket)
        return bytes(out)

    @classmethod
    def decode(cls, body: bytes) -> Histograms:
        reader = Reader(body)
        time = _I64.unpack_from(body, reader.take(8))[0]
        rows: list[HistogramRow] = []
        while reader.at < reader.end:
            series, n, whole, part = HISTOGRAM_ROW.unpack_from(body, reader.take(HISTOGRAM_ROW.size))
            if n > MAX_BUCKETS:
                raise ProtocolError(f"histogram of {n} buckets exceeds the limit of {MAX_BUCKETS}")
            at = reader.take(n * BUCKET.size)
            rows.append((series, whole, part, _buckets(body[at : reader.at], series)))
        return cls(time, rows)


def _buckets(raw: bytes, series: int) -> tuple[tuple[int, int, int], ...]:
    buckets = tuple(BUCKET.iter_unpack(raw))
    last = (-1, 0)
    for index, side, count in buckets:
        if side > 2 or count == 0 or (side, index) <= last or (side == 0 and index != 0):
            raise ProtocolError(f"invalid bucket of series {series}: empty, out of order, or of an unknown side")
        last = (side, index)
    return buckets


class Events(_Frame):
    __slots__ = ("parsed",)
    TYPE = 9

    def __init__(self, parsed: EventsBody) -> None:
        self.parsed = parsed

    def body(self) -> bytes:
        return encode_events(self.parsed)

    @classmethod
    def decode(cls, body: bytes) -> Events:
        parsed = parse_events(body)
        parsed.check()
        return cls(parsed)


class GapFrame(_Frame):
    """A loss. The reason "not subscribed", and no other, has a time: its start and end."""

    __slots__ = ("lost", "reason", "schema", "time")
    TYPE = 10

    def __init__(self, schema: int, reason: int, lost: int, time: tuple[int, int] | None = None) -> None:
        self.schema = schema
        self.reason = reason
        self.lost = lost
        self.time = time

    def body(self) -> bytes:
        span = b"" if self.time is None else _SPAN.pack(*self.time)
        return _GAP.pack(self.schema, self.reason, self.lost) + span

    @classmethod
    def decode(cls, body: bytes) -> GapFrame:
        timed = len(body) > 4 and body[4] == GapReason.NOT_SUBSCRIBED
        size = _GAP.size + _SPAN.size if timed else _GAP.size
        if len(body) != size:
            raise ProtocolError(f"GAP of {len(body)} bytes, expected {size}")
        schema, reason, lost = _GAP.unpack_from(body)
        return cls(schema, reason, lost, _SPAN.unpack_from(body, _GAP.size) if timed else None)


class Mixed(_Frame):
    __slots__ = ("parsed",)
    TYPE = 11

    def __init__(self, parsed: MixedBody) -> None:
        self.parsed = parsed

    def body(self) -> bytes:
        return encode_mixed(self.parsed)

    @classmethod
    def decode(cls, body: bytes) -> Mixed:
        parsed = parse_mixed(body)
        parsed.check()
        return cls(parsed)


Frame: TypeAlias = "Hello | Goodbye | Ping | Pong | Plan | Define | Numbers | Histograms | Events | GapFrame | Mixed"
FRAMES: Final[dict[int, type[Frame]]] = {
    kind.TYPE: kind for kind in (Hello, Goodbye, Ping, Pong, Plan, Define, Numbers, Histograms, Events, GapFrame, Mixed)
}


def decode(type: int, body: bytes) -> Frame | None:
    """Decodes a frame; returns None for an unknown type, which a later minor version may have added."""
    kind = FRAMES.get(type)
    return None if kind is None else kind.decode(body)


def encode_frame(frame: Frame) -> bytes:
    """Encodes a frame with its header."""
    body = frame.body()
    return HEADER.pack(len(body), frame.TYPE) + body


def _decode_map(body: bytes, at: int, what: str) -> dict[str, Value]:
    reader = Reader(body, at)
    fields = reader.value()
    if not isinstance(fields, dict):
        raise ProtocolError(f"invalid fields in {what}: expected a map")
    if reader.at != reader.end:
        raise ProtocolError(f"{reader.end - reader.at} extra bytes after {what}")
    return fields


def rows_in(type: int, body: bytes) -> int:
    """Returns the number of rows in the body of a frame without decoding it; arbitrary for an invalid body."""
    if type == Mixed.TYPE:
        return MIXED_HEAD.unpack_from(body)[1] if len(body) >= MIXED_HEAD.size else 0
    if type == Events.TYPE:
        return EVENTS_HEAD.unpack_from(body)[3] if len(body) >= EVENTS_HEAD.size else 0
    if type == Numbers.TYPE:
        return max(0, len(body) - 8) // NUMBER_ROW.size
    if type != Histograms.TYPE:
        return 0
    rows, at = 0, 8
    while at + HISTOGRAM_ROW.size <= len(body):
        at += HISTOGRAM_ROW.size + HISTOGRAM_ROW.unpack_from(body, at)[1] * BUCKET.size
        rows += 1
    return rows
