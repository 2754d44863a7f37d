"""What an attempt leaves behind: its own row, the next state of its event, the endpoint's health, an event."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.delivery.schedule import DELAYS_S, DELIVERED, JITTER, UNDELIVERED
from alerts.delivery.suspension import GONE, TOO_LONG, given_up, suspend
from alerts.tables import delivery_attempts, endpoints, outbox
from ingest.tables import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.delivery.heads import Head
    from alerts.delivery.schedule import Answer, Decision

FAILING_MS = 5 * 24 * 3_600_000  # all attempts failed for so long: the endpoint is suspended
_SILENCE_MS = round(max(DELAYS_S) * (1 + JITTER) * 1000)  # the longest pause between two attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One leased row: send ``body`` as it is; ``attempt`` counts from 1, anew at each replay."""

    outbox_id: int
    endpoint_id: str
    webhook_id: str
    body: bytes
    attempt: int
    alert_id: str
    station: str
    critical: bool
    replay: bool
    leased_until_ms: int


@dataclass(frozen=True, slots=True)
class Settled:
    """One attempt that ended, the ids of the keys that signed it, and what becomes of its row."""

    job: Job
    answer: Answer
    decision: Decision
    key_ids: tuple[str, ...] = ()


def book(connection: sa.Connection, settled: Sequence[Settled], heads: Sequence[Head]) -> None:
    """Write what became of ``settled``, of any endpoints: one ``executemany`` per table."""
    before = _newest_attempts(connection, settled, heads)
    connection.execute(sa.insert(delivery_attempts), [_attempt_row(item) for item in settled])
    connection.execute(_UPDATE, [_outcome(item) for item in settled])
    connection.execute(sa.insert(events), _event_rows(settled))
    by_endpoint: dict[str, list[Settled]] = defaultdict(list)
    for item in settled:
        by_endpoint[item.job.endpoint_id].append(item)
    known = {head.id: head for head in heads}
    for endpoint_id, items in by_endpoint.items():
        if endpoint_id in known:
            _note_health(connection, known[endpoint_id], items, before.get(endpoint_id))


def _attempt_row(item: Settled) -> dict[str, object]:
    job, answer = item.job, item.answer
    return {
        "outbox_id": job.outbox_id,
        "attempt": job.attempt,
        "at_ms": answer.started_ms,
        "duration_ms": answer.ended_ms - answer.started_ms,
        "status_code": answer.status_code,
        "error": answer.error,
        "response": answer.response,
        "key_ids": list(item.key_ids),
        "replay": job.replay,
    }


_STATE = sa.bindparam("b_state", type_=sa.String)
_UPDATE = (
    sa.update(outbox)
    # A row that another sender has delivered meanwhile stays delivered; so does a replay that is given up.
    .where(outbox.c.id == sa.bindparam("b_id"), outbox.c.state != DELIVERED)
    .values(
        state=sa.case(
            (sa.and_(_STATE == UNDELIVERED, outbox.c.delivered_ms.is_not(None)), DELIVERED),
            else_=_STATE,
        ),
        attempts=sa.bindparam("b_attempts"),
        next_ms=sa.bindparam("b_next_ms"),
        locked_until_ms=0,
        delivered_ms=sa.func.coalesce(
            sa.bindparam("b_delivered_ms", type_=sa.BigInteger), outbox.c.delivered_ms
        ),
    )
)


def _outcome(item: Settled) -> dict[str, object]:
    delivered = item.decision.state == DELIVERED
    return {
        "b_id": item.job.outbox_id,
        "b_state": item.decision.state,
        "b_attempts": item.job.attempt,
        "b_next_ms": item.decision.next_ms,
        "b_delivered_ms": item.answer.ended_ms if delivered else None,
    }


def _event_rows(settled: Sequence[Settled]) -> list[dict[str, object]]:
    """Return one event per alert: the pages read the rest again; a storm must not flood them."""
    last = {item.job.alert_id: item for item in settled}
    return [
        {
            "at_ms": item.answer.ended_ms,
            "type": "delivery",
            "station": item.job.station,
            "alert_id": alert_id,
            "data": {
                "alert_id": alert_id,
                "webhook_id": item.job.webhook_id,
                "state": item.decision.state,
                "status_code": item.answer.status_code,
            },
        }
        for alert_id, item in last.items()
    ]


def _newest_attempts(
    connection: sa.Connection, settled: Sequence[Settled], heads: Sequence[Head]
) -> dict[str, int]:
    """Return when each endpoint that may be about to be suspended was tried last, before ``settled``."""
    ended = max(item.answer.ended_ms for item in settled)
    long = {
        head.id
        for head in heads
        if head.failing_since_ms is not None and ended - head.failing_since_ms >= FAILING_MS
    } & {item.job.endpoint_id for item in settled}
    found = {}
    for endpoint_id in long:
        query = (
            sa.select(sa.func.max(delivery_attempts.c.at_ms))
            .join(outbox, outbox.c.id == delivery_attempts.c.outbox_id)
            .where(outbox.c.endpoint_id == endpoint_id)
        )
        found[endpoint_id] = connection.scalar(query) or 0
    return found


def _note_health(
    connection: sa.Connection, head: Head, items: Sequence[Settled], before_ms: int | None
) -> None:
    since = head.failing_since_ms
    first, last = items[0].answer, items[-1].answer
    if any(item.decision.suspend for item in items):
        suspend(connection, head.id, GONE, last.ended_ms)
    elif any(item.decision.state == DELIVERED for item in items):
        if since is not None:
            _set_failing(connection, head.id, None)
    elif since is None:
        _set_failing(connection, head.id, first.started_ms)
    elif last.ended_ms - since >= FAILING_MS:
        # Failures with nothing sent in between for longer than any pause of ours prove no five days.
        if before_ms is None or first.started_ms - before_ms > _SILENCE_MS + _SILENCE_MS // 4:
            _set_failing(connection, head.id, first.started_ms)
        else:
            suspend(connection, head.id, TOO_LONG, last.ended_ms)
    if not head.sends:  # suspended while the request was under way: nothing may wait for it
        given_up(connection, head.id)


def _set_failing(connection: sa.Connection, endpoint_id: str, since_ms: int | None) -> None:
    connection.execute(
        sa.update(endpoints).where(endpoints.c.id == endpoint_id).values(failing_since_ms=since_ms)
    )
