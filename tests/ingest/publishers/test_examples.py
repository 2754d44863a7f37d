"""The worked examples: what ChirpStack and Tasmota send, by the mappings that are shipped."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from ingest import publishers
from ingest.publishers.mapping import compile_rules
from ingest.publishers.parsed import Value
from ingest.publishers.reader import MessageReader

CAPTURED = Path(__file__).with_name("captured")
EXAMPLES = Path(publishers.__file__).with_name("examples")
UP = "agri/v1/hl-001/raw/a84041ce5182f3e1/event/up"
SENSOR = "agri/v1/hl-001/raw/greenhouse1/tele/SENSOR"


def reader(name: str) -> MessageReader:
    faults: list[str] = []
    tables = tomllib.loads((EXAMPLES / name).read_text("utf-8"))["mapping"]
    rules = compile_rules(tables, name, faults)
    assert faults == []
    return MessageReader(rules)


def ms(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_example_compiles(file):
    reader(file.name)


def test_a_chirpstack_uplink_becomes_readings():
    body = (CAPTURED / "chirpstack_up.json").read_bytes()
    parsed = reader("chirpstack_v4.toml").read(UP, body, 0)
    at = ms("2026-05-01T01:02:03.512+00:00")
    device = "a84041ce5182f3e1"
    assert parsed.faults == []
    assert parsed.values == [
        Value(0, device, "soil_moisture", at, 27.0),
        Value(1, device, "soil_temperature", at, 18.7),
        Value(2, device, "soil_ec", at, 554.0),
        Value(3, device, "device_battery_v", at, 3.308),
    ]


def test_without_the_gateways_time_it_is_the_servers():
    message = json.loads((CAPTURED / "chirpstack_up.json").read_bytes())
    del message["rxInfo"][0]["gwTime"]
    parsed = reader("chirpstack_v4.toml").read(UP, json.dumps(message).encode(), 0)
    assert {round(value.t_ms) for value in parsed.values} == {
        round(ms("2026-05-01T01:02:03.775023+00:00"))
    }


def test_text_for_a_number_is_one_fault_and_the_rest_flows():
    message = json.loads((CAPTURED / "chirpstack_up.json").read_bytes())
    message["object"]["temp_SOIL"] = "18.7"
    parsed = reader("chirpstack_v4.toml").read(UP, json.dumps(message).encode(), 0)
    assert [value.indicator for value in parsed.values] == [
        "soil_moisture",
        "soil_ec",
        "device_battery_v",
    ]
    assert parsed.faults == [
        (
            1,
            "values.soil_temperature",
            "values.soil_temperature: '18.7' is text, not a number",
        )
    ]


def test_a_join_has_no_records_and_no_faults():
    parsed = reader("chirpstack_v4.toml").read(UP.replace("/up", "/join"), b'{"devAddr":"1"}', 0)
    assert (parsed.values, parsed.faults) == ([], [])


def test_a_tasmota_sensor_has_its_own_zone_and_unit():
    body = (CAPTURED / "tasmota_sensor.json").read_bytes()
    parsed = reader("tasmota.toml").read(SENSOR, body, 0)
    at = ms("2026-05-01T09:02:03+08:00")
    assert parsed.values == [
        Value(0, "greenhouse1", "air_temperature", at, 20.5),
        Value(1, "greenhouse1", "air_humidity", at, 51.2),
    ]
    assert parsed.faults == []


def test_a_sensor_that_is_unplugged_has_no_value():
    body = b'{"Time":"2026-05-01T09:02:03","AM2301":{"Temperature":null,"Humidity":null},"TempUnit":"C"}'
    parsed = reader("tasmota.toml").read(SENSOR, body, 0)
    assert parsed.values == []
    assert "finds none of air_temperature, air_humidity" in parsed.faults[0][2]


def test_a_unit_that_nobody_named_is_refused():
    body = b'{"Time":"2026-05-01T09:02:03","AM2301":{"Temperature":1.5},"TempUnit":"K"}'
    parsed = reader("tasmota.toml").read(SENSOR, body, 0)
    assert "'K' is not in unit_names" in parsed.faults[0][2]
