"""What a person may decide about an alert now, what must be said with it, and the doing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alerts.actions import act
from alerts.cases.reading import with_disposal
from alerts.cases.steps import Need
from alerts.states import State, Trigger, legal
from alerts.transitions import indicator_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from alerts.alert import Alert
    from alerts.states import Facts
    from alerts.transitions import Names
    from ingest.operational import Operational

OUTCOMES = (
    "penalised",  # 行政处罚
    "ordered_to_correct",  # 责令改正
    "transferred",  # 移送司法
    "recalled",  # 召回
    "destroyed",  # 销毁
    "harmless_treatment",  # 无害化处理
    "not_filed",  # 不予立案
    "no_action",  # 无需处置
)
_REASON = Need("reason", "理由", "reason")


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that a person may do: its name in both languages and what must be said; ``may`` can be left out."""

    trigger: Trigger
    zh: str
    en: str
    needs: tuple[Need, ...] = ()
    may: tuple[Need, ...] = ()


DECISIONS: tuple[Decision, ...] = (
    Decision(Trigger.ACKNOWLEDGE, "签收", "Acknowledge"),
    Decision(
        Trigger.ORDER_RETEST,
        "下达复检",
        "Order a re-test",
        may=(
            Need("laboratory", "检测机构", "laboratory"),
            Need("order_id", "委托单号", "order number"),
            _REASON,
        ),
    ),
    Decision(Trigger.CONFIRM, "确认超标", "Confirm", needs=(_REASON,)),
    Decision(Trigger.DISMISS, "排除（误报）", "Dismiss as a false alarm", needs=(_REASON,)),
    Decision(
        Trigger.HAND_OVER,
        "移交执法",
        "Hand over to enforcement",
        needs=(Need("agency", "执法机构", "agency"),),
        may=(_REASON,),
    ),
    Decision(
        Trigger.ACCEPT,
        "执法立案回执",
        "Accepted by enforcement",
        needs=(Need("case_no", "案件编号", "case number"),),
        may=(_REASON,),
    ),
    Decision(Trigger.REJECT_HANDOVER, "执法退回", "Returned by the agency", needs=(_REASON,)),
    Decision(
        Trigger.CLOSE,
        "办结",
        "Close",
        needs=(Need("outcome", "处理结果", "outcome", "choice", OUTCOMES),),
        may=(_REASON,),
    ),
)
BY_TRIGGER = {decision.trigger: decision for decision in DECISIONS}


class MissingWordError(ValueError):
    """What must be said was not, or is none of the choices; ``field`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def open_decisions(connection: sa.Connection, alert: Alert) -> list[Decision]:
    """Return what a person may do to ``alert`` as it stands, in the order of the way."""
    said = {need.field: "x" for decision in DECISIONS for need in decision.needs}
    facts = _with_words(alert.facts(actor="somebody", reason="x"), said)
    facts = with_disposal(connection, alert.alert_id, facts)
    triggers = {row.trigger for row in legal(alert.state, facts)}
    found = [decision for decision in DECISIONS if decision.trigger in triggers]
    if any(d.trigger is Trigger.CLOSE for d in found) and not _may_close_silently(alert, facts):
        found = [
            replace(d, needs=(*d.needs, _REASON), may=()) if d.trigger is Trigger.CLOSE else d
            for d in found
        ]
    return found


def decide(
    operational: Operational,
    alert_id: str,
    trigger: Trigger,
    actor: str,
    words: Mapping[str, str],
    *,
    seq: int,
    at_ms: int,
    names: Names = indicator_names,
) -> Alert:
    """Make a person's transition while the alert is at ``seq``.

    ``words`` are what ``needs`` and ``may`` of the decision name. Raises MissingWordError, UnknownAlert, StaleAlert and
    IllegalTransition; then nothing was changed. The caller wakes the sender.
    """
    decision = BY_TRIGGER.get(trigger)
    if decision is None:
        raise MissingWordError(
            "trigger", f"nobody decides {trigger}; it follows from results and time"
        )
    said = {name: text.strip() for name, text in words.items() if text.strip()}
    _check(decision, said)
    data = {name: text for name, text in said.items() if name != "reason"}

    def edit(alert: Alert) -> None:
        _note(alert, trigger, said, at_ms)

    return act(
        operational,
        alert_id,
        trigger,
        actor,
        said.get("reason", ""),
        seq=seq,
        at_ms=at_ms,
        names=names,
        data=dict(data),
        edit=edit,
    )


def _check(decision: Decision, said: Mapping[str, str]) -> None:
    known = {need.field: need for need in (*decision.needs, *decision.may, _REASON)}
    for name, text in said.items():
        if name not in known:
            raise MissingWordError(name, f"{decision.trigger} takes no {name}")
        choices = known[name].choices
        if choices and text not in choices:
            raise MissingWordError(name, f"{name}: one of {', '.join(choices)}")
    for need in decision.needs:
        if need.field not in said:
            raise MissingWordError(need.field, f"{decision.trigger} needs {need.field}")


def _note(alert: Alert, trigger: Trigger, said: Mapping[str, str], at_ms: int) -> None:
    if trigger is Trigger.ORDER_RETEST:
        alert.retest = {key: said[key] for key in ("order_id", "laboratory") if key in said}
    elif trigger is Trigger.HAND_OVER:
        alert.handover = {"agency": said["agency"], "at_ms": at_ms}
    elif trigger is Trigger.ACCEPT:
        alert.handover = {**alert.handover, "case_no": said["case_no"], "accepted_ms": at_ms}
    elif trigger is Trigger.CLOSE:
        alert.outcome = said["outcome"]


def _with_words(facts: Facts, said: Mapping[str, str]) -> Facts:
    return replace(
        facts,
        agency=facts.agency or said["agency"],
        case_no=facts.case_no or said["case_no"],
        outcome=facts.outcome or said["outcome"],
    )


def _may_close_silently(alert: Alert, facts: Facts) -> bool:
    """Tell whether closing needs no reason: a disposal is on record, or nothing was there to dispose of."""
    return facts.disposal or alert.state is State.CLEARED
