"""Cases R7 to R11 of the fault list and behaviours 2 and 3: what the broker, or the store, does to ingest."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import duckdb
import pytest

from ingest import service as service_module
from ingest import subscriber as subscriber_module
from ingest.intake import Outcome
from tests.conftest import until
from tests.ingest.test_service import E1, Edge, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.inbox import Inbox
    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "KEYS_EVERY_S", 0.05)
    monkeypatch.setattr(subscriber_module, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(subscriber_module, "RECONNECT_MAX_S", 0.1)


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Server]:
    server = Server(tmp_path, mosquitto.port)
    server.approve()
    server.registry.refresh_keys()
    yield server
    server.close()


class Gate:
    """Holds the inbox's commits back while it is closed."""

    def __init__(self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        commit = inbox.commit

        def gated(staged):
            if not self.open.is_set():
                self.waiting.set()
                assert self.open.wait(30)
            return commit(staged)

        monkeypatch.setattr(inbox, "commit", gated)


def reconnected(server: Server, broker: Mosquitto) -> Edge:
    """Restart the killed broker and return an edge on a new connection, once ingest is back."""
    broker.start()
    until(lambda: server.subscriber.connected_since_ms is not None)
    edge = Edge(broker.port)
    edge.status((E1, 1, 0))
    return edge


def test_r07_and_r08_a_broker_killed_and_back_with_nothing_in_it_loses_nothing(
    server: Server, mosquitto: Mosquitto
) -> None:
    server.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    for seq in range(1, 6):
        edge.pack(seq)
    edge.receipted(5)
    mosquitto.kill()
    edge.close()
    until(lambda: server.subscriber.connected_since_ms is None)
    edge = reconnected(server, mosquitto)
    assert edge.receipted(5).seq == 5  # the status is answered with what the inbox has
    for seq in range(4, 11):  # the edge cannot know: it sends from its last receipt on
        edge.pack(seq)
    edge.receipted(10)
    edge.close()
    until(lambda: server.values() == [float(n) for n in range(1, 11)])


def test_r09_messages_queued_when_the_connection_is_cut_are_taken_once_and_never_acknowledged_late(
    server: Server, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(server.inbox, monkeypatch)
    server.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    edge.receipt()
    gate.open.clear()
    for seq in range(1, 9):
        edge.pack(seq)
    assert gate.waiting.wait(10)
    mosquitto.kill()
    edge.close()
    until(lambda: server.subscriber.connected_since_ms is None)
    edge = reconnected(server, mosquitto)
    for seq in range(1, 9):
        edge.pack(seq)
    assert edge.received.empty()  # nothing is in the inbox, so nobody was told that it is
    gate.open.set()
    edge.receipted(8)
    edge.close()
    until(lambda: server.values() == [float(n) for n in range(1, 9)])
    counts = server.service.intake.counts
    assert counts[Outcome.TAKEN] == 8
    assert counts[Outcome.DUPLICATE] == 8


def test_r10_while_ingest_stands_still_the_queue_is_bounded_and_nothing_is_lost(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "QUEUE_MESSAGES", 20)
    server = Server(tmp_path, mosquitto.port)
    server.approve()
    server.registry.refresh_keys()
    gate = Gate(server.inbox, monkeypatch)
    server.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    edge.receipt()
    gate.open.clear()
    for seq in range(1, 301):
        edge.pack(seq)
    until(server.subscriber.messages.full)
    assert server.subscriber.messages.qsize() == 20
    assert edge.received.empty()
    gate.open.set()
    taken = 0
    while taken < 300:  # as the edge does: on from what was receipted
        for seq in range(taken + 1, 301):
            edge.pack(seq)
        taken = edge.receipted(taken + 1).seq
    edge.close()
    until(lambda: len(server.values()) == 300)
    assert server.values() == [float(n) for n in range(1, 301)]
    server.close()


def test_r11_what_the_broker_did_not_keep_while_ingest_was_away_comes_from_the_edge(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    first = Server(tmp_path, mosquitto.port)
    first.approve()
    first.registry.refresh_keys()
    first.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    edge.pack(1)
    edge.receipted(1)
    first.close()
    for seq in range(2, 51):
        edge.pack(seq)  # the broker answers PUBACK and keeps none of them: the session is clean
    second = Server(tmp_path, mosquitto.port)
    second.registry.refresh_keys()
    second.start()
    edge.status((E1, 1, 50))
    assert edge.receipted(1).seq == 1
    for seq in range(2, 51):
        edge.pack(seq)
    edge.receipted(50)
    edge.close()
    until(lambda: second.values() == [float(n) for n in range(1, 51)])
    second.close()


def test_behaviour_02_while_the_store_is_down_receipts_go_on_and_the_inbox_holds(
    server: Server, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = threading.Event()
    down.set()
    stage = server.consumer._stage
    handle = stage.handle

    def unless_down(batch):
        if down.is_set():
            raise duckdb.IOException("the store is down")
        handle(batch)

    monkeypatch.setattr(stage, "handle", unless_down)
    monkeypatch.setattr(server.consumer, "_transient", (duckdb.Error,))
    server.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    for seq in range(1, 1001):
        edge.pack(seq)
        if seq % 100 == 0:
            edge.receipted(seq)
    assert server.service.last_pos == 1000
    assert server.values() == []
    assert server.consumer.failing
    down.clear()
    until(lambda: len(server.values()) == 1000)
    assert server.values() == [float(n) for n in range(1, 1001)]
    edge.close()


def test_behaviour_03_the_whole_buffer_three_times_is_the_same_as_once(
    server: Server, mosquitto: Mosquitto
) -> None:
    server.start()
    edge = Edge(mosquitto.port)
    edge.status((E1, 1, 0))
    for _ in range(3):
        for seq in range(1, 101):
            edge.pack(seq)
        edge.receipted(100)
    for seq in range(91, 102):  # overlapping, with one new pack
        edge.pack(seq)
    edge.receipted(101)
    edge.close()
    until(lambda: len(server.values()) == 101)
    assert server.values() == [float(n) for n in range(1, 102)]
    assert server.service.intake.counts[Outcome.TAKEN] == 101
