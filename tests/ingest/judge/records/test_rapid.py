"""Rapid tests and laboratory results: the rules and traps of rapid_test_record §3, each argued from its text."""

from decimal import Decimal

import pytest

from drivers.records import Qualifier, ResultKind, ScreenResult, Severity, TestRecord, Verdict
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.catalogue.names import MethodClass
from ingest.judge.records.rapid import is_incomplete, judge_test, method_class

CATALOGUE = standard_catalogue()
GB = "GB/T 5009.199-2003"
NY = "NY/T 448-2001"


def record(**fields) -> TestRecord:
    given = {
        "record_id": "r1",
        "dedup_key": "d1",
        "tested_at": "2026-07-01T08:30:00+08:00",
        "device_id": "tester1",
        "product_name": "油麦菜",
        **fields,
    }
    for name in ("value", "lod", "loq", "c_line"):
        if name in given:
            given[name] = Decimal(given[name])
    return TestRecord(**given)


def judged(**fields):
    return judge_test(CATALOGUE, record(**fields))


def inhibition(value, **fields):
    given = {
        "parameter": "op_carbamate_inhibition",
        "method": "enzyme_inhibition",
        "method_standard": GB,
        "result_kind": ResultKind.INHIBITION,
        "unit": "%",
        **fields,
    }
    return judged(value=value, **given)


def strip(result, **fields):
    given = {
        "parameter": "clenbuterol",
        "method": "colloidal_gold",
        "result_kind": ResultKind.QUALITATIVE,
        "product_name": "猪肉",
        **fields,
    }
    return judged(screen_result=result, **given)


def laboratory(value, **fields):
    given = {
        "parameter": "carbofuran",
        "method": "lc_ms",
        "result_kind": ResultKind.QUANTITATIVE,
        "unit": "mg/kg",
        "product_name": "豇豆",
        **fields,
    }
    return judged(value=value, **given) if value is not None else judged(**given)


# ---------------------------------------------------------------- enzyme inhibition


@pytest.mark.parametrize(
    ("standard", "value", "verdict"),
    [
        (GB, "49.96", "pass"),  # §3.2: never rounded, though a screen shows 50.0
        (GB, "49.999999999999999", "pass"),
        (GB, "50", "suspect"),
        (GB, "50.0", "suspect"),
        (GB, "50.01", "suspect"),
        (NY, "50.0", "pass"),  # §3.3: the cut-off is the method's
        (NY, "69.99", "pass"),
        (NY, "70", "suspect"),
        (GB, "-15", "pass"),  # §3.4: noise
        (GB, "-20", "pass"),
        (GB, "-20.01", "invalid"),
        (GB, "100", "suspect"),
        (GB, "100.1", "invalid"),
    ],
)
def test_inhibition_at_the_cut_off_of_its_method(standard, value, verdict):
    judgement = inhibition(value, method_standard=standard)
    assert judgement.verdict == verdict
    if verdict == "invalid":
        assert "out_of_range" in judgement.flags
        assert not judgement.breaches
    else:
        (citation,) = judgement.citations
        assert citation.standard == standard
        assert (citation.comparator, citation.unit) == (">=", "%")
        assert citation.exceeded == (verdict == "suspect")


def test_a_suspect_inhibition_is_major_and_has_the_standard_in_its_rule():
    (breach,) = inhibition("63.2").breaches
    assert (breach.rule_id, breach.severity) == (f"inhibition:{GB}", Severity.MAJOR)
    assert breach.verdict is Verdict.SUSPECT  # §3.8: never "exceed" by itself


def test_a_pass_says_what_it_covers():
    reason = inhibition("10").reason
    assert "有机磷" in reason
    assert "nothing about other pesticides" in reason


@pytest.mark.parametrize(
    "text",
    ["GB/T5009.199—2003", "gb/t 5009.199", "《GB/T 5009.199-2003》蔬菜中…", "GB5009.199-2003"],
)
def test_a_method_standard_is_known_in_its_usual_spellings(text):
    judgement = inhibition("55", method_standard=text)
    assert judgement.verdict is Verdict.SUSPECT
    assert judgement.citations[0].standard == GB


@pytest.mark.parametrize("text", ["GB/T 5009.200-2003", "GB/T 5009.199-1996", "企业标准"])
def test_an_unknown_method_standard_is_undetermined_and_names_the_known(text):
    judgement = inhibition("10", method_standard=text)
    assert judgement.verdict is Verdict.UNDETERMINED
    assert GB in judgement.reason
    assert NY in judgement.reason


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("49.9", "pass"), ("50", "undetermined"), ("69.9", "undetermined"), ("70", "suspect")],
)
def test_without_a_method_standard_the_cut_offs_must_agree(value, verdict):
    judgement = inhibition(value, method_standard="")
    assert judgement.verdict == verdict
    assert len(judgement.citations) == 2


def test_a_cut_off_counts_from_the_day_its_standard_came_into_force():
    early = inhibition("60", tested_at="2003-12-31T23:59:59+08:00")
    assert early.verdict is Verdict.UNDETERMINED
    assert inhibition("60", tested_at="2004-01-01T00:00:00+08:00").verdict is Verdict.SUSPECT


@pytest.mark.parametrize(
    "name", ["韭菜", "洋葱", "芹菜", "香菜", "白萝卜", "茭白", "香菇", "西红柿", "大蒜"]
)
def test_products_prone_to_false_positives_are_flagged(name):
    judgement = inhibition("63.2", product_name=name)
    assert judgement.verdict is Verdict.SUSPECT
    assert "fp_prone" in judgement.flags
    assert "假阳性" in judgement.reason
    assert "fp_prone" not in inhibition("63.2", product_name="油麦菜").flags


@pytest.mark.parametrize(
    ("qualifier", "value", "verdict"),
    [
        ("lt", "50", "pass"),
        ("lt", "60", "undetermined"),
        ("gt", "50", "suspect"),
        ("gt", "40", "undetermined"),
    ],
)
def test_a_qualifier_may_leave_the_cut_off_open(qualifier, value, verdict):
    assert inhibition(value, qualifier=Qualifier(qualifier)).verdict == verdict


@pytest.mark.parametrize("unit", ["mg/kg", "RLU", "furlong"])
def test_inhibition_in_another_unit_is_undetermined(unit):
    judgement = inhibition("80", unit=unit)
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "unit_unknown" in judgement.flags
    assert "%" in judgement.reason


def test_inhibition_units_as_written():
    assert inhibition("80", unit="％").verdict is Verdict.SUSPECT
    assert inhibition("80", unit="").verdict is Verdict.SUSPECT


def test_inhibition_of_a_single_substance_makes_no_sense():
    assert inhibition("80", parameter="clenbuterol").verdict is Verdict.UNDETERMINED


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_value_that_is_no_number_is_invalid(value):
    assert inhibition(value).verdict is Verdict.INVALID
    assert laboratory(value).verdict is Verdict.INVALID


def test_inhibition_without_a_value_is_undetermined_or_invalid():
    given = {"result_kind": ResultKind.INHIBITION, "parameter": "农药残留", "unit": "%"}
    assert judged(**given).verdict is Verdict.UNDETERMINED
    assert judged(**given, screen_result=ScreenResult.INVALID).verdict is Verdict.INVALID


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["生  菜", "生菜\0\0", " 生菜 ", "普通白", "西红柿", "小白菜"])
def test_product_names_as_instruments_write_them(name):
    judgement = inhibition("10", product_name=name)
    assert judgement.verdict is Verdict.PASS
    assert "unmapped_product" not in judgement.flags


def test_an_unknown_product_never_passes_and_names_the_nearest():
    judgement = inhibition("10", product_name="油麦莱")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "unmapped_product" in judgement.flags
    assert "油麦菜" in judgement.reason
    # What is suspected does not depend on the product's name.
    assert inhibition("80", product_name="油麦莱").verdict is Verdict.SUSPECT
    assert strip(ScreenResult.POSITIVE, product_name="某某肉").severity is Severity.CRITICAL
    assert strip(ScreenResult.NEGATIVE, product_name="某某肉").verdict is Verdict.UNDETERMINED


def test_an_unknown_substance_is_undetermined_and_names_the_nearest():
    judgement = strip(ScreenResult.POSITIVE, parameter="clenbuterole")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "clenbuterol" in judgement.reason
    judgement = laboratory("1", parameter="克百")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "克百威" in judgement.reason


def test_an_unknown_method_is_undetermined_and_names_the_nearest():
    judgement = inhibition("10", method="enzym_inhibition", method_standard="")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "enzyme_inhibition" in judgement.reason
    assert inhibition("80", method="enzym", method_standard="").verdict is Verdict.UNDETERMINED
    assert inhibition("10", method="酶抑制", method_standard=GB).verdict is Verdict.PASS
    # Its standard gives the cut-off, so that a positive stands; a pass does not.
    assert inhibition("80", method="enzym", method_standard=GB).verdict is Verdict.SUSPECT
    assert inhibition("10", method="enzym", method_standard=GB).verdict is Verdict.UNDETERMINED
    assert strip(ScreenResult.NEGATIVE, method="card?").verdict is Verdict.UNDETERMINED


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("lc_ms", "confirmatory"),
        ("LC-MS/MS", "confirmatory"),
        ("gc_ms", "confirmatory"),
        ("hplc", "confirmatory"),
        ("icp_ms", "confirmatory"),
        ("lab", "confirmatory"),
        ("enzyme_inhibition", "screening"),
        ("胶体金", "screening"),
        ("sensor", "sensor"),
        ("", "screening"),
        ("something", "screening"),  # an unknown method never confirms
    ],
)
def test_method_class(method, expected):
    assert method_class(CATALOGUE, record(method=method)) is MethodClass(expected)


# ---------------------------------------------------------------- strips


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (ScreenResult.POSITIVE, "suspect"),
        (ScreenResult.NEGATIVE, "pass"),
        (ScreenResult.DOUBTFUL, "undetermined"),
        (ScreenResult.INVALID, "invalid"),
        (None, "undetermined"),
    ],
)
def test_what_a_strip_says(result, verdict):
    assert strip(result).verdict == verdict


def test_a_positive_strip_of_a_banned_substance_is_critical_and_cites_the_notice():
    judgement = strip(ScreenResult.POSITIVE)
    (breach,) = judgement.breaches
    assert (breach.rule_id, breach.verdict) == ("banned:clenbuterol", Verdict.SUSPECT)
    assert breach.severity is judgement.severity is Severity.CRITICAL
    assert breach.citation.standard == "MARA notice 250"
    assert "克仑特罗" in breach.citation.clause
    assert breach.citation.limit is None
    assert "limit_unverified" in judgement.flags  # that row is recalled


@pytest.mark.parametrize(
    "name", ["克仑特罗", "克伦特罗", "盐酸克伦特罗", "Clenbuterol", "37148-27-9"]
)
def test_a_substance_is_known_by_its_names(name):
    assert strip(ScreenResult.POSITIVE, parameter=name).breaches[0].rule_id == "banned:clenbuterol"


def test_a_marker_residue_stands_for_its_drug():
    judgement = strip(ScreenResult.POSITIVE, parameter="AOZ", product_name="草鱼")
    assert judgement.breaches[0].rule_id == "banned:furazolidone"


def test_without_a_control_line_the_strip_is_invalid():
    assert strip(ScreenResult.POSITIVE, c_line="0").verdict is Verdict.INVALID
    assert strip(ScreenResult.POSITIVE, c_line="12").verdict is Verdict.SUSPECT


def test_a_positive_strip_of_a_substance_that_is_not_banned_is_suspect():
    judgement = strip(ScreenResult.POSITIVE, parameter="吡虫啉", product_name="豇豆")
    (breach,) = judgement.breaches
    assert (breach.rule_id, breach.severity) == ("qualitative:imidacloprid", Severity.MAJOR)


def test_a_positive_strip_of_a_restricted_pesticide_depends_on_the_product():
    # Notice 2032: chlorpyrifos not on vegetables. Cowpea is one, rice is none, of fungi the notice does not speak.
    inside = strip(ScreenResult.POSITIVE, parameter="chlorpyrifos", product_name="豇豆")
    assert inside.breaches[0].rule_id == "banned:chlorpyrifos"
    assert inside.severity is Severity.CRITICAL
    outside = strip(ScreenResult.POSITIVE, parameter="chlorpyrifos", product_name="大米")
    assert outside.breaches[0].rule_id == "qualitative:chlorpyrifos"
    assert "not on vegetables" not in outside.reason
    for name in ("平菇", "某某", ""):
        left_open = strip(ScreenResult.POSITIVE, parameter="chlorpyrifos", product_name=name)
        assert left_open.breaches[0].rule_id == "qualitative:chlorpyrifos", name
        assert left_open.severity is Severity.MAJOR
        assert "not on vegetables" in left_open.reason


# ---------------------------------------------------------------- quantitative


@pytest.mark.parametrize(
    ("sampled", "notice"),
    [
        # Notice 736: carbofuran banned for all uses from 2026-06-01; before, restricted (notice 199).
        ("2026-05-31T23:59:59+08:00", "MOA notice 199"),
        ("2026-06-01T00:00:00+08:00", "MARA notice 736"),
        ("2026-05-31T16:00:00+00:00", "MARA notice 736"),
        ("", "MARA notice 736"),  # then the time of the test
    ],
)
def test_the_status_of_a_substance_is_that_of_the_sampling_day(sampled, notice):
    (breach,) = laboratory("0.03", lod="0.01", sampled_at=sampled).breaches
    assert breach.citation.standard == notice
    assert (breach.rule_id, breach.severity) == ("banned:carbofuran", Severity.CRITICAL)
    # On wheat, which notice 199 leaves out, there is no ban before notice 736.
    wheat = laboratory("0.03", lod="0.01", sampled_at=sampled, product_name="小麦")
    assert bool(wheat.breaches) == (notice == "MARA notice 736")


def test_strip_and_laboratory_share_the_rule_of_a_banned_substance():
    screened = strip(ScreenResult.POSITIVE, parameter="克百威", product_name="豇豆").breaches[0]
    confirmed = laboratory("0.03").breaches[0]
    assert screened.rule_id == confirmed.rule_id
    assert (screened.verdict, confirmed.verdict) == (Verdict.SUSPECT, Verdict.EXCEED)


@pytest.mark.parametrize(
    ("value", "fields", "verdict"),
    [
        ("0.01", {"lod": "0.01"}, "pass"),
        ("0.0100001", {"lod": "0.01"}, "exceed"),
        ("0.0001", {}, "exceed"),
        ("0", {}, "undetermined"),  # §3.9: a zero is a "not detected" of unknown sensitivity
        ("0", {"lod": "0.01"}, "pass"),
        ("0.01", {"qualifier": Qualifier.LT}, "pass"),
        ("0.01", {"qualifier": Qualifier.GT, "lod": "0.01"}, "exceed"),
        ("0.01", {"qualifier": Qualifier.LT, "lod": "0.003"}, "undetermined"),  # a trace
        (None, {"qualifier": Qualifier.NOT_DETECTED}, "undetermined"),
        (None, {"qualifier": Qualifier.NOT_DETECTED, "lod": "0.01"}, "pass"),
        (None, {}, "undetermined"),
        ("-0.1", {}, "invalid"),
        ("0.03", {"method": "elisa"}, "suspect"),
        ("0.03", {"method": "what"}, "suspect"),
        ("0.03", {"unit": "ppb"}, "exceed"),
        ("0.03", {"unit": "mg/stone"}, "undetermined"),
        ("0.03", {"unit": "%"}, "undetermined"),
        ("0.03", {"unit": ""}, "undetermined"),
    ],
)
def test_any_valid_detection_of_a_banned_substance_counts(value, fields, verdict):
    judgement = laboratory(value, **fields)
    assert judgement.verdict == verdict
    critical = verdict in ("exceed", "suspect")
    assert (judgement.severity is Severity.CRITICAL) == critical


def test_not_detected_says_at_which_detection_limit():
    judgement = laboratory(None, qualifier=Qualifier.NOT_DETECTED, lod="0.01")
    assert "0.01" in judgement.reason
    assert "not stated" in laboratory(None, qualifier=Qualifier.NOT_DETECTED).reason


def test_the_product_decides_between_pesticide_and_veterinary_notices():
    # Fipronil: restricted as a pesticide (notice 1157), banned for food animals (notice 2583).
    assert laboratory("0.1", parameter="fipronil", product_name="鸡蛋").verdict is Verdict.EXCEED
    plant = laboratory("0.1", parameter="fipronil", product_name="豇豆")
    assert plant.breaches[0].citation.standard == "MOA notice 1157"
    open_product = laboratory("0.1", parameter="fipronil", product_name="")
    assert open_product.verdict is Verdict.UNDETERMINED
    # Banned for all uses: found in meat, it is a violation too.
    assert laboratory("0.1", parameter="DDT", product_name="猪肉").verdict is Verdict.EXCEED


# ---------------------------------------------------------------- the rest


def test_the_kind_of_result_is_inferred_when_it_is_missing():
    assert strip(ScreenResult.POSITIVE, result_kind=None).verdict is Verdict.SUSPECT
    assert inhibition("60", result_kind=None).verdict is Verdict.SUSPECT
    assert laboratory("0.1", result_kind=None).verdict is Verdict.EXCEED
    assert judged(parameter="clenbuterol").verdict is Verdict.UNDETERMINED


def test_a_record_is_incomplete_until_it_has_what_the_form_needs():
    whole = {
        "sample_no": "1",
        "parameter": "op_carbamate_inhibition",
        "method": "enzyme_inhibition",
        "result_kind": ResultKind.INHIBITION,
        "purpose": "self",
        "tested_subject_name": "合作社",
    }
    assert not is_incomplete(record(**whole))
    for field in whole:
        assert is_incomplete(record(**{k: v for k, v in whole.items() if k != field})), field
    assert is_incomplete(record(**{**whole, "purpose": "routine"}))
    assert not is_incomplete(record(**{**whole, "purpose": "routine", "sampling_stage": "base"}))
