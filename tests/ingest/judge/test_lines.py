"""``agrigate judge``: the contract of its lines, and verdicts at the boundaries, argued from the standards' text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.judge.lines import judge_lines

FINDING_KEYS = {
    "standard", "clause", "level", "comparator", "limit", "unit",
    "exceeded", "ratio", "conditions", "verified",
}  # fmt: skip


def judge(*lines):
    raw = [x if isinstance(x, bytes) else json.dumps(x, ensure_ascii=False).encode() for x in lines]
    return [json.loads(line) for line in judge_lines(raw)]


def reading(indicator, value, /, unit="mg/kg", at="2026-05-01", **context):
    line = {"id": 1, "kind": "reading", "indicator": indicator, "value": value}
    return judge({**line, "unit": unit, "at": at, "context": context})[0]


def test_the_example_of_the_interface():
    line = (
        b'{"id":1,"kind":"reading","indicator":"soil_cd","value":0.45,"unit":"mg/kg",'
        b'"at":"2026-05-01","context":{"ph":6.8,"land_use":"paddy"}}'
    )
    (reply,) = judge(line)
    # GB 15618 table 1: Cd, paddy, 6.5 < pH <= 7.5: 0.6; table 3: 3.0.
    assert (reply["id"], reply["verdict"], reply["severity"]) == (1, "pass", "info")
    assert [(f["level"], f["limit"], f["exceeded"]) for f in reply["findings"]] == [
        ("screening", 0.6, False),
        ("intervention", 3.0, False),
    ]
    screening = reply["findings"][0]
    assert screening.keys() >= FINDING_KEYS
    assert screening["standard"] == "GB 15618-2018"
    assert screening["clause"] == "表1 镉 水田 6.5<pH≤7.5"
    assert (screening["comparator"], screening["unit"]) == (">", "mg/kg")
    assert screening["conditions"] == {"ph": 6.8, "land_use": "paddy"}
    assert screening["verified"] is True
    assert screening["ratio"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("land_use", "ph", "limit"),
    [
        # Table 1, bands exclusive below and inclusive above: 5.5 is the first band, 5.51 the second.
        ("paddy", 5.5, 0.3),
        ("paddy", 5.51, 0.4),
        ("paddy", 6.5, 0.4),
        ("paddy", 6.51, 0.6),
        ("paddy", 7.5, 0.6),
        ("paddy", 7.51, 0.8),
        ("other", 5.5, 0.3),
        ("other", 5.51, 0.3),
        ("other", 6.5, 0.3),
        ("other", 7.5, 0.3),
        ("other", 7.51, 0.6),
        # Orchard is named for copper only: for cadmium it is "other".
        ("orchard", 7.51, 0.6),
    ],
)
def test_soil_cadmium_at_the_edges_of_the_ph_bands(land_use, ph, limit):
    at = reading("soil_cd", limit, ph=ph, land_use=land_use)
    assert at["verdict"] == "pass"
    assert at["findings"][0]["limit"] == limit
    over = reading("soil_cd", limit + 0.001, ph=ph, land_use=land_use)
    assert (over["verdict"], over["severity"]) == ("exceed", "major")


@pytest.mark.parametrize(("land_use", "limit"), [("orchard", 150), ("paddy", 50), ("other", 50)])
def test_copper_has_its_own_value_for_orchards(land_use, limit):
    assert reading("soil_cu", limit, ph=5.5, land_use=land_use)["verdict"] == "pass"
    assert reading("soil_cu", limit + 0.1, ph=5.5, land_use=land_use)["verdict"] == "exceed"


def test_a_value_at_the_limit_complies_though_doubles_spoil_it():
    assert 3 * 0.1 > 0.3
    for value in (0.3, 3 * 0.1):
        assert reading("soil_cd", value, ph=5.5, land_use="paddy")["verdict"] == "pass"
    assert reading("soil_cd", 0.3000001, ph=5.5, land_use="paddy")["verdict"] == "exceed"
    # 300 ug/kg is 0.3 mg/kg; 0.1 ug/L x 0.001 would blur in doubles.
    assert reading("soil_cd", 300, "ug/kg", ph=5.5, land_use="paddy")["verdict"] == "pass"
    water = {"water_use": "irrigation"}
    assert reading("water_hg", 1, "ug/L", **water)["verdict"] == "pass"
    assert reading("water_hg", 1.0001, "ug/L", **water)["verdict"] == "exceed"


def test_above_the_intervention_value_is_critical():
    reply = reading("soil_cd", 1.51, ph=5.5, land_use="paddy")
    assert (reply["verdict"], reply["severity"]) == ("exceed", "critical")
    assert [f["exceeded"] for f in reply["findings"]] == [True, True]
    assert reply["findings"][0]["ratio"] == pytest.approx(1.51 / 0.3)
    assert reading("soil_cd", 1.5, ph=5.5, land_use="paddy")["severity"] == "major"


def test_without_ph_or_land_use_the_verdict_is_undetermined():
    for context, missing in (({"land_use": "paddy"}, "ph"), ({"ph": 8}, "land_use"), ({}, "ph")):
        reply = reading("soil_cd", 0.7, **context)
        assert reply["verdict"] == "undetermined"
        assert f"{missing}" in reply["reason"]
        assert "GB 15618-2018" in reply["reason"]


def test_a_missing_condition_does_not_matter_when_all_rows_agree():
    # The lowest screening value of any band and use is 0.3, the highest 0.8, the highest intervention value 4.
    assert reading("soil_cd", 0.3)["verdict"] == "pass"
    over = reading("soil_cd", 0.81)
    assert over["verdict"] == "exceed"
    assert over["severity"] == "major"
    assert reading("soil_cd", 4.01)["severity"] == "critical"
    assert {f["conditions"]["ph"] for f in over["findings"]} == {None}
    # As in irrigation water: 0.05, dry crops 0.1.
    assert reading("water_as", 0.05, "mg/L", water_use="irrigation")["verdict"] == "pass"
    assert reading("water_as", 0.06, "mg/L", water_use="irrigation")["verdict"] == "undetermined"
    assert reading("water_as", 0.11, "mg/L", water_use="irrigation")["verdict"] == "exceed"


def test_organic_pollutants_need_neither_ph_nor_land_use():
    assert reading("soil_ddt_total", 0.1)["verdict"] == "pass"
    reply = reading("soil_ddt_total", 0.11)
    assert reply["verdict"] == "exceed"
    assert reply["findings"][0]["verified"] is False  # recalled: 待核


def test_irrigation_limits_hold_for_irrigation_water_only():
    irrigation = reading("water_ph", 9, "[pH]", water_use="irrigation")
    assert irrigation["verdict"] == "exceed"
    assert [(f["comparator"], f["limit"]) for f in irrigation["findings"]] == [
        ("<", 5.5),
        (">", 8.5),
    ]
    assert reading("water_ph", 5.4, "[pH]", water_use="irrigation")["verdict"] == "exceed"
    for inside in (5.5, 8.5):
        assert reading("water_ph", inside, "[pH]", water_use="irrigation")["verdict"] == "pass"
    assert reading("water_ph", 9, "[pH]")["verdict"] == "undetermined"
    fishery = reading("water_ph", 9, "[pH]", water_use="fishery")
    assert {f["standard"] for f in fishery["findings"]} == {"GB 11607-1989"}


@pytest.mark.parametrize(
    ("indicator", "key", "limits"),
    [
        (
            "water_total_salt",
            "soil_salinity",
            {"non_saline_soil": 1000, "saline_alkali_soil": 2000},
        ),
        ("water_fluoride", "fluoride_area", {"general_area": 2, "high_fluoride_area": 3}),
        (
            "water_b",
            "boron_tolerance",
            {
                "boron_sensitive_crop": 1,
                "boron_tolerant_crop": 2,
                "boron_strongly_tolerant_crop": 3,
            },
        ),
    ],
)
def test_salt_fluoride_and_boron_depend_on_the_place(indicator, key, limits):
    for word, limit in limits.items():
        context = {"water_use": "irrigation", key: word}
        assert reading(indicator, limit, "mg/L", **context)["verdict"] == "pass"
        assert reading(indicator, limit * 1.01, "mg/L", **context)["verdict"] == "exceed"
    between = min(limits.values()) * 1.01
    assert reading(indicator, between, "mg/L", water_use="irrigation")["verdict"] == "undetermined"


def test_optional_items_are_warnings_and_basic_ones_major():
    assert reading("water_ni", 0.3, "mg/L", water_use="irrigation")["severity"] == "warning"
    assert reading("water_cd", 0.02, "mg/L", water_use="irrigation")["severity"] == "major"


def test_the_edition_in_force_at_sample_time_counts():
    # GB 15618-2018 came into force on 2018-08-01, at midnight in China.
    context = {"ph": 5.5, "land_use": "paddy"}
    assert reading("soil_cd", 9, at="2018-07-31", **context)["verdict"] == "undetermined"
    assert reading("soil_cd", 9, at="2018-07-31T15:59:59Z", **context)["verdict"] == "undetermined"
    assert reading("soil_cd", 9, at="2018-07-31T16:00:00Z", **context)["verdict"] == "exceed"
    assert reading("soil_cd", 9, at="2018-08-01", **context)["verdict"] == "exceed"
    assert reading("soil_cd", 9, at="", **context)["verdict"] == "exceed"


def test_unknown_context_values_are_undetermined_and_unknown_keys_are_said():
    reply = reading("soil_cd", 0.1, ph=5, land_use="forest")
    assert reply["verdict"] == "undetermined"
    assert "'forest' is not one of paddy, orchard, other" in reply["reason"]
    assert reading("soil_cd", 0.1, ph="5", land_use="paddy")["verdict"] == "undetermined"
    assert reading("soil_cd", 0.1, ph=15, land_use="paddy")["verdict"] == "undetermined"
    typo = reading("soil_cd", 0.35, ph=7, landuse="paddy")
    assert typo["verdict"] == "undetermined"
    assert "landuse (land_use?)" in typo["reason"]


def test_unknown_indicator_and_unit_are_undetermined_with_the_nearest_names():
    reply = reading("soil_cdd", 1)
    assert reply["verdict"] == "undetermined"
    assert "soil_cd" in reply["reason"]
    for unit, near in (("mg/kgg", "mg/kg"), ("mg/L", "mg/kg")):
        reply = reading("soil_cd", 0.1, unit, ph=5, land_use="paddy")
        assert reply["verdict"] == "undetermined"
        assert near in reply["reason"]
    assert reading("soil_n", 5000, ph=5)["verdict"] != "exceed"


def test_an_impossible_value_is_invalid():
    assert reading("soil_cd", -1, ph=5, land_use="paddy")["verdict"] == "invalid"
    assert reading("water_ph", 15, "[pH]", water_use="irrigation")["verdict"] == "invalid"


def test_malformed_lines_are_answered_in_order_with_their_number():
    replies = judge(
        b"garbage\n",
        b"\n",
        b'{"id":"x","kind":"reading","indicator":"soil_cd","value":"much"}\n',
        b'{"id":7,"kind":"guess"}\n',
        b'{"id":8,"kind":"reading","indicator":"soil_ddt_total","value":0.05}\r\n',
        b"[" * 5000,
        b'{"id":9,"kind":"reading","indicator":"soil_cd","value":1,"at":"yesterday"}',
        b'{"id":10,"kind":"reading","indicator":"\xff"}',
        b'{"id":11,"kind":"test","value":"many"}',
    )
    assert [r["id"] for r in replies] == [None, "x", 7, 8, None, 9, 10, 11]
    wrong = [r for r in replies if r["verdict"] == "invalid"]
    assert [r["id"] for r in wrong] == [None, "x", 7, None, 9, 10, 11]
    for reply, number in zip(wrong, (1, 3, 4, 6, 7, 8, 9), strict=True):
        assert f"line {number}:" in reply["reason"]
    assert replies[3]["verdict"] == "pass"


def test_ids_come_back_byte_for_byte():
    ids = [b"1", b'"a"', b"null", b"12345678901234567890123", b'{"x":[1.50]}']
    lines = [b'{"kind":"x","id":' + i + b"}" for i in ids]
    assert [reply.split(b',"verdict"')[0] for reply in judge_lines(lines)] == [
        b'{"id":' + i for i in ids
    ]


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_answered_with_json(tails):
    lines = [b'{"id":"' + tail for tail in tails] + [b'{"kind":"test","id":' + t for t in tails]
    replies = list(judge_lines(lines))
    assert len(replies) == len(lines)
    assert {json.loads(reply)["verdict"] for reply in replies} <= {"invalid", "undetermined"}


def test_every_reply_is_one_line():
    for reply in judge_lines([b'{"id":1,"kind":"test","product_name":"a\\nb"}']):
        assert reply.count(b"\n") == 1
        assert reply.endswith(b"\n")
