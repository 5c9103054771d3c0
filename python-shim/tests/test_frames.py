"""Golden frames, values, and what hostile bytes do: the framing as the other two languages see it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dichroic import CutString, ProtocolError
from dichroic import _frames as frames
from dichroic._frames import HEADER, Define, Events, Hello, decode, encode_frame
from dichroic._protocol import Decoder
from dichroic._values import Reader, encode

from .conftest import goldens

GOLDENS = goldens()
SEED = 20_261_122


def test_there_are_golden_frames() -> None:
    assert len(GOLDENS) >= 21


@pytest.mark.parametrize("name", GOLDENS)
def test_a_golden_frame_decodes_and_encodes_to_the_same_bytes(name: str) -> None:
    raw = GOLDENS[name]
    [frame] = Decoder().feed(raw)
    assert encode_frame(frame) == raw


@pytest.mark.parametrize("name", GOLDENS)
def test_no_prefix_of_a_golden_body_is_a_frame(name: str) -> None:
    """Except where a layout repeats to the end of the body: there a prefix may be whole, and then encodes to itself."""
    type, body = GOLDENS[name][4], GOLDENS[name][5:]
    for end in range(len(body)):
        try:
            frame = decode(type, body[:end])
        except ProtocolError:
            continue
        assert type in (2, 6, 7, 8), f"{name} cut to {end} bytes was accepted"
        assert frame is not None
        assert frame.body() == body[:end]


def test_mutated_goldens_are_refused_by_our_error_or_encode_to_themselves() -> None:
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
    assert accepted > 1_000, "the mutations are too wild to test anything"


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


def test_a_stream_that_ends_inside_a_frame_is_cut() -> None:
    decoder = Decoder()
    decoder.feed(GOLDENS["ping"][:-1])
    with pytest.raises(ProtocolError, match="ends inside a frame"):
        decoder.end()


def test_an_unknown_type_is_skipped_by_its_length_and_counted() -> None:
    decoder = Decoder()
    future = HEADER.pack(3, 11) + b"abc"
    assert decoder.feed(future + GOLDENS["ping"]) == [frames.Ping(42)]
    assert decoder.skipped == 1


def test_too_large_a_frame_is_refused_by_its_header_alone() -> None:
    with pytest.raises(ProtocolError, match="1048577 bytes is announced"):
        Decoder().feed(HEADER.pack(1_048_577, 9))


def test_type_zero_is_a_stream_out_of_step() -> None:
    with pytest.raises(ProtocolError, match="out of step"):
        Decoder().feed(bytes(5))


def test_the_worked_example_of_events_means_what_the_specification_says() -> None:
    [frame] = Decoder().feed(GOLDENS["events"])
    assert isinstance(frame, Events)
    rows = list(zip(*frame.parsed.resolved(), strict=True))
    assert rows[0] == (1763800000000001000, 1200345, "GET", 200, "/users/:id")
    assert rows[2][2:4] == ("POST", 500)
    cut = rows[2][4]
    assert isinstance(cut, CutString)
    assert (cut, cut.whole_bytes) == ("/reports/2026/very-long", 81)


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
    (CutString("ab", 9), "060900000002006162"),
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
    ("0301", "cut integer"),
    ("04010000000000f87f", "another NaN"),
    ("050200c328", "not UTF-8"),
    ("0503 00eda080".replace(" ", ""), "a surrogate"),
    ("060200000002006162", "a cut string that is whole"),
    ("08ffff00", "a list that promises more than there is"),
    ("09010000" + "00", "an empty key"),
    ("090200016100016100", "a key twice"),
    ("090200016200016100", "keys out of order"),
    ("080100" * 9 + "00", "nine deep"),
]


@pytest.mark.parametrize(("raw", "what"), MALFORMED_VALUES)
def test_a_malformed_value_is_refused(raw: str, what: str) -> None:
    with pytest.raises(ProtocolError):
        Reader(bytes.fromhex(raw)).value()


@pytest.mark.parametrize(
    "value", [nested(9), CutString("abc", 3), "\ud800", "x" * 65_536, {"": 1}, {"k" * 256: 1}, object(), b"x" * 65_536]
)
def test_what_cannot_travel_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode(value, bytearray())


def test_a_frame_of_too_many_values_is_refused() -> None:
    inner: list[Any] = [None] * 65_535
    with pytest.raises(ProtocolError, match="more than 65536 values"):
        decode(5, _plan({"a": inner, "b": inner}))


def _plan(fields: dict[str, Any]) -> bytes:
    out = bytearray()
    encode(fields, out)
    return bytes(out)


MALFORMED_FRAMES = [
    (1, b"GET / H", "no dichroic peer"),
    (1, b"DICH\x01\x00\x09\x09\x00\x00", "unknown role 9"),
    (1, b"DICH\x01\x00\x00\x09\x00\x00", "lacks the key 'agent'"),
    (1, b"DICH\x01\x00\x02\x00", "no map"),
    (2, b"\x01\x00\x00\x00\x00", "it has 6 to"),
    (2, b"\x01\x00\x00\x00\x00\x00\xff", "not UTF-8"),
    (3, b"1234567", "it has 8"),
    (6, b"\x04", "unknown kind 4"),
    (6, b"\x01\x00\x00\x00\x00\x02", "neither a map nor null"),
    (7, b"12345678x", "it has 8 and 20 a row"),
    (8, b"12345678" + b"\x00" * 4 + b"\x01\x04" + b"\x00" * 16, "1025 buckets"),
    (8, b"12345678" + b"\x00" * 4 + b"\x01\x00" + b"\x00" * 16 + b"\x00\x00\x01" + b"\x00" * 8, "are empty"),
    (9, b"\x00" * 23, "beyond a limit"),
    (10, b"\x00" * 12, "it has 13"),
]


@pytest.mark.parametrize(("type", "body", "words"), MALFORMED_FRAMES)
def test_a_malformed_frame_is_refused_in_words(type: int, body: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode(type, body)


EVENTS_BODY = GOLDENS["events"][5:]


@pytest.mark.parametrize(
    ("at", "replacement", "words"),
    [
        (16, b"\x00\x00", "beyond a limit"),
        (16, b"\x01\x10", "beyond a limit"),
        (18, b"\x00", "beyond a limit"),
        (18, b"\x41", "beyond a limit"),
        (19, b"\xff\xff", "beyond a limit"),
        (16, b"\x00\x10", "does not fit"),
        (23, b"\x03", "its first is no time"),
        (24, b"\x04", "unknown kind"),
        (28 + 48, b"\x03\x00", "beyond its 3 strings"),
        (28 + 48, b"\xfe\xff", "beyond its 3 strings and 1 values"),
    ],
)
def test_events_with_a_lie_are_refused(at: int, replacement: bytes, words: str) -> None:
    body = EVENTS_BODY[:at] + replacement + EVENTS_BODY[at + len(replacement) :]
    with pytest.raises(ProtocolError, match=words):
        decode(9, body)


def test_a_hello_of_another_major_version_is_read_no_further_than_its_frozen_part() -> None:
    frame = decode(1, b"DICH\x02\x07\x00whatever comes then")
    assert isinstance(frame, Hello)
    assert (frame.major, frame.minor) == (2, 7)


def test_a_definition_that_forgets_is_none() -> None:
    [frame] = Decoder().feed(GOLDENS["define-forget"])
    assert frame == Define(frames.SERIES, [(1, None)])
