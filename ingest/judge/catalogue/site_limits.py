"""A site's own limits (``site_limits*.csv``): they stand beside the national ones and take nothing from them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers import indicators, units
from ingest.judge.catalogue.editions import family
from ingest.judge.catalogue.limit_tables import SEVERITIES
from ingest.judge.catalogue.limits import FOREVER_MS, KEY_VALUES, PH, PLOT, Band, Comparator, Limit
from ingest.judge.catalogue.pickers import WEEKLY_MEAN, Where
from ingest.judge.catalogue.tables import Row, day_end_ms, day_start_ms, decimal_of, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.judge.catalogue.editions import Edition
    from ingest.judge.catalogue.tables import Directories

SITE_PREFIX = "site_limits"
SITE_COLUMNS = (
    "site_standard",
    "clause_zh",
    "clause_en",
    "level",
    "indicator",
    "conditions",
    "plot",
    "comparator",
    "limit",
    "unit",
    "averaging",
    "effective_from",
    "effective_to",
    "approved_by",
    "note",
)
_RULE = "site:"
_LONGEST_RULE = 120
_CONDITION = re.compile(r"([a-z_]+)\s*(>|<=|=)\s*(\S.*)")
_WEEKLY = {"water_temperature_rise", "water_temperature_drop"}
"""Indicators whose values are means of a week."""


def load_site_limits(
    file: str, directories: Directories, editions: Mapping[str, Edition], faults: list[str]
) -> list[Limit]:
    """Return the limits of one file of site limits, one for each plot that a row names; note every fault."""
    limits: list[Limit] = []
    for row in read_table(directories / file, SITE_COLUMNS, faults):
        limits += _site_limits(row, editions)
    return limits


def _site_limits(row: Row, editions: Mapping[str, Edition]) -> list[Limit]:
    for column in ("site_standard", "clause_zh", "clause_en", "source"):
        if not row[column]:
            row.fault(column, "is needed")
    if row["site_standard"] in editions:
        row.fault("site_standard", f"{row['site_standard']!r} is a national standard's name")
    level = row.word("level", tuple(SEVERITIES))
    comparator = row.word("comparator", (Comparator.ABOVE.value, Comparator.BELOW.value))
    number = row.decimal("limit")
    if number is None and not row["limit"]:
        row.fault("limit", "is needed")
    start, end = row.start("effective_from"), row.date("effective_to")
    if start is not None and end is not None and end < start:
        row.fault("effective_to", f"{end} is before {start}")
    where, band = _conditions(row)
    indicator, conversion = _measured(row)
    if row.word("averaging", ("", WEEKLY_MEAN)) and row["indicator"] not in _WEEKLY:
        row.fault("averaging", f"no value of {row['indicator']} is a {row['averaging']}")
    if None in {level, comparator, number, start, conversion} or indicator is None:
        return []
    assert level is not None and comparator is not None and number is not None  # noqa: S101, PT018
    assert start is not None and conversion is not None  # noqa: S101, PT018
    limits = []
    for plot in _plots(row):
        rule_id = f"{_RULE}{family(row['site_standard'])}:{indicator.code}:{level}"
        rule_id += f"@{plot}" if plot else ""
        if len(rule_id) > _LONGEST_RULE:
            row.fault("site_standard", f"the name of the rule, {rule_id!r}, is too long")
        approved = f"approved by {row['approved_by']}" if row["approved_by"] else ""
        limits.append(
            Limit(
                indicator=indicator.code,
                standard=row["site_standard"],
                title_zh=row["site_standard"],
                clause=row["clause_zh"],
                clause_en=row["clause_en"],
                level=level,
                comparator=Comparator(comparator),
                limit=number,
                unit=row["unit"],
                threshold=float(conversion.apply(Fraction(number))),
                where=where | ({PLOT: frozenset({plot})} if plot else {}),
                band=band,
                severity=SEVERITIES[level],
                rule_id=rule_id,
                from_ms=day_start_ms(start),
                to_ms=FOREVER_MS if end is None else day_end_ms(end),
                verified=row.verified,
                limit_version=row.version(),
                place=row.place,
                source=row["source"],
                note="; ".join(filter(None, (row["note"], approved))),
                averaging=row["averaging"],
                approved_by=row["approved_by"],
            )
        )
    return limits


def _measured(row: Row) -> tuple[indicators.Indicator | None, units.Conversion | None]:
    try:
        indicator = indicators.lookup(row["indicator"])
    except indicators.UnknownIndicatorError as exc:
        row.fault("indicator", str(exc))
        return None, None
    try:
        return indicator, indicator.conversion_from(row["unit"])
    except units.UnitError as exc:
        row.fault("unit", str(exc))
        return indicator, None


def _plots(row: Row) -> list[str]:
    """Return the plots that the row is for, one blank when for all."""
    plots = [plot.strip() for plot in row["plot"].split(";") if plot.strip()]
    for plot in {plot for plot in plots if plots.count(plot) > 1}:
        row.fault("plot", f"{plot!r} is named twice")
    return plots or [""]


def _conditions(row: Row) -> tuple[Where, Band | None]:
    """Read ``key=word`` or ``key=word|word``, ``ph>5.5`` and ``ph<=6.5``, with ``;`` between them."""
    where: Where = {}
    low = high = None
    for part in filter(None, map(str.strip, row["conditions"].split(";"))):
        match = _CONDITION.fullmatch(part)
        if match is None:
            row.fault("conditions", f"{part!r} is not key=value, ph>x or ph<=x")
            continue
        key, sign, value = match[1], match[2], match[3]
        if key == PH and sign != "=":
            number = decimal_of(value)
            if number is None:
                row.fault("conditions", f"{value!r} is not a plain decimal with a point")
            elif (low if sign == ">" else high) is not None:
                row.fault("conditions", f"{key}{sign} stands twice")
            elif sign == ">":
                low = float(number)
            else:
                high = float(number)
        elif key not in KEY_VALUES or sign != "=":
            row.fault("conditions", f"{part!r}: known: ph>x, ph<=x, {'=, '.join(KEY_VALUES)}=")
        elif key in where:
            row.fault("conditions", f"{key} stands twice")
        else:
            words = frozenset(map(str.strip, value.split("|")))
            for word in sorted(words - {*KEY_VALUES[key]}):
                row.fault(
                    "conditions", f"{key}: {word!r} is not one of {', '.join(KEY_VALUES[key])}"
                )
            where[key] = words
    if low is not None and high is not None and low >= high:
        row.fault("conditions", f"the band {Band(low, high)} is empty")
    return where, Band(low, high) if low is not None or high is not None else None


def check_site_limits(limits: Sequence[Limit], faults: list[str]) -> None:
    """Note site limits that are looser than a national row beside them and that nobody approved by name.

    Beside it stand the national rows for the same indicator and level, of any level when there is none of the same,
    that some sample would pick together with it.
    """
    national: dict[str, list[Limit]] = {}
    for limit in limits:
        if not is_site_limit(limit):
            national.setdefault(limit.indicator, []).append(limit)
    for site in filter(is_site_limit, limits):
        if site.approved_by:
            continue
        beside = [
            row
            for row in national.get(site.indicator, ())
            if row.comparator.from_below == site.comparator.from_below
            and row.averaging == site.averaging
            and row.duration is None
            and row.overlaps(site)
        ]
        beside = [row for row in beside if row.level == site.level] or beside
        looser = [row for row in beside if _is_looser(site, row)]
        if looser:
            row = looser[0]
            faults.append(
                f"{site.place}: limit: {site.comparator} {site.limit} {site.unit} is looser than"
                f" {row.standard} {row.clause} ({row.limit} {row.unit}); approved_by must name who answers for it"
            )


def is_site_limit(limit: Limit) -> bool:
    """Tell whether a limit is a site's own."""
    return limit.rule_id.startswith(_RULE)


def _is_looser(site: Limit, national: Limit) -> bool:
    if site.comparator.from_below:
        return site.threshold < national.threshold
    return site.threshold > national.threshold
