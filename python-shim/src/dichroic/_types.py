"""Events, logs, sources, and the statistics of a subscription. Points are in `_points`, gaps in `_gap`.

One object is created per row, so these are classes with `__slots__`. An `Event` refers to its row and to the values
its frame stores once (name, source, columns). It builds the `measurements` and `metadata` dicts on first access, which
makes a stream four times as fast as building them eagerly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from ._values import Value

Scalar: TypeAlias = "str | int | float | bool | None"
Number: TypeAlias = "int | float"


class Source(str):
    """The emitter: a string with its name.

    Attributes:
        runtime: "beam", "python", "other", ….
        resource: Resource attributes.
    """

    __slots__ = ("resource", "runtime")
    runtime: str
    resource: dict[str, Value]

    def __new__(cls, name: str, runtime: str = "other", resource: Mapping[str, Value] | None = None) -> Source:
        self = super().__new__(cls, name)
        self.runtime = runtime
        self.resource = dict(resource or {})
        return self

    @property
    def name(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[type[Source], tuple[str, str, dict[str, Value]]]:
        return Source, (str(self), self.runtime, self.resource)


#: Columns of OTLP log records; those with an event name are events.
_RECORD_COLUMNS = ("severity", "body", "trace_id", "span_id", "attributes")


class Schema:
    """The name and columns of one kind of event. Column 0 is the time.

    Attributes:
        is_record: Whether its rows are OTLP log records that have an event name.
    """

    __slots__ = ("columns", "is_record", "kind", "measurements", "metadata", "name", "units")

    def __init__(
        self, name: str, kind: str, measurements: tuple[tuple[str, str], ...], metadata: tuple[str, ...]
    ) -> None:
        self.name = name
        self.kind = kind
        self.measurements = tuple(column for column, _ in measurements)
        self.units = dict(measurements)
        self.metadata = metadata
        self.is_record = kind == "event" and metadata == _RECORD_COLUMNS
        self.columns = 1 + len(self.measurements) + len(metadata)


class RowContext:
    """The schema and source of one frame, shared by its rows."""

    __slots__ = ("first_metadata", "schema", "source")

    def __init__(self, schema: Schema, source: Source) -> None:
        self.schema = schema
        self.source = source
        self.first_metadata = 1 + len(schema.measurements)


class Event:
    """A `:telemetry` event, or an event of another source.

    Attributes:
        name: Dotted name.
        measurements: Numbers by name; absent measurements are omitted.
        metadata: Scalars by the tag names that the pack declares. For an OTLP log record with an event name: its
            attributes, plus `severity`, `body`, and `trace_id` and `span_id` in hexadecimal, if set.
        time: Nanoseconds since the Unix epoch.
        source: The emitter.
    """

    __slots__ = ("_context", "_measurements", "_metadata", "_row")
    __match_args__ = ("name", "measurements", "metadata", "time", "source")
    _context: RowContext
    _row: tuple[Any, ...]
    _measurements: dict[str, Number] | None  # built on first access
    _metadata: dict[str, Scalar] | None

    def __init__(
        self,
        name: str,
        measurements: Mapping[str, Number] | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        time: int = 0,
        source: str = "",
    ) -> None:
        source = source if isinstance(source, Source) else Source(source)
        self._context = RowContext(Schema(name, self.kind, (), ()), source)
        self._row = (time,)
        self._measurements = dict(measurements or {})
        self._metadata = dict(metadata or {})

    @property
    def kind(self) -> str:
        return "event"

    @property
    def name(self) -> str:
        return self._context.schema.name

    @property
    def time(self) -> int:
        return int(self._row[0])

    @property
    def source(self) -> Source:
        return self._context.source

    @property
    def measurements(self) -> dict[str, Number]:
        found = self._measurements
        if found is None:
            # A loop over few names takes half the time of `dict(zip(…))` with a slice of the row.
            found, row, at = {}, self._row, 1
            for name in self._context.schema.measurements:
                number = row[at]
                if number is not None:
                    found[name] = number
                at += 1
            self._measurements = found
        return found

    @property
    def metadata(self) -> dict[str, Scalar]:
        found = self._metadata
        if found is None:
            context = self._context
            if context.schema.is_record:
                found = _record_metadata(*self._row[context.first_metadata :])
            else:
                found, row, at = {}, self._row, context.first_metadata
                for name in context.schema.metadata:
                    found[name] = row[at]
                    at += 1
            self._metadata = found
        return found

    @property
    def units(self) -> dict[str, str]:
        """UCUM units of the measurements for which the pack declares one: `{"duration": "ns"}`."""
        return self._context.schema.units

    def _key(self) -> tuple[Any, ...]:
        return self.kind, self.name, self.time, str(self.source), self.measurements, self.metadata

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Event) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __reduce__(self) -> tuple[Any, ...]:
        return event, (self.name, self.measurements, self.metadata, self.time, self.source, self.units)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {self.measurements!r}, {self.metadata!r}, "
            f"time={self.time}, source={str(self.source)!r})"
        )


def event(
    name: str,
    measurements: Mapping[str, Number],
    metadata: Mapping[str, Scalar],
    time: int,
    source: str,
    units: Mapping[str, str],
) -> Event:
    """Creates an `Event` with units outside a stream, for pickling."""
    made = Event(name, measurements, metadata, time, source)
    made._context.schema.units = dict(units)
    return made


def _record_metadata(severity: Any, body: Any, trace_id: Any, span_id: Any, attributes: Any) -> dict[str, Scalar]:
    found = {name: _scalar(value) for name, value in attributes.items()} if isinstance(attributes, dict) else {}
    for name, value in (("severity", severity), ("body", body), ("trace_id", trace_id), ("span_id", span_id)):
        if value is not None and value != b"":
            found.setdefault(name, _scalar(value))
    return found


def _scalar(value: Any) -> Scalar:
    """Renders a value of an OTLP record that is not a scalar as text: bytes in hexadecimal, containers as JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=bytes.hex)
    scalar: Scalar = value
    return scalar


#: Columns of a log that are not attributes.
_LOG_FIELDS = frozenset(("severity", "body", "trace_id", "span_id", "attributes"))


class Log(Event):
    """A log record: an event with severity, body and trace ids. Its `metadata` are the attributes."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        return "log"

    def _field(self, name: str) -> Any:
        schema = self._context.schema
        if name in schema.metadata:
            return self._row[self._context.first_metadata + schema.metadata.index(name)]
        if name in schema.measurements:
            return self._row[1 + schema.measurements.index(name)]
        return None

    @property
    def severity(self) -> int | None:
        """OpenTelemetry severity number, 1 to 24."""
        value = self._field("severity")
        return int(value) if isinstance(value, (int, float)) else None

    @property
    def body(self) -> Value:
        value: Value = self._field("body")
        return value

    @property
    def trace_id(self) -> str | None:
        """Trace id in lower-case hexadecimal."""
        return _hexadecimal(self._field("trace_id"))

    @property
    def span_id(self) -> str | None:
        """Span id in lower-case hexadecimal."""
        return _hexadecimal(self._field("span_id"))

    @property
    def measurements(self) -> dict[str, Number]:
        return {name: number for name, number in super().measurements.items() if name not in _LOG_FIELDS}

    @property
    def metadata(self) -> dict[str, Scalar]:
        if self._metadata is None:
            attributes = self._field("attributes")
            self._metadata = dict(attributes) if isinstance(attributes, dict) else {}
            row = self._row[self._context.first_metadata :]
            for name, value in zip(self._context.schema.metadata, row, strict=True):
                if name not in _LOG_FIELDS:
                    self._metadata[name] = value
        return self._metadata

    def _key(self) -> tuple[Any, ...]:
        return *super()._key(), self.severity, self.body, self.trace_id, self.span_id

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {"severity": self.severity, "body": self.body, "trace_id": self.trace_id, "span_id": self.span_id}
        return log, (self.name, self.metadata, self.time, self.source, fields)

    def __repr__(self) -> str:
        return (
            f"Log({self.name!r}, severity={self.severity}, body={self.body!r}, {self.metadata!r}, "
            f"time={self.time}, source={str(self.source)!r})"
        )


def log(name: str, attributes: Mapping[str, Scalar], time: int, source: str, fields: Mapping[str, Any]) -> Log:
    """Creates a `Log` outside a stream, for tests and pickling."""
    record = Log(name, None, attributes, time, source)
    record._context = RowContext(Schema(name, "log", (), tuple(fields)), record.source)
    record._row = (time, *fields.values())
    return record


def _hexadecimal(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.hex() or None
    return value or None if isinstance(value, str) else None


class Stats:
    """Counters of a subscription.

    Attributes:
        received: Rows decoded, consumed or not.
        lost: Rows lost, where the number is known.
        gaps: Gaps, including those of unknown size.
        reconnects: Connections after the first.
        lag_seconds: Age of the newest decoded row; None before the first row.
        buffered: Rows decoded and not yet consumed.
        queued: Rows received and not yet decoded. Above the subscription's `buffer` the client stops reading.
        queued_frames: Frames of these rows.
        queued_bytes: Bytes of these frames.
        frames: Frames decoded.
        bytes: Bytes received.
        skipped_frames: Frames of a type unknown to this version.
    """

    __slots__ = (
        "buffered",
        "bytes",
        "frames",
        "gaps",
        "lag_seconds",
        "lost",
        "queued",
        "queued_bytes",
        "queued_frames",
        "received",
        "reconnects",
        "skipped_frames",
    )

    def __init__(self) -> None:
        self.received = 0
        self.lost = 0
        self.gaps = 0
        self.reconnects = 0
        self.lag_seconds: float | None = None
        self.buffered = 0
        self.queued = 0
        self.queued_frames = 0
        self.queued_bytes = 0
        self.frames = 0
        self.bytes = 0
        self.skipped_frames = 0

    def __repr__(self) -> str:
        return f"Stats({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
