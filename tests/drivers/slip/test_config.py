import pytest

from drivers.errors import ConfigError
from drivers.records import Purpose
from drivers.slip.config import parse

BASE = {"path": "tester1", "serial": "/dev/pts/7"}


def faults(table):
    with pytest.raises(ConfigError) as refused:
        parse(table, "edge.toml: hl-001")
    prefix = "edge.toml: hl-001: "
    assert all(line.startswith(prefix) for line in refused.value.faults)
    return [line.removeprefix(prefix) for line in refused.value.faults]


def test_what_a_device_has():
    device = parse(
        BASE | {"driver": "slip", "charset": "gbk", "defaults": {"purpose": "special"}}, "t"
    )
    assert (device.path, device.bus, device.poll_interval_s) == (
        "tester1",
        "serial:/dev/pts/7",
        0.0,
    )
    assert (device.transport.baud, device.transport.format, device.charset) == (9600, "8N1", "gbk")
    assert device.defaults.purpose is Purpose.SPECIAL


def test_all_faults_at_once():
    got = faults(
        {
            "path": "tester 1",
            "boud": 9600,
            "charset": "big5",
            "idle_s": 0,
            "defaults": {"purpos": "routine", "sampling_stage": "farm"},
        }
    )
    assert [line.split(": ")[:2] for line in got] == [
        [
            "path",
            "Expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$(?!\\\\n)'",
        ],
        ["boud", "unknown key; did you mean baud?"],
        ["charset", "Invalid enum value 'big5'"],
        ["idle_s", "Expected `float` > 0.0"],
        ["serial", "is missing"],
        ["defaults", "purpos"],
        ["defaults", "sampling_stage"],
    ]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"baud": 9601}, "baud: 9601 is none of"),
        ({"labels": {"菜名": "product"}}, "labels: '菜名': 'product' is no field"),
        ({"verdicts": {"好": "good"}}, "verdicts: Invalid enum value 'good'"),
        ({"defaults": {"lod": "0,5"}}, "defaults: lod: '0,5' is not a decimal number"),
        ({"defaults": {"unit": "mgkg"}}, "defaults: unit: unit 'mgkg' is not known"),
        ({"defaults": 5}, "defaults: Expected `object`, got `int`"),
        ({"block_end": ["blank"]}, "block_end: Invalid enum value 'blank'"),
    ],
)
def test_each_fault_names_field_and_remedy(table, fault):
    assert faults(BASE | table)[0].startswith(fault)
