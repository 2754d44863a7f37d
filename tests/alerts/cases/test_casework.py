"""Cases in the database: clocks that start, end, pass and wait for a calendar."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.actions import act
from alerts.cases import rules as case_rules
from alerts.cases.calendar import Calendar, Supplement
from alerts.cases.errors import StepRefused, WrongStep
from alerts.cases.lengths import Length
from alerts.cases.rules import Rules
from alerts.casework import Document, NewStep, take_step
from alerts.chain import LogRow, first_break
from alerts.clockwork import Clockwork, Duty
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.signing import new_secret
from alerts.errors import IllegalTransition, StaleAlert, UnknownAlert
from alerts.states import State, Trigger
from alerts.tables import case_steps, cases, clocks, outbox
from alerts.technical.conditions import Patience
from alerts.transitions import indicator_names
from dashboards.duties import duties
from tests.alerts.cases.conftest import ALERT_ID, PAPER, at
from tests.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operational import Operational
    from tests.alerts.cases.conftest import Affair

UNKNOWN = next(year for year in range(2026, 2200) if not Calendar().has(year))
TERMS = [
    # what leads there, what starts the clock, when it is due, what ends it
    ("suspected", [], "notice_served", "objection_rapid", "2026-09-30 14:00", "objection"),
    (
        "suspected",
        [],
        "evidence_preserved",
        "preservation",
        "2026-10-16 00:00",
        "preservation_decided",
    ),
    (
        "suspected",
        ["notice_served", "objection", "re_inspection_ordered"],
        "re_inspection_received",
        "re_inspection",
        "2026-10-16 00:00",
        "re_inspection_result",
    ),
    ("confirmed", [], "filed", "penalty", "2026-12-30 00:00", "decision"),
    (
        "confirmed",
        [],
        "transfer_proposed",
        "transfer_decision",
        "2026-10-09 00:00",
        "transfer_refused",
    ),
    (
        "confirmed",
        ["transfer_proposed"],
        "transfer_approved",
        "transfer",
        "2026-10-01 10:00",
        "transferred",
    ),
    (
        "in_enforcement",
        ["transfer_proposed", "transfer_approved"],
        "transferred",
        "police_decision",
        "2026-10-09 00:00",
        "police_reply",
    ),
    (
        "in_enforcement",
        ["transfer_proposed", "transfer_approved", "transferred"],
        "police_reply",
        "goods_handover",
        "2026-10-09 00:00",
        "goods_handed_over",
    ),
    ("confirmed", [], "harm_found", "limitation_harm", "2030-01-03 00:00", "filed"),
    ("confirmed", ["filed"], "decision", "disclosure", "2026-11-04 00:00", "disclosed"),
    (
        "confirmed",
        ["filed", "decision", "disclosed"],
        "penalty_changed",
        "withdrawal",
        "2026-10-11 00:00",
        "withdrawn",
    ),
]
SAY: dict[str, dict[str, object]] = {
    "re_inspection_ordered": {"laboratory": "省检测中心"},
    "re_inspection_result": {"result": "exceed"},
    "police_reply": {"opened": True},
    "disposal": {"measure": "destruction"},
}
WHEN = "2026-09-30 10:00"


@pytest.mark.parametrize(("state", "before", "start", "clock", "ends", "end"), TERMS)
def test_each_clock_starts_is_due_and_ends(
    affair: Callable[..., Affair],
    state: str,
    before: list[str],
    start: str,
    clock: str,
    ends: str,
    end: str,
) -> None:
    case = affair(state=State(state))
    for step in (*before, start):
        case.step(step, WHEN, **SAY.get(step, {}))
    assert case.clocks()[clock]["due_ms"] == at(ends)
    assert case.states("2026-09-30 10:01")[clock] == "running"
    case.step(end, "2026-09-30 11:00", **SAY.get(end, {}))
    row = case.clocks()[clock]
    assert (row["ended_by"], row["voided"]) == (end, False)
    assert case.states("2031-01-01 00:00")[clock] == "met"


def test_a_laboratory_result_gives_working_days_by_side(affair: Callable[..., Affair]) -> None:
    farm = affair(state=State.CONFIRMED, certainty="confirmatory")
    market = affair(
        alert_id=ALERT_ID.replace("CASE", "MARK"),
        dedup_key="k2",
        state=State.CONFIRMED,
        certainty="confirmatory",
        sampling_stage="retail",
    )
    for case in (farm, market):
        case.step("notice_served", WHEN)
    assert farm.clocks()["objection_laboratory"]["due_ms"] == at("2026-10-14 00:00")
    row = market.clocks()["objection_laboratory"]
    assert (row["due_ms"], row["basis"]) == (at("2026-10-16 00:00"), "食品安全法 第八十八条")
    assert row["side"] == "market"


def test_retest_and_receipt_and_limitation_follow_the_alert(affair: Callable[..., Affair]) -> None:
    case = affair(first_seen_ms=at("2026-09-18 08:00"))
    case.do(Trigger.ORDER_RETEST, "2026-09-18 10:00")
    # worked Sun 20 September, off on Fri 25
    assert case.row()["due_ms"] == at("2026-09-30 00:00")
    case.do(Trigger.CONFIRM, "2026-09-21 10:00", certainty="confirmatory")
    found = case.clocks()
    assert (found["retest"]["ended_by"], found["limitation"]["due_ms"]) == (
        "confirm",
        at("2028-09-19 00:00"),
    )
    case.do(Trigger.HAND_OVER, "2026-09-30 10:00", handover={"agency": "县农业农村局"})
    assert case.row()["due_ms"] == at("2026-10-10 00:00")
    case.do(
        Trigger.ACCEPT, "2026-10-08 09:00", handover={"agency": "县农业农村局", "case_no": "1号"}
    )
    assert case.states("2026-11-01 00:00") == {
        "retest": "met",
        "limitation": "running",
        "receipt": "met",
    }
    assert case.row()["due_ms"] == at("2028-09-19 00:00")


def test_harm_makes_the_limitation_five_years(affair: Callable[..., Affair]) -> None:
    case = affair(state=State.SUSPECTED, first_seen_ms=at("2026-09-18 08:00"))
    case.do(Trigger.CONFIRM, "2026-09-21 10:00", certainty="confirmatory")
    case.step("harm_found", "2026-09-22 10:00")
    found = case.clocks()
    assert found["limitation"]["voided"]
    assert found["limitation_harm"]["due_ms"] == at("2031-09-19 00:00")


def test_a_passed_deadline_is_told_once_and_closes_nothing(affair: Callable[..., Affair]) -> None:
    case = affair(state=State.CONFIRMED)
    sync_endpoints(
        case.operational,
        [WebhookEndpoint("e", "e", "http://127.0.0.1:1/", new_secret(), allow_http=True)],
        0,
    )
    case.step("evidence_preserved", WHEN)
    assert not case.look("2026-10-16 00:00")
    assert case.look("2026-10-16 00:01")
    assert not case.look("2026-10-16 00:02")
    row, last = case.row(), case.log()[-1]
    assert (row["state"], row["flags"], row["due_ms"]) == ("confirmed", ["overdue"], None)
    assert (last["actor"], last["event"]) == ("system", "alert.overdue")
    assert "先行登记保存处理" in last["reason"]
    assert "行政处罚法 第五十六条" in last["reason"]
    assert last["data"]["clock"] == "preservation"
    clock = case.clocks()["preservation"]
    assert clock["overdue_ms"] == clock["escalated_ms"] == at("2026-10-16 00:01")
    assert clock["ended_ms"] is None
    with case.operational.read() as connection:
        sent = connection.scalars(sa.select(outbox.c.event_type).order_by(outbox.c.id)).all()
    assert sent == ["alert.case_step", "alert.overdue"]


def test_taking_the_step_late_takes_the_flag_away(affair: Callable[..., Affair]) -> None:
    case = affair(flags=["late"])
    case.step("evidence_preserved", WHEN)
    case.look("2026-10-17 00:00")
    assert case.row()["flags"] == ["late", "overdue"]
    case.step("preservation_decided", "2026-10-17 10:00")
    assert case.row()["flags"] == ["late"]
    assert case.states("2026-10-18 00:00") == {"preservation": "met_late"}


def test_a_step_recorded_late_but_taken_in_time_is_met(affair: Callable[..., Affair]) -> None:
    case = affair()
    case.step("notice_served", WHEN)
    case.look("2026-09-30 14:01")
    case.now = at("2026-09-30 15:00")
    case.step("objection", "2026-09-30 13:59")
    assert case.states("2026-09-30 16:00") == {"objection_rapid": "met"}
    assert case.row()["flags"] == []


def test_a_deadline_that_passed_while_the_server_was_down_is_noticed_at_its_start(
    affair: Callable[..., Affair],
) -> None:
    case = affair()
    case.step("notice_served", WHEN)
    woken: list[int] = []
    looks: list[Duty] = [
        duty
        for duty in duties(case.operational, indicator_names, tuple, Patience())
        if duty.name == "deadlines"
    ]
    for _ in range(2):  # the server starts twice
        clockwork = Clockwork(
            looks,
            now_ms=lambda: at("2026-10-03 09:00"),
            wake=lambda: woken.append(1),
            on_failure=lambda: None,
            every_s=3600,
        )
        clockwork.start()
        until(lambda: "overdue" in case.row()["flags"])
        clockwork.stop()
    assert woken == [1]
    assert [row["event"] for row in case.log()] == ["alert.case_step", "alert.overdue"]


def test_a_missing_year_is_shown_and_filled_in_later(affair: Callable[..., Affair]) -> None:
    case = affair(state=State.CONFIRMED)
    case.step("evidence_preserved", f"{UNKNOWN - 1}-12-31 10:00")
    row = case.clocks()["preservation"]
    assert (row["due_ms"], row["missing_year"]) == (None, UNKNOWN)
    assert not case.look(f"{UNKNOWN}-03-01 00:00")
    assert case.row()["due_ms"] is None
    off = frozenset({date(UNKNOWN, 1, 1), date(UNKNOWN, 10, 1)})
    with case.operational.write() as connection:
        case_rules.keep(connection, Rules(supplement=Supplement(off)))
    assert case.look(f"{UNKNOWN}-01-02 00:00")
    assert not case.look(f"{UNKNOWN}-01-02 00:01")
    row, last = case.clocks()["preservation"], case.log()[-1]
    assert row["missing_year"] is None
    assert case.row()["due_ms"] == row["due_ms"]
    assert at(f"{UNKNOWN}-01-08 00:00") < row["due_ms"] < at(f"{UNKNOWN}-01-15 00:00")
    assert (last["event"], last["data"]["due_ms"]) == ("alert.updated", row["due_ms"])


def test_set_lengths_hold_for_clocks_that_start_after(affair: Callable[..., Affair]) -> None:
    case = affair()
    with case.operational.write() as connection:
        case_rules.keep(connection, Rules({"objection_rapid": Length(6, "h")}))
    case.step("notice_served", WHEN)
    assert case.clocks()["objection_rapid"]["due_ms"] == at("2026-09-30 16:00")


def test_the_end_of_the_alert_closes_the_case(affair: Callable[..., Affair]) -> None:
    case = affair(state=State.CONFIRMED)
    case.step("filed", WHEN)
    case.step("decision", "2026-09-30 12:00")
    case.step("evidence_preserved", "2026-09-30 12:00")
    with pytest.raises(IllegalTransition, match="disposal is needed, or a reason"):
        case.do(Trigger.CLOSE, "2026-10-08 09:00", outcome="punished")
    case.step("disposal", "2026-10-08 09:00", measure="destruction")
    case.do(Trigger.CLOSE, "2026-10-08 10:00", outcome="punished")
    assert case.states("2026-10-08 11:00") == {
        "penalty": "met",
        "disclosure": "running",
        "preservation": "void",
    }
    with case.operational.read() as connection:
        assert connection.scalar(sa.select(cases.c.closed_ms)) == at("2026-10-08 10:00")
    assert case.row()["due_ms"] == at("2026-11-04 00:00")
    assert case.look("2026-11-05 00:00")
    assert (case.row()["state"], case.row()["flags"]) == ("closed", ["overdue"])
    case.step("disclosed", "2026-11-06 00:00")
    assert case.row()["flags"] == []


@pytest.mark.parametrize("trigger", [Trigger.REFUTE, Trigger.SUPERSEDE, Trigger.CLEAR])
def test_however_the_alert_ends_no_clock_can_pass_after(
    affair: Callable[..., Affair], trigger: Trigger
) -> None:
    case = affair(purpose="self", clearable=True, below_since_ms=0, recovered_ms=10**10)
    case.step("evidence_preserved", WHEN)
    case.do(trigger, "2026-09-30 12:00", "记录更正", certainty="confirmatory")
    assert case.states("2026-09-30 12:00") == {"preservation": "void"}
    assert not case.look("2027-01-01 00:00")


def test_a_suspicion_alone_opens_no_case(affair: Callable[..., Affair]) -> None:
    case = affair()
    case.do(Trigger.ACKNOWLEDGE, WHEN)
    with case.operational.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(cases)) == 0


def test_a_step_is_in_the_chained_log(affair: Callable[..., Affair]) -> None:
    case = affair()
    case.step("notice_served", WHEN)
    [row] = case.log()
    assert row["data"] == {
        "step": "notice_served",
        "at_ms": at(WHEN),
        "document": {"type": PAPER.type, "no": PAPER.no, "sha256": PAPER.sha256},
        "data": {"result": "rapid"},
    }
    columns = {k: v for k, v in row.items() if k != "id"}
    assert first_break([LogRow(**columns)]) is None
    columns["data"] = {**row["data"], "at_ms": at(WHEN) - 1}
    assert first_break([LogRow(**columns)]) is not None
    with case.operational.read() as connection:
        step = connection.execute(sa.select(case_steps)).mappings().one()
    assert (step["document_sha256"], step["alert_seq"], step["actor"]) == ("a" * 64, 2, "li")


BAD: list[tuple[dict[str, object], str]] = [
    ({"step": "lunch"}, "step: 'lunch' is no step"),
    ({"at_ms": at("2026-10-01 00:01")}, "at: is in the future"),
    ({"at_ms": at("2025-01-02 08:59")}, "at: is before the alert"),
    ({"document": Document(no="1")}, "document.type: is missing"),
    ({"document": Document(type="告知书")}, "document.no: is missing"),
    ({"document": Document(type="t", no="1", sha256="AB")}, "document.sha256: is no SHA-256"),
    ({"document": Document(type="t" * 61, no="1")}, "document.type: at most 60"),
    ({"note": "n" * 2001}, "note: at most 2000"),
    ({"data": {"colour": "red"}}, "data.colour: is not asked for"),
    ({"step": "hold", "note": " "}, "evidence_preserved"),
    ({"step": "objection"}, "only after notice_served"),
    ({"step": "filed"}, "not while the alert is suspected"),
]


def test_a_wrong_step_changes_nothing(affair: Callable[..., Affair]) -> None:
    case = affair()
    before = case.row()
    values: dict[str, object] = {"step": "notice_served", "at_ms": at(WHEN), "document": PAPER}
    for change, said in BAD:
        new = NewStep(**{**values, **change})  # type: ignore[arg-type]
        with pytest.raises((WrongStep, StepRefused), match=said):
            take_step(case.operational, ALERT_ID, new, "li", seq=1, now_ms=at("2026-10-01 00:00"))
        assert case.row() == before
    assert case.log() == []
    with case.operational.read() as connection:
        for table in (cases, case_steps, clocks):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "data.opened: is missing"),
        ({"opened": "yes"}, "data.opened: is true or false"),
    ],
)
def test_what_a_step_must_say(
    affair: Callable[..., Affair], data: dict[str, object], said: str
) -> None:
    case = affair(state=State.CONFIRMED)
    for step in ("transfer_proposed", "transfer_approved", "transferred"):
        case.step(step, WHEN)
    with pytest.raises(WrongStep, match=said):
        case.step("police_reply", WHEN, **data)
    with pytest.raises(WrongStep, match=r"data\.measure: is one of recall"):
        case.step("disposal", WHEN, measure="eaten")


def test_a_step_is_not_before_the_one_it_follows(affair: Callable[..., Affair]) -> None:
    case = affair()
    case.step("notice_served", WHEN)
    case.now = at("2026-09-30 12:00")
    with pytest.raises(WrongStep, match="before the step notice_served"):
        case.step("objection", "2026-09-30 09:59")


def test_no_step_by_the_system_on_a_stale_or_unknown_alert(
    operational: Operational, affair: Callable[..., Affair]
) -> None:
    affair()
    new = NewStep(step="notice_served", at_ms=at(WHEN), document=PAPER)
    with pytest.raises(IllegalTransition, match="a named user"):
        take_step(operational, ALERT_ID, new, "system", seq=1, now_ms=at(WHEN))
    with pytest.raises(StaleAlert):
        take_step(operational, ALERT_ID, new, "li", seq=7, now_ms=at(WHEN))
    with pytest.raises(UnknownAlert):
        take_step(operational, "01KARZ0000000000000000N0NE", new, "li", seq=1, now_ms=at(WHEN))


def test_a_closing_with_a_reason_needs_no_disposal(affair: Callable[..., Affair]) -> None:
    case = affair(state=State.CONFIRMED)
    closed = act(
        case.operational,
        ALERT_ID,
        Trigger.CLOSE,
        "li",
        "已全部食用，无可处置",
        at_ms=at(WHEN),
        edit=lambda alert: setattr(alert, "outcome", "no_goods"),
    )
    assert closed.state is State.CLOSED
