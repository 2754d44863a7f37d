"""The enzyme inhibition rule: a rate against the cut-off of its method standard."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING

from drivers import units
from drivers.records import Qualifier, ScreenResult, Severity, Verdict
from ingest.judge.catalogue.names import OP_CARBAMATE, standard_number
from ingest.judge.findings import Breach, Citation
from ingest.judge.records.open_record import (
    CARD,
    FP_PRONE,
    OUT_OF_RANGE,
    OUTSIDE_METHOD,
    UNMAPPED_METHOD,
    UNMAPPED_SUBSTANCE,
)

if TYPE_CHECKING:
    from ingest.judge.catalogue.cut_offs import CutOff
    from ingest.judge.findings import Judgement
    from ingest.judge.records.open_record import OpenRecord

# §3.4: slightly negative inhibition is noise, beyond these bounds the run itself is wrong.
INHIBITION_MIN, INHIBITION_MAX = Decimal(-20), Decimal(100)
SCOPE_ZH = "仅表示未检出有机磷和氨基甲酸酯类农药可疑，不代表其他农药合格"
SCOPE_EN = "not suspected for organophosphates and carbamates; says nothing about other pesticides"

_VEGETABLE = "vegetable_"


def cut_offs_of(case: OpenRecord) -> tuple[list[CutOff], str]:
    """Return the cut-offs that the method standard may mean, and the standard when it is none of ours."""
    in_force = [
        c
        for c in case.catalogue.cut_offs
        if case.at_ms is None or c.from_ms <= case.at_ms < c.to_ms
    ]
    text = case.record.method_standard.strip()
    if not text:
        return in_force, ""
    matching = [c for c in in_force if same_standard(text, c.standard)]
    return matching, "" if matching else text


@functools.lru_cache(maxsize=1024)
def same_standard(text: str, standard: str) -> bool:
    """Whether ``text`` names ``standard``, with its year or without one.

    >>> same_standard("GB/T5009.199", "GB/T 5009.199-2003"), same_standard("KJ 201701", "KJ 201705")
    (True, False)
    """
    said, number = standard_number(text), standard_number(standard)
    return bool(said and number and said[0] == number[0] and said[1] in ("", number[1]))


def judge_inhibition(case: OpenRecord) -> Judgement:
    """Return the verdict on an inhibition rate."""
    record, value, substance = case.record, case.record.value, case.substance
    if substance is not None and substance.code != OP_CARBAMATE:
        return case.say(
            Verdict.UNDETERMINED,
            f"酶抑制法不能测定{substance.name_zh}",
            f"enzyme inhibition does not measure {substance.code}",
        )
    if record.screen_result is ScreenResult.INVALID or (
        value is not None and not value.is_finite()
    ):
        return case.say(Verdict.INVALID, "检测无效，请重测", "the run is invalid: repeat it")
    if value is None:
        return case.say(Verdict.UNDETERMINED, "缺少抑制率数值", "value is missing")
    if record.unit and not _is_percent(record.unit):
        return case.bad_unit(record.unit, "%")
    if not INHIBITION_MIN <= value <= INHIBITION_MAX:
        case.flag(OUT_OF_RANGE)
        return case.say(
            Verdict.INVALID,
            "抑制率超出 −20 %～100 %，请检查空白对照并重测",
            "inhibition outside -20 % … 100 %: check the blank and repeat",
        )
    flag_matrix(case)
    if case.method is not None and case.method.code == CARD:
        return case.say(
            Verdict.UNDETERMINED,
            "速测卡由目视判定，没有抑制率判定值",
            "a test card is read by eye: it has no cut-off for a number",
        )
    cut_offs, unknown = cut_offs_of(case)
    if unknown:
        known = ", ".join(c.standard for c in case.catalogue.cut_offs)
        return case.say(
            Verdict.UNDETERMINED,
            f"检测依据“{unknown[:40]}”没有抑制率判定值，已知：{known}",
            f"method standard {unknown[:40]!r} has no cut-off here, known: {known}",
        )
    # The cut-off comes from the method standard: with it a positive stands whatever the method is called.
    method_is_open = UNMAPPED_METHOD in case.open and not case.record.method_standard.strip()
    if not cut_offs or UNMAPPED_SUBSTANCE in case.open or method_is_open:
        if not cut_offs:
            case.reasons.add("采样时没有有效的判定值", "no cut-off was in force then")
        return case.done(Verdict.UNDETERMINED)
    return _against(case, cut_offs, value)


def flag_matrix(case: OpenRecord) -> None:
    """Flag a product outside the method's matrix, and one whose own juice inhibits the enzyme."""
    product = case.product
    if product is None:
        return
    if not product.group.startswith(_VEGETABLE):
        case.flag(OUTSIDE_METHOD)
    if product.fp_prone:
        case.flag(FP_PRONE)


def say_false_positive(case: OpenRecord) -> None:
    """Say of a suspicion what is known of the product."""
    if FP_PRONE in case.flags:
        case.reasons.add(
            "该产品易出现假阳性，须重测并确证",
            "this product is prone to false positives: repeat and confirm",
        )


def _against(case: OpenRecord, cut_offs: list[CutOff], value: Decimal) -> Judgement:
    """Compare with the cut-off, or with each that it could be when the standard is not named."""
    reached = [_reaches(value, case.record.qualifier, c.limit) for c in cut_offs]
    citations = tuple(
        _citation(case, c, value, exceeded=bool(r)) for c, r in zip(cut_offs, reached, strict=True)
    )
    if None in reached:
        return case.say(
            Verdict.UNDETERMINED,
            "限定符使数值是否达到判定值不明",
            "the qualifier leaves open whether the cut-off is reached",
            citations,
        )
    if len(set(reached)) > 1:
        names = " / ".join(c.standard for c in cut_offs)
        return case.say(
            Verdict.UNDETERMINED,
            f"未注明检测依据，{names} 的判定值不同",
            f"method_standard is missing and the cut-offs of {names} disagree on this value",
            citations,
        )
    if not reached[0]:
        return case.say(Verdict.PASS, SCOPE_ZH, SCOPE_EN, citations)
    # Several rows agree: cite the one that is reached last.
    row, citation = max(zip(cut_offs, citations, strict=True), key=lambda pair: pair[0].limit)
    say_false_positive(case)
    case.reasons.add(
        "疑似阳性，须至少重测两次并以色谱法确证",
        "suspected positive: repeat at least twice, then confirm by chromatography",
    )
    breach = Breach(f"inhibition:{row.standard}", Verdict.SUSPECT, Severity.MAJOR, citation)
    return case.done(Verdict.SUSPECT, citations, (breach,))


def _is_percent(unit: str) -> bool:
    try:
        return units.canonical(unit) == "%"
    except units.UnitError:
        return False


def _reaches(value: Decimal, qualifier: Qualifier | None, limit: Decimal) -> bool | None:
    """Tell whether the value reaches a cut-off, which fires at its value; None when the qualifier leaves it open."""
    if qualifier is Qualifier.NOT_DETECTED:
        return False
    if qualifier is Qualifier.LT:
        return False if value <= limit else None
    if qualifier is Qualifier.GT:
        return True if value >= limit else None
    return value >= limit


def _citation(case: OpenRecord, cut_off: CutOff, value: Decimal, *, exceeded: bool) -> Citation:
    conditions: dict[str, str | float | None] = {
        "method_standard": case.record.method_standard.strip()[:60] or None,
        "matrix": case.product.group if case.product else None,
    }
    if not case.record.method_standard:
        conditions["assumed"] = cut_off.standard
    return Citation(
        standard=cut_off.standard,
        title_zh=cut_off.title_zh,
        clause=cut_off.clause,
        clause_en=cut_off.clause_en,
        level="cut_off",
        comparator=">=",
        limit=float(cut_off.limit),
        unit=cut_off.unit,
        exceeded=exceeded,
        ratio=float(value / cut_off.limit),
        conditions=conditions,
        verified=cut_off.verified,
        limit_version=cut_off.limit_version,
    )
