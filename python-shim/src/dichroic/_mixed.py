"""The MIXED frame: rows of several schemas and sources, whose cells refer to one pool, and their conversion to objects.

This is the hot path of the package while frames hold few rows of each schema. All cells of a frame are resolved by one
`itemgetter`, in C, whose IndexError doubles as the bounds check; then a row costs one slice and one small object.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final, TypeAlias

from ._errors import ProtocolError
from ._events import MAX_COLUMNS, MAX_ROWS, MAX_TABLE, parse_strings, parse_values, scalar
from ._types import Event, Log, RowContext
from ._values import TruncatedString, Value, encode

MIXED_HEAD: Final = struct.Struct("<QHHHHHH")
_CONTEXT: Final = struct.Struct("<IIB")
_LENGTH: Final = struct.Struct("<H")
MAX_POOL: Final = 65_535
_SWAPPED: Final = sys.byteorder != "little"
#: Schema, source, columns.
Context: TypeAlias = "tuple[int, int, int]"
#: What the rows of a context have in common: class, context, columns, and whether containers stay as sent.
Shape: TypeAlias = "tuple[type[Event], RowContext, int, bool]"


def _numbers(code: str, body: bytes, at: int, end: int) -> array[Any]:
    numbers: array[Any] = array(code)
    numbers.frombytes(body[at:end])
    if _SWAPPED:
        numbers.byteswap()
    return numbers


class MixedBody:
    """A decoded MIXED frame whose references are not resolved: contexts, rows and the pool."""

    __slots__ = ("contexts", "floats", "ints", "position", "references", "row_contexts", "strings", "values")

    def __init__(
        self,
        position: int,
        contexts: list[Context],
        row_contexts: Sequence[int],
        references: Sequence[int],
        ints: Sequence[int],
        floats: Sequence[float],
        strings: list[str],
        values: list[Value],
    ) -> None:
        self.position = position
        self.contexts = contexts
        self.row_contexts = row_contexts  # a number in `contexts` for each row
        self.references = references  # of all cells, row by row
        self.ints = ints
        self.floats = floats
        self.strings = strings
        self.values = values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MixedBody):
            return NotImplemented
        return encode_mixed(self) == encode_mixed(other)

    __hash__ = None  # type: ignore[assignment]

    def check(self) -> None:
        """Raises `ProtocolError` for references outside the pool."""
        self._cells(self.values)

    def rows(self) -> list[tuple[Context, tuple[Any, ...]]]:
        """Returns (schema, source, columns) and cells of each row, the time first."""
        cells, at = self._cells(self.values), 0
        rows: list[tuple[Context, tuple[Any, ...]]] = []
        for number in self.row_contexts:
            context = self.contexts[number]
            rows.append((context, cells[at : at + context[2]]))
            at += context[2]
        return rows

    def _cells(self, values: list[Value]) -> tuple[Any, ...]:
        """The cells of all rows, one after the other."""
        pool = [None, *self.ints, *self.floats, *self.strings, *values]
        references = self.references
        try:
            # An `itemgetter` of one item returns no tuple.
            return itemgetter(*references)(pool) if len(references) > 1 else (pool[references[0]],)
        except IndexError:
            raise ProtocolError(f"MIXED reference {max(references)} is outside its pool of {len(pool) - 1}") from None

    def events(self, shapes: list[Shape]) -> list[Event]:
        """Returns one object per row, of the shape of its context."""
        if self.values and not all(map(_SCALARS.__contains__, map(type, self.values))):
            return self._events_of_containers(shapes)
        cells = self._cells(self.values)
        new, at = Event.__new__, 0
        events: list[Event] = []
        add = events.append
        for kind, context, columns, _ in map(shapes.__getitem__, self.row_contexts):
            event = new(kind)
            event._context = context
            event._row = cells[at : (at := at + columns)]
            event._measurements = event._metadata = None
            add(event)
        return events

    def _events_of_containers(self, shapes: list[Shape]) -> list[Event]:
        """As `events`, when a value is a container or bytes: metadata of events are scalars."""
        as_sent, as_scalars = self._cells(self.values), self._cells([scalar(value) for value in self.values])
        events: list[Event] = []
        at = 0
        for number in self.row_contexts:
            kind, context, columns, keeps = shapes[number]
            event = Event.__new__(kind)
            event._context = context
            event._row = (as_sent if keeps else as_scalars)[at : (at := at + columns)]
            event._measurements = event._metadata = None
            events.append(event)
        return events


def shape_of(context: RowContext) -> Shape:
    """The shape of a context's rows."""
    schema = context.schema
    log = schema.kind == "log"
    return Log if log else Event, context, schema.columns, log or schema.is_record


_SCALARS: Final = frozenset((type(None), bool, int, float, str, TruncatedString))


def parse_mixed(body: bytes) -> MixedBody:
    """Decodes a MIXED body and checks all but the references into the pool; resolving them, or `check`, does that."""
    at = MIXED_HEAD.size
    if len(body) < at:
        raise ProtocolError(f"MIXED of {len(body)} bytes, expected at least {at}")
    position, r, k, i, f, s, v = MIXED_HEAD.unpack_from(body)
    if not (
        1 <= r <= MAX_ROWS and 1 <= k <= MAX_ROWS and s <= MAX_TABLE and v <= MAX_TABLE and i + f + s + v <= MAX_POOL
    ):
        raise ProtocolError(
            f"MIXED of {r} rows, {k} contexts, {i + f} numbers, {s} strings, {v} values exceeds a limit"
        )
    end = at + _CONTEXT.size * k
    rows_at, at = end, end + 2 * r
    if at > len(body):
        raise ProtocolError(f"MIXED of {r} rows and {k} contexts does not fit into {len(body)} bytes")
    contexts: list[Context] = list(_CONTEXT.iter_unpack(body[MIXED_HEAD.size : end]))
    row_contexts = _numbers("H", body, rows_at, at)
    columns = [context[2] for context in contexts]
    if min(columns) < 1 or max(columns) > MAX_COLUMNS or max(row_contexts) >= k:
        raise ProtocolError("MIXED with a context of 0 or too many columns, or a row of an unknown context")
    starts = list(accumulate(map(columns.__getitem__, row_contexts), initial=0))
    ints_at = at + 2 * starts.pop()
    floats_at = ints_at + 8 * i
    end = floats_at + 8 * f
    if end + 2 * s > len(body):
        raise ProtocolError(f"MIXED of {r} rows does not fit into {len(body)} bytes")
    references = _numbers("H", body, at, ints_at)
    times = list(map(references.__getitem__, starts))
    if min(times) < 1 or max(times) > i:
        raise ProtocolError("MIXED with a row whose first cell is not the time")
    strings, end = parse_strings(body, end, s, "MIXED")
    values = parse_values(body, end, v, "MIXED")
    ints, floats = _numbers("q", body, ints_at, floats_at), _numbers("d", body, floats_at, floats_at + 8 * f)
    return MixedBody(position, contexts, row_contexts, references, ints, floats, strings, values)


def encode_mixed(frame: MixedBody) -> bytes:
    """Encodes the body."""
    tables = (frame.row_contexts, frame.contexts, frame.ints, frame.floats, frame.strings, frame.values)
    out = bytearray(MIXED_HEAD.pack(frame.position, *map(len, tables)))
    for context in frame.contexts:
        out += _CONTEXT.pack(*context)
    for code, numbers in (("H", frame.row_contexts), ("H", frame.references), ("q", frame.ints), ("d", frame.floats)):
        out += struct.pack(f"<{len(numbers)}{code}", *numbers)
    raw = [text.encode() for text in frame.strings]
    out += b"".join(_LENGTH.pack(len(text)) for text in raw) + b"".join(raw)
    for value in frame.values:
        encode(value, out)
    return bytes(out)


def mix(position: int, rows: list[tuple[int, int, tuple[Any, ...]]]) -> MixedBody:
    """Makes a frame of rows (schema, source, cells: the time first), as a collector does; for `dichroic.testing`."""
    contexts: dict[Context, int] = {}
    row_contexts: list[int] = []
    ints: list[int] = []
    floats: list[float] = []
    strings: dict[str, int] = {}
    values: list[Value] = []
    slots: list[tuple[int, int]] = []  # number of the table, from 1, and of the entry
    for schema, source, cells in rows:
        row_contexts.append(contexts.setdefault((schema, source, len(cells)), len(contexts)))
        for cell in cells:
            if cell is None:
                slots.append((0, 0))
            elif type(cell) is int and -(1 << 63) <= cell < 1 << 63:
                slots.append((1, len(ints)))
                ints.append(cell)
            elif type(cell) is float:
                slots.append((2, len(floats)))
                floats.append(cell)
            elif type(cell) is str:
                slots.append((3, strings.setdefault(cell, len(strings))))
            else:
                slots.append((4, len(values)))
                values.append(cell)
    first = (0, *accumulate((len(ints), len(floats), len(strings)), initial=1))
    references = [first[table] + entry for table, entry in slots]
    return MixedBody(position, list(contexts), row_contexts, references, ints, floats, list(strings), values)
