"""Findings become alerts: one per thing that is wrong, latched, logged, and told to every endpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.actions import acknowledge, confirm, dismiss
from alerts.alert import Alert
from alerts.chain import LogRow, first_break
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.signing import new_secret
from alerts.errors import IllegalTransition, StaleAlert, UnknownAlert
from alerts.ledger import Timing
from alerts.raising import AlertRaiser
from alerts.tables import alert_transitions, alerts, outbox
from ingest.batch import Series
from ingest.judge.findings import Finding, Observation
from ingest.tables import events, findings

if TYPE_CHECKING:
    from ingest.operational import Operational

NOON_MS = 1_763_870_400_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

Judge = Callable[..., AlertRaiser]
Make = Callable[..., Finding]
Observe = Callable[..., Observation]


def all_alerts(operational: Operational) -> list[Alert]:
    with operational.read() as connection:
        rows = connection.execute(sa.select(alerts).order_by(alerts.c.alert_id)).mappings()
        return [Alert.from_row(row) for row in rows]


def only(operational: Operational) -> Alert:
    (alert,) = all_alerts(operational)
    return alert


def log_of(operational: Operational) -> list[LogRow]:
    with operational.read() as connection:
        rows = connection.execute(
            sa.select(alert_transitions).order_by(alert_transitions.c.id)
        ).mappings()
        return [LogRow(**{k: v for k, v in row.items() if k != "id"}) for row in rows]


def steps(operational: Operational) -> list[tuple[str, str]]:
    return [(row.from_state, row.to_state) for row in log_of(operational)]


def told(operational: Operational) -> list[str]:
    with operational.read() as connection:
        return list(connection.scalars(sa.select(outbox.c.event_type).order_by(outbox.c.id)))


def bodies(operational: Operational) -> list[dict]:
    with operational.read() as connection:
        rows = connection.scalars(sa.select(outbox.c.body).order_by(outbox.c.id))
        return [json.loads(row) for row in rows]


@pytest.fixture
def endpoint(operational: Operational) -> str:
    row = WebhookEndpoint(
        "county", "County", "http://127.0.0.1:1/hook", new_secret(), allow_http=True
    )
    sync_endpoints(operational, [row], 0)
    return row.id


@pytest.fixture
def raiser() -> AlertRaiser:
    return AlertRaiser()


@pytest.mark.usefixtures("endpoint")
def test_a_breach_raises_one_suspect_and_tells_it(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    item = finding()
    judge(raiser, [item])
    alert = only(operational)
    assert (alert.state, alert.seq, alert.kind, alert.occurrence_count) == (
        "suspected",
        1,
        "limit",
        1,
    )
    assert alert.citation == item.citation
    assert alert.evidence["inbox_pos"] == item.inbox_pos
    assert steps(operational) == [("", "suspected")]
    (event,) = bodies(operational)
    assert event["specversion"] == "1.0"
    assert event["type"] == "alert.suspected"
    assert event["subject"] == alert.alert_id
    data = event["data"]
    assert data["status"] == "actual"
    assert (data["seq"], data["state"], data["previous_state"]) == (1, "suspected", "")
    assert data["finding"]["value"] == 9.1
    assert data["finding"]["analyte"]["name"] == {"zh": "pH值", "en": "pH"}
    assert data["citation"]["standard_no"] == "GB 5084-2021"
    assert data["site"]["lon"] == 110.28
    assert data["site"]["producer_id"] == "s1"
    assert "湖光站" in data["title"]["zh"]
    assert "Huguang" in data["title"]["en"]
    with operational.read() as connection:
        row = connection.execute(sa.select(outbox)).one()
        assert row.webhook_id == f"evt_{event['id']}_county"
        assert len(row.body) < 20_000
        assert connection.scalar(sa.select(findings.c.alert_id)) == alert.alert_id
        (told_pages,) = connection.scalars(sa.select(events.c.data))
        assert told_pages["state"] == "suspected"
        assert told_pages["value"] == 9.1


@pytest.mark.usefixtures("endpoint")
def test_repeats_count_without_telling(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    judge(raiser, [finding(t_ms=NOON_MS + 1000 * n, value=9.1 - n / 100) for n in range(1, 60)])
    alert = only(operational)
    assert (alert.occurrence_count, alert.seq, alert.value) == (60, 1, 9.1)
    assert alert.last_seen_ms == NOON_MS + 59_000
    assert told(operational) == ["alert.suspected"]


def test_the_same_finding_twice_counts_once(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    item = finding()
    judge(raiser, [item, item])
    judge(raiser, [item])
    assert only(operational).occurrence_count == 1


@pytest.mark.usefixtures("endpoint")
def test_the_worst_value_is_kept_with_its_evidence(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    citation = finding().citation
    worst = finding(value=9.9, t_ms=NOON_MS + 1, citation={**citation, "ratio": 1.16})
    judge(raiser, [finding(), worst, finding(t_ms=NOON_MS + 2)])
    alert = only(operational)
    assert (alert.value, alert.evidence["finding_id"]) == (9.9, worst.finding_id)
    assert alert.occurrence_count == 3


def test_below_a_lower_limit_the_smaller_value_is_worse(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    citation = {**finding().citation, "comparator": "<", "limit": 5.5}
    for value in (5.0, 3.0, 4.0):
        judge(raiser, [finding(value=value, citation={**citation, "ratio": value / 5.5})])
    assert only(operational).value == 3.0


@pytest.mark.usefixtures("endpoint")
def test_a_graver_level_of_the_same_rule_raises_the_severity_and_tells(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    soil = {"indicator": "soil_cd", "unit": "mg/kg", "clearable": False, "device": "plot1/xrf"}
    judge(raiser, [finding(rule_id="gb15618:Cd:screening", severity="warning", value=0.5, **soil)])
    judge(
        raiser, [finding(rule_id="gb15618:Cd:intervention", severity="critical", value=2.0, **soil)]
    )
    alert = only(operational)
    assert (alert.severity, alert.seq, alert.rule_id) == ("critical", 2, "gb15618:Cd:intervention")
    assert told(operational) == ["alert.suspected", "alert.severity_raised"]


def test_other_device_station_or_sample_is_another_alert(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, screening: Make
) -> None:
    judge(
        raiser,
        [
            finding(),
            finding(device="plot2/water"),
            finding(station="hl-002"),
            screening(),
            screening(sample_no="hl-001-20251123-0002", record_id="r-2"),
            screening(sample_no="", record_id="r-3"),
            screening(sample_no="", record_id="r-4"),
        ],
    )
    assert len(all_alerts(operational)) == 7


def test_the_database_refuses_a_second_open_alert_with_the_same_key(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    twin = only(operational).to_row() | {"alert_id": "01K0000000000000000000TWIN"}
    with pytest.raises(sa.exc.IntegrityError), operational.write() as connection:
        connection.execute(sa.insert(alerts).values(twin))
    with operational.write() as connection:
        connection.execute(sa.insert(alerts).values(twin | {"state": "cleared"}))


@pytest.mark.usefixtures("endpoint")
def test_a_process_parameter_clears_after_ten_good_minutes_and_reopens(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    series = Series("hl-001", "plot1/water", "water_ph")
    judge(raiser, [finding()])
    assert raiser.watched() == {series}
    judge(raiser, [], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 11)])
    assert only(operational).state == "suspected"
    judge(raiser, [], [observe(NOON_MS + 11 * MINUTE_MS)])
    assert only(operational).state == "cleared"
    assert raiser.watched() == set()
    judge(raiser, [finding(t_ms=NOON_MS + 3 * HOUR_MS, value=8.9)])
    alert = only(operational)
    assert (alert.state, alert.seq, alert.occurrence_count, alert.value) == ("suspected", 3, 2, 8.9)
    assert raiser.watched() == {series}
    assert told(operational) == ["alert.suspected", "alert.cleared", "alert.reopened"]
    assert bodies(operational)[-1]["data"]["finding"]["value"] == 8.9


def test_a_breach_after_the_reopen_window_is_a_new_alert(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding()], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 12)])
    judge(raiser, [finding(t_ms=NOON_MS + 25 * HOUR_MS)])
    assert [alert.state for alert in all_alerts(operational)] == ["cleared", "suspected"]


def test_a_whole_backlog_in_one_batch_is_played_in_event_time(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    day = 48 * HOUR_MS
    judge(
        raiser,
        [finding(t_ms=NOON_MS + day), finding()],
        [observe(NOON_MS + day + n * MINUTE_MS) for n in range(1, 12)]
        + [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 12)],
    )
    assert [alert.state for alert in all_alerts(operational)] == ["cleared", "cleared"]
    assert first_break(log_of(operational)) is None


def test_a_value_between_limit_and_recovery_threshold_starts_the_wait_again(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding()], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 10)])
    judge(raiser, [], [observe(NOON_MS + 10 * MINUTE_MS, recovered=False, value=8.45)])
    judge(raiser, [], [observe(NOON_MS + n * MINUTE_MS) for n in range(11, 21)])
    assert only(operational).state == "suspected"
    judge(raiser, [], [observe(NOON_MS + 21 * MINUTE_MS)])
    assert only(operational).state == "cleared"


def test_silence_clears_nothing(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding()], [observe(NOON_MS + MINUTE_MS)])
    judge(raiser, [], [])
    # Five hours without data are not five good hours.
    judge(raiser, [], [observe(NOON_MS + 5 * HOUR_MS)])
    assert only(operational).state == "suspected"


def test_latching_limits_never_clear(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding(clearable=False)])
    judge(raiser, [], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 100)])
    assert only(operational).state == "suspected"
    assert raiser.watched() == set()


def test_a_late_good_value_does_not_clear_a_newer_breach(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding(), finding(t_ms=NOON_MS + HOUR_MS)])
    judge(raiser, [], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 60)])
    assert only(operational).state == "suspected"


@pytest.mark.usefixtures("endpoint")
def test_a_late_breach_still_raises_an_alert_flagged_late(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding(late=True, flags=("late",), t_ms=NOON_MS - 720 * HOUR_MS)])
    assert only(operational).flags == ["late"]
    assert bodies(operational)[0]["data"]["flags"] == ["late"]


def test_a_late_breach_within_a_cleared_episode_only_counts(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    good = [observe(NOON_MS + n * MINUTE_MS) for n in range(30, 42)]
    judge(raiser, [finding(), finding(t_ms=NOON_MS + 20 * MINUTE_MS)], good)
    judge(raiser, [finding(t_ms=NOON_MS + 10 * MINUTE_MS, late=True)])
    alert = only(operational)
    assert (alert.state, alert.occurrence_count, alert.seq) == ("cleared", 3, 2)


@pytest.mark.usefixtures("endpoint")
def test_a_value_that_flaps_each_second_for_an_hour_is_one_alert_and_one_notice(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    for start in range(0, 3600, 600):
        seconds = range(start, start + 600, 2)
        judge(
            raiser,
            [finding(t_ms=NOON_MS + 1000 * n) for n in seconds],
            [observe(NOON_MS + 1000 * n + 1000) for n in seconds],
        )
    assert only(operational).occurrence_count == 1800
    assert told(operational) == ["alert.suspected"]


@pytest.mark.usefixtures("endpoint")
def test_what_clears_and_breaches_again_and_again_is_flapping_and_tells_little(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    half_hours = [NOON_MS + n * 30 * MINUTE_MS for n in range(12)]
    for start in half_hours:  # out for a moment, then good for long enough to clear
        judge(
            raiser,
            [finding(t_ms=start)],
            [observe(start + n * MINUTE_MS) for n in range(1, 13)],
        )
    alert = only(operational)
    assert (alert.state, alert.flags, alert.occurrence_count) == ("suspected", ["flapping"], 12)
    kinds = told(operational)
    assert (kinds.count("alert.reopened"), kinds.count("alert.cleared")) == (3, 3)
    calm = half_hours[-1] + MINUTE_MS
    judge(raiser, [], [observe(calm + n * MINUTE_MS) for n in range(119)])
    assert only(operational).state == "suspected"
    judge(raiser, [], [observe(calm + n * MINUTE_MS) for n in (119, 120)])
    assert only(operational).state == "cleared"
    judge(raiser, [finding(t_ms=calm + 10 * HOUR_MS)])
    alert = only(operational)
    assert (alert.state, alert.flags) == ("suspected", [])


def test_reopenings_that_are_days_apart_do_not_flap_even_when_they_arrive_together(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    starts = [NOON_MS + n * 20 * HOUR_MS for n in range(6)]
    good = [observe(start + n * MINUTE_MS) for start in starts for n in range(1, 13)]
    judge(raiser, [finding(t_ms=start) for start in starts], good)
    alert = only(operational)
    assert (alert.state, alert.flags, alert.seq) == ("cleared", [], 12)


def test_rollback_leaves_no_trace_and_the_watch_is_right(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    with contextlib.suppress(RuntimeError), operational.write() as connection:
        raiser.apply(connection, [finding()], [], NOON_MS)
        raise RuntimeError
    assert raiser.watched() == set()
    assert all_alerts(operational) == []
    judge(raiser, [finding(device="plot9/water")])
    assert raiser.watched() == {Series("hl-001", "plot9/water", "water_ph")}


def test_the_watch_is_loaded_at_start(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    restarted = AlertRaiser()
    with operational.read() as connection:
        restarted.load(connection)
    assert restarted.watched() == raiser.watched() != set()


def test_clear_time_is_configurable(
    operational: Operational, judge: Judge, finding: Make, observe: Observe
) -> None:
    raiser = AlertRaiser(timing=Timing(clear_for_ms=MINUTE_MS))
    judge(raiser, [finding()], [observe(NOON_MS + 1), observe(NOON_MS + 1 + MINUTE_MS)])
    assert only(operational).state == "cleared"


# ---------------------------------------------------------------- tests of samples


@pytest.mark.usefixtures("endpoint")
def test_a_confirmatory_exceedance_confirms_the_suspect_of_its_sample(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    judge(raiser, [screening()])
    result = screening(
        rule_id="gb2763:carbofuran", certainty="confirmatory", verdict="exceed", value=0.5,
        unit="mg/kg", record_id="lab-1",
    )  # fmt: skip
    judge(raiser, [result])
    alert = only(operational)
    assert (alert.state, alert.certainty, alert.value) == ("confirmed", "confirmatory", 0.5)
    assert told(operational) == ["alert.suspected", "alert.confirmed"]


def test_a_confirmatory_exceedance_alone_is_confirmed_at_once(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    judge(raiser, [screening(certainty="confirmatory", verdict="exceed")])
    assert steps(operational) == [("", "confirmed")]


@pytest.mark.usefixtures("endpoint")
def test_a_confirmatory_result_within_the_limit_refutes(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    judge(raiser, [screening(), screening(sample_no="other")])
    judge(raiser, [screening(certainty="confirmatory", verdict="pass", record_id="lab-1")])
    states = {alert.sample_no: alert.state for alert in all_alerts(operational)}
    assert states == {"hl-001-20251123-0001": "refuted", "other": "suspected"}
    assert told(operational)[-1] == "alert.refuted"


@pytest.mark.parametrize("verdict", ["exceed", "pass"])
@pytest.mark.parametrize(
    ("by", "why"), [({"method": "gold"}, "method"), ({"laboratory": "站"}, "laboratory")]
)
def test_a_result_of_the_same_method_or_laboratory_leaves_the_suspect_and_says_why(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make, by, why, verdict
) -> None:
    judge(raiser, [screening(method="gold", laboratory="站")])
    result = screening(certainty="confirmatory", verdict=verdict, record_id="lab-1", **by)
    judge(raiser, [result])
    assert only(operational).state == "suspected"
    last = log_of(operational)[-1]
    assert (last.event, last.to_state) == ("alert.updated", "suspected")
    assert f"the {why} must be another" in last.reason
    assert last.data["record_id"] == "lab-1"
    judge(raiser, [result])
    assert only(operational).seq == last.seq
    better = {"method": "gc_ms", "laboratory": "county", "record_id": "lab-2"}
    judge(raiser, [screening(certainty="confirmatory", verdict=verdict, **better)])
    assert only(operational).state == ("confirmed" if verdict == "exceed" else "refuted")


@pytest.mark.usefixtures("endpoint")
def test_a_batch_of_findings_is_raised_without_a_query_for_each(
    operational: Operational, raiser: AlertRaiser, screening: Make
) -> None:
    items = [screening(sample_no=f"s{n}", record_id=f"r{n}") for n in range(200)]
    statements: list[str] = []
    with operational.write() as connection:
        sa.event.listen(
            connection, "before_cursor_execute", lambda *said: statements.append(said[2])
        )
        raiser.apply(connection, items, [], NOON_MS)
    assert len(all_alerts(operational)) == 200
    assert len(told(operational)) == 200
    assert len(statements) < 40, statements


def test_screening_never_confirms_or_refutes(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    judge(raiser, [screening(), screening(verdict="exceed"), screening(verdict="pass")])
    assert steps(operational) == [("", "suspected")]


def test_an_unverified_limit_is_flagged_and_needs_a_named_user_to_confirm(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    citation = {**screening().citation, "verified": False}
    judge(raiser, [screening(citation=citation)])
    alert = only(operational)
    assert alert.flags == ["limit_unverified"]
    with pytest.raises(IllegalTransition):
        confirm(operational, alert.alert_id, "li")  # no confirmatory result yet
    judge(raiser, [screening(citation=citation, certainty="confirmatory", verdict="exceed")])
    assert only(operational).state == "suspected"
    confirm(operational, alert.alert_id, "li", "limit looked up in the printed edition")
    assert only(operational).state == "confirmed"


def test_a_second_laboratory_result_on_a_verified_limit_confirms(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    unverified = {**screening().citation, "verified": False}
    lab = {"certainty": "confirmatory", "verdict": "exceed"}
    judge(raiser, [screening(citation=unverified, **lab)])
    judge(raiser, [screening(**lab)])
    alert = only(operational)
    assert (alert.state, alert.flags) == ("confirmed", [])


# ---------------------------------------------------------------- people


@pytest.mark.usefixtures("endpoint")
def test_acknowledge_keeps_the_state_and_tells(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    alert = acknowledge(operational, only(operational).alert_id, "li", at_ms=NOON_MS + 5)
    assert (alert.state, alert.seq, alert.acked_by, alert.acked_ms) == (
        "suspected",
        2,
        "li",
        NOON_MS + 5,
    )
    assert only(operational) == alert
    assert bodies(operational)[-1]["data"]["ack"] == {"by": "li", "at": "2025-11-23T04:00:00.005Z"}
    with pytest.raises(IllegalTransition):
        acknowledge(operational, alert.alert_id, "wang")


@pytest.mark.usefixtures("endpoint")
def test_dismiss_closes_a_sensor_suspect_with_its_reason(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, observe: Observe
) -> None:
    judge(raiser, [finding()])
    dismiss(operational, only(operational).alert_id, "li", "探头在空气中")
    assert only(operational).state == "dismissed"
    assert bodies(operational)[-1]["data"]["reason"] == "探头在空气中"
    judge(raiser, [], [observe(NOON_MS + n * MINUTE_MS) for n in range(1, 20)])
    assert only(operational).state == "dismissed"
    assert raiser.watched() == set()


def test_a_test_is_never_dismissed(
    operational: Operational, judge: Judge, raiser: AlertRaiser, screening: Make
) -> None:
    judge(raiser, [screening()])
    with pytest.raises(IllegalTransition, match="never tests") as caught:
        dismiss(operational, only(operational).alert_id, "li", "no")
    assert "acknowledge" in caught.value.legal
    assert steps(operational) == [("", "suspected")]


def test_a_stale_seq_or_an_unknown_alert_changes_nothing(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    alert_id = only(operational).alert_id
    acknowledge(operational, alert_id, "li", seq=1)
    with pytest.raises(StaleAlert):
        dismiss(operational, alert_id, "li", "reason", seq=1)
    with pytest.raises(UnknownAlert):
        acknowledge(operational, "01K0000000000000000000NONE", "li")
    with pytest.raises(ValueError, match="characters"):
        dismiss(operational, alert_id, "li", "x" * 2001)
    assert steps(operational) == [("", "suspected"), ("suspected", "suspected")]


@pytest.mark.parametrize("column", ["actor", "reason", "to_state", "at_ms", "alert_id"])
def test_a_changed_row_of_the_log_is_found(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, column: str
) -> None:
    judge(raiser, [finding(), finding(device="plot2/water")])
    for alert in all_alerts(operational):
        acknowledge(operational, alert.alert_id, "li")
    rows = log_of(operational)
    assert first_break(rows) is None
    changed = 7 if column == "at_ms" else "changed"
    rows[1] = dataclasses.replace(rows[1], **{column: changed})
    assert first_break(rows) is rows[1]
    del rows[1]
    assert first_break(rows) is rows[1]


def test_no_endpoint_no_outbox(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make
) -> None:
    judge(raiser, [finding()])
    assert told(operational) == []


def test_incarnation_is_made_once(
    operational: Operational, judge: Judge, raiser: AlertRaiser, finding: Make, endpoint: str
) -> None:
    judge(raiser, [finding()])
    judge(raiser, [finding(device=f"plot{n}/{endpoint}") for n in range(3)])
    assert len({event["data"]["incarnation"] for event in bodies(operational)}) == 1


@pytest.mark.usefixtures("endpoint")
def test_what_is_judged_again_after_a_restore_bears_the_same_names(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    """A restored server knows nothing of the alert; the edge sends the packs again, in other groups."""
    first, again, graver = (
        finding(),
        finding(t_ms=NOON_MS + 1000, value=9.2),
        finding(t_ms=NOON_MS + 2000, value=9.9, severity="critical"),
    )
    judge(AlertRaiser(), [first])
    judge(AlertRaiser(), [again])
    judge(AlertRaiser(), [graver])
    before = webhook_ids(operational)
    assert len(before) == 2
    with operational.write() as connection:
        for table in (outbox, alert_transitions, alerts, findings):
            connection.execute(sa.delete(table))
    judge(AlertRaiser(), [first, again, graver])
    assert webhook_ids(operational) == before


@pytest.mark.usefixtures("endpoint")
def test_a_stepped_clock_does_not_rename_what_is_judged_again(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    """The first breach to arrive bears the name, also when the others at hand were measured before it."""
    ahead = finding(t_ms=NOON_MS + HOUR_MS, clearable=False)
    right = finding(t_ms=NOON_MS + 1000, clearable=False)
    judge(AlertRaiser(), [ahead])
    judge(AlertRaiser(), [right])
    before = webhook_ids(operational)
    assert len(before) == 1
    with operational.write() as connection:
        for table in (outbox, alert_transitions, alerts, findings):
            connection.execute(sa.delete(table))
    judge(AlertRaiser(), [ahead, right])
    assert webhook_ids(operational) == before


@pytest.mark.usefixtures("endpoint")
def test_what_people_do_is_a_new_event_each_time(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    """After a restore a person acts again, and otherwise: that must not look like what was told before."""
    item = finding()
    told_before: set[str] = set()
    for _ in range(2):
        judge(AlertRaiser(), [item])
        acknowledge(operational, only(operational).alert_id, "li", at_ms=NOON_MS)
        told_before |= set(webhook_ids(operational))
        with operational.write() as connection:
            for table in (outbox, alert_transitions, alerts, findings):
                connection.execute(sa.delete(table))
    assert len(told_before) == 3


def webhook_ids(operational: Operational) -> list[str]:
    with operational.read() as connection:
        return list(connection.scalars(sa.select(outbox.c.webhook_id).order_by(outbox.c.id)))
