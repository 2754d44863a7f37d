"""A product, substance, method or indicator that is not known: undetermined, the nearest names said, never a pass."""

import itertools
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ingest.judge.lines import judge_lines

STRANGE = "龘"
"""A character that no name of any table has."""


def judge(*lines):
    raw = [json.dumps({"id": 1, **line}, ensure_ascii=False).encode() for line in lines]
    return [json.loads(answer) for answer in judge_lines(raw)]


# Results that pass when every name is known.
GOOD = {
    "inhibition": {
        "parameter": "抑制率", "product_name": "黄瓜", "method": "enzyme_inhibition", "value": "10",
        "method_standard": "GB/T 5009.199-2003", "result_kind": "inhibition", "unit": "%",
    },
    "negative strip": {
        "parameter": "毒死蜱", "product_name": "苹果", "method": "colloidal_gold",
        "result_kind": "qualitative", "screen_result": "negative",
    },
    "low number": {
        "parameter": "啶虫脒", "product_name": "黄瓜", "method": "lc_ms_ms", "value": "0.01",
        "result_kind": "quantitative", "unit": "mg/kg",
    },
    "not detected": {
        "parameter": "啶虫脒", "product_name": "黄瓜", "method": "lc_ms_ms", "loq": "0.005",
        "qualifier": "not_detected", "result_kind": "quantitative", "unit": "mg/kg",
    },
    "banned and not detected": {
        "parameter": "氯霉素", "product_name": "草鱼", "method": "lc_ms_ms", "lod": "0.1",
        "loq": "0.3", "qualifier": "not_detected", "result_kind": "quantitative", "unit": "ug/kg",
    },
}  # fmt: skip
NAMES = ("product_name", "parameter", "method")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def record(name, **more):
    return {"kind": "test", "sampled_at": "2026-05-15", **GOOD[name], **more}


@pytest.mark.parametrize("name", GOOD)
def test_with_known_names_it_is_a_pass(name):
    (reply,) = judge(record(name))
    assert reply["verdict"] == "pass", reply["reason"]


@pytest.mark.parametrize(("name", "field"), list(itertools.product(GOOD, NAMES)))
@settings(deadline=None)
@given(TEXT, TEXT)
def test_an_unknown_name_never_passes(name, field, before, after):
    line = record(name, **{field: before + STRANGE + after})
    (reply,) = judge(line)
    assert reply["verdict"] == "undetermined"
    assert " | " in reply["reason"]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        # Without the product there is no limit, without the substance nothing that a number or a strip is about.
        ("low number", "product_name"),
        ("low number", "parameter"),
        ("not detected", "product_name"),
        ("not detected", "parameter"),
        ("negative strip", "parameter"),
        ("banned and not detected", "parameter"),
    ],
)
@pytest.mark.parametrize("blank", ["", " ", "\0\0", "\u3000"])
def test_nor_does_a_name_that_is_missing_where_the_verdict_rests_on_it(name, field, blank):
    (reply,) = judge(record(name, **{field: blank}))
    assert reply["verdict"] == "undetermined"


@pytest.mark.parametrize("field", NAMES)
@settings(deadline=None)
@given(TEXT)
def test_a_banned_drug_that_is_detected_is_never_acquitted_by_an_unknown_name(field, text):
    assume(STRANGE not in text)
    line = record("banned and not detected", qualifier=None, value="5")
    (known,) = judge(line)
    assert known["verdict"] == "exceed"
    (reply,) = judge({**line, field: text + STRANGE})
    assert reply["verdict"] in ("undetermined", "suspect", "exceed")
    if field == "method":
        assert reply["verdict"] != "exceed"  # only a method that is known confirms


@pytest.mark.parametrize(
    ("field", "written", "meant"),
    [
        ("product_name", "结球干蓝", "结球甘蓝"),
        ("product_name", "胡萝ト", "胡萝卜"),
        ("product_name", "黄爪", "黄瓜"),
        ("parameter", "啶虫咪", "啶虫脒"),
        ("parameter", "毒死婢", "毒死蜱"),
        ("parameter", "acetamipird", "acetamiprid"),
        ("method", "胶体全法", "胶体金"),
        ("method", "lc_ns", "lc_ms"),
    ],
)
def test_the_nearest_known_name_is_said(field, written, meant):
    (reply,) = judge(record("low number", **{field: written}))
    assert reply["verdict"] == "undetermined"
    assert meant in reply["reason"]


@settings(deadline=None)
@given(TEXT)
def test_an_unknown_indicator_is_undetermined(text):
    line = {"kind": "reading", "value": 0.001, "unit": "mg/kg", "at": "2026-05-15"}
    (reply,) = judge({**line, "indicator": text + STRANGE})
    assert (reply["verdict"], reply["findings"]) == ("undetermined", [])


@pytest.mark.parametrize(
    ("written", "meant"), [("soil_cdd", "soil_cd"), ("watre_ph", "water_ph"), ("water_cod_cr", "water_codcr")]
)  # fmt: skip
def test_the_nearest_indicator_is_said(written, meant):
    line = {"kind": "reading", "value": 1, "indicator": written, "at": "2026-05-15"}
    (reply,) = judge(line)
    assert reply["verdict"] == "undetermined"
    assert meant in reply["reason"]


# The names that reach us cut, padded and blown up must still be known.
@pytest.mark.parametrize(
    "name",
    ["黄瓜\0\0", " 黄 瓜 ", "黄　瓜", "青瓜", "黄瓜\r\n", "\ufeff黄瓜"],
)  # fmt: skip
def test_padding_does_not_make_a_name_unknown(name):
    (reply,) = judge(record("inhibition", product_name=name))
    assert reply["verdict"] == "pass", reply["reason"]


@pytest.mark.parametrize(
    ("cut", "whole"), [("结球甘", "结球甘蓝"), ("叶用莴", "叶用莴苣"), ("樱桃番", "樱桃番茄")]
)
def test_six_bytes_of_gbk_are_three_characters_of_a_name(cut, whole):
    assert whole.encode("gbk")[:6].decode("gbk") == cut
    limits = []
    for product in (cut, cut + "\0", whole):
        line = record("low number", parameter="噻虫嗪", product_name=product)
        (reply,) = judge(line)
        assert reply["verdict"] == "pass", reply["reason"]
        limits.append([citation["limit"] for citation in reply["findings"]])
    assert limits[0] == limits[1] == limits[2] != []


def test_a_cut_that_could_be_two_products_is_no_name():
    """茎用莴苣 is a stem, 茎用莴苣叶 a leaf, with limits of their own: three characters of them say neither."""
    (reply,) = judge(record("low number", parameter="噻虫嗪", product_name="茎用莴"))
    assert reply["verdict"] == "undetermined"
    assert "茎用莴苣" in reply["reason"]
