"""The arguments of `subscribe`, validated and converted to the `subscribe` map of HELLO.

Both clients use it, so that both reject the same mistakes with the same message before anything is sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal, TypeAlias, TypedDict, get_args

from ._errors import DichroicError
from ._values import Value

Kind: TypeAlias = Literal["event", "metric", "log"]
OnFull: TypeAlias = Literal["drop_oldest", "drop_newest", "disconnect"]
OnGap: TypeAlias = Literal["warn", "yield", "raise"]
Duration: TypeAlias = "str | int | float | timedelta"
Patterns: TypeAlias = "str | int | float | bool | Iterable[str | int | float | bool]"
Where: TypeAlias = "Mapping[str, Patterns]"
#: Collector's epoch, position of a frame, rows of that frame already consumed.
Cursor: TypeAlias = "tuple[int, int, int]"
#: Called with the error that ended a connection.
OnDisconnect: TypeAlias = "Callable[[DichroicError], object]"

MAX_PATTERNS: Final = 64
MAX_PATTERN_BYTES: Final = 256
MAX_WHERE: Final = 16
MIN_BUFFER, MAX_BUFFER = 64, 1_048_576
MAX_WITHIN_MS: Final = 10_000
_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)\s*")


class Options(TypedDict, total=False):
    """The keywords of `subscribe` that do not change the type of the items."""

    where: Where | None
    replay: Duration | None
    every: Duration | None
    buffer: int
    on_full: OnFull
    sample: float | None
    within: Duration | None
    cursor: Cursor | None
    reconnect: bool
    on_disconnect: OnDisconnect | None


class SubscribeOptions(Options, total=False):
    """All keywords of `subscribe`."""

    kind: Kind
    on_gap: OnGap


def milliseconds(duration: Duration, name: str) -> int:
    """Converts "30s", "250ms", "2m", "1h", a number of seconds or a timedelta; `name` is the argument's name."""
    if isinstance(duration, timedelta):
        value = duration.total_seconds() * 1000
    elif isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        if not match:
            raise ValueError(f'invalid duration {name}={duration!r}: expected "30s", "250ms", "2m", or seconds')
        value = float(match[1]) * _UNITS[match[2]]
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        value = duration * 1000
    else:
        raise TypeError(f'{name} must be a duration such as "30s" or a number of seconds, not {_type(duration)}')
    if not (math.isfinite(value) and 0 <= round(value) < 1 << 32):
        raise ValueError(f"{name}={duration!r} is out of range: expected 0 to {(1 << 32) // 1000} s")
    return round(value)


def _above_zero(duration: Duration, name: str) -> int:
    value = milliseconds(duration, name)
    if value == 0:
        raise ValueError(f"invalid {name}={duration!r}: expected at least 1 ms")
    return value


def render_value(value: str | int | float | bool) -> str:
    """The text of a label's value that patterns match."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class Request:
    """A validated subscription. `fields` is the `subscribe` map of HELLO."""

    __slots__ = ("buffer", "fields", "kind", "on_disconnect", "on_gap", "patterns", "reconnect")

    def __init__(
        self,
        patterns: tuple[str, ...],
        kind: Kind = "event",
        where: Where | None = None,
        replay: Duration | None = None,
        every: Duration | None = None,
        buffer: int = 8192,
        on_full: OnFull = "drop_oldest",
        on_gap: OnGap = "warn",
        sample: float | None = None,
        within: Duration | None = None,
        cursor: Cursor | None = None,
        reconnect: bool = True,
        on_disconnect: OnDisconnect | None = None,
    ) -> None:
        self.patterns = _check_patterns(patterns)
        for pattern in patterns:
            _check_syntax(pattern)
        self.kind = _one_of("kind", kind, get_args(Kind))
        self.on_gap = _one_of("on_gap", on_gap, get_args(OnGap))
        self.reconnect = reconnect
        if on_disconnect is not None and not callable(on_disconnect):
            raise TypeError(f"on_disconnect must be a function of one argument, not {_type(on_disconnect)}")
        self.on_disconnect = on_disconnect
        self.buffer = buffer
        if not isinstance(buffer, int) or not MIN_BUFFER <= buffer <= MAX_BUFFER:
            raise ValueError(f"invalid buffer={buffer!r}: expected {MIN_BUFFER} to {MAX_BUFFER} rows")
        self.fields: dict[str, Value] = {
            "kind": kind,
            "match": list(patterns),
            "buffer": buffer,
            "on_full": _one_of("on_full", on_full, get_args(OnFull)),
        }
        if where:
            self.fields["where"] = _where(where)
        if replay is not None:
            if kind == "metric":
                raise ValueError('kind="metric" has no replay: each point has the full state of its series')
            self.fields["replay_ms"] = _above_zero(replay, "replay")
        if kind == "metric":
            self.fields["every_ms"] = _above_zero(1.0 if every is None else every, "every")
        elif every is not None:
            raise ValueError('every applies to kind="metric"; for events and logs use sample')
        if sample is not None:
            if not 0 < sample <= 1:
                raise ValueError(f"invalid sample={sample!r}: expected a share above 0 and at most 1")
            if kind == "metric":
                raise ValueError('sample applies to events and logs; for kind="metric" use every')
            self.fields["sample"] = float(sample)
        if within is not None:
            if kind == "metric":
                raise ValueError('within applies to events and logs; for kind="metric" use every')
            self.fields["within_ms"] = milliseconds(within, "within")
            if milliseconds(within, "within") > MAX_WITHIN_MS:
                raise ValueError(f"invalid within={within!r}: expected 0 to {MAX_WITHIN_MS // 1000} s")
        if cursor is not None:
            if kind == "metric":
                raise ValueError('kind="metric" has no cursor: each point has the full state of its series')
            epoch, position, rows = cursor
            self.fields["cursor"] = [int(epoch), int(position), int(rows)]


def _type(value: object) -> str:
    return type(value).__name__


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"invalid {name}={value!r}: expected one of {', '.join(map(repr, allowed))}")
    return value


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError('no pattern: pass at least one, "**" for everything')
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"{len(patterns)} patterns: at most {MAX_PATTERNS} are allowed")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern must be a string such as 'phoenix.**', not {_type(pattern)}")
        if not 1 <= len(pattern.encode()) <= MAX_PATTERN_BYTES:
            raise ValueError(f"invalid pattern {pattern[:40]!r}: expected 1 to {MAX_PATTERN_BYTES} bytes")
    return patterns


def _check_syntax(pattern: str) -> None:
    """Rejects what the collector rejects, and the syntax of other globs, which would match nothing."""
    segments = pattern.split(".")
    if "" in segments:
        raise ValueError(f'invalid pattern {pattern!r}: empty segment; write "**" for any number of segments')
    if any("**" in segment and segment != "**" for segment in segments):
        raise ValueError(f'invalid pattern {pattern!r}: "**" must be a whole segment; "*" matches within one')
    found = set(pattern) & set("?[]{}")
    if found or pattern != pattern.strip():
        what = "white space around it" if pattern != pattern.strip() else f"unsupported {', '.join(sorted(found))}"
        raise ValueError(f'invalid pattern {pattern!r}: {what}; the wildcards are "*" and "**"')


def _where(where: Where) -> dict[str, Value]:
    if len(where) > MAX_WHERE:
        raise ValueError(f"{len(where)} labels in where: at most {MAX_WHERE} are allowed")
    fields: dict[str, Value] = {}
    for label, patterns in where.items():
        values = [patterns] if isinstance(patterns, (str, int, float)) else list(patterns)
        if not all(isinstance(value, (str, int, float)) for value in values):
            raise TypeError(f"where[{label!r}] must be a pattern or a list of patterns")
        fields[label] = list(_check_patterns(tuple(render_value(value) for value in values)))
    return fields
