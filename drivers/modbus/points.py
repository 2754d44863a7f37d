"""Registers to values: typed points in every byte and word order, exact scaling, sentinels (pure)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers.units import IDENTITY, Conversion

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_SENTINEL = "bad:sentinel"
BAD_NAN = "bad:nan"
BAD_RANGE = "bad:range"
BAD_ENCODING = "bad:encoding"
BAD_SCALE = "bad:scale"

# Cabinet analysers and probes show Beijing time and have no zone.
_BEIJING = timezone(timedelta(hours=8))
_CLOCK_YEARS = range(2000, 2100)  # anything else is a two-digit year or a clock that was never set


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
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    I32_F32 = "i32_f32"  # a counter: whole part, then the fraction
    CLOCK_U16 = "clock_u16"  # year month day hour minute second, Beijing time, to Unix seconds
    CLOCK_F32 = "clock_f32"

    @property
    def words(self) -> int:
        """Number of registers."""
        return _WORDS[self]

    @property
    def is_float(self) -> bool:
        """Whether the raw value is an IEEE 754 number."""
        return self in {PointType.F32, PointType.F64}

    @property
    def element_words(self) -> int:
        """Number of registers that the byte order spans: less than ``words`` for a row of numbers."""
        return _ELEMENT_WORDS.get(self, _WORDS[self])

    @property
    def is_unsigned(self) -> bool:
        """Whether bits can be picked out of the raw value."""
        return self in {PointType.U16, PointType.U32, PointType.U64}


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
    PointType.BCD16: 1,
    PointType.BCD32: 2,
    PointType.I32_F32: 4,
    PointType.CLOCK_U16: 6,
    PointType.CLOCK_F32: 12,
}
_ELEMENT_WORDS = {PointType.I32_F32: 2, PointType.CLOCK_U16: 1, PointType.CLOCK_F32: 2}
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
    PointType.BCD16: ">H",
    PointType.BCD32: ">I",
    PointType.I32_F32: ">if",
    PointType.CLOCK_U16: ">6H",
    PointType.CLOCK_F32: ">6f",
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
class Check:
    """What another register must say for a point to hold a value; else the reading gets ``quality``."""

    address: int
    good: frozenset[int]
    quality: str
    type: PointType = PointType.U16

    def __post_init__(self) -> None:
        """Refuse anything but one register, and a quality that is not bad."""
        if self.type.words != 1 or self.type.is_float:
            raise ValueError(f"a check reads one register, not {self.type}")
        if not self.quality.startswith("bad:"):
            raise ValueError(f"quality {self.quality!r} does not begin with bad:")


@dataclass(frozen=True, slots=True)
class ScaleFrom:
    """A register whose number says the factor: QDY30A's decimals, 0 to 3."""

    address: int
    factors: tuple[tuple[int, Fraction], ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One value in a device's registers.

    ``address`` is the PDU address, as on the wire. The value in the instrument's unit is ``raw * scale + offset``;
    ``conversion`` leads on to the catalogue's unit. ``sentinels`` are raw bit patterns that mean "no value".
    ``valid_min`` and ``valid_max`` are in the instrument's unit. ``order`` is required for more than one register.
    ``mask`` picks bits out of an unsigned value, moved down to bit 0. ``scale_from`` and ``checks`` look at other
    registers of the same answer: ``start`` and ``end`` (behind the last) enclose all that one read must bring.
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
    mask: int = 0
    scale_from: ScaleFrom | None = None
    checks: tuple[Check, ...] = ()
    start: int = field(init=False, repr=False, compare=False)
    end: int = field(init=False, repr=False, compare=False)
    # What ``value_of`` needs for each poll: value = (raw * gain + bias) / divisor, all whole numbers.
    gain: int = field(init=False, repr=False, compare=False)
    bias: int = field(init=False, repr=False, compare=False)
    divisor: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be read: a multi-register point without an order, a scale of 0, no such registers."""
        words = self.type.words
        if not self.order and self.type.element_words > 1:
            raise ValueError(f"{self.type} spans {words} registers and needs an order")
        object.__setattr__(self, "order", order_for(self.type.element_words, self.order or "AB"))
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
        if self.mask and not (self.type.is_unsigned and 0 < self.mask < 1 << bits):
            raise ValueError(f"mask {self.mask:#x} does not pick bits of {self.type}")
        others = [check.address for check in self.checks]
        if self.scale_from is not None:
            others.append(self.scale_from.address)
        if any(not 0 <= address <= 0xFFFF for address in others):
            raise ValueError("a register beside the point is outside 0 to 65535")
        object.__setattr__(self, "start", min(self.address, *others) if others else self.address)
        behind = [self.address + words, *(address + 1 for address in others)]
        object.__setattr__(self, "end", max(behind))
        slope = self.scale * self.conversion.factor
        start = self.conversion.apply(self.offset)
        divisor = math.lcm(slope.denominator, start.denominator)
        object.__setattr__(self, "gain", int(slope * divisor))
        object.__setattr__(self, "bias", int(start * divisor))
        object.__setattr__(self, "divisor", divisor)


def _value_bytes(words: Sequence[int], order: str) -> bytes:
    wire = b"".join([word.to_bytes(2, "big") for word in words])
    places = _PLACES[order]
    size = len(places)
    if size == len(wire):
        return bytes([wire[place] for place in places])
    return bytes([wire[start + place] for start in range(0, len(wire), size) for place in places])


def read_raw(kind: PointType, order: str, words: Sequence[int]) -> float | Fraction:
    """Return the raw number in ``words``: an int for integer types, a float for f32 and f64.

    Raises ValueError for bytes that are no number: a BCD digit above 9, a date that does not exist.
    """
    raw = _unpacked(kind, _value_bytes(words, order_for(kind.element_words, order or "AB")))
    if raw is None:
        raise ValueError(f"{[f'{word:04X}' for word in words]} is no {kind}")
    return raw


def _unpacked(kind: PointType, data: bytes) -> float | Fraction | None:
    """Return the number in ``data``, None when the bytes mean none."""
    fields: tuple[float, ...] = struct.unpack(_FORMAT[kind], data)
    match kind:
        case PointType.BCD16 | PointType.BCD32:
            digits = data.hex()
            return int(digits) if digits.isdecimal() else None
        case PointType.I32_F32:
            whole, part = fields
            return Fraction(whole) + Fraction(part) if math.isfinite(part) else math.nan
        case PointType.CLOCK_U16 | PointType.CLOCK_F32:
            return _unix_seconds(fields)
        case _:
            return fields[0]  # an int where the format says so


def _unix_seconds(fields: Sequence[float]) -> int | None:
    if any(not math.isfinite(number) or number != int(number) for number in fields):
        return None
    year, month, day, hour, minute, second = map(int, fields)
    if year not in _CLOCK_YEARS:
        return None
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=_BEIJING).timestamp())
    except ValueError:
        return None


def read_text(words: Sequence[int]) -> str:
    """Return the ASCII text in registers, high byte first, without padding; "" when it is none. For identities.

    >>> read_text([0x594C, 0x3031, 0x2000])
    'YL01'
    """
    data = b"".join([word.to_bytes(2, "big") for word in words]).strip(b"\0 \xff")
    return data.decode("ascii") if data.isascii() and data.decode("ascii").isprintable() else ""


def write_raw(kind: PointType, order: str, raw: float | Fraction) -> tuple[int, ...]:
    """Return the registers that hold ``raw``; raise ValueError when it does not fit. For simulators and tests.

    >>> [hex(word) for word in write_raw(PointType.F32, "CDAB", 25.0)]
    ['0x0', '0x41c8']
    """
    letters = order_for(kind.element_words, order or "AB")
    try:
        value = struct.pack(_FORMAT[kind], *_fields(kind, raw))
    except (struct.error, OverflowError, OSError) as exc:
        raise ValueError(f"{raw!r} does not fit {kind}") from exc
    size = len(letters)
    wire = bytes(
        value[start + ord(letter) - ord("A")]
        for start in range(0, len(value), size)
        for letter in letters
    )
    return struct.unpack(f">{kind.words}H", wire)


def _fields(kind: PointType, raw: float | Fraction) -> tuple[float, ...]:
    match kind:
        case PointType.F32 | PointType.F64:
            return (float(raw),)
        case PointType.BCD16 | PointType.BCD32:
            if not 0 <= raw < 10 ** (4 * kind.words):
                raise ValueError(f"{raw!r} does not fit {kind}")
            return (int(str(int(raw)), 16),)
        case PointType.I32_F32:
            return int(raw), float(raw - int(raw))
        case PointType.CLOCK_U16 | PointType.CLOCK_F32:
            return tuple(datetime.fromtimestamp(float(raw), tz=_BEIJING).timetuple()[:6])
        case _:
            return (int(raw),)


def value_of(point: Point, words: Sequence[int]) -> tuple[float | None, str | None]:
    """Return (value in the catalogue's unit, None), or (None, quality) when the registers hold no value.

    ``words`` are the registers from ``point.start`` to ``point.end``. The value is the double nearest to the exact
    decimal: 3 × 0.1 is 0.3. An f32 keeps its own value, widened.

    >>> value_of(Point("soil_ph", 3, PointType.U16, scale=Fraction("0.1")), [3])
    (0.3, None)
    """
    factor: Fraction | None = None
    if point.checks or point.scale_from is not None:
        factor, quality = _beside(point, words)
        if quality is not None:
            return None, quality
        at = point.address - point.start
        words = words[at : at + point.type.words]
    data = _value_bytes(words, point.order)
    if point.sentinels and int.from_bytes(data, "big") in point.sentinels:
        return None, BAD_SENTINEL
    raw = _unpacked(point.type, data)
    if raw is None:
        return None, BAD_ENCODING
    if isinstance(raw, float) and not math.isfinite(raw):
        return None, BAD_NAN
    if point.mask:
        raw = (int(raw) & point.mask) // (point.mask & -point.mask)
    if not _is_valid(point, raw, factor or Fraction(1)):
        return None, BAD_RANGE
    over, under = raw.as_integer_ratio()
    if factor is not None:
        over, under = over * factor.numerator, under * factor.denominator
    elif point.gain == point.divisor and point.bias == 0 and not isinstance(raw, Fraction):
        return float(raw), None  # keeps the sign of -0.0, which a fraction has not
    try:
        # A quotient of whole numbers is rounded once, to the nearest double.
        return (over * point.gain + under * point.bias) / (under * point.divisor), None
    except OverflowError:
        return None, BAD_RANGE


def _beside(point: Point, words: Sequence[int]) -> tuple[Fraction | None, str | None]:
    """Return what the other registers say: (factor or None, None), or (None, quality) when there is no value."""
    for check in point.checks:
        said = words[check.address - point.start].to_bytes(2, "big")
        if _unpacked(check.type, said) not in check.good:
            return None, check.quality
    if point.scale_from is None:
        return None, None
    factor = dict(point.scale_from.factors).get(words[point.scale_from.address - point.start])
    return factor, BAD_SCALE if factor is None else None


def _is_valid(point: Point, raw: float | Fraction, factor: Fraction) -> bool:
    if point.valid_min is None and point.valid_max is None:
        return True
    exact = Fraction(raw) * factor * point.scale + point.offset
    return not (
        (point.valid_min is not None and exact < point.valid_min)
        or (point.valid_max is not None and exact > point.valid_max)
    )
