"""What open alerts stand on, and what retention therefore must not drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from alerts.tables import OPEN_STATES, alerts
from ingest.batch import Series
from ingest.store.reading_store import Kept
from ingest.tables import findings

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from ingest.operational import Operational

AROUND_MS = 24 * 3_600_000  # readings before and after a finding that show what it was about
_OPEN = alerts.c.state.in_(OPEN_STATES)


def _of_open_alert() -> ColumnElement[bool]:
    """Whether a finding belongs to an alert that is open, the one it began with too."""
    open_ids = select(alerts.c.alert_id).where(_OPEN)
    return or_(
        findings.c.alert_id.in_(open_ids),
        findings.c.finding_id.in_(select(alerts.c.evidence["finding_id"].as_string()).where(_OPEN)),
    )


def packs_to_keep(operational: Operational) -> frozenset[int]:
    """Return the places in the inbox of the packs that findings of open alerts point to."""
    with operational.read() as connection:
        places = connection.scalars(select(findings.c.inbox_pos).where(_of_open_alert()).distinct())
        return frozenset(places)


def readings_to_keep(operational: Operational) -> list[Kept]:
    """Return each series of an open alert from a day before each finding to a day after it."""
    query = (
        select(findings.c.station, findings.c.device, findings.c.indicator, findings.c.t_ms)
        .where(and_(findings.c.kind == "reading", _of_open_alert()))
        .order_by(findings.c.station, findings.c.device, findings.c.indicator, findings.c.t_ms)
    )
    kept: list[Kept] = []
    with operational.read() as connection:
        for station, device, indicator, t_ms in connection.execute(query):
            one = Kept(Series(station, device, indicator), t_ms - AROUND_MS, t_ms + AROUND_MS + 1)
            last = kept[-1] if kept else None
            if last and last.series == one.series and one.start_ms <= last.end_ms:
                kept[-1] = Kept(last.series, last.start_ms, one.end_ms)
            else:
                kept.append(one)
    return kept
