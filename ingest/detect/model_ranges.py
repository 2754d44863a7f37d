"""What an instrument's model can measure, from its register map."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from drivers.modbus import models
from drivers.modbus.build import build_point
from drivers.modbus.models import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Range = tuple[float | None, float | None]


@functools.cache
def model_ranges(model: str) -> Mapping[str, _Range]:
    """Return indicator → (min, max) in the catalogue's unit for the points that state one; nothing for other models.

    >>> model_ranges("renke_soil_7in1")["soil_temperature"]
    (-40.0, 85.0)
    """
    if model not in models.names():
        return {}
    found: dict[str, list[_Range]] = {}
    for table in models.load(model).points:
        if table.unit == UNKNOWN:
            continue
        point = build_point(table, model, [], order="ABCD")
        if point is not None:
            ends = [
                None if end is None else float(point.conversion.apply(end))
                for end in (point.valid_min, point.valid_max)
            ]
            found.setdefault(point.indicator, []).append((ends[0], ends[1]))
    return {
        indicator: (_widest(min, [r[0] for r in ranges]), _widest(max, [r[1] for r in ranges]))
        for indicator, ranges in found.items()
        if any(end is not None for one in ranges for end in one)
    }


def _widest(which: Callable[[list[float]], float], ends: list[float | None]) -> float | None:
    """Return the outermost end; None when one point states none."""
    known = [end for end in ends if end is not None]
    return which(known) if len(known) == len(ends) else None
