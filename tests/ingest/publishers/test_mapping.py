"""``[[mapping]]``: faults named by table and key, results checked for their types."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.publishers.address import split
from ingest.publishers.mapping import Rule, compile_rules
from ingest.publishers.parsed import RecordError
from ingest.publishers.reader import MessageReader

NOW = 1_777_600_000_000
TOPIC = "agri/v1/hl-001/raw/node7"


def rules(text: str) -> tuple[Rule, ...]:
    faults: list[str] = []
    found = compile_rules(tomllib.loads(text)["mapping"], "server.toml", faults)
    assert faults == []
    return found


def read(text: str, message: object, topic: str = TOPIC):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return MessageReader(rules(text)).read(topic, body, NOW)


BASE = '[[mapping]]\nname = "m"\ndevice = "*"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[mapping]]\nname = "m"\nvalues = {}', "'m': device: is missing"),
        (BASE, "'m': values: is missing"),
        (BASE + "values = { soil_phh = 'a' }", "'m': values.soil_phh: indicator 'soil_phh'"),
        (BASE + "values = { soil_ph = 'a[' }", "'m': values.soil_ph: 'a[' is no JMESPath"),
        (
            BASE + "values = { soil_ph = { path = 'a', unit = 'Cel' } }",
            "'m': values.soil_ph.unit: ",
        ),
        (BASE + "values = { soil_ph = { path = 'a', scale = 0 } }", "'m': values.soil_ph: scale"),
        (BASE + "values = { soil_ph = { pat = 'a' } }", "'m': values"),
        (BASE + "value = { soil_ph = 'a' }", "'m': value: unknown key"),
        (BASE + "records = '('\nvalues = { soil_ph = 'a' }", "'m': records: '('"),
        (BASE + "zone = 'CST'\nvalues = { soil_ph = 'a' }", "'m': zone: 'CST'"),
        (BASE + "topic = 'a#'\nvalues = { soil_ph = 'a' }", "'m': topic: 'a#'"),
        (BASE + "tests = { colour = 'a' }", "'m': tests.colour: no field"),
        (BASE + "tests = { value = 'a' }", "'m': tests.tested_at: is missing"),
        (BASE + "values = { soil_ph = 'a' }\n" + BASE + "records = '`[]`'", "'m': name: stands"),
        ('[[mapping]]\ndevice = "*"', "[[mapping]] 1: name"),
    ],
)
def test_a_fault_of_the_configuration_names_table_and_key(text, fault):
    faults: list[str] = []
    compile_rules(tomllib.loads(text)["mapping"], "server.toml", faults)
    assert any(fault in line and line.startswith("server.toml: [[mapping]]") for line in faults)
    assert not any("\n" in line for line in faults)


def test_a_table_where_a_list_belongs_is_named():
    faults: list[str] = []
    assert compile_rules({"name": "x"}, "server.toml", faults) == ()
    assert faults == ["server.toml: mapping: is no list; write [[mapping]] on a line of its own"]


def test_scale_offset_and_unit():
    text = BASE + "values = { soil_ec = { path = 'ec', unit = 'mS/cm', scale = 0.1, offset = 1 } }"
    assert read(text, {"ec": 5}).values[0].value == 1500.0


def test_a_list_of_records_each_with_its_time_and_device():
    text = BASE + (
        "records = 'nodes[?ok]'\ndevice_path = 'id'\ntime = 'ts'\n"
        "values = { soil_ph = 'ph', soil_moisture = 'm' }"
    )
    nodes = [
        {"id": "a", "ts": NOW, "ph": 7, "ok": True},
        {"id": "b", "ts": NOW / 1000, "ph": "7", "m": 20, "ok": True},
        {"id": "no path!", "ts": 0, "ph": 7, "ok": True},
        {"id": "c", "ts": "yesterday", "ph": 7, "ok": True},
        {"id": "d", "ok": False},
    ]
    parsed = read(text, {"nodes": nodes})
    got = [(v.position, v.device, v.indicator, v.t_ms, v.value) for v in parsed.values]
    assert got == [(0, "a", "soil_ph", NOW, 7.0), (3, "b", "soil_moisture", NOW, 20.0)]
    assert [(position, field) for position, field, _ in parsed.faults] == [
        (2, "values.soil_ph"),
        (4, "device_path"),
        (6, "time"),
    ]


@pytest.mark.parametrize(
    "value", ["7", True, [7], {"v": 7}, "'; DROP MEASUREMENT reading; --", "\x00\x1b[31m"]
)
def test_what_is_no_number_is_one_line(value):
    parsed = read(BASE + "values = { soil_ph = 'ph', soil_moisture = 'm' }", {"ph": value, "m": 20})
    assert [v.indicator for v in parsed.values] == ["soil_moisture"]
    ((position, field, reason),) = parsed.faults
    assert (position, field) == (0, "values.soil_ph")
    assert reason.isprintable()
    assert "not a number" in reason


@pytest.mark.parametrize(
    "body",
    [b'{"ph": NaN}', b'{"ph": 1e400}', b'{"ph": 1, "ph": 2}', b'{"ph": ' + b"9" * 4999 + b"}"],
)
def test_what_json_leaves_open_is_a_fault(body):
    parsed = read(BASE + "values = { soil_ph = 'ph' }", body)
    assert parsed.values == []
    assert len(parsed.faults) == 1


def test_a_function_that_fails_on_a_message_is_a_fault_of_it():
    parsed = read(BASE + "values = { soil_ph = 'length(ph)' }", {"ph": 7})
    assert parsed.faults[0][1] == "values.soil_ph"


def test_a_test_record_is_known_by_what_it_says():
    text = BASE + (
        "time = 'at'\ntests = { parameter = 'item', value = 'val', unit = 'u', sample_no = 'no' }"
    )
    message = {"at": "2026-05-01 09:02:03", "item": "克百威", "val": 0.1, "u": "mg/kg", "no": 7}
    (_, record), (_, again) = [read(text, message).tests[0] for _ in range(2)]
    assert (record.parameter, str(record.value), record.sample_no) == ("克百威", "0.1", "7")
    assert record.tested_at == "2026-05-01T09:02:03+08:00"
    assert record == again
    assert record.device_id == "node7"
    assert read(text, {**message, "val": 0.2}).tests[0][1].record_id != record.record_id
    assert read(text, {**message, "val": "x"}).faults[0][1] == "tests"


def test_the_first_mapping_that_is_for_a_message_reads_it():
    text = (
        '[[mapping]]\nname = "a"\ndevice = "node*"\nvalues = { soil_ph = "x" }\n'
        '[[mapping]]\nname = "b"\ntopic = "agri/v1/+/raw/#"\nvalues = { soil_ph = "y" }\n'
    )
    both = {"x": 1, "y": 2}
    assert read(text, both).values[0].value == 1
    assert read(text, both, "agri/v1/hl-001/raw/other").values[0].value == 2
    assert MessageReader().read(TOPIC, b"{}", NOW).faults[0][1] == "topic"


@pytest.mark.parametrize(
    "topic",
    [
        "agri/v1/hl-001/raw",
        "agri/v1/hl-001/raw/",
        "agri/v1/hl-001/raw/+",
        "agri/v1/hl-001/raw/#",
        "agri/v1/HL 001/raw/x",
        "agri/v1/hl-001/up",
        "agri/v1/hl-001/raw/a\nb",
        "agri/v1/hl-001/raw/" + "x" * 81,
        "agri/v1/hl-001/raw/../../etc",
        "",
        "a" * 1000,
    ],
)
def test_a_topic_that_is_not_ours_is_refused(topic):
    with pytest.raises(RecordError) as raised:
        split(topic)
    assert raised.value.field == "topic"


# ---- any bytes

WIDE = BASE + (
    "records = 'r || @'\ntime = 't'\nvalues = { soil_ph = 'v', soil_ec = { path = 'abs(v)', unit_path = 'u' } }"
)
JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["soil_ph", "Cel", "2026-05-01", 1e308, -1e308, 2**63, 1e16]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "n",
                    "v",
                    "t",
                    "u",
                    "bn",
                    "bt",
                    "bu",
                    "bv",
                    "bs",
                    "bver",
                    "vs",
                    "vb",
                    "vd",
                    "s",
                    "ut",
                    "r",
                    "x_",
                    "tests",
                    "record_id",
                    "value",
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
BODIES = st.binary(max_size=200) | JSONISH.map(lambda value: json.dumps(value).encode())
TOPICS = st.sampled_from(
    [TOPIC, "agri/v1/hl-001/senml/a/b", "agri/v1/hl-001/records", "agri/v1/hl-001/records/a"]
) | st.text(max_size=40)


@settings(max_examples=600, deadline=None)
@given(topic=TOPICS, body=BODIES)
def test_any_bytes_are_records_or_faults(topic, body):
    index = SeriesIndex(MessageReader(rules(WIDE)))
    pack = TakenPack(1, "hl-001", "E", 1, NOW, body, topic=topic or "x")
    batch = Decoder(index).decode([pack])
    assert len(batch.t_ms) == len(batch.v) == len(batch.position)
    assert all(abs(v) < float("inf") for v in batch.v.tolist())
    assert all(fault.reason for fault in batch.faults)
