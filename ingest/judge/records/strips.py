"""The rules of strips and cards: what their lines say, and what a positive or negative one means."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from drivers.records import ScreenResult, Severity, Verdict
from ingest.judge.catalogue.method_rules import RuleKind
from ingest.judge.catalogue.names import OP_CARBAMATE
from ingest.judge.catalogue.scopes import Reach
from ingest.judge.findings import Breach, Citation
from ingest.judge.records import bans, inhibition
from ingest.judge.records.open_record import CARD, LINES_DISAGREE, OUTSIDE_METHOD

if TYPE_CHECKING:
    from decimal import Decimal

    from drivers.records import TestRecord
    from ingest.judge.catalogue.method_rules import MethodRule
    from ingest.judge.catalogue.names import Substance
    from ingest.judge.findings import Judgement
    from ingest.judge.records.open_record import OpenRecord

_SCREEN_RULE = "screen-1"
"""Version of the rule that a positive strip is suspected positive; no table row stands behind it."""

_DECIDED = (ScreenResult.POSITIVE, ScreenResult.NEGATIVE)


def read_lines(c_line: Decimal | None, t_line: Decimal | None) -> ScreenResult | None:
    """Return what a competitive strip's lines say; None when neither is given.

    T/C runs down with concentration: T weaker than C, or absent, is positive. Without C the strip is invalid.

    >>> from decimal import Decimal as D
    >>> [str(read_lines(D(12), t)) for t in (D(12), D("11.9"), D(0), None)]
    ['negative', 'positive', 'positive', 'positive']
    >>> str(read_lines(D(0), D(9))), str(read_lines(None, D(9))), read_lines(None, None)
    ('invalid', 'invalid', None)
    """
    if c_line is None and t_line is None:
        return None
    if not _is_there(c_line):
        return ScreenResult.INVALID
    return (
        ScreenResult.NEGATIVE if _is_there(t_line) and t_line >= c_line else ScreenResult.POSITIVE
    )


def _is_there(line: Decimal | None) -> TypeGuard[Decimal]:
    return line is not None and line.is_finite() and line > 0


def screen_result(record: TestRecord) -> tuple[ScreenResult | None, bool]:
    """Return what the strip says, and whether the instrument's result and the lines disagree.

    A disagreement is never negative: positive by either is positive.
    """
    said, c_line, t_line = record.screen_result, record.c_line, record.t_line
    if said is None:
        return read_lines(c_line, t_line), False
    if c_line is not None and not _is_there(c_line):
        return ScreenResult.INVALID, False  # §3.11: no control line
    if c_line is None or t_line is None or said not in _DECIDED:
        return said, False
    read = read_lines(c_line, t_line)
    return (said, False) if read is said else (ScreenResult.POSITIVE, True)


def judge_strip(case: OpenRecord) -> Judgement:
    """Return the verdict on a qualitative result."""
    result, disagree = screen_result(case.record)
    if disagree:
        case.flag(LINES_DISAGREE)
        case.reasons.add(
            "仪器结果与 C、T 线不一致，按阳性处理并重测",
            "the instrument's result and the lines disagree: taken as positive, repeat",
        )
    match result:
        case None:
            return case.say(Verdict.UNDETERMINED, "缺少阴阳性结果", "screen_result is missing")
        case ScreenResult.INVALID:
            return case.say(
                Verdict.INVALID, "检测无效，请换新卡重测", "invalid strip: repeat with a new one"
            )
        case ScreenResult.DOUBTFUL:
            return case.say(
                Verdict.UNDETERMINED,
                "结果可疑，请换新卡重测",
                "doubtful: repeat with a new strip",
            )
        case ScreenResult.POSITIVE | ScreenResult.NEGATIVE:
            pass
    if case.substance is None:
        return case.no_substance()
    if case.substance.code == OP_CARBAMATE:
        inhibition.flag_matrix(case)
    rule = method_rule(case, case.substance)
    ban = bans.ban_of(case, case.substance.code)
    if result is ScreenResult.NEGATIVE:
        return _negative(case, case.substance, rule, ban)
    return _positive(case, case.substance, rule, ban)


def _negative(
    case: OpenRecord, substance: Substance, rule: MethodRule | None, ban: bans.Ban | None
) -> Judgement:
    citations = () if ban is None else (bans.ban_citation(case, ban, detected=False),)
    if rule is not None:
        citations = (*citations, _rule_citation(case, rule, exceeded=False))
    if substance.code == OP_CARBAMATE:
        return case.say(Verdict.PASS, inhibition.SCOPE_ZH, inhibition.SCOPE_EN, citations)
    sees = f" {rule.limit} {rule.unit}" if rule is not None and rule.limit is not None else ""
    return case.say(
        Verdict.PASS,
        f"仅表示{substance.name_zh or substance.code}低于本方法检出限{sees}",
        f"only says that {substance.code} is below the detection limit of this method{sees}",
        citations,
    )


def _positive(
    case: OpenRecord, substance: Substance, rule: MethodRule | None, ban: bans.Ban | None
) -> Judgement:
    inhibition.say_false_positive(case)
    case.reasons.add("疑似阳性，须重测并以色谱质谱法确证", "suspected positive: repeat and confirm")
    method = None if rule is None else _rule_citation(case, rule, exceeded=True)
    if ban is not None and ban.applies:
        citation = bans.ban_citation(case, ban, detected=True)
        breach = bans.ban_breach(ban, citation, confirmed=False)
        citations = (citation,) if method is None else (citation, method)
        return case.done(Verdict.SUSPECT, citations, (breach,))
    if ban is not None:
        bans.say_scope_is_open(case, ban)
    citation = _screen_citation(case, substance) if method is None else method
    family, severity = "qualitative", Severity.MAJOR
    if rule is not None and rule.kind is RuleKind.PRESENCE:
        family, severity = "presence", Severity.CRITICAL
    breach = Breach(f"{family}:{substance.code}", Verdict.SUSPECT, severity, citation)
    return case.done(Verdict.SUSPECT, (citation,), (breach,))


def method_rule(case: OpenRecord, substance: Substance) -> MethodRule | None:
    """Return the row of a method standard that this strip or card follows; None when none of ours is meant.

    A method standard that the record names must be the row's; the product must lie in its matrix, else that is flagged.
    """
    said = case.record.method_standard.strip()
    is_card = substance.code == OP_CARBAMATE
    if is_card and case.method is not None and case.method.code != CARD:
        return None
    outside = False
    for rule in case.catalogue.method_rules.by_substance.get(substance.code, ()):
        if rule.kind not in (RuleKind.CARD, RuleKind.PRESENCE) or not rule.in_force(case.at_ms):
            continue
        if said and said != rule.standard and not inhibition.same_standard(said, rule.standard):
            continue
        if rule.products.reach(case.product_names) is not Reach.OUTSIDE:
            return rule
        outside = True
    if outside and not is_card:
        case.flag(OUTSIDE_METHOD)
    return None


def _rule_citation(case: OpenRecord, rule: MethodRule, *, exceeded: bool) -> Citation:
    is_presence = rule.kind is RuleKind.PRESENCE
    return Citation(
        standard=rule.standard,
        title_zh=rule.title_zh or (case.method.name_zh if case.method else ""),
        clause=f"{rule.analyte_zh} {'不得检出' if is_presence else '速测卡阳性'}",
        clause_en=f"{rule.substance}: {'must not be detected' if is_presence else 'card positive'}",
        level="zero_tolerance" if is_presence else "screen",
        comparator="detected",
        limit=None,
        unit="",
        exceeded=exceeded,
        ratio=None,
        conditions={
            "method": case.record.method[:60] or None,
            "matrix": rule.matrix_zh,
            "detection_limit": f"{rule.limit} {rule.unit}" if rule.limit is not None else None,
            **case.evidence(),
        },
        verified=rule.verified,
        limit_version=rule.limit_version,
    )


def _screen_citation(case: OpenRecord, substance: Substance) -> Citation:
    method = case.method
    return Citation(
        standard=case.record.method_standard.strip()[:60],
        title_zh=method.name_zh if method else "",
        clause=f"{substance.name_zh or substance.code} 阳性",
        clause_en=f"{substance.code}: positive",
        level="screen",
        comparator="detected",
        limit=None,
        unit="",
        exceeded=True,
        ratio=None,
        conditions={"method": case.record.method[:60] or None, **case.evidence()},
        verified=True,
        limit_version=_SCREEN_RULE,
    )
