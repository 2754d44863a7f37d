"""The register maps of ``drivers/models`` as the simulators use them: the drivers' data, but not their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from demo.simulators.register_map import Point
from drivers import indicators
from drivers.errors import ConfigError
from drivers.modbus import models
from drivers.modbus.points import PointType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.modbus.model_tables import PointTable

# What one unit of an instrument is in the catalogue's unit.
_FACTORS = {
    ("bar", "kPa"): Fraction(100),
    ("mS/cm", "uS/cm"): Fraction(1000),
    ("Pa", "hPa"): Fraction(1, 100),
    ("kPa", "hPa"): Fraction(10),
    ("ms", "s"): Fraction(1, 1000),
    ("mm", "m"): Fraction(1, 1000),
}
OPEN = "unknown"


@dataclass(frozen=True, slots=True)
class Question:
    """What an instrument answers though its own unit id was not asked; ``id_in`` says where its id stands."""

    unit_id: int
    address: int | None
    count: int
    id_in: str


@dataclass(frozen=True, slots=True)
class SimModel:
    """One model: its points, what it accepts in one request, and the only blocks it answers (all when empty).

    ``fixed`` are registers that hold what the map says they do (identity, unit, good state). A model with ``triggers``
    (the requests that start a measurement, as PDUs) serves its last sample until one of them has come.
    """

    points: tuple[Point, ...]
    max_read: int
    functions: frozenset[int]
    only_blocks: frozenset[tuple[int, int]]
    unit_id: int = 1
    baud: int = 9600
    stop_bits: int = 1
    bits: int = 10
    reply_unit: int | None = None
    question: Question | None = None
    fixed: Mapping[int, bytes] = field(default_factory=dict)
    triggers: frozenset[bytes] = frozenset()


def load_model(
    name: str, settings: Mapping[str, Mapping[str, str | float]], variant: str = ""
) -> SimModel:
    """Return the model ``name``, with what its map leaves open taken from ``settings`` (by metric).

    Raises ConfigError when there is no such model or variant, or something open is not settled; KeyError for a unit
    that is not in the table here.
    """
    model = models.load(name)
    if variant or not model.points:
        if variant not in model.variants:
            known = ", ".join(model.variants) or "none"
            raise ConfigError([f"variant {variant!r} of {name} is not known; known: {known}"])
        model = model.variants[variant]
    table = model.table
    faults: list[str] = []
    points = [
        _point(point, table.order, settings.get(point.key, {}), faults) for point in model.points
    ]
    faults.extend(
        f"settings.{key}: {name} has no such metric; known: {', '.join(p.key for p in model.points)}"
        for key in settings
        if key not in {point.key for point in model.points}
    )
    if faults:
        raise ConfigError(faults)
    # A block that is answered is answered whole; so is what lies between a value and the registers that vouch for it.
    answered = [
        *(range(block.address, block.address + block.count) for block in model.blocks),
        *(range(point.address, check.address) for point in model.points for check in point.checks),
    ]
    fixed = {address: bytes(2) for addresses in answered for address in addresses}
    for point in model.points:
        for check in point.checks:
            good = check.good[0]
            high = check.type is PointType.U8_HIGH_BYTE
            fixed[check.address] = (good << 8 if high else good).to_bytes(2, "big")
    for point in model.points:
        if point.scale_from is not None:
            said = int(
                next(iter(point.scale_from.factors)), 0
            )  # the point's own scale times the first factor
            fixed[point.scale_from.address] = said.to_bytes(2, "big")
    query = table.unit_id_query
    form = table.line.format
    return SimModel(
        points=tuple(point for point in points if point is not None),
        max_read=table.max_read,
        functions=frozenset(point.function or table.function for point in model.points),
        only_blocks=frozenset((block.address, block.count) for block in model.blocks)
        if table.exact_blocks_only
        else frozenset(),
        unit_id=model.unit_id,
        baud=table.line.baud,
        stop_bits=int(form[2]),
        bits=1 + int(form[0]) + (form[1] != "N") + int(form[2]),
        reply_unit=table.reply_unit,
        question=None
        if query is None
        else Question(query.unit_id, query.address, query.count, query.id_in),
        fixed=fixed,
        triggers=frozenset(step.pdu() for step in model.steps if step.asks and not step.optional),
    )


def _point(
    point: PointTable,
    usual_order: str,
    site: Mapping[str, str | float],
    faults: list[str],
) -> Point | None:
    """Return one point as the site sets it; None after adding what is still open to ``faults``.

    None as well for one that is read on demand only and of which the site says nothing: it is not served.
    """
    code = str(site.get("indicator", point.indicator))
    order = str(site.get("order", point.order or usual_order))
    unit = str(site.get("unit", point.unit))
    scale = site.get("scale", point.scale)
    wide = point.type.element_words > 1
    said = {"indicator": code, "order": order if wide else "", "unit": unit, "scale": scale}
    missing = [name for name, value in said.items() if value == OPEN]
    if missing and point.optional and not site:
        return None
    if missing:
        faults.extend(
            f"settings.{point.key}.{name}: is missing; the map does not say it" for name in missing
        )
        return None
    indicator = indicators.lookup(code) if code else indicators.metric(point.metric, unit)[0]
    factor = Fraction(1) if unit == indicator.unit else _FACTORS[unit, indicator.unit]
    return Point(
        indicator=indicator.code,
        address=point.address,
        type=point.type.value,
        order=order if wide else point.order or "AB",
        scale=Fraction(str(scale)) * factor,
        offset=Fraction(str(point.offset)) * factor,
        on_demand=point.optional,
    )
