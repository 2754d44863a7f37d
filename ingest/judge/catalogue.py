"""The limit catalogue: the tables under ``standards/`` as checked rows, nothing loaded by half.

A further standard of numeric limits is a CSV file and one ``LimitTable`` below: which medium its analytes belong to,
and which conditions each row sets.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from drivers import indicators, units
from drivers.records import Severity
from ingest.judge.errors import CatalogueError
from ingest.judge.limits import FOREVER_MS, KEY_VALUES, Band, Comparator, Limit
from ingest.judge.names import Names, load_names, plain
from ingest.judge.tables import Row, day_end_ms, day_start_ms, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

STANDARDS = Path(__file__).with_name("standards")

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

_EDITION_COLUMNS = (
    "standard",
    "title_zh",
    "effective_from",
    "effective_to",
    "replaced_by",
    "files",
)


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of a standard and its period of force (UTC ms, half open)."""

    standard: str
    title_zh: str
    from_ms: int
    to_ms: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The inhibition (%) from which a test is suspected positive, by method standard."""

    standard: str
    title_zh: str
    clause: str
    limit: Decimal
    unit: str
    from_ms: int
    to_ms: int
    verified: bool
    limit_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRow:
    """One notice on one substance: ``banned`` or ``restricted`` to a scope, from ``from_ms`` on.

    ``covers_all``: banned whatever the crop or animal, so that any detection is a violation.
    """

    substance: str
    substance_zh: str
    category: str
    status: str
    covers_all: bool
    scope: str
    scope_zh: str
    notice: str
    notice_zh: str
    from_ms: int
    verified: bool
    limit_version: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the judge knows of standards; immutable.

    ``rules`` maps an indicator to its rules; a rule is the rows of one rule id and comparator, of which at most one
    applies.
    """

    version: str
    editions: Mapping[str, Edition]
    rules: Mapping[str, tuple[tuple[Limit, ...], ...]]
    cut_offs: tuple[CutOff, ...]
    bans: Mapping[str, tuple[BanRow, ...]]
    names: Names

    def limits(self) -> Iterator[Limit]:
        """Yield every numeric limit on a reading."""
        return itertools.chain.from_iterable(itertools.chain.from_iterable(self.rules.values()))


# ---------------------------------------------------------------- the tables of limits on readings

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


def _load_limits(
    table: LimitTable, directory: Path, editions: Mapping[str, Edition], faults: list[str]
) -> list[Limit]:
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


def _rules(limits: Sequence[Limit], faults: list[str]) -> dict[str, tuple[tuple[Limit, ...], ...]]:
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


# ---------------------------------------------------------------- editions, cut-offs, notices


def _load_editions(directory: Path, faults: list[str]) -> dict[str, Edition]:
    editions: dict[str, Edition] = {}
    path = directory / "editions.csv"
    for row in read_table(path, _EDITION_COLUMNS, faults, with_source=False):
        start, end = row.date("effective_from"), row.date("effective_to")
        if start is None:
            if not row["effective_from"]:
                row.fault("effective_from", "is needed")
            continue
        if end is not None and end < start:
            row.fault("effective_to", f"{end} is before {start}")
        if row["standard"] in editions:
            row.fault("standard", f"duplicate: {row['standard']!r} stands above")
        editions[row["standard"]] = Edition(
            row["standard"],
            row["title_zh"],
            day_start_ms(start),
            FOREVER_MS if end is None else day_end_ms(end),
        )
    return editions


_RAPID_COLUMNS = (
    "method",
    "standard",
    "analyte",
    "analyte_zh",
    "matrix",
    "matrix_zh",
    "result_kind",
    "positive_rule",
    "limit",
    "unit",
    "zero_tolerance",
)


def _load_cut_offs(rows: Sequence[Row], editions: Mapping[str, Edition]) -> list[CutOff]:
    cut_offs: list[CutOff] = []
    for row in rows:
        row.word("zero_tolerance", ("true", "false"))
        row.word("result_kind", ("inhibition_percent", "qualitative", "quantitative"))
        limit = row.decimal("limit")
        if row["unit"]:
            try:
                units.canonical(row["unit"])
            except units.UnitError as exc:
                row.fault("unit", str(exc))
        elif limit is not None:
            row.fault("unit", "is needed beside a limit")
        # A row "(detection limit)" carries what the method can see, not a decision limit.
        if row["result_kind"] != "inhibition_percent" or "(detection limit)" in row["method"]:
            continue
        edition = editions.get(row["standard"])
        if edition is None:
            row.fault("standard", f"{row['standard']!r} is not in editions.csv")
        elif limit is None:
            row.fault("limit", "a cut-off is needed")
        elif row["unit"] != "%":
            row.fault("unit", f"a cut-off is in %, not {row['unit']!r}")
        elif any(c.standard == row["standard"] for c in cut_offs):
            row.fault("standard", f"duplicate: {row['standard']!r} has a cut-off above")
        else:
            cut_offs.append(
                CutOff(
                    standard=edition.standard,
                    title_zh=edition.title_zh,
                    clause=f"{row['analyte_zh']} 抑制率≥{limit}%",
                    limit=limit,
                    unit="%",
                    from_ms=edition.from_ms,
                    to_ms=edition.to_ms,
                    verified=row.verified,
                    limit_version=row.version(),
                )
            )
    return cut_offs


_BAN_COLUMNS = (
    "substance",
    "substance_zh",
    "cas",
    "category",
    "status",
    "scope",
    "notice",
    "effective",
)


_NOTICE = re.compile(r"(MARA|MOA|MEE and others) notice (?:([0-9]{4}) No\. )?([0-9]+)")
_ISSUER_ZH = {"MARA": "农业农村部公告", "MOA": "农业部公告", "MEE and others": "生态环境部等公告"}


def _notice_zh(notice: str) -> str:
    """Return a notice's Chinese title.

    >>> _notice_zh("MARA notice 736"), _notice_zh("MEE and others notice 2019 No. 10")
    ('农业农村部公告第736号', '生态环境部等公告2019年第10号')
    """
    match = _NOTICE.fullmatch(notice)
    if match is None:
        return notice
    year = f"{match[2]}年" if match[2] else ""
    return f"{_ISSUER_ZH[match[1]]}{year}第{match[3]}号"


def _load_bans(
    directory: Path, rows: Sequence[Row], faults: list[str]
) -> dict[str, tuple[BanRow, ...]]:
    scope_rows = read_table(directory / "ban_scopes.csv", ("scope", "scope_zh", "covers"), faults)
    scopes = {
        row["scope"]: (row["scope_zh"], row.word("covers", ("all", "part")) == "all")
        for row in scope_rows
    }
    bans: dict[str, list[BanRow]] = {}
    places: dict[tuple[str, str, int], str] = {}
    for row in rows:
        category = row.word("category", ("pesticide", "veterinary"))
        status = row.word("status", ("banned", "restricted"))
        effective = row.date("effective")
        if effective is None and not row["effective"]:
            row.fault("effective", "is needed")
        scope = scopes.get(row["scope"])
        if scope is None:
            row.fault("scope", f"{row['scope']!r} is not in ban_scopes.csv")
        if category is None or status is None or effective is None or scope is None:
            continue
        start = day_start_ms(effective)
        substance = plain(row["substance"])
        first = places.setdefault((substance, category, start), row.place)
        if first != row.place:
            faults.append(f"{row.place}: duplicate of {first} ({substance}, {effective})")
            continue
        bans.setdefault(substance, []).append(
            BanRow(
                substance=substance,
                substance_zh=row["substance_zh"],
                category=category,
                status=status,
                covers_all=status == "banned" and scope[1],
                scope=row["scope"],
                scope_zh=scope[0],
                notice=row["notice"],
                notice_zh=_notice_zh(row["notice"]),
                from_ms=start,
                verified=row.verified,
                limit_version=row.version(),
            )
        )
    return {name: tuple(sorted(rows, key=_start)) for name, rows in bans.items()}


def _start(row: BanRow) -> int:
    return row.from_ms


# ---------------------------------------------------------------- all of it


def load(directory: Path = STANDARDS) -> Catalogue:
    """Read and check every table in ``directory``; raise CatalogueError listing all faults."""
    faults: list[str] = []
    editions = _load_editions(directory, faults)
    limits: list[Limit] = []
    for table in LIMIT_TABLES:
        limits += _load_limits(table, directory, editions, faults)
    rules = _rules(limits, faults)
    rapid = read_table(directory / "rapid_tests.csv", _RAPID_COLUMNS, faults)
    cut_offs = _load_cut_offs(rapid, editions)
    notices = read_table(directory / "banned_substances.csv", _BAN_COLUMNS, faults)
    bans = _load_bans(directory, notices, faults)
    names = load_names(directory, notices, rapid, faults)
    if faults:
        raise CatalogueError(faults)
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.csv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return Catalogue(digest.hexdigest()[:12], editions, rules, tuple(cut_offs), bans, names)


@functools.cache
def standard_catalogue() -> Catalogue:
    """Return the catalogue that ships with the project; read at the first call."""
    return load()
