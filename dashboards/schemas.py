"""JSON Schemas (draft 2020-12) of everything that crosses a border of ours, generated from the types that decode it.

What a type cannot say – one of three keys, a ULID – is added here. Unknown keys are allowed everywhere: receivers
ignore them.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

import msgspec

from alerts.delivery.challenge import NoticeEvent
from alerts.delivery.payload import SCHEMA_VERSION, SOURCE
from alerts.event import EVENT_TYPES, Event
from drivers import indicators
from drivers.records import TestRecord
from gateway import wire
from ingest.judge.lines import ReadingLine, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

Schema = dict[str, object]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ULID = "[0-7][0-9A-HJKMNP-TV-Z]{25}"
_NUMBER = "(0|[1-9][0-9]{0,15})"
_POSITIVE = "[1-9][0-9]{0,15}"
DECIMAL = r"^-?(0|[1-9]\d*)(\.\d+)?([Ee][+-]?\d+)?$"


def schemas() -> dict[str, Schema]:
    """Return every schema by its file's name without suffix; each stands alone."""
    made = {name: make() for name, make in _MAKERS.items()}
    return {
        name: {"$schema": DIALECT, "$id": f"urn:agrigate:schema:1:{name}", **schema}
        for name, schema in made.items()
    }


@functools.cache
def published() -> dict[str, Schema]:
    """Return the schemas that a receiver of webhooks needs, by name and version."""
    made = schemas()
    names = {"alert.v1": "webhook-event", "endpoint.v1": "webhook-notice"}
    return {name: made[source] for name, source in names.items()}


def _of(kind: type) -> Schema:
    """Return the schema of ``kind`` with its parts in ``$defs``."""
    (root,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for part in defs.values():
        if "description" in part:
            part["description"] = " ".join(inspect.cleandoc(part["description"]).split())
        _say_decimals(part)
    name = str(root["$ref"]).rpartition("/")[2]
    schema: Schema = defs.pop(name)
    return {**schema, "$defs": defs} if defs else schema


def _say_decimals(part: Schema) -> None:
    """Give decimals, which are text on the wire, a pattern that every validator knows."""
    if part.get("format") == "decimal":
        part.pop("format")
        part.update(pattern=DECIMAL, description="A decimal number as text, to its last digit.")
    for value in part.values():
        for child in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            if isinstance(child, dict):
                _say_decimals(child)
        if isinstance(value, dict):
            _say_decimals(value)


def _properties(schema: Schema) -> dict[str, Schema]:
    found = schema["properties"]
    assert isinstance(found, dict)  # noqa: S101 - made above
    return found


def _definition(schema: Schema, name: str) -> Schema:
    defs = schema["$defs"]
    assert isinstance(defs, dict)  # noqa: S101 - made above
    found: Schema = defs[name]
    return found


def _refine(schema: Schema, **more: Schema) -> None:
    """Add to the properties of ``schema``."""
    for name, addition in more.items():
        _properties(schema)[name].update(addition)


def _held(name: str, kind: str) -> Schema:
    return {"required": [name], "properties": {name: {"type": kind}}}


def pack_header() -> Schema:
    """The header line of a pack, without its LF."""
    return {
        "title": "Pack header",
        "description": "The ASCII line before the body of a pack: agri1, epoch (a ULID), seq (from 1),"
        " oldest (1 … seq), sent_ms (UTC milliseconds), len (bytes of the body), first 16 hex digits of"
        " the body's SHA-256;"
        " one blank between, LF at the end.",
        "type": "string",
        "maxLength": wire.MAX_HEADER_BYTES - 1,
        "pattern": f"^agri1 {ULID} {_POSITIVE} {_POSITIVE} {_NUMBER} {_NUMBER} [0-9a-f]{{16}}$",
        "examples": [
            "agri1 01KAHCB9ZNM3E2S0V2H8Q6T5RD 7 5 1795483861000 235 71581d2655d73f42",
        ],
    }


def pack_body() -> Schema:
    """The body of a pack."""
    schema = _of(wire.Body)
    schema["oneOf"] = [_held("readings", "array"), _held("tests", "array"), _held("lost", "object")]
    record = _definition(schema, "SenmlRecord")
    record["anyOf"] = [_held("v", "number"), _held("q", "string")]
    _refine(
        record,
        n={
            "description": "bn + n is {device path}/{indicator code}; the codes are in indicator.json."
        },
        bt={"description": "bt + t is the time: UTC seconds, at most milliseconds."},
        v={"description": "The value in the catalogue's unit; not looked at when there is q."},
        u={"description": "The catalogue's UCUM code of this indicator, or left out."},
        q={
            "description": "Why there is no value: bad:range, bad:nan, bad:sentinel, bad:illegal_address, …"
        },
        raw={"description": "Reserved."},
    )
    _bound_raw(_definition(schema, "TestRecord"))
    return schema


def _bound_raw(record: Schema) -> None:
    longest = -(-wire.MAX_RAW_BYTES // 3) * 4
    _refine(record, raw={"contentEncoding": "base64", "maxLength": longest})


def receipt() -> Schema:
    """What ingest answers."""
    schema = _of(wire.Receipt)
    _refine(schema, epoch={"pattern": f"^{ULID}$"}, store={"pattern": f"^{ULID}$"})
    return schema


def status() -> Schema:
    """A live status."""
    schema = _of(wire.Status)
    schema["required"] = ["online", "session", "key", "sig"]
    schema["description"] = (
        "What an agent says of itself at each connect and every 60 s. sig is ed25519 by key over the compact JSON of"
        " [station, session, epochs], an epoch being [lane, epoch, oldest, last], sorted by lane, then by epoch."
    )
    _refine(
        schema,
        key={"contentEncoding": "base64", "minLength": 44, "maxLength": 44},
        sig={"contentEncoding": "base64", "minLength": 88, "maxLength": 88},
    )
    _refine(_definition(schema, "EpochState"), epoch={"pattern": f"^{ULID}$"})
    lanes = _properties(schema)["lanes"]
    lanes["propertyNames"] = {"enum": [lane.value for lane in wire.Lane]}
    return schema


def will() -> Schema:
    """What the broker says when an agent is gone."""
    return {
        "title": "Will",
        "description": "The MQTT will: this session has ended without a word.",
        "type": "object",
        "properties": {"online": {"const": False}, "session": {"type": "string"}},
        "required": ["online", "session"],
    }


def test_record() -> Schema:
    """One rapid-test result."""
    schema = _of(TestRecord)
    _bound_raw(schema)
    return schema


test_record.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def indicator() -> Schema:
    """The catalogue: every code with its names and unit."""
    rows = indicators.catalogue().values()
    return {
        "title": "Indicator",
        "description": "The indicator catalogue: what is measured, and the UCUM code of its unit.",
        "oneOf": [
            {
                "const": row.code,
                "title": row.en,
                "description": row.zh,
                "x-medium": row.medium,
                "x-unit": row.unit,
                "x-decimals": row.decimals,
                "x-physical-range": [row.physical_min, row.physical_max],
            }
            for row in rows
        ],
    }


def judge_line() -> Schema:
    """A line that ``agrigate judge`` reads."""
    reading, test = _of(ReadingLine), test_record()
    defs = test.pop("$defs")
    _properties(reading)["kind"] = {"const": "reading"}
    _properties(reading)["indicator"] = {
        "type": "string",
        "description": "A code of indicator.json; an unknown one is undetermined, not refused.",
    }
    reading["required"] = ["kind", "indicator", "value"]
    _properties(test)["kind"] = {"const": "test"}
    test["required"] = ["kind"]
    return {
        "title": "Judge line",
        "description": "One line of agrigate judge's input. id is anything, and comes back byte for byte.",
        "oneOf": [{"$ref": "#/$defs/reading"}, {"$ref": "#/$defs/test"}],
        "$defs": {"reading": reading, "test": test, **(defs if isinstance(defs, dict) else {})},
    }


def judge_reply() -> Schema:
    """A line that ``agrigate judge`` writes."""
    schema = _of(Reply)
    _properties(schema)["id"] = {"description": "The line's id, null when it had none."}
    return schema


def webhook_event() -> Schema:
    """The body of a webhook."""
    schema = _of(Event)
    ulid: Schema = {"pattern": f"^{ULID}$"}
    _refine(
        schema,
        specversion={"const": "1.0"},
        id=ulid,
        source={"const": SOURCE},
        type={"enum": list(EVENT_TYPES)},
        subject=ulid,
        time={"format": "date-time"},
        schemaversion={"const": SCHEMA_VERSION},
    )
    _refine(
        _definition(schema, "EventData"),
        alert_id=ulid,
        first_seen={"format": "date-time"},
        last_seen={"format": "date-time"},
        dedup_key={"pattern": "^[0-9a-f]{64}$"},
    )
    _refine(_definition(schema, "Evidence"), evidence_sha256={"pattern": "^[0-9a-f]{64}$"})
    return schema


def webhook_notice() -> Schema:
    """The body of ``endpoint.verify`` and ``endpoint.test``."""
    schema = _of(NoticeEvent)
    _refine(
        schema,
        specversion={"const": "1.0"},
        id={"pattern": f"^{ULID}$"},
        source={"const": SOURCE},
        type={"enum": ["endpoint.verify", "endpoint.test"]},
        time={"format": "date-time"},
        schemaversion={"const": SCHEMA_VERSION},
    )
    _refine(_definition(schema, "NoticeData"), status={"const": "test"})
    return schema


_MAKERS: dict[str, Callable[[], Schema]] = {
    "pack-header": pack_header,
    "pack-body": pack_body,
    "receipt": receipt,
    "status": status,
    "will": will,
    "test-record": test_record,
    "indicator": indicator,
    "judge-line": judge_line,
    "judge-reply": judge_reply,
    "webhook-event": webhook_event,
    "webhook-notice": webhook_notice,
}
