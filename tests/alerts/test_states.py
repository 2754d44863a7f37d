"""The table of the state machine: what is legal, what is refused, and that the refusal says what would be legal."""

from __future__ import annotations

import itertools

import pytest

from alerts.errors import IllegalTransition
from alerts.states import TABLE, Facts, State, Trigger, allows, legal, step
from alerts.tables import OPEN_STATES

OFFICER = Facts(actor="li", reason="seen on site")
GOOD = {
    Trigger.AWAIT: Facts(clearable=True),
    Trigger.FADE: Facts(clearable=True),
    Trigger.SUSPECT: Facts(),
    Trigger.ORDER_RETEST: OFFICER,
    Trigger.CONFIRM: Facts(certainty="confirmatory"),
    Trigger.REFUTE: Facts(certainty="confirmatory"),
    Trigger.DISMISS: OFFICER,
    Trigger.CLEAR: Facts(clearable=True, below_since_ms=0, recovered_ms=600_000),
    Trigger.REOPEN: Facts(cleared_ms=0, breach_ms=1),
    Trigger.HAND_OVER: Facts(actor="li", agency="county enforcement"),
    Trigger.ACCEPT: Facts(case_no="2026-17"),
    Trigger.REJECT_HANDOVER: Facts(reason="not our county"),
    Trigger.CLOSE: Facts(actor="li", outcome="destroyed", disposal=True, acked=True),
    Trigger.SUPERSEDE: Facts(reason="record r-1 was corrected"),
    Trigger.RAISE_SEVERITY: Facts(),
    Trigger.ACKNOWLEDGE: Facts(actor="li"),
    Trigger.STEP: OFFICER,
    Trigger.FALL_OVERDUE: Facts(),
    Trigger.UPDATE: Facts(),
    Trigger.OPEN: Facts(kind="store_down"),
    Trigger.RESOLVE: Facts(kind="store_down"),
}
ON_THE_WAY = ("suspected", "retest_ordered", "confirmed", "handed_over", "in_enforcement")
AT_THE_END = ("cleared", "dismissed", "refuted", "closed")
LEGAL = {
    ("", "await"): "pending",
    ("pending", "fade"): "gone",
    ("pending", "suspect"): "suspected",
    ("", "suspect"): "suspected",
    ("", "confirm"): "confirmed",
    ("suspected", "order_retest"): "retest_ordered",
    ("suspected", "confirm"): "confirmed",
    ("suspected", "refute"): "refuted",
    ("retest_ordered", "confirm"): "confirmed",
    ("retest_ordered", "refute"): "refuted",
    ("suspected", "dismiss"): "dismissed",
    ("suspected", "clear"): "cleared",
    ("cleared", "reopen"): "suspected",
    ("confirmed", "hand_over"): "handed_over",
    ("handed_over", "accept"): "in_enforcement",
    ("handed_over", "reject_handover"): "confirmed",
    ("in_enforcement", "close"): "closed",
    ("confirmed", "close"): "closed",
    ("cleared", "close"): "closed",
    ("", "open"): "open",
    ("open", "resolve"): "resolved",
    **{(state, "supersede"): "superseded" for state in (*ON_THE_WAY, *AT_THE_END)},
    **{(state, "raise_severity"): state for state in ON_THE_WAY},
    **{(state, "acknowledge"): state for state in (*ON_THE_WAY, "cleared", "open")},
    **{(state, "step"): state for state in (*ON_THE_WAY, "refuted", "closed")},
    **{(state, "fall_overdue"): state for state in (*ON_THE_WAY, "refuted", "closed")},
    **{
        (state, "update"): state
        for state in (*ON_THE_WAY, *AT_THE_END, "superseded", "open", "resolved")
    },
}


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(State, Trigger)))
def test_only_the_specified_transitions_are_legal(state: State, trigger: Trigger) -> None:
    target = LEGAL.get((state, trigger))
    if target is not None:
        assert step(state, trigger, GOOD[trigger]).target == target
        return
    with pytest.raises(IllegalTransition) as caught:
        step(state, trigger, GOOD[trigger])
    assert caught.value.legal == tuple(row.trigger for row in legal(state))
    for name in caught.value.legal:
        assert name in str(caught.value)


@pytest.mark.parametrize("state", [State.DISMISSED, State.REFUTED, State.CLOSED, State.RESOLVED])
def test_an_alert_that_has_ended_never_opens_again(state: State) -> None:
    assert not {row.target for row in legal(state)} & set(OPEN_STATES)


@pytest.mark.parametrize(
    ("state", "trigger", "facts"),
    [
        pytest.param("suspected", "order_retest", Facts(actor="system"), id="nobody ordered it"),
        pytest.param("suspected", "confirm", Facts(certainty="confirmatory", same_method=True), id="same method"),
        pytest.param("suspected", "refute", Facts(certainty="confirmatory", same_laboratory=True), id="same lab"),
        pytest.param("confirmed", "hand_over", Facts(actor="li"), id="no agency"),
        pytest.param("confirmed", "hand_over", Facts(actor="system", agency="x"), id="system hands over"),
        pytest.param("handed_over", "accept", Facts(actor="li"), id="no case number"),
        pytest.param("handed_over", "reject_handover", Facts(actor="li"), id="rejected without a reason"),
        pytest.param("in_enforcement", "close", Facts(actor="li", disposal=True), id="no outcome"),
        pytest.param("in_enforcement", "close", Facts(actor="li", outcome="destroyed"), id="no disposal, no reason"),
        pytest.param("cleared", "close", Facts(actor="li", outcome="false_alarm", disposal=True), id="unseen"),
        pytest.param("suspected", "supersede", Facts(actor="li"), id="superseded without a reason"),
        pytest.param("confirmed", "step", Facts(actor="system"), id="step of nobody"),
        pytest.param("", "await", Facts(), id="a legal limit has no dwell"),
    ],
)  # fmt: skip
def test_guards_of_the_way_refuse(state: str, trigger: str, facts: Facts) -> None:
    with pytest.raises(IllegalTransition) as caught:
        step(State(state), Trigger(trigger), facts)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("trigger", "facts"),
    [
        pytest.param(
            Trigger.DISMISS,
            Facts(kind="test", certainty="screening", actor="li", reason="x"),
            id="a test is never dismissed",
        ),
        pytest.param(Trigger.DISMISS, Facts(actor="li", reason="  "), id="no reason"),
        pytest.param(Trigger.DISMISS, Facts(actor="system", reason="x"), id="no person"),
        pytest.param(
            Trigger.CLEAR, Facts(below_since_ms=0, recovered_ms=10**9), id="latching limit"
        ),
        pytest.param(Trigger.CLEAR, Facts(clearable=True), id="no data clears nothing"),
        pytest.param(
            Trigger.CLEAR,
            Facts(clearable=True, below_since_ms=0, recovered_ms=599_999),
            id="too short",
        ),
        pytest.param(Trigger.CONFIRM, Facts(certainty="screening"), id="screening never confirms"),
        pytest.param(Trigger.REFUTE, Facts(certainty="screening"), id="screening never refutes"),
        pytest.param(
            Trigger.CONFIRM,
            Facts(certainty="confirmatory", limit_unverified=True),
            id="unverified limit needs a person",
        ),
        pytest.param(Trigger.ACKNOWLEDGE, Facts(actor="li", acked=True), id="twice"),
        pytest.param(Trigger.ACKNOWLEDGE, Facts(actor=" "), id="nobody"),
    ],
)
def test_guards_refuse_from_suspected(trigger: Trigger, facts: Facts) -> None:
    assert not allows(State.SUSPECTED, trigger, facts)
    with pytest.raises(IllegalTransition) as caught:
        step(State.SUSPECTED, trigger, facts)
    assert caught.value.reason


def test_named_user_confirms_an_unverified_limit() -> None:
    facts = Facts(certainty="confirmatory", limit_unverified=True, actor="li")
    assert step(State.SUSPECTED, Trigger.CONFIRM, facts).target is State.CONFIRMED


def test_reopen_window_ends() -> None:
    day_ms = 24 * 3600 * 1000
    assert allows(State.CLEARED, Trigger.REOPEN, Facts(cleared_ms=0, breach_ms=day_ms))
    assert not allows(State.CLEARED, Trigger.REOPEN, Facts(cleared_ms=0, breach_ms=day_ms + 1))


def test_technical_conditions_and_limits_do_not_mix() -> None:
    assert not allows(State.NONE, Trigger.OPEN, Facts(kind="limit"))


def test_legal_with_facts_names_only_what_passes_now() -> None:
    facts = Facts(actor="li", reason="probe in the air")
    triggers = {row.trigger for row in legal(State.SUSPECTED, facts)}
    assert triggers == {
        Trigger.DISMISS,
        Trigger.RAISE_SEVERITY,
        Trigger.ACKNOWLEDGE,
        Trigger.ORDER_RETEST,
        Trigger.STEP,
        Trigger.FALL_OVERDUE,
        Trigger.UPDATE,
        Trigger.SUPERSEDE,
    }


def test_open_states_of_the_unique_index_are_those_that_a_breach_joins() -> None:
    assert set(OPEN_STATES) == {*ON_THE_WAY, "open"}
    assert len({(row.source, row.trigger) for row in TABLE}) == len(TABLE)
