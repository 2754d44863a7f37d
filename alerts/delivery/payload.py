"""The body of a webhook: a CloudEvents 1.0 event (structured JSON), a snapshot of one alert (specs/alerting.md §7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from alerts.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.alert import Alert

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SCHEMA_VERSION = "1.0.0"
SOURCE = "urn:agrigate:alerts"

_STATE_WORDS = {
    State.SUSPECTED: ("疑似超标", "suspected exceedance"),
    State.RETEST_ORDERED: ("已下达复检", "re-test ordered"),
    State.CONFIRMED: ("超标已确证", "exceedance confirmed"),
    State.HANDED_OVER: ("已移交执法", "handed over to enforcement"),
    State.IN_ENFORCEMENT: ("执法处理中", "in enforcement"),
    State.CLOSED: ("已办结", "closed"),
    State.SUPERSEDED: ("记录已更正或撤回", "record corrected or withdrawn"),
    State.CLEARED: ("已恢复", "back within limits"),
    State.DISMISSED: ("已排除（误报）", "dismissed as a false alarm"),
    State.REFUTED: ("确证检测未超标", "refuted by the confirmatory test"),
    State.OPEN: ("设备或数据异常", "technical condition"),
    State.RESOLVED: ("设备或数据已恢复正常", "technical condition ended"),
}
_TEST_SUSPECTED = ("疑似阳性", "suspected positive")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station is and whose it is, as registered; blank or None when it is not."""

    name: str = ""
    name_en: str = ""
    lon: float | None = None
    lat: float | None = None
    producer_id: str = ""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What happened to the alert: the transition that this event tells."""

    event_id: str
    event_type: str
    previous_state: str
    reason: str
    at_ms: int
    data: Mapping[str, object] = field(default_factory=dict)


def rfc3339(t_ms: int) -> str:
    """Return ``t_ms`` as an RFC 3339 UTC time with milliseconds.

    >>> rfc3339(1_763_900_000_120)
    '2025-11-23T12:13:20.120Z'
    """
    seconds, ms = divmod(t_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def titles(alert: Alert, place: Place, names: tuple[str, str]) -> dict[str, str]:
    """Return the one-line title of an alert in Chinese and English."""
    zh, en = _STATE_WORDS[alert.state]
    if alert.state is State.SUSPECTED and alert.kind == "test":
        zh, en = _TEST_SUSPECTED
    what = alert.product_name or alert.device
    return {
        "zh": f"{place.name or alert.station} · {what} · {names[0]}：{zh}",
        "en": f"{place.name_en or place.name or alert.station} · {what} · {names[1]}: {en}",
    }


def evidence_sha256(alert: Alert) -> str:
    """Return the SHA-256 (hex) of the frozen evidence and citation, as canonical JSON (sorted keys, compact)."""
    frozen = {"citation": alert.citation, "evidence": alert.evidence}
    return hashlib.sha256(msgspec.json.encode(frozen, order="sorted")).hexdigest()


def data_of(
    alert: Alert,
    occasion: Occasion,
    *,
    incarnation: str,
    place: Place,
    names: tuple[str, str],
) -> dict[str, object]:
    """Return ``data`` of the event: the alert right after the transition, as whoever is told of it sees it.

    ``names`` are the indicator's Chinese and English name.
    """
    return {
        **_state(alert, occasion, incarnation),
        "title": titles(alert, place, names),
        "finding": _finding(alert, names),
        "citation": _citation(alert),
        "site": _site(alert, place),
        "evidence": _evidence(alert),
        "workflow": _workflow(alert, occasion),
    }


def body(alert: Alert, occasion: Occasion, data: dict[str, object]) -> bytes:
    """Return the bytes to sign, store and send, unchanged, at every attempt; ``data`` is that of ``data_of``."""
    event = {
        "specversion": "1.0",
        "id": occasion.event_id,
        "source": SOURCE,
        "type": occasion.event_type,
        "subject": alert.alert_id,
        "time": rfc3339(occasion.at_ms),
        "datacontenttype": "application/json",
        "schemaversion": SCHEMA_VERSION,  # attribute names are lower-case letters and digits only
        "data": data,
    }
    return msgspec.json.encode(event)


def _state(alert: Alert, occasion: Occasion, incarnation: str) -> dict[str, object]:
    return {
        "alert_id": alert.alert_id,
        "incarnation": incarnation,
        "seq": alert.seq,
        "state": alert.state,
        "previous_state": occasion.previous_state,
        "reason": occasion.reason,
        "kind": alert.kind,
        "severity": alert.severity,
        "certainty": alert.certainty,
        "status": "actual",
        "dedup_key": alert.dedup_key,
        "first_seen": rfc3339(alert.first_seen_ms),
        "last_seen": rfc3339(alert.last_seen_ms),
        "occurrence_count": alert.occurrence_count,
        "flags": alert.flags,
        "ack": None
        if alert.acked_ms is None
        else {"by": alert.acked_by, "at": rfc3339(alert.acked_ms)},
        "silenced_until": None
        if alert.silenced_until_ms is None
        else rfc3339(alert.silenced_until_ms),
        "inhibited_by": alert.inhibited_by,
    }


def _workflow(alert: Alert, occasion: Occasion) -> dict[str, object]:
    retest, handover = alert.retest, alert.handover
    return {
        "due_at": None if alert.due_ms is None else rfc3339(alert.due_ms),
        "retest": {
            key: retest.get(key) for key in ("order_id", "laboratory", "result", "report_no")
        },
        "handover": {key: handover.get(key) for key in ("agency", "case_no")},
        "outcome": alert.outcome,
        "references": alert.related,
        "said": dict(occasion.data),
    }


def _finding(alert: Alert, names: tuple[str, str]) -> dict[str, object]:
    citation = alert.citation
    return {
        "analyte": {"code": alert.indicator, "name": {"zh": names[0], "en": names[1]}},
        "value": alert.value,
        "unit": alert.unit,
        "limit": citation.get("limit"),
        "limit_unit": citation.get("unit"),
        "comparator": citation.get("comparator"),
        "exceed_ratio": citation.get("ratio"),
        "method": {"class": alert.certainty},
    }


def _citation(alert: Alert) -> dict[str, object]:
    citation = alert.citation
    return {
        "standard_no": citation.get("standard"),
        "title": citation.get("title_zh"),
        "clause": citation.get("clause"),
        "clause_en": citation.get("clause_en") or None,
        "level": citation.get("level"),
        "conditions": citation.get("conditions", {}),
        "verified": citation.get("verified"),
        "limit_version": citation.get("limit_version"),
    }


def _site(alert: Alert, place: Place) -> dict[str, object]:
    return {
        "site_id": alert.station,
        "site_name": {"zh": place.name, "en": place.name_en},
        "region_code": alert.region_code,
        "lon": place.lon,
        "lat": place.lat,
        "device": alert.device,
        "plot_id": alert.plot_id,
        "producer_id": place.producer_id,
        "sample_no": alert.sample_no,
        "product_name": alert.product_name,
    }


def _evidence(alert: Alert) -> dict[str, object]:
    evidence = alert.evidence
    place = (evidence.get(key) for key in ("station", "epoch", "seq", "position"))
    return {
        "evidence_sha256": evidence_sha256(alert),
        "reading_ids": ["/".join(str(part) for part in place)],
        "record_id": evidence.get("record_id"),
        "rule_id": alert.rule_id,
        "url": f"/api/v1/alerts/{alert.alert_id}",
    }
