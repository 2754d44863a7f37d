"""From a window of work on a device to the alerts that it keeps away: registry, consumer, judge and raiser together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.raising import AlertRaiser
from alerts.tables import alerts
from drivers.records import Reading
from gateway import wire
from ingest import tables
from ingest.consumers import Consumer, Handed
from ingest.decode import Decoder, SeriesIndex
from ingest.inbox import Inbox
from ingest.intake import Staged, Taken
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.consumer import Judge
from ingest.operational import Operational
from ingest.registry import files, windows
from ingest.registry.live import Registry
from tests.conftest import until
from tests.test_judge_to_alert import EPOCH, NOW_MS, REGISTRY, STATION

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000
START_MS = NOW_MS - 60 * MINUTE
ACID, GOOD = 4.9, 7.1  # of a canal: 5.5 to 8.5


class County:
    """An inbox, and the judge behind it on its own thread."""

    def __init__(self, directory: Path, databases) -> None:
        self.operational = Operational(databases.url(directory / "operational.db"))
        self.operational.migrate()
        (directory / "registry.toml").write_text(REGISTRY, encoding="utf-8")
        files.sync(self.operational, files.load(directory / "registry.toml"), NOW_MS)
        self.registry = Registry(self.operational)
        raiser = AlertRaiser()
        judge = Judge(standard_catalogue(), self.registry, self.operational, raiser)
        index = SeriesIndex()
        self.inbox = Inbox.open(directory / "inbox.db")
        self.decoder = Decoder(index)
        self.consumer = Consumer(
            "judge",
            judge,
            self.inbox,
            index,
            transient=(),
            after=raiser.wake,
            thresholds=self.registry.quality,
        )
        self.consumer.start()
        self.seq = 0

    def work(self, kind: str, from_ms: int, to_ms: int) -> None:
        with self.operational.write() as db:
            windows.add(
                db,
                station=STATION,
                device="canal/ph",
                kind=kind,
                from_ms=from_ms,
                to_ms=to_ms,
                set_by="wang",
                now_ms=NOW_MS,
            )
        self.registry.quality.refresh()

    def measure(self, at_ms: int, value: float) -> None:
        """Take one pack of one reading and wait until it is judged."""
        self.seq += 1
        body = wire.encode_readings([Reading("canal/ph", "water_ph", at_ms, value)])
        taken = Taken(STATION, EPOCH, self.seq, 1, NOW_MS, NOW_MS, body)
        self.consumer.offer(Handed(self.inbox.commit(Staged(taken=[taken])), self.decoder))
        until(lambda: self.consumer.position == self.seq or self.consumer.failure)
        assert self.consumer.failure is None

    def found(self) -> tuple[int, list[str]]:
        """Return the number of findings, and the states of the alerts."""
        with self.operational.read() as db:
            findings = db.execute(sa.select(tables.findings.c.finding_id)).all()
            return len(findings), list(db.execute(sa.select(alerts.c.state)).scalars())

    def close(self) -> None:
        self.consumer.stop()
        self.inbox.close()
        self.operational.close()


@pytest.fixture
def county(tmp_path, databases):
    county = County(tmp_path, databases)
    yield county
    county.close()


@pytest.mark.parametrize("kind", ["maintenance", "calibration"])
def test_a_limit_broken_in_a_window_is_no_finding_and_a_second_after_it_is_an_alert(county, kind):
    end_ms = START_MS + 20 * MINUTE
    county.work(kind, START_MS, end_ms)
    for at_ms in (START_MS, START_MS + 10 * MINUTE, end_ms - 1):
        county.measure(at_ms, ACID)
    assert county.found() == (0, [])
    county.measure(end_ms + 1000, ACID)
    assert county.found() == (1, ["suspected"])


def test_what_is_measured_while_calibrating_clears_nothing(county):
    county.measure(START_MS, ACID)
    assert county.found() == (1, ["suspected"])
    county.work("calibration", START_MS + MINUTE, START_MS + 25 * MINUTE)
    for minute in range(1, 25):
        county.measure(START_MS + minute * MINUTE, GOOD)
    assert county.found() == (1, ["suspected"])
    for minute in range(25, 37):
        county.measure(START_MS + minute * MINUTE, GOOD)
    assert county.found() == (1, ["cleared"])
