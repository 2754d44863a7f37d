"""What a case shows: its steps, its clocks, the steps that may be taken now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from alerts.cases.steps import Situation, Taken
from alerts.tables import alerts, case_steps, cases, clocks

if TYPE_CHECKING:
    from alerts.states import Facts

    ClockState = Literal["running", "overdue", "met", "met_late", "void"]


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a clock stands: its due date, its end and whether its passing was noticed (UTC ms)."""

    due_ms: int | None
    ended_ms: int | None
    overdue_ms: int | None
    voided: bool


def state_of(clock: Stand, now_ms: int) -> ClockState:
    """Return the state of a clock at ``now_ms``.

    >>> state_of(Stand(5, None, None, False), 6), state_of(Stand(5, 5, None, False), 9)
    ('overdue', 'met')
    """
    if clock.voided:
        return "void"
    if clock.ended_ms is not None:
        late = clock.due_ms is not None and clock.ended_ms > clock.due_ms
        return "met_late" if late else "met"
    passed = clock.due_ms is not None and clock.due_ms < now_ms
    return "overdue" if passed or clock.overdue_ms is not None else "running"


def taken_of(connection: sa.Connection, alert_id: str) -> list[Taken]:
    """Return the steps taken about an alert, in the order in which they were recorded."""
    rows = connection.execute(
        sa.select(case_steps.c.step, case_steps.c.at_ms, case_steps.c.data)
        .join(cases, cases.c.case_id == case_steps.c.case_id)
        .where(cases.c.alert_id == alert_id)
        .order_by(case_steps.c.id)
    )
    return [Taken(row.step, row.at_ms, row.data) for row in rows]


def situation(alert: sa.RowMapping, taken: list[Taken]) -> Situation:
    """Return what decides which steps may be taken about a row of the table ``alerts``."""
    return Situation(
        kind=alert["kind"],
        state=alert["state"],
        purpose=alert["purpose"],
        certainty=alert["certainty"],
        taken=taken,
    )


def with_disposal(connection: sa.Connection, alert_id: str, facts: Facts) -> Facts:
    """Return ``facts`` with what the case knows: whether a disposal was recorded (the guard of closing asks)."""
    disposed = any(taken.step == "disposal" for taken in taken_of(connection, alert_id))
    return replace(facts, disposal=facts.disposal or disposed)


def steps_of(connection: sa.Connection, alert_id: str) -> list[sa.RowMapping]:
    """Return the rows of the steps of an alert's case, by when they happened."""
    query = (
        sa.select(case_steps)
        .join(cases, cases.c.case_id == case_steps.c.case_id)
        .where(cases.c.alert_id == alert_id)
        .order_by(case_steps.c.at_ms, case_steps.c.id)
    )
    return list(connection.execute(query).mappings())


def clocks_of(connection: sa.Connection, alert_id: str) -> list[sa.RowMapping]:
    """Return the rows of an alert's clocks with the ``side`` of their case, in the order in which they began."""
    query = (
        sa.select(clocks, cases.c.side)
        .join(cases, cases.c.case_id == clocks.c.case_id)
        .where(clocks.c.alert_id == alert_id)
        .order_by(clocks.c.id)
    )
    return list(connection.execute(query).mappings())


def going_clocks(
    state: str, now_ms: int, *, limit: int, after: tuple[int, int] | None
) -> sa.Select[tuple[object, ...]]:
    """Return a query of the clocks that run or are overdue, the one due first at first, those without a date last.

    Columns: of clocks, ``side`` and ``due_key``; ``after`` is (due_key, id) of the last row of the page before.
    """
    late = sa.or_(clocks.c.overdue_ms.is_not(None), clocks.c.due_ms < now_ms)
    in_time = sa.and_(
        clocks.c.overdue_ms.is_(None), sa.or_(clocks.c.due_ms.is_(None), clocks.c.due_ms >= now_ms)
    )
    key = sa.func.coalesce(clocks.c.due_ms, NO_DATE)
    query = (
        sa.select(clocks, cases.c.side, key.label("due_key"))
        .join(cases, cases.c.case_id == clocks.c.case_id)
        .join(alerts, alerts.c.alert_id == clocks.c.alert_id)
        .where(clocks.c.ended_ms.is_(None), late if state == "overdue" else in_time)
        .order_by(key, clocks.c.id)
        .limit(limit)
    )
    if after is None:
        return query
    due_key, number = after
    return query.where(sa.or_(key > due_key, sa.and_(key == due_key, clocks.c.id > number)))


NO_DATE = 253_402_300_800_000  # after every time that can be: the end of the year 9999
