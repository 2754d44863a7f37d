"""Alerts with citation, evidence and deliveries; acknowledging and dismissing."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from sqlalchemy import Connection, RowMapping, Select, Text, cast, or_, select

from alerts.actions import acknowledge, dismiss
from alerts.errors import IllegalTransition, StaleAlert, UnknownAlert
from alerts.tables import (
    OPEN_STATES,
    alert_transitions,
    alerts,
    delivery_attempts,
    endpoints,
    outbox,
)
from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.models import (
    Acknowledge,
    AlertDetail,
    AlertList,
    AlertRow,
    AttemptRow,
    Citation,
    DeliveryList,
    DeliveryRow,
    Dismiss,
    Evidence,
    EvidencePack,
    FindingRow,
    TransitionRow,
)
from dashboards.api.strict import StrictRoute
from dashboards.api.tests import test_by_id
from dashboards.keys import ApiKey
from dashboards.sources import Sources
from ingest.tables import devices, findings, plots, stations

MAX_LIMIT = 500
MAX_FINDINGS = 50
ULID = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"

StateFilter = Literal[
    "open",
    "suspected",
    "retest_ordered",
    "confirmed",
    "handed_over",
    "in_enforcement",
    "closed",
    "cleared",
    "dismissed",
    "refuted",
    "superseded",
    "resolved",
]
FlagFilter = Literal[
    "overdue", "late", "limit_unverified", "clock_suspect", "data_stale", "flapping", "fp_prone"
]
AlertId = Annotated[str, Path(pattern=ULID, description="Alert id, a ULID")]

router = APIRouter(tags=["alerts"])
writing = APIRouter(tags=["alerts"], route_class=StrictRoute)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which alerts are asked for; every one that is given must hold."""

    state: Annotated[
        StateFilter | None, Query(description="open: all that are not at their end")
    ] = None
    kind: Annotated[
        str | None, Query(max_length=24, description="limit, test, cluster, or a technical kind")
    ] = None
    severity: Annotated[
        Literal["info", "warning", "major", "critical"] | None, Query(description="Exactly this")
    ] = None
    station: Annotated[str | None, Query(max_length=40, description="Station code")] = None
    region: Annotated[
        str | None, Query(pattern=r"^\d{2,12}$", description="Beginning of the region code")
    ] = None
    purpose: Annotated[str | None, Query(max_length=16, description="Of the test")] = None
    stage: Annotated[str | None, Query(max_length=16, description="Sampling stage")] = None
    flag: Annotated[FlagFilter | None, Query(description="Has this flag")] = None
    q: Annotated[
        str | None,
        Query(
            min_length=1, max_length=60, description="Part of product, sample, indicator, device"
        ),
    ] = None

    def of(self, query: Select[tuple[object, ...]]) -> Select[tuple[object, ...]]:
        """Return ``query`` narrowed to what is asked for."""
        c = alerts.c
        if self.state is not None:
            query = query.where(c.state.in_(OPEN_STATES if self.state == "open" else (self.state,)))
        for column, wanted in (
            (c.kind, self.kind),
            (c.severity, self.severity),
            (c.station, self.station),
            (c.purpose, self.purpose),
            (c.sampling_stage, self.stage),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if self.region is not None:
            query = query.where(c.region_code.startswith(self.region, autoescape=True))
        if self.flag is not None:
            query = query.where(cast(c.flags, Text).contains(f'"{self.flag}"', autoescape=True))
        if self.q is not None:
            places = (c.product_name, c.sample_no, c.indicator, c.device, c.station)
            query = query.where(
                or_(*(column.icontains(self.q, autoescape=True) for column in places))
            )
        return query


@router.get("/alerts", summary="Alerts, newest first", responses=READING)
def alert_list(
    sources: SourcesOf,
    filters: Annotated[Filters, Depends()],
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page")] = 50,
    before: Annotated[
        str | None, Query(pattern=ULID, description="`next` of the page before, an alert id")
    ] = None,
) -> AlertList:
    """Return a page of alerts, by the time they were raised."""
    # An alert id is a ULID of the time it was raised: unique, in order, and the primary key.
    query = filters.of(_select()).order_by(alerts.c.alert_id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(alerts.c.alert_id < before)
    with sources.operational.read() as connection:
        rows = connection.execute(query).mappings().all()
    page = rows[:limit]
    return AlertList(
        alerts=[_alert_row(row, sources) for row in page],
        next=page[-1]["alert_id"] if len(rows) > limit else None,
    )


@router.get(
    "/alerts/{alert_id}",
    summary="One alert with its history and evidence",
    responses=READING | documented(404),
)
def alert(alert_id: AlertId, sources: SourcesOf) -> AlertDetail:
    """Return an alert and the way back to the bytes that the instrument sent."""
    with sources.operational.read() as connection:
        row = _one(connection, alert_id)
        transitions = connection.execute(
            select(*(alert_transitions.c[name] for name in TransitionRow.model_fields))
            .where(alert_transitions.c.alert_id == alert_id)
            .order_by(alert_transitions.c.seq)
        ).mappings()
        found = connection.execute(
            select(*(findings.c[name] for name in FindingRow.model_fields))
            .where(findings.c.alert_id == alert_id)
            .order_by(findings.c.t_ms.desc(), findings.c.finding_id)
            .limit(MAX_FINDINGS)
        ).mappings()
        return AlertDetail(
            **dict(_alert_row(row, sources)),
            transitions=[TransitionRow(**transition) for transition in transitions],
            evidence=_evidence(sources, connection, row),
            findings=[
                FindingRow(**{**finding, "citation": Citation.model_validate(finding["citation"])})
                for finding in found
            ],
        )


@router.get(
    "/alerts/{alert_id}/deliveries",
    summary="What was sent about an alert",
    responses=READING | documented(404),
)
def deliveries(alert_id: AlertId, sources: SourcesOf) -> DeliveryList:
    """Return every message about an alert with its attempts, oldest first."""
    with sources.operational.read() as connection:
        _one(connection, alert_id)
        sent = connection.execute(
            select(
                *(column for column in outbox.c if column is not outbox.c.body),
                endpoints.c.name.label("endpoint_name"),
            )
            .outerjoin(endpoints, endpoints.c.id == outbox.c.endpoint_id)
            .where(outbox.c.alert_id == alert_id)
            .order_by(outbox.c.id)
        ).mappings()
        rows = sent.all()
        tries = connection.execute(
            select(delivery_attempts)
            .join(outbox, outbox.c.id == delivery_attempts.c.outbox_id)
            .where(outbox.c.alert_id == alert_id)
            .order_by(delivery_attempts.c.id)
        ).mappings()
        attempts = defaultdict(list)
        for row in tries:
            attempts[row["outbox_id"]].append(
                AttemptRow(**{name: row[name] for name in AttemptRow.model_fields})
            )
    return DeliveryList(
        deliveries=[
            DeliveryRow(
                webhook_id=row["webhook_id"],
                endpoint_id=row["endpoint_id"],
                endpoint_name=row["endpoint_name"] or "",
                event_type=row["event_type"],
                alert_seq=row["alert_seq"],
                state=row["state"],
                created_ms=row["created_ms"],
                delivered_ms=row["delivered_ms"],
                next_ms=row["next_ms"] if row["state"] == "pending" else None,
                attempts=attempts.get(row["id"], []),
            )
            for row in rows
        ]
    )


@writing.post("/alerts/{alert_id}/ack", summary="Say that it was seen", responses=WRITING)
def ack(alert_id: AlertId, body: Acknowledge, sources: SourcesOf, key: Writer) -> AlertRow:
    """Record who has seen the alert; its state stays."""
    with _transition():
        acknowledge(
            sources.operational,
            alert_id,
            _actor(body.actor, key),
            at_ms=sources.now_ms(),
            names=sources.names,
        )
    return _changed(sources, alert_id)


@writing.post("/alerts/{alert_id}/dismiss", summary="Set aside a false alarm", responses=WRITING)
def dismissal(alert_id: AlertId, body: Dismiss, sources: SourcesOf, key: Writer) -> AlertRow:
    """Dismiss a suspicion of a sensor, with the reason; never that of a test."""
    with _transition():
        dismiss(
            sources.operational,
            alert_id,
            _actor(body.actor, key),
            body.reason,
            at_ms=sources.now_ms(),
            names=sources.names,
        )
    return _changed(sources, alert_id)


@contextmanager
def _transition() -> Iterator[None]:
    try:
        yield
    except UnknownAlert as exc:
        raise HTTPException(404, str(exc)) from exc
    except (IllegalTransition, StaleAlert) as exc:
        raise HTTPException(409, str(exc)) from exc


def _changed(sources: Sources, alert_id: str) -> AlertRow:
    sources.wake.notify()
    sources.wake_sender()
    return alert_row(sources, alert_id)


def alert_row(sources: Sources, alert_id: str) -> AlertRow:
    """Return an alert as it is listed; raise HTTPException 404 without it."""
    with sources.operational.read() as connection:
        return _alert_row(_one(connection, alert_id), sources)


def _actor(name: str, key: ApiKey) -> str:
    """Return who acts, for the log: the name given or the key's, and always which key it was."""
    return f"{name or key.name} ({key.id})"


def _select() -> Select[tuple[object, ...]]:
    return (
        select(
            alerts,
            stations.c.name.label("station_name"),
            stations.c.name_en.label("station_name_en"),
            plots.c.name.label("plot_name"),
            devices.c.name.label("device_name"),
        )
        .outerjoin(stations, stations.c.code == alerts.c.station)
        .outerjoin(plots, plots.c.id == alerts.c.plot_id)
        .outerjoin(
            devices, (devices.c.station == alerts.c.station) & (devices.c.path == alerts.c.device)
        )
    )


def _one(connection: Connection, alert_id: str) -> RowMapping:
    row = connection.execute(_select().where(alerts.c.alert_id == alert_id)).mappings().first()
    if row is None:
        raise HTTPException(404, f"no alert {alert_id!r}")
    return row


_PLAIN = tuple(name for name in AlertRow.model_fields if name in alerts.c and name != "citation")


def _alert_row(row: RowMapping, sources: Sources) -> AlertRow:
    zh, en = sources.names(row["indicator"])
    return AlertRow(
        **{name: row[name] for name in _PLAIN},
        station_name=row["station_name"] or row["station"],
        station_name_en=row["station_name_en"] or "",
        device_name=row["device_name"] or "",
        plot_name=row["plot_name"] or "",
        product_name_en=sources.products(row["product_name"]),
        indicator_zh=zh,
        indicator_en=en,
        citation=Citation.model_validate(row["citation"]),
    )


def _evidence(sources: Sources, connection: Connection, row: RowMapping) -> Evidence:
    evidence: Mapping[str, str | int] = row["evidence"]
    station = str(evidence.get("station") or row["station"])
    epoch, seq = str(evidence.get("epoch") or ""), int(evidence.get("seq") or 0)
    record_id = str(evidence.get("record_id") or "")
    stored = sources.inbox.pack(station, epoch, seq) if epoch else None
    return Evidence(
        finding_id=str(evidence.get("finding_id") or ""),
        station=station,
        epoch=epoch,
        seq=seq,
        position=int(evidence.get("position") or 0),
        inbox_pos=int(evidence.get("inbox_pos") or 0),
        record_id=record_id,
        test=test_by_id(sources, connection, record_id) if record_id else None,
        pack=None
        if stored is None
        else EvidencePack(
            received_ms=stored.received_ms,
            sha256=stored.sha256,
            topic=stored.topic,
            body=stored.body.decode("utf-8", "replace"),
        ),
    )
