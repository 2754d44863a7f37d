"""Quantitative results: limits of GB 2763 and GB 31650, bans and decision limits, each argued from its text."""

from decimal import Decimal

import pytest

from drivers.records import Component, Qualifier, Severity, TestRecord, Verdict
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.records.rapid import judge_test

CATALOGUE = standard_catalogue()
ND = Qualifier.NOT_DETECTED


def judged(**fields):
    given = {
        "record_id": "r1",
        "dedup_key": "d1",
        "tested_at": "2026-07-01T08:30:00+08:00",
        "device_id": "lab1",
        "result_kind": "quantitative",
        "method": "lc_ms",
        "unit": "mg/kg",
        "product_name": "豇豆",
        "parameter": "吡虫啉",
        **fields,
    }
    for name in ("value", "lod", "loq"):
        if given.get(name) is not None:
            given[name] = Decimal(given[name])
    return judge_test(CATALOGUE, TestRecord(**given))


def part(parameter, value=None, **fields):
    numbers = {k: Decimal(v) if k in ("lod", "loq") else v for k, v in fields.items()}
    return Component(
        parameter=parameter, value=None if value is None else Decimal(value), **numbers
    )


# ---------------------------------------------------------------- a plain limit (imidacloprid, legume vegetables: 2)


@pytest.mark.parametrize(
    ("value", "fields", "verdict"),
    [
        ("2", {}, "pass"),  # equal to the limit complies
        ("2.00", {}, "pass"),
        ("2.0000000000000000000000000000000001", {}, "exceed"),  # never rounded
        ("2000", {"unit": "ug/kg"}, "pass"),
        ("2000.1", {"unit": "ppb"}, "exceed"),
        ("2.1", {"unit": "ppm"}, "exceed"),
        ("0.2", {"unit": "mg/100g"}, "pass"),
        ("0.21", {"unit": "mg/100g"}, "exceed"),
        ("2.1", {"unit": "mg/L"}, "undetermined"),  # §3.12: no guess of a density
        ("2.1", {"unit": "RLU"}, "undetermined"),
        ("2.1", {"unit": ""}, "undetermined"),
        ("2.1", {"method": "elisa"}, "suspect"),
        ("2.1", {"method": ""}, "suspect"),
        ("1", {"method": "elisa"}, "pass"),
        ("2", {"qualifier": Qualifier.LT}, "pass"),
        ("2.1", {"qualifier": Qualifier.LT}, "undetermined"),
        ("2", {"qualifier": Qualifier.GT}, "exceed"),
        ("1", {"qualifier": Qualifier.GT}, "undetermined"),
        ("1e999999999", {}, "invalid"),
        ("1000001", {}, "invalid"),  # more than the sample weighs
        ("1e-999999999", {}, "pass"),
    ],
)
def test_a_number_against_its_limit(value, fields, verdict):
    judgement = judged(value=value, **fields)
    assert judgement.verdict == verdict
    assert bool(judgement.breaches) == (verdict in ("exceed", "suspect"))
    if judgement.breaches:
        assert judgement.severity is Severity.MAJOR
        assert judgement.breaches[0].rule_id == "mrl:imidacloprid"


def test_the_citation_freezes_the_row_and_how_it_was_found():
    (citation,) = judged(value="2.5", lod="0.01", loq="0.03").citations
    assert (citation.standard, citation.comparator, citation.limit) == ("GB 2763-2026", ">", 2.0)
    assert (citation.unit, citation.ratio, citation.exceeded) == ("mg/kg", 1.25, True)
    conditions = citation.conditions
    assert (conditions["product"], conditions["matched_level"]) == ("豇豆", "group")
    assert "豆类蔬菜" in conditions["matched"]
    assert (conditions["lod"], conditions["loq"]) == ("0.01", "0.03")


# ---------------------------------------------------------------- not detected (§3.9)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "undetermined"),  # neither stated
        ({"lod": "0.01"}, "pass"),
        ({"loq": "2"}, "pass"),
        ({"loq": "2.1", "lod": "0.01"}, "undetermined"),  # LOQ above the limit
        ({"lod": "2.1"}, "undetermined"),
        ({"lod": "0"}, "undetermined"),
        ({"lod": "NaN"}, "undetermined"),
    ],
)
def test_not_detected_passes_only_below_the_limit(fields, verdict):
    judgement = judged(qualifier=ND, **fields)
    assert judgement.verdict == verdict
    assert judgement.citations[0].ratio is None  # §3.9: not detected is no zero


def test_a_value_that_is_not_above_its_detection_limit_is_not_detected():
    assert judged(value="0.005", lod="0.01", loq="3").verdict is Verdict.UNDETERMINED
    assert judged(value="0.02", lod="0.01", loq="3").verdict is Verdict.PASS
    assert judged(value="0").verdict is Verdict.UNDETERMINED


# ---------------------------------------------------------------- no limit is not zero (§3.10)


def test_no_limit_for_the_pair_is_neither_pass_nor_fail():
    for fields in ({"value": "0.3"}, {"qualifier": ND, "lod": "0.01"}):
        judgement = judged(product_name="大米", parameter="毒死蜱", **fields)
        assert judgement.verdict is Verdict.UNDETERMINED
        assert not judgement.citations
        assert "无判定标准" in judgement.reason
    judgement = judged(value="0.3", parameter="clenbuterol")  # a drug, in a vegetable
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "no limit for clenbuterol" in judgement.reason


@pytest.mark.parametrize("name", ["", "油麦莱"])
def test_without_a_known_product_no_limit_is_chosen(name):
    judgement = judged(value="0.001", product_name=name)
    assert judgement.verdict is Verdict.UNDETERMINED
    assert judged(value="5000", product_name=name).verdict is Verdict.UNDETERMINED


# ---------------------------------------------------------------- editions


def test_the_edition_is_that_of_the_sampling_day():
    # Thiamethoxam in brown rice: 0.1 in the 2021 edition, 0.5 in that of 2026 (standards README).
    case = {"parameter": "噻虫嗪", "product_name": "糙米", "value": "0.3"}
    before = judged(**case, sampled_at="2026-02-28T23:59:59+08:00")
    after = judged(**case, sampled_at="2026-03-01T00:00:00+08:00")
    assert (before.verdict, after.verdict) == (Verdict.EXCEED, Verdict.PASS)
    assert [j.citations[0].limit for j in (before, after)] == [0.1, 0.5]
    # A result of a later day counts under the edition of its sampling day.
    assert judged(**case, sampled_at="2026-02-28", tested_at="2026-03-09").verdict is Verdict.EXCEED


def test_without_any_time_the_editions_must_agree():
    case = {"parameter": "噻虫嗪", "product_name": "糙米", "tested_at": ""}
    assert judged(**case, value="0.3").verdict is Verdict.UNDETERMINED
    assert judged(**case, value="0.1").verdict is Verdict.PASS
    assert judged(**case, value="0.6").verdict is Verdict.EXCEED


def test_a_substance_that_the_new_table_lacks_falls_back_and_says_so():
    judgement = judged(parameter="阿维菌素", product_name="糙米", value="0.03")
    assert judgement.verdict is Verdict.EXCEED
    assert judgement.citations[0].standard == "GB 2763-2021"
    assert judgement.citations[0].conditions["fallback"] == "yes"
    assert "limit_fallback" in judgement.flags
    assert "GB 2763-2021" in judgement.reason
    before = judged(
        parameter="阿维菌素", product_name="糙米", value="0.03", sampled_at="2025-01-01"
    )
    assert "limit_fallback" not in before.flags


def test_a_sample_from_before_the_first_edition_has_no_limit():
    judgement = judged(value="50", sampled_at="2015-01-01")
    assert judgement.verdict is Verdict.UNDETERMINED
    assert "no edition" in judgement.reason


# ---------------------------------------------------------------- bans beside limits


@pytest.mark.parametrize(
    ("product", "value", "verdict", "rule"),
    [
        # Notice 2032: chlorpyrifos not on vegetables. Cowpea: GB 2763-2026 0.02.
        ("豇豆", "0.01", "exceed", "banned:chlorpyrifos"),
        ("豇豆", "0.03", "exceed", "banned:chlorpyrifos"),
        # Wheat is no vegetable: judged by its limit.
        ("小麦", "0.4", "pass", None),
        ("小麦", "0.6", "exceed", "mrl:chlorpyrifos"),
    ],
)
def test_a_restriction_counts_on_the_products_it_names(product, value, verdict, rule):
    judgement = judged(parameter="毒死蜱", product_name=product, value=value, lod="0.005")
    assert judgement.verdict == verdict
    assert [b.rule_id for b in judgement.breaches] == ([rule] if rule else [])


def test_banned_and_below_its_limit_is_a_violation_with_both_cited():
    judgement = judged(parameter="毒死蜱", value="0.01", lod="0.005")
    notice, row = judgement.citations
    assert (notice.standard, notice.exceeded) == ("MOA notice 2032", True)
    assert (row.standard, row.limit, row.exceeded) == ("GB 2763-2026", 0.02, False)
    assert "within the residue limit, but banned" in judgement.reason
    screened = judged(parameter="毒死蜱", value="0.01", lod="0.005", method="胶体金")
    assert screened.verdict is Verdict.SUSPECT
    assert screened.severity is Severity.CRITICAL


def test_an_extraneous_limit_is_named_beside_the_ban():
    judgement = judged(parameter="六六六", product_name="菠菜", value="0.01")
    assert judgement.verdict is Verdict.EXCEED
    assert judgement.citations[1].level == "emrl"
    assert "EMRL" in judgement.reason


@pytest.mark.parametrize(
    ("product", "value", "verdict"),
    [
        # Notice 1157: all crops except seed coating of maize and some dryland crops.
        ("豇豆", "0.01", "exceed"),  # no dryland seed: banned
        ("大米", "0.01", "exceed"),
        ("玉米", "0.05", "pass"),  # excepted: its limit is 0.1
        ("玉米", "0.11", "exceed"),
        ("小麦", "0.001", "undetermined"),  # "some dryland crops": a person must say
        ("小麦", "0.003", "exceed"),  # over its limit of 0.002 whatever is said
    ],
)
def test_fipronil_is_banned_with_exceptions(product, value, verdict):
    assert judged(parameter="氟虫腈", product_name=product, value=value).verdict == verdict


def test_a_ban_of_all_uses_needs_no_known_product():
    assert judged(parameter="甲胺磷", product_name="某某", value="0.01").verdict is Verdict.EXCEED
    assert (
        judged(parameter="毒死蜱", product_name="某某", value="9").verdict is Verdict.UNDETERMINED
    )


# ---------------------------------------------------------------- sums of a residue


def test_a_result_named_by_the_parent_is_taken_as_defined():
    judgement = judged(
        parameter="恩诺沙星", product_name="猪肉", unit="ug/kg", value="100.1", method="lc_ms"
    )
    assert judgement.verdict is Verdict.EXCEED
    assert "definition_assumed" in judgement.flags
    assert "环丙沙星" in judgement.reason


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        # GB 31650: enrofloxacin + ciprofloxacin in pork muscle, 100 ug/kg.
        ([("恩诺沙星", "60"), ("环丙沙星", "40")], "pass"),
        ([("恩诺沙星", "60"), ("环丙沙星", "40.1")], "exceed"),
        ([("恩诺沙星", "100.1")], "exceed"),  # whatever the other is
        ([("恩诺沙星", "60")], "undetermined"),  # the other is not known
    ],
)
def test_components_are_summed(parts, verdict):
    judgement = judged(
        parameter="恩诺沙星",
        product_name="猪肉",
        unit="ug/kg",
        components=[part(*one) for one in parts],
    )
    assert judgement.verdict == verdict
    assert "definition_assumed" not in judgement.flags
    assert "enrofloxacin" in judgement.citations[0].conditions["computed_from"]


def test_a_component_that_was_not_detected_counts_as_less_than_its_limit_of_quantification():
    def both(**fields):
        components = [part("恩诺沙星", "90"), part("环丙沙星", qualifier=ND, **fields)]
        return judged(
            parameter="恩诺沙星", product_name="猪肉", unit="ug/kg", components=components
        ).verdict

    assert both(loq="10") is Verdict.PASS
    assert both(loq="11") is Verdict.UNDETERMINED
    assert both() is Verdict.UNDETERMINED


def test_components_may_come_in_units_of_their_own():
    components = [part("恩诺沙星", "0.06", unit="mg/kg"), part("环丙沙星", "40.1")]
    judgement = judged(
        parameter="恩诺沙星", product_name="猪肉", unit="ug/kg", components=components
    )
    assert judgement.verdict is Verdict.EXCEED


def test_an_unknown_or_doubled_component_never_passes():
    for parts in ([("恩诺沙星", "1"), ("某某沙星", "1")], [("恩诺沙星", "1"), ("恩诺沙星", "1")]):
        judgement = judged(
            parameter="恩诺沙星",
            product_name="猪肉",
            unit="ug/kg",
            components=[part(*one) for one in parts],
        )
        assert judgement.verdict is Verdict.UNDETERMINED


def test_a_value_above_the_sum_of_its_components_never_passes():
    components = [part("恩诺沙星", "60"), part("环丙沙星", "20")]
    case = {
        "parameter": "恩诺沙星",
        "product_name": "猪肉",
        "unit": "ug/kg",
        "components": components,
    }
    assert judged(**case, value="80").verdict is Verdict.PASS
    assert judged(**case, value="60").verdict is Verdict.PASS
    assert judged(**case, value="130").verdict is Verdict.UNDETERMINED


def test_a_lone_metabolite_is_a_lower_bound():
    case = {"parameter": "环丙沙星", "product_name": "猪肉", "unit": "ug/kg"}
    assert judged(**case, value="100.1").verdict is Verdict.EXCEED
    assert judged(**case, value="50").verdict is Verdict.UNDETERMINED


def test_a_metabolite_of_a_banned_substance_is_a_detection_of_it():
    judgement = judged(parameter="3-羟基克百威", value="0.01")
    assert judgement.breaches[0].rule_id == "banned:carbofuran"


def test_tetracyclines_count_single_and_together():
    case = {"product_name": "猪肉", "unit": "ug/kg"}  # GB 31650: 200 ug/kg, single or sum
    assert judged(parameter="土霉素", value="200", **case).verdict is Verdict.PASS
    assert judged(parameter="土霉素", value="200.1", **case).verdict is Verdict.EXCEED
    components = [part("土霉素", "120"), part("金霉素", "80.1"), part("四环素", "0", loq="1")]
    together = judged(parameter="四环素类", components=components, **case)
    assert together.verdict is Verdict.EXCEED


# ---------------------------------------------------------------- zero tolerance, fat basis


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"value": "0.3"}, "exceed"),
        ({"value": "0.3", "method": "elisa"}, "suspect"),
        ({"value": "0.3", "lod": "0.5"}, "pass"),
        ({"qualifier": ND, "lod": "0.5"}, "pass"),
        ({"qualifier": ND}, "undetermined"),
    ],
)
def test_what_must_not_be_detected(fields, verdict):
    # GB 31650: diazepam must not be detected in any edible tissue.
    judgement = judged(parameter="地西泮", product_name="猪肉", unit="ug/kg", **fields)
    assert judgement.verdict == verdict
    (citation,) = judgement.citations
    assert (citation.level, citation.comparator, citation.limit) == (
        "zero_tolerance",
        "detected",
        None,
    )


def test_a_limit_on_the_fat_needs_a_result_on_the_fat():
    # GB 2763-2026: chlorpyrifos in pork, 0.02 mg/kg, 以脂肪中的残留量计.
    case = {"parameter": "毒死蜱", "product_name": "猪肉"}
    assert judged(**case, value="0.03", basis="fat").verdict is Verdict.EXCEED
    assert judged(**case, value="0.02", basis="fat").verdict is Verdict.PASS
    for basis in ("product", None):
        judgement = judged(**case, value="0.03", basis=basis)
        assert judgement.verdict is Verdict.UNDETERMINED
        assert "fat basis" in judgement.reason
    # The other way round only a result within the limit says something.
    assert judged(value="1", basis="fat").verdict is Verdict.PASS
    assert judged(value="3", basis="fat").verdict is Verdict.UNDETERMINED


# ---------------------------------------------------------------- decision limits of rapid_tests.csv


@pytest.mark.parametrize(
    ("parameter", "product", "unit", "limit"),
    [
        ("黄曲霉毒素B1", "花生仁", "ug/kg", "20"),
        ("黄曲霉毒素B1", "玉米", "ug/kg", "20"),
        ("黄曲霉毒素B1", "大米", "ug/kg", "10"),
        ("黄曲霉毒素B1", "小麦粉", "ug/kg", "5"),
        ("黄曲霉毒素M1", "牛奶", "ug/kg", "0.5"),
        ("三聚氰胺", "牛奶", "mg/kg", "2.5"),
        ("三聚氰胺", "婴儿配方食品", "mg/kg", "1"),
    ],
)
def test_a_national_limit_behind_a_screening_method(parameter, product, unit, limit):
    case = {"parameter": parameter, "product_name": product, "unit": unit}
    at_limit = judged(**case, value=limit, method="elisa")
    assert at_limit.verdict is Verdict.PASS
    assert at_limit.citations[0].limit == float(limit)
    above = judged(**case, value=f"{limit}.01" if "." not in limit else f"{limit}1", method="elisa")
    assert above.verdict is Verdict.SUSPECT
    assert above.breaches[0].citation.level == "decision"
    assert judged(**case, value="1000").verdict is Verdict.EXCEED


def test_a_screening_decision_limit_is_cited_beside_the_table():
    judgement = judged(
        parameter="恩诺沙星", product_name="草鱼", unit="ug/kg", value="101", method="胶体金"
    )
    assert judgement.verdict is Verdict.SUSPECT
    assert [c.level for c in judgement.citations] == ["residue", "decision"]
    assert len(judgement.breaches) == 1


def test_a_detection_limit_is_no_limit():
    # rapid_tests.csv holds 3.0 mg/kg as what the method sees of dimethoate: nothing is judged by it.
    judgement = judged(
        parameter="乐果", product_name="大米", value="2.9", method="enzyme_inhibition"
    )
    assert "3.0" not in judgement.reason
    assert all(c.standard != "GB/T 5009.199-2003" for c in judgement.citations)


def test_urine_is_measured_per_volume_and_meat_is_not():
    case = {"parameter": "克伦特罗", "value": "6", "unit": "ng/mL", "method": "胶体金"}
    assert judged(**case, product_name="猪尿").verdict is Verdict.SUSPECT
    assert judged(**case, product_name="猪肉").verdict is Verdict.UNDETERMINED
