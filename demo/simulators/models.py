"""The register maps of ``drivers/models`` as the simulators use them: the drivers' data, but not their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from demo.simulators.register_map import Point
from drivers import indicators
from drivers.modbus import models

if TYPE_CHECKING:
    from collections.abc import Mapping

# What one unit of an instrument is in the catalogue's unit.
_FACTORS = {
    ("bar", "kPa"): Fraction(100),
    ("mS/cm", "uS/cm"): Fraction(1000),
    ("Pa", "hPa"): Fraction(1, 100),
}


@dataclass(frozen=True, slots=True)
class SimModel:
    """One model: its points, what it accepts in one request, and the only blocks it answers (all when empty)."""

    points: tuple[Point, ...]
    max_read: int
    functions: frozenset[int]
    only_blocks: frozenset[tuple[int, int]]


def load_model(name: str, settings: Mapping[str, Mapping[str, str | float]]) -> SimModel:
    """Return the model ``name``, with what its map leaves open taken from ``settings`` (by metric).

    Raises ConfigError when there is no such model, KeyError for a unit that is not in the table here.
    """
    model = models.load(name)
    table = model.table
    points = []
    for point in model.points:
        site = settings.get(point.metric, {})
        unit = str(site.get("unit", point.unit))
        indicator, _ = indicators.metric(point.metric, unit)
        factor = Fraction(1) if unit == indicator.unit else _FACTORS[unit, indicator.unit]
        order = str(site.get("order", point.order or table.order))
        points.append(
            Point(
                indicator=indicator.code,
                address=point.address,
                type=point.type.value,
                order=order if point.type.words > 1 else point.order or "AB",
                scale=Fraction(str(site.get("scale", point.scale))) * factor,
                offset=Fraction(str(point.offset)) * factor,
            )
        )
    return SimModel(
        points=tuple(points),
        max_read=table.max_read,
        functions=frozenset(point.function or table.function for point in model.points),
        only_blocks=frozenset((block.address, block.count) for block in model.blocks)
        if table.exact_blocks_only
        else frozenset(),
    )
