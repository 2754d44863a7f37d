"""What a test method says besides its cut-off: presence, decision limits, detection limits (``rapid_tests.csv``)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.catalogue.scopes import ProductScope, check_scope, read_scope
from ingest.judge.catalogue.tables import day_start_ms, read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from decimal import Decimal

    from ingest.judge.catalogue.editions import Edition
    from ingest.judge.catalogue.names import Names
    from ingest.judge.catalogue.tables import Directories, Row

_MATRICES = "test_matrices.csv"
_MATRIX_COLUMNS = ("matrix", "matrix_zh", "inside", "open", "outside")
_DETECTION_LIMIT = "(detection limit)"
_CARD = "test card"
_KJ = re.compile(r"KJ ([0-9]{4})[0-9]+")


class RuleKind(Enum):
    """What a row makes of a result."""

    CARD = "card"
    """A positive card is suspected positive."""
    PRESENCE = "presence"
    """The substance must not be there: any valid detection."""
    DECISION = "decision"
    """A number above the limit."""
    DETECTION_LIMIT = "detection_limit"
    """What the method can see; never a verdict by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRule:
    """A row of ``rapid_tests.csv`` that is no cut-off; ``limit`` of a presence rule is what its method sees."""

    kind: RuleKind
    method: str
    standard: str
    title_zh: str
    substance: str
    analyte_zh: str
    matrix: str
    matrix_zh: str
    products: ProductScope
    positive_rule: str
    limit: Decimal | None
    unit: str
    from_ms: int
    to_ms: int
    verified: bool
    limit_version: str
    place: str
    source: str

    @property
    def is_card(self) -> bool:
        """Whether the method is the enzyme test card."""
        return _CARD in self.method

    def in_force(self, at_ms: int | None) -> bool:
        """Whether the row holds for a sample of that time; one without a time may be of any."""
        return at_ms is None or self.from_ms <= at_ms < self.to_ms


@dataclass(frozen=True, slots=True)
class MethodRules:
    """The rows by substance, and all of them in the order of the table."""

    rows: tuple[MethodRule, ...]
    by_substance: Mapping[str, tuple[MethodRule, ...]]


def load_method_rules(
    directories: Directories,
    rows: Sequence[Row],
    editions: Mapping[str, Edition],
    names: Names,
    faults: list[str],
) -> MethodRules:
    """Return the rows of ``rapid_tests.csv`` that ``load_cut_offs`` leaves; note every fault."""
    known = product_words(names)
    matrices: dict[str, ProductScope] = {}
    for row in read_table(directories / _MATRICES, _MATRIX_COLUMNS, faults):
        check_scope(row, known)
        if row["matrix"] in matrices:
            row.fault("matrix", f"duplicate: {row['matrix']!r} stands above")
        matrices[row["matrix"]] = read_scope(row)
    rules: list[MethodRule] = []
    for row in rows:
        kind = _kind(row)
        if kind is None:
            continue
        rule = _rule(row, kind, matrices, editions, names)
        if rule is not None:
            rules.append(rule)
    by_substance: dict[str, list[MethodRule]] = {}
    for rule in rules:
        by_substance.setdefault(rule.substance, []).append(rule)
    return MethodRules(tuple(rules), {code: tuple(held) for code, held in by_substance.items()})


def product_words(names: Names) -> Collection[str]:
    """Return the names and groups of every known product."""
    return {
        word for product in names.products.values() for word in (product.name_zh, product.group)
    }


def _kind(row: Row) -> RuleKind | None:
    if _DETECTION_LIMIT in row["method"]:
        return RuleKind.DETECTION_LIMIT
    match row["result_kind"]:
        case "inhibition_percent":
            return None  # a cut-off
        case "qualitative":
            return RuleKind.PRESENCE if row["zero_tolerance"] == "true" else RuleKind.CARD
        case _:
            return RuleKind.DECISION


def _rule(
    row: Row,
    kind: RuleKind,
    matrices: Mapping[str, ProductScope],
    editions: Mapping[str, Edition],
    names: Names,
) -> MethodRule | None:
    substance = names.substance(row["analyte"])
    products = matrices.get(row["matrix"])
    edition = editions.get(row["standard"])
    limit = row.decimal("limit")
    if substance is None:
        row.fault("analyte", f"{row['analyte']!r} is not a known substance")
    if products is None:
        row.fault("matrix", f"{row['matrix']!r} is not in {_MATRICES}")
    if kind is RuleKind.DECISION and limit is None:
        row.fault("limit", "a decision limit is needed")
    if kind is RuleKind.DECISION and edition is None:
        row.fault("standard", f"{row['standard']!r} is not in editions.csv")
    if substance is None or products is None:
        return None
    return MethodRule(
        kind=kind,
        method=row["method"],
        standard=row["standard"],
        title_zh=edition.title_zh if edition else "",
        substance=substance.code,
        analyte_zh=row["analyte_zh"],
        matrix=row["matrix"],
        matrix_zh=row["matrix_zh"],
        products=products,
        positive_rule=row["positive_rule"],
        limit=limit,
        unit=row["unit"],
        from_ms=edition.from_ms if edition else _first_ms(row["standard"]),
        to_ms=edition.to_ms if edition else FOREVER_MS,
        verified=row.verified,
        limit_version=row.version(),
        place=row.place,
        source=row["source"],
    )


def _first_ms(standard: str) -> int:
    """Return the start of the year in a KJ number, whose day is not tabulated; 0 for what carries no year."""
    match = _KJ.fullmatch(standard)
    return day_start_ms(dt.date(int(match[1]), 1, 1)) if match else 0
