"""The rule of a quantitative result: bans, residue limits and decision limits, taken together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.records import ScreenResult, Verdict
from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.findings import Breach
from ingest.judge.records import bans
from ingest.judge.records.measured import Measured, measure
from ingest.judge.records.open_record import UNIT_UNKNOWN
from ingest.judge.records.residue_limits import compare_all, say_no_detection_limit, times
from ingest.judge.records.strips import read_lines

if TYPE_CHECKING:
    from ingest.judge.findings import Citation, Judgement
    from ingest.judge.records.open_record import OpenRecord
    from ingest.judge.records.residue_limits import Compared

_LIQUIDS = ("猪尿", "牛尿", "羊尿", "生乳")


def judge_quantitative(case: OpenRecord) -> Judgement:
    """Return the verdict on a number, a sum of components, or a result of not detected."""
    record = case.record
    lines = read_lines(record.c_line, record.t_line) if record.c_line is not None else None
    if ScreenResult.INVALID in (record.screen_result, lines):
        return case.say(
            Verdict.INVALID, "检测无效，请换新卡重测", "invalid strip: repeat with a new one"
        )
    measured = measure(case)
    if not isinstance(measured, Measured):
        return measured
    if case.substance is None:
        return case.no_substance()
    ban = _ban(case, case.substance.code)
    if not measured.is_fraction and case.product is not None and not _is_liquid(case):
        case.flag(UNIT_UNKNOWN)
        return case.say(
            Verdict.UNDETERMINED,
            f"单位“{record.unit[:24]}”为质量浓度，不适用于该样品，应为 mg/kg",
            f"unit {record.unit[:24]!r} is a mass per volume, which a solid sample does not have: mg/kg is needed",
        )
    compared = compare_all(case, measured)
    citations = tuple(one.citation for one in compared)
    if ban is not None:
        seen = measured.detected is True
        citations = (bans.ban_citation(case, ban, detected=seen), *citations)
    if ban is not None and ban.applies and measured.detected:
        return _banned(case, ban, compared, citations)
    over = [one for one in compared if one.exceeded]
    if over:
        return _over(case, over, citations)
    return _within(case, measured, ban, compared, citations)


def _ban(case: OpenRecord, code: str) -> bans.Ban | None:
    """Return the ban on the substance, else on one whose residue it is a part of."""
    for name in (code, *case.catalogue.residues.sums_with(code)):
        ban = bans.ban_of(case, name)
        if ban is not None:
            return ban
    return None


def _is_liquid(case: OpenRecord) -> bool:
    return any(name in _LIQUIDS for name in case.product_names)


def _banned(
    case: OpenRecord, ban: bans.Ban, compared: list[Compared], citations: tuple[Citation, ...]
) -> Judgement:
    if compared and all(one.exceeded is False for one in compared):
        case.reasons.add(
            "未超过残留限量，但该物质禁止用于该产品，检出即违规",
            "within the residue limit, but banned on this product: any detection is a violation",
        )
    if any(one.emrl for one in compared):
        case.reasons.add(
            "所列为再残留限量（EMRL）：残留可能来自环境，须查明是否使用",
            "the limit is an extraneous one (EMRL): the residue may stem from the environment; find out whether it was"
            " used",
        )
    if not case.confirms:
        case.reasons.add(
            "快检定量检出禁用物质，须以色谱质谱法确证",
            "a banned substance detected by a screening method: confirm by chromatography",
        )
    breach = bans.ban_breach(ban, citations[0], confirmed=case.confirms)
    return case.done(breach.verdict, citations, (breach,))


def _over(case: OpenRecord, over: list[Compared], citations: tuple[Citation, ...]) -> Judgement:
    verdict = Verdict.EXCEED if case.confirms else Verdict.SUSPECT
    if not case.confirms:
        case.reasons.add(
            "快检定量超过限量，须以色谱质谱法确证",
            "over the limit by a screening method: confirm by chromatography",
        )
    # A screening decision limit beside the table's row is the same limit once more.
    first = over[0]
    breach = Breach(first.rule_id, verdict, first.severity, first.citation)
    return case.done(verdict, citations, (breach,))


def _within(
    case: OpenRecord,
    measured: Measured,
    ban: bans.Ban | None,
    compared: list[Compared],
    citations: tuple[Citation, ...],
) -> Judgement:
    unknown = any(one.exceeded is None for one in compared)
    if ban is not None and ban.applies:
        # Detected was decided before: what is left is not detected, or a trace.
        if measured.detected is None:
            unknown = True
            case.reasons.add(
                "痕量：可能高于检出限", "a trace that may lie above the detection limit"
            )
        elif not measured.is_bounded:
            unknown = True
            say_no_detection_limit(case)
    elif ban is not None and measured.detected is not False:
        unknown = True
        bans.say_scope_is_open(case, ban)
    elif not compared:
        return _no_limit(case, citations)
    if unknown:
        return case.done(Verdict.UNDETERMINED, citations)
    if measured.detected is False:
        _say_not_detected(case)
    return case.done(Verdict.PASS, citations)


def _say_not_detected(case: OpenRecord) -> None:
    record = case.record
    stated = [(n, v) for n, v in (("LOD", record.lod), ("LOQ", record.loq)) if v is not None]
    said = ", ".join(
        f"{name} {str(value)[:24]} {record.unit[:16]}".strip() for name, value in stated
    )
    case.reasons.add(
        f"未检出{f'（{said}）' if said else ''}，仅就本方法而言",
        f"not detected by this method{f' ({said})' if said else ''}",
    )


def _no_limit(case: OpenRecord, citations: tuple[Citation, ...]) -> Judgement:
    """Return the verdict where no limit applies: no limit is not zero, and not a pass."""
    substance, product, residues = case.substance, case.product, case.catalogue.residues
    name_zh, name_en = (substance.name_zh, substance.code) if substance else ("", "")
    if product is None:
        if not case.record.product_name.strip("\0 "):
            case.reasons.add("缺少产品名称", "product_name is missing")
        return case.done(Verdict.UNDETERMINED, citations)
    at_ms = times(case)[0]
    codes = [name_en, *residues.sums_with(name_en)]
    if not any(residues.covers(code, at_ms) for code in codes):
        if any(residues.covers(code, FOREVER_MS - 1) for code in codes):
            return case.say(
                Verdict.UNDETERMINED,
                f"采样时 {name_zh} 尚无有效的残留限量版本",
                f"no edition with a limit for {name_en} was in force when the sample was taken",
                citations,
            )
        return case.say(
            Verdict.UNDETERMINED,
            f"标准库中没有 {name_zh or name_en} 的残留限量",
            f"no limit for {name_en} in the catalogue",
            citations,
        )
    if residues.forms(product):
        case.reasons.add(
            f"{product.name_zh} 的鲜、干限量不同，须注明",
            f"fresh and dried {product.name_en} have limits of their own: say which",
        )
    gap = next((g for code in codes if (g := residues.gap(code, at_ms)) is not None), None)
    if gap is not None:
        case.reasons.add(gap.missing_zh, gap.missing_en)
    return case.say(
        Verdict.UNDETERMINED,
        f"{product.name_zh} 中 {name_zh or name_en} 无判定标准（无限量不等于不得检出）",
        f"no limit for {name_en} in {product.name_en}: that is neither a pass nor zero",
        citations,
    )
