"""Which step may follow which."""

from __future__ import annotations

import itertools

import pytest

from alerts.cases.steps import BY_NAME, TABLE, Situation, Taken, allowed, due_first, refusal
from alerts.states import TABLE as TRANSITIONS
from alerts.states import State, Trigger


def names(state: str, *taken: str, **more: object) -> set[str]:
    values: dict[str, object] = {
        "kind": "test",
        "state": State(state),
        "purpose": "supervision",
        "certainty": "screening",
        "taken": [Taken(step, number) for number, step in enumerate(taken)],
    }
    return {step.name for step in allowed(Situation(**{**values, **more}))}


def test_a_supervision_check_is_told_and_its_goods_are_evidence() -> None:
    assert names("suspected") == {"notice_served", "evidence_preserved"}


@pytest.mark.parametrize("purpose", ["self", "commissioned"])
def test_ones_own_test_holds_the_lot(purpose: str) -> None:
    assert names("suspected", purpose=purpose) == {"hold", "evidence_preserved"}
    now = Situation(
        kind="test", state=State.SUSPECTED, purpose=purpose, certainty="screening", taken=()
    )
    assert due_first(now) == "hold"


def test_the_way_of_an_objection() -> None:
    way = [
        ("notice_served", {"objection", "no_objection"}),
        ("objection", {"re_inspection_ordered"}),
        ("re_inspection_ordered", {"re_inspection_received"}),
        ("re_inspection_received", {"re_inspection_result"}),
    ]
    told = Taken("notice_served", 0, {"result": "rapid"})
    for number, (_, follows) in enumerate(way):
        taken = [told, *(Taken(step, n) for n, (step, _) in enumerate(way[1 : number + 1]))]
        assert names("suspected", taken=taken) == {*follows, "evidence_preserved"}


def test_a_laboratory_result_is_told_anew() -> None:
    told = [Taken("notice_served", 0, {"result": "rapid"}), Taken("no_objection", 1)]
    assert "notice_served" not in names("suspected", taken=told)
    assert "notice_served" in names("confirmed", taken=told, certainty="confirmatory")


def test_filed_or_not_but_once() -> None:
    assert {"filed", "not_filed"} <= names("confirmed")
    assert not {"filed", "not_filed"} & names("confirmed", "filed")
    assert not {"filed", "not_filed", "decision"} & names("confirmed", "not_filed")
    assert "decision" in names("confirmed", "filed")


def test_a_lot_is_held_and_released_and_held() -> None:
    assert "release" in names("suspected", "hold", purpose="self")
    assert "hold" not in names("suspected", "hold", purpose="self")
    assert "hold" in names("suspected", "hold", "release", purpose="self")
    assert "release" not in names("suspected", "hold", "release", purpose="self")
    assert names("refuted", "hold", purpose="self") == {"release"}


def test_goods_are_handed_over_only_when_the_police_opened_a_case() -> None:
    way = [Taken("transfer_proposed", 0), Taken("transfer_approved", 1), Taken("transferred", 2)]
    refused = [*way, Taken("police_reply", 3, {"opened": False})]
    opened = [*way, Taken("police_reply", 3, {"opened": True})]
    assert "goods_handed_over" not in names("in_enforcement", taken=refused)
    assert "goods_handed_over" in names("in_enforcement", taken=opened)


def test_after_the_end_only_what_the_law_still_asks_for() -> None:
    assert names("closed", "hold", "filed", "decision") == {"release", "disposal", "disclosed"}
    assert names("dismissed", "hold") == set()


def test_a_technical_alert_has_no_steps() -> None:
    assert names("open", kind="device_offline") == set()
    assert names("suspected", kind="device_offline") == set()


def test_where_a_step_may_be_taken_the_machine_lets_it() -> None:
    machine = {row.source for row in TRANSITIONS if row.trigger is Trigger.STEP}
    for step, state in itertools.product(TABLE, State):
        now = Situation(kind="test", state=state, purpose="self", certainty="screening")
        if not refusal(step, now):
            assert state in machine


def test_the_table_names_only_itself() -> None:
    for step in TABLE:
        assert {*step.after, *step.instead, *step.again} <= set(BY_NAME)
        assert step.zh
        assert step.en
