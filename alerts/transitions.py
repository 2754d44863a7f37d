"""What a transition leaves behind: a row in the hash-chained log, one webhook per endpoint, one event for the pages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts import outbox
from alerts.chain import GENESIS, LogRow
from alerts.identity import event_id_of, person_event_id
from alerts.payload import Occasion, Place, body
from alerts.tables import alert_transitions, settings
from drivers.indicators import catalogue
from ingest.tables import bases, events, plots, stations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.alert import Alert, Change

    Names = Callable[
        [str], tuple[str, str]
    ]  # code of an indicator or parameter -> Chinese and English name

INCARNATION = "incarnation"


def indicator_names(code: str) -> tuple[str, str]:
    """Return the Chinese and English name of an indicator; for what the catalogue does not know, the code itself.

    >>> indicator_names("water_ph")
    ('pH值', 'pH')
    """
    known = catalogue().get(code)
    return (known.zh, known.en) if known else (code, code)


def record(connection: sa.Connection, changes: Sequence[Change], names: Names) -> None:
    """Write log, outbox and events of ``changes``, in order, in the transaction that has written the alerts."""
    if not changes:
        return
    _append_to_log(connection, changes)
    connection.execute(sa.insert(events), [_event_row(change) for change in changes])
    receivers = outbox.receivers(connection)
    if not receivers:
        return
    incarnation = incarnation_of(connection)
    places: dict[tuple[str, str], Place] = {}
    for change in changes:
        alert = change.alert
        where = (alert.station, alert.plot_id)
        if where not in places:
            places[where] = _place(connection, alert)
        event = change.transition.event
        event_id = (
            event_id_of(alert.alert_id, event, change.cause) if change.cause else person_event_id()
        )
        occasion = Occasion(event_id, event, change.previous, change.reason, change.at_ms)
        content = body(
            alert,
            occasion,
            incarnation=incarnation,
            place=places[where],
            names=names(alert.indicator),
        )
        outbox.enqueue(connection, receivers, alert, occasion, content)


def incarnation_of(connection: sa.Connection) -> str:
    """Return this database's incarnation, a ULID made once; receivers order events by (incarnation, seq)."""
    query = sa.select(settings.c.value).where(settings.c.name == INCARNATION)
    found = connection.scalar(query)
    if found is None:
        found = str(ULID())
        connection.execute(sa.insert(settings).values(name=INCARNATION, value=found))
    return str(found)


def _append_to_log(connection: sa.Connection, changes: Sequence[Change]) -> None:
    newest = sa.select(alert_transitions.c.hash).order_by(alert_transitions.c.id.desc()).limit(1)
    previous = connection.scalar(newest) or GENESIS
    rows = []
    for change in changes:
        row = LogRow(
            alert_id=change.alert.alert_id,
            seq=change.alert.seq,
            from_state=change.previous,
            to_state=change.alert.state,
            actor=change.actor,
            reason=change.reason,
            at_ms=change.at_ms,
            prev_hash=previous,
        )
        row = replace(row, hash=row.computed_hash())
        previous = row.hash
        rows.append(
            {
                column.name: getattr(row, column.name)
                for column in alert_transitions.c
                if column.name != "id"
            }
        )
    connection.execute(sa.insert(alert_transitions), rows)


def _event_row(change: Change) -> dict[str, object]:
    alert = change.alert
    return {
        "at_ms": change.at_ms,
        "type": "alert",
        "station": alert.station,
        "alert_id": alert.alert_id,
        "data": {
            "alert_id": alert.alert_id,
            "state": str(alert.state),
            "previous_state": str(change.previous),
            "severity": alert.severity,
            "indicator": alert.indicator,
            "value": alert.value,
            "unit": alert.unit,
            "station": alert.station,
        },
    }


def _place(connection: sa.Connection, alert: Alert) -> Place:
    c = stations.c
    row = connection.execute(
        sa.select(c.name, c.name_en, c.lon, c.lat, c.base_id).where(c.code == alert.station)
    ).one_or_none()
    owner = (
        sa.select(bases.c.subject_id)
        .join(plots, plots.c.base_id == bases.c.id)
        .where(plots.c.id == alert.plot_id)
    )
    producer = connection.scalar(owner)
    if row is None:
        return Place(producer_id=producer or "")
    if producer is None and row.base_id is not None:
        producer = connection.scalar(sa.select(bases.c.subject_id).where(bases.c.id == row.base_id))
    return Place(row.name, row.name_en, row.lon, row.lat, producer or "")
