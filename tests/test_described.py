"""What docs/api says is what the code does: generated files are current, and real messages fit their schemas."""

from __future__ import annotations

import functools
import json
import re
from decimal import Decimal
from pathlib import Path

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from alerts.alert import Alert
from alerts.delivery import payload
from alerts.event import Event
from alerts.states import State
from dashboards import asyncapi, describe, schemas
from drivers import indicators, records
from drivers.records import Reading, TestRecord
from gateway import keys, uplink, wire
from gateway.wire import Lane
from ingest.judge.lines import judge_lines

API = Path(__file__).parents[1] / "docs" / "api"
EPOCH = "01KAHCB9ZNM3E2S0V2H8Q6T5RD"
FILES = describe.files()


@functools.cache
def validator(name):
    schema = json.loads(FILES[f"schemas/{name}.json"])
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def assert_fits(name, message):
    validator(name).validate(json.loads(message))


def fits(name, value):
    return validator(name).is_valid(value)


# ---- the files


def test_committed_files_are_what_the_types_say():
    committed = {
        str(file.relative_to(API)): file.read_text("utf-8")
        for file in API.rglob("*")
        if file.is_file()
    }
    assert sorted(committed) == sorted(FILES), "run: agrigate describe docs/api"
    stale = [name for name, text in FILES.items() if committed[name] != text]
    assert not stale, "run: agrigate describe docs/api"


def test_command_writes_every_file(tmp_path):
    done = CliRunner().invoke(describe.describe, [str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {name: (tmp_path / name).read_text("utf-8") for name in FILES} == FILES


@pytest.mark.parametrize("name", sorted(schemas.schemas()))
def test_schema_is_one_and_its_examples_fit(name):
    schema = json.loads(FILES[f"schemas/{name}.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    for example in schema.get("examples", []):
        validator(name).validate(example)


# ---- packs


def test_pack_fits():
    body = wire.encode_readings(
        [
            Reading("plot3/soil1", "soil_ph", 1_763_900_000_123, 6.52),
            Reading("plot3/soil1", "soil_cd", 1_763_900_001_000, None, "bad:range"),
            Reading("canal/ph", "water_ph", 1_763_900_001_000, 7.0),
        ]
    )
    assert_fits("pack-body", body)
    header = wire.encode_pack(EPOCH, 7, 5, 1_763_900_002_000, body).partition(b"\n")[0].decode()
    validator("pack-header").validate(header)


@pytest.mark.parametrize(
    ("field", "text"),
    [(0, "agri2"), (1, EPOCH.lower()), (2, "07"), (2, "0"), (3, "-1"), (4, "1e3"), (6, "A" * 16)],
)
def test_header_is_refused_where_the_decoder_refuses_it(field, text):
    payload_ = wire.encode_pack(EPOCH, 7, 5, 1, b"{}")
    head, _, body = payload_.partition(b"\n")
    fields = head.decode().split(" ")
    fields[field] = text
    assert not fits("pack-header", " ".join(fields))
    with pytest.raises(wire.WireError):
        wire.decode_pack(" ".join(fields).encode() + b"\n" + body)


FULL_RECORD = TestRecord(
    record_id="r1",
    dedup_key="k1",
    tested_at="2026-05-01T10:00:00+08:00",
    device_id="tester1",
    result_kind=records.ResultKind.INHIBITION,
    value=Decimal("49.960"),
    lod=Decimal("0.5"),
    absorbance=Decimal("1E-3"),
    qualifier=records.Qualifier.EQ,
    screen_result=records.ScreenResult.POSITIVE,
    purpose=records.Purpose.ROUTINE,
    sampling_stage=records.SamplingStage.BASE,
    quality_flags=("late",),
    raw="AAEC",
)


def test_test_record_fits_and_its_value_is_text():
    assert_fits("pack-body", wire.encode_tests([FULL_RECORD]))
    said = json.loads(msgspec.json.encode(FULL_RECORD))
    assert said["value"] == "49.960"
    assert fits("test-record", said)
    assert not fits("test-record", {**said, "value": 49.96})
    assert not fits("test-record", {**said, "value": "forty"})


def test_lost_fits():
    assert_fits("pack-body", wire.encode_lost(wire.Lost(3, 9, 600, wire.LostReason.CAP)))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"readings": [], "tests": []},
        {"readings": None},
        {"readings": [], "clk": "perhaps"},
        {"lost": {"from": 0, "through": 1, "readings": 0, "reason": "cap"}},
    ],
)
def test_body_is_refused_where_the_decoder_refuses_it(body):
    assert not fits("pack-body", body)
    with pytest.raises(wire.WireError):
        wire.decode_body(json.dumps(body).encode())


def test_unknown_keys_are_allowed_where_they_are_ignored():
    body = {"readings": [{"n": "a/soil_ph", "v": 7, "later": 1}], "later": {}}
    assert fits("pack-body", body)
    assert wire.decode_body(json.dumps(body).encode()).readings is not None


def test_reading_needs_a_value_or_a_reason():
    assert not fits("pack-body", {"readings": [{"n": "a/soil_ph"}]})
    assert not fits("pack-body", {"readings": [{"n": "a/soil_ph", "v": None, "q": None}]})


# ---- receipts and status


def test_receipt_fits():
    receipt = wire.Receipt(epoch=EPOCH, seq=0, store=EPOCH, now_ms=1, state=wire.ReceiptState.HOLD)
    assert_fits("receipt", wire.encode_receipt(receipt))
    assert not fits("receipt", {"epoch": EPOCH, "seq": -1, "store": EPOCH, "now_ms": 1})
    assert not fits("receipt", {"epoch": EPOCH, "seq": 1, "store": "x", "now_ms": 1})


def test_status_and_will_fit(tmp_path):
    key = keys.load_or_create(tmp_path / "key")
    lanes = {Lane.READINGS: [wire.EpochState(EPOCH, 8, 7)], Lane.TESTS: []}
    status = wire.Status(
        online=True,
        session=EPOCH,
        sent_ms=1_763_900_000_000,
        version="0.1.0",
        queue=3,
        clock_offset_ms=-12,
        devices=[wire.DeviceSeen("plot3/soil1", None, ok=False)],
        lanes=lanes,
        key=keys.public_text(key),
        sig=keys.sign(key, wire.status_signing_bytes("hl-001", EPOCH, lanes)),
    )
    assert_fits("status", wire.encode_status(status))
    assert_fits("will", wire.encode_will(EPOCH))
    assert not fits("status", json.loads(wire.encode_will(EPOCH)))
    assert not fits("will", json.loads(wire.encode_status(status)))


# ---- the judge

LINES = [
    '{"id":1,"kind":"reading","indicator":"soil_cd","value":0.45,"unit":"mg/kg","at":"2026-05-01",'
    '"context":{"ph":6.8,"land_use":"paddy"}}',
    '{"id":[2],"kind":"test","product_name":"菠菜","parameter":"毒死蜱","result_kind":"qualitative",'
    '"screen_result":"positive"}',
    '{"kind":"reading","indicator":"nonsense","value":1}',
]


@pytest.mark.parametrize("line", LINES)
def test_judge_lines_and_replies_fit(line):
    assert_fits("judge-line", line)
    (reply,) = judge_lines([line.encode()])
    assert_fits("judge-reply", reply)


def test_judge_reply_cites_every_limit_compared():
    (reply,) = judge_lines([LINES[0].encode()])
    findings = json.loads(reply)["findings"]
    assert findings
    assert not fits("judge-reply", {**json.loads(reply), "findings": [{}]})


def test_what_is_no_line_gets_a_reply_that_fits():
    (reply,) = judge_lines([b'{"id":3,"kind":"poem"}'])
    assert_fits("judge-reply", reply)
    assert not fits("judge-line", {"id": 3, "kind": "poem"})


# ---- webhooks


def an_alert(**more):
    citation = {
        "standard": "GB 5084-2021",
        "title_zh": "农田灌溉水质标准",
        "clause": "表1",
        "level": "basic",
        "comparator": ">",
        "limit": 8.5,
        "unit": "[pH]",
        "ratio": 1.1,
        "conditions": {"crop": None, "ph": 6.5},
        "verified": True,
        "limit_version": "1",
    }
    fields = {
        "alert_id": EPOCH,
        "dedup_key": "0" * 64,
        "kind": "limit",
        "rule_id": "r",
        "state": State.SUSPECTED,
        "seq": 1,
        "severity": "major",
        "certainty": "sensor",
        "station": "hl-001",
        "device": "canal/ph",
        "indicator": "water_ph",
        "value": 9.4,
        "unit": "[pH]",
        "citation": citation,
        "evidence": {"station": "hl-001", "epoch": EPOCH, "seq": 1, "position": 0, "record_id": ""},
        "first_seen_ms": 1_763_900_000_000,
        "last_seen_ms": 1_763_900_000_000,
        "occurrence_count": 1,
        "flags": ["late"],
        "raised_ms": 1_763_900_000_000,
        "changed_ms": 1_763_900_000_000,
    }
    return Alert(**{**fields, **more})


@pytest.mark.parametrize(
    "alert",
    [
        an_alert(),
        an_alert(acked_by="王", acked_ms=1_763_900_001_000),
        an_alert(kind="offline", state=State.OPEN, value=None, citation={}, evidence={}),
    ],
)
def test_webhook_event_fits_and_its_types_name_every_key(alert):
    occasion = payload.Occasion(EPOCH, "alert.suspected", "", "", 1_763_900_000_000)
    data = payload.data_of(
        alert, occasion, incarnation=EPOCH, place=payload.Place(), names=("pH值", "pH")
    )
    body = payload.body(alert, occasion, data)
    assert_fits("webhook-event", body)
    event = msgspec.json.decode(body, type=Event)
    assert msgspec.to_builtins(event) == json.loads(body)


# ---- the catalogue, AsyncAPI


def test_indicators_are_the_catalogue():
    for code in indicators.catalogue():
        assert fits("indicator", code)
    assert not fits("indicator", "nonsense")


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_asyncapi_references_resolve():
    document = json.loads(FILES["asyncapi.json"])
    found = list(references(document))
    assert found
    for reference in found:
        file, _, place = reference.partition("#")
        node = json.loads(FILES[file]) if file else document
        for part in filter(None, place.split("/")):
            node = node[part]
        assert node


def test_asyncapi_says_what_the_agent_does():
    document = json.loads(FILES["asyncapi.json"])
    assert (asyncapi.QOS, asyncapi.KEEPALIVE_S) == (uplink.QOS, uplink.KEEPALIVE_S)
    channels = document["channels"]
    assert {c["address"].format(station="hl-001", device="d") for c in channels.values()} == {
        wire.topic("hl-001", leaf) for leaf in ("up", "ack", "status", "senml/d", "raw/d")
    }
    actions = {
        operation["channel"]["$ref"].rpartition("/")[2]: operation
        for operation in document["operations"].values()
    }
    assert {leaf: op["action"] for leaf, op in actions.items()} == {
        "senml": "send",
        "raw": "send",
        "up": "send",
        "ack": "receive",
        "status": "send",
    }
    retained = {leaf for leaf, op in actions.items() if op["bindings"]["mqtt"]["retain"]}
    assert retained == {"status"}
    assert re.search(r"Only the server", channels["ack"]["description"])
