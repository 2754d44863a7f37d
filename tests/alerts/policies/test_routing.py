"""Who is told: policies, silences and inhibition on a real database; nothing is lost, all is told once at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from alerts.actions import acknowledge, act
from alerts.alert import Alert
from alerts.identity import person_event_id
from alerts.policies.policy import Policy
from alerts.policies.store import sync_policies
from alerts.policy_watch import Inhibitions, Reminders, Retests, Silences, cancel
from alerts.raising import AlertRaiser
from alerts.states import Facts, State, Trigger
from alerts.tables import (
    alert_transitions,
    alerts,
    endpoints,
    notices,
    outbox,
    silences,
    targets,
)
from alerts.transitions import indicator_names, record

if TYPE_CHECKING:
    from ingest.operational import Operational

NOW_MS = 1_763_870_401_000
HOUR_MS = 3_600_000
ENDPOINTS = ("county", "province")
PEOPLE = ("desk", "boss")


@dataclass
class Town:
    """A database with two endpoints and two robots."""

    operational: Operational

    def __post_init__(self) -> None:
        with self.operational.write() as connection:
            for id_ in ENDPOINTS:
                connection.execute(
                    sa.insert(endpoints).values(
                        id=id_, name=id_, url="https://x.example", active=True
                    )
                )
            for id_ in PEOPLE:
                connection.execute(
                    sa.insert(targets).values(
                        id=id_, kind="wecom", name=id_, settings="", active=True
                    )
                )

    def policies(self, *documents: dict[str, object]) -> None:
        found = [msgspec.convert(document, Policy) for document in documents]
        sync_policies(self.operational, found, NOW_MS)

    def rows(self, query: sa.Select) -> list:
        with self.operational.read() as connection:
            return list(connection.execute(query))

    def sent(self) -> list[tuple[str, str]]:
        query = sa.select(outbox.c.endpoint_id, outbox.c.event_type).order_by(outbox.c.id)
        return [tuple(row) for row in self.rows(query)]

    def told(self) -> list[tuple[str, str]]:
        query = sa.select(notices.c.target_id, notices.c.event_type).order_by(notices.c.id)
        return [tuple(row) for row in self.rows(query)]

    def alert_id(self) -> str:
        return self.rows(sa.select(alerts.c.alert_id).order_by(alerts.c.raised_ms))[0][0]

    def silence(self, match: dict[str, object], *, ends_ms: int, scope: str = "people") -> None:
        with self.operational.write() as connection:
            connection.execute(
                sa.insert(silences).values(
                    id=f"s{ends_ms}",
                    matchers={"match": match, "scope": scope},
                    starts_ms=0,
                    ends_ms=ends_ms,
                    reason="work on the canal",
                    actor="li",
                    created_ms=0,
                )
            )

    def technical(self, kind: str, trigger: Trigger, at_ms: int, alert_id: str = "") -> str:
        """Open or resolve a technical alert as the watch of stations does."""
        with self.operational.write() as connection:
            if trigger is Trigger.OPEN:
                alert = Alert(
                    alert_id=alert_id, dedup_key=alert_id, kind=kind, rule_id=kind, severity="major",
                    certainty="", station="hl-001", device="", plot_id="", region_code="440811",
                    indicator="", product_name="", sample_no="", value=None, unit="", citation={},
                    evidence={}, first_seen_ms=at_ms, last_seen_ms=at_ms, occurrence_count=1,
                    flags=[], clearable=False, raised_ms=at_ms, changed_ms=at_ms,
                )  # fmt: skip
                change = alert.move(trigger, Facts(kind=kind), at_ms, cause=person_event_id())
                connection.execute(sa.insert(alerts).values(alert.to_row()))
                record(connection, [change], indicator_names)
                return alert_id
        act(self.operational, alert_id, trigger, "system", at_ms=at_ms)
        return alert_id


@pytest.fixture
def town(operational: Operational) -> Town:
    return Town(operational)


def test_without_a_policy_endpoints_get_all_and_people_what_is_grave(town, judge, finding):
    judge(AlertRaiser(), [finding(), finding(device="plot2/water", severity="warning")])
    assert sorted(town.sent()) == [
        (id_, "alert.suspected") for id_ in ("county", "county", "province", "province")
    ]
    assert sorted(town.told()) == [("boss", "alert.suspected"), ("desk", "alert.suspected")]


def test_a_policy_says_who_and_what_nobody_speaks_of_goes_to_every_endpoint(town, judge, finding):
    town.policies(
        {
            "id": "water",
            "match": {"indicator": ["water_ph"]},
            "endpoints": ["county"],
            "targets": ["desk"],
        }
    )
    judge(
        AlertRaiser(),
        [finding(), finding(device="plot2/water", indicator="water_cod", rule_id="gb5084:COD")],
    )
    assert sorted(town.sent()) == [
        ("county", "alert.suspected"),
        ("county", "alert.suspected"),
        ("province", "alert.suspected"),
    ]
    assert ("boss", "alert.suspected") in town.told()


def test_d12_silenced_then_over_the_state_of_then_is_told_once(town, judge, finding):
    town.silence({"station": ["hl-001"]}, ends_ms=NOW_MS + HOUR_MS)
    judge(AlertRaiser(), [finding()])
    alert_id = town.alert_id()
    acknowledge(town.operational, alert_id, "li", at_ms=NOW_MS + 60_000)
    assert town.told() == []
    assert len(town.sent()) == 4  # endpoints are not silenced
    watch = Silences(town.operational, indicator_names)
    assert not watch.look(NOW_MS + 60_001)
    assert watch.look(NOW_MS + HOUR_MS)
    assert not watch.look(NOW_MS + HOUR_MS + 5000)
    assert sorted(town.told()) == [("boss", "alert.updated"), ("desk", "alert.updated")]
    (row,) = town.rows(sa.select(notices.c.snapshot).where(notices.c.target_id == "desk"))
    assert row.snapshot["seq"] == 3  # suspected, acknowledged, the silence over
    log = town.rows(sa.select(alert_transitions.c.event).order_by(alert_transitions.c.id))
    assert [row[0] for row in log] == ["alert.suspected", "alert.acknowledged", "alert.updated"]


@pytest.mark.parametrize("trigger", [Trigger.DISMISS, Trigger.SUPERSEDE])
def test_d12_an_alert_that_ended_while_silenced_is_told_once(town, judge, finding, trigger):
    town.silence({"station": ["hl-001"]}, ends_ms=NOW_MS + HOUR_MS, scope="all")
    judge(AlertRaiser(), [finding()])
    act(town.operational, town.alert_id(), trigger, "li", "probe in the air", at_ms=NOW_MS)
    assert town.sent() == []
    Silences(town.operational, indicator_names).look(NOW_MS + HOUR_MS)
    assert town.sent() == [("county", "alert.updated"), ("province", "alert.updated")]


def test_a_silence_for_all_does_not_keep_what_is_critical_from_endpoints(town, judge, finding):
    town.silence({"station": ["hl-001"]}, ends_ms=NOW_MS + HOUR_MS, scope="all")
    judge(AlertRaiser(), [finding(severity="critical")])
    assert len(town.sent()) == 2
    assert town.told() == []


def test_a_cancelled_silence_tells_at_the_next_look(town, judge, finding):
    town.silence({"station": ["hl-001"]}, ends_ms=NOW_MS + 9 * HOUR_MS)
    judge(AlertRaiser(), [finding()])
    with town.operational.write() as connection:
        assert cancel(connection, f"s{NOW_MS + 9 * HOUR_MS}", NOW_MS + HOUR_MS)
        assert not cancel(connection, f"s{NOW_MS + 9 * HOUR_MS}", NOW_MS + HOUR_MS)
    assert Silences(town.operational, indicator_names).look(NOW_MS + HOUR_MS)
    assert len(town.told()) == 2


def test_d12_a_station_that_is_away_explains_its_devices_and_what_is_left_is_told_once(town):
    source = town.technical("station_offline", Trigger.OPEN, NOW_MS, "01K0A".ljust(26, "0"))
    device = town.technical("device_offline", Trigger.OPEN, NOW_MS + 1000, "01K0B".ljust(26, "0"))
    assert [event for _, event in town.sent()] == ["alert.open"] * 2  # the station's, to two
    (row,) = town.rows(sa.select(alerts.c.inhibited_by).where(alerts.c.alert_id == device))
    assert row.inhibited_by == [source]
    watch = Inhibitions(town.operational, indicator_names)
    assert not watch.look(NOW_MS + 2000)
    town.technical("station_offline", Trigger.RESOLVE, NOW_MS + 3000, source)
    assert watch.look(NOW_MS + 4000)
    assert not watch.look(NOW_MS + 5000)
    assert town.sent()[-2:] == [("county", "alert.updated"), ("province", "alert.updated")]
    states = town.rows(sa.select(alerts.c.state).order_by(alerts.c.alert_id))
    assert [row.state for row in states] == [State.RESOLVED, State.OPEN]


def test_a_station_that_is_away_never_keeps_a_limit_from_anybody(town, judge, finding):
    town.technical("station_offline", Trigger.OPEN, NOW_MS, "01K0A".ljust(26, "0"))
    before = len(town.sent())
    judge(AlertRaiser(), [finding()])
    assert len(town.sent()) == before + 2


def test_a_deadline_is_told_to_whom_it_escalates(town, judge, finding):
    town.policies({"id": "p", "endpoints": ["county"], "targets": ["desk"], "escalate": ["boss"]})
    judge(AlertRaiser(), [finding()])
    act(town.operational, town.alert_id(), Trigger.FALL_OVERDUE, "system", "x", at_ms=NOW_MS)
    assert town.told() == [
        ("desk", "alert.suspected"),
        ("desk", "alert.overdue"),
        ("boss", "alert.overdue"),
    ]


def test_people_are_reminded_until_somebody_acknowledges(town, judge, finding):
    town.policies({"id": "p", "endpoints": ["county"], "targets": ["desk"], "repeat_h": 2})
    judge(AlertRaiser(), [finding()])
    watch = Reminders(town.operational, indicator_names)
    (first,) = town.rows(sa.select(notices.c.created_ms))
    assert not watch.look(first[0] + 2 * HOUR_MS - 1)
    assert watch.look(first[0] + 2 * HOUR_MS)
    assert not watch.look(first[0] + 3 * HOUR_MS)
    assert watch.look(first[0] + 4 * HOUR_MS)
    assert len(town.told()) == 3
    acknowledge(town.operational, town.alert_id(), "li", at_ms=first[0] + 5 * HOUR_MS)
    assert not watch.look(first[0] + 99 * HOUR_MS)


def test_a_policy_orders_the_retest_of_a_suspect_test(town, judge, finding):
    town.policies(
        {
            "id": "p",
            "endpoints": ["county"],
            "order_retest": True,
            "match": {"severity": "critical"},
        }
    )
    suspect = {"kind": "test", "certainty": "screening", "sample_no": "s1", "record_id": "r1"}
    judge(
        AlertRaiser(),
        [finding(**suspect), finding(**(suspect | {"sample_no": "s2"}), severity="critical")],
    )
    watch = Retests(town.operational, indicator_names)
    assert watch.look(NOW_MS)
    assert not watch.look(NOW_MS + 1)
    log = town.rows(
        sa.select(alert_transitions.c.actor).where(alert_transitions.c.to_state == "retest_ordered")
    )
    assert [row.actor for row in log] == ["policy:p"]
