"""Arrow record batches of items, with one schema for each kind. `Batch.to_arrow` imports it on demand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ._points import Histogram, Point
from ._types import Event, Log


def record_batch(pyarrow: Any, kind: str, items: Iterable[object]) -> Any:
    """Returns the items of a kind as a `pyarrow.RecordBatch`; gaps are omitted."""
    wanted: type = Point if kind == "metric" else Event
    cells = {"event": _event, "log": _log, "metric": _point}[kind]
    rows = [cells(item) for item in items if isinstance(item, wanted)]
    return pyarrow.RecordBatch.from_pylist(rows, schema=_schema(pyarrow, kind))


@lru_cache(maxsize=8)
def _schema(pyarrow: Any, kind: str) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    time = pyarrow.timestamp("ns", tz="UTC")
    by_name = {
        "text": pyarrow.map_(text, text),
        "number": pyarrow.map_(text, number),
        "whole": pyarrow.map_(text, whole),
    }
    source = [("time", time), ("name", text), ("source", text), ("runtime", text)]
    if kind == "log":
        return pyarrow.schema(
            [
                *source,
                ("severity", pyarrow.int32()),
                ("body", text),
                ("trace_id", text),
                ("span_id", text),
                ("attributes", by_name["text"]),
            ]
        )
    if kind == "event":
        return pyarrow.schema(
            [
                *source,
                ("measurements", by_name["number"]),
                ("integers", by_name["whole"]),
                ("metadata", by_name["text"]),
            ]
        )
    bucket = pyarrow.struct([("lower", number), ("upper", number), ("count", whole)])
    return pyarrow.schema(
        [
            *source,
            ("kind", text),
            ("unit", text),
            ("start", time),
            ("labels", by_name["text"]),
            ("value", number),
            ("integer", whole),
            ("count", whole),
            ("sum", number),
            ("buckets", pyarrow.list_(bucket)),
        ]
    )


def _emitted(item: Any) -> dict[str, Any]:
    return {"time": item.time, "name": item.name, "source": str(item.source), "runtime": item.source.runtime}


def _event(item: Any) -> dict[str, Any]:
    measurements = item.measurements
    return {
        **_emitted(item),
        "measurements": [(name, float(number)) for name, number in measurements.items()],
        "integers": [(name, number) for name, number in measurements.items() if _is_int64(number)],
        "metadata": _texts(item.metadata),
    }


def _log(item: Any) -> dict[str, Any]:
    record = {**_emitted(item), "attributes": _texts(item.metadata)}
    if isinstance(item, Log):
        record |= {"severity": item.severity, "body": _text(item.body)}
        record |= {"trace_id": item.trace_id, "span_id": item.span_id}
    return record


def _point(item: Any) -> dict[str, Any]:
    value = item.value
    row = {
        **_emitted(item),
        "kind": item.kind,
        "unit": item.unit,
        "start": item.start or None,
        "labels": _texts(item.labels),
    }
    if isinstance(value, Histogram):
        buckets = [{"lower": lower, "upper": upper, "count": count} for lower, upper, count in value.buckets]
        return {**row, "count": value.count, "sum": float(value.sum), "buckets": buckets}
    return {**row, "value": float(value), "integer": value if _is_int64(value) else None}


def _is_int64(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and -(1 << 63) <= number < 1 << 63


def _texts(values: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    return [(name, _text(value)) for name, value in values.items()]


def _text(value: Any) -> str | None:
    """The text of a value, as patterns of `where` match it."""
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, default=bytes.hex)
    return str(value)
