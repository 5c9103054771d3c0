"""The EVENTS frame: columns of one schema with a string table, and their conversion to Python objects.

This is the hot path of the package. A row costs one tuple (from `zip` over the columns) and one small object. Strings
are decoded once per frame. References are resolved by one C-level `map` over a dict; its KeyError doubles as the
bounds check.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from itertools import accumulate, pairwise, repeat
from typing import Any, Final

from ._errors import ProtocolError
from ._types import Event, Log, RowContext
from ._values import Reader, TruncatedString, Value, encode

EVENTS_HEAD: Final = struct.Struct("<IIQHBHH")
MAX_ROWS: Final = 4_096
MAX_COLUMNS: Final = 64
MAX_TABLE: Final = 32_767
ABSENT, INTEGER, FLOAT, REFERENCE = 0, 1, 2, 3
_WIDTH: Final = (0, 8, 8, 2)
_CODE: Final = "?qdh"
_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1


@lru_cache(maxsize=512)
def _column(rows: int, kind: int) -> struct.Struct:
    return struct.Struct(f"<{rows}{_CODE[kind]}")


class EventsBody:
    """A decoded EVENTS frame whose references are not resolved: columns and the two tables."""

    __slots__ = ("columns", "kinds", "position", "rows", "schema", "source", "strings", "values")

    def __init__(
        self,
        schema: int,
        source: int,
        position: int,
        rows: int,
        kinds: bytes,
        columns: list[tuple[Any, ...]],
        strings: list[str],
        values: list[Value],
    ) -> None:
        self.schema = schema
        self.source = source
        self.position = position
        self.rows = rows
        self.kinds = kinds
        self.columns = columns  # one tuple per column, empty for an absent one; references are integers
        self.strings = strings
        self.values = values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EventsBody):
            return NotImplemented
        return encode_events(self) == encode_events(other)

    __hash__ = None  # type: ignore[assignment]

    def check(self) -> None:
        """Raises `ProtocolError` for references beyond the tables."""
        s, v = len(self.strings), len(self.values)
        for kind, column in zip(self.kinds, self.columns, strict=True):
            if kind == REFERENCE and (max(column) >= s or min(column) < -v):
                raise ProtocolError(f"EVENTS reference outside its {s} strings and {v} values")

    def resolved(self) -> list[Any]:
        """Returns the columns with references replaced by their values."""
        pool: dict[int, Any] = dict(enumerate(self.strings))
        pool.update((-1 - k, value) for k, value in enumerate(self.values))
        return self._resolve(pool)

    def _resolve(self, pool: dict[int, Any]) -> list[Any]:
        resolved: list[Any] = []
        look_up = pool.__getitem__
        for kind, column in zip(self.kinds, self.columns, strict=True):
            if kind == REFERENCE:
                try:
                    resolved.append(list(map(look_up, column)))
                except KeyError as error:
                    raise ProtocolError(f"EVENTS reference {error} is outside its tables") from None
            else:
                resolved.append(column if kind else repeat(None, self.rows))
        return resolved

    def events(self, context: RowContext) -> list[Event]:
        """Returns one object per row. The caller has checked that the schema fits the columns."""
        log = context.schema.kind == "log"
        as_sent = log or context.schema.is_record
        pool: dict[int, Any] = dict(enumerate(self.strings))
        for k, value in enumerate(self.values):
            pool[-1 - k] = value if as_sent else scalar(value)
        kind: type[Event] = Log if log else Event
        new = kind.__new__
        events: list[Event] = []
        add = events.append
        for row in zip(*self._resolve(pool), strict=True):
            event = new(kind)
            event._context = context
            event._row = row
            event._measurements = event._metadata = None
            add(event)
        return events


def scalar(value: Value) -> Value:
    """Renders a value that is not a scalar as text: metadata of events are scalars."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=lambda raw: raw.decode("utf-8", "backslashreplace"))
    return value


def parse_events(body: bytes) -> EventsBody:
    """Decodes an EVENTS body and checks every length; resolving the references, or `check`, checks those."""
    if len(body) < EVENTS_HEAD.size:
        raise ProtocolError(f"EVENTS of {len(body)} bytes, expected at least {EVENTS_HEAD.size}")
    schema, source, position, rows, c, s, v = EVENTS_HEAD.unpack_from(body)
    if not (1 <= rows <= MAX_ROWS and 1 <= c <= MAX_COLUMNS and s <= MAX_TABLE and v <= MAX_TABLE):
        raise ProtocolError(f"EVENTS of {rows} rows, {c} columns, {s} strings, {v} values exceeds a limit")
    at = EVENTS_HEAD.size + c
    kinds = bytes(body[EVENTS_HEAD.size : at])
    if len(kinds) != c or max(kinds) > REFERENCE or kinds[0] != INTEGER:
        raise ProtocolError("EVENTS with a column of unknown kind, or whose first is not the time")
    if at + rows * sum(map(_WIDTH.__getitem__, kinds)) + 2 * s > len(body):
        raise ProtocolError(f"EVENTS of {rows} rows does not fit into {len(body)} bytes")
    columns: list[tuple[Any, ...]] = []
    for kind in kinds:
        if kind == ABSENT:
            columns.append(())
            continue
        column = _column(rows, kind).unpack_from(body, at)
        columns.append(column)
        at += rows * _WIDTH[kind]
    strings, at = parse_strings(body, at, s, "EVENTS")
    values = parse_values(body, at, v, "EVENTS")
    return EventsBody(schema, source, position, rows, kinds, columns, strings, values)


def parse_values(body: bytes, at: int, v: int, what: str) -> list[Value]:
    """Decodes the table of values, which ends the body of a frame of type `what`."""
    if not v and at == len(body):
        return []
    reader = Reader(body, at)
    values = [reader.value() for _ in range(v)]
    if reader.at != reader.end:
        raise ProtocolError(f"{reader.end - reader.at} extra bytes after {what}")
    return values


def parse_strings(body: bytes, at: int, s: int, what: str) -> tuple[list[str], int]:
    """Decodes the string table of a frame of type `what`, whose lengths fit; returns the strings and their end."""
    if not s:
        return [], at
    lengths = _column_u16(s).unpack_from(body, at)
    ends = list(accumulate(lengths, initial=at + 2 * s))
    if ends[-1] > len(body):
        raise ProtocolError(f"{s} strings of {what} do not fit into {len(body)} bytes")
    try:
        return [str(body[a:b], "utf-8") for a, b in pairwise(ends)], ends[-1]
    except UnicodeDecodeError as error:
        raise ProtocolError(f"string in {what} is not UTF-8: {error.reason}") from None


@lru_cache(maxsize=512)
def _column_u16(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}H")


def encode_events(frame: EventsBody) -> bytes:
    """Encodes the body."""
    s, v = len(frame.strings), len(frame.values)
    out = bytearray(
        EVENTS_HEAD.pack(frame.schema, frame.source, frame.position, frame.rows, len(frame.kinds), s, v) + frame.kinds
    )
    for kind, column in zip(frame.kinds, frame.columns, strict=True):
        if kind != ABSENT:
            out += _column(frame.rows, kind).pack(*column)
    raw = [text.encode() for text in frame.strings]
    out += _column_u16(s).pack(*map(len, raw))
    out += b"".join(raw)
    for value in frame.values:
        encode(value, out)
    return bytes(out)


def columns_of(schema: int, source: int, position: int, rows: list[tuple[Any, ...]]) -> EventsBody:
    """Converts rows (time first) to columns, as a collector does; for tests and `dichroic.testing`."""
    strings: dict[str, int] = {}
    values: list[Value] = []
    kinds = bytearray()
    columns: list[tuple[Any, ...]] = []
    for column in zip(*rows, strict=True):
        kind = _kind(column)
        kinds.append(kind)
        if kind == REFERENCE:
            columns.append(tuple(_reference(cell, strings, values) for cell in column))
        else:
            columns.append(() if kind == ABSENT else column)
    return EventsBody(schema, source, position, len(rows), bytes(kinds), columns, list(strings), values)


def _kind(column: tuple[Any, ...]) -> int:
    types = set(map(type, column))
    if types == {type(None)}:
        return ABSENT
    if types == {int} and min(column) >= _I64_MIN and max(column) <= _I64_MAX:
        return INTEGER
    return FLOAT if types == {float} else REFERENCE


def _reference(cell: Any, strings: dict[str, int], values: list[Value]) -> int:
    if isinstance(cell, str) and not isinstance(cell, TruncatedString):
        return strings.setdefault(cell, len(strings))
    values.append(cell)
    return -len(values)
