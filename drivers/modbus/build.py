"""Tables of a register map to points, blocks and steps, with every fault at once (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers import indicators, units
from drivers.device_table import fraction, read_table
from drivers.modbus.model_tables import BlockTable, PointTable, StepTable
from drivers.modbus.points import Check, Point, ScaleFrom
from drivers.modbus.steps import Action, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction


def read_points(
    tables: Sequence[Mapping[str, object]], where: str, faults: list[str]
) -> list[PointTable]:
    """Return the points that could be read; faults name them ``points[i]``."""
    read = (
        read_table(PointTable, t, f"{where}: points[{i}]", faults) for i, t in enumerate(tables)
    )
    return [point for point in read if point is not None]


def read_blocks(
    tables: Sequence[Mapping[str, object]], where: str, faults: list[str]
) -> list[BlockTable]:
    """Return the blocks that could be read; faults name them ``blocks[i]``."""
    read = (
        read_table(BlockTable, t, f"{where}: blocks[{i}]", faults) for i, t in enumerate(tables)
    )
    return [block for block in read if block is not None]


def read_steps(tables: Sequence[Mapping[str, object]], where: str, faults: list[str]) -> list[Step]:
    """Return the steps that could be read; faults name them ``steps[i]``."""
    steps: list[Step] = []
    for i, table in enumerate(tables):
        read = read_table(StepTable, table, f"{where}: steps[{i}]", faults)
        if read is None:
            continue
        try:
            steps.append(
                Step(
                    do=read.do,
                    function=read.function,
                    address=read.address,
                    count=read.count,
                    values=tuple(read.values),
                    wait_ms=read.wait_ms,
                    optional=read.optional,
                )
            )
        except ValueError as exc:
            faults.append(f"{where}: steps[{i}]: {exc}")
    if sum(step.do is Action.POINTS for step in steps) > 1:
        faults.append(f"{where}: steps: the points are read once; leave one do = 'points'")
    return steps


def build_point(
    table: PointTable,
    where: str,
    faults: list[str],
    *,
    order: str = "",
    function: int = 3,
    sentinels: Sequence[int] = (),
) -> Point | None:
    """Return the point, or None after adding its faults; the keywords stand for what the table leaves out."""
    before = len(faults)
    scale_from = _scale_from(table, where, faults)
    numbers: dict[str, Fraction | None] = {}
    for name in ("scale", "offset", "valid_min", "valid_max"):
        written = getattr(table, name)
        try:
            numbers[name] = None if written is None else fraction(written)
        except (ValueError, OverflowError):
            faults.append(f"{where}: {name}: {written!r} is not a number; write a decimal or 'a/b'")
    if bool(table.metric) == bool(table.indicator):
        faults.append(f"{where}: indicator: give either indicator or metric")
        return None
    try:
        if table.metric:
            indicator, conversion = indicators.metric(table.metric, table.unit)
        else:
            indicator = indicators.lookup(table.indicator)
            conversion = indicator.conversion_from(table.unit)
    except indicators.UnknownIndicatorError as exc:
        faults.append(f"{where}: {'metric' if table.metric else 'indicator'}: {exc}")
        return None
    except units.UnitError as exc:
        faults.append(f"{where}: unit: {exc}")
        return None
    if len(faults) != before:
        return None
    bits = 16 * table.type.words
    wide = table.type.element_words > 1
    least = 0 if table.type.words == 1 else 1 << bits // 2
    try:
        return Point(
            indicator=indicator.code,
            address=table.address,
            type=table.type,
            order=table.order or (order if wide else ""),
            scale=numbers["scale"] or fraction(0),
            offset=numbers["offset"] or fraction(0),
            conversion=conversion,
            # A device's sentinel of 16 bits says nothing about its wider points, and the reverse.
            sentinels=frozenset(
                [*table.sentinels, *(s for s in sentinels if least <= s < 1 << bits)]
            ),
            valid_min=numbers["valid_min"],
            valid_max=numbers["valid_max"],
            function=table.function or function,
            mask=table.mask,
            scale_from=scale_from,
            checks=tuple(
                Check(check.address, frozenset(check.good), check.quality, check.type)
                for check in table.checks
            ),
        )
    except ValueError as exc:
        faults.append(f"{where}: {exc}")
        return None


def _scale_from(table: PointTable, where: str, faults: list[str]) -> ScaleFrom | None:
    if table.scale_from is None:
        return None
    try:
        factors = tuple(
            (int(said, 0), fraction(factor)) for said, factor in table.scale_from.factors.items()
        )
    except (ValueError, OverflowError) as exc:
        faults.append(f"{where}: scale_from: factors: {exc}")
        return None
    return ScaleFrom(table.scale_from.address, factors)
