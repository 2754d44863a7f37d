"""The state machine of an alert: one table of legal transitions with trigger and guard (specs/alerting.md §8).

``NONE`` is the state before the alert exists. An alert latches: nothing but the rows below changes its state, and the
silence of a sensor is not among them. Flags (acknowledged, late, limit_unverified, …) never change the state, but a
guard may read one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from alerts.bilingual import both
from alerts.errors import IllegalTransition

MINUTE_MS = 60_000
CLEAR_FOR_MS = 10 * MINUTE_MS
REOPEN_WINDOW_MS = 24 * 60 * MINUTE_MS

SYSTEM = "system"  # the actor of everything that no person did
POLICY = "policy:"  # begins the actor of what a policy ordered; its id follows
UNVERIFIED = both(
    "限值待核，须由具名人员核定", "the limit is not verified: a named user must confirm"
)
LEGAL_KINDS = frozenset({"limit", "test", "cluster"})


class State(StrEnum):
    """Where an alert stands."""

    NONE = ""
    PENDING = "pending"
    GONE = "gone"
    SUSPECTED = "suspected"
    RETEST_ORDERED = "retest_ordered"
    CONFIRMED = "confirmed"
    HANDED_OVER = "handed_over"
    IN_ENFORCEMENT = "in_enforcement"
    CLEARED = "cleared"
    DISMISSED = "dismissed"
    REFUTED = "refuted"
    CLOSED = "closed"
    SUPERSEDED = "superseded"
    OPEN = "open"
    RESOLVED = "resolved"


class Trigger(StrEnum):
    """What moves an alert."""

    AWAIT = "await"  # over the limit, but not yet for its dwell; nobody is told
    FADE = "fade"  # within the limit before the dwell was met; nobody is told, it is counted
    SUSPECT = "suspect"  # sensor, screening or model over the limit
    ORDER_RETEST = "order_retest"  # an officer, or a policy, wants it tested again
    CONFIRM = "confirm"  # result of a confirmatory method over the limit
    REFUTE = "refute"  # result of a confirmatory method within the limit
    DISMISS = "dismiss"  # an officer says it is a false alarm
    HAND_OVER = "hand_over"  # an officer sends the package to the enforcement agency
    ACCEPT = "accept"  # the agency took it: business receipt with a case number
    REJECT_HANDOVER = "reject_handover"  # the agency did not
    CLOSE = "close"  # an officer, with the outcome
    SUPERSEDE = "supersede"  # the record was corrected or withdrawn
    STEP = "step"  # a step of the case was taken; the state stays
    FALL_OVERDUE = "fall_overdue"  # a deadline passed; the state stays
    UPDATE = "update"  # flags or references changed; the state stays
    CLEAR = "clear"  # a process parameter came back
    REOPEN = "reopen"  # it breached again
    RAISE_SEVERITY = "raise_severity"  # a graver breach of the same thing
    ACKNOWLEDGE = "acknowledge"  # a person has seen it
    OPEN = "open"  # a technical condition began
    RESOLVE = "resolve"  # it ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the guards look at; times are UTC milliseconds of the event, not of its arrival."""

    kind: str = "limit"  # limit | test | technical kinds
    actor: str = SYSTEM
    reason: str = ""
    certainty: str = "sensor"  # sensor | model | screening | confirmatory
    limit_unverified: bool = False
    same_method: bool = False  # as the screening that raised the alert
    same_laboratory: bool = False
    agency: str = ""
    case_no: str = ""
    outcome: str = ""
    disposal: bool = False  # recorded as a step of the case
    acked: bool = False
    clearable: bool = False
    below_since_ms: int | None = None
    recovered_ms: int | None = None
    clear_for_ms: int = CLEAR_FOR_MS
    cleared_ms: int | None = None
    breach_ms: int | None = None
    reopen_window_ms: int = REOPEN_WINDOW_MS


Guard = Callable[[Facts], str]


def is_person(actor: str) -> bool:
    """Tell whether ``actor`` is neither the system nor a policy.

    >>> is_person("li"), is_person("system"), is_person("policy:county")
    (True, False, False)
    """
    name = actor.strip()
    return bool(name) and name != SYSTEM and not name.startswith(POLICY)


def _by_officer(facts: Facts) -> str:
    return "" if is_person(facts.actor) else both("须由具名人员操作", "a named user must do this")


def _confirmatory(facts: Facts) -> str:
    if facts.certainty != "confirmatory":
        return both(
            "只有确证方法的结果才能确证或否定",
            "only the result of a confirmatory method confirms or refutes",
        )
    if facts.same_method:
        return both("方法须不同于初筛方法", "the method must be another than that of the screening")
    if facts.same_laboratory:
        return both(
            "检测机构须不同于初筛机构", "the laboratory must be another than who did the screening"
        )
    return ""


def _confirmed_limit(facts: Facts) -> str:
    if refusal := _confirmatory(facts):
        return refusal
    if facts.limit_unverified and not is_person(facts.actor):
        return UNVERIFIED
    return ""


def _dismissable(facts: Facts) -> str:
    if facts.kind == "test" or facts.certainty not in {"sensor", "model"}:
        return both(
            "只有传感器和模型的告警可以排除，检测类不可",
            "only sensor and model findings can be dismissed, never tests",
        )
    if not is_person(facts.actor):
        return both("须由具名人员排除", "a named user must dismiss")
    return "" if facts.reason.strip() else both("须说明理由", "a reason is needed")


def _recovered(facts: Facts) -> str:
    if not facts.clearable:
        return both("只有过程参数会自行恢复", "only process parameters clear by themselves")
    if facts.below_since_ms is None or facts.recovered_ms is None:
        return both("尚无越过恢复阈值的数据", "no value past the recovery threshold yet")
    if facts.recovered_ms - facts.below_since_ms < facts.clear_for_ms:
        return both("越过恢复阈值的时间不够", "not past the recovery threshold for long enough")
    return ""


def _in_reopen_window(facts: Facts) -> str:
    if facts.cleared_ms is None or facts.breach_ms is None:
        return both("没有新的超标", "no new breach")
    if facts.breach_ms - facts.cleared_ms > facts.reopen_window_ms:
        return both("已过重开时限，应为新告警", "the reopen window is over: this is a new alert")
    return ""


def _by_person(facts: Facts) -> str:
    if facts.acked:
        return both("已经签收", "already acknowledged")
    return (
        "" if is_person(facts.actor) else both("须由具名人员签收", "a named user must acknowledge")
    )


def _legal_kind(facts: Facts) -> str:
    if facts.kind not in LEGAL_KINDS:
        return both(
            "技术类告警只有发生和恢复", "a technical condition opens and resolves, nothing else"
        )
    return ""


def _retest(facts: Facts) -> str:
    if refusal := _legal_kind(facts):
        return refusal
    if is_person(facts.actor) or facts.actor.startswith(POLICY):
        return ""
    return both("须由具名人员或策略下达", "a named user or a policy must order it")


def _case_step(facts: Facts) -> str:
    return _legal_kind(facts) or _by_officer(facts)


def _superseded(facts: Facts) -> str:
    if refusal := _legal_kind(facts):
        return refusal
    return "" if facts.reason.strip() else both("须说明理由", "a reason is needed")


def _dwells(facts: Facts) -> str:
    return (
        "" if facts.clearable else both("法定限值不设驻留时间", "the dwell of a legal limit is 0")
    )


def _handover(facts: Facts) -> str:
    if refusal := _by_officer(facts):
        return refusal
    return "" if facts.agency.strip() else both("须写明执法机构", "the agency must be named")


def _accepted(facts: Facts) -> str:
    return (
        ""
        if facts.case_no.strip()
        else both("须有执法机构的案件编号", "the agency's case number is needed")
    )


def _rejected(facts: Facts) -> str:
    return "" if facts.reason.strip() else both("须说明理由", "a reason is needed")


def _closable(facts: Facts) -> str:
    if refusal := _by_officer(facts):
        return refusal
    if not facts.outcome.strip():
        return both("须有处理结果", "an outcome is needed")
    if not facts.disposal and not facts.reason.strip():
        return both(
            "须有处置记录，或说明没有处置的理由",
            "a record of the disposal is needed, or a reason why there is none",
        )
    return ""


def _closable_when_cleared(facts: Facts) -> str:
    if refusal := _by_officer(facts):
        return refusal
    if not facts.outcome.strip():
        return both("须有处理结果", "an outcome is needed")
    return "" if facts.acked else both("须先签收", "acknowledge it first")


def _technical(facts: Facts) -> str:
    return (
        ""
        if facts.kind not in LEGAL_KINDS
        else both("只有技术类告警会发生和恢复", "only technical conditions open and resolve")
    )


def _always(_facts: Facts) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table; ``guard`` gives the reason to refuse, in both languages, or an empty text."""

    source: State
    trigger: Trigger
    target: State
    event: str  # CloudEvents type of the webhook; blank: told to nobody
    guard: Guard


S, T = State, Trigger
LAW = (S.SUSPECTED, S.RETEST_ORDERED, S.CONFIRMED, S.HANDED_OVER, S.IN_ENFORCEMENT)
"""Open states of what the law cares for, in the order of the way."""
ENDED = (S.CLEARED, S.DISMISSED, S.REFUTED, S.CLOSED)
TABLE: tuple[Transition, ...] = (
    Transition(S.NONE, T.AWAIT, S.PENDING, "", _dwells),
    Transition(S.PENDING, T.FADE, S.GONE, "", _always),
    *(
        Transition(state, T.SUSPECT, S.SUSPECTED, "alert.suspected", _always)
        for state in (S.NONE, S.PENDING)
    ),
    Transition(S.NONE, T.CONFIRM, S.CONFIRMED, "alert.confirmed", _confirmed_limit),
    Transition(S.SUSPECTED, T.ORDER_RETEST, S.RETEST_ORDERED, "alert.retest_ordered", _retest),
    *(
        row
        for state in (S.SUSPECTED, S.RETEST_ORDERED)
        for row in (
            Transition(state, T.CONFIRM, S.CONFIRMED, "alert.confirmed", _confirmed_limit),
            Transition(state, T.REFUTE, S.REFUTED, "alert.refuted", _confirmatory),
        )
    ),
    Transition(S.SUSPECTED, T.DISMISS, S.DISMISSED, "alert.dismissed", _dismissable),
    Transition(S.SUSPECTED, T.CLEAR, S.CLEARED, "alert.cleared", _recovered),
    Transition(S.CLEARED, T.REOPEN, S.SUSPECTED, "alert.reopened", _in_reopen_window),
    Transition(S.CONFIRMED, T.HAND_OVER, S.HANDED_OVER, "alert.handed_over", _handover),
    Transition(S.HANDED_OVER, T.ACCEPT, S.IN_ENFORCEMENT, "alert.accepted", _accepted),
    Transition(S.HANDED_OVER, T.REJECT_HANDOVER, S.CONFIRMED, "alert.handover_rejected", _rejected),
    Transition(S.IN_ENFORCEMENT, T.CLOSE, S.CLOSED, "alert.closed", _closable),
    Transition(S.CONFIRMED, T.CLOSE, S.CLOSED, "alert.closed", _closable),
    Transition(S.CLEARED, T.CLOSE, S.CLOSED, "alert.closed", _closable_when_cleared),
    *(
        Transition(state, T.SUPERSEDE, S.SUPERSEDED, "alert.superseded", _superseded)
        for state in (*LAW, *ENDED)
    ),
    *(
        Transition(state, T.RAISE_SEVERITY, state, "alert.severity_raised", _always)
        for state in LAW
    ),
    *(
        Transition(state, T.ACKNOWLEDGE, state, "alert.acknowledged", _by_person)
        for state in (*LAW, S.CLEARED, S.OPEN)
    ),
    *(
        Transition(state, T.STEP, state, "alert.case_step", _case_step)
        for state in (*LAW, S.REFUTED, S.CLOSED)
    ),
    *(
        Transition(state, T.FALL_OVERDUE, state, "alert.overdue", _always)
        for state in (*LAW, S.REFUTED, S.CLOSED)
    ),
    *(
        Transition(state, T.UPDATE, state, "alert.updated", _always)
        for state in (*LAW, *ENDED, S.SUPERSEDED, S.OPEN, S.RESOLVED)
    ),
    Transition(S.NONE, T.OPEN, S.OPEN, "alert.open", _technical),
    Transition(S.OPEN, T.RESOLVE, S.RESOLVED, "alert.resolved", _technical),
)
_BY_KEY = {(row.source, row.trigger): row for row in TABLE}


def legal(state: State, facts: Facts | None = None) -> tuple[Transition, ...]:
    """Return the transitions that leave ``state``; with ``facts``, only those whose guard lets them pass now."""
    rows = tuple(row for row in TABLE if row.source == state)
    return rows if facts is None else tuple(row for row in rows if not row.guard(facts))


def step(state: State, trigger: Trigger, facts: Facts) -> Transition:
    """Return the transition that ``trigger`` makes from ``state``; raise IllegalTransition listing the legal ones.

    >>> step(State.NONE, Trigger.SUSPECT, Facts()).target
    <State.SUSPECTED: 'suspected'>
    """
    row = _BY_KEY.get((state, trigger))
    refusal = "" if row is None else row.guard(facts)
    if row is None or refusal:
        raise IllegalTransition(
            state, trigger, tuple(f"{r.trigger}" for r in legal(state)), refusal
        )
    return row


def allows(state: State, trigger: Trigger, facts: Facts) -> bool:
    """Tell whether ``step`` would succeed."""
    row = _BY_KEY.get((state, trigger))
    return row is not None and not row.guard(facts)


def refusal(state: State, trigger: Trigger, facts: Facts) -> str:
    """Return why the guard of a row of the table refuses; blank when it does not, or when there is no such row."""
    row = _BY_KEY.get((state, trigger))
    return "" if row is None else row.guard(facts)
