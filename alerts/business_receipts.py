"""What a regulator's system says of an alert: received, accepted with a case number, rejected, outcome.

It comes with a receipt key of the endpoint and concerns alerts that were sent to this endpoint, no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.actions import act_within
from alerts.alert import Alert
from alerts.delivery.errors import EndpointError
from alerts.states import State, Trigger, allows
from alerts.tables import alert_transitions, alerts, endpoints, outbox, receipts

if TYPE_CHECKING:
    from alerts.transitions import Names
    from ingest.operational import Operational

RECEIVED, ACCEPTED, REJECTED, OUTCOME = "received", "accepted", "rejected", "outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One statement; ``seq`` is that of the event it answers, ``at_ms`` when it was decided (UTC ms)."""

    alert_id: str
    seq: int
    decision: str
    at_ms: int
    webhook_id: str = ""
    case_no: str = ""
    handler: str = ""
    reason: str = ""
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of it; ``repeated``: it was here before, and had no further effect."""

    repeated: bool
    state: str
    seq: int


def take(
    operational: Operational, endpoint_id: str, receipt: Receipt, *, now_ms: int, names: Names
) -> Taken:
    """Record a receipt and do what it says, in one transaction. The caller wakes the sender.

    Raises EndpointError 404 for an alert that was not sent to this endpoint, 409 for a receipt of a hand-over that is
    over, 422 for one that lacks something; IllegalTransition when the alert is elsewhere. Nothing is half done.
    """
    _complete(receipt)
    with operational.write() as connection:
        _sent(connection, endpoint_id, receipt)
        row = connection.execute(sa.select(alerts).where(alerts.c.alert_id == receipt.alert_id))
        alert = Alert.from_row(row.mappings().one())
        if _known(connection, endpoint_id, receipt):
            return Taken(repeated=True, state=alert.state, seq=alert.seq)
        connection.execute(
            sa.insert(receipts).values(
                endpoint_id=endpoint_id,
                alert_id=receipt.alert_id,
                alert_seq=receipt.seq,
                webhook_id=receipt.webhook_id,
                decision=receipt.decision,
                case_no=receipt.case_no,
                handler=receipt.handler,
                reason=receipt.reason,
                outcome=receipt.outcome,
                at_ms=receipt.at_ms,
                received_ms=now_ms,
            )
        )
        trigger = _trigger(connection, alert, receipt)
        if trigger is None:
            return Taken(repeated=False, state=alert.state, seq=alert.seq)
        name = connection.scalar(sa.select(endpoints.c.name).where(endpoints.c.id == endpoint_id))
        after = act_within(
            connection,
            receipt.alert_id,
            trigger,
            f"{(receipt.handler or str(name))[:55]} ({endpoint_id})",
            receipt.reason,
            at_ms=now_ms,
            names=names,
            data=_data(endpoint_id, receipt),
            edit=lambda now: _edit(now, receipt),
        )
        return Taken(repeated=False, state=after.state, seq=after.seq)


def _complete(receipt: Receipt) -> None:
    needs = {ACCEPTED: "case_no", REJECTED: "reason", OUTCOME: "outcome"}
    needed = needs.get(receipt.decision)
    if needed is not None and not getattr(receipt, needed).strip():
        raise EndpointError(422, f"{needed}: needed with {receipt.decision}", field=needed)


def _sent(connection: sa.Connection, endpoint_id: str, receipt: Receipt) -> None:
    o = outbox.c
    query = sa.select(o.webhook_id, o.alert_seq).where(
        o.endpoint_id == endpoint_id, o.alert_id == receipt.alert_id
    )
    rows = connection.execute(query).all()
    if not rows:  # the same words for an alert of others and for none: nobody can feel for ids
        raise EndpointError(404, f"no alert {receipt.alert_id!r} was sent to this endpoint")
    seqs = {row.alert_seq for row in rows}
    if receipt.webhook_id:
        seqs = {row.alert_seq for row in rows if row.webhook_id == receipt.webhook_id}
    if receipt.seq not in seqs:
        raise EndpointError(
            422, "seq, webhook_id: not those of an event that was sent", field="seq"
        )


def _known(connection: sa.Connection, endpoint_id: str, receipt: Receipt) -> bool:
    r = receipts.c
    query = sa.select(r.id).where(
        r.endpoint_id == endpoint_id,
        r.alert_id == receipt.alert_id,
        r.alert_seq == receipt.seq,
        r.decision == receipt.decision,
        r.case_no == receipt.case_no,
    )
    return connection.scalar(query) is not None


def _trigger(connection: sa.Connection, alert: Alert, receipt: Receipt) -> Trigger | None:
    """Return what the receipt does to the alert; None when it is only kept."""
    if receipt.decision == RECEIVED:
        facts = alert.facts(actor=receipt.handler or "endpoint")
        return Trigger.ACKNOWLEDGE if allows(alert.state, Trigger.ACKNOWLEDGE, facts) else None
    if receipt.decision == OUTCOME:
        facts = alert.facts()
        return Trigger.UPDATE if allows(alert.state, Trigger.UPDATE, facts) else None
    begun = receipt.decision == ACCEPTED and alert.state is State.IN_ENFORCEMENT
    if begun and alert.handover.get("case_no") == receipt.case_no:
        return None  # an officer was quicker
    log = alert_transitions.c
    handed_over = connection.scalar(
        sa.select(sa.func.max(log.seq)).where(
            log.alert_id == alert.alert_id, log.event == "alert.handed_over"
        )
    )
    if handed_over is not None and receipt.seq < handed_over:
        raise EndpointError(
            409, f"it was handed over (again) with seq {handed_over}; answer that one"
        )
    return Trigger.ACCEPT if receipt.decision == ACCEPTED else Trigger.REJECT_HANDOVER


def _edit(alert: Alert, receipt: Receipt) -> None:
    if receipt.decision == ACCEPTED:
        alert.handover = {
            **alert.handover,
            "case_no": receipt.case_no,
            "handler": receipt.handler,
            "accepted_ms": receipt.at_ms,
        }


def _data(endpoint_id: str, receipt: Receipt) -> dict[str, object]:
    said = {
        "case_no": receipt.case_no,
        "handler": receipt.handler,
        "outcome": receipt.outcome,
        "webhook_id": receipt.webhook_id,
    }
    found: dict[str, object] = {"receipt": receipt.decision, "endpoint_id": endpoint_id}
    return found | {name: value for name, value in said.items() if value}
