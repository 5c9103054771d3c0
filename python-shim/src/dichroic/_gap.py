"""Gaps: counted losses in a stream. Imports nothing of the package, so that exceptions can hold a `Gap`."""

from __future__ import annotations

import enum


class GapReason(enum.IntEnum):
    """The reason in a GAP frame. The `reason` of a `Gap` is its name as text: `BEYOND_REPLAY` is "beyond replay"."""

    SLOW = 1
    BEYOND_REPLAY = 2
    COLLECTOR_RESTARTED = 3
    RELAY_OVERLOAD = 4
    RATE_LIMIT = 5
    RELAY_CONNECTION_BROKE = 6
    ROW_TOO_LARGE = 7


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
    """

    __slots__ = ("lost", "name", "reason")
    __match_args__ = ("lost", "reason")

    def __init__(self, lost: int | None, reason: str, name: str | None = None) -> None:
        self.lost = lost
        self.reason = reason
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Gap):
            return NotImplemented
        return (self.lost, self.reason, self.name) == (other.lost, other.reason, other.name)

    def __hash__(self) -> int:
        return hash((self.lost, self.reason, self.name))

    def __str__(self) -> str:
        what = "an unknown number of rows" if self.lost is None else f"{self.lost} row{'s' * (self.lost != 1)}"
        return f"{what}{f' of {self.name}' if self.name else ''} lost: {self.reason}"

    def __repr__(self) -> str:
        return f"Gap(lost={self.lost}, reason={self.reason!r}{f', name={self.name!r}' if self.name else ''})"
