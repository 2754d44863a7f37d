"""What a transition leaves behind: a row in the hash-chained log, one webhook per endpoint, one event for the pages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.cases.follow import follow
from alerts.chain import GENESIS, LogRow
from alerts.clusters import follow as follow_clusters
from alerts.delivery import outbox
from alerts.delivery.outbox import Outgoing
from alerts.delivery.payload import Occasion, body, data_of
from alerts.identity import event_id_of, person_event_id
from alerts.people.notices import News, enqueue_many
from alerts.places import places_of
from alerts.policies.routing import Router
from alerts.tables import alert_transitions, alerts, settings
from drivers.indicators import catalogue
from ingest.tables import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from alerts.alert import Alert, Change
    from alerts.delivery.outbox import Receiver

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
    """Write log, outbox, notices and events of ``changes``, in the transaction that has written the alerts."""
    if not changes:
        return
    _append_to_log(connection, changes)
    if clusters := follow_clusters(connection, changes):
        _append_to_log(connection, clusters)
        changes = [*changes, *clusters]
    connection.execute(sa.insert(events), [_event_row(change) for change in changes])
    for change in changes:
        follow(connection, change)
    router = Router.read(connection, changes)
    teller = _Teller(connection, (change.alert for change in changes), names)
    outgoing: list[Outgoing] = []
    news: list[News] = []
    held: list[Alert] = []
    for change in changes:
        alert = change.alert
        before = (alert.silenced_until_ms, alert.inhibited_by)
        route = router.plan(change)
        if (alert.silenced_until_ms, alert.inhibited_by) != before:
            held.append(alert)
        if not route.endpoints and not route.targets:
            continue
        occasion = _occasion(change)
        data = teller.data_of(alert, occasion)
        if route.endpoints:
            content = body(alert, occasion, data)
            outgoing += (_outgoing(to, alert, occasion, content) for to in route.endpoints)
        if route.targets:
            news.append(News(route.targets, alert, occasion.event_type, data))
    outbox.enqueue_many(connection, outgoing)
    enqueue_many(connection, news, changes[-1].at_ms)
    for alert in held:
        connection.execute(
            sa.update(alerts)
            .where(alerts.c.alert_id == alert.alert_id)
            .values(silenced_until_ms=alert.silenced_until_ms, inhibited_by=alert.inhibited_by)
        )


def snapshot_of(connection: sa.Connection, alert: Alert, names: Names) -> dict[str, object]:
    """Return an alert as it is told, outside of any transition: for reminders."""
    occasion = Occasion("", "", alert.state, "", alert.changed_ms)
    return _Teller(connection, [alert], names).data_of(alert, occasion)


class _Teller:
    """Makes what is told of ``alerts``; places and the incarnation are read once."""

    def __init__(self, connection: sa.Connection, alerts: Iterable[Alert], names: Names) -> None:
        self._names = names
        self._places = places_of(connection, alerts)
        self._incarnation = incarnation_of(connection)

    def data_of(self, alert: Alert, occasion: Occasion) -> dict[str, object]:
        return data_of(
            alert,
            occasion,
            incarnation=self._incarnation,
            place=self._places[alert.station, alert.plot_id],
            names=self._names(alert.indicator),
        )


def _occasion(change: Change) -> Occasion:
    alert, event = change.alert, change.transition.event
    event_id = (
        event_id_of(alert.alert_id, event, change.cause) if change.cause else person_event_id()
    )
    return Occasion(event_id, event, change.previous, change.reason, change.at_ms, change.data)


def _outgoing(to: Receiver, alert: Alert, occasion: Occasion, content: bytes) -> Outgoing:
    return Outgoing(
        to,
        alert.alert_id,
        alert.seq,
        occasion.event_id,
        occasion.event_type,
        content,
        occasion.at_ms,
    )


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
            event=change.transition.event,
            data=change.data,
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
