"""What holds of every verdict, whatever the limits are: units, order, one value against another, what is no number."""

import functools
import json
import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.lines import judge_lines
from ingest.judge.readings.conditions import check
from ingest.judge.readings.readings import judge_reading

AT = "2026-05-15"


def judge(lines):
    return [json.loads(answer) for answer in judge_lines(lines)]


def line(kind, value=None, **fields):
    """Return a line whose value has exactly these digits: a float in between would change them."""
    text = json.dumps({"id": 1, "kind": kind, **fields}, ensure_ascii=False)
    if value is None:
        return text.encode()
    number = f"{value:f}" if kind == "reading" else f'"{value:f}"'
    return f'{text[:-1]}, "value": {number}}}'.encode()


# ---------------------------------------------------------------- one quantity in several units

CONTENT = {"mg/kg": Decimal(1), "ug/kg": Decimal(1000), "ppm": Decimal(1), "g/kg": Decimal("0.001"),
           "ppb": Decimal(1000), "ug/g": Decimal(1), "mg/100g": Decimal("0.1")}  # fmt: skip
CONCENTRATION = {"mg/L": Decimal(1), "ug/L": Decimal(1000), "ng/L": Decimal(1_000_000),
                 "g/m3": Decimal(1), "ug/mL": Decimal(1)}  # fmt: skip
GERMS = {"{count}/L": Decimal(1), "{MPN}/L": Decimal(1), "{MPN}/(100.mL)": Decimal("0.1"),
         "{CFU}/mL": Decimal("0.001")}  # fmt: skip
EGGS = {"{eggs}/(10.L)": Decimal(1), "{eggs}/L": Decimal("0.1")}

READINGS = [
    # indicator, units, context, limits in the first unit
    ("soil_cd", CONTENT, {"ph": 6.0, "land_use": "paddy"}, ("0.4", "2")),
    ("soil_hg", CONTENT, {"ph": 5.0, "land_use": "paddy_upland_rotation"}, ("0.5", "2")),
    ("soil_as", CONTENT, {"land_use": "paddy"}, ("20", "25", "30", "100", "200")),
    ("water_hg", CONCENTRATION, {"water_use": "irrigation"}, ("0.001",)),
    ("water_hg", CONCENTRATION, {"water_use": "surface", "water_class": "I"}, ("0.00005",)),
    ("water_cd", CONCENTRATION, {"water_use": "livestock"}, ("0.01", "0.05")),
    ("water_cu", CONCENTRATION, {"water_use": "fishery"}, ("0.01",)),
    ("water_do", CONCENTRATION, {"water_use": "surface", "water_class": "II"}, ("6",)),
    ("water_faecal_coliform", GERMS, {"water_use": "irrigation", "crop": "dry"}, ("40000",)),
    ("water_ascaris_eggs", EGGS, {"water_use": "irrigation", "crop": "paddy"}, ("20",)),
]  # fmt: skip


def near(limits):
    """Return values at, just beside and around limits, and any others."""
    around = [
        Decimal(limit) * part
        for limit in limits
        for part in map(Decimal, ("1", "0.999", "1.001", "0.5", "2", "6"))
    ]
    return st.one_of(
        st.sampled_from(around), st.decimals(min_value=0, max_value=50, places=4, allow_nan=False)
    )


def told(reply):
    """Return what must be the same for the same quantity."""
    kept = ("standard", "clause", "level", "comparator", "limit", "unit", "exceeded")
    findings = [{key: c[key] for key in kept} for c in reply["findings"]]
    return reply["verdict"], reply["severity"], reply["flags"], findings


@settings(deadline=None)
@given(st.data(), st.sampled_from(READINGS))
def test_the_unit_of_a_reading_does_not_matter(data, case):
    indicator, units, context, limits = case
    value = data.draw(near(limits))
    first, *others = judge(
        line("reading", value * factor, indicator=indicator, unit=unit, at=AT, context=context)
        for unit, factor in units.items()
    )
    for other in others:
        assert told(other) == told(first)


@pytest.mark.parametrize(("celsius", "verdict"), [("35", "pass"), ("35.1", "exceed")])
def test_nor_does_the_zero_of_a_temperature_scale(celsius, verdict):
    value = Decimal(celsius)
    fields = {"indicator": "water_temperature", "at": AT, "context": {"water_use": "irrigation"}}
    for unit, shown in (
        ("Cel", value), ("K", value + Decimal("273.15")), ("[degF]", value * Decimal("1.8") + 32),
    ):  # fmt: skip
        assert judge([line("reading", shown, unit=unit, **fields)])[0]["verdict"] == verdict


TESTS = [
    # substance, product, a limit in mg/kg
    ("啶虫脒", "黄瓜", "1"),
    ("噻虫嗪", "洋葱", "0.02"),
    ("噻虫嗪", "蕹菜", "3"),
    ("毒死蜱", "芹菜", "0.05"),
    ("克百威", "花生仁", "0.2"),
    ("多西环素", "牛肉", "0.1"),
    ("阿莫西林", "牛奶", "0.004"),
    ("氯霉素", "草鱼", "0.001"),
]
METHODS = st.sampled_from(["lc_ms_ms", "gc_ms", "elisa", "fluorescence_strip", ""])
QUALIFIERS = st.sampled_from([None, "eq", "lt", "gt", "not_detected"])


def record_line(case, value, method, qualifier=None, unit="mg/kg", factor=1, **more):
    substance, product, limit = case
    fields = {
        "parameter": substance, "product_name": product, "method": method, "unit": unit,
        "result_kind": "quantitative", "sampled_at": AT, "qualifier": qualifier,
        "loq": f"{Decimal(limit) / 2 * factor:f}", **more,
    }  # fmt: skip
    return line("test", value * factor, **fields)


@settings(deadline=None)
@given(st.data(), st.sampled_from(TESTS), METHODS, QUALIFIERS)
def test_the_unit_of_a_test_does_not_matter(data, case, method, qualifier):
    value = data.draw(near([case[2]]))
    first, *others = judge(
        record_line(case, value, method, qualifier, unit, factor)
        for unit, factor in CONTENT.items()
    )
    for other in others:
        assert told(other) == told(first)


@settings(deadline=None)
@given(st.data(), st.sampled_from(TESTS))
def test_a_component_may_have_a_unit_of_its_own(data, case):
    value = data.draw(near([case[2]]))
    replies = judge(
        line(
            "test", parameter=case[0], product_name=case[1], method="lc_ms_ms", unit="mg/kg",
            result_kind="quantitative", sampled_at=AT,
            components=[{"parameter": case[0], "value": f"{value * factor:f}", "unit": unit}],
        )
        for unit, factor in CONTENT.items()
    )  # fmt: skip
    for other in replies[1:]:
        assert told(other) == told(replies[0])


# ---------------------------------------------------------------- order

SAMPLE = [
    line("reading", Decimal("0.5"), indicator="soil_cd", at=AT, context={"ph": 6, "land_use": "paddy"}),
    line("reading", Decimal("0.5"), indicator="soil_cd", at=AT),
    line("reading", Decimal(5), indicator="water_ph", at=AT, context={"water_use": "irrigation"}),
    line("reading", Decimal(1), indicator="soil_cdd", at=AT),
    line("test", Decimal(60), parameter="抑制率", product_name="黄瓜", unit="%", result_kind="inhibition"),
    *(
        record_line(case, Decimal(case[2]) * part, method)
        for case in TESTS
        for part in (Decimal("0.5"), Decimal(2))
        for method in ("lc_ms_ms", "elisa")
    ),
    b"{",
]  # fmt: skip


def without_number(reply):
    """An answer to a line that cannot be read names its number."""
    return {**reply, "reason": ""} if reply["verdict"] == "invalid" else reply


@functools.cache
def alone():
    return [without_number(judge([one])[0]) for one in SAMPLE]


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(len(SAMPLE))), st.integers(1, 9))
def test_the_order_and_the_company_of_lines_do_not_matter(order, size):
    shuffled = [SAMPLE[n] for n in order]
    answers = [
        reply for start in range(0, len(shuffled), size) for reply in judge(shuffled[start : start + size])
    ]  # fmt: skip
    assert [without_number(reply) for reply in answers] == [alone()[n] for n in order]


# ---------------------------------------------------------------- more is never better

RANK = {"pass": 0, "undetermined": 1, "suspect": 2, "exceed": 2}
RISING = [case for case in READINGS if case[0] != "water_do"]


@settings(deadline=None)
@given(st.data(), st.sampled_from(RISING))
def test_a_higher_reading_is_never_judged_milder(data, case):
    indicator, units, context, limits = case
    low, high = sorted((data.draw(near(limits)), data.draw(near(limits))))
    unit = next(iter(units))
    fields = {"indicator": indicator, "unit": unit, "at": AT, "context": context}
    mild, grave = judge([line("reading", value, **fields) for value in (low, high)])
    assert RANK[mild["verdict"]] <= RANK[grave["verdict"]]


@settings(deadline=None)
@given(st.data(), st.sampled_from(["I", "II", "III", "IV", "V", None]))
def test_less_oxygen_is_never_judged_milder(data, water_class):
    low, high = sorted((data.draw(near(["6", "7.5", "2"])), data.draw(near(["3", "5"]))))
    context = {"water_use": "surface", "water_class": water_class}
    fields = {"indicator": "water_do", "unit": "mg/L", "at": AT, "context": context}
    grave, mild = judge([line("reading", value, **fields) for value in (low, high)])
    assert RANK[mild["verdict"]] <= RANK[grave["verdict"]]


@settings(deadline=None)
@given(st.data(), st.sampled_from(TESTS), METHODS)
def test_a_higher_test_is_never_judged_milder(data, case, method):
    low, high = sorted((data.draw(near([case[2]])), data.draw(near([case[2]]))))
    mild, grave = judge([record_line(case, value, method) for value in (low, high)])
    assert RANK[mild["verdict"]] <= RANK[grave["verdict"]]


@settings(deadline=None)
@given(
    st.sampled_from(["GB/T 5009.199-2003", "NY/T 448-2001", ""]),
    st.sampled_from(["黄瓜", "韭菜", "没有这种菜"]),
    st.lists(st.decimals(-20, 100, places=2, allow_nan=False), min_size=2, max_size=2),
)
def test_more_inhibition_is_never_judged_milder(standard, product, values):
    fields = {
        "parameter": "抑制率", "product_name": product, "method": "enzyme_inhibition",
        "method_standard": standard, "result_kind": "inhibition", "unit": "%", "sampled_at": AT,
    }  # fmt: skip
    mild, grave = judge([line("test", value, **fields) for value in sorted(values)])
    assert RANK[mild["verdict"]] <= RANK[grave["verdict"]]
    assert grave["verdict"] != "exceed"


# ---------------------------------------------------------------- what is no number


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{n} {c[0]}") for n, c in enumerate(READINGS)]
)
def test_a_reading_that_is_no_number_is_invalid(number, case):
    indicator, units, context, _ = case
    text = line("reading", indicator=indicator, unit=next(iter(units)), at=AT, context=context)
    (reply,) = judge([text[:-1] + f', "value": {number}}}'.encode()])
    assert (reply["verdict"], reply["findings"]) == ("invalid", [])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nor_is_it_judged_past_the_decoder(number):
    conditions = check({"ph": 6.0, "land_use": "paddy"})
    judgement = judge_reading(standard_catalogue(), "soil_cd", number, conditions, None)
    assert judgement.verdict == "invalid"
    assert not judgement.breaches


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("case", [pytest.param(c, id=f"{n}") for n, c in enumerate(TESTS)])
def test_a_test_that_is_no_number_is_invalid(number, case):
    text = line("test", parameter=case[0], product_name=case[1], method="lc_ms_ms", unit="mg/kg",
                result_kind="quantitative", sampled_at=AT)  # fmt: skip
    (reply,) = judge([text[:-1] + f', "value": "{number}"}}'.encode()])
    assert reply["verdict"] == "invalid"
    assert not any(citation["exceeded"] for citation in reply["findings"])
