import tomllib

import pytest

from drivers import indicators
from drivers.errors import ConfigError
from drivers.modbus import models

GOOD = """
id = "x"
vendor = "v"
model = "m"
kind = "soil"
confidence = "confirmed"
serial_line = "9600 8N1"
max_read = 9
timeout_ms = 1000
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


def test_every_shipped_map_is_good_and_names_its_sources():
    found = models.load_all()
    assert len(found) >= 6
    assert {model.table.kind for model in found.values()} == {"soil", "water", "level", "weather"}
    for model in found.values():
        assert all(source.where for source in model.table.sources)
        for point in model.points:
            unit = model.open_settings().get(point.metric, ())
            if "unit" not in unit:
                indicators.metric(point.metric, point.unit)


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


def test_what_a_map_leaves_open_is_said():
    assert models.load("qdy30a").open_settings() == {"water_level": ("scale", "unit")}
    assert set(models.load("boqu_bh485_nh").open_settings().values()) == {("order",)}


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
        models.build_point(p, "t", faults, sentinels=[0xFFFF])
        for p in models.read_points(tables, "t", faults)
    )
    assert not faults
    assert narrow.sentinels == {0xFFFF}
    assert broad.sentinels == frozenset()
