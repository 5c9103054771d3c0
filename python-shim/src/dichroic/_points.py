"""Metric points, their series, and histograms."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from ._types import Number, Scalar, Source


class Series:
    """The identity of a time series, shared by its points.

    Attributes:
        name: Metric name.
        labels: Labels by name.
        kind: "counter", "sum", "last", "exponential" or "buckets".
        start: Start of the cumulative state, nanoseconds since the Unix epoch.
        unit: UCUM unit, such as "s".
        source: The emitter.
        help: Description of the metric.
        scale: Of an exponential histogram.
        bounds: Upper bounds of an explicit histogram.
    """

    __slots__ = ("bounds", "help", "kind", "labels", "name", "scale", "source", "start", "unit")

    def __init__(
        self,
        name: str,
        labels: Mapping[str, Scalar],
        kind: str,
        start: int,
        unit: str = "",
        source: Source | None = None,
        help: str = "",
        scale: int | None = None,
        bounds: tuple[float, ...] | None = None,
    ) -> None:
        self.name = name
        self.labels = dict(labels)
        self.kind = kind
        self.start = start
        self.unit = unit
        self.source = source if source is not None else Source("")
        self.help = help
        self.scale = scale
        self.bounds = bounds


class Histogram:
    """A cumulative distribution.

    Attributes:
        count: Number of observations.
        sum: Their sum, in the unit of the series.
        bounds: Upper bounds of an explicit histogram, else None.
        scale: Scale of an exponential histogram, else None.
    """

    __slots__ = ("_rows", "bounds", "count", "scale", "sum")

    def __init__(
        self,
        sum: Number,
        rows: tuple[tuple[int, int, int], ...],
        scale: int | None = None,
        bounds: tuple[float, ...] | None = None,
    ) -> None:
        self.sum = sum
        self.scale = scale
        self.bounds = bounds
        self._rows = rows  # (index, side, count), as on the wire
        total = 0
        for _, _, n in rows:
            total += n
        self.count = total

    @property
    def buckets(self) -> list[tuple[float, float, int]]:
        """Non-empty buckets as (lower, upper, count), ascending; lower is exclusive and upper inclusive."""
        return sorted((*self._range(index, side), count) for index, side, count in self._rows)

    def _range(self, index: int, side: int) -> tuple[float, float]:
        if side == 0:
            return 0.0, 0.0
        if self.bounds is not None:
            lower = self.bounds[index - 1] if 0 < index <= len(self.bounds) else -math.inf
            upper = self.bounds[index] if 0 <= index < len(self.bounds) else math.inf
            return lower, upper
        step = 2.0 ** -(self.scale or 0)
        lower, upper = _power(index * step), _power((index + 1) * step)
        return (lower, upper) if side == 1 else (-upper, -lower)

    def quantile(self, q: float) -> float:
        """Estimates a quantile by linear interpolation within a bucket; NaN when the histogram is empty.

        Args:
            q: From 0 to 1, such as 0.99.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"invalid quantile {q}: expected 0 to 1")
        buckets = self.buckets
        if not buckets:
            return math.nan
        ends: list[int] = []
        for _, _, n in buckets:
            ends.append(n + (ends[-1] if ends else 0))
        rank = q * self.count
        at = min(bisect_left(ends, rank), len(buckets) - 1)
        lower, upper, n = buckets[at]
        if math.isinf(lower):
            lower = min(0.0, upper)
        if math.isinf(upper):
            return lower
        return lower + (upper - lower) * max(0.0, rank - (ends[at] - n)) / n

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        mine = self.sum, self._rows, self.scale, self.bounds
        return mine == (other.sum, other._rows, other.scale, other.bounds)

    __hash__ = None  # type: ignore[assignment]  # mutable and compared by value

    def __reduce__(self) -> tuple[Any, ...]:
        return Histogram, (self.sum, self._rows, self.scale, self.bounds)

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, sum={self.sum!r}, buckets={self.buckets!r})"


def _power(exponent: float) -> float:
    try:
        return math.ldexp(2.0 ** (exponent % 1.0), math.floor(exponent))
    except OverflowError:
        return math.inf


class Point:
    """The state of one time series at one time.

    Attributes:
        series: Name, labels, kind, start, unit, source and help, which are also properties of the point.
        value: A number or a `Histogram`, cumulative since `start`.
        time: Time of the reading, nanoseconds since the Unix epoch.
    """

    __slots__ = ("series", "time", "value")
    __match_args__ = ("name", "labels", "kind", "value", "start", "time")

    def __init__(
        self,
        name: str,
        labels: Mapping[str, Scalar] | None = None,
        kind: str = "last",
        value: Number | Histogram = 0,
        start: int = 0,
        time: int = 0,
        *,
        unit: str = "",
        source: str = "",
        help: str = "",
    ) -> None:
        source = source if isinstance(source, Source) else Source(source)
        self.series = Series(name, labels or {}, kind, start, unit, source, help)
        self.value = value
        self.time = time

    @classmethod
    def of(cls, series: Series, value: Number | Histogram, time: int) -> Point:
        """Returns a point of an existing series."""
        self = cls.__new__(cls)
        self.series = series
        self.value = value
        self.time = time
        return self

    @property
    def name(self) -> str:
        return self.series.name

    @property
    def labels(self) -> dict[str, Scalar]:
        return self.series.labels

    @property
    def kind(self) -> str:
        return self.series.kind

    @property
    def start(self) -> int:
        return self.series.start

    @property
    def unit(self) -> str:
        return self.series.unit

    @property
    def source(self) -> Source:
        return self.series.source

    @property
    def help(self) -> str:
        return self.series.help

    def _key(self) -> tuple[Any, ...]:
        return self.name, self.labels, self.kind, self.value, self.start, self.time, self.unit, str(self.source)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Point) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it holds a dict

    def __reduce__(self) -> tuple[Any, ...]:
        return Point.of, (self.series, self.value, self.time)

    def __repr__(self) -> str:
        return (
            f"Point({self.name!r}, {self.labels!r}, {self.kind!r}, {self.value!r}, start={self.start}, "
            f"time={self.time}, unit={self.unit!r}, source={str(self.source)!r})"
        )
