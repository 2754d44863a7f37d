"""The outbox: one row per event and endpoint, leased to the sender, kept until it is delivered or given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.schedule import DELAYS_S, DELIVERED, JITTER, PENDING, UNDELIVERED
from alerts.tables import alerts, delivery_attempts, endpoints, outbox
from ingest.tables import events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.alert import Alert
    from alerts.config import WebhookEndpoint
    from alerts.payload import Occasion
    from alerts.schedule import Answer, Decision
    from ingest.operational import Operational

LEASE_MS = 30_000  # twice the longest attempt: who holds a row longer has died
# A row that is due later than any rule of ours says was written before the clock was set back: it is due now.
LONGEST_WAIT_MS = round(max(DELAYS_S) * (1 + JITTER) * 1000)


@dataclass(frozen=True, slots=True)
class Receiver:
    """An endpoint that is subscribed; while suspended its events wait as undelivered."""

    id: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One leased row: send ``body`` as it is; ``attempt`` counts from 1."""

    outbox_id: int
    webhook_id: str
    body: bytes
    attempt: int
    alert_id: str
    station: str
    critical: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """One attempt that ended, and what becomes of its row."""

    job: Job
    answer: Answer
    decision: Decision


@dataclass(frozen=True, slots=True)
class Turn:
    """Rows leased now, and when (UTC ms) the next one is due; None when nothing waits or no row was asked for."""

    jobs: tuple[Job, ...]
    due_ms: int | None


def receivers(connection: sa.Connection) -> list[Receiver]:
    """Return the subscribed endpoints."""
    query = sa.select(endpoints.c.id, endpoints.c.suspended_ms).where(endpoints.c.active)
    return [Receiver(row.id, row.suspended_ms is not None) for row in connection.execute(query)]


def enqueue(
    connection: sa.Connection,
    to: Sequence[Receiver],
    alert: Alert,
    occasion: Occasion,
    content: bytes,
) -> None:
    """Write one row per receiver, in the transaction that changes the alert."""
    rows = [
        {
            "webhook_id": f"evt_{occasion.event_id}_{receiver.id}",
            "event_id": occasion.event_id,
            "event_type": occasion.event_type,
            "alert_id": alert.alert_id,
            "alert_seq": alert.seq,
            "endpoint_id": receiver.id,
            "body": content,
            "state": UNDELIVERED if receiver.suspended else PENDING,
            "attempts": 0,
            "next_ms": occasion.at_ms,
            "created_ms": occasion.at_ms,
        }
        for receiver in to
    ]
    if rows:
        connection.execute(sa.insert(outbox), rows)


def sync_endpoints(
    operational: Operational, configured: Sequence[WebhookEndpoint], now_ms: int
) -> None:
    """Make the endpoints table follow the configuration; a suspended endpoint is given another chance.

    Endpoints that are no longer configured stay for their history and get no more events.
    """
    with operational.write() as connection:
        known = {
            row.id: row.suspended_ms
            for row in connection.execute(sa.select(endpoints.c.id, endpoints.c.suspended_ms))
        }
        connection.execute(sa.update(endpoints).values(active=False))
        for endpoint in configured:
            values = {
                "name": endpoint.name,
                "url": endpoint.url,
                "secret": endpoint.secret,
                "active": True,
                "suspended_ms": None,
            }
            if endpoint.id not in known:
                connection.execute(sa.insert(endpoints).values(id=endpoint.id, **values))
                continue
            connection.execute(
                sa.update(endpoints).where(endpoints.c.id == endpoint.id).values(values)
            )
            if known[endpoint.id] is not None:
                _revive(connection, endpoint.id, now_ms)


def take_turn(
    operational: Operational,
    endpoint_id: str,
    settled: Sequence[Settled],
    slots: int,
    clock: Callable[[], int],
) -> Turn:
    """Book the attempts that ended, then lease up to ``slots`` due rows of one endpoint, in one transaction.

    ``clock`` gives UTC milliseconds.
    """
    if not settled:
        with operational.read() as connection:
            now_ms = clock()
            if slots <= 0 or not _any_due(connection, endpoint_id, now_ms):
                return Turn((), _next_due(connection, endpoint_id, now_ms) if slots > 0 else None)
    with operational.write() as connection:
        now_ms = clock()  # after the wait for the writer, which counts against no lease
        for item in settled:
            _book(connection, endpoint_id, item)
        if slots <= 0:
            return Turn((), None)
        jobs = _lease(connection, endpoint_id, slots, now_ms)
        due_ms = _next_due(connection, endpoint_id, now_ms) if len(jobs) < slots else None
    return Turn(jobs, due_ms)


def _waiting(endpoint_id: str) -> sa.ColumnElement[bool]:
    suspended = sa.select(endpoints.c.id).where(endpoints.c.suspended_ms.is_not(None))
    return sa.and_(
        outbox.c.endpoint_id == endpoint_id,
        outbox.c.state == PENDING,
        outbox.c.endpoint_id.not_in(suspended),
    )


def _due(now_ms: int) -> sa.ColumnElement[bool]:
    at = outbox.c.next_ms
    return sa.or_(at <= now_ms, at > now_ms + LONGEST_WAIT_MS)


def _free(now_ms: int) -> sa.ColumnElement[bool]:
    until = outbox.c.locked_until_ms
    return sa.or_(until <= now_ms, until > now_ms + LEASE_MS)


def _any_due(connection: sa.Connection, endpoint_id: str, now_ms: int) -> bool:
    query = sa.select(outbox.c.id).where(_waiting(endpoint_id), _due(now_ms), _free(now_ms))
    return connection.execute(query.limit(1)).first() is not None


def _next_due(connection: sa.Connection, endpoint_id: str, now_ms: int) -> int | None:
    later = sa.select(sa.func.min(outbox.c.next_ms)).where(
        _waiting(endpoint_id), sa.not_(_due(now_ms))
    )
    leased = sa.select(sa.func.min(outbox.c.locked_until_ms)).where(
        _waiting(endpoint_id), _due(now_ms), sa.not_(_free(now_ms))
    )
    times = [time for query in (later, leased) if (time := connection.scalar(query)) is not None]
    return min(times, default=None)


def _lease(connection: sa.Connection, endpoint_id: str, slots: int, now_ms: int) -> tuple[Job, ...]:
    o = outbox.c
    query = (
        sa.select(
            o.id, o.webhook_id, o.body, o.attempts, o.alert_id, alerts.c.station, alerts.c.severity
        )
        .join(alerts, alerts.c.alert_id == o.alert_id)
        .where(_waiting(endpoint_id), _due(now_ms), _free(now_ms))
        .order_by(o.next_ms, o.id)
        .limit(slots)
        .with_for_update(of=outbox, skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        connection.execute(
            sa.update(outbox)
            .where(o.id.in_([row.id for row in rows]))
            .values(locked_until_ms=now_ms + LEASE_MS)
        )
    return tuple(
        Job(
            row.id,
            row.webhook_id,
            row.body,
            row.attempts + 1,
            row.alert_id,
            row.station,
            row.severity == "critical",
        )
        for row in rows
    )


def _book(connection: sa.Connection, endpoint_id: str, settled: Settled) -> None:
    job, answer, decision = settled.job, settled.answer, settled.decision
    connection.execute(
        sa.insert(delivery_attempts).values(
            outbox_id=job.outbox_id,
            attempt=job.attempt,
            at_ms=answer.started_ms,
            duration_ms=answer.ended_ms - answer.started_ms,
            status_code=answer.status_code,
            error=answer.error,
            response=answer.response,
        )
    )
    delivered = decision.state == DELIVERED
    connection.execute(
        sa.update(outbox)
        # A row that another sender has delivered meanwhile stays delivered.
        .where(outbox.c.id == job.outbox_id, outbox.c.state != DELIVERED)
        .values(
            state=decision.state,
            attempts=job.attempt,
            next_ms=decision.next_ms,
            locked_until_ms=0,
            delivered_ms=answer.ended_ms if delivered else None,
        )
    )
    connection.execute(
        sa.insert(events).values(
            at_ms=answer.ended_ms,
            type="delivery",
            station=job.station,
            alert_id=job.alert_id,
            data={
                "alert_id": job.alert_id,
                "webhook_id": job.webhook_id,
                "state": decision.state,
                "status_code": answer.status_code,
            },
        )
    )
    if decision.suspend:
        connection.execute(
            sa.update(endpoints)
            .where(endpoints.c.id == endpoint_id)
            .values(suspended_ms=answer.ended_ms)
        )
        connection.execute(
            sa.update(outbox)
            .where(outbox.c.endpoint_id == endpoint_id, outbox.c.state == PENDING)
            .values(state=UNDELIVERED, locked_until_ms=0)
        )


def _revive(connection: sa.Connection, endpoint_id: str, now_ms: int) -> None:
    connection.execute(
        sa.update(outbox)
        .where(
            outbox.c.endpoint_id == endpoint_id,
            outbox.c.state == UNDELIVERED,
            outbox.c.attempts < len(DELAYS_S),
        )
        .values(state=PENDING, next_ms=now_ms)
    )
