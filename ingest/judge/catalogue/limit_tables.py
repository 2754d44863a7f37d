"""The tables of numeric limits on readings, as checked ``Limit`` rows grouped into rules.

The beginning of a file's name says how it is read, so that the next edition of a standard is one more file.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers import indicators, units
from drivers.records import Severity
from ingest.judge.catalogue.editions import family
from ingest.judge.catalogue.limits import Comparator, Limit
from ingest.judge.catalogue.pickers import (
    Picked,
    joined,
    pick_fishery,
    pick_irrigation,
    pick_livestock,
    pick_soil,
    pick_surface,
    spoken,
)
from ingest.judge.catalogue.tables import Row, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from ingest.judge.catalogue.editions import Edition
    from ingest.judge.catalogue.tables import Directories

SEVERITIES = {
    "intervention": Severity.CRITICAL,  # specs/alerting.md §8: intervention value is critical
    "screening": Severity.MAJOR,
    "basic": Severity.MAJOR,
    "optional": Severity.WARNING,  # items that the local authority may choose to control
    "standard": Severity.MAJOR,  # of a standard that knows one kind of limit only
}
COMPANIONS = {"ph": "soil_ph"}
"""Condition -> indicator of the companion reading that gives it."""

CLEARABLE = frozenset({"water_ph", "water_ec", "water_do", "water_turbidity", "water_temperature"})
"""Process parameters: only their alerts clear when the value returns (specs/alerting.md §8)."""


@dataclass(frozen=True, slots=True)
class LimitTable:
    """How the CSV files whose names begin with ``prefix`` are read.

    ``medium`` is the prefix of its analytes in the indicator catalogue, ``level`` a word of ``SEVERITIES`` or else the
    column that has one, ``by_level`` puts the level into the rule id.
    """

    prefix: str
    medium: str
    level: str
    by_level: bool
    columns: tuple[str, ...]
    pick: Callable[[Row, Sequence[Row]], Picked]


LIMIT_TABLES = (
    LimitTable(
        prefix="soil_",
        medium="soil",
        level="level",
        by_level=True,
        columns=(
            "standard",
            "table",
            "level",
            "analyte",
            "analyte_zh",
            "land_use",
            "ph_min_exclusive",
            "ph_max_inclusive",
            "limit",
            "unit",
            "direction",
        ),
        pick=pick_soil,
    ),
    LimitTable(
        prefix="irrigation_",
        medium="irrigation",
        level="item_class",
        by_level=False,
        columns=(
            "standard",
            "table",
            "item_class",
            "analyte",
            "analyte_zh",
            "crop",
            "crop_zh",
            "limit_min",
            "limit",
            "unit",
            "direction",
            "condition",
            "note",
        ),
        pick=pick_irrigation,
    ),
    LimitTable(
        prefix="fishery_",
        medium="fishery",
        level="standard",
        by_level=False,
        columns=(
            "standard",
            "table",
            "analyte",
            "analyte_zh",
            "water",
            "condition",
            "limit_min",
            "limit",
            "unit",
            "direction",
            "note",
        ),
        pick=pick_fishery,
    ),
    LimitTable(
        prefix="surface_water_",
        medium="surface",
        level="basic",
        by_level=False,
        columns=(
            "standard",
            "table",
            "analyte",
            "analyte_zh",
            "class",
            "water_body",
            "limit_min",
            "limit",
            "unit",
            "direction",
            "note",
        ),
        pick=pick_surface,
    ),
    LimitTable(
        prefix="livestock_water_",
        medium="livestock",
        level="standard",
        by_level=False,
        columns=(
            "standard",
            "table",
            "analyte",
            "analyte_zh",
            "animal",
            "animal_zh",
            "limit_min",
            "limit",
            "unit",
            "direction",
            "note",
        ),
        pick=pick_livestock,
    ),
)


def _bounds(row: Row) -> list[tuple[Comparator, Decimal]]:
    """Return what breaks the row: max uses ``limit``, min ``limit_min``, range both."""
    wanted = {
        "max": [("limit", Comparator.ABOVE)],
        "min": [("limit_min", Comparator.BELOW)],
        "range": [("limit_min", Comparator.BELOW), ("limit", Comparator.ABOVE)],
    }
    direction = row.word("direction", tuple(wanted))
    bounds = []
    for column, comparator in wanted.get(direction or "", []):
        number = row.decimal(column) if column in row.cells else None
        if number is None:
            if not row.cells.get(column):
                row.fault(column, f"is needed for direction {direction}")
        else:
            bounds.append((comparator, number))
    if direction == "range" and len(bounds) > 1 and bounds[0][1] >= bounds[1][1]:
        row.fault("limit_min", f"{bounds[0][1]} is not below {bounds[1][1]}")
    return bounds


@functools.cache
def _by_analyte() -> dict[str, indicators.Indicator]:
    return {
        key: indicator
        for indicator in indicators.catalogue().values()
        for key in indicator.standards_analytes
    }


def spoken_name(indicator: indicators.Indicator) -> str:
    """Return an indicator's English name as it stands inside a sentence.

    >>> spoken_name(indicators.lookup("soil_cd")), spoken_name(indicators.lookup("water_ph"))
    ('soil cadmium (total)', 'pH')
    """
    name = indicator.en
    return name[0].lower() + name[1:] if name[1:2].islower() else name


def load_limits(
    table: LimitTable,
    file: str,
    directories: Directories,
    editions: Mapping[str, Edition],
    faults: list[str],
) -> list[Limit]:
    """Return the limits of one file of ``table``; note every fault."""
    rows = read_table(directories / file, table.columns, faults)
    limits: list[Limit] = []
    for row in rows:
        level: str | None = table.level
        if table.level not in SEVERITIES:
            level = row.word(table.level, tuple(SEVERITIES))
        edition = editions.get(row["standard"])
        if edition is None:
            row.fault("standard", f"{row['standard']!r} is not in editions.csv")
        elif file not in edition.files:
            row.fault("standard", f"editions.csv does not give {row['standard']!r} this file")
        key = f"{table.medium}:{row['analyte']}"
        indicator = _by_analyte().get(key)
        if indicator is None:
            row.fault("analyte", f"no indicator measures {key}")
        picked = table.pick(row, rows)
        bounds = _bounds(row)
        if level is None or edition is None or indicator is None:
            continue
        try:
            conversion = indicator.conversion_from(row["unit"])
        except units.UnitError as exc:
            row.fault("unit", str(exc))
            continue
        rule_id = f"{family(row['standard'])}:{row['analyte']}"
        words = joined(f"{row['table']} {spoken_name(indicator)}", picked.en)
        clause = spoken((row["table"].replace("Table ", "表"), row["analyte_zh"], picked.zh))
        version = row.version()
        limits += [
            Limit(
                indicator=indicator.code,
                standard=edition.standard,
                title_zh=edition.title_zh,
                clause=clause,
                clause_en=words,
                case_zh=picked.zh,
                case_en=picked.en,
                level=level,
                # Kept for most of the time, a bound must be passed: "above 5", not "at least 5".
                comparator=Comparator.AT_MOST if picked.duration else comparator,
                limit=number,
                unit=row["unit"],
                threshold=float(conversion.apply(Fraction(number))),
                where=where,
                band=band,
                severity=SEVERITIES[level],
                rule_id=f"{rule_id}:{level}" if table.by_level else rule_id,
                from_ms=edition.from_ms,
                to_ms=edition.to_ms,
                verified=row.verified,
                limit_version=version,
                place=row.place,
                source=row["source"],
                note=row.cells.get("note", ""),
                averaging=picked.averaging,
                duration=picked.duration,
                unless=picked.unless,
            )
            for comparator, number in bounds
            for where, band in picked.cases
        ]
    return limits


def group_rules(
    limits: Sequence[Limit], faults: list[str]
) -> dict[str, tuple[tuple[Limit, ...], ...]]:
    """Group limits into rules; rows of one rule that a single sample would pick together are faults."""
    grouped: dict[tuple[str, str, Comparator], list[Limit]] = {}
    for limit in limits:
        grouped.setdefault((limit.indicator, limit.rule_id, limit.comparator), []).append(limit)
    told: set[tuple[str, str]] = set()
    for rows in grouped.values():
        for first, second in itertools.combinations(rows, 2):
            pair = (first.standard, second.standard)
            if not first.overlaps(second) or pair in told:
                continue
            if first.standard != second.standard:
                # Two editions in force at once: said once, not for every row of them.
                told.add(pair)
            same = first.where == second.where and first.band == second.band
            same = same and first.standard == second.standard
            faults.append(
                f"{second.place}: {'duplicate of' if same else 'overlaps'} {first.place}"
                f" ({second.standard} {second.clause})"
            )
    rules: dict[str, list[tuple[Limit, ...]]] = {}
    for (indicator, _, _), rows in grouped.items():
        rules.setdefault(indicator, []).append(tuple(rows))
    return {indicator: tuple(parts) for indicator, parts in rules.items()}
