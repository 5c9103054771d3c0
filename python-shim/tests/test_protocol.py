"""The sans-I/O `Stream`: the same items however the bytes are split; damaged bytes raise only exceptions of this
package, and never make a returned item unusable."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import dichroic
from dichroic import Batch, DichroicError, Event, Gap, Histogram, Point
from dichroic import _frames as frames
from dichroic._events import columns_of
from dichroic._frames import COLLECTOR, HEADER, SCHEMA, SERIES, SOURCE, Define, Events, Frame, Hello, encode_frame
from dichroic._protocol import Stream
from dichroic._request import Kind, Request
from dichroic._values import TruncatedString

from .test_frames import mutate

SEED = 7_122_026
LOG_COLUMNS = ["severity", "body", "trace_id", "span_id", "attributes"]
SESSION: list[Frame] = [
    Hello(COLLECTOR, {"agent": "a/1", "epoch": 5, "max_frame": 262_144, "position": 10, "resumed": False}),
    frames.GapFrame(0, 2, 4),
    Define(SOURCE, [(1, {"name": "node", "runtime": "beam", "resource": {"service.name": "shop"}})]),
    Define(SCHEMA, [
        (1, {"name": "e", "kind": "event", "measurements": [["n", "s"], ["m", ""]], "metadata": ["k", "o"]}),
    ]),
    Define(SCHEMA, [(2, {"name": "l", "kind": "log", "measurements": [], "metadata": [*LOG_COLUMNS]})]),
    Events(columns_of(1, 1, 10, [
        (1, 2, None, "x", 1), (3, 0.5, None, TruncatedString("y", 9), [b"\xff"]), (4, 1, None, None, "x"),
    ])),
    frames.Ping(3),
    Events(columns_of(2, 1, 13, [(5, 9, "body", b"\x01" * 16, None, {"a": 1})])),
    Define(SERIES, [
        (0, {"name": "c", "type": "counter", "source": 1, "labels": {"r": "/"}, "unit": "1", "start": 1}),
        (1, {"name": "h", "type": "exponential", "source": 1, "labels": {}, "scale": 3}),
        (2, {"name": "b", "type": "buckets", "source": 1, "labels": {}, "bounds": [0.5, 1.0]}),
    ]),
    frames.Numbers(6, [(0, 7, 0.0), (0, 1, 0.5)]),
    frames.Histograms(7, [(1, 3, 0.5, ((0, 0, 1), (-3, 1, 2), (-1, 2, 1))), (2, 0, 2.5, ((0, 1, 1), (2, 1, 4)))]),
    frames.GapFrame(1, 1, frames.LOST_UNKNOWN),
    frames.GapFrame(1, 8, frames.LOST_UNKNOWN, (5, 9)),
    Define(SCHEMA, [(1, None)]),
    frames.Goodbye(7, 0, "done"),
]  # fmt: skip
RAW = b"".join(map(encode_frame, SESSION))


def stream(kind: Kind = "event", **options: Any) -> Stream:
    return Stream(Request(("**",), kind=kind, on_gap="yield", **options))


def run(pieces: list[bytes], subject: Stream) -> tuple[list[Any], bytes, str]:
    """Returns the items of a session, the bytes it sends, and the error that ends it."""
    items: list[Any] = []
    sent = b""
    subject.open()
    try:
        for piece in pieces:
            sent += subject.receive(piece)
            while subject.advance():
                items += subject.items
                subject.items.clear()
    except DichroicError as error:
        return items, sent, str(error)
    return items, sent, ""


def test_a_session_is_the_same_however_its_bytes_are_split() -> None:
    whole = run([RAW], stream())
    items, sent, end = whole
    assert [type(item).__name__ for item in items] == ["Gap", *["Event"] * 3, "Log", *["Point"] * 4, "Gap", "Gap"]
    assert items[-2:] == [Gap(None, "slow", "e"), Gap(None, "not subscribed", "e", 5, 9)]
    assert sent == encode_frame(frames.Pong(3))
    assert "shutdown, code 7): done" in end
    for cut in range(len(RAW) + 1):
        assert run([RAW[:cut], RAW[cut:]], stream()) == whole
    assert run([bytes((byte,)) for byte in RAW], stream()) == whole


def test_metadata_that_is_not_scalar_is_rendered_as_text() -> None:
    items, _, _ = run([RAW], stream())
    assert items[2].metadata == {"k": "y", "o": '["\\\\xff"]'}
    assert items[2].metadata["k"].original_bytes == 9
    assert items[2].measurements == {"n": 0.5}
    assert items[1].units == {"n": "s", "m": ""}


def use(item: Any) -> None:
    """Uses an item in every way a consumer may."""
    repr(item)
    assert item == item
    if isinstance(item, Event):
        assert isinstance(item.measurements, dict)
        assert isinstance(item.metadata, dict)
        assert isinstance(item.time, int)
        _ = item.name, item.source.runtime, item.source.resource, item.units
    if isinstance(item, Point):
        _ = item.name, item.labels, item.kind, item.start, item.unit, item.source, item.help
        if isinstance(item.value, Histogram):
            _ = item.value.quantile(0.5), item.value.quantile(0), item.value.quantile(1)


def test_damaged_bytes_raise_package_exceptions_and_items_stay_usable() -> None:
    rng = random.Random(SEED)
    ended = survived = 0
    for _ in range(3_000):
        raw = bytearray(RAW)
        for _ in range(rng.randint(1, 3)):
            mutate(raw, rng)
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
        pieces = [bytes(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        try:
            items, _, end = run(pieces, stream())
            for item in items:
                use(item)
            Batch(items).to_columns()
        except Exception as error:
            raise AssertionError(f"seed {SEED}: {bytes(raw)!r}") from error
        ended += "done" not in end
        survived += bool(items)
    assert ended > 1_000, "the damage is too small to be a test"
    assert survived > 1_000, "the damage is too large to be a test"


def test_the_cursor_follows_consumed_items() -> None:
    subject = stream()
    subject.open()
    assert subject.cursor is None
    subject.receive(RAW)
    cursors: list[Any] = []
    names: list[str] = []
    while not names or names[-1] != "Log":
        assert subject.advance()
        while subject.items:
            names.append(type(subject.items.popleft()).__name__)
            cursors.append(subject.cursor)
    assert names == ["Gap", "Event", "Event", "Event", "Log"]
    assert cursors == [(5, 10, 0), (5, 10, 1), (5, 10, 2), (5, 10, 3), (5, 13, 1)]
    assert subject.subscribe_map()["cursor"] == [5, 13, 1]


def test_a_resumed_connection_sends_the_cursor_instead_of_replay() -> None:
    subject = stream(replay="30s")
    assert "cursor" not in subject.subscribe_map()
    run([RAW], subject)
    assert subject.subscribe_map()["cursor"] == [5, 13, 1]
    assert "replay_ms" not in subject.subscribe_map()


def test_bytes_after_an_error_are_ignored() -> None:
    subject = stream()
    subject.open()
    subject.receive(encode_frame(SESSION[0]) + HEADER.pack(1 << 20, 9))
    for _ in range(100):
        assert subject.receive(b"x" * 65_536) == b""
    assert subject.backlog == 0
    with pytest.raises(dichroic.FrameTooLargeError):
        subject.advance()


def test_an_excessive_scale_is_rejected() -> None:
    series: dict[str, Any] = {"name": "h", "type": "exponential", "source": 0, "labels": {}, "scale": 1 << 40}
    _, _, end = run([encode_frame(SESSION[0]), encode_frame(Define(SERIES, [(0, series)]))], stream())
    assert "scale 1099511627776" in end


def test_package_and_collector_have_the_same_version() -> None:
    manifest = (Path(__file__).parents[2] / "Cargo.toml").read_text()
    assert f'version = "{dichroic.__version__}"' in manifest
