"""Case R19, behaviours 3 and 11: a thousand repeats, reversed order, data of a month ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from alerts.tables import alerts, outbox
from drivers.records import Reading
from gateway import keys, wire
from gateway.wire import EpochState, Lane
from ingest.inbox import Inbox
from ingest.intake import Intake, Outcome
from tests.conftest import Databases
from tests.test_judge_to_alert import NOW_MS, STATION, County

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAA1"
STORE = "01KASTARE00000000000000000"
KEY = Ed25519PrivateKey.generate()
DAY_MS = 24 * 3600 * 1000
GOOD, BAD = 7.2, 9.4  # pH of irrigation water; GB 5084 allows 5.5 to 8.5


class Everyone:
    """Whose key counts: the only one there is."""

    def is_approved(self, station: str, key: str) -> bool:
        return (station, key) == (STATION, keys.public_text(KEY))

    def may_deliver(self, station: str, key: str, _epoch: str) -> bool:
        return self.is_approved(station, key)


class Ingest(County):
    """Intake, inbox and judge of one server."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Databases(None))
        self.inbox = Inbox.open(directory / "inbox.db")
        self.intake = Intake(self.inbox, Everyone(), store=STORE)
        self.now_ms = NOW_MS
        lanes = {Lane.READINGS: [EpochState(EPOCH, 1, 0)]}
        status = wire.Status(
            online=True,
            session="s1",
            lanes=lanes,
            key=keys.public_text(KEY),
            sig=keys.sign(KEY, wire.status_signing_bytes(STATION, "s1", lanes)),
        )
        topic = wire.topic(STATION, "status")
        self.intake.status(topic, wire.encode_status(status), NOW_MS, retained=False)
        self.commit()

    def offer(self, seq: int, body: bytes) -> Outcome:
        payload = wire.encode_pack(EPOCH, seq, 1, self.now_ms, body)
        return self.intake.pack(wire.topic(STATION, "up"), payload, self.now_ms)

    def commit(self) -> None:
        packs = self.intake.commit(self.now_ms).packs
        if packs:
            self.judge.handle(self.decoder.decode(packs))
            self.raiser.wake()

    def alerts(self) -> list[tuple[str, int, list[str]]]:
        query = sa.select(alerts.c.state, alerts.c.occurrence_count, alerts.c.flags)
        return [tuple(row) for row in self.rows(query.order_by(alerts.c.first_seen_ms))]

    def webhooks(self) -> int:
        return len(self.rows(sa.select(outbox.c.id)))


def ph(t_ms: int, value: float) -> bytes:
    return wire.encode_readings([Reading("canal/ph", "water_ph", t_ms, value)])


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Ingest]:
    ingest = Ingest(tmp_path)
    yield ingest
    ingest.inbox.close()
    ingest.operational.close()


def test_r19_a_pack_that_comes_a_thousand_times_has_one_effect(ingest: Ingest) -> None:
    body = ph(NOW_MS - 1000, BAD)
    outcomes = []
    for n in range(1000):
        outcomes.append(ingest.offer(1, body))
        if n % 100 == 0:  # some in one commit, some in later ones
            ingest.commit()
    ingest.commit()
    assert outcomes.count(Outcome.TAKEN) == 1
    assert outcomes.count(Outcome.DUPLICATE) == 999
    assert ingest.inbox.last_pos == 1
    assert [(state, count) for state, count, _ in ingest.alerts()] == [("suspected", 1)]
    assert ingest.webhooks() == 1


def test_r19_packs_in_reversed_order_are_taken_in_order_as_the_edge_goes_back(
    ingest: Ingest,
) -> None:
    bodies = {seq: ph(NOW_MS - 60_000 + seq * 1000, BAD) for seq in range(1, 21)}
    outcomes = [ingest.offer(seq, bodies[seq]) for seq in range(20, 1, -1)]
    assert set(outcomes) == {Outcome.OUT_OF_ORDER}
    for seq in range(1, 21):
        assert ingest.offer(seq, bodies[seq]) is Outcome.TAKEN
    ingest.commit()
    assert [pack.seq for pack in ingest.inbox.read_after(0, 100)] == list(range(1, 21))
    assert [(state, count) for state, count, _ in ingest.alerts()] == [("suspected", 20)]
    assert ingest.webhooks() == 1


def test_r19_an_exceedance_of_a_month_ago_still_raises_an_alert_marked_late(
    ingest: Ingest,
) -> None:
    ingest.offer(1, ph(NOW_MS - 1000, GOOD))
    ingest.commit()
    ingest.offer(2, ph(NOW_MS - 30 * DAY_MS, BAD))
    ingest.commit()
    [(state, count, flags)] = ingest.alerts()
    assert (state, count) == ("suspected", 1)
    assert "late" in flags


def test_r19_late_good_values_do_not_clear_a_newer_breach(ingest: Ingest) -> None:
    ingest.offer(1, ph(NOW_MS - 1000, BAD))
    ingest.commit()
    for seq in range(2, 40):
        ingest.offer(seq, ph(NOW_MS - 30 * DAY_MS + seq * 60_000, GOOD))
    ingest.commit()
    assert [state for state, _, _ in ingest.alerts()] == ["suspected"]


def test_behaviour_11_a_day_of_history_raises_its_breaches_once_as_late(ingest: Ingest) -> None:
    """24 h of one reading a minute, ten breaches two hours apart, delivered while today is good."""
    ingest.offer(1, ph(NOW_MS, GOOD))
    ingest.commit()
    seq = 1
    for minute in range(24 * 60):
        seq += 1
        value = BAD if minute % 120 == 60 and minute < 1260 else GOOD
        ingest.offer(seq, ph(NOW_MS - 2 * DAY_MS + minute * 60_000, value))
        if minute % 97 == 0:
            ingest.commit()
    ingest.commit()
    found = ingest.alerts()
    assert sum(count for _, count, _ in found) == 10
    assert all("late" in flags for _, _, flags in found)
    assert all(state == "cleared" for state, _, _ in found), found
