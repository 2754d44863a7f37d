"""What a result says of an amount: at least, at most, and whether anything was detected (pure)."""

from __future__ import annotations

import decimal
import functools
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeGuard

from drivers import units
from drivers.records import Qualifier

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXACT = decimal.Context(prec=20_000, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
"""Wide enough that no value from a slip is rounded before it is compared."""
_LARGEST = 12
"""Decimal exponent of a mass fraction in any unit above which nobody measured anything (1 kg/kg is 1e12 ng/kg)."""
PURE = Decimal(1_000_000)  # mg/kg


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """``low`` ≤ amount ≤ ``high``; ``high`` None when nothing bounds it.

    ``above``: more than ``low``. ``detected`` None: a trace that may or may not be a detection.
    """

    low: Decimal
    high: Decimal | None
    above: bool = False
    detected: bool | None = True

    def scaled(self, factor: Decimal) -> Amount:
        """Return the amount in another unit, exactly."""
        high = None if self.high is None else _EXACT.multiply(self.high, factor)
        low = _EXACT.multiply(self.low, factor)
        return Amount(low=low, high=high, above=self.above, detected=self.detected)

    def exceeds(self, limit: Decimal) -> bool | None:
        """Whether the amount is over ``limit`` (at it complies); None when the bounds leave that open.

        >>> Amount(low=Decimal("0.02"), high=Decimal("0.02")).exceeds(Decimal("0.02"))
        False
        >>> Amount(low=Decimal(0), high=Decimal("0.05"), detected=False).exceeds(
        ...     Decimal("0.02")
        ... ) is None
        True
        """
        if self.low > limit or (self.above and self.low >= limit):
            return True
        return False if self.high is not None and self.high <= limit else None


def amount_of(
    value: Decimal | None, qualifier: Qualifier | None, lod: Decimal | None, loq: Decimal | None
) -> Amount | None:
    """Return what a result says, in its own unit; None when there is no result. A value must be finite and ≥ 0.

    Not detected is no zero: it lies below the limit of quantification, else of detection, and below nothing known when
    neither is stated. A value of 0, or not above the detection limit, is not detected.
    """
    floor, ceiling = _stated(lod), _stated(loq)
    below = ceiling if ceiling is not None else floor
    nothing = Amount(low=Decimal(0), high=below, detected=False)
    if qualifier is Qualifier.NOT_DETECTED:
        return nothing
    if value is None:
        return nothing if qualifier is Qualifier.LT else None
    if qualifier is Qualifier.LT:
        # "< 0.01" with a detection limit below it may be a trace that was seen.
        seen = None if floor is not None and floor < value else False
        high = value if value > 0 else below
        return Amount(low=Decimal(0), high=high, detected=seen)
    if qualifier is Qualifier.GT:
        return Amount(low=value, high=None, above=True)
    if value == 0 or (floor is not None and value <= floor):
        return nothing
    return Amount(low=value, high=value)


def total(amounts: Iterable[Amount | None]) -> Amount:
    """Return the sum; a member that was not measured (None) leaves it without an upper bound."""
    low, high = Decimal(0), Decimal(0)
    bounded, above, detected = True, False, False
    trace = False
    for amount in amounts:
        if amount is None:
            bounded = False
            continue
        low = _EXACT.add(low, amount.low)
        above = above or amount.above
        detected = detected or amount.detected is True
        trace = trace or amount.detected is None
        if amount.high is None:
            bounded = False
        else:
            high = _EXACT.add(high, amount.high)
    seen = True if detected else None if trace else False
    return Amount(low=low, high=high if bounded else None, above=above, detected=seen)


def is_value(value: Decimal | None) -> bool:
    """Whether a value can be an amount: none, or finite and not negative."""
    return value is None or (value.is_finite() and value >= 0)


def is_possible(value: Decimal | None, unit: str) -> bool:
    """Whether a value in a unit is no more than the product itself."""
    if value is None or value.is_zero():
        return True
    if value.adjusted() > _LARGEST:
        return False
    to_mg_kg = factor(unit, "mg/kg")
    return to_mg_kg is None or _EXACT.multiply(value, to_mg_kg) <= PURE


@functools.lru_cache(maxsize=1024)
def factor(unit: str, to: str) -> Decimal | None:
    """Return the exact factor between two units, None when they are not of one quantity.

    >>> factor("ug/kg", "mg/kg"), factor("mg/L", "mg/kg")
    (Decimal('0.001'), None)
    """
    try:
        ratio = units.conversion(unit, to).factor
    except units.UnitError:
        return None
    return _EXACT.divide(Decimal(ratio.numerator), Decimal(ratio.denominator))


def _stated(limit: Decimal | None) -> Decimal | None:
    return limit if _is_positive(limit) else None


def _is_positive(limit: Decimal | None) -> TypeGuard[Decimal]:
    return limit is not None and limit.is_finite() and limit > 0
