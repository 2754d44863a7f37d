"""What is computed from readings, against published values and the plain loop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import indicators
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.readings.companions import held_low
from ingest.judge.readings.conditions import check
from ingest.judge.readings.derived import (
    HOLD_MS,
    NH3_PER_N,
    WARMEST_DEGC,
    low_and_other_ms,
    oxygen_saturation,
    unionised_n,
)
from ingest.judge.readings.readings import judge_reading
from ingest.judge.readings.surface import surface_class

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_777_600_000_000  # 2026-05-01
CATALOGUE = standard_catalogue()


# ---------------------------------------------------------------- un-ionised ammonia


@pytest.mark.parametrize(
    ("ph", "temp_degc", "percent"),
    # Emerson et al. 1975, table 3: percent un-ionised in fresh water.
    [(7.0, 20, 0.396), (8.0, 20, 3.82), (8.0, 25, 5.38), (9.0, 25, 36.3), (9.0, 10, 15.7)],
)
def test_unionised_ammonia_is_that_of_the_published_table(ph, temp_degc, percent):
    assert 100 * unionised_n(1.0, ph, temp_degc) == pytest.approx(percent, rel=0.005)


def ammonia(total_n, **beside):
    conditions = check({"water_use": "fishery", **beside})
    return judge_reading(CATALOGUE, "water_ammonia_n", total_n, conditions, NOW)


# At pH 8 and 25 degrees 5.37 % is un-ionised: 0.02 mg/L as N is 0.3727 of total N, as NH3 0.3065.
@pytest.mark.parametrize(
    ("total_n", "verdict"),
    [(0.306, "pass"), (0.307, "undetermined"), (0.372, "undetermined"), (0.374, "exceed")],
)
def test_ammonia_is_judged_where_both_readings_of_the_text_agree(total_n, verdict):
    judgement = ammonia(total_n, water_ph=8.0, water_temperature=25.0)
    assert judgement.verdict == verdict
    assert ("NH3" in judgement.reason) == (verdict == "undetermined")
    (citation,) = judgement.citations
    assert citation.conditions["water_ph"] == 8.0
    assert citation.conditions["water_temperature"] == 25.0
    assert citation.conditions["water_ammonia_n"] == total_n
    assert citation.conditions["computed_from"] == "water_ammonia_n, water_ph, water_temperature"
    assert citation.ratio == pytest.approx(total_n * 0.0538 / 0.02, rel=0.005)
    assert citation.exceeded == (verdict == "exceed")


@pytest.mark.parametrize("beside", [{}, {"water_ph": 9.0}, {"water_temperature": 25.0}])
def test_ammonia_without_its_companions_is_undetermined_unless_it_cannot_matter(beside):
    judgement = ammonia(2.0, **beside)
    assert judgement.verdict == "undetermined"
    for name in {"water_ph", "water_temperature"} - set(beside):
        assert name in judgement.reason
    # All of it un-ionised, as NH3, would be 0.0195.
    assert ammonia(0.016, **beside).verdict == "pass"
    assert ammonia(0.0165, **beside).verdict == "undetermined"
    assert round(NH3_PER_N, 4) == 1.2159


def test_a_companion_that_cannot_be_is_said_and_not_used():
    judgement = ammonia(2.0, water_ph=19.0, water_temperature=25.0)
    assert judgement.verdict == "undetermined"
    assert "water_ph" in judgement.reason


def test_ammonia_of_other_water_is_judged_by_its_own_limits_only():
    conditions = check({"water_use": "surface", "water_class": "III", "water_ph": 9.0})
    judgement = judge_reading(CATALOGUE, "water_ammonia_n", 0.9, conditions, NOW)
    assert (judgement.verdict, len(judgement.citations)) == ("pass", 1)


# ---------------------------------------------------------------- saturation


def test_saturation_is_that_of_the_formula():
    assert oxygen_saturation(9.07, 20.0) == pytest.approx(100, rel=0.001)  # 468 / 51.6


def oxygen(value, window=(), **context):
    conditions = check(context)
    return judge_reading(CATALOGUE, "water_do", value, conditions, NOW, window)


@pytest.mark.parametrize(
    ("value", "beside", "verdict"),
    [
        (7.5, {}, "pass"),
        (7.49, {}, "undetermined"),
        # 90 % of what water of 60 degrees holds is 4.598 mg/L; none is warmer.
        (4.6, {}, "undetermined"),
        (4.59, {}, "exceed"),
        (7.0, {"water_do_saturation": 90.0}, "pass"),
        (7.0, {"water_do_saturation": 89.9}, "exceed"),
        # 7.0 mg/L is 92.1 % at 30 degrees, 77.2 % at 20.
        (7.0, {"water_temperature": 30.0}, "pass"),
        (7.0, {"water_temperature": 20.0}, "exceed"),
        # What was measured counts before what is computed.
        (7.0, {"water_temperature": 20.0, "water_do_saturation": 95.0}, "pass"),
        (7.0, {"water_temperature": 30.0, "water_do_saturation": 700.0}, "undetermined"),
    ],
)
def test_class_one_water_needs_the_oxygen_or_the_saturation(value, beside, verdict):
    judgement = oxygen(value, water_use="surface", water_class="I", **beside)
    assert judgement.verdict == verdict
    if verdict == "undetermined":
        assert "water_do_saturation" in judgement.reason
    (citation,) = judgement.citations
    assert citation.exceeded == (verdict == "exceed")
    if "water_temperature" in beside and len(beside) == 1:
        assert citation.conditions["computed_from"] == "water_do, water_temperature"


def test_saturation_excuses_no_other_class():
    judged = oxygen(5.9, water_use="surface", water_class="II", water_do_saturation=99.0)
    assert judged.verdict == "exceed"
    # The class is not known: under 2 mg/L all of them are broken, unless the water is said to be saturated.
    assert oxygen(1.9, water_use="surface").verdict == "exceed"
    assert oxygen(1.9, water_use="surface", water_do_saturation=95.0).verdict == "undetermined"
    assert indicators.lookup("water_temperature").physical_max == WARMEST_DEGC


# ---------------------------------------------------------------- how long the oxygen was low


def window(*parts):
    """Return readings every ten minutes up to now; parts are (hours, value)."""
    t, found = NOW - round(sum(hours for hours, _ in parts) * HOUR), []
    for hours, value in parts:
        for _ in range(round(hours * 6)):
            found.append((t, value))
            t += HOUR // 6
    return found


FISHERY = {"water_use": "fishery", "salmonid": "no"}
TEN_MINUTES = 1 / 6


@pytest.mark.parametrize(
    ("value", "before", "verdict"),
    [
        (5.01, [], "pass"),
        (5.0, [], "undetermined"),  # must be above 5
        (3.0, [], "undetermined"),
        (2.99, [], "exceed"),  # never under 3
        # 8 h low leave 16 h above 5; more does not.
        (4.0, [(16, 6.0), (8, 4.0)], "pass"),
        (4.0, [(16 - TEN_MINUTES, 6.0), (8 + TEN_MINUTES, 4.0)], "exceed"),
        (4.0, [(15, 6.0), (8, 4.0)], "undetermined"),  # an hour is not known
        (4.0, [(8 + TEN_MINUTES, 5.0)], "exceed"),  # whatever the rest of the day was
        (4.0, [(8, 5.0)], "undetermined"),
        (6.0, [(9, 4.0), (6, 6.0)], "exceed"),  # the day has had too much of it already
        (6.0, [(9, 4.0), (24, 6.0)], "pass"),  # that was the day before
        (4.0, [(40, 6.0)], "pass"),
    ],
)
def test_oxygen_of_a_fishery_needs_sixteen_hours_above_five(value, before, verdict):
    judgement = oxygen(value, window(*before), **FISHERY)
    assert judgement.verdict == verdict
    if verdict != "exceed":
        assert bool(judgement.reason) == (verdict == "undetermined")
    if before and verdict == "exceed":
        (breach,) = judgement.breaches
        assert breach.citation.comparator == "<="
        assert breach.citation.exceeded
        assert breach.citation.conditions["low_h"] > 8


def test_a_value_holds_for_an_hour_at_most():
    seldom = [(NOW - h * HOUR, 4.0) for h in range(24, 0, -3)]  # 8 readings: 8 h known
    assert oxygen(4.0, seldom, **FISHERY).verdict == "undetermined"
    assert oxygen(4.0, [*seldom, (NOW - 2 * HOUR, 4.0)], **FISHERY).verdict == "exceed"


def test_salmonid_water_keeps_four_unless_it_is_frozen_over():
    assert oxygen(3.9, water_use="fishery", salmonid="yes", ice_covered="no").verdict == "exceed"
    frozen = oxygen(3.9, water_use="fishery", salmonid="yes", ice_covered="yes")
    assert frozen.verdict == "undetermined"  # only its hours are not known
    assert [c.limit for c in frozen.citations if c.comparator == "<"] == [3.0]


samples = st.lists(
    st.tuples(st.integers(0, 30 * HOUR), st.sampled_from([3.0, 5.0, 5.1])),
    min_size=1,
    max_size=40,
    unique_by=lambda sample: sample[0],
).map(sorted)


@given(samples, st.lists(st.integers(0, 60 * HOUR), min_size=1, max_size=10))
def test_low_time_by_sums_equals_the_plain_loop(some, asked):
    times, values = np.array([t for t, _ in some]), np.array([v for _, v in some])
    sums = held_low(times, values, 5.0, np.array(asked), DAY)
    plain = [low_and_other_ms(some, 5.0, DAY, t) for t in asked]
    assert sums.tolist() == [low for low, _ in plain]
    assert all(low + other <= DAY for low, other in plain)
    assert all(low <= HOLD_MS * len(some) for low, _ in plain)


# ---------------------------------------------------------------- the class of a surface water


@pytest.mark.parametrize(
    ("values", "body", "expected"),
    [
        ({"water_ph": 7.0, "water_codcr": 15.0}, "river", ("I", ("water_ph", "water_codcr"))),
        ({"water_codcr": 15.1}, "river", ("III", ("water_codcr",))),
        ({"water_codcr": 15.0, "water_bod5": 6.1}, "river", ("V", ("water_bod5",))),
        ({"water_codcr": 40.1, "water_bod5": 1.0}, "river", ("worse_than_V", ("water_codcr",))),
        ({"water_ph": 9.1}, "lake", ("worse_than_V", ("water_ph",))),
        # Total phosphorus has other limits in lakes; total nitrogen has none in rivers.
        ({"water_tp": 0.05}, "river", ("II", ("water_tp",))),
        ({"water_tp": 0.05}, "lake", ("III", ("water_tp",))),
        ({"water_tn": 9.0, "water_tp": 0.02}, "river", ("I", ("water_tp",))),
        ({"water_tn": 9.0}, "river", None),
        ({"water_turbidity": 9.0, "water_ph": math.nan}, "river", None),
        # Class I oxygen: 7.5 mg/L or 90 %.
        ({"water_do": 7.5}, "river", ("I", ("water_do",))),
        ({"water_do": 7.0}, "river", ("II", ("water_do",))),
        ({"water_do": 7.0, "water_do_saturation": 91.0}, "river", ("I", ("water_do",))),
        ({"water_do": 1.9}, "river", ("worse_than_V", ("water_do",))),
    ],
)
def test_a_water_is_as_good_as_its_worst_item(values, body, expected):
    assert surface_class(CATALOGUE, values, body, NOW) == expected


def test_the_body_of_water_must_be_said():
    with pytest.raises(ValueError, match="pond"):
        surface_class(CATALOGUE, {"water_tp": 0.05}, "pond", NOW)
