"""When a connection ends: whether to come back, and after how long. Shared by the asyncio and the blocking client."""

from __future__ import annotations

import random
from typing import Final

from ._errors import DichroicError, GoodbyeError, ProtocolError, TooSlowError
from ._protocol import Stream
from ._types import Gap

FIRST_BACKOFF: Final = 0.1
LAST_BACKOFF: Final = 5.0


class Recovery:
    """Full-jitter exponential backoff: 0.1 s doubling to 5 s, from the start again once rows have arrived."""

    def __init__(self, stream: Stream, reconnect: bool, rng: random.Random | None = None) -> None:
        self._stream = stream
        self._reconnect = reconnect
        self._rng = rng or random.Random()
        self._attempts = 0
        self._violations = 0

    def delay(self, error: DichroicError) -> float:
        """Seconds to wait before the next connection; raises `error` when there is to be none."""
        if self._stream.rows_since_connect:
            self._attempts = self._violations = 0
        if not self._reconnect or not self._stream.connections:
            raise error
        if isinstance(error, ProtocolError):
            # A new connection defines everything anew, which heals a confused one; the same again is a bug.
            self._violations += 1
            if self._violations > 1:
                raise error
        asked_ms = 0
        if isinstance(error, GoodbyeError):
            if error.final:
                raise error
            if isinstance(error, TooSlowError):
                self._stream.gap(Gap(None, "slow"))
            asked_ms = error.retry_ms
        ceiling = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(self._attempts, 16))
        self._attempts += 1
        return asked_ms / 1000 if asked_ms else self._rng.uniform(0.0, ceiling)
