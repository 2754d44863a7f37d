"""Strips, cards and what the instrument itself says, each argued from rapid_test_record §3 and the method's text."""

from decimal import Decimal

import pytest

from drivers.records import ScreenResult, Severity, TestRecord, Verdict
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.records.rapid import judge_test

CATALOGUE = standard_catalogue()


def judged(**fields):
    given = {
        "record_id": "r1",
        "dedup_key": "d1",
        "tested_at": "2026-07-01T08:30:00+08:00",
        "device_id": "reader1",
        "parameter": "clenbuterol",
        "method": "colloidal_gold",
        "result_kind": "qualitative",
        "product_name": "猪肉",
        **fields,
    }
    for name in ("value", "lod", "c_line", "t_line"):
        if given.get(name) is not None:
            given[name] = Decimal(given[name])
    return judge_test(CATALOGUE, TestRecord(**given))


# ---------------------------------------------------------------- lines of a competitive strip


@pytest.mark.parametrize(
    ("c_line", "t_line", "verdict"),
    [
        ("100", "100", "pass"),  # T as strong as C: negative
        ("100", "140", "pass"),
        ("100", "99.9", "suspect"),  # T weaker than C
        ("100", "0", "suspect"),
        ("100", None, "suspect"),  # T absent
        ("0", "140", "invalid"),  # §3.11: no C line
        ("-3", "140", "invalid"),
        (None, "140", "invalid"),
        ("NaN", "140", "invalid"),
        ("100", "NaN", "suspect"),
        (None, None, "undetermined"),
    ],
)
def test_the_lines_alone(c_line, t_line, verdict):
    assert judged(c_line=c_line, t_line=t_line).verdict == verdict
    if c_line is not None:
        assert judged(c_line=c_line, t_line=t_line, result_kind=None).verdict == verdict


def test_the_ratio_runs_down_with_concentration():
    verdicts = [judged(c_line="100", t_line=str(t)).verdict for t in (150, 100, 60, 20, 0)]
    assert verdicts == [Verdict.PASS] * 2 + [Verdict.SUSPECT] * 3


@pytest.mark.parametrize(
    ("said", "t_line", "verdict", "flagged"),
    [
        ("negative", "120", "pass", False),
        ("positive", "60", "suspect", False),
        ("negative", "60", "suspect", True),  # a conflict never passes
        ("positive", "120", "suspect", True),
        ("doubtful", "120", "undetermined", False),
        ("invalid", "120", "invalid", False),
    ],
)
def test_the_instruments_result_beside_the_lines(said, t_line, verdict, flagged):
    judgement = judged(screen_result=ScreenResult(said), c_line="100", t_line=t_line)
    assert judgement.verdict == verdict
    assert ("lines_disagree" in judgement.flags) == flagged


def test_a_number_from_a_strip_without_a_control_line_is_invalid():
    case = {"result_kind": "quantitative", "value": "0.1", "unit": "ug/kg"}
    assert judged(**case, c_line="0").verdict is Verdict.INVALID
    assert judged(**case, c_line="50").verdict is Verdict.SUSPECT


# ---------------------------------------------------------------- KJ methods: presence


@pytest.mark.parametrize(
    ("parameter", "product", "standard"),
    [
        ("孔雀石绿", "草鱼", "KJ 201701"),
        ("AOZ", "鲈鱼", "KJ 201705"),
        ("AMOZ", "虾", "KJ 201705"),
        ("SEM", "鲫鱼", "KJ 201705"),
        ("AHD", "鱼", "KJ 201705"),
        ("克伦特罗", "猪肝", "KJ 201706"),
        ("莱克多巴胺", "牛肉", "KJ 201706"),
        ("沙丁胺醇", "羊肉", "KJ 201706"),
        ("氯霉素", "草鱼", "KJ 201905"),
        ("克伦特罗", "猪尿", "vendor specification"),
    ],
)
def test_a_positive_of_zero_tolerance_is_critical_and_cites_notice_and_method(
    parameter, product, standard
):
    case = {"parameter": parameter, "product_name": product}
    judgement = judged(**case, screen_result=ScreenResult.POSITIVE)
    assert (judgement.verdict, judgement.severity) == (Verdict.SUSPECT, Severity.CRITICAL)
    assert [c.level for c in judgement.citations] == ["banned", "zero_tolerance"]
    method = judgement.citations[1]
    assert (method.standard, method.comparator, method.limit) == (standard, "detected", None)
    assert method.conditions["detection_limit"]
    negative = judged(**case, screen_result=ScreenResult.NEGATIVE)
    assert negative.verdict is Verdict.PASS
    assert "below the detection limit" in negative.reason


def test_presence_counts_without_a_notice_in_force():
    # Notice 250 is of 2019-12-27; the method and its zero tolerance are of 2017.
    judgement = judged(screen_result=ScreenResult.POSITIVE, sampled_at="2018-05-01")
    assert judgement.breaches[0].rule_id == "presence:clenbuterol"
    assert judgement.severity is Severity.CRITICAL


def test_a_method_used_outside_its_matrix_is_flagged():
    judgement = judged(
        parameter="孔雀石绿", product_name="猪肉", screen_result=ScreenResult.POSITIVE
    )
    assert judgement.verdict is Verdict.SUSPECT
    assert "outside_method_scope" in judgement.flags
    assert [c.level for c in judgement.citations] == ["banned"]


# ---------------------------------------------------------------- the enzyme test card


def card(**fields):
    return judged(
        **{
            "parameter": "农药残留",
            "method": "速测卡",
            "product_name": "油麦菜",
            "method_standard": "GB/T 5009.199-2003",
            **fields,
        }
    )


def test_a_card_is_read_by_eye():
    positive = card(screen_result=ScreenResult.POSITIVE)
    assert positive.verdict is Verdict.SUSPECT
    (citation,) = positive.citations
    assert (citation.standard, citation.limit) == ("GB/T 5009.199-2003", None)
    negative = card(screen_result=ScreenResult.NEGATIVE)
    assert negative.verdict is Verdict.PASS
    assert "nothing about other pesticides" in negative.reason  # §3.5
    kind_inhibition = card(screen_result=ScreenResult.POSITIVE, result_kind="inhibition")
    assert kind_inhibition.verdict is Verdict.SUSPECT


def test_a_card_has_no_cut_off_for_a_number():
    judgement = card(result_kind="inhibition", value="10", unit="%")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "no cut-off" in judgement.reason


def test_a_card_on_a_product_prone_to_false_positives():
    judgement = card(screen_result=ScreenResult.POSITIVE, product_name="韭菜")
    assert "fp_prone" in judgement.flags
    assert "假阳性" in judgement.reason


# ---------------------------------------------------------------- the instrument's verdict beside ours


@pytest.mark.parametrize(
    ("word", "disagrees_with"),
    [
        ("合格", "suspect"),
        ("不 合格\0", "pass"),
        ("阴性", "suspect"),
        ("阳性", "pass"),
        ("超标", "pass"),
        ("检出", "pass"),
        ("未检出", "suspect"),
        ("+", "pass"),
        ("＋", "pass"),
        ("-", "suspect"),
        ("−", "suspect"),
        ("0", "suspect"),
        ("1", "pass"),
        ("2", "pass"),
        ("疑似", "pass"),
        ("蓝色", None),  # a word that is not known contradicts nothing
        ("", None),
    ],
)
def test_the_instruments_word_is_kept_beside_ours(word, disagrees_with):
    for result in (ScreenResult.POSITIVE, ScreenResult.NEGATIVE):
        judgement = judged(screen_result=result, device_verdict=word)
        expected = "suspect" if result is ScreenResult.POSITIVE else "pass"
        assert judgement.verdict == expected  # the word changes nothing
        assert ("device_disagrees" in judgement.flags) == (expected == disagrees_with)
        assert "differs from this" in judgement.reason if expected == disagrees_with else True


def test_exactly_50_percent_that_the_instrument_calls_compliant_is_suspect():
    judgement = judged(
        parameter="op_carbamate_inhibition",
        method="enzyme_inhibition",
        method_standard="GB/T 5009.199-2003",
        result_kind="inhibition",
        value="50",
        unit="%",
        product_name="油麦菜",
        device_verdict="合格",
    )
    assert judgement.verdict is Verdict.SUSPECT  # §3.2: vendor software calls it 合格
    assert "device_disagrees" in judgement.flags


def test_a_detection_within_the_limit_agrees_with_the_word_detected():
    case = {
        "parameter": "吡虫啉",
        "product_name": "豇豆",
        "method": "lc_ms",
        "result_kind": "quantitative",
        "unit": "mg/kg",
        "device_verdict": "检出",
    }
    assert "device_disagrees" not in judged(**case, value="1").flags
    assert "device_disagrees" in judged(**case, value="0.005", lod="0.01").flags
    # What says nothing contradicts nothing.
    assert "device_disagrees" not in judged(**{**case, "unit": "furlong"}, value="1").flags
