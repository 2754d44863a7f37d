"""What policies do as time passes: silences and inhibition that end, reminders, re-tests that are ordered at once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.actions import act_within
from alerts.alert import Alert
from alerts.bilingual import both
from alerts.errors import AlertError
from alerts.people.notices import News, RoutedTarget, enqueue_many
from alerts.policies.policy import matching
from alerts.policies.store import active_policies, active_silences
from alerts.states import POLICY, SYSTEM, Facts, State, Trigger, allows
from alerts.tables import OPEN_STATES, alerts, notices, receipts, silences, targets
from alerts.transitions import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts.transitions import Names
    from ingest.operational import Operational

HOUR_MS = 3_600_000
AT_ONCE = 500  # alerts of one look


class Silences:
    """When a silence ends, what it held back is told once, as it is then."""

    def __init__(self, operational: Operational, names: Names) -> None:
        self._operational = operational
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Tell the state of every alert whose silence is over; return whether there was one."""
        with self._operational.read() as connection:
            c = alerts.c
            over = sa.select(c.alert_id).where(c.silenced_until_ms <= now_ms).limit(AT_ONCE)
            due = list(connection.scalars(over))
        for alert_id in due:
            with self._operational.write() as connection:
                self._tell(connection, alert_id, now_ms)
        return bool(due)

    def _tell(self, connection: sa.Connection, alert_id: str, now_ms: int) -> None:
        def ends(alert: Alert) -> None:
            alert.silenced_until_ms = None

        _update(
            connection,
            alert_id,
            both("静默结束", "the silence has ended"),
            now_ms,
            self._names,
            ends,
        )


class Inhibitions:
    """When what explained an alert is over, the alert is told once, as it is then."""

    def __init__(self, operational: Operational, names: Names) -> None:
        self._operational = operational
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Tell the state of every alert whose source is over; return whether there was one."""
        told = False
        with self._operational.read() as connection:
            held = sa.select(alerts.c.alert_id, alerts.c.inhibited_by).where(
                sa.cast(alerts.c.inhibited_by, sa.Text) != "[]"
            )
            rows = connection.execute(held.limit(AT_ONCE)).all()
            sources = {source for row in rows for source in row.inhibited_by}
            still = sa.select(alerts.c.alert_id).where(
                alerts.c.alert_id.in_(sources), alerts.c.state == State.OPEN
            )
            going = set(connection.scalars(still)) if sources else set()
        for row in rows:
            if going.isdisjoint(row.inhibited_by):
                with self._operational.write() as connection:
                    self._tell(connection, row.alert_id, now_ms)
                told = True
        return told

    def _tell(self, connection: sa.Connection, alert_id: str, now_ms: int) -> None:
        def ends(alert: Alert) -> None:
            alert.inhibited_by = []

        _update(
            connection,
            alert_id,
            both("原因已消除", "what explained it is over"),
            now_ms,
            self._names,
            ends,
        )


class Retests:
    """A policy may order a suspect test to be tested again, without waiting for anybody."""

    def __init__(self, operational: Operational, names: Names) -> None:
        self._operational = operational
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Order what is to be ordered; return whether there was something."""
        ordered = False
        with self._operational.read() as connection:
            policies = [policy for policy in active_policies(connection) if policy.order_retest]
            if not policies:
                return False
            query = sa.select(alerts).where(
                alerts.c.kind == "test", alerts.c.state == State.SUSPECTED
            )
            found = [Alert.from_row(row) for row in connection.execute(query).mappings()]
        for alert in found:
            meant = matching(policies, alert, "alert.suspected")
            actor = f"{POLICY}{meant[0].id}" if meant else ""
            if not meant or not allows(
                alert.state, Trigger.ORDER_RETEST, Facts(kind=alert.kind, actor=actor)
            ):
                continue
            # Somebody may have moved the alert meanwhile: the next look sees it as it is then.
            with contextlib.suppress(AlertError), self._operational.write() as connection:
                act_within(
                    connection,
                    alert.alert_id,
                    Trigger.ORDER_RETEST,
                    actor,
                    meant[0].name,
                    at_ms=now_ms,
                    names=self._names,
                )
            ordered = True
        return ordered


class Reminders:
    """People are told again of what is open until somebody acknowledges, or the agency sends its receipt."""

    def __init__(self, operational: Operational, names: Names) -> None:
        self._operational = operational
        self._names = names

    def look(self, now_ms: int) -> bool:
        """Remind whom it is time to remind; return whether there was somebody."""
        with self._operational.read() as connection:
            policies = [policy for policy in active_policies(connection) if policy.repeat_h]
            if not policies:
                return False
            due = self._due(connection, now_ms)
        if not due:
            return False
        with self._operational.write() as connection:
            silent = active_silences(connection, now_ms)
            people = set(connection.scalars(sa.select(targets.c.id).where(targets.c.active)))
            news = []
            for alert, told_ms in due:
                event = f"alert.{alert.state}"
                if any(silence.match.speaks_of(alert, event) for silence in silent):
                    continue
                routed = {
                    target: RoutedTarget(target, policy.group_key(alert), repeat=True)
                    for policy in matching(policies, alert, event)
                    if now_ms - told_ms >= policy.repeat_h * HOUR_MS
                    for target in policy.targets
                    if target in people
                }
                if routed:
                    snapshot = snapshot_of(connection, alert, self._names)
                    news.append(News(list(routed.values()), alert, event, snapshot))
            return enqueue_many(connection, news, now_ms) > 0

    @staticmethod
    def _due(connection: sa.Connection, now_ms: int) -> list[tuple[Alert, int]]:
        """Return what is open and unanswered, with when people were told last."""
        told = (
            sa.select(notices.c.alert_id, sa.func.max(notices.c.created_ms).label("told_ms"))
            .group_by(notices.c.alert_id)
            .subquery()
        )
        answered = sa.exists().where(receipts.c.alert_id == alerts.c.alert_id)
        query = (
            sa.select(alerts, told.c.told_ms)
            .join(told, told.c.alert_id == alerts.c.alert_id)
            .where(
                alerts.c.state.in_(OPEN_STATES),
                alerts.c.acked_ms.is_(None),
                sa.not_(answered),
                told.c.told_ms <= now_ms - HOUR_MS,
            )
            .limit(AT_ONCE)
        )
        return [
            (Alert.from_row(row), row["told_ms"]) for row in connection.execute(query).mappings()
        ]


def cancel(connection: sa.Connection, silence_id: str, now_ms: int) -> bool:
    """End a silence now; what it held back is told at the next look. Returns False when there is none that holds."""
    done = connection.execute(
        sa.update(silences)
        .where(
            silences.c.id == silence_id, silences.c.ended_ms.is_(None), silences.c.ends_ms > now_ms
        )
        .values(ended_ms=now_ms)
    )
    if done.rowcount != 1:
        return False
    left = active_silences(connection, now_ms)
    held = sa.select(alerts).where(alerts.c.silenced_until_ms > now_ms)
    for row in connection.execute(held).mappings().all():
        alert = Alert.from_row(row)
        ends = [s.ends_ms for s in left if s.match.speaks_of(alert, f"alert.{alert.state}")]
        until = max(ends, default=now_ms)
        connection.execute(
            sa.update(alerts)
            .where(alerts.c.alert_id == alert.alert_id)
            .values(silenced_until_ms=until)
        )
    return True


def _update(
    connection: sa.Connection,
    alert_id: str,
    reason: str,
    now_ms: int,
    names: Names,
    edit: Callable[[Alert], None],
) -> None:
    """Tell the state of an alert once more, whatever it is."""
    act_within(
        connection,
        alert_id,
        Trigger.UPDATE,
        SYSTEM,
        reason,
        at_ms=now_ms,
        names=names,
        edit=edit,
    )
