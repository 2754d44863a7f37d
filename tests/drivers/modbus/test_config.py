from fractions import Fraction

import pytest

from drivers.errors import ConfigError
from drivers.modbus.config import parse

BASE = {"path": "plot3/soil1", "host": "127.0.0.1", "port": 5020, "unit_id": 1}
MODEL = BASE | {"model": "renke_soil_7in1"}
POINT = {"indicator": "water_ec", "address": 0, "type": "u16", "unit": "mS/cm", "scale": 0.01}
INLINE = BASE | {"points": [POINT]}


def faults(table):
    with pytest.raises(ConfigError) as refused:
        parse(table, "edge.toml: [[station]] hl-001")
    prefix = "edge.toml: [[station]] hl-001: "
    assert all(line.startswith(prefix) for line in refused.value.faults)
    return [line.removeprefix(prefix) for line in refused.value.faults]


def test_a_model_gives_points_in_catalogue_units():
    device = parse(MODEL | {"driver": "modbus", "station": "hl-001", "poll_interval_s": 5}, "t")
    assert (device.path, device.poll_interval_s, device.bus) == (
        "plot3/soil1",
        5.0,
        "tcp:127.0.0.1:5020",
    )
    assert device.timeout_s == 1.0
    assert {p.indicator: p.scale for p in device.points}["soil_ph"] == Fraction(1, 10)
    keller = parse(BASE | {"model": "keller_30x"}, "t")
    assert keller.points[0].conversion.factor == 100  # bar to kPa
    assert keller.timeout_s == 0.2
    assert [b.count for b in keller.blocks] == [4, 4]


def test_indicators_pick_points():
    device = parse(MODEL | {"indicators": ["soil_ph", "soil_ec"]}, "t")
    assert {p.indicator for p in device.points} == {"soil_ph", "soil_ec"}
    (fault,) = faults(MODEL | {"indicators": ["soil_zn"]})
    assert fault.startswith("indicators: 'soil_zn' is none of this device's: soil_moisture")


def test_inline_points_convert_exactly():
    device = parse(INLINE, "t")
    assert device.points[0].conversion.apply(device.points[0].scale) == 10


def test_all_faults_at_once():
    got = faults(
        {
            "path": "plot 3",
            "host": "",
            "port": 70_000,
            "unit": 1,
            "timeout_s": "1 s",
            "poll_interval_s": -1,
            "points": [{"indicator": "soil_ph", "adress": 1, "type": "u8", "unit": "[pH]"}],
        }
    )
    assert len(got) == 10
    fields = [line.split(": ")[0] for line in got]
    assert sorted(fields) == sorted(
        ["path", "host", "port", "unit", "timeout_s", "poll_interval_s", "unit_id"]
        + 3 * ["points[0]"]
    )
    assert "unit: unknown key; did you mean unit_id?" in got
    assert "unit_id: is missing" in got
    assert "points[0]: adress: unknown key; did you mean address?" in got


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (BASE, "model: give either model or points"),
        (MODEL | {"points": [POINT]}, "model: give either model or points"),
        (BASE | {"model": "renke_soil"}, "model: model 'renke_soil' is not known; did you mean"),
        (MODEL | {"max_read": 10}, "max_read: renke_soil_7in1 answers 9 registers at most"),
        (MODEL | {"sentinels": [1]}, "sentinels: belongs to inline points"),
        (
            MODEL | {"variant": "7in1"},
            "variant: '7in1' is not known; variants of renke_soil_7in1: none",
        ),
        (
            BASE | {"model": "dragino_dr_water"},
            "variant: is missing; variants of dragino_dr_water: DR-PH01, DR-ECK",
        ),
        (
            BASE | {"model": "yosemitech_probe", "variant": "Y510", "poll_interval_s": 20},
            "poll_interval_s: one measurement of yosemitech_probe takes 22 s",
        ),
        (INLINE | {"variant": "x"}, "variant: belongs to a model"),
        (INLINE | {"address_shift": 1}, "address_shift: belongs to a model"),
        (MODEL | {"order": "ABCD"}, "order: renke_soil_7in1 fixes it already"),
        (
            MODEL | {"settings": {"soil_ph": {"scale": 1}}},
            "settings.soil_ph: renke_soil_7in1 leaves nothing open",
        ),
        (INLINE | {"settings": {"x": {}}}, "settings: belongs to a model"),
        (INLINE | {"blocks": [{"address": 0, "count": 1}]}, "blocks: only with exact_blocks_only"),
        (INLINE | {"exact_blocks_only": True}, "water_ec: address 0 lies in none of the blocks"),
        (INLINE | {"points": [POINT, POINT | {"address": 5}]}, "points: water_ec is there twice"),
        (
            INLINE | {"points": [POINT | {"type": "f32"}]},
            "points[0]: f32 spans 2 registers and needs an order",
        ),
        (
            INLINE | {"points": [POINT | {"indicator": "water_e"}]},
            "points[0]: indicator: indicator 'water_e'",
        ),
        (
            INLINE | {"points": [POINT | {"unit": "ppm"}]},
            "points[0]: unit: water_ec: unit 'ppm' measures",
        ),
        (
            INLINE | {"points": [POINT | {"metric": "water_ec"}]},
            "points[0]: indicator: give either",
        ),
        (
            INLINE | {"points": [POINT | {"scale": "1/0"}]},
            "points[0]: scale: '1/0' is not a number",
        ),
        (
            INLINE | {"points": [POINT | {"scale": float("inf")}]},
            "points[0]: scale: inf is not a number",
        ),
        (
            INLINE | {"max_read": 1, "points": [POINT | {"type": "u32", "order": "ABCD"}]},
            "water_ec: u32 needs 2 registers, max_read is 1",
        ),
        (MODEL | {"timeout_s": float("nan")}, "timeout_s: "),
        (MODEL | {"unit_id": True}, "unit_id: Expected `int | null`, got `bool`"),
    ],
)
def test_each_fault_names_field_and_remedy(table, fault):
    assert any(line.startswith(fault) for line in faults(table)), faults(table)


def test_what_the_map_leaves_open_is_required():
    assert faults(BASE | {"model": "qdy30a"}) == [
        "settings.water_level.unit: is missing; the map of qdy30a does not say it",
    ]
    settings = {"water_level": {"unit": "cm"}}
    device = parse(BASE | {"model": "qdy30a", "settings": settings}, "t")
    assert device.points[0].conversion.apply(device.points[0].scale) == Fraction(1, 100)
    wind = {"wind_speed": {"scale": 0.1}}
    table = BASE | {"model": "renke_rs_fsxcs"}
    assert faults(table)[0].startswith("settings.wind_speed.scale: is missing")
    assert {p.indicator: p.scale for p in parse(table | {"settings": wind}, "t").points}[
        "air_wind_speed"
    ] == Fraction(1, 10)


def test_only_what_is_read_needs_settling():
    table = BASE | {"model": "tuf2000"}
    assert len(faults(table)) == 4
    device = parse(table | {"indicators": ["water_flow_rate"]}, "t")
    assert [p.indicator for p in device.points] == ["water_flow_rate"]


def test_an_analysers_quantity_is_a_setting():
    table = BASE | {"model": "jiangsu_mdssz"}
    assert faults(table) == [
        "settings.analyser_value.indicator: is missing; the map of jiangsu_mdssz does not say it"
    ]
    settings = {"analyser_value": {"indicator": "water_codcr"}}
    device = parse(table | {"settings": settings, "indicators": ["water_codcr"]}, "t")
    assert [(p.indicator, p.address) for p in device.points] == [("water_codcr", 30002)]
    wrong = {"analyser_value": {"indicator": "water_cod"}}
    assert "indicator 'water_cod' is not in the catalogue" in faults(table | {"settings": wrong})[0]


def test_optional_points_are_read_when_they_are_named():
    keller = BASE | {"model": "keller_30x"}
    assert "water_ec" not in {p.indicator for p in parse(keller, "t").points}
    (point,) = parse(keller | {"indicators": ["water_ec"]}, "t").points
    assert point.address == 0x010C


def test_a_variant_brings_its_points_blocks_and_steps():
    table = BASE | {"model": "yosemitech_probe", "variant": "Y504", "indicators": ["water_do"]}
    device = parse(table, "t")
    assert (device.model, device.variant) == ("yosemitech_probe", "Y504")
    assert [(b.address, b.count) for b in device.blocks] == [(0x2600, 6)]
    assert [step.do.value for step in device.steps] == ["read", "wait", "points"]
    assert device.steps[0].pdu().hex() == "0325000000"
    assert device.steps[1].wait_ms == 8000


@pytest.mark.parametrize(
    ("model", "variant", "unit_id", "baud", "form", "timeout_s", "gap_ms"),
    [
        ("ecowitt_wn90lp", "", 0x90, 9600, "8N1", 0.5, 20),
        ("dragino_dr_water", "DR-PH01", 0x10, 9600, "8N1", 1.0, 50),
        ("dragino_dr_water", "DR-ECK", 0x11, 9600, "8N1", 1.0, 50),
        ("aqualabo_c4e", "", 30, 9600, "8N2", 1.0, 50),
        ("insitu_aqua_troll", "aqua_troll_600", 1, 19_200, "8E1", 2.0, 50),
        ("supmea_turbidity_mlss", "", 0, 9600, "8N1", 1.0, 50),
    ],
)
def test_a_model_alone_is_read_as_it_leaves_the_factory(
    model, variant, unit_id, baud, form, timeout_s, gap_ms
):
    table = {"path": "p", "serial": "/dev/ttyUSB0", "model": model, "variant": variant}
    if variant == "DR-ECK":
        table["settings"] = {"water_ec": {"scale": 1}}
    device = parse(table, "t")
    assert (device.unit_id, device.unit_id_of_map) == (unit_id, True)
    assert (device.line.baud, device.line.format) == (baud, form)
    assert (device.timeout_s, device.gap_ms) == (timeout_s, gap_ms)
    own = {"unit_id": 9, "baud": 1200, "format": "8O1", "timeout_s": 3.0, "gap_ms": 7}
    device = parse(table | own, "t")
    assert (device.unit_id, device.unit_id_of_map) == (9, False)
    assert (device.line.baud, device.line.format) == (1200, "8O1")
    assert (device.timeout_s, device.gap_ms) == (3.0, 7)


def test_a_device_without_a_map_needs_a_unit_id():
    less = {key: value for key, value in INLINE.items() if key != "unit_id"}
    assert faults(less) == ["unit_id: is missing"]


def test_a_smaller_max_read_for_old_firmware():
    keller = BASE | {"model": "keller_30x", "max_read": 2}
    assert [b.count for b in parse(keller, "t").blocks] == [2, 2, 2, 2]


def test_address_shift_moves_all_that_is_asked():
    table = BASE | {"model": "insitu_aqua_troll", "variant": "aqua_troll_400"}
    straight, moved = parse(table, "t"), parse(table | {"address_shift": -1}, "t")
    for one, other in zip(straight.points, moved.points, strict=True):
        assert (other.address, other.start, other.end) == (
            one.address - 1,
            one.start - 1,
            one.end - 1,
        )
        assert [c.address for c in other.checks] == [c.address - 1 for c in one.checks]
    assert moved.steps[0].address == straight.steps[0].address - 1
    assert [b.address for b in moved.blocks] == [b.address - 1 for b in straight.blocks]


def test_who_answers_for_a_universal_unit_id():
    table = BASE | {"model": "truebner_smt100"}
    assert parse(table, "t").reply_unit is None
    assert parse(table | {"unit_id": 0xFD}, "t").reply_unit == 0


def test_one_order_settles_all_that_are_open():
    table = BASE | {"model": "boqu_bh485_nh"}
    assert len(faults(table)) == 4
    device = parse(table | {"order": "CDAB"}, "t")
    assert {p.order for p in device.points} == {"CDAB"}
    settings = {"water_ph": {"order": "DCBA"}}
    device = parse(table | {"order": "CDAB", "settings": settings}, "t")
    assert {p.indicator: p.order for p in device.points}["water_ph"] == "DCBA"
    (fault,) = faults(table | {"order": "ACBD"})[:1]
    assert "order 'ACBD' is none of" in fault
