"""Cut-offs of the enzyme inhibition methods (``rapid_tests.csv``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers import units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from ingest.judge.catalogue.editions import Edition
    from ingest.judge.catalogue.tables import Row

RAPID_COLUMNS = (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The inhibition (%) from which a test is suspected positive, by method standard."""

    standard: str
    title_zh: str
    clause: str
    clause_en: str
    limit: Decimal
    unit: str
    from_ms: int
    to_ms: int
    verified: bool
    limit_version: str
    place: str = ""
    source: str = ""
    matrix_zh: str = ""
    matrix_en: str = ""


def load_cut_offs(rows: Sequence[Row], editions: Mapping[str, Edition]) -> list[CutOff]:
    """Return the cut-offs among the rows of ``rapid_tests.csv``; note every fault."""
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
                    clause_en=f"{row['analyte']}: inhibition ≥ {limit} %",
                    limit=limit,
                    unit="%",
                    from_ms=edition.from_ms,
                    to_ms=edition.to_ms,
                    verified=row.verified,
                    limit_version=row.version(),
                    place=row.place,
                    source=row["source"],
                    matrix_zh=row["matrix_zh"],
                    matrix_en=row["matrix"],
                )
            )
    return cut_offs
