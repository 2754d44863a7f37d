"""From a quantity to the registers of a model: quantise, remember the exact value, lay out the bytes (pure)."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
from dataclasses import dataclass
from fractions import Fraction

_INTEGERS = {
    "u16": ("H", 1),
    "i16": ("h", 1),
    "u32": ("I", 2),
    "i32": ("i", 2),
    "u64": ("Q", 4),
    "i64": ("q", 4),
}
_FLOATS = {"f32": ("f", 2), "f64": ("d", 4)}
_OTHERS = {
    "u8_high_byte": 1,
    "u8_low_byte": 1,
    "bcd16": 1,
    "bcd32": 2,
    "i32_f32": 4,
    "clock_u16": 6,
    "clock_f32": 12,
}
_BEIJING = dt.timezone(dt.timedelta(hours=8))
CLOCKS = frozenset({"clock_u16", "clock_f32"})
_EXACT = decimal.Context(prec=1200, traps=[decimal.Inexact, decimal.InvalidOperation])


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity of a model: where it lies, how it is laid out, ``value = raw × scale + offset``."""

    indicator: str
    address: int
    type: str
    order: str
    scale: Fraction
    offset: Fraction
    on_demand: bool = False
    """A usual reader does not publish it, though it may lie in a block that is read."""

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        if self.type in _OTHERS:
            return _OTHERS[self.type]
        return (_INTEGERS.get(self.type) or _FLOATS[self.type])[1]


def quantise(point: Point, value: float) -> tuple[bytes, Fraction]:
    r"""Return the wire bytes nearest to ``value`` and exactly what they mean.

    >>> ph = Point("soil_ph", 3, "u16", "AB", Fraction(1, 10), Fraction(0))
    >>> quantise(ph, 6.5499)
    (b'\x00A', Fraction(13, 2))
    """
    wanted = (Fraction(value) - point.offset) / point.scale
    if point.type in _OTHERS:
        plain, raw = _other(point.type, wanted)
    elif point.type in _FLOATS:
        code, _ = _FLOATS[point.type]
        plain = struct.pack(f">{code}", float(wanted))
        raw = Fraction(struct.unpack(f">{code}", plain)[0])
    else:
        code, words = _INTEGERS[point.type]
        bits = 16 * words
        low, high = (
            (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
        )
        number = min(max(math.floor(wanted + Fraction(1, 2)), low), high)
        plain = struct.pack(f">{code}", number)
        raw = Fraction(number)
    return arrange(plain, point.order), raw * point.scale + point.offset


def _other(kind: str, wanted: Fraction) -> tuple[bytes, Fraction]:
    """Return the big-endian bytes of the rarer types and what they mean."""
    whole = max(math.floor(wanted), 0)
    match kind:
        case "u8_high_byte" | "u8_low_byte":
            number = min(math.floor(wanted + Fraction(1, 2)), 255) if wanted > 0 else 0
            return bytes([number, 0] if kind == "u8_high_byte" else [0, number]), Fraction(number)
        case "bcd16" | "bcd32":
            digits = 4 if kind == "bcd16" else 8
            number = min(math.floor(wanted + Fraction(1, 2)), 10**digits - 1) if wanted > 0 else 0
            return bytes.fromhex(f"{number:0{digits}d}"), Fraction(number)
        case "i32_f32":
            plain = struct.pack(">if", whole, float(wanted - whole))
            return plain, whole + Fraction(struct.unpack(">if", plain)[1])
        case _:
            fields = dt.datetime.fromtimestamp(whole, _BEIJING).timetuple()[:6]
            return struct.pack(">6H" if kind == "clock_u16" else ">6f", *fields), Fraction(whole)


def arrange(plain: bytes, order: str) -> bytes:
    """Lay out big-endian ``plain``; ``order`` names its bytes, A first, as they stand on the wire.

    It is repeated over what holds several numbers.

    >>> arrange(bytes.fromhex("41c80000"), "DCBA").hex()
    '0000c841'
    """
    size = len(order)
    return bytes(
        plain[start + ord(letter) - ord("A")]
        for start in range(0, len(plain), size)
        for letter in order
    )


def exact_text(value: Fraction) -> str:
    """Return the finite decimal of ``value``; raise decimal.Inexact when it has none.

    >>> exact_text(Fraction(3, 10)), exact_text(Fraction(13)), exact_text(Fraction(-1, 8))
    ('0.3', '13', '-0.125')
    """
    quotient = _EXACT.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    return format(quotient, "f")
