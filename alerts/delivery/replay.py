"""Sends again what was sent, or what never arrived: same webhook-id, same bytes, fresh time and signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.administration import note
from alerts.delivery.errors import EndpointError
from alerts.delivery.schedule import PENDING, UNDELIVERED
from alerts.tables import endpoints, outbox

if TYPE_CHECKING:
    from ingest.operational import Operational

MOST = 10_000  # events of one call


@dataclass(frozen=True, slots=True)
class Which:
    """One event, or those that were made in ``since_ms`` ≤ t < ``until_ms``; ``undelivered`` only those that failed."""

    webhook_id: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    undelivered: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many events go out again, and how many more the range holds: ask again from ``next_ms``."""

    events: int
    left: int
    next_ms: int | None


def replay(
    operational: Operational, endpoint_id: str, which: Which, *, actor: str, now_ms: int
) -> Replayed:
    """Queue events of one endpoint again, oldest first; they go one after the other. The caller wakes the sender.

    Their schedule begins anew. Raises EndpointError for an unknown endpoint or event, and while it is suspended.
    """
    with operational.write() as connection:
        _check(connection, endpoint_id)
        o = outbox.c
        matching = [o.endpoint_id == endpoint_id, o.state != PENDING, *_conditions(which)]
        query = sa.select(o.id, o.created_ms).where(*matching).order_by(o.id).limit(MOST + 1)
        rows = connection.execute(query).all()
        if which.webhook_id and not rows:
            _explain_nothing(connection, endpoint_id, which.webhook_id)
        chosen = rows[:MOST]
        if chosen:
            connection.execute(
                sa.update(outbox)
                .where(*matching, o.id <= chosen[-1].id)
                .values(
                    state=PENDING,
                    attempts=0,
                    next_ms=now_ms,
                    locked_until_ms=0,
                    replays=outbox.c.replays + 1,
                )
            )
        left = 0
        if len(rows) > MOST:
            left = (
                connection.scalar(sa.select(sa.func.count()).select_from(outbox).where(*matching))
                or 0
            )
        note(
            connection,
            actor=actor,
            action="event.replayed",
            subject=which.webhook_id or endpoint_id,
            data={
                "endpoint_id": endpoint_id,
                "since_ms": which.since_ms,
                "until_ms": which.until_ms,
                "undelivered": which.undelivered,
                "events": len(chosen),
            },
            at_ms=now_ms,
        )
    return Replayed(len(chosen), left, rows[MOST].created_ms if left else None)


def _conditions(which: Which) -> list[sa.ColumnElement[bool]]:
    o = outbox.c
    found: list[sa.ColumnElement[bool]] = []
    if which.webhook_id:
        found.append(o.webhook_id == which.webhook_id)
    if which.since_ms is not None:
        found.append(o.created_ms >= which.since_ms)
    if which.until_ms is not None:
        found.append(o.created_ms < which.until_ms)
    if which.undelivered:
        found.append(o.state == UNDELIVERED)
    return found


def _check(connection: sa.Connection, endpoint_id: str) -> None:
    c = endpoints.c
    row = connection.execute(
        sa.select(c.active, c.suspended_ms, c.source, c.verified_ms).where(c.id == endpoint_id)
    ).one_or_none()
    if row is None:
        raise EndpointError(404, f"no endpoint {endpoint_id!r}")
    if not row.active or (row.source == "api" and row.verified_ms is None):
        raise EndpointError(409, "the endpoint gets no events: switch it on, or verify it first")
    if row.suspended_ms is not None:
        raise EndpointError(409, "the endpoint is suspended: resume it first")


def _explain_nothing(connection: sa.Connection, endpoint_id: str, webhook_id: str) -> None:
    o = outbox.c
    there = sa.select(o.id).where(o.webhook_id == webhook_id, o.endpoint_id == endpoint_id)
    if connection.scalar(there) is None:
        raise EndpointError(404, f"no event {webhook_id!r} of endpoint {endpoint_id!r}")
    raise EndpointError(409, "the event is waiting to be sent already")
