"""The state machine of an alert: one table of legal transitions with trigger and guard (specs/alerting.md §8).

``NONE`` is the state before the alert exists. An alert latches: nothing but the rows below changes its state, and the
silence of a sensor is not among them. Flags (acknowledged, late, limit_unverified, …) never change the state, but a
guard may read one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from alerts.errors import IllegalTransition

MINUTE_MS = 60_000
CLEAR_FOR_MS = 10 * MINUTE_MS
REOPEN_WINDOW_MS = 24 * 60 * MINUTE_MS

SYSTEM = "system"  # the actor of everything that no person did


class State(StrEnum):
    """Where an alert stands."""

    NONE = ""
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    CLEARED = "cleared"
    DISMISSED = "dismissed"
    REFUTED = "refuted"
    OPEN = "open"
    RESOLVED = "resolved"


class Trigger(StrEnum):
    """What moves an alert."""

    SUSPECT = "suspect"  # sensor, screening or model over the limit
    CONFIRM = "confirm"  # result of a confirmatory method over the limit
    REFUTE = "refute"  # result of a confirmatory method within the limit
    DISMISS = "dismiss"  # an officer says it is a false alarm
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
    acked: bool = False
    clearable: bool = False
    below_since_ms: int | None = None
    recovered_ms: int | None = None
    clear_for_ms: int = CLEAR_FOR_MS
    cleared_ms: int | None = None
    breach_ms: int | None = None
    reopen_window_ms: int = REOPEN_WINDOW_MS


Guard = Callable[[Facts], str]


def _is_person(actor: str) -> bool:
    return bool(actor.strip()) and actor.strip() != SYSTEM


def _confirmatory(facts: Facts) -> str:
    if facts.certainty != "confirmatory":
        return "only the result of a confirmatory method confirms or refutes"
    return ""


def _confirmed_limit(facts: Facts) -> str:
    if refusal := _confirmatory(facts):
        return refusal
    if facts.limit_unverified and not _is_person(facts.actor):
        return "the limit is not verified (待核): a named user must confirm"
    return ""


def _dismissable(facts: Facts) -> str:
    if facts.kind == "test" or facts.certainty not in {"sensor", "model"}:
        return "only sensor and model findings can be dismissed, never tests"
    if not _is_person(facts.actor):
        return "a named user must dismiss"
    return "" if facts.reason.strip() else "a reason is needed"


def _recovered(facts: Facts) -> str:
    if not facts.clearable:
        return "only process parameters clear by themselves"
    if facts.below_since_ms is None or facts.recovered_ms is None:
        return "no value past the recovery threshold yet"
    if facts.recovered_ms - facts.below_since_ms < facts.clear_for_ms:
        return "not past the recovery threshold for long enough"
    return ""


def _in_reopen_window(facts: Facts) -> str:
    if facts.cleared_ms is None or facts.breach_ms is None:
        return "no new breach"
    if facts.breach_ms - facts.cleared_ms > facts.reopen_window_ms:
        return "the reopen window is over: this is a new alert"
    return ""


def _by_person(facts: Facts) -> str:
    if facts.acked:
        return "already acknowledged"
    return "" if _is_person(facts.actor) else "a named user must acknowledge"


def _technical(facts: Facts) -> str:
    return (
        "" if facts.kind not in {"limit", "test"} else "only technical conditions open and resolve"
    )


def _always(_facts: Facts) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table; ``guard`` gives the reason to refuse, or an empty text."""

    source: State
    trigger: Trigger
    target: State
    event: str  # CloudEvents type of the webhook
    guard: Guard


S, T = State, Trigger
TABLE: tuple[Transition, ...] = (
    Transition(S.NONE, T.SUSPECT, S.SUSPECTED, "alert.suspected", _always),
    Transition(S.NONE, T.CONFIRM, S.CONFIRMED, "alert.confirmed", _confirmed_limit),
    Transition(S.SUSPECTED, T.CONFIRM, S.CONFIRMED, "alert.confirmed", _confirmed_limit),
    Transition(S.SUSPECTED, T.REFUTE, S.REFUTED, "alert.refuted", _confirmatory),
    Transition(S.SUSPECTED, T.DISMISS, S.DISMISSED, "alert.dismissed", _dismissable),
    Transition(S.SUSPECTED, T.CLEAR, S.CLEARED, "alert.cleared", _recovered),
    Transition(S.CLEARED, T.REOPEN, S.SUSPECTED, "alert.reopened", _in_reopen_window),
    Transition(S.SUSPECTED, T.RAISE_SEVERITY, S.SUSPECTED, "alert.severity_raised", _always),
    Transition(S.CONFIRMED, T.RAISE_SEVERITY, S.CONFIRMED, "alert.severity_raised", _always),
    *(
        Transition(state, T.ACKNOWLEDGE, state, "alert.acknowledged", _by_person)
        for state in (S.SUSPECTED, S.CONFIRMED, S.CLEARED, S.OPEN)
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
