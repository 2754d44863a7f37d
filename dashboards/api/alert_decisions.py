"""What people decide about an alert: the transitions of the state machine that are theirs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field, StringConstraints
from sqlalchemy import select

from alerts.actions import MAX_REASON
from alerts.alert import Alert
from alerts.decisions import Decision, MissingWordError, decide, open_decisions
from alerts.errors import IllegalTransition, StaleAlert, UnknownAlert
from alerts.states import Trigger
from alerts.tables import alerts
from dashboards.access import SourcesOf, Writer
from dashboards.api.alerts import AlertId, alert_row
from dashboards.api.case_models import NeedRow
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.models import AlertRow, Name, Shape
from dashboards.api.problems import STALE, Problem
from dashboards.api.strict import StrictRoute
from dashboards.sources import Sources

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]

Decided = Literal[
    "acknowledge",
    "order_retest",
    "confirm",
    "dismiss",
    "hand_over",
    "accept",
    "reject_handover",
    "close",
]

router = APIRouter(tags=["alerts"])
writing = APIRouter(tags=["alerts"], route_class=StrictRoute)


class DecisionRow(Shape):
    """Something that may be done to the alert now."""

    trigger: str
    title_zh: str
    title_en: str
    needs: list[NeedRow] = Field(description="What must be said, and what may be (`required`)")


class DecisionList(Shape):
    """What may be done to an alert at ``seq``."""

    alert_id: str
    seq: int
    state: str
    decisions: list[DecisionRow]


class Decide(Shape):
    """A decision; which of the words it takes is said by ``GET …/decisions``."""

    trigger: Decided
    seq: Annotated[int, Field(ge=0, description="Of the alert that was looked at")]
    actor: Name = Field(default="", description="Name of the person; the key's name when empty")
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_REASON)] = ""
    laboratory: Text = ""
    order_id: Text = ""
    agency: Text = ""
    case_no: Text = ""
    outcome: Text = ""


@router.get(
    "/alerts/{alert_id}/decisions",
    summary="What may be done to an alert now",
    responses=READING | documented(404),
)
def decision_list(alert_id: AlertId, sources: SourcesOf) -> DecisionList:
    """Return the legal transitions that people make, with what must be said."""
    with sources.operational.read() as connection:
        query = select(alerts).where(alerts.c.alert_id == alert_id)
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise Problem(404, f"no alert {alert_id!r}")
        alert = Alert.from_row(row)
        found = open_decisions(connection, alert)
    return DecisionList(
        alert_id=alert_id,
        seq=alert.seq,
        state=alert.state,
        decisions=[_row(decision) for decision in found],
    )


@writing.post("/alerts/{alert_id}/transitions", summary="Decide about an alert", responses=WRITING)
def transition(
    alert_id: Annotated[AlertId, Path()], body: Decide, sources: SourcesOf, key: Writer
) -> AlertRow:
    """Make a transition; refused while another state of the alert than ``seq`` is there, naming what is legal."""
    words = body.model_dump(
        include={"reason", "laboratory", "order_id", "agency", "case_no", "outcome"}
    )
    try:
        decide(
            sources.operational,
            alert_id,
            Trigger(body.trigger),
            f"{body.actor or key.name} ({key.id})",
            words,
            seq=body.seq,
            at_ms=sources.now_ms(),
            names=sources.names,
        )
    except MissingWordError as exc:
        raise Problem(422, str(exc), field=exc.field) from exc
    except UnknownAlert as exc:
        raise Problem(404, str(exc)) from exc
    except StaleAlert as exc:
        raise Problem(409, str(exc), code=STALE, **_as_it_is(sources, alert_id)) from exc
    except IllegalTransition as exc:
        more = _as_it_is(sources, alert_id)
        raise Problem(409, str(exc), reason=exc.reason, **more) from exc
    sources.wake.notify()
    sources.wake_sender()
    return alert_row(sources, alert_id)


def _as_it_is(sources: Sources, alert_id: str) -> dict[str, object]:
    now = decision_list(alert_id, sources)
    return {
        "legal": [decision.trigger for decision in now.decisions],
        "seq": now.seq,
        "state": now.state,
    }


def _row(decision: Decision) -> DecisionRow:
    said = [(need, True) for need in decision.needs] + [(need, False) for need in decision.may]
    return DecisionRow(
        trigger=decision.trigger,
        title_zh=decision.zh,
        title_en=decision.en,
        needs=[
            NeedRow(
                field=need.field,
                title_zh=need.zh,
                title_en=need.en,
                kind=need.kind,
                choices=list(need.choices),
                required=required,
            )
            for need, required in said
        ],
    )
