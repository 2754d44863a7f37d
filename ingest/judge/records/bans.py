"""Which notice bans or restricts a substance on the product of a record, and what it is cited as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.records import Severity, Verdict
from ingest.judge.catalogue.scopes import Reach
from ingest.judge.findings import Breach, Citation

if TYPE_CHECKING:
    from ingest.judge.catalogue.notices import BanRow
    from ingest.judge.records.open_record import OpenRecord


@dataclass(frozen=True, slots=True)
class Ban:
    """A notice in force, and whether it reaches the product; OPEN when its words leave that to a person."""

    row: BanRow
    reach: Reach

    @property
    def applies(self) -> bool:
        """Whether any detection on this product is a violation."""
        return self.reach is Reach.INSIDE


def ban_of(case: OpenRecord, substance: str) -> Ban | None:
    """Return the notice in force when the sample was taken; None when there is none or it leaves the product out.

    Pesticide notices count for plants, veterinary ones for animals; a ban of all uses as a pesticide counts for
    both. Of several that the product leaves open, a restriction goes before a ban, so that nothing is over-said.
    """
    latest: dict[str, BanRow] = {}
    for row in case.catalogue.bans.get(substance, ()):  # by date
        held = latest.get(row.category)
        if case.at_ms is None:
            # Any notice may have been the one in force.
            if held is None or held.covers_all:
                latest[row.category] = row
        elif row.from_ms <= case.at_ms:
            latest[row.category] = row
    product = case.product
    if product is None:
        row_ = min(latest.values(), key=_covers_all, default=None)
        return None if row_ is None else Ban(row_, _reach(case, row_))
    veterinary, pesticide = latest.get("veterinary"), latest.get("pesticide")
    if product.is_animal:
        chosen = veterinary or (pesticide if pesticide and pesticide.covers_all else None)
    else:
        chosen = pesticide
    if chosen is None:
        return None
    reach = _reach(case, chosen)
    return None if reach is Reach.OUTSIDE else Ban(chosen, reach)


def _covers_all(row: BanRow) -> bool:
    return row.covers_all


def _reach(case: OpenRecord, row: BanRow) -> Reach:
    return Reach.INSIDE if row.covers_all else row.products.reach(case.product_names)


def ban_citation(case: OpenRecord, ban: Ban, *, detected: bool) -> Citation:
    """Return the notice as it is frozen in a finding."""
    row = ban.row
    return Citation(
        standard=row.notice,
        title_zh=row.notice_zh,
        clause=f"{row.substance_zh} {row.scope_zh}",
        clause_en=f"{row.substance}: {row.scope}",
        level=row.status,
        comparator="detected",
        limit=None,
        unit="",
        exceeded=detected and ban.applies,
        ratio=None,
        conditions={
            "product": case.product.name_zh if case.product else None,
            "category": row.category,
            **case.evidence(),
        },
        verified=row.verified,
        limit_version=row.limit_version,
    )


def ban_breach(ban: Ban, citation: Citation, *, confirmed: bool) -> Breach:
    """Return the breach of a notice by a detection: exceed by a confirmatory method, else suspect."""
    verdict = Verdict.EXCEED if confirmed else Verdict.SUSPECT
    return Breach(f"banned:{ban.row.substance}", verdict, Severity.CRITICAL, citation)


def say_scope_is_open(case: OpenRecord, ban: Ban) -> None:
    """Say that whether a restriction reaches this product needs a person."""
    row = ban.row
    case.reasons.add(
        f"{row.substance_zh} 为限用（{row.scope_zh}，{row.notice_zh}），是否禁用于该产品须人工判断",
        f"{row.substance} is restricted ({row.scope}, {row.notice}): whether that covers this product needs a person",
    )
