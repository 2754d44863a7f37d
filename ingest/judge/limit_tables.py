"""The tables of numeric limits on readings, as checked ``Limit`` rows grouped into rules."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers import indicators, units
from drivers.records import Severity
from ingest.judge.limits import KEY_VALUES, Band, Comparator, Limit
from ingest.judge.tables import Row, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from ingest.judge.editions import Edition

SEVERITIES = {
    "intervention": Severity.CRITICAL,  # specs/alerting.md §8: intervention value is critical
    "screening": Severity.MAJOR,
    "basic": Severity.MAJOR,
    "optional": Severity.WARNING,  # items that the local authority may choose to control
}
COMPANIONS = {"ph": "soil_ph"}
"""Condition -> indicator of the companion reading that gives it."""

CLEARABLE = frozenset({"water_ph", "water_ec", "water_do", "water_turbidity", "water_temperature"})
"""Process parameters: only their alerts clear when the value returns (specs/alerting.md §8)."""


@dataclass(frozen=True, slots=True)
class Picked:
    """What one row of a limit table asks for: words per condition, pH band, and its words for the clause."""

    where: Mapping[str, frozenset[str]]
    band: Band | None
    words: str


@dataclass(frozen=True, slots=True)
class LimitTable:
    """How one CSV file of numeric limits is read.

    ``medium`` is the prefix of its analytes in the indicator catalogue, ``family`` begins its rule ids,
    ``level_column`` names the column with the level, ``by_level`` puts the level into the rule id.
    """

    file: str
    medium: str
    family: str
    level_column: str
    by_level: bool
    columns: tuple[str, ...]
    pick: Callable[[Row, Sequence[Row]], Picked]


_LAND_ZH = {"paddy": "水田", "orchard": "果园", "other": "其他"}


def _pick_soil(row: Row, rows: Sequence[Row]) -> Picked:
    """GB 15618: 其他 is every land use that the same item does not name (orchard counts for copper only)."""
    where: dict[str, frozenset[str]] = {}
    land_use = row.word("land_use", (*KEY_VALUES["land_use"], "any"))
    if land_use == "other":
        named = {
            r["land_use"]
            for r in rows
            if (r["level"], r["analyte"]) == (row["level"], row["analyte"])
        }
        where["land_use"] = frozenset(KEY_VALUES["land_use"]) - (named - {"other"})
    elif land_use in _LAND_ZH:
        where["land_use"] = frozenset({land_use})
    low, high = row.decimal("ph_min_exclusive"), row.decimal("ph_max_inclusive")
    band = None
    if low is not None or high is not None:
        band = Band(None if low is None else float(low), None if high is None else float(high))
        if low is not None and high is not None and low >= high:
            row.fault("ph_min_exclusive", f"the band {band} is empty")
    words = (_LAND_ZH.get(row["land_use"], ""), str(band or ""))
    return Picked(where, band, " ".join(filter(None, words)))


_CONDITION_ZH = {
    "non_saline_soil": ("soil_salinity", "非盐碱土地区"),
    "saline_alkali_soil": ("soil_salinity", "盐碱土地区"),
    "general_area": ("fluoride_area", "一般地区"),
    "high_fluoride_area": ("fluoride_area", "高氟区"),
    "boron_sensitive_crop": ("boron_tolerance", "对硼敏感作物"),
    "boron_tolerant_crop": ("boron_tolerance", "对硼耐受性较强的作物"),
    "boron_strongly_tolerant_crop": ("boron_tolerance", "对硼耐受性强的作物"),
}


def _pick_irrigation(row: Row, _rows: Sequence[Row]) -> Picked:
    """GB 5084: the crop picks the column; salt, fluoride and boron depend on the place or the crop's tolerance."""
    where = {"water_use": frozenset({"irrigation"})}
    words = []
    if row.word("crop", (*KEY_VALUES["crop"], "all")) != "all":
        where["crop"] = frozenset({row["crop"]})
        words.append(row["crop_zh"])
    if row["condition"] and row.word("condition", tuple(_CONDITION_ZH)):
        key, condition_zh = _CONDITION_ZH[row["condition"]]
        where[key] = frozenset({row["condition"]})
        words.append(condition_zh)
    return Picked(where, None, " ".join(words))


LIMIT_TABLES = (
    LimitTable(
        file="soil_gb15618_2018.csv",
        medium="soil",
        family="gb15618",
        level_column="level",
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
        pick=_pick_soil,
    ),
    LimitTable(
        file="irrigation_gb5084_2021.csv",
        medium="irrigation",
        family="gb5084",
        level_column="item_class",
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
        pick=_pick_irrigation,
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
            row.fault(column, f"is needed for direction {direction}")
        else:
            bounds.append((comparator, number))
    return bounds


def _by_analyte() -> dict[str, indicators.Indicator]:
    return {
        key: indicator
        for indicator in indicators.catalogue().values()
        for key in indicator.standards_analytes
    }


def load_limits(
    table: LimitTable, directory: Path, editions: Mapping[str, Edition], faults: list[str]
) -> list[Limit]:
    """Return the limits of ``table``; note every fault."""
    rows = read_table(directory / table.file, table.columns, faults)
    by_analyte = _by_analyte()
    limits: list[Limit] = []
    for row in rows:
        level = row.word(table.level_column, tuple(SEVERITIES))
        edition = editions.get(row["standard"])
        if edition is None:
            row.fault("standard", f"{row['standard']!r} is not in editions.csv")
        indicator = by_analyte.get(f"{table.medium}:{row['analyte']}")
        if indicator is None:
            row.fault("analyte", f"no indicator measures {table.medium}:{row['analyte']}")
        picked = table.pick(row, rows)
        bounds = _bounds(row)
        if level is None or edition is None or indicator is None:
            continue
        try:
            conversion = indicator.conversion_from(row["unit"])
        except units.UnitError as exc:
            row.fault("unit", str(exc))
            continue
        rule_id = f"{table.family}:{row['analyte']}" + (f":{level}" if table.by_level else "")
        clause = f"{row['table'].replace('Table ', '表')} {row['analyte_zh']} {picked.words}"
        limits += [
            Limit(
                indicator=indicator.code,
                standard=edition.standard,
                title_zh=edition.title_zh,
                clause=clause.strip(),
                level=level,
                comparator=comparator,
                limit=number,
                unit=row["unit"],
                threshold=float(conversion.apply(Fraction(number))),
                where=picked.where,
                band=picked.band,
                severity=SEVERITIES[level],
                rule_id=rule_id,
                from_ms=edition.from_ms,
                to_ms=edition.to_ms,
                verified=row.verified,
                limit_version=row.version(),
                place=row.place,
            )
            for comparator, number in bounds
        ]
    return limits


def group_rules(
    limits: Sequence[Limit], faults: list[str]
) -> dict[str, tuple[tuple[Limit, ...], ...]]:
    """Group limits into rules; rows of one rule that a single sample would pick together are faults."""
    grouped: dict[tuple[str, str, Comparator], list[Limit]] = {}
    for limit in limits:
        grouped.setdefault((limit.indicator, limit.rule_id, limit.comparator), []).append(limit)
    for rows in grouped.values():
        for i, j in itertools.combinations(range(len(rows)), 2):
            if rows[i].overlaps(rows[j]):
                same = rows[i].where == rows[j].where and rows[i].band == rows[j].band
                faults.append(
                    f"{rows[j].place}: {'duplicate of' if same else 'overlaps'} {rows[i].place}"
                    f" ({rows[j].clause})"
                )
    rules: dict[str, list[tuple[Limit, ...]]] = {}
    for (indicator, _, _), rows in grouped.items():
        rules.setdefault(indicator, []).append(tuple(rows))
    return {indicator: tuple(parts) for indicator, parts in rules.items()}
