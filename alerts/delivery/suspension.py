"""Suspending an endpoint and letting it go on: its events wait as undelivered, nothing is dropped."""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from alerts.administration import note
from alerts.delivery.schedule import DELAYS_S, DELIVERED, PENDING, UNDELIVERED
from alerts.states import SYSTEM
from alerts.tables import endpoints, outbox
from ingest.tables import events

log = structlog.get_logger(__name__)

GONE = "it answered 410: gone"
TOO_LONG = "every attempt has failed for five days"
ENDPOINT_EVENT = "endpoint"
"""Type of the row in ``events`` that says an endpoint was suspended: for the pages, and for who tells people of it."""


def suspend(
    connection: sa.Connection, endpoint_id: str, reason: str, at_ms: int, actor: str = SYSTEM
) -> bool:
    """Send nothing more to the endpoint and tell the operator, by a row of ``events`` and the administration log.

    Returns False, and changes nothing, when it is suspended already.
    """
    done = connection.execute(
        sa.update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.suspended_ms.is_(None))
        .values(suspended_ms=at_ms, version=endpoints.c.version + 1)
    )
    if done.rowcount != 1:
        return False
    given_up(connection, endpoint_id)
    data = {"endpoint_id": endpoint_id, "what": "suspended", "reason": reason, "actor": actor}
    connection.execute(
        sa.insert(events).values(
            at_ms=at_ms, type=ENDPOINT_EVENT, station="", alert_id="", data=data
        )
    )
    note(
        connection,
        actor=actor,
        action="endpoint.suspended",
        subject=endpoint_id,
        data={"reason": reason},
        at_ms=at_ms,
    )
    log.error("endpoint_suspended", endpoint=endpoint_id, reason=reason)
    return True


def given_up(connection: sa.Connection, endpoint_id: str) -> None:
    """Let what still waits for the endpoint wait as undelivered; what it had once got stays delivered."""
    connection.execute(
        sa.update(outbox)
        .where(outbox.c.endpoint_id == endpoint_id, outbox.c.state == PENDING)
        .values(
            state=sa.case((outbox.c.delivered_ms.is_not(None), DELIVERED), else_=UNDELIVERED),
            locked_until_ms=0,
        )
    )


def resume(connection: sa.Connection, endpoint_id: str, now_ms: int) -> int:
    """Let the endpoint have its events again, and those that wait for it as far as their schedule is not spent.

    Returns how many are sent now.
    """
    connection.execute(
        sa.update(endpoints)
        .where(endpoints.c.id == endpoint_id)
        .values(suspended_ms=None, failing_since_ms=None, version=endpoints.c.version + 1)
    )
    return connection.execute(
        sa.update(outbox)
        .where(
            outbox.c.endpoint_id == endpoint_id,
            outbox.c.state == UNDELIVERED,
            outbox.c.attempts < len(DELAYS_S),
        )
        .values(state=PENDING, next_ms=now_ms)
    ).rowcount
