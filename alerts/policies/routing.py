"""Whom a transition is told to: endpoints, people; silences and inhibition taken into account."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.alert import SEVERITIES
from alerts.delivery import outbox
from alerts.people.notices import RoutedTarget
from alerts.policies.policy import matching
from alerts.policies.store import active_policies, active_silences
from alerts.states import LEGAL_KINDS, State
from alerts.tables import alerts, targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.alert import Alert, Change
    from alerts.delivery.outbox import Receiver
    from alerts.policies.policy import Policy
    from alerts.policies.store import Silence

OVERDUE = "alert.overdue"
INHIBITS = "station_offline"
INHIBITED = frozenset({"device_offline", "data_gap", "sensor_fault", "clock"})
"""What a station that is away explains; never what the law cares for."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who is told of one transition."""

    endpoints: list[Receiver] = field(default_factory=list)
    targets: list[RoutedTarget] = field(default_factory=list)


@dataclass(slots=True)
class Router:
    """Policies, endpoints, silences and stations that are away, read once for all changes of a transaction."""

    policies: Sequence[Policy]
    receivers: dict[str, Receiver]
    people: dict[str, bool]  # targets that are told without any policy: True
    silences: Sequence[Silence]
    away: dict[str, str]  # station -> id of its open station_offline alert

    @classmethod
    def read(cls, connection: sa.Connection, changes: Sequence[Change]) -> Router:
        """Read what the routing of ``changes`` needs."""
        at_ms = max(change.at_ms for change in changes)
        stations = {c.alert.station for c in changes if c.alert.kind in INHIBITED}
        people = connection.execute(sa.select(targets.c.id).where(targets.c.active))
        return cls(
            policies=active_policies(connection),
            receivers={receiver.id: receiver for receiver in outbox.receivers(connection)},
            people=dict.fromkeys((row.id for row in people), True),
            silences=active_silences(connection, at_ms),
            away=_away(connection, stations),
        )

    def plan(self, change: Change) -> Route:
        """Return whom ``change`` is told to; sets silence and inhibition on its alert."""
        alert, event = change.alert, change.transition.event
        if not event:
            return Route()
        route = self._route(alert, event)
        source = self.away.get(alert.station) if alert.kind in INHIBITED else None
        if source is not None and alert.state is State.OPEN and not alert.inhibited_by:
            alert.inhibited_by = [source]
        if alert.inhibited_by:
            return Route()
        return self._silenced(alert, event, change.at_ms, route)

    def _route(self, alert: Alert, event: str) -> Route:
        found = matching(self.policies, alert, event)
        if not found:
            return self._default(alert)
        names = list(dict.fromkeys(id_ for policy in found for id_ in policy.endpoints))
        route = Route([self.receivers[name] for name in names if name in self.receivers])
        told: dict[str, RoutedTarget] = {}
        for policy in found:
            ids = [*policy.targets, *(policy.escalate if event == OVERDUE else ())]
            for id_ in ids:
                if id_ in self.people:
                    told.setdefault(id_, RoutedTarget(id_, policy.group_key(alert)))
        route.targets.extend(told.values())
        return route

    def _default(self, alert: Alert) -> Route:
        """Nobody said anything of such an alert: endpoints get it all, people what is grave and not small things."""
        grave = SEVERITIES.index(alert.severity) >= SEVERITIES.index("major")
        told = [RoutedTarget(id_) for id_ in self.people] if grave else []
        return Route(list(self.receivers.values()), told)

    def _silenced(self, alert: Alert, event: str, at_ms: int, route: Route) -> Route:
        holding = [
            silence
            for silence in self.silences
            if silence.starts_ms <= at_ms < silence.ends_ms
            and silence.match.speaks_of(alert, event)
        ]
        if not holding:
            return route
        alert.silenced_until_ms = max(silence.ends_ms for silence in holding)
        everybody = any(silence.scope == "all" for silence in holding)
        grave = alert.kind in LEGAL_KINDS and alert.severity == "critical"
        # A regulator is told of what is grave whatever anybody silenced.
        return Route([] if everybody and not grave else route.endpoints)


def _away(connection: sa.Connection, stations: set[str]) -> dict[str, str]:
    if not stations:
        return {}
    query = sa.select(alerts.c.station, alerts.c.alert_id).where(
        alerts.c.kind == INHIBITS, alerts.c.state == State.OPEN, alerts.c.station.in_(stations)
    )
    return {row.station: row.alert_id for row in connection.execute(query)}
