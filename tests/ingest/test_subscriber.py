"""The subscriber against a real mosquitto."""

from __future__ import annotations

import queue
import socket
import threading

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from structlog.testing import capture_logs

from gateway import wire
from gateway.broker import BrokerLogin
from ingest import subscriber as subscriber_module
from ingest.subscriber import Message, Subscriber
from tests.conftest import Mosquitto, free_port, require, until

pytestmark = pytest.mark.mosquitto

NOW = 1_777_600_000_000
RECEIPT = wire.Receipt(
    epoch="01KAAAAAAAAAAAAAAAAAAAAAAA", seq=1, store="01KAAAAAAAAAAAAAAAAAAAAAAA", now_ms=NOW
)


class Publisher:
    """A paho client for tests."""

    def __init__(self, port: int, topic: str | None = None) -> None:
        self.received: queue.Queue[bytes] = queue.Queue()
        self._ready = threading.Event()
        self._topic = topic
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = lambda _c, _u, message: self.received.put(message.payload)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(10)

    def _connected(self, *_) -> None:
        if self._topic is None:
            self._ready.set()
        else:
            self.client.subscribe(self._topic, qos=1)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def publisher(mosquitto):
    publisher = Publisher(mosquitto.port, "agri/v1/+/ack")
    yield publisher
    publisher.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(subscriber_module, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(subscriber_module, "RECONNECT_MAX_S", 0.1)


@pytest.fixture
def start():
    started = []

    def start(port: int, **login) -> Subscriber:
        started.append(Subscriber(BrokerLogin("127.0.0.1", port, **login), lambda: NOW))
        started[-1].start()
        return started[-1]

    yield start
    for subscriber in started:
        subscriber.stop()


def connected(subscriber: Subscriber) -> None:
    until(lambda: subscriber.connected_since_ms is not None)


def test_packs_and_statuses_come_in_order_and_nothing_else(mosquitto, publisher, start):
    subscriber = start(mosquitto.port)
    connected(subscriber)
    assert subscriber.connected_since_ms == NOW
    for leaf in ("ack", "cmd", "senml/x"):
        publisher.publish(f"agri/v1/hl-001/{leaf}", b"no")
    for number in range(50):
        publisher.publish("agri/v1/hl-001/up", b"%d" % number)
    publisher.publish("agri/v1/hl-002/status", b"s")
    messages = [subscriber.messages.get(timeout=10) for _ in range(51)]
    assert messages[:50] == [Message("agri/v1/hl-001/up", b"%d" % n, False, NOW) for n in range(50)]  # noqa: FBT003
    assert (messages[50].topic, messages[50].payload) == ("agri/v1/hl-002/status", b"s")


def test_a_retained_copy_is_marked(mosquitto, publisher, start):
    publisher.publish("agri/v1/hl-001/status", b"old", retain=True)
    subscriber = start(mosquitto.port)
    message = subscriber.messages.get(timeout=10)
    assert (message.payload, bool(message.retained)) == (b"old", True)
    publisher.publish("agri/v1/hl-001/status", b"live", retain=True)
    message = subscriber.messages.get(timeout=10)
    assert (message.payload, bool(message.retained)) == (b"live", False)


def test_receipts_go_out_and_are_dropped_without_a_connection(mosquitto, publisher, start):
    subscriber = start(mosquitto.port)
    connected(subscriber)
    subscriber.publish_receipt("hl-001", RECEIPT)
    assert wire.decode_receipt(publisher.received.get(timeout=10)) == RECEIPT
    mosquitto.kill()
    until(lambda: subscriber.connected_since_ms is None)
    subscriber.publish_receipt("hl-001", RECEIPT)


def test_a_broker_that_dies_is_found_again_and_said_once(mosquitto, start):
    with capture_logs() as logs:
        subscriber = start(mosquitto.port)
        connected(subscriber)
        mosquitto.kill()
        until(lambda: subscriber.connected_since_ms is None)
        mosquitto.start()
        connected(subscriber)
        other = Publisher(mosquitto.port)
        other.publish("agri/v1/hl-001/up", b"x")
        assert subscriber.messages.get(timeout=10).payload == b"x"
        other.close()
    events = [entry["event"] for entry in logs]
    assert [e for e in events if e != "broker_unreachable"] == [
        "broker_connected",
        "broker_lost",
        "broker_connected",
    ]
    assert events.count("broker_unreachable") <= 1


def test_what_came_while_it_was_away_is_not_queued_by_the_broker(mosquitto, publisher, start):
    subscriber = start(mosquitto.port)
    connected(subscriber)
    subscriber.stop()
    publisher.publish("agri/v1/hl-001/up", b"while away")
    subscriber = start(mosquitto.port)
    connected(subscriber)
    publisher.publish("agri/v1/hl-001/up", b"now")
    assert subscriber.messages.get(timeout=10).payload == b"now"


def tries(monkeypatch) -> list[int]:
    """Count connections tried."""
    counted: list[int] = []
    original = Subscriber._new_client
    monkeypatch.setattr(
        Subscriber, "_new_client", lambda self: (counted.append(1), original(self))[1]
    )
    return counted


def test_an_unreachable_broker_is_said_once(start, monkeypatch):
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(free_port())
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    assert [entry["event"] for entry in logs] == ["broker_unreachable"]


def test_a_broker_that_lets_nobody_in_is_said_once(tmp_path, start, monkeypatch):
    broker = Mosquitto(require("mosquitto"), tmp_path, "allow_anonymous false")
    broker.start()
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(broker.port)
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    broker.kill()
    [entry] = logs
    assert (entry["event"], entry["log_level"]) == ("broker_refused", "error")
    assert "username and password_file" in entry["reason"]
    assert subscriber.connected_since_ms is None


def test_a_subscription_that_is_refused_is_said_once_and_is_no_connection(start, monkeypatch):
    counted = tries(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server, capture_logs() as logs:
        server.settimeout(20)
        subscriber = start(server.getsockname()[1], protocol="3.1.1")
        for _ in range(3):
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                assert connection.recv(4096)[0] == 0x10  # CONNECT
                connection.sendall(b"\x20\x02\x00\x00")
                packet = connection.recv(4096)
                assert packet[0] == 0x82  # SUBSCRIBE; its id comes after a length of one byte
                connection.sendall(b"\x90\x04" + packet[2:4] + b"\x80\x80")
                while connection.recv(4096):
                    continue
        until(lambda: len(counted) >= 4)
        assert subscriber.connected_since_ms is None
        subscriber.stop()
    [entry] = logs
    assert entry["event"] == "broker_refused"
    assert "access list" in entry["reason"]


def test_a_peer_that_closes_at_once_is_said_once(start, monkeypatch):
    counted = tries(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server, capture_logs() as logs:
        server.settimeout(20)
        subscriber = start(server.getsockname()[1])
        for _ in range(4):
            server.accept()[0].close()
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    assert [entry["event"] for entry in logs] == ["broker_refused"]


def test_a_queue_that_is_full_does_not_hold_up_the_stop(mosquitto, publisher, start):
    subscriber = start(mosquitto.port)
    connected(subscriber)
    subscriber.messages.maxsize = 3
    for _ in range(10):
        publisher.publish("agri/v1/hl-001/up", b"x")
    until(subscriber.messages.full)
    subscriber.stop()
    assert subscriber.messages.qsize() == 3


def test_stop_before_start_is_harmless():
    Subscriber(BrokerLogin("127.0.0.1", 1), lambda: NOW).stop()


def test_the_password_is_never_shown():
    assert "secret" not in repr(BrokerLogin("h", 1, "u", "secret"))
