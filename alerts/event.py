"""The webhook's event as types, for whoever describes or reads it; ``payload.py`` makes the bytes."""

from __future__ import annotations

import msgspec

from alerts.states import TABLE, State
from drivers.records import Severity

EVENT_TYPES = tuple(dict.fromkeys(row.event for row in TABLE))


class InTwo(msgspec.Struct, frozen=True):
    """A text in Chinese and English."""

    zh: str
    en: str


class Ack(msgspec.Struct, frozen=True):
    """Who has seen the alert, and when."""

    by: str
    at: str


class Analyte(msgspec.Struct, frozen=True):
    """What was measured: a catalogue code, or the code of a tested substance."""

    code: str
    name: InTwo


class Method(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """How it was measured: ``sensor``, ``screening`` or ``confirmatory``."""

    class_: str


class Measured(msgspec.Struct, frozen=True):
    """The value and the limit it was compared with; a positive strip has neither."""

    analyte: Analyte
    value: float | None
    unit: str
    limit: float | None
    limit_unit: str | None
    comparator: str | None
    exceed_ratio: float | None
    method: Method


class Cited(msgspec.Struct, frozen=True):
    """The clause that was broken; ``verified`` False means 待核. All are null for technical conditions."""

    standard_no: str | None
    title: str | None
    clause: str | None
    clause_en: str | None
    level: str | None
    conditions: dict[str, str | float | None]
    verified: bool | None
    limit_version: str | None


class Site(msgspec.Struct, frozen=True):
    """Where it was: station, device, plot, and whose."""

    site_id: str
    site_name: InTwo
    region_code: str
    lon: float | None
    lat: float | None
    device: str
    plot_id: str
    producer_id: str
    sample_no: str
    product_name: str


class Evidence(msgspec.Struct, frozen=True):
    """What the alert rests on; ``reading_ids`` are station/epoch/seq/position of packs in the inbox."""

    evidence_sha256: str
    reading_ids: list[str]
    record_id: str | None
    rule_id: str
    url: str


class EventData(msgspec.Struct, frozen=True):
    """The alert right after the transition. The newest state has the greatest (``incarnation``, ``seq``)."""

    alert_id: str
    incarnation: str
    seq: int
    state: State
    previous_state: State
    reason: str
    kind: str
    severity: Severity
    certainty: str
    status: str
    dedup_key: str
    first_seen: str
    last_seen: str
    occurrence_count: int
    flags: list[str]
    ack: Ack | None
    title: InTwo
    finding: Measured
    citation: Cited
    site: Site
    evidence: Evidence


class Event(msgspec.Struct, frozen=True):
    """A CloudEvents 1.0 event in structured JSON; receivers ignore keys that they do not know."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    schemaversion: str
    data: EventData
