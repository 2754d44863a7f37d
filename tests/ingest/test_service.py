"""Ingest as a whole on a real broker: edge's messages in, receipts out, batches to consumers."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from gateway import keys, wire
from gateway.broker import BrokerLogin
from gateway.wire import EpochState, Lane, ReceiptState
from ingest import service as service_module
from ingest import tables
from ingest.batch import Series
from ingest.consumers import Consumer
from ingest.decode import SeriesIndex
from ingest.inbox import Inbox
from ingest.intake import Hold, Outcome
from ingest.judge.inserts import insert_new
from ingest.operational import Operational
from ingest.registry.live import Registry
from ingest.service import IngestService
from ingest.stations import StationWatch
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.stage import StoreStage
from ingest.subscriber import Subscriber
from tests.conftest import Databases, until
from tests.ingest.test_subscriber import Publisher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mosquitto

NOW = 1_777_600_000_000
DAY = 24 * 3_600_000
E1 = "01KAAAAAAAAAAAAAAAAAAAAAA1"
E2 = "01KAAAAAAAAAAAAAAAAAAAAAA2"
STORE = "01KASTARE00000000000000000"
KEY = Ed25519PrivateKey.generate()
A = Series("hl-001", "a", "soil_ph")


class Server:
    """Every part of ingest, wired as the server process does, without the judge."""

    def __init__(self, directory: Path, port: int, databases: Databases | None = None) -> None:
        self.now = NOW
        url = (databases or Databases(None)).url(directory / "operational.db")
        self.operational = Operational(url)
        self.operational.migrate()
        with self.operational.write() as db:
            station = {"code": "hl-001", "name": "x", "region_code": "640122"}
            insert_new(db, tables.stations, [station])
        self.inbox = Inbox.open(directory / "inbox.db")
        self.store = DuckDBStore(directory / "readings.duckdb")
        self.index = SeriesIndex()
        self.registry = Registry(self.operational)
        self.failed = threading.Event()
        self.subscriber = Subscriber(BrokerLogin("127.0.0.1", port), lambda: self.now)
        self.consumer = Consumer(
            "store",
            StoreStage(self.store),
            self.inbox,
            self.index,
            transient=(),
            on_failure=self.failed.set,
        )
        self.service = IngestService(
            subscriber=self.subscriber,
            inbox=self.inbox,
            registry=self.registry,
            consumers=[self.consumer],
            watch=StationWatch(
                self.operational,
                now_ms=lambda: self.now,
                connected_since_ms=lambda: self.subscriber.connected_since_ms,
                after=lambda: None,
            ),
            index=self.index,
            store=STORE,
            retention_days=90,
            now_ms=lambda: self.now,
            on_failure=self.failed.set,
        )
        self.running = False

    def close(self) -> None:
        self.stop()
        self.store.close()
        self.inbox.close()
        self.operational.close()

    def start(self) -> None:
        self.running = True
        self.service.start()
        until(lambda: self.subscriber.connected_since_ms is not None)

    def stop(self) -> None:
        if self.running:
            self.running = False
            self.service.stop()

    def approve(self) -> None:
        row = {"station": "hl-001", "key": keys.public_text(KEY), "state": "approved"}
        with self.operational.write() as db:
            db.execute(sa.delete(tables.gateway_keys))
            db.execute(sa.insert(tables.gateway_keys).values(**row, first_seen_ms=1))

    def values(self) -> list[float]:
        return self.store.query(A, start_ms=0, end_ms=2 * NOW).v.tolist()


class Edge(Publisher):
    """What a gateway says, and the receipts it gets."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "agri/v1/hl-001/ack")

    def status(self, *epochs: tuple[str, int, int]) -> None:
        lanes = {Lane.READINGS: [EpochState(*e) for e in epochs]}
        sig = keys.sign(KEY, wire.status_signing_bytes("hl-001", "s1", lanes))
        status = wire.Status(
            online=True, session="s1", lanes=lanes, key=keys.public_text(KEY), sig=sig
        )
        self.publish("agri/v1/hl-001/status", wire.encode_status(status))

    def pack(self, seq: int, *, value: float | None = None) -> None:
        record = {"n": "a/soil_ph", "t": (NOW + seq) / 1000, "v": seq if value is None else value}
        body = json.dumps({"readings": [record]}).encode()
        self.publish("agri/v1/hl-001/up", wire.encode_pack(E1, seq, 1, NOW, body))

    def tests_pack(self, seq: int) -> None:
        """Send an empty pack of the tests lane."""
        self.publish("agri/v1/hl-001/up", wire.encode_pack(E2, seq, 1, NOW, b'{"tests":[]}'))

    def receipt(self) -> wire.Receipt:
        return wire.decode_receipt(self.received.get(timeout=20))

    def receipted(self, seq: int) -> wire.Receipt:
        """Wait for the receipt of ``seq``; the ones before it may come alone or not."""
        while (receipt := self.receipt()).seq < seq:
            continue
        return receipt


@pytest.fixture
def server(tmp_path, mosquitto, monkeypatch, databases):
    monkeypatch.setattr(service_module, "KEYS_EVERY_S", 0.05)
    server = Server(tmp_path, mosquitto.port, databases)
    yield server
    server.close()


@pytest.fixture
def edge(mosquitto):
    edge = Edge(mosquitto.port)
    yield edge
    edge.close()


@pytest.fixture
def flowing(server, edge):
    server.approve()
    server.registry.refresh_keys()
    server.start()
    edge.status((E1, 1, 0))
    assert edge.receipt().state is ReceiptState.OK
    return server


def test_packs_are_receipted_and_reach_the_store(flowing, edge):
    for seq in range(1, 11):
        edge.pack(seq)
    receipt = edge.receipted(10)
    assert receipt == wire.Receipt(epoch=E1, seq=10, store=STORE, now_ms=NOW)
    until(lambda: flowing.values() == [float(n) for n in range(1, 11)])
    assert flowing.service.intake.counts[Outcome.TAKEN] == 10
    assert flowing.service.last_pos == flowing.consumer.position == 10


@pytest.mark.usefixtures("flowing")
def test_a_receipt_leaves_only_after_the_commit(tmp_path, edge):
    edge.pack(1)
    edge.receipted(1)
    with sqlite3.connect(tmp_path / "inbox.db") as other:
        assert other.execute("SELECT last FROM watermarks").fetchall() == [(1,)]
    other.close()


def test_an_approval_is_noticed_and_answered_without_a_message(server, edge):
    server.start()
    edge.status((E1, 1, 1))
    assert edge.receipt().state is ReceiptState.PENDING
    edge.pack(1)
    assert edge.receipt().state is ReceiptState.PENDING
    server.approve()
    receipt = edge.receipt()
    assert (receipt.state, receipt.seq) == (ReceiptState.OK, 0)
    edge.pack(1)
    assert edge.receipted(1).state is ReceiptState.OK


def test_the_rest_flows_beside_garbage(flowing, edge):
    edge.publish("agri/v1/hl-001/up", b"garbage")
    edge.publish("agri/v1/hl-001/status", b"garbage")
    edge.publish("agri/v1/BAD CODE/up", b"garbage")
    edge.pack(1)
    edge.receipted(1)
    assert sorted(d.topic for d in flowing.inbox.damaged()) == [
        "agri/v1/BAD CODE/up",
        "agri/v1/hl-001/status",
        "agri/v1/hl-001/up",
    ]


@pytest.mark.usefixtures("flowing")
def test_a_loss_is_logged(edge):
    with capture_logs() as logs:
        edge.status((E1, 5, 4))
        assert edge.receipted(4).seq == 4
        until(lambda: any(entry["event"] == "packs_lost" for entry in logs))
    [entry] = [entry for entry in logs if entry["event"] == "packs_lost"]
    assert (entry["station"], entry["packs"], entry["reason"]) == ("hl-001", 4, "gap")


def test_a_full_disk_makes_it_hold_and_go_on_later(flowing, edge, monkeypatch):
    monkeypatch.setattr(service_module, "HOLD_AFTER_FAULT_S", 0.2)
    (pages,) = flowing.inbox._writer.execute("PRAGMA page_count").fetchone()
    flowing.inbox._writer.execute(f"PRAGMA max_page_count = {pages}")
    big = {"readings": [], "pad": random.Random(1).randbytes(50_000).hex()}
    payload = wire.encode_pack(E1, 1, 1, NOW, json.dumps(big).encode())
    with capture_logs() as logs:
        edge.publish("agri/v1/hl-001/up", payload)
        until(lambda: any(entry["event"] == "inbox_not_written" for entry in logs))
    flowing.inbox._writer.execute("PRAGMA max_page_count = 1000000")
    until(lambda: not flowing.service.intake.hold)
    edge.publish("agri/v1/hl-001/up", payload)
    assert edge.receipted(1).state is ReceiptState.OK
    assert flowing.service.first_failure() is None


def test_packs_past_their_retention_are_pruned_in_the_background(flowing, edge, monkeypatch):
    monkeypatch.setattr(service_module, "PRUNE_EVERY_S", 0.0)
    monkeypatch.setattr(service_module, "PRUNE_PACKS", 2)
    for seq in range(1, 6):
        edge.pack(seq)
    edge.receipted(5)
    until(lambda: flowing.consumer.position == 5)
    flowing.now += 90 * DAY + 1
    flowing.service._prune_due = 0.0
    until(lambda: flowing.inbox.read_after(0, 9) == [])


def test_pruning_on_a_full_disk_is_no_end(flowing, edge, monkeypatch):
    monkeypatch.setattr(service_module, "PRUNE_EVERY_S", 0.0)

    def refuse(*_) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with capture_logs() as logs:
        monkeypatch.setattr(flowing.inbox, "prune", refuse)
        flowing.service._prune_due = 0.0
        until(lambda: any(entry["event"] == "inbox_not_pruned" for entry in logs))
    edge.pack(1)
    assert edge.receipted(1).seq == 1


def test_after_a_restart_nothing_is_taken_twice(tmp_path, mosquitto, databases, flowing, edge):
    edge.pack(1)
    edge.receipted(1)
    flowing.close()
    again = Server(tmp_path, mosquitto.port, databases)
    again.start()
    edge.status((E1, 1, 1))
    assert edge.receipted(1).store == STORE
    edge.pack(1)
    edge.pack(2)
    edge.receipted(2)
    until(lambda: again.values() == [1.0, 2.0])
    assert again.service.intake.counts[Outcome.DUPLICATE] == 1
    again.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_intake_ends_the_service_and_stop_does_not_hang(flowing, edge, monkeypatch):
    def bug(*_) -> None:
        raise TypeError("ours")

    with capture_logs():
        monkeypatch.setattr(flowing.service.intake, "pack", bug)
        edge.pack(1)
        assert flowing.failed.wait(20)
        assert isinstance(flowing.service.first_failure(), TypeError)
        flowing.subscriber.messages.maxsize = 1  # nobody takes from it any more
        for seq in range(2, 5):
            edge.pack(seq)
        until(flowing.subscriber.messages.full)
        flowing.stop()


def test_stop_takes_what_was_received_before(flowing, edge):
    for seq in range(1, 200):
        edge.pack(seq)
    edge.receipted(1)
    flowing.stop()
    taken = [pack.seq for pack in flowing.inbox.read_after(0, 1000)]
    assert taken == list(range(1, flowing.service.intake.counts[Outcome.TAKEN] + 1))
    assert flowing.subscriber.messages.qsize() == 0


def test_when_more_comes_than_is_taken_readings_wait_and_tests_go_on(flowing, edge, monkeypatch):
    """The subscriber's real queue, an inbox that was slow for a moment."""
    monkeypatch.setattr(service_module, "CROWDED_S", 0.0)
    monkeypatch.setattr(service_module, "GROUP_MESSAGES", 2)
    edge.status((E1, 1, 0), (E2, 1, 0))
    until(lambda: ("hl-001", E2) in flowing.inbox.watermarks())
    flowing.subscriber.messages.maxsize = 20
    waited = threading.Event()
    commit = flowing.inbox.commit

    def gated(staged):
        if not waited.is_set():
            waited.set()
            until(flowing.subscriber.messages.full)
        return commit(staged)

    monkeypatch.setattr(flowing.inbox, "commit", gated)
    with capture_logs() as logs:
        for seq in range(1, 61):
            edge.pack(seq)
        until(lambda: any(entry["event"] == "overloaded" for entry in logs))
        edge.tests_pack(1)
        until(lambda: flowing.inbox.watermarks()["hl-001", E2].last == 1)
        until(lambda: any(entry["event"] == "overload_over" for entry in logs))
        until(flowing.subscriber.messages.empty)
        until(lambda: flowing.service.intake.hold is Hold.NONE)
    counts = flowing.service.intake.counts
    assert counts[Outcome.HELD] > 0
    # With no patience at all the queue may fill again behind it: each change is said, and said once.
    said = [e["event"] for e in logs if e["event"] in ("overloaded", "overload_over")]
    assert said == ["overloaded", "overload_over"] * (len(said) // 2)
    taken = flowing.inbox.watermarks()["hl-001", E1].last
    edge.pack(taken + 1)
    assert edge.receipted(taken + 1).state is ReceiptState.OK


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_r16_a_read_only_inbox_ends_the_service_and_nothing_is_receipted(flowing, edge):
    flowing.inbox._writer.execute("PRAGMA query_only = ON")
    with capture_logs():
        edge.pack(1)
        assert flowing.failed.wait(20)
    assert "readonly" in str(flowing.service.first_failure())
    assert edge.received.empty()


def test_space_that_retention_freed_is_given_back_in_the_background(flowing, edge, monkeypatch):
    monkeypatch.setattr(service_module, "PRUNE_EVERY_S", 0.0)
    big = {"readings": [], "pad": random.Random(1).randbytes(50_000).hex()}
    for seq in range(1, 101):
        payload = wire.encode_pack(E1, seq, 1, NOW, json.dumps(big).encode())
        edge.publish("agri/v1/hl-001/up", payload)
    edge.receipted(100)
    (full,) = flowing.inbox._writer.execute("PRAGMA page_count").fetchone()
    assert full > 1200
    until(lambda: flowing.consumer.position == 100)
    flowing.now += 90 * DAY + 1
    flowing.service._prune_due = 0.0
    until(lambda: flowing.inbox._query("PRAGMA freelist_count", ())[0][0] in range(1000, 1025))
    until(lambda: flowing.inbox._query("PRAGMA page_count", ())[0][0] < full - 100)


@pytest.mark.parametrize("paces", [True, False])
def test_what_is_taken_waits_for_the_judge_within_bounds(flowing, edge, monkeypatch, *, paces):
    """A consumer that stands still: with one that paces the intake pauses after each group, yet takes everything."""
    monkeypatch.setattr(service_module, "PACE_PACKS", 3)
    pauses = []
    sleep = service_module.time.sleep
    monkeypatch.setattr(service_module.time, "sleep", lambda s: (pauses.append(s), sleep(s)))
    flowing.consumer.paces = paces
    handled = threading.Event()
    stage = flowing.consumer._stage
    monkeypatch.setattr(stage, "handle", lambda _batch: handled.wait(20))
    for seq in range(1, 11):
        edge.pack(seq)
    edge.receipted(10)
    until(lambda: bool(pauses) is paces)
    handled.set()


def test_while_the_database_is_away_packs_go_on_being_taken(flowing, edge, monkeypatch):
    refresh, asked = flowing.registry.refresh_keys, []

    def away():
        asked.append(1)
        raise sa.exc.OperationalError("SELECT", {}, OSError("server closed the connection"))

    with capture_logs() as logs:
        monkeypatch.setattr(flowing.registry, "refresh_keys", away)
        until(lambda: len(asked) >= 3)
        edge.pack(1)
        assert edge.receipted(1).state is ReceiptState.OK
    assert [entry["event"] for entry in logs].count("registry_not_read") == 1
    monkeypatch.setattr(flowing.registry, "refresh_keys", refresh)
    edge.pack(2)
    assert edge.receipted(2).state is ReceiptState.OK
    assert flowing.service.first_failure() is None
