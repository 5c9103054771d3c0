"""What a subscription asks for: the arguments of `subscribe`, checked and turned into the map that travels in HELLO.

Called by the asyncio and the blocking client alike, so that both refuse the same mistakes with the same words before
anything is sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal, TypeAlias, get_args

from ._values import Value

Kind: TypeAlias = Literal["event", "metric", "log"]
OnFull: TypeAlias = Literal["drop_oldest", "drop_newest", "disconnect"]
OnGap: TypeAlias = Literal["warn", "yield", "raise"]
Duration: TypeAlias = "str | int | float | timedelta"
Patterns: TypeAlias = "str | int | float | bool | Iterable[str | int | float | bool]"

MAX_PATTERNS: Final = 64
MAX_PATTERN_BYTES: Final = 256
MAX_WHERE: Final = 16
MIN_BUFFER, MAX_BUFFER = 64, 1_048_576
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)\s*")


def milliseconds(duration: Duration, name: str) -> int:
    """`"30s"`, `"250ms"`, `"2m"`, `"1h"`, a number of seconds, or a timedelta."""
    if isinstance(duration, timedelta):
        value = duration.total_seconds() * 1000
    elif isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        if not match:
            raise ValueError(f'{name}={duration!r} is no duration: write "30s", "250ms", "2m", or seconds as a number')
        value = float(match[1]) * _UNITS[match[2]]
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        value = duration * 1000
    else:
        raise TypeError(f"{name} is a duration such as '30s' or a number of seconds, not {type(duration).__name__}")
    if not (math.isfinite(value) and 0 <= round(value) < 1 << 32):
        raise ValueError(f"{name}={duration!r} is out of range")
    return round(value)


def rendered(value: str | int | float | bool) -> str:
    """A label's value as patterns see it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Request:
    """A checked subscription. `fields` is the `subscribe` map of HELLO."""

    __slots__ = ("fields", "kind", "on_gap", "patterns")

    def __init__(
        self,
        patterns: tuple[str, ...],
        kind: Kind = "event",
        where: Mapping[str, Patterns] | None = None,
        replay: Duration | None = None,
        every: Duration = 1.0,
        buffer: int = 8192,
        on_full: OnFull = "drop_oldest",
        on_gap: OnGap = "warn",
        sample: float | None = None,
        cursor: tuple[int, int, int] | None = None,
    ) -> None:
        self.patterns = _checked(patterns)
        self.kind = _one_of("kind", kind, get_args(Kind))
        self.on_gap = _one_of("on_gap", on_gap, get_args(OnGap))
        if not isinstance(buffer, int) or not MIN_BUFFER <= buffer <= MAX_BUFFER:
            raise ValueError(f"buffer={buffer!r} is no number of rows from {MIN_BUFFER} to {MAX_BUFFER}")
        self.fields: dict[str, Value] = {
            "kind": kind,
            "match": list(patterns),
            "buffer": buffer,
            "on_full": _one_of("on_full", on_full, get_args(OnFull)),
        }
        if where:
            self.fields["where"] = _where(where)
        if replay is not None:
            self.fields["replay_ms"] = milliseconds(replay, "replay")
        if kind == "metric":
            self.fields["every_ms"] = max(1, milliseconds(every, "every"))
        if sample is not None:
            if not 0 < sample <= 1:
                raise ValueError(f"sample={sample!r} is a share of the events, above 0 and at most 1")
            if kind == "metric":
                raise ValueError("sample is of events and logs; points have every=")
            self.fields["sample"] = float(sample)
        if cursor is not None:
            if kind == "metric":
                raise ValueError("points have no cursor: each carries the whole state of its series")
            epoch, position, rows = cursor
            self.fields["cursor"] = [int(epoch), int(position), int(rows)]


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, known))}")
    return value


def _checked(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError('subscribe to at least one pattern, "**" for everything')
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"{len(patterns)} patterns, a subscription has at most {MAX_PATTERNS}")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a string such as 'phoenix.**', not {type(pattern).__name__}")
        if not 1 <= len(pattern.encode()) <= MAX_PATTERN_BYTES:
            raise ValueError(f"the pattern {pattern[:40]!r} has not 1 to {MAX_PATTERN_BYTES} bytes")
    return patterns


def _where(where: Mapping[str, Patterns]) -> dict[str, Value]:
    if len(where) > MAX_WHERE:
        raise ValueError(f"{len(where)} labels in where, a subscription has at most {MAX_WHERE}")
    fields: dict[str, Value] = {}
    for label, wanted in where.items():
        several = [wanted] if isinstance(wanted, (str, int, float)) else list(wanted)
        if not all(isinstance(value, (str, int, float)) for value in several):
            raise TypeError(f"where[{label!r}] is a pattern or a list of patterns")
        fields[label] = list(_checked(tuple(rendered(value) for value in several)))
    return fields
