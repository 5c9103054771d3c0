"""Batches of items: a sequence that converts to columns, Arrow or pandas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from ._errors import MissingDependencyError
from ._points import Histogram, Point
from ._types import Event, Log

T = TypeVar("T")


class Batch(Sequence[T], Generic[T]):
    """A sequence of items in order. With `on_gap="yield"` it includes gaps, which columns omit."""

    __slots__ = ("_items",)

    def __init__(self, items: list[T]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Batch[T]: ...
    def __getitem__(self, index: int | slice) -> T | Batch[T]:
        return Batch(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<Batch of {len(self._items)}>"

    def to_columns(self) -> dict[str, list[Any]]:
        """Returns a dict of lists: `time`, `name`, `source`, and each measurement, metadata key or label.

        Missing values are None. A name that occurs in two groups gets the group as prefix, such as `metadata.time`.
        Points have `value`, histograms `count` and `sum`.
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
        """Returns a `pyarrow.RecordBatch`; `time` and `start` are UTC timestamps in nanoseconds.

        Raises:
            MissingDependencyError: pyarrow is not installed.
        """
        try:
            import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise MissingDependencyError("to_arrow() needs pyarrow: pip install 'dichroic[arrow]'") from None
        columns = self.to_columns()
        arrays = {name: pyarrow.array(_uniform(column)) for name, column in columns.items()}
        for name in ("time", "start"):
            if name in arrays:
                arrays[name] = arrays[name].cast(pyarrow.timestamp("ns", tz="UTC"))
        return pyarrow.RecordBatch.from_pydict(arrays)

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`; `time` and `start` are UTC timestamps in nanoseconds.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise MissingDependencyError("to_pandas() needs pandas: pip install 'dichroic[pandas]'") from None
        frame = pandas.DataFrame(self.to_columns())
        for name in ("time", "start"):
            if name in frame:
                frame[name] = pandas.to_datetime(frame[name], unit="ns", utc=True)
        return frame


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
            fixed |= {"count": item.value.count, "sum": item.value.sum}
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


def _uniform(column: list[Any]) -> list[Any]:
    """Converts a column to one type, as Arrow requires: ints among floats to float, other mixtures to str."""
    types = {type(value) for value in column if value is not None}
    if types == {int} and not all(value is None or -(1 << 63) <= value < 1 << 63 for value in column):
        types = {int, float}
    if len(types) <= 1 and types <= {int, float, str, bool, bytes}:
        return column
    if types == {int, float}:
        return [None if value is None else float(value) for value in column]
    return [None if value is None else str(value) for value in column]
