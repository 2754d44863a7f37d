"""Registers to values: typed points in every byte and word order, exact scaling, sentinels (pure)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers.units import IDENTITY, Conversion

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_SENTINEL = "bad:sentinel"
BAD_NAN = "bad:nan"
BAD_RANGE = "bad:range"


class PointType(StrEnum):
    """How the bits of a point's registers are read."""

    U16 = "u16"
    I16 = "i16"
    U32 = "u32"
    I32 = "i32"
    U64 = "u64"
    I64 = "i64"
    F32 = "f32"
    F64 = "f64"
    U8_HIGH_BYTE = "u8_high_byte"
    U8_LOW_BYTE = "u8_low_byte"

    @property
    def words(self) -> int:
        """Number of registers."""
        return _WORDS[self]

    @property
    def is_float(self) -> bool:
        """Whether the raw value is an IEEE 754 number."""
        return self in {PointType.F32, PointType.F64}


_WORDS = {
    PointType.U16: 1,
    PointType.I16: 1,
    PointType.U32: 2,
    PointType.I32: 2,
    PointType.U64: 4,
    PointType.I64: 4,
    PointType.F32: 2,
    PointType.F64: 4,
    PointType.U8_HIGH_BYTE: 1,
    PointType.U8_LOW_BYTE: 1,
}
_FORMAT = {
    PointType.U16: ">H",
    PointType.I16: ">h",
    PointType.U32: ">I",
    PointType.I32: ">i",
    PointType.U64: ">Q",
    PointType.I64: ">q",
    PointType.F32: ">f",
    PointType.F64: ">d",
    PointType.U8_HIGH_BYTE: ">Bx",
    PointType.U8_LOW_BYTE: ">xB",
}

# Bytes in the order of the wire for the value ABCD…, A the most significant.
ORDERS: dict[int, tuple[str, ...]] = {
    1: ("AB", "BA"),
    2: ("ABCD", "CDAB", "BADC", "DCBA"),
    4: (
        "ABCDEFGH",
        "GHEFCDAB",
        "BADCFEHG",
        "HGFEDCBA",
        "EFGHABCD",
        "CDABGHEF",
        "FEHGBADC",
        "DCBAHGFE",
    ),
}
# For each order: where on the wire the value's bytes are, most significant first.
_PLACES = {
    order: tuple(order.index(letter) for letter in sorted(order))
    for orders in ORDERS.values()
    for order in orders
}
# A device names its order once, with four letters; these are the same habits for two and eight bytes.
_WIDENED = {
    "ABCD": {1: "AB", 4: "ABCDEFGH"},
    "CDAB": {1: "AB", 4: "GHEFCDAB"},
    "BADC": {1: "BA", 4: "BADCFEHG"},
    "DCBA": {1: "BA", 4: "HGFEDCBA"},
}


def order_for(words: int, order: str) -> str:
    """Return ``order`` as letters for ``words`` registers; raise ValueError when it is none of theirs."""
    widened = _WIDENED.get(order, {}).get(words, order)
    if widened not in ORDERS[words]:
        raise ValueError(f"order {order!r} is none of {', '.join(ORDERS[words])}")
    return widened


@dataclass(frozen=True, slots=True)
class Point:
    """One value in a device's registers.

    ``address`` is the PDU address, as on the wire. The value in the instrument's unit is ``raw * scale + offset``;
    ``conversion`` leads on to the catalogue's unit. ``sentinels`` are raw bit patterns that mean "no value".
    ``valid_min`` and ``valid_max`` are in the instrument's unit. ``order`` is required for more than one register.
    """

    indicator: str
    address: int
    type: PointType
    order: str = ""
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    conversion: Conversion = IDENTITY
    sentinels: frozenset[int] = field(default_factory=frozenset)
    valid_min: Fraction | None = None
    valid_max: Fraction | None = None
    function: int = 3
    # What ``value_of`` needs for each poll: value = (raw * gain + bias) / divisor, all whole numbers.
    gain: int = field(init=False, repr=False, compare=False)
    bias: int = field(init=False, repr=False, compare=False)
    divisor: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be read: a multi-register point without an order, a scale of 0, no such registers."""
        words = self.type.words
        if not self.order and words > 1:
            raise ValueError(f"{self.type} spans {words} registers and needs an order")
        object.__setattr__(self, "order", order_for(words, self.order or "AB"))
        bits = 16 * words
        for raw in self.sentinels:
            if not -(1 << (bits - 1)) <= raw < 1 << bits:
                raise ValueError(f"sentinel {raw:#x} does not fit {bits} bits")
        object.__setattr__(
            self, "sentinels", frozenset(raw % (1 << bits) for raw in self.sentinels)
        )
        if self.scale == 0:
            raise ValueError("scale 0 makes every value the same")
        if not 0 <= self.address <= 0x10000 - words:
            raise ValueError(f"address {self.address} does not leave room for {words} registers")
        slope = self.scale * self.conversion.factor
        start = self.conversion.apply(self.offset)
        divisor = math.lcm(slope.denominator, start.denominator)
        object.__setattr__(self, "gain", int(slope * divisor))
        object.__setattr__(self, "bias", int(start * divisor))
        object.__setattr__(self, "divisor", divisor)

    @property
    def end(self) -> int:
        """Address behind the last register."""
        return self.address + self.type.words


def _value_bytes(words: Sequence[int], order: str) -> bytes:
    wire = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes([wire[place] for place in _PLACES[order]])


def read_raw(kind: PointType, order: str, words: Sequence[int]) -> float:
    """Return the raw number in ``words``: an int for integer types, a float for f32 and f64."""
    return _unpacked(kind, _value_bytes(words, order_for(kind.words, order or "AB")))


def _unpacked(kind: PointType, data: bytes) -> float:
    raw: float  # an int where the format says so
    (raw,) = struct.unpack(_FORMAT[kind], data)
    return raw


def write_raw(kind: PointType, order: str, raw: float) -> tuple[int, ...]:
    """Return the registers that hold ``raw``; raise ValueError when it does not fit. For simulators and tests.

    >>> [hex(word) for word in write_raw(PointType.F32, "CDAB", 25.0)]
    ['0x0', '0x41c8']
    """
    letters = order_for(kind.words, order or "AB")
    try:
        value = struct.pack(_FORMAT[kind], raw if kind.is_float else int(raw))
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"{raw!r} does not fit {kind}") from exc
    wire = bytes(value[ord(letter) - ord("A")] for letter in letters)
    return struct.unpack(f">{kind.words}H", wire)


def value_of(point: Point, words: Sequence[int]) -> tuple[float | None, str | None]:
    """Return (value in the catalogue's unit, None), or (None, quality) when the registers hold no value.

    The value is the double nearest to the exact decimal: 3 × 0.1 is 0.3. An f32 keeps its own value, widened.

    >>> value_of(Point("soil_ph", 3, PointType.U16, scale=Fraction("0.1")), [3])
    (0.3, None)
    """
    data = _value_bytes(words, point.order)
    if point.sentinels and int.from_bytes(data, "big") in point.sentinels:
        return None, BAD_SENTINEL
    raw = _unpacked(point.type, data)
    if point.type.is_float and not math.isfinite(raw):
        return None, BAD_NAN
    if not _is_valid(point, raw):
        return None, BAD_RANGE
    if point.gain == point.divisor and point.bias == 0:
        return float(raw), None  # keeps the sign of -0.0, which a fraction has not
    over, under = raw.as_integer_ratio()
    try:
        # A quotient of whole numbers is rounded once, to the nearest double.
        return (over * point.gain + under * point.bias) / (under * point.divisor), None
    except OverflowError:
        return None, BAD_RANGE


def _is_valid(point: Point, raw: float) -> bool:
    if point.valid_min is None and point.valid_max is None:
        return True
    exact = Fraction(raw) * point.scale + point.offset
    return not (
        (point.valid_min is not None and exact < point.valid_min)
        or (point.valid_max is not None and exact > point.valid_max)
    )
