"""Values that a limit is on and no probe sends: un-ionised ammonia, oxygen saturation, hours of low oxygen (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    Number = TypeVar("Number", float, NDArray[np.float64])

TOTAL_AMMONIA = "water_ammonia_n"
UNIONISED = "water_ammonia_unionised"
OXYGEN = "water_do"
SATURATION = "water_do_saturation"
WATER_PH = "water_ph"
TEMPERATURE = "water_temperature"

UNIONISED_FROM = (WATER_PH, TEMPERATURE)
"""What un-ionised ammonia is computed from, beside total ammonia."""

NH3_PER_N = 17.031 / 14.007
"""Mass of NH3 that holds one mass of nitrogen."""

WARMEST_DEGC = 60.0
"""No water is warmer: the end of the catalogue's range. Bounds the saturation when the temperature is not known."""

HOLD_MS = 3_600_000
"""How long a value stands for the time after it when a duration is counted."""


def unionised_n(total_n: Number, ph: Number, temp_degc: Number) -> Number:
    """Return un-ionised ammonia as N, in the unit of ``total_n`` (as N); Emerson et al. 1975, fresh water.

    >>> round(unionised_n(1.0, 8.0, 25.0), 4)
    0.0537
    """
    pka = 0.09018 + 2729.92 / (temp_degc + 273.15)
    ionised: Number = 10.0 ** (pka - ph)
    return total_n / (1.0 + ionised)


def oxygen_saturation(do_mg_per_l: Number, temp_degc: Number) -> Number:
    """Return percent of the oxygen that fresh water holds, 468 / (31.6 + t) mg/L (HJ/T 2.3-1993).

    >>> round(oxygen_saturation(7.5, 20.0), 1)
    82.7
    """
    return 100.0 * do_mg_per_l * (31.6 + temp_degc) / 468.0


def low_and_other_ms(
    samples: Iterable[tuple[int, float]], bound: float, window_ms: int, at_ms: int
) -> tuple[int, int]:
    """Return for how many ms of the window before ``at_ms`` the ``samples`` (ms, value) were ≤ ``bound``, and above it.

    Each value holds until the next, for an hour at most; the rest of the window is in neither.

    >>> hour = 3_600_000
    >>> low_and_other_ms([(0, 4.0), (hour, 6.0), (4 * hour, 4.0)], 5.0, 24 * hour, 4 * hour)
    (3600000, 3600000)
    """
    before = sorted({t: v for t, v in samples if t <= at_ms}.items())
    low = other = 0
    ends = [t for t, _ in before[1:]] + [at_ms]
    for (t, v), end in zip(before, ends, strict=False):  # nothing before: no pair
        held = min(end, t + HOLD_MS) - max(t, at_ms - window_ms)
        if v <= bound:
            low += max(held, 0)
        else:
            other += max(held, 0)
    return low, other
