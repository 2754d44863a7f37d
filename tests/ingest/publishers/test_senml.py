"""SenML as RFC 8428 says: bases, relative times, units, and each record that cannot be used named with its place."""

from __future__ import annotations

import json

import pytest

from ingest.publishers.mapping import compile_rules
from ingest.publishers.parsed import Value
from ingest.publishers.reader import MessageReader

NOW = 1_777_600_000_000
T = NOW / 1000
TOPIC = "agri/v1/hl-001/senml/plot3/soil1"


def read(records: object, topic: str = TOPIC):
    body = records if isinstance(records, bytes) else json.dumps(records).encode()
    return MessageReader().read(topic, body, NOW)


def values(records: object, topic: str = TOPIC) -> list[tuple]:
    parsed = read(records, topic)
    assert parsed.faults == []
    return [(v.position, v.device, v.indicator, round(v.t_ms), v.value) for v in parsed.values]


def faults(records: object, topic: str = TOPIC) -> list[tuple[int, str]]:
    return [(position, field) for position, field, _ in read(records, topic).faults]


def test_bases_hold_until_replaced():
    assert values(
        [
            {"bn": "a/", "bt": T - 10, "bu": "%", "n": "soil_moisture", "v": 20},
            {"n": "soil_moisture", "t": 5, "v": 21},
            {"bn": "b/", "n": "soil_moisture", "v": 22, "bt": T},
        ]
    ) == [
        (0, "plot3/soil1/a", "soil_moisture", NOW - 10_000, 20.0),
        (1, "plot3/soil1/a", "soil_moisture", NOW - 5_000, 21.0),
        (2, "plot3/soil1/b", "soil_moisture", NOW, 22.0),
    ]


def test_a_base_value_is_added_and_stands_alone_for_a_missing_value():
    records = [
        {"bv": 20, "n": "soil_moisture", "v": 1.5},
        {"n": "soil_moisture"},
        {"bv": 0, "n": "soil_ph", "v": 6.5},
    ]
    assert [value[4] for value in values(records)] == [21.5, 20.0, 6.5]


def test_a_record_of_bases_only_is_no_reading():
    assert values([{"bn": "a/", "bt": T}, {"n": "soil_ph", "v": 6.5}]) == [
        (1, "plot3/soil1/a", "soil_ph", NOW, 6.5)
    ]


@pytest.mark.parametrize(
    ("times", "ms"),
    [
        ({}, NOW),
        ({"t": -60}, NOW - 60_000),
        ({"t": 30}, NOW + 30_000),
        ({"bt": -100, "t": 40}, NOW - 60_000),
        ({"t": 2**28 - 1}, NOW + (2**28 - 1) * 1000),
        ({"t": 2**28}, 2**28 * 1000),
        ({"bt": T, "t": -0.5}, NOW - 500),
    ],
)
def test_a_small_time_is_relative_to_now(times, ms):
    assert values([{"n": "soil_ph", "v": 7, **times}])[0][3] == ms


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ({"n": "soil_temperature", "u": "Cel", "v": 20.5}, 20.5),
        ({"n": "soil_temperature", "u": "K", "v": 293.65}, 20.5),
        ({"n": "soil_temperature", "bu": "[degF]", "v": 68}, 20.0),
        ({"n": "air_humidity", "u": "%RH", "v": 51.2}, 51.2),
        ({"n": "soil_ec", "u": "mS/cm", "v": 0.554}, 554.0),
    ],
)
def test_units_are_converted_exactly(record, value):
    assert values([record])[0][4] == value


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("soil_ph", "plot3/soil1"),
        ("plot3/soil1/soil_ph", "plot3/soil1"),
        ("plot3/soil1/deep/soil_ph", "plot3/soil1/deep"),
        ("deep/soil_ph", "plot3/soil1/deep"),
        ("urn:dev:mac:0024befffe804ff1:soil_ph", "plot3/soil1/urn/dev/mac/0024befffe804ff1"),
        ("probe1.soil_ph", "plot3/soil1/probe1"),
    ],
)
def test_a_name_ends_in_an_indicator_and_begins_with_a_part_of_the_device(name, device):
    assert values([{"n": name, "v": 7}])[0][1:3] == (device, "soil_ph")


def test_over_http_a_key_of_a_station_lets_the_name_say_the_device():
    topic = "agri/v1/hl-001/records"
    assert values([{"bn": "plot3/soil1/", "n": "soil_ph", "v": 7}], topic)[0][1] == "plot3/soil1"
    assert faults([{"n": "soil_ph", "v": 7}], topic) == [(0, "n")]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"n": "soil_ph", "vs": "x"}, "vs"),
        ({"n": "soil_ph", "vb": True}, "vb"),
        ({"n": "soil_ph", "vd": "AA"}, "vd"),
        ({"n": "soil_ph", "s": 3}, "s"),
        ({"n": "soil_ph", "v": 1, "vs": "x"}, "vs"),
        ({"n": "soil_ph"}, "v"),
        ({"n": "soil_ph", "v": "6.5"}, "v"),
        ({"n": "soil_ph", "v": True}, "v"),
        ({"n": "soil_ph", "v": None}, "v"),
        ({"n": "soil_ph", "v": 7, "t": "now"}, "t"),
        ({"n": "soil_ph", "v": 7, "ut": "1"}, "ut"),
        ({"n": "soil_ph", "v": 7, "t": 1e300}, "t"),
        ({"n": "soil_ph", "v": 7, "u": "Cel"}, "u"),
        ({"n": "soil_ph", "v": 7, "u": "; DROP MEASUREMENT reading"}, "u"),
        ({"n": "soil_phh", "v": 7}, "n"),
        ({"n": "soil_ph\n", "v": 7}, "n"),
        ({"n": "+/#/soil_ph", "v": 7}, "n"),
        ({"n": "a//soil_ph", "v": 7}, "n"),
        ({"n": "x" * 90 + "/soil_ph", "v": 7}, "n"),
        ({"n": "reading; DROP MEASUREMENT reading/soil_ph", "v": 7}, "n"),
        ({"n": 3, "v": 7}, "n"),
        ({"v": 7}, "n"),
        ({"n": "soil_ph", "v": 7, "x_": 1}, "'x_'"),
        (None, "record"),
        ([], "record"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_and_the_rest_flows(record, field):
    good = {"n": "soil_ph", "v": 7}
    parsed = read([good, record, good])
    assert [(position, at) for position, at, _ in parsed.faults] == [(1, field)]
    assert [value.position for value in parsed.values] == [0, 2]
    assert "\n" not in parsed.faults[0][2]


@pytest.mark.parametrize(
    "record",
    [
        b'{"n":"soil_ph","v":NaN}',
        b'{"n":"soil_ph","v":1e400}',
        b'{"n":"soil_ph","v":' + b"9" * 5000 + b"}",
        b'{"n":"soil_ph","v":1,"v":2}',
        b'{"n":"soil_ph","v":-Infinity}',
    ],
)
def test_what_json_leaves_open_spoils_its_record_only(record):
    parsed = read(b'[{"n":"soil_ph","v":7},' + record + b',{"n":"soil_ph","v":8}]')
    assert [value.position for value in parsed.values] == [0, 2]
    assert [position for position, *_ in parsed.faults] == [1]


@pytest.mark.parametrize(
    "record",
    [{"bn": 3, "n": "soil_ph", "v": 1}, {"bt": "x", "n": "soil_ph", "v": 1}, {"bx_": 1, "v": 1}],
)
def test_nothing_leans_on_a_base_that_cannot_be_read(record):
    good = {"n": "soil_ph", "v": 7}
    parsed = read([good, record, good, good])
    assert [value.position for value in parsed.values] == [0]
    assert [position for position, *_ in parsed.faults] == [1, 2, 3]


def test_a_record_that_is_refused_still_sets_its_good_bases():
    parsed = read([{"bn": "a/", "bt": T, "n": "soil_ph", "vs": "x"}, {"n": "soil_ph", "v": 7}])
    assert parsed.values == [Value(1, "plot3/soil1/a", "soil_ph", NOW, 7.0)]


@pytest.mark.parametrize("version", [11, 0, "10", 10.5, True])
def test_a_newer_version_refuses_the_whole_message(version):
    records = [{"bver": version, "n": "soil_ph", "v": 7}, {"n": "soil_ph", "v": 7}]
    assert faults(records) == [(-1, "bver")]
    assert values([{"bver": 10, "n": "soil_ph", "v": 7}])


def test_two_versions_in_one_message_refuse_it():
    assert faults([{"bver": 10, "n": "soil_ph", "v": 7}, {"bver": 9, "n": "soil_ph", "v": 7}]) == [
        (-1, "bver")
    ]


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{}", b'"x"', b"[" * 100_000, b"[1,2", b"\x00", b"NaN"]
)
def test_what_is_no_list_is_one_fault(body):
    assert faults(body) == [(-1, "body")]


def test_names_are_mapped_where_the_configuration_says_so():
    found: list[str] = []
    tables = [{"name": "s", "device": "plot*", "names": {"temp": "soil_temperature"}}]
    reader = MessageReader(compile_rules(tables, "server.toml", found))
    parsed = reader.read(TOPIC, b'[{"n":"temp","v":20}]', NOW)
    assert (found, parsed.values[0].indicator) == ([], "soil_temperature")
