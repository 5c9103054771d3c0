"""Whether and when a subscription reconnects: full jitter with a doubling ceiling, reset by received rows."""

from __future__ import annotations

import random

import pytest

from dichroic import (
    ConnectionLostError,
    DichroicError,
    Gap,
    ProtocolError,
    ShuttingDownError,
    TooSlowError,
    UnauthorizedError,
)
from dichroic._protocol import Stream
from dichroic._recovery import Recovery
from dichroic._request import Request


class Highest(random.Random):
    """Returns the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0, "full jitter starts at zero"
        return b


def recovery(reconnect: bool = True, connections: int = 1) -> tuple[Recovery, Stream]:
    stream = Stream(Request(("**",)))
    stream.connections = connections
    return Recovery(stream, reconnect, Highest()), stream


def test_the_ceiling_doubles_to_five_seconds_and_rows_reset_it() -> None:
    subject, stream = recovery()
    lost = ConnectionLostError("gone")
    assert [subject.delay(lost) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    stream.rows_since_connect = 1
    assert subject.delay(lost) == 0.1


def test_the_delay_of_the_collector_takes_precedence() -> None:
    subject, _ = recovery()
    assert subject.delay(ShuttingDownError("later", retry_ms=60_000)) == 60.0


FINAL: list[tuple[DichroicError, bool, int]] = [
    (ConnectionLostError("no reconnect wanted"), False, 1),
    (ConnectionLostError("never connected"), True, 0),
    (UnauthorizedError("token"), True, 1),
]


@pytest.mark.parametrize(("error", "reconnect", "connections"), FINAL)
def test_some_errors_end_a_subscription(error: DichroicError, reconnect: bool, connections: int) -> None:
    subject, _ = recovery(reconnect, connections)
    with pytest.raises(type(error)):
        subject.delay(error)


def test_two_violations_without_rows_between_are_final() -> None:
    subject, stream = recovery()
    subject.delay(ProtocolError("first"))
    stream.rows_since_connect = 1
    subject.delay(ProtocolError("first again"))
    stream.rows_since_connect = 0
    with pytest.raises(ProtocolError, match="second"):
        subject.delay(ProtocolError("second"))


def test_a_goodbye_to_a_slow_subscriber_without_a_cursor_is_a_gap() -> None:
    subject, stream = recovery()
    subject.delay(TooSlowError("slow"))
    assert list(stream.items) == [Gap(None, "slow")]
