"""Which reading of a device's registers gives a value that somebody sees on its display (pure).

Every address, type, byte order and decimal scale is tried; what gives the value to the digits that were stated fits.
The likeliest comes first: the address that was asked for, plain types, usual orders and scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers.modbus.points import ORDERS, PointType, read_raw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Type -> how much less likely it is than the plainest one.
_TYPES: dict[PointType, float] = {
    PointType.U16: 0.0,
    PointType.I16: 0.1,
    PointType.F32: 0.0,
    PointType.U32: 1.0,
    PointType.I32: 1.1,
    PointType.BCD16: 2.5,
    PointType.F64: 2.5,
    PointType.U8_HIGH_BYTE: 3.0,
    PointType.U8_LOW_BYTE: 3.0,
    PointType.BCD32: 3.5,
    PointType.U64: 4.0,
    PointType.I64: 4.1,
}
_ORDERS = {
    "AB": 0.0,
    "BA": 3.0,
    "ABCD": 0.0,
    "CDAB": 0.3,
    "DCBA": 0.6,
    "BADC": 0.9,
    "ABCDEFGH": 0.0,
    "GHEFCDAB": 0.3,
    "HGFEDCBA": 0.6,
}
_UNUSUAL_ORDER = 1.5
# Power of ten -> the same for integers; a float is hardly ever scaled.
_POWERS = {0: 0.0, -1: 0.0, -2: 0.1, -3: 0.3, -4: 1.0, 1: 1.0, -5: 2.0, 2: 2.0, -6: 3.0, 3: 2.5}
_FLOAT_POWER = 2.0
_ADDRESS = 1.5  # for each register away from the one that was asked for
_OTHER_FUNCTION = 0.2
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Expected:
    """A value as it was read off a display: ``229.01`` means 229.005 to 229.015."""

    text: str
    value: Fraction
    tolerance: Fraction

    @classmethod
    def of(cls, text: str, tolerance: str = "") -> Expected:
        """Return what ``text`` says; ``tolerance`` replaces half of its last digit. Raises ValueError.

        >>> Expected.of("229.01").tolerance
        Fraction(1, 200)
        """
        number = _decimal(text)
        digits, exponent = number.as_tuple()[1:]
        if not isinstance(exponent, int) or len(digits) > _MOST_DIGITS or abs(exponent) > 12:
            raise ValueError(f"{text!r} is no reading of a display")
        half = Fraction(1, 2) * Fraction(10) ** exponent
        if tolerance:
            half = abs(Fraction(_decimal(tolerance)))
        return cls(text, Fraction(number), half)

    def met_by(self, value: Fraction) -> bool:
        """Whether ``value`` would be shown so."""
        return abs(value - self.value) <= self.tolerance


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"{text!r} is not a decimal number")
    return number


@dataclass(frozen=True, slots=True)
class Fit:
    """One way to read the registers that gives the value; ``unlikely`` ranks it, 0 the likeliest."""

    function: int
    address: int
    type: PointType
    order: str
    power: int
    value: float
    unlikely: float
    also: tuple[str, ...] = ()
    """Types that read these registers as the same number: which it is only another value can tell."""

    @property
    def scale(self) -> str:
        """The scale as a decimal text, ``1`` for none.

        >>> Fit(3, 0, PointType.U16, "", -2, 1.0, 0.0).scale
        '0.01'
        """
        return format(Decimal(1).scaleb(self.power), "f")


def fits(registers: Mapping[int, Mapping[int, int]], address: int, expected: Expected) -> list[Fit]:
    """Return every fit in ``registers`` (function -> address -> word), the likeliest first.

    ``address`` is the one that was asked for, in the function that comes first.
    """
    found: list[Fit] = []
    for place, (function, words) in enumerate(registers.items()):
        for start in words:
            away = abs(start - address) * _ADDRESS + place * _OTHER_FUNCTION
            for kind, strange in _TYPES.items():
                run = [words[a] for a in range(start, start + kind.words) if a in words]
                if len(run) == kind.words:
                    found += _at(function, start, kind, run, away + strange, expected)
    return _folded(sorted(found, key=lambda fit: (fit.unlikely, fit.address, fit.type)))


def _at(
    function: int,
    start: int,
    kind: PointType,
    run: Sequence[int],
    unlikely: float,
    expected: Expected,
) -> Iterator[Fit]:
    for order in _orders(kind):
        try:
            raw = read_raw(kind, order, run)
        except ValueError:  # no BCD
            continue
        if isinstance(raw, float) and not math.isfinite(raw):
            continue
        exact = Fraction(raw)
        if exact == 0 and expected.value != 0:
            continue
        for power, strange in _POWERS.items():
            if kind.is_float and power:
                strange += _FLOAT_POWER  # noqa: PLW2901 - the same number, for floats
            value = exact * Fraction(10) ** power
            if expected.met_by(value):
                more = strange + _ORDERS.get(order, _UNUSUAL_ORDER)
                written = order if kind.words > 1 or order == "BA" else ""
                yield Fit(function, start, kind, written, power, float(value), unlikely + more)


def _orders(kind: PointType) -> tuple[str, ...]:
    if kind in (PointType.U8_HIGH_BYTE, PointType.U8_LOW_BYTE):
        return ("AB",)
    return ORDERS[kind.words]


def _folded(found: list[Fit]) -> list[Fit]:
    """Take together what reads one number from the same registers: u16 and i16 of a positive number."""
    kept: dict[tuple[int, int, str, int, int, float], Fit] = {}
    for fit in found:
        key = (fit.function, fit.address, fit.order, fit.power, fit.type.words, fit.value)
        first = kept.get(key)
        if first is None:
            kept[key] = fit
        elif fit.type not in first.also:
            kept[key] = _with(first, fit.type)
    return list(kept.values())


def _with(fit: Fit, other: PointType) -> Fit:
    return Fit(
        fit.function,
        fit.address,
        fit.type,
        fit.order,
        fit.power,
        fit.value,
        fit.unlikely,
        (*fit.also, str(other)),
    )
