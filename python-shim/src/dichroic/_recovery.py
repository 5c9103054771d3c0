"""Decides whether a subscription reconnects, and after what delay. Shared by the asyncio and the blocking client."""

from __future__ import annotations

import random
from typing import Final

from ._errors import DichroicError, GoodbyeError, ProtocolError, TooSlowError
from ._gap import Gap, GapReason, reason_text
from ._protocol import Stream

#: Seconds.
FIRST_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 5.0


class Recovery:
    """Exponential backoff with full jitter: 0.1 s, doubling to 5 s; received rows reset it."""

    def __init__(self, stream: Stream, reconnect: bool, rng: random.Random | None = None) -> None:
        self._stream = stream
        self._reconnect = reconnect
        self._rng = rng or random.Random()
        self._attempts = 0
        self._violations = 0

    def delay(self, error: DichroicError) -> float:
        """Returns the seconds until the next connection attempt.

        Raises:
            DichroicError: `error` itself, when the subscription ends.
        """
        if self._stream.rows_since_connect:
            self._attempts = self._violations = 0
        if not self._reconnect or not self._stream.connections:
            raise error
        if isinstance(error, ProtocolError):
            # A new connection sends all definitions again, which repairs confused state. Twice in a row is a bug.
            self._violations += 1
            if self._violations > 1:
                raise error
        requested_ms = 0
        if isinstance(error, GoodbyeError):
            if error.final:
                raise error
            # With a cursor, the next HELLO tells whether rows are lost.
            if isinstance(error, TooSlowError) and self._stream.cursor is None:
                self._stream.add_gap(Gap(None, reason_text(GapReason.SLOW)))
            requested_ms = error.retry_ms
        ceiling = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(self._attempts, 16))
        self._attempts += 1
        return requested_ms / 1000 if requested_ms else self._rng.uniform(0.0, ceiling)
