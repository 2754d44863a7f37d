"""Several confirmed exceedances of one substance in one township within a few days are one alert of their own.

The cluster is written with the confirmation that completes it, in its transaction; a confirmation that follows joins it
while it is open. A member that is superseded leaves it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from alerts.alert import LIMIT_UNVERIFIED, SEVERITIES, Alert, Change
from alerts.identity import cluster_id_of
from alerts.keys import dedup_key
from alerts.states import State, Trigger
from alerts.tables import OPEN_STATES, alert_transitions, alerts, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLUSTER = "cluster"
MEMBER, FORMER_MEMBER = "member", "former_member"
DAY_MS = 24 * 3_600_000
TOWNSHIP = 9  # digits of the region code that name a township
NAME = "cluster_rules"
_COUNTED = (State.CONFIRMED, State.HANDED_OVER, State.IN_ENFORCEMENT, State.CLOSED)
_KINDS = ("limit", "test")
_PLACES = 200  # of one query


class ClusterRules(msgspec.Struct, frozen=True, kw_only=True):
    """``[alerts]``: confirmed exceedances of one substance in one township within so many days make a cluster."""

    cluster_count: Annotated[int, Meta(ge=2, le=1000)] = 3
    cluster_days: Annotated[int, Meta(ge=1, le=366)] = 7


def keep(connection: sa.Connection, rules: ClusterRules) -> None:
    """Write the rules to where every process finds them."""
    connection.execute(sa.delete(settings).where(settings.c.name == NAME))
    connection.execute(
        sa.insert(settings).values(name=NAME, value=msgspec.json.encode(rules).decode())
    )


def rules_of(connection: sa.Connection) -> ClusterRules:
    """Return the rules that hold now."""
    found = connection.scalar(sa.select(settings.c.value).where(settings.c.name == NAME))
    return msgspec.json.decode(found or "{}", type=ClusterRules)


def follow(connection: sa.Connection, changes: Sequence[Change]) -> list[Change]:
    """Write the clusters that ``changes``, whose alerts and log are written, raise or change; return their changes."""
    made: list[Change] = []
    gone = {c.alert.alert_id for c in changes if c.transition.trigger is Trigger.SUPERSEDE}
    confirmed = [
        change
        for change in changes
        if change.transition.trigger is Trigger.CONFIRM
        and change.alert.kind in _KINDS
        and change.alert.region_code
    ]
    at_ms = max((change.at_ms for change in changes), default=0)
    if gone:
        made += _leave(connection, gone, at_ms)
    if confirmed:
        made += _join(connection, confirmed, at_ms)
    return made


def _key(alert: Alert) -> str:
    return dedup_key(CLUSTER, (alert.region_code[:TOWNSHIP],), alert.indicator, "")


def _join(connection: sa.Connection, confirmed: Sequence[Change], at_ms: int) -> list[Change]:
    rules = rules_of(connection)
    keys = {_key(change.alert) for change in confirmed}
    since_ms = at_ms - rules.cluster_days * DAY_MS
    groups: dict[str, list[Alert]] = defaultdict(list)
    for alert in _confirmed_since(connection, [c.alert for c in confirmed], since_ms):
        groups[_key(alert)].append(alert)
    clusters = _clusters(connection, alerts.c.dedup_key.in_(sorted(keys)))
    made = []
    for key in sorted(keys):
        known = [cluster for cluster in clusters if cluster.dedup_key == key]
        counted = {id_ for cluster in known for id_ in _members(cluster)}
        new = [alert for alert in groups[key] if alert.alert_id not in counted]
        going = next((cluster for cluster in known if cluster.state in OPEN_STATES), None)
        if going is not None and new:
            made.append(_grow(connection, going, new, at_ms))
        elif going is None and len({_target(alert) for alert in new}) >= rules.cluster_count:
            made.append(_raise(connection, key, new, at_ms))
    return made


def _confirmed_since(
    connection: sa.Connection, like: Iterable[Alert], since_ms: int
) -> list[Alert]:
    """Return what was confirmed, and still counts, of the substances and in the townships of ``like``."""
    log = alert_transitions.c
    recent = sa.select(log.alert_id).where(
        log.event == "alert.confirmed", log.to_state == State.CONFIRMED, log.at_ms >= since_ms
    )
    places = sorted({(a.indicator, a.region_code[:TOWNSHIP]) for a in like})
    found = []
    for start in range(0, len(places), _PLACES):
        of_them = [
            sa.and_(
                alerts.c.indicator == what,
                alerts.c.region_code.startswith(where, autoescape=True),
            )
            for what, where in places[start : start + _PLACES]
        ]
        query = (
            sa.select(alerts)
            .where(
                alerts.c.alert_id.in_(recent),
                alerts.c.kind.in_(_KINDS),
                alerts.c.state.in_(_COUNTED),
                sa.or_(*of_them),
            )
            .order_by(alerts.c.alert_id)
        )
        found += [Alert.from_row(row) for row in connection.execute(query).mappings()]
    return found


def _target(alert: Alert) -> tuple[str, str]:
    """Return what was tested: two alerts on one sample, by two standards, are one exceedance."""
    return alert.station, alert.sample_no or alert.device


def _raise(connection: sa.Connection, key: str, members: Sequence[Alert], at_ms: int) -> Change:
    worst = max(members, key=lambda alert: SEVERITIES.index(alert.severity))
    newest_ms = max(member.last_seen_ms for member in members)
    ids = [member.alert_id for member in members]
    alert = Alert(
        alert_id=cluster_id_of(newest_ms, key, ids),
        dedup_key=key,
        kind=CLUSTER,
        rule_id=CLUSTER,
        severity="critical",
        certainty="confirmatory",
        station=worst.station,
        device="",
        region_code=worst.region_code[:TOWNSHIP],
        indicator=worst.indicator,
        product_name=worst.product_name,
        value=float(len(members)),
        unit="1",
        citation=worst.citation,
        evidence={},
        first_seen_ms=min(member.first_seen_ms for member in members),
        last_seen_ms=newest_ms,
        occurrence_count=len(members),
        flags=[],
        raised_ms=at_ms,
        changed_ms=at_ms,
        related=_related(members),
    )
    # Each member was confirmed, by a named user where its limit is not verified: so is what they are together.
    count, unverified = len(members), any(LIMIT_UNVERIFIED in member.flags for member in members)
    zh, en = ("，部分限值待核", ", some by an unverified limit") if unverified else ("", "")
    reason = f"{count} 起确认超标{zh} | {count} confirmed exceedances{en}"
    change = alert.move(Trigger.CONFIRM, alert.facts(reason=reason), at_ms, cause=",".join(ids))
    connection.execute(sa.insert(alerts).values(alert.to_row()))
    return change


def _grow(connection: sa.Connection, going: Alert, new: Sequence[Alert], at_ms: int) -> Change:
    going.related = [*going.related, *_related(new)]
    going.last_seen_ms = max(going.last_seen_ms, *(alert.last_seen_ms for alert in new))
    reason = f"又确认 {len(new)} 起 | {len(new)} more confirmed"
    cause = ",".join(alert.alert_id for alert in new)
    return _moved(connection, going, Trigger.UPDATE, reason, at_ms, cause)


def _leave(connection: sa.Connection, gone: set[str], at_ms: int) -> list[Change]:
    """Take members that are superseded out of their open clusters; too few left, and the cluster is superseded too."""
    rules = rules_of(connection)
    made = []
    for cluster in _clusters(connection, alerts.c.state.in_(OPEN_STATES)):
        lost = sorted(gone.intersection(_members(cluster)))
        if not lost:
            continue
        cluster.related = [
            {**row, "relation": FORMER_MEMBER} if row["alert_id"] in lost else row
            for row in cluster.related
        ]
        few = len(_members(cluster)) < rules.cluster_count
        trigger = Trigger.SUPERSEDE if few else Trigger.UPDATE
        reason = f"{len(lost)} 起被取代 | {len(lost)} of them superseded"
        made.append(_moved(connection, cluster, trigger, reason, at_ms, ",".join(lost)))
    return made


def _moved(
    connection: sa.Connection, cluster: Alert, trigger: Trigger, reason: str, at_ms: int, cause: str
) -> Change:
    cluster.occurrence_count = len(_members(cluster))
    cluster.value = float(cluster.occurrence_count)
    change = cluster.move(trigger, cluster.facts(reason=reason), at_ms, cause=cause)
    connection.execute(
        sa.update(alerts).where(alerts.c.alert_id == cluster.alert_id).values(cluster.to_row())
    )
    return change


def _clusters(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Alert]:
    query = sa.select(alerts).where(
        alerts.c.kind == CLUSTER, alerts.c.state != State.SUPERSEDED, which
    )
    return [Alert.from_row(row) for row in connection.execute(query).mappings()]


def _members(cluster: Alert) -> list[str]:
    return [row["alert_id"] for row in cluster.related if row["relation"] == MEMBER]


def _related(members: Sequence[Alert]) -> list[dict[str, str]]:
    return [{"relation": MEMBER, "alert_id": member.alert_id} for member in members]
