"""Technical alerts open and resolve by what stations say; an exceedance without data stays open, marked stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.alert import DATA_STALE
from alerts.raising import AlertRaiser
from alerts.tables import alert_transitions, alerts, outbox
from alerts.technical.conditions import Patience
from alerts.technical.watch import TechnicalWatch
from alerts.transitions import indicator_names
from ingest.tables import series_faults, station_state

if TYPE_CHECKING:
    from ingest.operational import Operational

NOW_MS = 1_763_870_500_000
MINUTE_MS = 60_000


@pytest.fixture
def town(operational: Operational):
    return Town(operational)


class Town:
    """One station that says things, and the watch that listens."""

    def __init__(self, operational: Operational) -> None:
        self.operational = operational
        self.troubles: list[str] = []
        self.watch = TechnicalWatch(operational, indicator_names, lambda: self.troubles)
        self.now_ms = NOW_MS

    def says(self, *, online=True, devices=(), alarms=(), age_ms=0):
        row = {
            "online": online,
            "seen_ms": self.now_ms - age_ms,
            "devices": [{"path": path, "seen_ms": 0, "ok": ok} for path, ok in devices],
            "alarms": list(alarms),
        }
        with self.operational.write() as connection:
            connection.execute(sa.delete(station_state))
            connection.execute(sa.insert(station_state).values(station="hl-001", **row))

    def after(self, minutes: float) -> bool:
        self.now_ms += round(minutes * MINUTE_MS)
        return self.watch.look(self.now_ms)

    def open(self) -> list[tuple[str, str]]:
        c = alerts.c
        query = sa.select(c.kind, c.device).where(c.state == "open").order_by(c.kind, c.device)
        with self.operational.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def flags(self) -> list[str]:
        with self.operational.read() as connection:
            return connection.scalars(
                sa.select(alerts.c.flags).where(alerts.c.kind == "limit")
            ).one()


def test_a_device_that_does_not_answer_opens_after_a_while_and_resolves(town):
    town.says(devices=[("soil1", False), ("soil2", True)])
    assert not town.after(0)
    for _ in range(4):
        town.says(devices=[("soil1", False), ("soil2", True)])
        assert not town.after(2)
    town.says(devices=[("soil1", False), ("soil2", True)])
    assert town.after(2)
    assert town.open() == [("device_offline", "soil1")]
    town.says(devices=[("soil1", True), ("soil2", True)])
    assert town.after(1)
    assert town.open() == []
    assert not town.after(1)


def test_an_outage_is_one_alert_of_the_station_not_one_for_each_device(town):
    town.says(devices=[("soil1", False), ("soil2", False)])
    town.after(0)
    assert not town.after(4)  # the last word is now four minutes old
    assert town.after(7)
    assert town.open() == [("station_offline", "")]
    town.says(devices=[("soil1", True), ("soil2", True)])
    assert town.after(0)
    assert town.open() == []


def test_alarms_open_at_once(town):
    town.says(
        alarms=["clock_off", "certificate_7d", "duplicate_gateway", "spool_full", "unheard_of"]
    )
    assert town.after(0)
    assert [kind for kind, _ in town.open()] == [
        "certificate_expiry",
        "clock",
        "data_gap",
        "duplicate_gateway",
    ]


def test_a_store_that_is_away_is_an_alert_of_the_server(town):
    town.troubles = ["store: cannot be reached"]
    town.after(0)
    assert town.after(1)
    assert town.open() == [("store_down", "")]
    town.troubles = []
    assert town.after(0.1)
    assert town.open() == []


def test_a_sensor_that_gives_nothing_usable_for_ten_minutes_is_an_alert_of_its_series(town):
    row = {"station": "hl-001", "device": "canal", "indicator": "water_ph", "what": "flat"}
    with town.operational.write() as connection:
        connection.execute(sa.insert(series_faults).values(**row, since_ms=NOW_MS, last_ms=NOW_MS))
    town.says()
    assert not town.after(30)  # of the clock, not of its readings
    with town.operational.write() as connection:
        connection.execute(sa.update(series_faults).values(last_ms=NOW_MS + 10 * MINUTE_MS))
    town.says()
    assert town.after(0)
    assert town.open() == [("sensor_fault", "canal")]
    with town.operational.read() as connection:
        alert = connection.execute(sa.select(alerts)).one()
    assert (alert.indicator, alert.evidence) == ("water_ph", {"condition": "flat"})
    with town.operational.write() as connection:
        connection.execute(sa.delete(series_faults))
    town.says()
    assert town.after(1)
    assert town.open() == []


def test_how_long_is_configured(town):
    town.watch = TechnicalWatch(
        town.operational, indicator_names, patience=Patience(device_offline_min=1)
    )
    town.says(devices=[("soil1", False)])
    assert not town.after(0)
    town.says(devices=[("soil1", False)])
    assert town.after(1)


def test_a_restart_forgets_no_open_alert(town, operational):
    town.says(alarms=["clock_off"])
    town.after(0)
    town.says()
    assert TechnicalWatch(operational, indicator_names).look(town.now_ms)
    assert town.open() == []


def test_an_exceedance_without_data_stays_open_and_is_stale_until_data_return(town, judge, finding):
    judge(AlertRaiser(), [finding()])
    town.says(devices=[("plot1/water", False)])
    assert not town.after(0)
    town.says(devices=[("plot1/water", False)])
    assert town.after(1)
    assert town.flags() == [DATA_STALE]
    with town.operational.read() as connection:
        assert (
            connection.scalar(sa.select(alerts.c.state).where(alerts.c.kind == "limit"))
            == "suspected"
        )
    town.says(devices=[("plot1/water", True)])
    assert town.after(1)
    assert town.flags() == []
    with town.operational.read() as connection:
        log = connection.scalars(
            sa.select(alert_transitions.c.reason).order_by(alert_transitions.c.id)
        ).all()
    assert log[-2:] == ["数据中断 | no data any more", "数据恢复 | data again"]


def test_what_stations_do_never_ends_an_exceedance(town, judge, finding):
    judge(AlertRaiser(), [finding()])
    town.says(online=False)
    for _ in range(20):
        town.after(5)
    town.says()
    town.after(1)
    with town.operational.read() as connection:
        row = connection.execute(sa.select(alerts).where(alerts.c.kind == "limit")).one()
    assert row.state == "suspected"
    assert DATA_STALE not in row.flags
    with town.operational.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(outbox)) == 0
