"""What is known of each station's gateway."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from gateway import wire
from gateway.wire import DeviceSeen, Status
from ingest import tables
from ingest.intake import LiveStatus
from ingest.operational import Operational
from ingest.stations import (
    CLOCK_OFF_MS,
    CLONED_WITHIN_S,
    OFFLINE_AFTER_S,
    PENDING_KEYS_MAX,
    StationWatch,
)
from tests.conftest import until

NOW = 1_777_600_000_000
HOUR_MS = 3_600_000
OFFLINE_AFTER_MS = int(OFFLINE_AFTER_S * 1000)
KEY, OTHER = "k" * 44, "o" * 44


class County:
    def __init__(self, directory, databases) -> None:
        self.operational = Operational(databases.url(directory / "operational.db"))
        self.operational.migrate()
        self.now = NOW
        self.stepped_ms = 0  # by how much the wall clock was set
        self.connected_since: int | None = NOW
        self.woken = 0
        self.failed = threading.Event()
        self.watch = StationWatch(
            self.operational,
            now_ms=lambda: self.now + self.stepped_ms,
            monotonic=lambda: (self.now - NOW) / 1000,
            connected_since_ms=lambda: self.connected_since,
            after=self.wake,
            on_failure=self.failed.set,
        )
        with self.operational.write() as db:
            for code in ("hl-001", "hl-002"):
                db.execute(
                    sa.insert(tables.stations).values(code=code, name=code, region_code="640122")
                )

    def wake(self) -> None:
        self.woken += 1

    def status(self, station="hl-001", *, approved=True, key=KEY, **fields) -> LiveStatus:
        status = Status(**{"online": True, "session": "s1", "key": key, **fields})
        return LiveStatus(station, status, self.now + self.stepped_ms, approved)

    def will(self, station="hl-001") -> LiveStatus:
        return LiveStatus(station, Status(online=False, session="s1"), self.now, approved=True)

    def write(self, *statuses: LiveStatus) -> None:
        for status in statuses:
            self.watch.offer([status])
        self.watch.write()

    def rows(self, table):
        with self.operational.read() as db:
            return [dict(row) for row in db.execute(sa.select(table)).mappings()]

    def state(self, station="hl-001"):
        return next((r for r in self.rows(tables.station_state) if r["station"] == station), None)

    def events(self):
        return [(r["station"], r["data"]["state"]) for r in self.rows(tables.events)]


@pytest.fixture
def county(tmp_path, databases):
    county = County(tmp_path, databases)
    yield county
    county.operational.close()


def test_a_status_is_written_whole(county):
    county.write(
        county.status(
            version="1.2",
            queue=3,
            oldest_unreceipted_ms=4,
            disk_free=5,
            clock_offset_ms=-6,
            alarms=["spool_full"],
            devices=[DeviceSeen("a", 7, ok=True)],
        )
    )
    row = county.state()
    assert row.pop("devices") == [{"path": "a", "seen_ms": 7, "ok": True}]
    assert row == {
        "station": "hl-001",
        "session": "s1",
        "online": True,
        "seen_ms": NOW,
        "version": "1.2",
        "queue": 3,
        "oldest_unreceipted_ms": 4,
        "disk_free": 5,
        "clock_offset_ms": -6,
        "key_state": "approved",
        "alarms": ["spool_full"],
    }
    assert county.events() == [("hl-001", "online")]
    assert county.woken == 1


def test_the_same_again_is_no_event(county):
    county.write(county.status())
    county.now += 60_000
    county.write(county.status(queue=9))
    assert county.events() == [("hl-001", "online")]
    assert county.woken == 1
    assert (county.state()["queue"], county.state()["seen_ms"]) == (9, NOW + 60_000)


def test_a_will_and_a_goodbye_are_offline(county):
    county.write(county.status())
    county.write(county.will())
    assert not county.state()["online"]
    county.write(county.status())
    county.write(county.status(online=False))
    assert not county.state()["online"]
    assert [state for _, state in county.events()] == ["online", "offline", "online", "offline"]


def test_silence_of_three_intervals_is_offline_once_ingest_was_there_as_long(county):
    county.write(county.status())
    county.now += OFFLINE_AFTER_MS + 1
    for since in (None, NOW + 60_000):  # not connected, connected a moment ago
        county.connected_since = since
        county.write()
        assert county.state()["online"]
    county.now += OFFLINE_AFTER_MS + 1
    county.write()
    county.write()
    assert not county.state()["online"]
    assert county.events() == [("hl-001", "online"), ("hl-001", "offline")]


def test_exactly_three_intervals_are_no_silence(county):
    county.write()
    county.write(county.status())
    county.now += OFFLINE_AFTER_MS
    county.write()
    assert county.state()["online"]


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, 365 * 24 * HOUR_MS, -365 * 24 * HOUR_MS])
def test_a_step_of_the_servers_clock_calls_nobody_offline(county, step_ms):
    county.write(county.status(), county.status("hl-002"))
    county.now += OFFLINE_AFTER_MS
    county.write(county.status())
    county.stepped_ms = step_ms
    with capture_logs() as logs:
        county.write()
        county.write()
    assert [(e["event"], e["step_ms"]) for e in logs] == [("server_clock_stepped", step_ms)]
    assert county.state()["online"]
    assert county.state("hl-002")["online"]  # silent for exactly three intervals
    # The age of the last beat is what it was: the pages go by it.
    assert county.state()["seen_ms"] == county.now + step_ms
    county.now += 1
    county.write()
    assert county.state()["online"]
    assert not county.state("hl-002")["online"]  # and silence is found all the same


def test_a_station_known_from_before_the_start_gets_three_intervals_too(county):
    county.write(county.status())
    again = StationWatch(
        county.operational,
        now_ms=lambda: county.now,
        monotonic=lambda: (county.now - NOW) / 1000,
        connected_since_ms=lambda: county.connected_since,
        after=county.wake,
    )
    county.now += 10 * OFFLINE_AFTER_MS
    again.write()
    county.now += OFFLINE_AFTER_MS - 1
    again.write()
    assert county.state()["online"]
    county.now += 1
    again.write()
    assert not county.state()["online"]


def spoken(county, sessions, *, every_ms=60_000):
    for session in sessions:
        county.now += every_ms
        county.write(county.status(session=session))


def test_one_key_in_two_sessions_in_turn_is_a_cloned_gateway(county):
    with capture_logs() as logs:
        spoken(county, "ababa")
        assert county.state()["alarms"] == ["gateway_cloned"]
        spoken(county, "baba")
    assert county.events() == [("hl-001", "online"), ("hl-001", "gateway_cloned")]
    [said] = [e for e in logs if e["event"] == "gateway_cloned"]
    assert said["log_level"] == "error"
    assert "stop the copy" in said["todo"]

    spoken(county, "a" * int(CLONED_WITHIN_S / 60))  # the copy was stopped
    assert county.state()["alarms"] == []


def test_clones_that_push_each_other_off_are_found_within_one_write(county):
    county.write(*[county.status(session=session) for session in "ababa"])
    assert county.state()["alarms"] == ["gateway_cloned"]


@pytest.mark.parametrize(
    ("sessions", "every_ms"),
    [
        ("abcdef", 1_000),  # starts again and again
        ("aabaabb", 1_000),  # a start, and one status that came late
        ("ababa", 151_000),  # minutes apart, many of them
    ],
)
def test_restarts_and_late_messages_are_no_clones(county, sessions, every_ms):
    spoken(county, sessions, every_ms=every_ms)
    assert county.state()["alarms"] == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_far_off_is_an_alarm_however_it_is_known(county, sign):
    off = sign * (CLOCK_OFF_MS + 1)
    with capture_logs() as logs:
        county.write(county.status(clock_offset_ms=off))
        county.write(county.status(clock_offset_ms=off, alarms=["clock_off"]))
        assert county.state()["alarms"] == ["clock_off"]
        county.write(county.status(clock_offset_ms=sign * CLOCK_OFF_MS))
        assert county.state()["alarms"] == []
        county.write(county.status(sent_ms=county.now + off))  # it never had a receipt
    assert (county.state()["clock_offset_ms"], county.state()["alarms"]) == (off, ["clock_off"])
    said = [(e["event"], e["alarm"]) for e in logs if e["event"].startswith("station_alarm")]
    assert said == [
        ("station_alarm", "clock_off"),
        ("station_alarm_ended", "clock_off"),
        ("station_alarm", "clock_off"),
    ]


def test_a_key_that_is_not_approved_waits_and_changes_nothing_else(county):
    with capture_logs() as logs:
        county.write(county.status(approved=False))
        county.write(county.status(approved=False))
    [key] = county.rows(tables.gateway_keys)
    assert (key["station"], key["key"], key["state"], key["first_seen_ms"]) == (
        "hl-001",
        KEY,
        "pending",
        NOW,
    )
    assert county.state() is None
    assert county.events() == [("hl-001", "pending")]
    assert [entry["event"] for entry in logs] == ["gateway_key_pending", "station_state"]
    assert "approve" in logs[0]["todo"]
    assert county.woken == 1


def test_a_second_key_beside_an_approved_one_is_a_duplicate_gateway(county):
    with county.operational.write() as db:
        db.execute(
            sa.insert(tables.gateway_keys).values(
                station="hl-001", key=KEY, state="approved", first_seen_ms=1
            )
        )
    with capture_logs() as logs:
        county.write(county.status(), county.status(approved=False, key=OTHER))
    assert county.state()["online"]  # the stranger's status did not hide the gateway's own
    assert ("hl-001", "duplicate_gateway") in county.events()
    assert any(entry["event"] == "duplicate_gateway" for entry in logs)


def test_keys_that_wait_are_bounded(county):
    for number in range(PENDING_KEYS_MAX + 5):
        county.write(county.status(approved=False, key=f"{number:044}"))
    assert len(county.rows(tables.gateway_keys)) == PENDING_KEYS_MAX


def test_a_station_that_is_not_registered_is_named_once_and_kept_out(county):
    with capture_logs() as logs:
        for _ in range(3):
            county.write(county.status("xx-999", approved=False))
    assert [(e["event"], e["station"]) for e in logs] == [("station_unknown", "xx-999")]
    assert "registry" in logs[0]["todo"]
    assert county.rows(tables.gateway_keys) == []
    assert county.state("xx-999") is None


def test_only_the_last_status_of_a_station_is_written(county):
    county.write(county.status(queue=1), county.status(queue=2), county.status("hl-002"))
    assert county.state()["queue"] == 2
    assert county.events() == [("hl-001", "online"), ("hl-002", "online")]


def test_what_could_not_be_written_is_written_later(county, monkeypatch):
    def refuse() -> object:
        raise sa.exc.OperationalError("x", {}, Exception("disk full"))

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(county.operational, "write", refuse)
        county.write(county.status(queue=1))
    assert [entry["event"] for entry in logs] == ["station_state_not_written"]
    county.watch.offer([county.status("hl-002")])
    county.write()
    assert county.state()["queue"] == 1
    assert county.state("hl-002") is not None


def test_the_thread_writes_and_stop_writes_what_is_pending(county):
    county.watch.start()
    county.watch.offer([county.status()])
    until(lambda: county.state() is not None)
    county.watch.offer([county.status("hl-002")])
    county.watch.stop()
    assert county.state("hl-002") is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_is_reported(county):
    county.watch.offer([county.status(version=None)])
    with capture_logs():
        county.watch.start()
        assert county.failed.wait(30)
    assert isinstance(county.watch.failure, AttributeError)
    county.watch.stop()


def test_numbers_that_no_database_takes_never_come_this_far():
    with pytest.raises(wire.WireError, match="queue"):
        wire.decode_status(b'{"online":true,"session":"s","queue":9223372036854775808}')
