"""Every row of every table of the catalogue as one kind of thing, to list, search and compare."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from drivers import indicators
from ingest.judge.catalogue.limit_tables import LIMIT_TABLES
from ingest.judge.catalogue.limits import FOREVER_MS, Comparator
from ingest.judge.catalogue.method_rules import RuleKind
from ingest.judge.catalogue.names import OP_CARBAMATE, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.cut_offs import CutOff
    from ingest.judge.catalogue.limits import Limit
    from ingest.judge.catalogue.method_rules import MethodRule
    from ingest.judge.catalogue.notices import BanRow
    from ingest.judge.catalogue.residues import ResidueLimit

Medium = Literal[
    "soil", "irrigation", "fishery", "surface", "livestock", "product", "method", "notice"
]
Kind = Literal["numeric", "presence", "never_alone"]

MEDIA: tuple[Medium, ...] = (
    "soil",
    "irrigation",
    "fishery",
    "surface",
    "livestock",
    "product",
    "method",
    "notice",
)
OUTSIDE = "outside"
"""The comparator of a row with two bounds; its limit is written ``6.5–8.5``."""

_PLACE = re.compile(r"(.*):([0-9]+)")
_YEAR = re.compile(r"[-—–][0-9]{4}$")
_KEPT = 8  # catalogues whose rows are remembered; a server has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a table; in force for ``from_ms`` ≤ t < ``to_ms`` (UTC ms).

    ``subject`` is an indicator or a substance, ``product_zh`` what is examined, blank for soil and water.
    ``comparator`` is what breaks the row: one of ``limits.Comparator``, ``outside``, or blank for a row that breaks
    nothing. ``limit`` is as printed and blank where any valid detection counts. ``kind`` tells a limit to compare from
    a ban and from a row that only says what a method sees, which never makes a finding.
    """

    standard: str
    title_zh: str
    table_clause: str
    level: str
    medium: Medium
    subject: str
    subject_zh: str
    subject_en: str
    product_zh: str = ""
    product_en: str = ""
    comparator: str
    limit: str
    unit: str
    conditions_zh: str = ""
    conditions_en: str = ""
    from_ms: int
    to_ms: int = FOREVER_MS
    verified: bool
    temporary: bool = False
    source: str
    place: str
    limit_version: str
    kind: Kind
    folded: str = field(init=False, repr=False, compare=False)
    """What a search looks in."""

    def __post_init__(self) -> None:
        said = (
            self.standard,
            self.title_zh,
            self.table_clause,
            self.subject,
            self.subject_zh,
            self.subject_en,
            self.product_zh,
            self.product_en,
            self.conditions_zh,
            self.conditions_en,
        )
        object.__setattr__(self, "folded", "\n".join(map(fold, said)))

    def in_force(self, at_ms: int | None) -> bool:
        """Tell whether the row counts for a sample of that time; None asks for no time."""
        return at_ms is None or self.from_ms <= at_ms < self.to_ms


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what a search found, and how much that is in all."""

    total: int
    entries: list[Entry]


_known: dict[str, dict[str, Entry]] = {}


def by_place(catalogue: Catalogue) -> Mapping[str, Entry]:
    """Return the rows by file and line, in the order of ``entries``."""
    held = _known.get(catalogue.version)
    if held is None:
        if len(_known) >= _KEPT:
            _known.clear()
        held = _known[catalogue.version] = {entry.place: entry for entry in _build(catalogue)}
    return held


def entries(catalogue: Catalogue) -> list[Entry]:
    """Return one entry for each row of each table: by medium, file and line."""
    return list(by_place(catalogue).values())


def matching(
    rows: Iterable[Entry],
    text: str = "",
    *,
    medium: str = "",
    standard: str = "",
    subject: str = "",
    product: str = "",
    at_ms: int | None = None,
) -> list[Entry]:
    """Return those ``rows`` in which every word of ``text`` stands, in their order; a blank filter lets all through.

    Words are looked for as written in Chinese or English; blanks, dashes, width and case do not matter. ``standard``
    may leave the year out, ``subject`` is a whole code, ``product`` a part of a name.
    """
    words = [folded for word in text.split() if (folded := fold(word))]
    asked, part = fold(standard), fold(product)
    return [
        row
        for row in rows
        if all(word in row.folded for word in words)
        and (not medium or row.medium == medium)
        and (not asked or asked in (fold(row.standard), fold(_YEAR.sub("", row.standard))))
        and (not subject or row.subject == subject)
        and (not part or part in fold(row.product_zh) or part in fold(row.product_en))
        and row.in_force(at_ms)
    ]


def search(
    rows: Iterable[Entry],
    text: str = "",
    *,
    medium: str = "",
    standard: str = "",
    subject: str = "",
    product: str = "",
    at_ms: int | None = None,
    offset: int = 0,
    limit: int = 50,
) -> Found:
    """Return a page of ``matching``."""
    found = matching(
        rows,
        text,
        medium=medium,
        standard=standard,
        subject=subject,
        product=product,
        at_ms=at_ms,
    )
    return Found(len(found), found[offset : offset + limit])


# ---- from the catalogue's own objects


def _build(catalogue: Catalogue) -> list[Entry]:
    rows: dict[str, list[Limit]] = {}
    for limit in catalogue.limits():
        rows.setdefault(limit.place, []).append(limit)
    found = [_of_limits(limits) for limits in rows.values()]
    found += map(_of_residue, catalogue.residues.limits())
    found += map(_of_cut_off, catalogue.cut_offs)
    found += map(_of_method_rule, catalogue.method_rules.rows)
    for bans in catalogue.bans.values():
        found += _of_bans(bans)
    return sorted(found, key=_order)


def _order(entry: Entry) -> tuple[int, str, int]:
    match = _PLACE.fullmatch(entry.place)
    file, line = (match[1], int(match[2])) if match else (entry.place, 0)
    return MEDIA.index(entry.medium), file, line


def _of_limits(limits: Sequence[Limit]) -> Entry:
    """Return the entry of the limits that one row became: its two bounds, and the cases that it is for."""
    first = limits[0]
    indicator = indicators.lookup(first.indicator)
    bounds = {limit.comparator: limit.limit for limit in limits}
    comparator, limit = first.comparator.value, str(first.limit)
    if len(bounds) > 1:
        comparator = OUTSIDE
        limit = f"{bounds[Comparator.BELOW]}–{bounds[Comparator.ABOVE]}"
    plots = _plots(limits)
    return Entry(
        standard=first.standard,
        title_zh=first.title_zh,
        table_clause=first.clause,
        level=first.level,
        medium=_medium(first, indicator),
        subject=first.indicator,
        subject_zh=indicator.zh,
        subject_en=indicator.en,
        comparator=comparator,
        limit=limit,
        unit=first.unit,
        conditions_zh=" ".join(filter(None, (first.case_zh, plots and f"地块 {plots}"))),
        conditions_en=", ".join(filter(None, (first.case_en, plots and f"plot {plots}"))),
        from_ms=first.from_ms,
        to_ms=first.to_ms,
        verified=first.verified,
        source=first.source,
        place=first.place,
        limit_version=first.limit_version,
        kind="numeric",
    )


def _plots(limits: Sequence[Limit]) -> str:
    """Return the plots that a site's own row is for."""
    named = {plot for limit in limits for plot in limit.where.get("plot", ())}
    return ", ".join(sorted(named))


def _medium(limit: Limit, indicator: indicators.Indicator) -> Medium:
    for table in LIMIT_TABLES:
        if limit.place.startswith(table.prefix):
            return _MEDIUM_OF_TABLE[table.medium]
    # A site's own limit; water of no named use is water in the open.
    for use in limit.where.get("water_use", ()):
        if use in _MEDIUM_OF_TABLE:
            return _MEDIUM_OF_TABLE[use]
    return "surface" if indicator.medium == "water" else "soil"


_MEDIUM_OF_TABLE: dict[str, Medium] = {
    "soil": "soil",
    "irrigation": "irrigation",
    "fishery": "fishery",
    "surface": "surface",
    "livestock": "livestock",
}


def _of_residue(row: ResidueLimit) -> Entry:
    said = [
        words
        for holds, words in (
            (row.fat_basis, ("以脂肪中的残留量计", "residue in the fat")),
            (row.emrl, ("再残留限量", "extraneous limit")),
            (row.temporary, ("临时限量", "temporary limit")),
        )
        if holds
    ]
    return Entry(
        standard=row.standard,
        title_zh=row.title_zh,
        table_clause=row.clause,
        level="residue",
        medium="product",
        subject=row.substance,
        subject_zh=row.substance_zh,
        subject_en=row.substance,
        product_zh=row.subject_zh,
        product_en=row.subject_en,
        comparator=Comparator.DETECTED.value if row.zero_tolerance else Comparator.ABOVE.value,
        limit="" if row.zero_tolerance else str(row.limit),
        unit="" if row.zero_tolerance else row.unit,
        conditions_zh="，".join(zh for zh, _ in said),
        conditions_en=", ".join(en for _, en in said),
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        verified=row.verified,
        temporary=row.temporary,
        source=row.source,
        place=row.place,
        limit_version=row.limit_version,
        kind="presence" if row.zero_tolerance else "numeric",
    )


def _of_cut_off(row: CutOff) -> Entry:
    return Entry(
        standard=row.standard,
        title_zh=row.title_zh,
        table_clause=row.clause,
        level="cut_off",
        medium="method",
        subject=OP_CARBAMATE,
        subject_zh="有机磷和氨基甲酸酯类农药",
        subject_en="organophosphates and carbamates",
        product_zh=row.matrix_zh,
        product_en=row.matrix_en,
        comparator=Comparator.AT_LEAST.value,
        limit=str(row.limit),
        unit=row.unit,
        conditions_zh="抑制率",
        conditions_en="inhibition",
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        verified=row.verified,
        source=row.source,
        place=row.place,
        limit_version=row.limit_version,
        kind="numeric",
    )


_METHOD_WORDS: dict[RuleKind, tuple[str, Kind, str]] = {
    RuleKind.CARD: ("screen", "presence", Comparator.DETECTED.value),
    RuleKind.PRESENCE: ("screen", "presence", Comparator.DETECTED.value),
    RuleKind.DECISION: ("decision", "numeric", Comparator.ABOVE.value),
    RuleKind.DETECTION_LIMIT: ("detection_limit", "never_alone", ""),
}


def _of_method_rule(row: MethodRule) -> Entry:
    level, kind, comparator = _METHOD_WORDS[row.kind]
    compared = kind != "presence"
    sees = "" if row.limit is None else f"{row.limit} {row.unit}"
    zh = en = ""
    if not compared and sees:
        zh, en = f"方法检出限 {sees}", f"detection limit {sees}"
    elif kind == "never_alone":
        zh, en = "方法检出限，不作判定", "detection limit of the method, no decision limit"
    return Entry(
        standard=row.standard,
        title_zh=row.title_zh,
        table_clause=f"{row.analyte_zh} {row.method}",
        level=level,
        medium="method",
        subject=row.substance,
        subject_zh=row.analyte_zh,
        subject_en=row.substance,
        product_zh=row.matrix_zh,
        product_en=row.matrix,
        comparator=comparator,
        limit="" if not compared or row.limit is None else str(row.limit),
        unit=row.unit if compared else "",
        conditions_zh=zh,
        conditions_en=en,
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        verified=row.verified,
        source=row.source,
        place=row.place,
        limit_version=row.limit_version,
        kind=kind,
    )


def _of_bans(rows: Sequence[BanRow]) -> list[Entry]:
    """Return the notices on one substance, oldest first; a later one of its category takes an earlier one's place."""
    return [
        Entry(
            standard=row.notice,
            title_zh=row.notice_zh,
            table_clause=f"{row.substance_zh} {row.scope_zh}",
            level=row.status,
            medium="notice",
            subject=row.substance,
            subject_zh=row.substance_zh,
            subject_en=row.substance,
            product_zh=row.scope_zh,
            product_en=row.scope,
            comparator=Comparator.DETECTED.value,
            limit="",
            unit="",
            from_ms=row.from_ms,
            to_ms=min(
                (one.from_ms for one in rows[at + 1 :] if one.category == row.category),
                default=FOREVER_MS,
            ),
            verified=row.verified,
            source=row.source,
            place=row.place,
            limit_version=row.limit_version,
            kind="presence",
        )
        for at, row in enumerate(rows)
    ]
