"""What a person does to an alert: acknowledge, dismiss, confirm; each in one transaction with log, outbox and event."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.alert import Alert
from alerts.cases.reading import with_disposal
from alerts.errors import StaleAlert, UnknownAlert
from alerts.states import Trigger
from alerts.tables import alerts
from alerts.transitions import indicator_names, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts.states import Facts
    from alerts.transitions import Names
    from ingest.operational import Operational

MAX_ACTOR = 100  # characters
MAX_REASON = 2000  # characters; a webhook body stays under 20 KB


def _as_it_is(_alert: Alert) -> None:
    """Change nothing."""


def _nothing_more(facts: Facts) -> Facts:
    return facts


def acknowledge(
    operational: Operational,
    alert_id: str,
    actor: str,
    *,
    seq: int | None = None,
    at_ms: int | None = None,
    names: Names = indicator_names,
) -> Alert:
    """Note that ``actor`` has seen the alert; its state stays.

    With ``seq``, only while the alert is still at that ``seq``. Raises UnknownAlert, StaleAlert, IllegalTransition, and
    ValueError for a name that is too long. The caller wakes the sender.
    """
    return act(operational, alert_id, Trigger.ACKNOWLEDGE, actor, seq=seq, at_ms=at_ms, names=names)


def dismiss(
    operational: Operational,
    alert_id: str,
    actor: str,
    reason: str,
    *,
    seq: int | None = None,
    at_ms: int | None = None,
    names: Names = indicator_names,
) -> Alert:
    """Close a suspect as a false alarm; sensor and model findings only, with a reason. Raises as ``acknowledge``."""
    return act(
        operational, alert_id, Trigger.DISMISS, actor, reason, seq=seq, at_ms=at_ms, names=names
    )


def confirm(
    operational: Operational,
    alert_id: str,
    actor: str,
    reason: str = "",
    *,
    seq: int | None = None,
    at_ms: int | None = None,
    names: Names = indicator_names,
) -> Alert:
    """Confirm a suspect whose confirmatory result waits because its limit is unverified. Raises as ``acknowledge``."""
    return act(
        operational, alert_id, Trigger.CONFIRM, actor, reason, seq=seq, at_ms=at_ms, names=names
    )


def act(
    operational: Operational,
    alert_id: str,
    trigger: Trigger,
    actor: str,
    reason: str = "",
    *,
    seq: int | None = None,
    at_ms: int | None = None,
    names: Names = indicator_names,
    data: dict[str, object] | None = None,
    edit: Callable[[Alert], None] = _as_it_is,
    know: Callable[[Facts], Facts] = _nothing_more,
) -> Alert:
    """Make one transition in a transaction of its own; see ``act_within``. The caller wakes the sender."""
    now_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    with operational.write() as connection:
        return act_within(
            connection,
            alert_id,
            trigger,
            actor,
            reason,
            seq=seq,
            at_ms=now_ms,
            names=names,
            data=data,
            edit=edit,
            know=know,
        )


def act_within(
    connection: sa.Connection,
    alert_id: str,
    trigger: Trigger,
    actor: str,
    reason: str = "",
    *,
    at_ms: int,
    seq: int | None = None,
    names: Names = indicator_names,
    data: dict[str, object] | None = None,
    edit: Callable[[Alert], None] = _as_it_is,
    know: Callable[[Facts], Facts] = _nothing_more,
) -> Alert:
    """Make one transition in the caller's transaction, with log, outbox and event.

    ``edit`` changes the alert before the guard looks (an agency, an outcome, flags); ``data`` is what else
    is said and is kept in the log; ``know`` adds what the alert itself does not know (``disposal``, ``same_method``,
    ``same_laboratory``). With ``seq``, only while the alert is still at that ``seq``. Raises UnknownAlert, StaleAlert,
    IllegalTransition, and ValueError for a name or reason that is too long; then nothing was changed.
    """
    actor, reason = actor.strip(), reason.strip()
    if len(actor) > MAX_ACTOR or len(reason) > MAX_REASON:
        message = f"at most {MAX_ACTOR} characters for actor, {MAX_REASON} for reason"
        raise ValueError(message)
    row = connection.execute(sa.select(alerts).where(alerts.c.alert_id == alert_id))
    found = row.mappings().one_or_none()
    if found is None:
        raise UnknownAlert(alert_id)
    alert = Alert.from_row(found)
    read_seq = alert.seq
    if seq is not None and seq != read_seq:
        raise StaleAlert(alert_id, seq)
    edit(alert)
    seen = know(alert.facts(actor=actor, reason=reason))
    if trigger is Trigger.CLOSE:
        seen = with_disposal(connection, alert_id, seen)
    if trigger is Trigger.ACKNOWLEDGE and alert.acked_ms is None:
        alert.acked_by, alert.acked_ms = actor, at_ms
    change = alert.move(trigger, seen, at_ms, data=data)
    done = connection.execute(
        sa.update(alerts)
        .where(alerts.c.alert_id == alert_id, alerts.c.seq == read_seq)
        .values(alert.to_row())
    )
    if done.rowcount != 1:
        raise StaleAlert(alert_id, read_seq)
    record(connection, [change], names)
    return alert
