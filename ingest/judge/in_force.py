"""Which limits are in force on a plot or for a sample, and what keeps that from being told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.entries import by_place
from ingest.judge.catalogue.limit_tables import COMPANIONS
from ingest.judge.catalogue.limits import select
from ingest.judge.catalogue.method_rules import RuleKind
from ingest.judge.catalogue.scopes import Reach
from ingest.judge.readings import conditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.entries import Entry
    from ingest.judge.catalogue.limits import Limit
    from ingest.judge.catalogue.names import Product, Substance
    from ingest.judge.catalogue.notices import BanRow
    from ingest.judge.catalogue.residues import ResidueDefinition, ResidueMatch
    from ingest.registry.context import PlotContext


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRule:
    """One rule of a standard on a plot: the rows that apply, or those that it could be.

    ``missing`` are the conditions that are not known, ``wrong`` says what is wrong with the value of others; with
    either the rows are those it could be. ``complete`` is False when, for some value of a missing condition, none would
    apply. ``entries`` are of one item: two bounds or two times of day may stand beside each other.
    """

    indicator: str
    rule_id: str
    level: str
    entries: tuple[Entry, ...]
    missing: tuple[str, ...] = ()
    wrong: Mapping[str, str]
    complete: bool = True

    @property
    def is_known(self) -> bool:
        """Whether the rows are the ones that apply."""
        return self.complete and not self.missing and not self.wrong


def for_plot(
    catalogue: Catalogue,
    plot: PlotContext,
    at_ms: int,
    companions: Mapping[str, float] | None = None,
) -> list[AppliedRule]:
    """Return the rules on readings of a plot at a time (UTC ms), in the order of the tables.

    ``companions`` are the last readings of the plot by indicator: a probe's soil pH goes before the registered one.
    What is registered and rules a standard out, such as the use of the water, leaves its rules out.
    """
    registered = conditions.of_plot(plot)
    known = dict(registered.known)
    for key, indicator in COMPANIONS.items():
        value = (companions or {}).get(indicator, math.nan)
        if math.isfinite(value):
            known[key] = value
    found: dict[tuple[str, str], list[AppliedRule]] = {}
    for indicator, rules in catalogue.rules.items():
        for rule in rules:
            applied = _applied(catalogue, indicator, rule, known, registered.wrong, at_ms)
            if applied is not None:
                found.setdefault((indicator, applied.rule_id), []).append(applied)
    place = {name: at for at, name in enumerate(by_place(catalogue))}
    merged = [_merged(parts) for parts in found.values()]
    return sorted(merged, key=lambda one: place[one.entries[0].place])


def _applied(
    catalogue: Catalogue,
    indicator: str,
    rule: Sequence[Limit],
    known: Mapping[str, str | float],
    wrong: Mapping[str, str],
    at_ms: int,
) -> AppliedRule | None:
    selection = select(rule, known, at_ms)
    if selection is None:
        return None
    keys = {key for row in rule if row.in_force(at_ms) for key in row.condition_keys()}
    faults = {key: said for key, said in wrong.items() if key in keys and key not in known}
    rows = by_place(catalogue)
    return AppliedRule(
        indicator=indicator,
        rule_id=rule[0].rule_id,
        level=rule[0].level,
        entries=tuple({row.place: rows[row.place] for row in selection.rows}.values()),
        missing=tuple(key for key in selection.missing if key not in faults),
        wrong=faults,
        complete=selection.complete,
    )


def _merged(parts: Sequence[AppliedRule]) -> AppliedRule:
    """Return the bounds of one rule, which are rules of their own to the judge, as one."""
    first = parts[0]
    return AppliedRule(
        indicator=first.indicator,
        rule_id=first.rule_id,
        level=first.level,
        entries=tuple({entry.place: entry for part in parts for entry in part.entries}.values()),
        missing=tuple(dict.fromkeys(key for part in parts for key in part.missing)),
        wrong={key: said for part in parts for key, said in part.wrong.items()},
        complete=all(part.complete for part in parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResidue:
    """The residue limit on one substance in a product; ``level`` says whether the commodity or a group was matched.

    ``fallback_zh`` and ``fallback_en`` are said when the edition in force lacks the substance and an earlier one stands
    in, else blank. ``definition`` is what the limit is compared with.
    """

    substance: str
    entry: Entry
    level: str
    matched_zh: str
    fallback_zh: str
    fallback_en: str
    definition: ResidueDefinition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBan:
    """A notice; ``reach`` is ``inside``, or ``open`` when a person must say whether it covers the product."""

    entry: Entry
    reach: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleLimits:
    """What a sample is judged by; the reasons say why there is no residue limit (which is not a limit of zero)."""

    residues: tuple[SampleResidue, ...] = ()
    bans: tuple[SampleBan, ...] = ()
    methods: tuple[Entry, ...] = ()
    """Cut-offs, presence rules and decision limits of rapid methods for the product."""
    reason_zh: str = ""
    reason_en: str = ""


def for_sample(
    catalogue: Catalogue,
    product: Product,
    substance: Substance | None,
    sampled_ms: int,
) -> SampleLimits:
    """Return what a sample of ``product``, taken at ``sampled_ms`` (UTC ms), is judged by: for one substance or all."""
    residues = catalogue.residues
    rows = by_place(catalogue)
    tabulated = {*residues.crops.rows, *residues.tissues.rows}
    codes = sorted(tabulated) if substance is None else [substance.code]
    found = [
        _residue(catalogue, product, match, code, sampled_ms)
        for code in codes
        if (match := residues.find(code, product, sampled_ms)) is not None
    ]
    banned = [substance.code] if substance is not None else sorted(catalogue.bans)
    names = (*residues.commodities.lineage(product.name_zh), product.group)
    bans = [
        SampleBan(entry=rows[row.place], reach=reach.value)
        for code in banned
        if (row := _notice(catalogue.bans.get(code, ()), product, sampled_ms)) is not None
        and (reach := Reach.INSIDE if row.covers_all else row.products.reach(names))
        is not Reach.OUTSIDE
    ]
    zh = en = ""
    if substance is not None and not found:
        zh, en = _why_none(catalogue, product, substance, sampled_ms)
    return SampleLimits(
        residues=tuple(found),
        bans=tuple(bans),
        methods=tuple(_methods(catalogue, product, substance, names, sampled_ms)),
        reason_zh=zh,
        reason_en=en,
    )


def _residue(
    catalogue: Catalogue, product: Product, match: ResidueMatch, code: str, sampled_ms: int
) -> SampleResidue:
    return SampleResidue(
        substance=code,
        entry=by_place(catalogue)[match.limit.place],
        level=match.level,
        matched_zh=match.matched_zh,
        fallback_zh=match.fallback_zh,
        fallback_en=match.fallback_en,
        definition=catalogue.residues.definition(code, sampled_ms, product),
    )


def _notice(rows: Sequence[BanRow], product: Product, sampled_ms: int) -> BanRow | None:
    """Return the notice that counted then: veterinary ones for animals, of pesticides only a ban of all uses."""
    latest = {row.category: row for row in rows if row.from_ms <= sampled_ms}  # by date
    pesticide = latest.get("pesticide")
    if not product.is_animal:
        return pesticide
    return latest.get("veterinary") or (pesticide if pesticide and pesticide.covers_all else None)


def _methods(
    catalogue: Catalogue,
    product: Product,
    substance: Substance | None,
    names: Sequence[str],
    sampled_ms: int,
) -> list[Entry]:
    rows = by_place(catalogue)
    places: list[str] = []
    if product.group.startswith("vegetable"):  # what the enzyme methods are for
        places += [row.place for row in catalogue.cut_offs]
    code = None if substance is None else substance.code
    places += [
        rule.place
        for rule in catalogue.method_rules.rows
        if rule.kind is not RuleKind.DETECTION_LIMIT
        and rule.products.reach(names) is not Reach.OUTSIDE
    ]
    found = [rows[place] for place in places]
    return [
        entry
        for entry in found
        if entry.in_force(sampled_ms) and (code is None or entry.subject == code)
    ]


def _why_none(
    catalogue: Catalogue, product: Product, substance: Substance, sampled_ms: int
) -> tuple[str, str]:
    residues = catalogue.residues
    name_zh = substance.name_zh or substance.code
    if residues.definition(substance.code, 2**61) is None:
        return (
            f"标准库中没有{name_zh}的残留限量",
            f"the catalogue has no residue limit for {substance.code}",
        )
    if not residues.covers(substance.code, sampled_ms):
        return (
            f"采样时标准库中尚无{name_zh}的残留限量标准",
            f"no edition in the catalogue had limits for {substance.code} when the sample was taken",
        )
    gap = residues.gap(substance.code, sampled_ms)
    zh = f"{name_zh}在{product.name_zh}中没有限量"
    en = f"no limit for {substance.code} in {product.name_en or product.name_zh}"
    if gap is not None:
        return f"{zh}（录入不全：{gap.missing_zh}）", f"{en} (table incomplete: {gap.missing_en})"
    if residues.forms(product):
        zh += "，或鲜、干限量不同，须注明"
        en += ", or fresh and dried differ: say which"
    return zh, en
