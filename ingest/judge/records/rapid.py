"""The verdict on one rapid test or laboratory result (rapid_test_record §3).

What a missing or unknown name does follows one rule: a verdict stands only when it would be the same whatever the name
meant. So a positive strip stays suspect on a product that we do not know, and a negative one becomes undetermined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.records import ResultKind, Verdict
from ingest.judge.catalogue.device_words import contradicts, folded
from ingest.judge.catalogue.tables import clean
from ingest.judge.findings import Judgement
from ingest.judge.records.amounts import amount_of
from ingest.judge.records.corrections import is_withdrawal
from ingest.judge.records.inhibition import judge_inhibition
from ingest.judge.records.open_record import (
    CARD,
    DEVICE_DISAGREES,
    FP_PRONE,
    LIMIT_FALLBACK,
    OpenRecord,
)
from ingest.judge.records.record_facts import (
    is_incomplete,
    method_class,
    result_kind,
    sample_time_ms,
    time_ms,
)
from ingest.judge.records.residue_results import judge_quantitative
from ingest.judge.records.strips import judge_strip

if TYPE_CHECKING:
    from drivers.records import TestRecord
    from ingest.judge.catalogue.catalogue import Catalogue

__all__ = (
    "DEVICE_DISAGREES",
    "FP_PRONE",
    "LIMIT_FALLBACK",
    "is_incomplete",
    "judge_test",
    "method_class",
    "result_kind",
    "sample_time_ms",
    "time_ms",
)


def judge_test(catalogue: Catalogue, record: TestRecord) -> Judgement:
    """Judge a test under the rules in force when its sample was taken."""
    case = OpenRecord(catalogue, record)
    if is_withdrawal(record):
        said = clean(record.value_text, 200)
        return case.say(Verdict.INVALID, f"记录已撤回：{said}", f"record withdrawn: {said}")
    case.check_names()
    match case.kind:
        case ResultKind.INHIBITION if _is_card(case):
            judgement = judge_strip(case)
        case ResultKind.INHIBITION:
            judgement = judge_inhibition(case)
        case ResultKind.QUALITATIVE:
            judgement = judge_strip(case)
        case ResultKind.QUANTITATIVE:
            judgement = judge_quantitative(case)
        case _:
            judgement = case.say(Verdict.UNDETERMINED, "未注明结果类型", "result_kind is missing")
    if judgement.verdict is Verdict.PASS and case.open:
        judgement = case.done(Verdict.UNDETERMINED, judgement.citations)
    return _beside_device(case, judgement)


def _is_card(case: OpenRecord) -> bool:
    """Whether a record that calls itself an inhibition is a card that was read by eye."""
    return (
        case.method is not None
        and case.method.code == CARD
        and case.record.screen_result is not None
    )


def _beside_device(case: OpenRecord, judgement: Judgement) -> Judgement:
    """Flag a verdict of the instrument that contradicts ours; the word itself stays in the record."""
    says = case.catalogue.device_words.get(folded(case.record.device_verdict))
    if says is None or not contradicts(
        says, judgement.verdict, detected_within_limit=_is_detected(case)
    ):
        return judgement
    case.flag(DEVICE_DISAGREES)
    shown = case.record.device_verdict[:20].replace("\0", "").strip()
    case.reasons.add(
        f"仪器判定“{shown}”与本判定不一致",
        f"the instrument's own verdict {shown!r} differs from this",
    )
    return Judgement(
        judgement.verdict,
        judgement.severity,
        judgement.citations,
        judgement.breaches,
        case.reasons.text(),
        tuple(case.flags),
    )


def _is_detected(case: OpenRecord) -> bool:
    record = case.record
    if case.kind != ResultKind.QUANTITATIVE:
        return False
    amount = amount_of(record.value, record.qualifier, record.lod, record.loq)
    return amount is not None and amount.detected is not False
