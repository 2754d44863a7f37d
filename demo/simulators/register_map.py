"""From a quantity to the registers of a model: quantise, remember the exact value, lay out the bytes (pure)."""

from __future__ import annotations

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

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return (_INTEGERS.get(self.type) or _FLOATS[self.type])[1]


def quantise(point: Point, value: float) -> tuple[bytes, Fraction]:
    r"""Return the wire bytes nearest to ``value`` and exactly what they mean.

    >>> ph = Point("soil_ph", 3, "u16", "AB", Fraction(1, 10), Fraction(0))
    >>> quantise(ph, 6.5499)
    (b'\x00A', Fraction(13, 2))
    """
    wanted = (Fraction(value) - point.offset) / point.scale
    if point.type in _FLOATS:
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


def arrange(plain: bytes, order: str) -> bytes:
    """Lay out big-endian ``plain``; ``order`` names its bytes, A first, as they stand on the wire.

    >>> arrange(bytes.fromhex("41c80000"), "DCBA").hex()
    '0000c841'
    """
    return bytes(plain[ord(letter) - ord("A")] for letter in order)


def exact_text(value: Fraction) -> str:
    """Return the finite decimal of ``value``; raise decimal.Inexact when it has none.

    >>> exact_text(Fraction(3, 10)), exact_text(Fraction(13)), exact_text(Fraction(-1, 8))
    ('0.3', '13', '-0.125')
    """
    quotient = _EXACT.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    return format(quotient, "f")
