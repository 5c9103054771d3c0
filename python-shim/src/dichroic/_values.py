"""Tagged values: one encoding per value, everything else is malformed.

Used by `_frames` for HELLO, PLAN, DEFINE and the value table of EVENTS. Decoding invalid bytes raises `ProtocolError`
and nothing else, never allocates more than the bytes account for, and accepts only what `encode` reproduces.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final, TypeAlias

from ._errors import ProtocolError

#: The types of tagged values.
Value: TypeAlias = "bool | int | float | str | bytes | list[Any] | dict[str, Any] | None"

MAX_DEPTH: Final = 8
MAX_VALUES_PER_FRAME: Final = 65_536
MAX_STRING_BYTES: Final = 65_535
MAX_KEY_BYTES: Final = 255
_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1
_NAN: Final = b"\x00\x00\x00\x00\x00\x00\xf8\x7f"

_U16, _U32, _I64, _F64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<d")
_TRUNCATED = struct.Struct("<IH")


class TruncatedString(str):
    """A string that the relay or the collector truncated.

    Attributes:
        original_bytes: Length before truncation, in UTF-8 bytes.
    """

    __slots__ = ("original_bytes",)
    original_bytes: int

    def __new__(cls, text: str, original_bytes: int) -> TruncatedString:
        self = super().__new__(cls, text)
        self.original_bytes = original_bytes
        return self

    def __reduce__(self) -> tuple[type[TruncatedString], tuple[str, int]]:
        return TruncatedString, (str(self), self.original_bytes)


class Reader:
    """A cursor over the body of a frame. It never reads past the end."""

    __slots__ = ("at", "body", "budget", "end")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self.body = body
        self.at = at
        self.end = len(body)
        self.budget = MAX_VALUES_PER_FRAME

    def take(self, n: int) -> int:
        """Advances by `n` bytes and returns their offset."""
        at = self.at
        if n > self.end - at:
            raise ProtocolError(f"frame ends inside a value: {n} bytes expected at offset {at}, {self.end - at} left")
        self.at = at + n
        return at

    def text(self, n: int) -> str:
        at = self.take(n)
        try:
            return str(self.body[at : at + n], "utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"string at offset {at} is not UTF-8: {error.reason}") from None

    def value(self, depth: int = 1) -> Value:
        """Reads one tagged value; `depth` is 1 plus the number of containers around it."""
        self.budget -= 1
        if self.budget < 0:
            raise ProtocolError(f"frame has more than {MAX_VALUES_PER_FRAME} values")
        tag = self.body[self.take(1)]
        if tag == 5:
            return self.text(_U16.unpack_from(self.body, self.take(2))[0])
        if tag == 3:
            return int(_I64.unpack_from(self.body, self.take(8))[0])
        if tag == 4:
            return self._float()
        if tag <= 2:
            return (None, False, True)[tag]
        if tag == 6:
            return self._truncated()
        if tag == 7:
            n = _U16.unpack_from(self.body, self.take(2))[0]
            at = self.take(n)
            return bytes(self.body[at : at + n])
        if tag == 8 or tag == 9:
            if depth > MAX_DEPTH:
                raise ProtocolError(f"lists and maps are nested deeper than {MAX_DEPTH}")
            n = _U16.unpack_from(self.body, self.take(2))[0]
            # The smallest item is 1 byte in a list and 3 in a map: reject an excessive count before the loop.
            if n * (1 if tag == 8 else 3) > self.end - self.at:
                raise ProtocolError(f"container of {n} items does not fit into {self.end - self.at} bytes")
            return [self.value(depth + 1) for _ in range(n)] if tag == 8 else self._map(n, depth + 1)
        raise ProtocolError(f"unknown value tag {tag} at offset {self.at - 1}")

    def _float(self) -> float:
        at = self.take(8)
        number = float(_F64.unpack_from(self.body, at)[0])
        if number != number and self.body[at : at + 8] != _NAN:
            raise ProtocolError(f"non-canonical NaN at offset {at}")
        return number

    def _truncated(self) -> TruncatedString:
        whole, n = _TRUNCATED.unpack_from(self.body, self.take(6))
        if whole <= n:
            raise ProtocolError(f"truncated string of {n} bytes has an original length of {whole}")
        return TruncatedString(self.text(n), whole)

    def _map(self, n: int, depth: int) -> dict[str, Value]:
        result: dict[str, Value] = {}
        last = b""
        for _ in range(n):
            k = self.body[self.take(1)]
            at = self.at
            key = self.text(k)
            raw = bytes(self.body[at : at + k])
            if raw <= last:  # also rejects the empty key: b"" <= b""
                raise ProtocolError(f"map keys are not strictly ascending at {key!r}")
            last = raw
            result[key] = self.value(depth)
        return result


def encode(value: Value, out: bytearray, depth: int = 1) -> None:
    """Appends the encoding of `value`.

    Raises:
        ValueError, TypeError: The value cannot be encoded.
    """
    if value is None:
        out.append(0)
    elif value is True or value is False:
        out.append(2 if value else 1)
    elif isinstance(value, str):
        _encode_text(value, out)
    elif isinstance(value, int):
        _encode_int(value, out)
    elif isinstance(value, float):
        out.append(4)
        out += _NAN if math.isnan(value) else _F64.pack(value)
    elif isinstance(value, (bytes, bytearray)):
        out.append(7)
        out += _U16.pack(_fits(len(value), MAX_STRING_BYTES, "bytes"))
        out += value
    elif isinstance(value, (list, tuple, dict)):
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and maps are nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            _encode_map(value, out, depth + 1)
        else:
            out.append(8)
            out += _U16.pack(_fits(len(value), 65_535, "list items"))
            for item in value:
                encode(item, out, depth + 1)
    else:
        raise TypeError(
            f"cannot encode {type(value).__name__}: expected str, int, float, bool, None, bytes, list or dict"
        )


def _fits(n: int, limit: int, what: str) -> int:
    if n > limit:
        raise ValueError(f"{n} {what} exceed the limit of {limit}")
    return n


def _encode_int(value: int, out: bytearray) -> None:
    if _I64_MIN <= value <= _I64_MAX:
        out.append(3)
        out += _I64.pack(value)
    else:
        out.append(4)
        try:
            out += _F64.pack(float(value))
        except OverflowError:
            out += _F64.pack(math.inf if value > 0 else -math.inf)


def _encode_text(value: str, out: bytearray) -> None:
    raw = value.encode("utf-8")
    if isinstance(value, TruncatedString):
        if not len(raw) < value.original_bytes < 1 << 32:
            raise ValueError(f"truncated string of {len(raw)} bytes cannot have had {value.original_bytes}")
        out.append(6)
        out += _TRUNCATED.pack(value.original_bytes, _fits(len(raw), MAX_STRING_BYTES, "bytes of a string"))
    else:
        out.append(5)
        out += _U16.pack(_fits(len(raw), MAX_STRING_BYTES, "bytes of a string"))
    out += raw


def _encode_map(value: dict[str, Any], out: bytearray, depth: int) -> None:
    out.append(9)
    out += _U16.pack(_fits(len(value), 65_535, "map keys"))
    for raw, item in sorted(((key.encode(), item) for key, item in value.items()), key=lambda pair: pair[0]):
        if not 1 <= len(raw) <= MAX_KEY_BYTES:
            raise ValueError(f"map key of {len(raw)} bytes, expected 1 to {MAX_KEY_BYTES}")
        out.append(len(raw))
        out += raw
        encode(item, out, depth)
