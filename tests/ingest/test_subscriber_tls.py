"""The subscriber against a mosquitto with TLS: what keeps it out, and what it says."""

from __future__ import annotations

import getpass
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway import reconnect, wire
from gateway.broker import BrokerLogin, Tls
from ingest import subscriber as subscriber_module
from ingest.subscriber import Subscriber
from tests.certificates import Authority, Signed
from tests.conftest import Mosquitto, free_port, require, until
from tests.ingest.test_subscriber import NOW, RECEIPT, Publisher, connected, tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.mosquitto

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(subscriber_module, "RECONNECT_MAX_S", 0.1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Brokers:
    """A mosquitto with TLS on ``port``, and without on ``plain``."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._directory = directory
        self._authority = authority
        self._started: list[Mosquitto] = []
        self.plain = free_port()

    def start(self, server: Signed | None = None, more: str = "") -> int:
        server = server or self._authority.sign("broker", hosts=("127.0.0.1",))
        certificate, key = server.write(self._directory, "server")
        ca = self._directory / "ca.crt"
        ca.write_text(self._authority.pem)
        settings = (
            f"cafile {ca}\ncertfile {certificate}\nkeyfile {key}\n{more}\nallow_anonymous true\n"
            f"listener {self.plain} 127.0.0.1\nuser {getpass.getuser()}"
        )
        broker = Mosquitto(require("mosquitto"), self._directory, settings)
        self._started.append(broker)
        broker.start()
        until(lambda: listens(self.plain))  # it opens after the other
        return broker.port

    def close(self) -> None:
        for broker in self._started:
            broker.kill()


@pytest.fixture
def brokers(tmp_path: Path, authority: Authority) -> Iterator[Brokers]:
    brokers = Brokers(tmp_path, authority)
    yield brokers
    brokers.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Subscriber]]:
    started: list[Subscriber] = []

    def start(
        port: int,
        tls: Tls | None = None,
        *,
        guard: Callable[[], str | None] | None = None,
        now_ms: int = NOW,
        protocol: str = "5",
    ) -> Subscriber:
        login = BrokerLogin("127.0.0.1", port, tls=tls, protocol=protocol)  # type: ignore[arg-type]
        started.append(Subscriber(login, lambda: now_ms, guard))
        started[-1].start()
        return started[-1]

    yield start
    for subscriber in started:
        subscriber.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_tls_packs_in_and_receipts_out(
    brokers: Brokers, authority: Authority, start: Callable[..., Subscriber], protocol: str
) -> None:
    ours = authority.sign("agri_ingest")
    port = brokers.start(more="require_certificate true")
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    subscriber = start(port, tls, protocol=protocol)
    connected(subscriber)
    edge = Publisher(brokers.plain, "agri/v1/+/ack")
    edge.publish("agri/v1/hl-001/up", b"pack")
    assert subscriber.messages.get(timeout=10).payload == b"pack"
    subscriber.publish_receipt("hl-001", RECEIPT)
    assert wire.decode_receipt(edge.received.get(timeout=10)) == RECEIPT
    edge.close()


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"hosts": ("127.0.0.1",), "begins": -9, "ends": -1}, "has expired"),
        ({"hosts": ("other.example",)}, "not for 127.0.0.1"),
        (None, "not signed by our CA"),
    ],
    ids=["expired", "wrong_host", "wrong_ca"],
)
def test_s1_behaviour_12_server_certificate_refused_and_said_once(
    brokers: Brokers,
    authority: Authority,
    start: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
    server: dict[str, object] | None,
    said: str,
) -> None:
    signed = authority.sign("broker", **server) if server else None  # type: ignore[arg-type]
    port = brokers.start(signed)
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(port, Tls(authority.pem if server else Authority("other").pem))
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    [entry] = [log for log in logs if log["event"] != "certificate_expired"]
    assert entry["event"] == "broker_refused"
    assert said in entry["reason"]
    assert subscriber.connected_since_ms is None


def test_behaviour_12_no_connect_in_the_clear(
    brokers: Brokers,
    authority: Authority,
    start: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brokers.start()
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(brokers.plain, Tls(authority.pem))
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    [entry] = logs
    assert "no falling back to plaintext" in entry["reason"]


def test_s1_client_certificate_revoked(
    brokers: Brokers,
    authority: Authority,
    start: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    ours = authority.sign("agri_ingest")
    (tmp_path / "crl.pem").write_text(authority.revoke(ours))
    port = brokers.start(more=f"require_certificate true\ncrlfile {tmp_path / 'crl.pem'}")
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(port, Tls(authority.pem, ours.certificate_pem, ours.key_pem))
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    [entry] = logs
    assert "our certificate is revoked" in entry["reason"]


def test_the_guard_keeps_it_away_and_is_asked_again(
    brokers: Brokers, start: Callable[..., Subscriber], monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers.start()
    asked = threading.Semaphore(0)
    answers: list[str | None] = ["a station may write ack"]
    counted = tries(monkeypatch)

    def guard() -> str | None:
        asked.release()
        return answers[-1]

    with capture_logs() as logs:
        subscriber = start(brokers.plain, guard=guard)
        for _ in range(3):
            assert asked.acquire(timeout=10)
        until(lambda: subscriber.refusal == "a station may write ack")
        assert counted == []
        answers.append(None)
        connected(subscriber)
        assert subscriber.refusal is None
    assert [log["event"] for log in logs] == ["broker_not_used", "broker_connected"]


def test_s2_a_session_is_renewed_and_the_guard_asked_each_time(
    brokers: Brokers,
    authority: Authority,
    start: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "RENEW_AFTER_S", 0.1)
    port = brokers.start()
    counted = tries(monkeypatch)
    asked: list[int] = []
    with capture_logs() as logs:
        subscriber = start(port, Tls(authority.pem), guard=lambda: asked.append(1))
        until(lambda: len(counted) >= 4)
        subscriber.stop()
    assert [log["event"] for log in logs] == ["broker_connected"]
    assert len(asked) >= 4


def test_s2_certificate_alarms_are_said_once(
    brokers: Brokers,
    authority: Authority,
    start: Callable[..., Subscriber],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "RENEW_AFTER_S", 0.1)
    server = authority.sign("broker", hosts=("127.0.0.1",), ends=300)
    end = int(server.certificate.not_valid_after_utc.timestamp() * 1000)
    port = brokers.start(server)
    counted = tries(monkeypatch)
    with capture_logs() as logs:
        subscriber = start(port, Tls(authority.pem), now_ms=end - 5 * DAY_MS)
        until(lambda: len(counted) >= 3)
        assert subscriber.alarms == {"certificate_7d"}
        subscriber.stop()
    [entry] = [log for log in logs if log["event"].startswith("certificate")]
    assert (entry["event"], entry["certificate"]) == ("certificate_7d", "broker's certificate")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_client_id_taken_over(
    brokers: Brokers,
    start: Callable[..., Subscriber],
    protocol: str,
) -> None:
    brokers.start()
    with capture_logs() as logs:
        first = start(brokers.plain, protocol=protocol)
        start(brokers.plain, protocol=protocol)
        until(lambda: "taken_over" in first.alarms)
    said = [log["reason"] for log in logs if log["event"] == "broker_taken_over"]
    assert 1 <= len(said) <= 2  # one by each
    assert "another client connects with this identity" in said[0]


def test_receive_maximum_of_the_broker_is_respected(
    brokers: Brokers, start: Callable[..., Subscriber]
) -> None:
    brokers.start(more="")
    subscriber = start(brokers.plain)
    connected(subscriber)
    client = subscriber._client
    assert client is not None
    assert client.max_inflight_messages == 20  # mosquitto's own; it cuts off who exceeds it
    edge = Publisher(brokers.plain, "agri/v1/+/ack")
    for _ in range(200):
        subscriber.publish_receipt("hl-001", RECEIPT)
    for _ in range(200):
        assert edge.received.get(timeout=10)
    assert subscriber._client is client
    edge.close()
