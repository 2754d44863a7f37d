"""The table of the state machine: what is legal, what is refused, and that the refusal says what would be legal."""

from __future__ import annotations

import itertools

import pytest

from alerts.errors import IllegalTransition
from alerts.states import TABLE, Facts, State, Trigger, allows, legal, step
from alerts.tables import OPEN_STATES

GOOD = {
    Trigger.SUSPECT: Facts(),
    Trigger.CONFIRM: Facts(certainty="confirmatory"),
    Trigger.REFUTE: Facts(certainty="confirmatory"),
    Trigger.DISMISS: Facts(actor="li", reason="probe was in the air"),
    Trigger.CLEAR: Facts(clearable=True, below_since_ms=0, recovered_ms=600_000),
    Trigger.REOPEN: Facts(cleared_ms=0, breach_ms=1),
    Trigger.RAISE_SEVERITY: Facts(),
    Trigger.ACKNOWLEDGE: Facts(actor="li"),
    Trigger.OPEN: Facts(kind="store_down"),
    Trigger.RESOLVE: Facts(kind="store_down"),
}
LEGAL = {
    ("", "suspect"): "suspected",
    ("", "confirm"): "confirmed",
    ("suspected", "confirm"): "confirmed",
    ("suspected", "refute"): "refuted",
    ("suspected", "dismiss"): "dismissed",
    ("suspected", "clear"): "cleared",
    ("cleared", "reopen"): "suspected",
    ("suspected", "raise_severity"): "suspected",
    ("confirmed", "raise_severity"): "confirmed",
    ("suspected", "acknowledge"): "suspected",
    ("confirmed", "acknowledge"): "confirmed",
    ("cleared", "acknowledge"): "cleared",
    ("open", "acknowledge"): "open",
    ("", "open"): "open",
    ("open", "resolve"): "resolved",
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


@pytest.mark.parametrize("state", [State.DISMISSED, State.REFUTED, State.RESOLVED])
def test_terminal_states_lead_nowhere(state: State) -> None:
    assert legal(state) == ()


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
    assert triggers == {Trigger.DISMISS, Trigger.RAISE_SEVERITY, Trigger.ACKNOWLEDGE}


def test_open_states_of_the_unique_index_are_those_that_a_breach_joins() -> None:
    assert set(OPEN_STATES) == {"suspected", "confirmed", "open"}
    assert len({(row.source, row.trigger) for row in TABLE}) == len(TABLE)
