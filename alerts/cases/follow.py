"""Cases follow their alerts: each transition opens, ends or voids clocks, in the alert's own transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.cases.clocks import BY_NAME, TABLE, side_of
from alerts.cases.lengths import due
from alerts.cases.rules import rules_of
from alerts.states import LEGAL_KINDS, State, Trigger
from alerts.tables import alerts, case_steps, cases, clocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alerts.alert import Alert, Change

OVERDUE = "overdue"
OPENING = frozenset({Trigger.ORDER_RETEST, Trigger.CONFIRM, Trigger.HAND_OVER, Trigger.STEP})
ENDING = frozenset(
    {Trigger.REFUTE, Trigger.DISMISS, Trigger.CLEAR, Trigger.CLOSE, Trigger.SUPERSEDE}
)
CONCERNED = (
    OPENING
    | ENDING
    | {
        Trigger.ACCEPT,
        Trigger.REJECT_HANDOVER,
        Trigger.FALL_OVERDUE,
        Trigger.UPDATE,
        Trigger.REOPEN,
    }
)


def follow(connection: sa.Connection, change: Change) -> None:
    """Do to the case what the transition asks for; sets ``due_ms`` and the flag ``overdue`` of the alert and its row.

    A case is opened by a re-test, a confirmation, a hand-over or a step. What a step said stands in the
    change's data, as ``casework.take_step`` puts it there.
    """
    alert, trigger = change.alert, change.transition.trigger
    if alert.kind not in LEGAL_KINDS or trigger not in CONCERNED:
        return
    if trigger is Trigger.UPDATE and "clock_id" not in change.data:
        return  # of something else
    case = _case(connection, alert, change.at_ms, opens=trigger in OPENING)
    if case is None:
        return
    case_id = case.case_id
    if trigger is Trigger.FALL_OVERDUE:
        _fall_overdue(connection, change)
    elif trigger is not Trigger.UPDATE:
        name, at_ms = str(trigger), change.at_ms
        if trigger is Trigger.STEP:
            name, at_ms = _note_step(connection, case_id, change)
        if not case.is_new:
            _end(connection, case_id, name, at_ms)
        _start(connection, case, change, name, at_ms)
    if trigger in ENDING:
        _close(connection, case_id, change)
    elif trigger is Trigger.REOPEN:
        _mark_closed(connection, case_id, None)
    _show_on_alert(connection, case_id, alert)


@dataclass(frozen=True, slots=True)
class _Case:
    case_id: str
    side: str
    is_new: bool


def _case(connection: sa.Connection, alert: Alert, at_ms: int, *, opens: bool) -> _Case | None:
    query = sa.select(cases.c.case_id, cases.c.side).where(cases.c.alert_id == alert.alert_id)
    found = connection.execute(query).one_or_none()
    if found is not None:
        return _Case(found.case_id, found.side, is_new=False)
    if not opens:
        return None
    made = _Case(str(ULID()), side_of(alert.sampling_stage), is_new=True)
    connection.execute(
        sa.insert(cases).values(
            case_id=made.case_id, alert_id=alert.alert_id, side=made.side, opened_ms=at_ms
        )
    )
    return made


def _note_step(connection: sa.Connection, case_id: str, change: Change) -> tuple[str, int]:
    said = change.data
    step, at_ms = str(said["step"]), _ms(said["at_ms"])
    document = _mapping(said.get("document"))
    connection.execute(
        sa.insert(case_steps).values(
            case_id=case_id,
            alert_seq=change.alert.seq,
            step=step,
            at_ms=at_ms,
            recorded_ms=change.at_ms,
            actor=change.actor,
            note=change.reason,
            document_type=document.get("type", ""),
            document_no=document.get("no", ""),
            document_sha256=document.get("sha256", ""),
            data=said.get("data", {}),
        )
    )
    return step, at_ms


def _end(connection: sa.Connection, case_id: str, name: str, at_ms: int) -> None:
    met = [clock.name for clock in TABLE if name in clock.ends]
    void = [clock.name for clock in TABLE if name == clock.voided_by]
    for names, voided in ((met, False), (void, True)):
        if names:
            connection.execute(
                sa.update(clocks)
                .where(
                    clocks.c.case_id == case_id,
                    clocks.c.name.in_(names),
                    clocks.c.ended_ms.is_(None),
                )
                .values(ended_ms=at_ms, ended_by=name, voided=voided)
            )


def _start(connection: sa.Connection, case: _Case, change: Change, name: str, at_ms: int) -> None:
    said = _mapping(change.data.get("data"))
    starting = [
        clock
        for clock in TABLE
        if clock.starts == name and (clock.when is None or said.get(clock.when[0]) == clock.when[1])
    ]
    if not starting:
        return
    rules = rules_of(connection)
    for clock in starting:
        length = rules.length(clock.name, case.side)
        started_ms = change.alert.first_seen_ms if clock.from_breach else at_ms
        ends = due(started_ms, length, rules.calendar)
        connection.execute(
            sa.insert(clocks).values(
                case_id=case.case_id,
                alert_id=change.alert.alert_id,
                name=clock.name,
                basis=clock.basis_for(case.side),
                length=str(length),
                started_ms=started_ms,
                due_ms=ends.due_ms,
                missing_year=ends.missing_year,
            )
        )


def _fall_overdue(connection: sa.Connection, change: Change) -> None:
    connection.execute(
        sa.update(clocks)
        .where(
            clocks.c.id == change.data["clock_id"],
            clocks.c.alert_id == change.alert.alert_id,
            clocks.c.overdue_ms.is_(None),
        )
        .values(overdue_ms=change.at_ms, escalated_ms=change.at_ms)
    )


def _close(connection: sa.Connection, case_id: str, change: Change) -> None:
    """Close the case; what the law asks for after a closing goes on."""
    closed = change.alert.state is State.CLOSED
    going_on = [name for name, clock in BY_NAME.items() if closed and clock.outlives]
    connection.execute(
        sa.update(clocks)
        .where(
            clocks.c.case_id == case_id,
            clocks.c.ended_ms.is_(None),
            clocks.c.name.not_in(going_on),
        )
        .values(ended_ms=change.at_ms, ended_by=str(change.transition.trigger), voided=True)
    )
    _mark_closed(connection, case_id, change.at_ms)


def _mark_closed(connection: sa.Connection, case_id: str, closed_ms: int | None) -> None:
    connection.execute(
        sa.update(cases).where(cases.c.case_id == case_id).values(closed_ms=closed_ms)
    )


def _show_on_alert(connection: sa.Connection, case_id: str, alert: Alert) -> None:
    going = connection.execute(
        sa.select(clocks.c.due_ms, clocks.c.overdue_ms).where(
            clocks.c.case_id == case_id, clocks.c.ended_ms.is_(None)
        )
    ).all()
    running = [row.due_ms for row in going if row.overdue_ms is None and row.due_ms is not None]
    late = any(row.overdue_ms is not None for row in going)
    due_ms = min(running, default=None)
    if late == (OVERDUE in alert.flags) and due_ms == alert.due_ms:
        return
    alert.flags = sorted({*alert.flags} - {OVERDUE} | ({OVERDUE} if late else set()))
    alert.due_ms = due_ms
    connection.execute(
        sa.update(alerts)
        .where(alerts.c.alert_id == alert.alert_id)
        .values(flags=alert.flags, due_ms=due_ms)
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _ms(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a time is a whole number of milliseconds")
    return value
