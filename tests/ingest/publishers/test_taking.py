"""Messages of publishers in the intake: numbered, known when they come again, apart from the agents' epochs."""

from __future__ import annotations

import itertools

import pytest

from gateway import wire
from ingest.intake import Hold, Outcome
from ingest.publishers.arrival import HTTP, KEPT_MS, MQTT, Arrival, Delivery
from tests.ingest.test_intake import E1, NOW, STATION, Server

TOPIC = f"agri/v1/{STATION}/raw/node7"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.db.close()


def offer(server, token="1", body=b"{}", *, topic=TOPIC, source=MQTT, again=False, at=NOW):
    delivery = Delivery(source, token, body, at)
    arrival = Arrival(topic, body, "", at, lambda _: None, delivery, may_be_repeated=again)
    return server.intake.arrival(arrival)


def test_each_message_gets_the_next_number_of_its_station_in_this_life(server):
    assert [offer(server, str(n)) for n in range(2)] == [Outcome.TAKEN] * 2
    packs = server.commit().packs
    assert [pack.seq for pack in packs] == [1, 2]
    assert len({pack.epoch for pack in packs}) == 1
    assert all(wire.is_ulid(pack.epoch) for pack in packs)
    server.restart("01KASTARE00000000000000001")
    offer(server, "3")
    (later,) = server.commit().packs
    assert later.seq == 1
    assert later.epoch != packs[0].epoch


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_what_comes_again_is_known_and_what_is_published_anew_counts(server, commits, restarts):
    offer(server, "1")
    if commits:
        server.commit()
    if restarts and commits:
        server.restart()
    assert offer(server, "1", again=True) is Outcome.DUPLICATE
    assert offer(server, "2", again=True) is Outcome.TAKEN  # another number: it was never taken
    assert offer(server, "1", again=False) is Outcome.TAKEN
    assert offer(server, "1", b"other", again=True) is Outcome.TAKEN


def test_numbers_of_a_session_that_is_gone_mean_nothing(server):
    offer(server, "1")
    server.commit()
    server.intake.session_begins(MQTT)
    assert offer(server, "1", again=True) is Outcome.TAKEN
    server.commit()
    assert offer(server, "1", again=True) is Outcome.DUPLICATE


def test_what_was_not_committed_was_not_taken(server, monkeypatch):
    offer(server, "1")
    with monkeypatch.context() as patch:
        patch.setattr(server.inbox, "commit", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            server.commit()
    assert server.intake.counts[Outcome.HELD] == 1
    assert offer(server, "1", again=True) is Outcome.TAKEN
    assert [pack.seq for pack in server.commit().packs] == [1]


def test_over_http_a_delivery_is_known_for_a_day(server):
    offer(server, "k 1", source=HTTP, again=True)
    server.commit()
    soon, late = NOW + KEPT_MS, NOW + KEPT_MS + 1
    assert offer(server, "k 1", source=HTTP, again=True, at=soon) is Outcome.DUPLICATE
    assert offer(server, "k 1", b"other", source=HTTP, again=True) is Outcome.DAMAGED
    assert offer(server, "k 1", source=HTTP, again=True, at=late) is Outcome.TAKEN


def test_an_agent_cannot_write_into_the_epoch_of_publishers(server):
    offer(server)
    (pack,) = server.commit().packs
    server.status((pack.epoch, 1, 9))
    assert server.pack(2, epoch=pack.epoch) is Outcome.PENDING
    assert server.answers() == {pack.epoch: (1, "pending", False)}
    server.intake.answer_again(STATION)
    assert server.answers() == {}


@pytest.mark.parametrize("hold", [Hold.READINGS, Hold.ALL])
def test_while_ingest_holds_nothing_is_taken(server, hold):
    server.intake.hold = hold
    assert offer(server) is Outcome.HELD
    server.intake.hold = Hold.NONE
    assert offer(server, again=True) is Outcome.TAKEN


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("agri/v1/hl-999/raw/node7", b"{}"),
        (f"agri/v1/{STATION}/raw/", b"{}"),
        (f"agri/v1/{STATION}/raw/+", b"{}"),
        (f"agri/v1/{STATION}/raw/a b; DROP MEASUREMENT reading", b"{}"),
        (TOPIC, b" " * (wire.MAX_BODY_BYTES + 1)),
    ],
)
def test_what_can_never_be_taken_is_kept_aside(server, topic, body):
    assert offer(server, topic=topic, body=body) is Outcome.DAMAGED
    server.commit()
    (kept,) = server.inbox.damaged()
    assert (kept.topic, kept.size) == (topic, len(body))


def test_what_is_counted_balances(server):
    count = itertools.count()
    for topic in (TOPIC, "nonsense", TOPIC):
        offer(server, str(next(count)), topic=topic)
    offer(server, "0", again=True)
    server.status((E1, 1, 1))
    server.pack(1)
    server.commit()
    assert sum(server.intake.counts.values()) == 5
    assert server.intake.counts[Outcome.TAKEN] == 3
