"""Publishers without an agent on a real broker: taken once, acknowledged after the commit."""

from __future__ import annotations

import json
import sqlite3

import pytest

from gateway.broker import BrokerLogin
from ingest import subscriber as subscriber_module
from ingest.batch import Series
from ingest.inbox import Inbox
from ingest.publisher_subscriber import PublisherSubscriber
from tests.conftest import until
from tests.ingest.test_service import NOW, Server
from tests.ingest.test_subscriber import Publisher

pytestmark = pytest.mark.mosquitto
TOPIC = "agri/v1/hl-001/senml/plot3/soil1"
PH = Series("hl-001", "plot3/soil1", "soil_ph")


def senml(value: float, at_s: float = NOW / 1000) -> bytes:
    return json.dumps([{"n": "soil_ph", "v": value, "t": at_s}]).encode()


class PublishersServer(Server):
    def __init__(self, directory, port: int, *, protocol: str = "5") -> None:
        super().__init__(directory, port)
        login = BrokerLogin("127.0.0.1", port, protocol=protocol)
        self.publishers = PublisherSubscriber(
            login, lambda: self.now, self.subscriber, lambda: self.service.holding() or None
        )
        self.service._publishers = self.publishers

    def start(self) -> None:
        super().start()
        until(lambda: self.publishers.connected_since_ms is not None)

    def readings(self) -> list[float]:
        return self.store.query(PH, start_ms=0, end_ms=2 * NOW).v.tolist()

    def outcomes(self) -> dict[str, int]:
        counts = self.service.tally.counts()
        assert counts.received == sum(counts.outcomes.values()) + counts.waiting
        return {str(outcome): n for outcome, n in counts.outcomes.items() if n}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(subscriber_module, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(subscriber_module, "RECONNECT_MAX_S", 0.1)


@pytest.fixture(params=["5", "3.1.1"])
def server(tmp_path, mosquitto, request):
    server = PublishersServer(tmp_path, mosquitto.port, protocol=request.param)
    yield server
    server.close()


@pytest.fixture
def device(mosquitto):
    device = Publisher(mosquitto.port)
    yield device
    device.close()


def test_senml_is_taken_with_topic_and_bytes(server, device):
    server.start()
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.readings() == [6.5])
    (pack,) = server.inbox.read_after(0, 10)
    stored = server.inbox.pack(pack.station, pack.epoch, pack.seq)
    assert (stored.topic, stored.body) == (TOPIC, senml(6.5))
    assert stored.header.startswith("qos=1 mid=")
    assert server.outcomes() == {"taken": 1}


def test_an_equal_payload_published_anew_counts(server, device):
    server.start()
    device.publish(TOPIC, senml(6.5))
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.outcomes() == {"taken": 2})
    until(lambda: server.readings() == [6.5, 6.5])


def test_the_broker_keeps_what_comes_while_the_server_is_away(server, device, tmp_path, mosquitto):
    server.start()
    server.stop()
    for n in range(5):
        device.publish(TOPIC, senml(6 + n / 10, NOW / 1000 + n))
    server.close()
    protocol = server.publishers._login.protocol
    again = PublishersServer(tmp_path, mosquitto.port, protocol=protocol)
    again.start()
    until(lambda: len(again.readings()) == 5)
    assert again.readings() == [6.0, 6.1, 6.2, 6.3, 6.4]
    again.close()


def test_what_was_committed_and_not_acknowledged_is_not_doubled(server, device, monkeypatch):
    server.start()
    monkeypatch.setattr("paho.mqtt.client.Client.ack", lambda *_: 0)  # as if it died just before
    for n in range(3):
        device.publish(TOPIC, senml(6 + n / 10, NOW / 1000 + n))
    until(lambda: server.outcomes() == {"taken": 3})
    monkeypatch.undo()
    server.publishers._lost.set()
    until(lambda: server.outcomes() == {"taken": 3, "duplicate": 3})
    device.publish(TOPIC, senml(6.9, NOW / 1000 + 9))
    until(lambda: len(server.readings()) == 4)
    assert server.readings() == [6.0, 6.1, 6.2, 6.9]


def test_after_a_restart_what_was_not_acknowledged_is_known(
    server, device, mosquitto, tmp_path, monkeypatch
):
    server.start()
    monkeypatch.setattr("paho.mqtt.client.Client.ack", lambda *_: 0)
    device.publish(TOPIC, senml(6.5))
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.outcomes() == {"taken": 2})
    server.close()
    monkeypatch.undo()
    again = PublishersServer(tmp_path, mosquitto.port, protocol=server.publishers._login.protocol)
    again.start()
    until(lambda: again.outcomes() == {"duplicate": 2})
    again.close()


def test_what_is_held_comes_again_in_order(server, device, monkeypatch):
    monkeypatch.setattr("ingest.service.HOLD_AFTER_FAULT_S", 0.3)
    server.start()
    commit, failing = Inbox.commit, [2]

    def full(self, staged):
        if staged.taken and failing[0]:
            failing[0] -= 1
            error = sqlite3.OperationalError("disk full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return commit(self, staged)

    monkeypatch.setattr(Inbox, "commit", full)
    for n in range(6):
        device.publish(TOPIC, senml(6 + n / 10, NOW / 1000 + n))
    until(lambda: len(server.readings()) == 6)
    assert [json.loads(p.body)[0]["v"] for p in server.inbox.read_after(0, 10)] == [
        6.0,
        6.1,
        6.2,
        6.3,
        6.4,
        6.5,
    ]
    assert server.outcomes()["taken"] == 6
    assert server.outcomes()["held"] > 0


def test_a_session_that_begins_anew_forgets_the_numbers_of_the_one_before(
    server, device, mosquitto
):
    server.start()
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.outcomes() == {"taken": 1})
    assert len(server.inbox.deliveries()) == 1
    mosquitto.kill()
    mosquitto.start()  # without persistence: the session is gone
    until(lambda: server.inbox.deliveries() == [])


def test_a_poison_message_is_quarantined_and_the_stream_goes_on(server, device):
    server.start()
    for poison in (b"", b"\xff\xfe", b"[" * 100_000, b'[{"n":"soil_ph","v":NaN}]', b"{}"):
        device.publish(TOPIC, poison)
    device.publish("agri/v1/hl-001/raw/x", b'{"a": 1}')  # no mapping
    device.publish("agri/v1/nobody-here/senml/x", senml(1))
    device.publish("agri/v1/hl-001/senml/x" + "y" * 90, senml(1))
    device.publish(TOPIC, b" " * (128 * 1024 + 1))
    device.publish("agri/v1/hl-001/senml/..; DROP MEASUREMENT reading", senml(1))
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.readings() == [6.5])
    assert server.outcomes() == {"taken": 7, "damaged": 4}
    reasons = {damaged.reason.split(":")[0] for damaged in server.inbox.damaged()}
    assert reasons == {"topic", "body"}


def test_a_retained_copy_is_not_counted_again(server, device):
    device.publish(TOPIC, senml(6.4), retain=True)
    server.start()
    device.publish(TOPIC, senml(6.5))
    until(lambda: server.readings() == [6.5])
    assert server.outcomes() == {"taken": 1}
