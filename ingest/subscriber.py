"""The MQTT side of ingest, on paho: messages in on paho's thread, receipts out.

Subscribed with a clean session: the edges' spools are the only queue. A client object serves one connection only, so
nothing of a past one can be acknowledged or sent.
"""

from __future__ import annotations

import queue
import random
import threading
from dataclasses import dataclass, field
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
SUBSCRIPTIONS = (f"{wire.TOPIC_ROOT}/+/up", f"{wire.TOPIC_ROOT}/+/status")


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received; ``leaf`` is ``up`` or ``status``."""

    topic: str
    payload: bytes
    retained: bool
    received_ms: int


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """How ingest reaches the broker; the password is never shown."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)


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
        self._welcome = False  # the broker let us in and granted what we subscribed to
        self._refusal = ""
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
            self._welcome = False
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
            self._client, self.connected_since_ms = None, None
            client.disconnect()
            client.loop_stop()
            offline_logged = False
            # A broker that refuses us is asked less and less often, like one that is not there.
            wait_s = RECONNECT_FIRST_S if self._welcome else min(wait_s * 2, RECONNECT_MAX_S)
            self._stopping.wait(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="agrigate-ingest", reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.username_pw_set(self._login.username, self._login.password)
        client.max_inflight_messages_set(1000)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
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
            self._refused(f"connection: {reason}", "check username and password_file in [broker]")
            return
        client.subscribe([(topic, 1) for topic in SUBSCRIPTIONS])

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            topics = " and ".join(SUBSCRIPTIONS)
            self._refused(f"subscription to {topics}", "check the broker's access list")
            return
        self._welcome = True
        self._refusal = ""
        self.connected_since_ms = self._now_ms()
        log.info("broker_connected", host=self._login.host, port=self._login.port)

    def _refused(self, what: str, todo: str) -> None:
        if what != self._refusal:  # once, not at every try
            self._refusal = what
            log.error("broker_refused", what=what, host=self._login.host, todo=todo)
        self._lost.set()

    def _on_disconnect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is self._client and self._welcome and not self._stopping.is_set():
            log.warning("broker_lost", reason=str(reason))
        elif not self._welcome and not self._refusal:
            self._refused(f"connection: {reason}", "check host and port in [broker]")
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
