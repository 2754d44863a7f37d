"""The limits on a residue in a product at the time of sampling, each compared with what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.records import Severity
from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.catalogue.method_rules import RuleKind
from ingest.judge.catalogue.scopes import Reach
from ingest.judge.findings import Citation
from ingest.judge.records import amounts
from ingest.judge.records.measured import residue_amount
from ingest.judge.records.open_record import LIMIT_FALLBACK, UNIT_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from ingest.judge.catalogue.method_rules import MethodRule
    from ingest.judge.catalogue.names import Product
    from ingest.judge.catalogue.residues import ResidueDefinition, ResidueMatch
    from ingest.judge.records.amounts import Amount
    from ingest.judge.records.measured import Measured
    from ingest.judge.records.open_record import OpenRecord

_EVERY = ("*",)


@dataclass(frozen=True, slots=True)
class Compared:
    """A limit and whether it is exceeded; None when what was measured leaves that open (the reasons say why)."""

    exceeded: bool | None
    citation: Citation
    rule_id: str
    severity: Severity
    emrl: bool = False


def compare_all(case: OpenRecord, measured: Measured) -> list[Compared]:
    """Return every limit that applies, the table's row first."""
    substance, product = case.substance, case.product
    if substance is None or product is None:
        return []
    found = list(_by_table(case, measured, substance.code, product))
    if not found or not case.confirms:
        found += _by_method(case, measured, substance.code)
    return found


def times(case: OpenRecord) -> tuple[int, ...]:
    """Return the time of sampling, or one in each edition when the record has none, the latest first."""
    if case.at_ms is not None:
        return (case.at_ms,)
    residues = case.catalogue.residues
    starts = {start for book in (residues.crops, residues.tissues) for _, start, _ in book.editions}
    return tuple(sorted(starts, reverse=True)) or (FOREVER_MS - 1,)


def _by_table(
    case: OpenRecord, measured: Measured, code: str, product: Product
) -> Iterator[Compared]:
    """Yield the row on the substance itself, else those on sums that it is a part of.

    Beside a row of its own, a sum counts only when the part alone is over it.
    """
    residues = case.catalogue.residues
    seen: set[str] = set()
    for name in (code, *residues.sums_with(code)):
        of_time: list[Compared | None] = []
        for at_ms in _covered(case, name):
            match = residues.find(name, product, at_ms)
            definition = residues.definition(name, at_ms, product)
            amount = residue_amount(case, measured, code, definition) if match else None
            if match is None or amount is None:
                of_time.append(None)
                continue
            limit = match.limit
            over = amount.exceeds(_in_mg_kg(limit.limit, limit.unit))
            if not of_time and (limit.limit_version in seen or (seen and over is not True)):
                break
            if not of_time:
                seen.add(limit.limit_version)
            of_time.append(_with_row(case, measured, amount, match, definition))
        first = of_time[0] if of_time else None
        if first is None:
            continue
        if any(one is None or one.exceeded != first.exceeded for one in of_time):
            case.reasons.add(
                "缺少抽样时间，各版本限量的判定不同",
                "the sampling time is missing and the editions disagree",
            )
            first = Compared(None, first.citation, first.rule_id, first.severity)
        yield first


def _covered(case: OpenRecord, code: str) -> Iterator[int]:
    """Yield the times of sampling at which some edition has the substance."""
    return (at_ms for at_ms in times(case) if case.catalogue.residues.covers(code, at_ms))


def _with_row(
    case: OpenRecord,
    measured: Measured,
    amount: Amount,
    match: ResidueMatch,
    definition: ResidueDefinition | None,
) -> Compared:
    row = match.limit
    limit = _in_mg_kg(row.limit, row.unit)
    if match.fallback:
        case.flag(LIMIT_FALLBACK)
        case.reasons.add(match.fallback_zh, match.fallback_en)
    exceeded: bool | None = None
    if row.zero_tolerance:
        exceeded = _presence(case, amount)
    elif not measured.is_fraction:
        _refuse_unit(case, row.unit)
    else:
        over = amount.exceeds(limit)
        if over is None:
            _say_open(case, amount, f"{row.limit} {row.unit}")
        exceeded = _on_basis(case, exceeded=over, fat_basis=row.fat_basis)
    citation = Citation(
        standard=row.standard,
        title_zh=row.title_zh,
        clause=row.clause,
        clause_en=f"{row.substance} in {row.subject_en}",
        level="zero_tolerance" if row.zero_tolerance else "emrl" if row.emrl else "residue",
        comparator="detected" if row.zero_tolerance else ">",
        limit=None if row.zero_tolerance else float(row.limit),
        unit="" if row.zero_tolerance else row.unit,
        exceeded=exceeded is True,
        ratio=None if row.zero_tolerance else _ratio(measured, amount, limit),
        conditions={
            "product": case.product.name_zh if case.product else None,
            "matched": match.matched_zh,
            "matched_level": match.level,
            **({"definition": definition.text_zh} if definition and definition.text_zh else {}),
            **({"fat_basis": "yes"} if row.fat_basis else {}),
            **({"temporary": "yes"} if row.temporary else {}),
            **({"fallback": "yes"} if match.fallback else {}),
            **_inputs(case, measured),
        },
        verified=row.verified,
        limit_version=row.limit_version,
    )
    severity = Severity.CRITICAL if row.zero_tolerance else Severity.MAJOR
    return Compared(exceeded, citation, row.rule_id, severity, row.emrl)


def _by_method(case: OpenRecord, measured: Measured, code: str) -> Iterator[Compared]:
    """Yield the decision limit of a screening method that takes the product in; the nearest matrix goes first."""
    rules = [
        rule
        for rule in case.catalogue.method_rules.by_substance.get(code, ())
        if rule.kind is RuleKind.DECISION
        and rule.in_force(case.at_ms)
        and rule.products.reach(case.product_names) is Reach.INSIDE
    ]
    rules.sort(key=_is_everything)
    for rule in rules[:1]:
        residues = case.catalogue.residues
        at_ms = times(case)[0]
        amount = residue_amount(
            case, measured, code, residues.definition(code, at_ms, case.product)
        )
        if amount is not None:
            yield _with_rule(case, measured, amount, rule)


def _is_everything(rule: MethodRule) -> bool:
    return rule.products.inside == _EVERY


def _with_rule(case: OpenRecord, measured: Measured, amount: Amount, rule: MethodRule) -> Compared:
    held = rule.limit
    if held is None:
        raise ValueError(f"{rule.place}: a decision limit without a limit")
    limit = _in_mg_kg(held, rule.unit)
    if measured.is_fraction:
        exceeded = amount.exceeds(limit)
        if exceeded is None:
            _say_open(case, amount, f"{held} {rule.unit}")
    else:
        exceeded = None
        _refuse_unit(case, rule.unit)
    citation = Citation(
        standard=rule.standard,
        title_zh=rule.title_zh,
        clause=f"{rule.analyte_zh} {rule.matrix_zh}",
        clause_en=f"{rule.substance} in {rule.matrix}",
        level="decision",
        comparator=">",
        limit=float(held),
        unit=rule.unit,
        exceeded=exceeded is True,
        ratio=_ratio(measured, amount, limit),
        conditions={
            "product": case.product.name_zh if case.product else None,
            "matrix": rule.matrix_zh,
            "method": case.record.method[:60] or None,
            **_inputs(case, measured),
        },
        verified=rule.verified,
        limit_version=rule.limit_version,
    )
    return Compared(exceeded, citation, f"decision:{rule.substance}", Severity.MAJOR)


def _inputs(case: OpenRecord, measured: Measured) -> dict[str, str | float | None]:
    computed_from = measured.inputs()
    return {
        **case.evidence(),
        **({"computed_from": computed_from} if computed_from is not None else {}),
    }


def _in_mg_kg(limit: Decimal, unit: str) -> Decimal:
    factor = amounts.factor(unit, "mg/kg")
    if factor is None:
        raise ValueError(f"a residue limit in {unit!r}")
    return limit * factor


def _ratio(measured: Measured, amount: Amount, limit: Decimal) -> float | None:
    """Return value / limit; None when nothing was detected: not detected is no zero."""
    if not measured.is_fraction or not amount.low:
        return None
    return float(amount.low / limit)


def _presence(case: OpenRecord, amount: Amount) -> bool | None:
    if amount.detected is False and amount.high is None:
        say_no_detection_limit(case)
        return None
    return amount.detected


def say_no_detection_limit(case: OpenRecord) -> None:
    """Say that a result of not detected needs its detection limit."""
    case.reasons.add(
        "未检出，但未注明检出限或定量限", "not detected, but LOD and LOQ are not stated"
    )


def _on_basis(case: OpenRecord, *, exceeded: bool | None, fat_basis: bool) -> bool | None:
    """Return the outcome when the result is on the basis of the limit."""
    basis = case.record.basis
    if fat_basis and basis != "fat":
        case.reasons.add(
            "限量以脂肪中的残留量计，结果须注明以脂肪计",
            "the limit is on the fat basis: a result on that basis is needed",
        )
        return None
    if basis == "fat" and not fat_basis and exceeded is not False:
        # In the fat there is more than in the whole: only a result within the limit says something.
        case.reasons.add(
            "结果以脂肪计，限量以产品计", "the result is on the fat basis, the limit on the product"
        )
        return None
    return exceeded


def _refuse_unit(case: OpenRecord, wanted: str) -> None:
    case.flag(UNIT_UNKNOWN)
    unit = case.record.unit[:24]
    case.reasons.add(
        f"单位“{unit}”为质量浓度，不能换算为 {wanted}",
        f"unit {unit!r} is a mass per volume: it cannot be compared with {wanted}",
    )


def _say_open(case: OpenRecord, amount: Amount, limit: str) -> None:
    if amount.detected is False and amount.high is None and not amount.low:
        say_no_detection_limit(case)
    else:
        case.reasons.add(
            f"检出限、定量限或未测组分使结果是否超过限量 {limit} 不明",
            f"a detection limit or a component that was not measured leaves open whether {limit} is exceeded",
        )
