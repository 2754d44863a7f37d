import tomllib

import pytest

from drivers.errors import ConfigError
from drivers.modbus import config, models
from drivers.modbus.build import build_point, read_points
from drivers.modbus.points import value_of

GOOD = """
id = "x"
vendor = "v"
model = "m"
kind = "soil"
confidence = "confirmed"
max_read = 9
timeout_ms = 1000
line = { baud = 9600, format = "8N1", unit_id = 1 }
[[points]]
metric = "soil_ph"
address = 3
type = "u16"
scale = 0.1
unit = "[pH]"
[[sources]]
where = "here"
confidence = "confirmed"
"""


STAND_IN = {"order": "ABCD", "scale": 1, "indicator": "water_codcr"}


def whole_models():
    """Every map that a device can name: a file, or one of its variants."""
    for name, model in models.load_all().items():
        if model.points:
            yield name, "", model
        yield from ((name, variant, one) for variant, one in model.variants.items())


WHOLE = list(whole_models())


def device_table(name, variant, model):
    settings = {
        key: {field: STAND_IN.get(field) or models.catalogue_unit(key) for field in fields}
        for key, fields in model.open_settings().items()
    }
    return {
        "path": "x",
        "host": "127.0.0.1",
        "unit_id": model.unit_id,
        "model": name,
        "variant": variant,
        "indicators": sorted(
            {models.code_of(point) for point in model.points} - {"water_analyser_value"}
            | ({"water_codcr"} if name == "jiangsu_mdssz" else set())
        ),
        "settings": settings,
    }


def test_every_device_of_the_survey_has_a_map():
    assert set(models.load_all()) == {
        "aqualabo_c4e",
        "boqu_bh485_nh",
        "boqu_phg2091",
        "comwintop_cwt_soil_thc_s",
        "dfrobot_sen060x",
        "dragino_dr_water",
        "ecowitt_wn90lp",
        "gemho_soil_7in1",
        "hach_sc",
        "insitu_aqua_troll",
        "iot_s300smt",
        "jiangsu_mdssz",
        "jxct_soil_7in1",
        "keller_30x",
        "qdy30a",
        "renke_rs_fsjt",
        "renke_rs_fsxcs",
        "renke_soil_7in1",
        "seeed_s_soil_mtec",
        "seeed_sensecap_one",
        "supmea_do7013",
        "supmea_ph8001",
        "supmea_turbidity_mlss",
        "truebner_smt100",
        "tuf2000",
        "ubibot_ub_sec_n1",
        "womaster_es107",
        "xy_md02",
        "yosemitech_probe",
        "yosemitech_y4000",
        "ysi_odo_rtu",
    }


@pytest.mark.parametrize(
    ("name", "variant", "model"), WHOLE, ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_map_makes_a_device_once_its_settings_are_made(name, variant, model):
    assert all(source.where for source in model.table.sources)
    table = device_table(name, variant, model)
    device = config.parse(table, "t")
    assert len(device.points) == len(model.points)
    assert device.steps == model.steps
    assert all(block.count <= model.table.max_read for block in device.blocks)
    for key, fields in model.open_settings().items():
        for field in fields:
            less = {k: dict(v) for k, v in table["settings"].items()}
            del less[key][field]
            less = {k: v for k, v in less.items() if v}
            with pytest.raises(ConfigError, match=rf"settings\.{key}\.{field}: is missing"):
                config.parse(table | {"settings": less}, "t")


def test_what_the_survey_does_not_know_is_left_open():
    found = {
        (name, variant): model.open_settings()
        for name, variant, model in WHOLE
        if model.open_settings()
    }
    order, scale, unit = ("order",), ("scale",), ("unit",)
    assert found == {
        ("boqu_bh485_nh", ""): dict.fromkeys(
            (
                "water_temperature",
                "water_ph",
                "water_ammonia_nitrogen",
                "water_potassium",
                "device_clock",
            ),
            order,
        ),
        ("dragino_dr_water", "DR-ECK"): {"water_ec": scale},
        ("hach_sc", "surface_scatter_7"): {"water_turbidity": order, "water_temperature": order},
        ("hach_sc", "uvas"): {"water_sac254": ("order", "unit")},
        ("hach_sc", "nitratax"): {"water_nitrate_nitrogen": order},
        ("hach_sc", "3400sc"): {"water_ec": ("order", "unit"), "water_temperature": order},
        ("hach_sc", "3798-S"): {"water_ec": order, "water_temperature": order},
        ("iot_s300smt", ""): dict.fromkeys(("soil_moisture", "soil_temperature", "soil_ec"), scale),
        ("jiangsu_mdssz", ""): {"analyser_value": ("indicator",)},
        ("qdy30a", ""): {"water_level": unit},
        ("renke_rs_fsxcs", ""): {"wind_speed": scale},
        ("tuf2000", ""): dict.fromkeys(
            ("total_positive_int", "total_negative_int"), ("scale", "unit")
        ),
        ("yosemitech_probe", "Y520"): {"water_ec": unit},
        ("yosemitech_probe", "Y521"): {"water_ec": unit},
        ("yosemitech_probe", "Y700"): {"water_depth": unit},
    }


def test_a_sonde_is_believed_only_when_it_says_what_it_measures():
    table = {"path": "x", "host": "h", "unit_id": 1, "indicators": ["water_ph"]}
    table |= {"model": "insitu_aqua_troll", "variant": "aqua_troll_400"}
    (ph,) = config.parse(table, "t").points
    words = [0x40F4, 0x7AE1, 17, 145, 0]
    assert value_of(ph, words) == (pytest.approx(7.64, rel=1e-6), None)
    assert value_of(ph, [0, 0, 17, 145, 7]) == (None, "bad:device")
    assert value_of(ph, [*words[:3], 162, 0]) == (None, "bad:unit")
    assert value_of(ph, [*words[:2], 1, 145, 0]) == (None, "bad:identity")


@pytest.mark.parametrize(
    ("code", "parameter", "unit_id", "wrong"),
    [("water_temperature", 1, 1, 2), ("water_do", 20, 117, 118), ("water_orp", 19, 162, 1)],
)
def test_a_sonde_in_other_units_is_no_value(code, parameter, unit_id, wrong):
    table = {"path": "x", "host": "h", "model": "insitu_aqua_troll", "variant": "aqua_troll_500"}
    (one,) = config.parse(table | {"indicators": [code]}, "t").points
    assert value_of(one, [0x4120, 0, parameter, unit_id, 0]) == (10.0, None)
    assert value_of(one, [0x4120, 0, parameter, wrong, 0]) == (None, "bad:unit")


def test_a_levels_decimals_come_with_it():
    table = {"path": "x", "host": "h", "unit_id": 1, "model": "qdy30a"}
    device = config.parse(table | {"settings": {"water_level": {"unit": "m"}}}, "t")
    (block,) = device.blocks
    assert (block.address, block.count) == (3, 2)
    (point,) = device.points
    assert value_of(point, [3, 1234]) == (1.234, None)
    assert value_of(point, [0, 0xFFFF]) == (-1.0, None)
    assert value_of(point, [4, 1234]) == (None, "bad:scale")


def test_an_error_byte_makes_the_points_of_its_answer_bad():
    table = {"path": "x", "host": "h", "unit_id": 1, "model": "yosemitech_probe", "variant": "Y511"}
    device = config.parse(table, "t")
    (block,) = device.blocks
    good = [0x0000, 0xC841, 0x0000, 0x2041, 0x0000]
    values = {p.indicator: value_of(p, block.words(good, p)) for p in device.points}
    assert values == {
        "water_temperature": (25.0, None),
        "water_turbidity": (10.0, None),
        "device_error_code": (0.0, None),
    }
    bad = [*good[:4], 0x0200]
    values = {p.indicator: value_of(p, block.words(bad, p)) for p in device.points}
    assert values["water_turbidity"] == (None, "bad:device")
    assert values["device_error_code"] == (2.0, None)


def test_all_faults_of_a_map_at_once():
    text = (
        GOOD.replace("scale = 0.1", 'scale = "tenth"\nscal = 1')
        .replace("timeout_ms = 1000", "timeout_ms = 0")
        .replace('unit = "[pH]"', "")
    )
    with pytest.raises(ConfigError) as refused:
        models.parse(text, "x.toml")
    assert refused.value.faults == [
        "x.toml: timeout_ms: Expected `int` >= 1",
        "x.toml: points[0]: scal: unknown key; did you mean scale?",
        "x.toml: points[0]: unit: is missing",
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("scale = 0.1", 'scale = "tenth"'), "points[0] soil_ph: scale: 'tenth' is not a number"),
        (("soil_ph", "soil_pH"), "metric 'soil_pH' is not in the catalogue; did you mean soil_ph"),
        (
            ('"[pH]"', '"mg/L"'),
            "points[0] soil_ph: unit: soil_ph: unit 'mg/L' measures mass concentration",
        ),
        (('"u16"', '"f32"'), "points[0] soil_ph: f32 spans 2 registers and needs an order"),
        (("max_read = 9", "max_read = 9\nexact_blocks_only = true"), "blocks: is missing"),
        (("scale = 0.1", "mask = 0x10000"), "mask 0x10000 does not pick bits of u16"),
        (
            ("scale = 0.1", "scale_from = { address = 2, factors = { one = 1 } }"),
            "scale_from: factors: invalid literal",
        ),
        (
            ("scale = 0.1", 'checks = [{ address = 2, good = [0], quality = "good" }]'),
            "quality 'good' does not begin with bad:",
        ),
        (
            ("[[sources]]", '[[steps]]\ndo = "write"\nfunction = 3\n[[sources]]'),
            "steps[0]: function 3 does not write; use 5, 6 or 16",
        ),
        (
            ("[[sources]]", '[[steps]]\ndo = "points"\n[[steps]]\ndo = "points"\n[[sources]]'),
            "steps: the points are read once",
        ),
        (
            ("[[sources]]", '[[variants]]\nnames = ["a"]\npoints = [{}]\n[[sources]]'),
            "variants[0]: points[0]: address: is missing",
        ),
        (('where = "here"', ""), "sources: Object missing required field `where`"),
        (("id =", "id ="), None),
        (("[[points]]", "[[points"), "Expected ']]'"),
    ],
)
def test_each_fault_says_where_and_what(change, fault):
    text = GOOD.replace(*change)
    if fault is None:
        assert models.parse(text, "x.toml").points[0].metric == "soil_ph"
        return
    with pytest.raises(ConfigError) as refused:
        models.parse(text, "x.toml")
    assert any(line.startswith("x.toml: ") and fault in line for line in refused.value.faults), (
        refused.value
    )


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean renke_soil_7in1"):
        models.load("renke_soil_7in2")


def test_a_16_bit_sentinel_says_nothing_of_wider_points():
    head, rest = GOOD.split("[[points]]")
    wide = (
        rest.split("[[sources]]")[0]
        .replace("u16", "u32")
        .replace("address = 3", 'address = 8\norder = "ABCD"')
    )
    wide = wide.replace("soil_ph", "soil_ec").replace("[pH]", "uS/cm")
    text = f"{head}sentinels = [0xFFFF]\n[[points]]{rest}[[points]]{wide}"
    tables = tomllib.loads(text)["points"]
    faults = []
    narrow, broad = (
        build_point(p, "t", faults, sentinels=[0xFFFF]) for p in read_points(tables, "t", faults)
    )
    assert not faults
    assert narrow.sentinels == {0xFFFF}
    assert broad.sentinels == frozenset()
