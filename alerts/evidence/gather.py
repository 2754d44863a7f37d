"""Everything that an alert stands on, as the parts of an evidence pack."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec
import sqlalchemy as sa

from alerts.alert import Alert
from alerts.delivery.payload import evidence_sha256
from alerts.errors import UnknownAlert
from alerts.evidence.chart import Drawing, svg
from alerts.evidence.pack import FORMAT, Manifest, Note, Part, row_of, write
from alerts.evidence.words import README
from alerts.tables import (
    alert_transitions,
    alerts,
    case_steps,
    cases,
    clocks,
    delivery_attempts,
    laboratory_reports,
    outbox,
    receipts,
)
from alerts.transitions import incarnation_of
from ingest.batch import Series
from ingest.tables import findings, tests

if TYPE_CHECKING:
    from alerts.evidence.keys import EvidenceKey
    from ingest.inbox import StoredPack
    from ingest.operational import Operational
    from ingest.store.reading_store import ReadingStore

AROUND_MS = 3_600_000  # readings shown before the first and after the last finding
LONGEST_MS = 7 * 24 * 3_600_000
MAX_POINTS = 5_000
MAX_FINDINGS = 1_000
MAX_PACKS = 200
MAX_RAW = 20 * 1024 * 1024  # bytes of packs


class Inbox(Protocol):
    """Where the bytes are that the edge sent."""

    def pack(self, station: str, epoch: str, seq: int) -> StoredPack | None:
        """Return one pack, None when it never came or its retention is over."""
        ...


@dataclass(slots=True)
class _Parts:
    """Parts in order, and what is not whole."""

    found: list[Part] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, name: str, content: object) -> None:
        encoded = msgspec.json.encode(content, order="deterministic")
        self.found.append(Part(name, msgspec.json.format(encoded, indent=1)))


def evidence_pack(
    operational: Operational,
    inbox: Inbox,
    readings: ReadingStore,
    alert_id: str,
    key: EvidenceKey,
    *,
    now_ms: int,
    product: str,
) -> bytes:
    """Return the signed evidence pack (zip) of an alert; raise UnknownAlert without it.

    What is too much is cut to what is nearest to the breach, and what retention has dropped is left out: the manifest
    says so in ``notes``.
    """
    parts = _Parts()
    with operational.write() as connection:  # the incarnation is made at its first use
        incarnation = incarnation_of(connection)
    with operational.read() as connection:
        row = connection.execute(sa.select(alerts).where(alerts.c.alert_id == alert_id))
        found = row.mappings().one_or_none()
        if found is None:
            raise UnknownAlert(alert_id)
        alert = Alert.from_row(found)
        parts.add("alert.json", {**found, "evidence_sha256": evidence_sha256(alert)})
        parts.add("limit.json", {"rule_id": alert.rule_id, "citation": alert.citation})
        rows = _findings(connection, alert_id, parts)
        records = _records(connection, alert, rows)
        _log(connection, alert_id, parts)
        _case(connection, alert_id, parts)
        _deliveries(connection, alert_id, parts)
    parts.add("findings.json", rows)
    if records:
        parts.add("tests.json", records)
    if alert.kind == "limit":
        _readings(readings, alert, rows, parts)
    _raw(inbox, alert, [*rows, *records], parts)
    parts.found.append(Part("README.txt", README.encode(), "text/plain; charset=utf-8"))
    manifest = Manifest(
        format=FORMAT,
        alert_id=alert_id,
        alert_seq=alert.seq,
        made_ms=now_ms,
        incarnation=incarnation,
        product=product,
        key_id=key.id,
        parts=[row_of(part) for part in parts.found],
        notes=parts.notes,
    )
    return write(manifest, parts.found, key)


def _all(
    connection: sa.Connection, query: sa.Select[tuple[object, ...]]
) -> list[dict[str, object]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _findings(connection: sa.Connection, alert_id: str, parts: _Parts) -> list[dict[str, object]]:
    query = sa.select(findings).where(findings.c.alert_id == alert_id)
    rows = _all(
        connection, query.order_by(findings.c.t_ms, findings.c.finding_id).limit(MAX_FINDINGS)
    )
    count = connection.scalar(
        sa.select(sa.func.count()).select_from(findings).where(findings.c.alert_id == alert_id)
    )
    if count is not None and count > len(rows):
        parts.notes.append(
            Note(
                "findings.json",
                f"共 {count} 条超标读数，仅收录最早的 {len(rows)} 条",
                f"the first {len(rows)} of {count} findings",
            )
        )
    return rows


def _records(
    connection: sa.Connection, alert: Alert, rows: list[dict[str, object]]
) -> list[dict[str, object]]:
    """Return the test records of the sample, also those that passed."""
    named = {str(row["record_id"]) for row in rows if row["record_id"]}
    of_sample = sa.and_(tests.c.station == alert.station, tests.c.sample_no == alert.sample_no)
    wanted: sa.ColumnElement[bool] = tests.c.record_id.in_(sorted(named))
    if alert.sample_no:
        wanted = sa.or_(wanted, of_sample)
    query = sa.select(tests).where(wanted).order_by(tests.c.inbox_pos, tests.c.position)
    return _all(connection, query.limit(MAX_FINDINGS)) if named or alert.sample_no else []


def _log(connection: sa.Connection, alert_id: str, parts: _Parts) -> None:
    log = alert_transitions
    query = sa.select(*(column for column in log.c if column is not log.c.id))
    parts.add(
        "transitions.json",
        _all(connection, query.where(log.c.alert_id == alert_id).order_by(log.c.seq)),
    )


def _case(connection: sa.Connection, alert_id: str, parts: _Parts) -> None:
    kept = _all(connection, sa.select(cases).where(cases.c.alert_id == alert_id))
    if kept:
        case_id = kept[0]["case_id"]
        steps = (
            sa.select(case_steps).where(case_steps.c.case_id == case_id).order_by(case_steps.c.id)
        )
        running = sa.select(clocks).where(clocks.c.case_id == case_id).order_by(clocks.c.id)
        parts.add(
            "case.json",
            {**kept[0], "steps": _all(connection, steps), "clocks": _all(connection, running)},
        )
    reports = laboratory_reports
    mine = sa.select(alerts.c.station, alerts.c.sample_no).where(alerts.c.alert_id == alert_id)
    station, sample_no = connection.execute(mine).one()
    if sample_no:
        of_sample = sa.and_(reports.c.station == station, reports.c.sample_no == sample_no)
        query = sa.select(reports).where(of_sample).order_by(reports.c.report_id)
        parts.add("laboratory.json", _all(connection, query))


def _deliveries(connection: sa.Connection, alert_id: str, parts: _Parts) -> None:
    sent = []
    query = sa.select(outbox).where(outbox.c.alert_id == alert_id).order_by(outbox.c.id)
    for row in connection.execute(query).mappings():
        tries = sa.select(delivery_attempts).where(delivery_attempts.c.outbox_id == row["id"])
        content = {name: value for name, value in row.items() if name != "body"}
        content["body_sha256"] = hashlib.sha256(row["body"]).hexdigest()
        content["attempts"] = _all(connection, tries.order_by(delivery_attempts.c.id))
        sent.append(content)
    parts.add("deliveries.json", sent)
    said = sa.select(receipts).where(receipts.c.alert_id == alert_id).order_by(receipts.c.id)
    parts.add("receipts.json", _all(connection, said))


def _readings(
    store: ReadingStore, alert: Alert, rows: list[dict[str, object]], parts: _Parts
) -> None:
    end = alert.last_seen_ms + AROUND_MS
    start = alert.first_seen_ms - AROUND_MS
    if end - start > LONGEST_MS:
        end = start + LONGEST_MS
        parts.notes.append(
            Note(
                "readings.json", "仅收录首次超标起 7 天", "the first seven days of the breach only"
            )
        )
    series = Series(alert.station, alert.device, alert.indicator)
    points = store.query(series, start_ms=start, end_ms=end, max_points=MAX_POINTS)
    if points.total > len(points.t_ms):
        parts.notes.append(
            Note(
                "readings.json",
                f"共 {points.total} 个读数，每段保留最小与最大值",
                f"of {points.total} readings the least and the greatest of each stretch",
            )
        )
    values = [
        {"t_ms": int(t), "v": None if math.isnan(v) else float(v), "q": int(q), "flags": int(flags)}
        for t, v, q, flags in zip(points.t_ms, points.v, points.q, points.flags, strict=True)
    ]
    parts.add(
        "readings.json",
        {
            "station": alert.station,
            "device": alert.device,
            "indicator": alert.indicator,
            "readings": values,
        },
    )
    limit = alert.citation.get("limit")
    drawing = Drawing(
        title=f"{alert.station} · {alert.device} · {alert.indicator}",
        unit=alert.unit,
        points=[
            (int(t), float(v))
            for t, v in zip(points.t_ms, points.v, strict=True)
            if not math.isnan(v)
        ],
        marked=[t for row in rows if isinstance(t := row["t_ms"], int)],
        limit=_number(limit),
    )
    parts.found.append(Part("chart.svg", svg(drawing).encode(), "image/svg+xml"))


def _number(limit: object) -> float | None:
    try:
        return float(str(limit))
    except ValueError:
        return None  # "not detected", a range, or none


def _raw(inbox: Inbox, alert: Alert, rows: list[dict[str, object]], parts: _Parts) -> None:
    """Add the bytes that the edge sent, those of the alert's own finding first."""
    wanted: dict[tuple[str, str, int], list[int]] = {}
    for row in (alert.evidence, *rows):
        place = (
            str(row.get("station")),
            str(row.get("epoch")),
            row.get("seq"),
            row.get("position"),
        )
        if isinstance(place[2], int) and isinstance(place[3], int) and place[1]:
            wanted.setdefault((place[0], place[1], place[2]), []).append(place[3])
    index: list[dict[str, object]] = []
    size, left_out, gone = 0, 0, 0
    for (station, epoch, seq), positions in wanted.items():
        if len(index) >= MAX_PACKS or size > MAX_RAW:
            left_out += 1
            continue
        stored = inbox.pack(station, epoch, seq)
        if stored is None:
            gone += 1
            continue
        size += len(stored.body)
        name = f"raw/{len(index) + 1:04d}.bin"
        parts.found.append(Part(name, stored.body, "application/octet-stream"))
        index.append(
            {
                "part": name,
                "station": station,
                "epoch": epoch,
                "seq": seq,
                "positions": sorted(set(positions)),
                "topic": stored.topic,
                "header": stored.header,
                "received_ms": stored.received_ms,
                "inbox_pos": stored.pos,
                "sha256": stored.sha256,
            }
        )
    parts.add("raw.json", index)
    if left_out:
        parts.notes.append(
            Note(
                "raw.json",
                f"另有 {left_out} 个数据包未收录（体量上限）",
                f"{left_out} more packs left out for size",
            )
        )
    if gone:
        parts.notes.append(
            Note(
                "raw.json",
                f"{gone} 个数据包已过保存期，收件箱中不再保存",
                f"{gone} packs are past retention and no longer in the inbox",
            )
        )
