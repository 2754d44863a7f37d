"""The outbox: one row per event and endpoint, leased to the sender, kept until it is delivered or given up.

Written in the transaction that changes the alert (``enqueue_many``). The sender books what ended and leases what is due
for all its endpoints in one transaction (``take_turn``): the disk is asked once, not once for each delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.delivery.booking import Job, Settled, book
from alerts.delivery.heads import Head, heads_of
from alerts.delivery.schedule import DELAYS_S, JITTER, PENDING, UNDELIVERED
from alerts.tables import alerts, endpoints, outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
class Outgoing:
    """One event of an alert for one endpoint; ``body`` is signed and sent as it is, at every attempt."""

    receiver: Receiver
    alert_id: str
    alert_seq: int
    event_id: str
    event_type: str
    body: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Rows leased now, and when (UTC ms) the next is due, each by endpoint; None or absent when nothing waits.

    ``heads`` is what the table of endpoints says now: the sender follows it.
    """

    jobs: dict[str, tuple[Job, ...]] = field(default_factory=dict)
    due_ms: dict[str, int | None] = field(default_factory=dict)
    heads: tuple[Head, ...] = ()


def receivers(connection: sa.Connection) -> list[Receiver]:
    """Return the subscribed endpoints; one that was made over the API gets nothing before it answered its challenge."""
    known = sa.or_(endpoints.c.source == "config", endpoints.c.verified_ms.is_not(None))
    query = sa.select(endpoints.c.id, endpoints.c.suspended_ms).where(endpoints.c.active, known)
    return [Receiver(row.id, row.suspended_ms is not None) for row in connection.execute(query)]


def enqueue_many(connection: sa.Connection, outgoing: Iterable[Outgoing]) -> None:
    """Write one row for each, in the transaction that changes the alerts; one ``executemany``, however many."""
    rows = [
        {
            "webhook_id": f"evt_{one.event_id}_{one.receiver.id}",
            "event_id": one.event_id,
            "event_type": one.event_type,
            "alert_id": one.alert_id,
            "alert_seq": one.alert_seq,
            "endpoint_id": one.receiver.id,
            "body": one.body,
            "state": UNDELIVERED if one.receiver.suspended else PENDING,
            "attempts": 0,
            "next_ms": one.at_ms,
            "created_ms": one.at_ms,
        }
        for one in outgoing
    ]
    if rows:
        connection.execute(sa.insert(outbox), rows)


def take_turn(
    operational: Operational,
    settled: Sequence[Settled],
    returned: Sequence[int],
    asks: Mapping[str, int],
    clock: Callable[[], int],
) -> Turn:
    """Book the attempts that ended, give back ``returned`` leases, then lease due rows, in one transaction.

    ``asks`` says how many rows each endpoint can take, ``clock`` gives UTC milliseconds.
    """
    if not settled and not returned:
        with operational.read() as connection:
            now_ms = clock()
            heads = heads_of(connection)
            waiting = [one for one in asks if _any_due(connection, one, now_ms)]
            if not waiting:
                due = {one: _next_due(connection, one, now_ms) for one in asks}
                return Turn({}, due, heads)
    with operational.write() as connection:
        now_ms = clock()  # after the wait for the writer, which counts against no lease
        if settled:
            book(connection, settled, heads_of(connection))
        if returned:
            connection.execute(
                sa.update(outbox).where(outbox.c.id.in_(returned)).values(locked_until_ms=0)
            )
        jobs = {one: _lease(connection, one, slots, now_ms) for one, slots in asks.items()}
        leased = [job.outbox_id for some in jobs.values() for job in some]
        if leased:
            connection.execute(
                sa.update(outbox)
                .where(outbox.c.id.in_(leased))
                .values(locked_until_ms=now_ms + LEASE_MS)
            )
        due = {
            one: _next_due(connection, one, now_ms)
            for one, slots in asks.items()
            if len(jobs[one]) < slots
        }
        return Turn(jobs, due, heads_of(connection))


def _waiting(endpoint_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(outbox.c.endpoint_id == endpoint_id, outbox.c.state == PENDING)


def _dues(now_ms: int) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Return two ranges of the index, not one condition that scans all of a long queue."""
    return outbox.c.next_ms <= now_ms, outbox.c.next_ms > now_ms + LONGEST_WAIT_MS


def _free(now_ms: int) -> sa.ColumnElement[bool]:
    until = outbox.c.locked_until_ms
    return sa.or_(until <= now_ms, until > now_ms + LEASE_MS)


def _any_due(connection: sa.Connection, endpoint_id: str, now_ms: int) -> bool:
    return any(
        connection.execute(
            sa.select(outbox.c.id).where(_waiting(endpoint_id), due, _free(now_ms)).limit(1)
        ).first()
        is not None
        for due in _dues(now_ms)
    )


def _next_due(connection: sa.Connection, endpoint_id: str, now_ms: int) -> int | None:
    at = outbox.c.next_ms
    later = sa.select(sa.func.min(at)).where(
        _waiting(endpoint_id), at > now_ms, at <= now_ms + LONGEST_WAIT_MS
    )
    leased = sa.select(sa.func.min(outbox.c.locked_until_ms)).where(
        _waiting(endpoint_id), at <= now_ms, sa.not_(_free(now_ms))
    )
    times = [time for query in (later, leased) if (time := connection.scalar(query)) is not None]
    return min(times, default=None)


def _lease(connection: sa.Connection, endpoint_id: str, slots: int, now_ms: int) -> tuple[Job, ...]:
    found: list[Job] = []
    for due in _dues(now_ms):
        if len(found) < slots:
            found += _due_jobs(connection, endpoint_id, due, slots - len(found), now_ms)
    return tuple(found)


def _due_jobs(
    connection: sa.Connection,
    endpoint_id: str,
    due: sa.ColumnElement[bool],
    slots: int,
    now_ms: int,
) -> list[Job]:
    o = outbox.c
    query = (
        sa.select(
            o.id,
            o.webhook_id,
            o.body,
            o.attempts,
            o.replays,
            o.alert_id,
            alerts.c.station,
            alerts.c.severity,
        )
        .join(alerts, alerts.c.alert_id == o.alert_id)
        .where(_waiting(endpoint_id), due, _free(now_ms))
        .order_by(o.next_ms, o.id)
        .limit(slots)
        .with_for_update(of=outbox, skip_locked=True)
    )
    return [
        Job(
            outbox_id=row.id,
            endpoint_id=endpoint_id,
            webhook_id=row.webhook_id,
            body=row.body,
            attempt=row.attempts + 1,
            alert_id=row.alert_id,
            station=row.station,
            critical=row.severity == "critical",
            replay=row.replays > 0,
            leased_until_ms=now_ms + LEASE_MS,
        )
        for row in connection.execute(query)
    ]
