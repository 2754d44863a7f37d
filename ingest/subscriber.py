"""The MQTT side of ingest, on paho: messages in on paho's thread, receipts out.

Subscribed with a clean session: the edges' spools are the only queue. A client object serves one connection only, so
nothing of a past one can be acknowledged or sent.
"""

from __future__ import annotations

import queue
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from gateway import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

log = structlog.get_logger()

QUEUE_MESSAGES = (
    5_000  # beyond it paho's thread waits and the socket fills: back-pressure on the broker
)
KEEPALIVE_S = 30
RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 15.0
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received; ``leaf`` is ``up`` or ``status``."""

    topic: str
    payload: bytes
    retained: bool
    received_ms: int


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """How ingest reaches the broker."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None


class Subscriber:
    """Keeps one connection to the broker; ``messages`` is what came, in order."""

    def __init__(self, login: BrokerLogin, now_ms: Callable[[], int]) -> None:
        self._login = login
        self._now_ms = now_ms
        self.messages: queue.Queue[Message | None] = queue.Queue(QUEUE_MESSAGES)
        self.connected_since_ms: int | None = None
        self._client: mqtt.Client | None = None
        self._stopping = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt-keeper", daemon=True)

    def start(self) -> None:
        """Connect, and again whenever the connection is lost, until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Leave the broker."""
        self._stopping.set()
        self._lost.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish_receipt(self, station: str, receipt: wire.Receipt) -> None:
        """Send a receipt with QoS 1; while there is no connection it is dropped (the edge will ask again)."""
        client = self._client
        if client is not None and self.connected_since_ms is not None:
            client.publish(wire.topic(station, "ack"), wire.encode_receipt(receipt), qos=1)

    def _run(self) -> None:
        wait_s = RECONNECT_FIRST_S
        offline_logged = False
        while not self._stopping.is_set():
            self._lost.clear()
            client = self._new_client()
            try:
                client.connect(self._login.host, self._login.port, keepalive=KEEPALIVE_S)
            except (OSError, ValueError) as exc:
                if not offline_logged:
                    log.warning("broker_unreachable", host=self._login.host, error=str(exc))
                    offline_logged = True
                self._stopping.wait(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                wait_s = min(wait_s * 2, RECONNECT_MAX_S)
                continue
            self._client = client
            client.loop_start()
            self._lost.wait()
            offline_logged = False
            wait_s = RECONNECT_FIRST_S
            self._client, self.connected_since_ms = None, None
            client.disconnect()
            client.loop_stop()
            if not self._stopping.is_set():
                self._stopping.wait(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="agrigate-ingest", reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.username_pw_set(self._login.username, self._login.password)
        client.max_inflight_messages_set(1000)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("broker_refused", reason=str(reason), host=self._login.host)
            self._lost.set()
            return
        client.subscribe([(f"{wire.TOPIC_ROOT}/+/up", 1), (f"{wire.TOPIC_ROOT}/+/status", 1)])
        self.connected_since_ms = self._now_ms()
        log.info("broker_connected", host=self._login.host, port=self._login.port)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is self._client and not self._stopping.is_set():
            log.warning("broker_lost", reason=str(reason))
        self._lost.set()

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        item = Message(message.topic, bytes(message.payload), message.retain, self._now_ms())
        while not self._stopping.is_set():
            try:
                self.messages.put(item, timeout=1)
            except queue.Full:
                continue
            return
