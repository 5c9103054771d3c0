"""Batches of items: a sequence that converts to columns, Arrow or pandas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from ._errors import MissingDependencyError
from ._points import Histogram, Point
from ._types import Event, Log

T = TypeVar("T")


class Batch(Sequence[T], Generic[T]):
    """A sequence of items in order. With `on_gap="yield"` it includes gaps, which columns omit.

    Attributes:
        kind: "event", "metric" or "log": the type of the items, also of an empty batch.
    """

    __slots__ = ("_items", "kind")

    def __init__(self, items: list[T], kind: str | None = None) -> None:
        self._items = items
        self.kind = kind or next(filter(None, map(_kind, items)), "event")

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Batch[T]: ...
    def __getitem__(self, index: int | slice) -> T | Batch[T]:
        return Batch(self._items[index], self.kind) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<Batch of {len(self._items)}>"

    def to_columns(self) -> dict[str, list[Any]]:
        """Returns a dict of lists: `time`, `name`, `source`, and each measurement, metadata key or label.

        Missing values are None. A name that occurs in two groups gets the group as prefix, such as `metadata.time`.
        Points have `value`, histograms `count`, `sum` and `buckets`.
        """
        rows: list[list[tuple[str, str, Any]]] = []
        for item in self._items:
            cells = _cells(item)
            if cells:
                rows.append(cells)
        group_of: dict[str, str] = {}
        names: dict[tuple[str, str], str] = {}
        for row in rows:
            for group, name, _ in row:
                if (group, name) not in names:
                    owner = group_of.setdefault(name, group)
                    names[group, name] = name if owner == group else f"{group}.{name}"
        columns: dict[str, list[Any]] = {column: [None] * len(rows) for column in names.values()}
        for at, row in enumerate(rows):
            for group, name, value in row:
                columns[names[group, name]][at] = value
        return columns

    def to_arrow(self) -> Any:
        """Returns a `pyarrow.RecordBatch`. Its schema depends on the kind alone, so all batches of a subscription fit
        into one table or Parquet file.

        Measurements, metadata, attributes and labels are maps. `measurements` has every number as a double; `integers`
        has the integers among them exactly. Points have `value` and, when it is an integer, `integer`; histograms have
        `count`, `sum` and `buckets` (lower, upper, count). Times are UTC timestamps in nanoseconds.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        try:
            import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise MissingDependencyError("to_arrow() needs pyarrow: pip install pyarrow") from None
        from . import _arrow

        return _arrow.record_batch(pyarrow, self.kind, self._items)

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with the columns of `to_columns()`; `time` and `start` are UTC timestamps.

        Integers and booleans have the nullable types `Int64` and `boolean`, so that a missing value changes no other.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise MissingDependencyError("to_pandas() needs pandas: pip install pandas") from None
        columns = {name: _series(pandas, column) for name, column in self.to_columns().items()}
        for name in ("time", "start"):
            if name in columns:
                columns[name] = pandas.to_datetime(columns[name], unit="ns", utc=True)
        return pandas.DataFrame(columns)


def _series(pandas: Any, column: list[Any]) -> Any:
    """A pandas series of the type that keeps every value."""
    types = {type(value) for value in column if value is not None}
    if types == {int}:
        low, high = min(filter(_present, column)), max(filter(_present, column))
        if low >= -(1 << 63) and high < 1 << 63:
            return pandas.Series(column, dtype="Int64")
        return pandas.Series(column, dtype="UInt64" if low >= 0 and high < 1 << 64 else object)
    if types == {int, float}:
        exact = all(not isinstance(value, int) or abs(value) <= 1 << 53 for value in column)
        return pandas.Series(column, dtype="float64" if exact else object)
    if types == {float}:
        return pandas.Series(column, dtype="float64")
    if types == {bool}:
        return pandas.Series(column, dtype="boolean")
    if types == {str}:
        return pandas.Series(column)
    return pandas.Series(column, dtype=object)


def _present(value: Any) -> bool:
    return value is not None


def _kind(item: object) -> str | None:
    if isinstance(item, Point):
        return "metric"
    return item.kind if isinstance(item, Event) else None


def _cells(item: object) -> list[tuple[str, str, Any]]:
    """Returns (group, name, value) of one row, the fixed columns first."""
    if isinstance(item, Point):
        fixed = {
            "time": item.time,
            "name": item.name,
            "source": str(item.source),
            "kind": item.kind,
            "start": item.start,
        }
        if isinstance(item.value, Histogram):
            fixed |= {"count": item.value.count, "sum": item.value.sum, "buckets": item.value.buckets}
        else:
            fixed["value"] = item.value
        return _grouped("", fixed) + _grouped("labels", item.labels)
    if isinstance(item, Event):
        fixed = {"time": item.time, "name": item.name, "source": str(item.source)}
        if isinstance(item, Log):
            fixed |= {"severity": item.severity, "body": item.body, "trace_id": item.trace_id, "span_id": item.span_id}
        return _grouped("", fixed) + _grouped("measurements", item.measurements) + _grouped("metadata", item.metadata)
    return []


def _grouped(group: str, values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(group, name, value) for name, value in values.items()]
