"""Gaps: counted losses in a stream. Imports nothing of the package, so that exceptions can hold a `Gap`."""

from __future__ import annotations

import enum
import time


class GapReason(enum.IntEnum):
    """The reason in a GAP frame. The `reason` of a `Gap` is its name as text: `BEYOND_REPLAY` is "beyond replay"."""

    SLOW = 1
    BEYOND_REPLAY = 2
    COLLECTOR_RESTARTED = 3
    RELAY_OVERLOAD = 4
    RATE_LIMIT = 5
    RELAY_CONNECTION_BROKE = 6
    ROW_TOO_LARGE = 7
    NOT_SUBSCRIBED = 8


_TEXTS = {int(reason): reason.name.lower().replace("_", " ") for reason in GapReason}


def reason_text(reason: int) -> str:
    """Returns the reason as a `Gap` has it; "reason 99" for an unknown number."""
    return _TEXTS.get(reason, f"reason {reason}")


class Gap:
    """Rows that are missing at this position of the stream.

    Attributes:
        lost: Number of rows; None when it is unknown.
        reason: Why they were lost, such as "slow".
        name: Name of the event the rows belong to; None for any.
        start: Of a gap "not subscribed": since when nothing requested the rows from the node, in nanoseconds since the
            Unix epoch. None for other reasons.
        end: Until when.
    """

    __slots__ = ("end", "lost", "name", "reason", "start")
    __match_args__ = ("lost", "reason")

    def __init__(
        self,
        lost: int | None,
        reason: str,
        name: str | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        self.lost = lost
        self.reason = reason
        self.name = name
        self.start = start
        self.end = end

    def _key(self) -> tuple[object, ...]:
        return self.lost, self.reason, self.name, self.start, self.end

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Gap):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        what = "an unknown number of rows" if self.lost is None else f"{self.lost} row{'s' * (self.lost != 1)}"
        text = f"{what}{f' of {self.name}' if self.name else ''} lost: {self.reason}"
        if self.start is None or self.end is None:
            return text
        return f"{text} for {(self.end - self.start) / 1e9:.1f} s until {_clock(self.end)} UTC"

    def __repr__(self) -> str:
        more = ("name", "start", "end")
        shown = "".join(f", {key}={getattr(self, key)!r}" for key in more if getattr(self, key) is not None)
        return f"Gap(lost={self.lost}, reason={self.reason!r}{shown})"


def _clock(at: int) -> str:
    """The time of day."""
    seconds, nanos = divmod(at, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.gmtime(seconds))}.{nanos // 1_000_000:03}"
