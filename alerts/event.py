"""The webhook's event as types, for whoever describes or reads it; ``payload.py`` makes the bytes."""

from __future__ import annotations

import msgspec

from alerts.states import TABLE, State
from drivers.records import Severity

EVENT_TYPES = tuple(dict.fromkeys(row.event for row in TABLE if row.event))


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


class Retest(msgspec.Struct, frozen=True):
    """The re-test that was ordered, and what came of it: ``confirms``, ``refutes`` and the like."""

    order_id: str | None
    laboratory: str | None
    result: str | None
    report_no: str | None


class Handover(msgspec.Struct, frozen=True):
    """The enforcement agency, and the number of its case once it took it."""

    agency: str | None
    case_no: str | None


class Reference(msgspec.Struct, frozen=True):
    """Another alert that this one speaks of."""

    relation: str
    alert_id: str


class Workflow(msgspec.Struct, frozen=True):
    """Where the alert stands on the law's way; ``said`` is what this transition brought (a step, a deadline)."""

    due_at: str | None
    retest: Retest
    handover: Handover
    outcome: str
    references: list[Reference]
    said: dict[str, str | int | float | bool | dict[str, str] | None]


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
    silenced_until: str | None
    inhibited_by: list[str]
    title: InTwo
    finding: Measured
    citation: Cited
    site: Site
    evidence: Evidence
    workflow: Workflow


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
