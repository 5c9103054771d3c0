"""Golden frames, which Rust and Erlang decode too; tagged values; and malformed bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from dichroic import ProtocolError, TruncatedString
from dichroic import _frames as frames
from dichroic._frames import HEADER, Define, Events, Hello, Mixed, decode, encode_frame
from dichroic._mixed import mix
from dichroic._protocol import Decoder
from dichroic._values import Reader, encode

from .conftest import goldens

GOLDENS = goldens()
SEED = 20_261_122


def test_the_golden_frames_exist() -> None:
    assert len(GOLDENS) >= 21


@pytest.mark.parametrize("name", GOLDENS)
def test_a_golden_frame_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    raw = GOLDENS[name]
    [frame] = Decoder().feed(raw)
    assert encode_frame(frame) == raw


@pytest.mark.parametrize("name", GOLDENS)
def test_no_prefix_of_a_golden_body_is_a_frame(name: str) -> None:
    """Except for layouts that repeat to the end of the body: a valid prefix of those encodes to itself."""
    type, body = GOLDENS[name][4], GOLDENS[name][5:]
    for end in range(len(body)):
        try:
            frame = decode(type, body[:end])
        except ProtocolError:
            continue
        assert type in (2, 6, 7, 8), f"{name} cut to {end} bytes was accepted"
        assert frame is not None
        assert frame.body() == body[:end]


def test_mutated_goldens_raise_protocol_errors_or_encode_to_themselves() -> None:
    rng = random.Random(SEED)
    accepted = 0
    for _ in range(20_000):
        raw = rng.choice(list(GOLDENS.values()))
        body = bytearray(raw[5:])
        for _ in range(rng.randint(1, 3)):
            mutate(body, rng)
        try:
            frame = decode(raw[4], bytes(body))
        except ProtocolError:
            continue
        assert frame is not None
        assert frame.body() == body, f"seed {SEED}: {bytes(body)!r}"
        accepted += 1
    assert accepted > 1_000, "the mutations are too strong to be a test"


def mutate(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    choice = rng.randrange(4)
    if choice == 0 and at < len(body):
        body[at] ^= 1 << rng.randrange(8)
    elif choice == 1 and at < len(body):
        body[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif choice == 2:
        del body[at : at + rng.randint(1, 4)]
    else:
        body[at:at] = rng.randbytes(rng.randint(1, 4))


def test_every_split_of_the_stream_gives_the_same_frames() -> None:
    raw = b"".join(GOLDENS.values())
    whole = Decoder().feed(raw)
    assert len(whole) == len(GOLDENS)
    for cut in range(len(raw) + 1):
        decoder = Decoder()
        assert decoder.feed(raw[:cut]) + decoder.feed(raw[cut:]) == whole
    byte_by_byte = Decoder()
    assert [frame for byte in raw for frame in byte_by_byte.feed(bytes((byte,)))] == whole
    byte_by_byte.end()


def test_a_stream_that_ends_inside_a_frame_is_an_error() -> None:
    decoder = Decoder()
    decoder.feed(GOLDENS["ping"][:-1])
    with pytest.raises(ProtocolError, match="ends inside a frame"):
        decoder.end()


def test_a_frame_of_unknown_type_is_skipped_and_counted() -> None:
    decoder = Decoder()
    future = HEADER.pack(3, 12) + b"abc"
    assert decoder.feed(future + GOLDENS["ping"]) == [frames.Ping(42)]
    assert decoder.skipped == 1


def test_an_oversized_frame_is_rejected_by_its_header() -> None:
    with pytest.raises(ProtocolError, match="frame of 1048577 bytes exceeds"):
        Decoder().feed(HEADER.pack(1_048_577, 9))


def test_type_zero_means_lost_synchronization() -> None:
    with pytest.raises(ProtocolError, match="lost synchronization"):
        Decoder().feed(bytes(5))


def test_the_events_example_decodes_as_specified() -> None:
    [frame] = Decoder().feed(GOLDENS["events"])
    assert isinstance(frame, Events)
    rows = list(zip(*frame.parsed.resolved(), strict=True))
    assert rows[0] == (1763800000000001000, 1200345, "GET", 200, "/users/:id")
    assert rows[2][2:4] == ("POST", 500)
    truncated = rows[2][4]
    assert isinstance(truncated, TruncatedString)
    assert (truncated, truncated.original_bytes) == ("/reports/2026/very-long", 81)


def test_the_mixed_example_decodes_as_specified() -> None:
    [frame] = Decoder().feed(GOLDENS["mixed"])
    assert isinstance(frame, Mixed)
    rows = frame.parsed.rows()
    assert rows[0] == ((1, 1, 5), (1763800000000001000, 1200345, "GET", 200, "/users/:id"))
    assert rows[1] == ((2, 1, 4), (1763800000000001500, 0.25, None, "GET"))
    assert rows[3] == ((2, 1, 4), (1763800000000002500, 7.5, True, None))
    truncated = rows[2][1][4]
    assert isinstance(truncated, TruncatedString)
    assert (truncated, truncated.original_bytes) == ("/reports/2026/very-long", 81)
    again = mix(frame.parsed.position, [(schema, source, cells) for (schema, source, _), cells in rows])
    assert encode_frame(Mixed(again)) == GOLDENS["mixed"]


def test_random_mixed_rows_are_decoded_as_they_were_sent() -> None:
    rng = random.Random(SEED)
    cells: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.getrandbits(64) - (1 << 63),
        lambda: rng.uniform(-1e9, 1e9),
        lambda: "".join(rng.choices("aé€", k=rng.randrange(4))),
        lambda: rng.choice([True, False, b"\xff", [1, "a"], {"k": None}, TruncatedString("ab", 9)]),
    ]
    for _ in range(300):
        widths = [rng.randint(0, 8) for _ in range(rng.randint(1, 20))]
        rows: list[tuple[int, int, tuple[Any, ...]]] = []
        for row in range(rng.randint(1, 60)):
            schema = rng.randrange(len(widths))
            values = [rng.choice(cells)() for _ in range(widths[schema])]
            rows.append((schema, rng.randrange(3), (row, *values)))
        [frame] = Decoder().feed(encode_frame(Mixed(mix(7, rows))))
        assert isinstance(frame, Mixed)
        assert frame.parsed.position == 7
        assert [(schema, source, row) for (schema, source, _), row in frame.parsed.rows()] == rows


def nested(depth: int) -> Any:
    """A value inside `depth` lists."""
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


VALUES: list[tuple[Any, str]] = [
    (None, "00"),
    (False, "01"),
    (True, "02"),
    (-2, "03feffffffffffffff"),
    (1 << 63, "04000000000000e043"),
    (1 << 2000, "04000000000000f07f"),
    (1.5, "04000000000000f83f"),
    (float("nan"), "04000000000000f87f"),
    ("né", "0503006ec3a9"),
    (TruncatedString("ab", 9), "060900000002006162"),
    (b"\xff", "070100ff"),
    ([1, "a"], "0802000301000000000000000501 0061".replace(" ", "")),
    ({"b": None, "a": True}, "0902000161020162" + "00"),
    (nested(8), "080100" * 8 + "00"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[expected[:24] for _, expected in VALUES])
def test_a_value_has_one_encoding(value: Any, expected: str) -> None:
    out = bytearray()
    encode(value, out)
    assert out.hex() == expected
    reader = Reader(bytes(out))
    again = bytearray()
    encode(reader.value(), again)
    assert again == out
    assert reader.at == reader.end


MALFORMED_VALUES = [
    ("", "nothing"),
    ("0a", "unknown tag"),
    ("0301", "incomplete integer"),
    ("04010000000000f87f", "non-canonical NaN"),
    ("050200c328", "not UTF-8"),
    ("0503 00eda080".replace(" ", ""), "a surrogate"),
    ("060200000002006162", "a truncated string that is complete"),
    ("08ffff00", "a list longer than the frame"),
    ("09010000" + "00", "an empty key"),
    ("090200016100016100", "a duplicate key"),
    ("090200016200016100", "keys out of order"),
    ("080100" * 9 + "00", "nine deep"),
]


@pytest.mark.parametrize(("raw", "reason"), MALFORMED_VALUES)
def test_a_malformed_value_is_rejected(raw: str, reason: str) -> None:
    with pytest.raises(ProtocolError):
        Reader(bytes.fromhex(raw)).value()


@pytest.mark.parametrize(
    "value",
    [nested(9), TruncatedString("abc", 3), "\ud800", "x" * 65_536, {"": 1}, {"k" * 256: 1}, object(), b"x" * 65_536],
)
def test_a_value_that_cannot_be_encoded_is_rejected(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode(value, bytearray())


def test_a_frame_of_too_many_values_is_rejected() -> None:
    inner: list[Any] = [None] * 65_535
    with pytest.raises(ProtocolError, match="more than 65536 values"):
        decode(5, _plan({"a": inner, "b": inner}))


def _plan(fields: dict[str, Any]) -> bytes:
    out = bytearray()
    encode(fields, out)
    return bytes(out)


MALFORMED_FRAMES = [
    (1, b"GET / H", "not a dichroic peer"),
    (1, b"DICH\x01\x00\x09\x09\x00\x00", "unknown role 9"),
    (1, b"DICH\x01\x00\x00\x09\x00\x00", "missing key 'agent'"),
    (1, b"DICH\x01\x00\x02\x00", "expected a map"),
    (2, b"\x01\x00\x00\x00\x00", "expected 6 to"),
    (2, b"\x01\x00\x00\x00\x00\x00\xff", "not UTF-8"),
    (3, b"1234567", "expected 8"),
    (6, b"\x04", "unknown kind 4"),
    (6, b"\x01\x00\x00\x00\x00\x02", "expected a map or null"),
    (7, b"12345678x", "expected 8 and 20 per row"),
    (8, b"12345678" + b"\x00" * 4 + b"\x01\x04" + b"\x00" * 16, "1025 buckets"),
    (8, b"12345678" + b"\x00" * 4 + b"\x01\x00" + b"\x00" * 16 + b"\x00\x00\x01" + b"\x00" * 8, "invalid bucket"),
    (9, b"\x00" * 23, "exceeds a limit"),
    (10, b"\x00" * 12, "expected 13"),
    (11, b"\x00" * 19, "expected at least 20"),
    (11, b"\x00" * 20, "exceeds a limit"),
]


@pytest.mark.parametrize(("type", "body", "message"), MALFORMED_FRAMES)
def test_a_malformed_frame_is_rejected_with_a_reason(type: int, body: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode(type, body)


EVENTS_BODY = GOLDENS["events"][5:]


@pytest.mark.parametrize(
    ("at", "replacement", "message"),
    [
        (16, b"\x00\x00", "exceeds a limit"),
        (16, b"\x01\x10", "exceeds a limit"),
        (18, b"\x00", "exceeds a limit"),
        (18, b"\x41", "exceeds a limit"),
        (19, b"\xff\xff", "exceeds a limit"),
        (16, b"\x00\x10", "does not fit"),
        (23, b"\x03", "first is not the time"),
        (24, b"\x04", "unknown kind"),
        (28 + 48, b"\x03\x00", "outside its 3 strings"),
        (28 + 48, b"\xfe\xff", "outside its 3 strings and 1 values"),
    ],
)
def test_inconsistent_events_are_rejected(at: int, replacement: bytes, message: str) -> None:
    body = EVENTS_BODY[:at] + replacement + EVENTS_BODY[at + len(replacement) :]
    with pytest.raises(ProtocolError, match=message):
        decode(9, body)


MIXED_BODY = GOLDENS["mixed"][5:]


@pytest.mark.parametrize(
    ("at", "replacement", "message"),
    [
        (8, b"\x00\x00", "exceeds a limit"),
        (8, b"\x01\x10", "exceeds a limit"),
        (10, b"\x00\x00", "exceeds a limit"),
        (12, b"\xff\xff", "exceeds a limit"),
        (16, b"\x00\x80", "exceeds a limit"),
        (18, b"\x00\x80", "exceeds a limit"),
        (8, b"\x00\x10", "does not fit"),
        (12, b"\x00\x10", "does not fit"),
        (20 + 8, b"\x00", "0 or too many columns"),
        (20 + 17, b"\x41", "0 or too many columns"),
        (20 + 27 + 2, b"\x03\x00", "row of an unknown context"),
        (20 + 27 + 8, b"\x00\x00", "first cell is not the time"),
        (20 + 27 + 8, b"\x09\x00", "first cell is not the time"),
        (20 + 27 + 8 + 2, b"\x10\x00", "reference 16 is outside its pool of 15"),
    ],
)
def test_inconsistent_mixed_rows_are_rejected(at: int, replacement: bytes, message: str) -> None:
    body = MIXED_BODY[:at] + replacement + MIXED_BODY[at + len(replacement) :]
    with pytest.raises(ProtocolError, match=message):
        decode(11, body)


def test_of_another_major_version_only_the_start_of_hello_is_decoded() -> None:
    frame = decode(1, b"DICH\x02\x07\x00any further bytes")
    assert isinstance(frame, Hello)
    assert (frame.major, frame.minor) == (2, 7)


def test_a_definition_that_removes_an_id_is_none() -> None:
    [frame] = Decoder().feed(GOLDENS["define-release"])
    assert frame == Define(frames.SERIES, [(1, None)])
