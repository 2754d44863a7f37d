"""The MQTT side of ingest, on paho: messages in on paho's thread, receipts out.

Subscribed with a clean session: the edges' spools are the only queue. A client object serves one connection only, so
nothing of a past one can be acknowledged or sent.
"""

from __future__ import annotations

import queue
import random
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from gateway import broker_faults, wire
from gateway.broker import certificate_alarms, peer_not_after_ms, tls_context
from gateway.broker_faults import Fault, Kind
from gateway.reconnect import renew_after_s
from ingest.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from gateway.broker import BrokerLogin, CertificateAlarm
    from ingest.publishers.arrival import Arrival, SessionBegins

log = structlog.get_logger()

QUEUE_MESSAGES = (
    5_000  # beyond it paho's thread waits and the socket fills: back-pressure on the broker
)
KEEPALIVE_S = 30
RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 15.0
CONNECT_TIMEOUT_S = 10.0
IN_FLIGHT = 1000  # receipts that wait for their PUBACK; with MQTT 5 the broker may allow fewer
STEADY_AFTER_S = 30.0
CUTS_IN_A_ROW = 3  # so many connections cut before they were steady: somebody takes them over
SUBSCRIPTIONS = (f"{wire.TOPIC_ROOT}/+/up", f"{wire.TOPIC_ROOT}/+/status")


@dataclass(frozen=True, slots=True)
class Message:
    """One message as received; ``leaf`` is ``up`` or ``status``."""

    topic: str
    payload: bytes
    retained: bool
    received_ms: int


class Subscriber:
    """Keeps one connection to the broker; ``messages`` is what came, in order."""

    client_id = "agrigate-ingest"
    subscriptions: tuple[str, ...] = SUBSCRIPTIONS

    def __init__(
        self,
        login: BrokerLogin,
        now_ms: Callable[[], int],
        guard: Callable[[], str | None] | None = None,
    ) -> None:
        """``guard`` is asked before every connection: what it returns is why there must be none."""
        self._login = login
        self._now_ms = now_ms
        self._guard = guard
        self._rng = random.Random()  # noqa: S311 - jitter
        self.tally = Tally()
        self.messages: queue.Queue[Message | Arrival | SessionBegins | None] = queue.Queue(
            QUEUE_MESSAGES
        )
        self.connected_since_ms: int | None = None
        self.refusal: str | None = None
        self._context: ssl.SSLContext | None = None
        self._client: mqtt.Client | None = None
        self._stopping = threading.Event()
        self._lost = threading.Event()
        self._welcome = False  # the broker let us in and granted what we subscribed to
        self._fault: Fault | None = None  # of this connection
        self._state = ""  # of the last log line: news is what differs from it
        self._cuts = 0
        self._taken_over = False
        self._peer_not_after_ms: int | None = None
        self._certificates_said: frozenset[tuple[str, str]] = frozenset()
        self._thread = threading.Thread(target=self._run, name="mqtt-keeper", daemon=True)

    @property
    def alarms(self) -> set[str]:
        """What a person should look at: ``taken_over``, ``certificate_7d`` and the like."""
        found = {alarm.name for alarm in self._certificate_alarms()}
        return found | {"taken_over"} if self._taken_over else found

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
        while not self._stopping.is_set():
            good = self._may_connect() and self._one_connection()
            self._say_certificates()
            # A broker that refuses us is asked less and less often, like one that is not there.
            wait_s = RECONNECT_FIRST_S if good else min(wait_s * 2, RECONNECT_MAX_S)
            self._stopping.wait(wait_s * self._rng.uniform(0.8, 1.2))

    def _may_connect(self) -> bool:
        refusal = self._guard() if self._guard is not None else None
        self.refusal = refusal
        if refusal is not None and self._state != refusal:  # once, not at every try
            self._state = refusal
            log.error("broker_not_used", host=self._login.host, reason=refusal)
        return refusal is None

    def _one_connection(self) -> bool:
        """Tell whether the broker let us in; ends with the connection, or when it is to be made anew."""
        self._lost.clear()
        if self._stopping.is_set():  # ``stop`` may have set what was just cleared
            return False
        self._welcome, self._fault = False, None
        client = self._client = self._new_client()  # the CONNECT may be cut off already
        try:
            self._connect(client)
        except (OSError, ValueError) as exc:
            if broker_faults.is_expiry(exc):
                self._peer_not_after_ms = self._now_ms()
            self._say(broker_faults.of_connect(exc, self._login))
            self._client = None
            return False
        connection = client.socket()
        if isinstance(connection, ssl.SSLSocket):
            self._peer_not_after_ms = peer_not_after_ms(connection)
        self._say_certificates()
        client.loop_start()
        renew_s = renew_after_s(self._now_ms(), self._login.tls, self._peer_not_after_ms, self._rng)
        held = not self._lost.wait(min(STEADY_AFTER_S, renew_s))
        if held:
            self._cuts, self._taken_over = 0, False
            self._lost.wait(renew_s - min(STEADY_AFTER_S, renew_s))
        self._client, self.connected_since_ms = None, None
        client.disconnect()
        client.loop_stop()
        if not held and self._welcome and not self._stopping.is_set():
            self._count_cut()
        return self._welcome

    @property
    def _is_newest(self) -> bool:
        return self._login.protocol == "5"

    def _connect(self, client: mqtt.Client) -> None:
        client.connect(self._login.host, self._login.port, keepalive=KEEPALIVE_S)

    def _bare_client(self) -> mqtt.Client:
        return mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=mqtt.MQTTv5 if self._is_newest else mqtt.MQTTv311,
            reconnect_on_failure=False,
        )

    def _new_client(self) -> mqtt.Client:
        client = self._bare_client()
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.username_pw_set(self._login.username, self._login.password)
        if self._login.tls is not None:
            self._context = self._context or tls_context(self._login.tls)
            client.tls_set_context(self._context)
            client.on_log = self._on_log
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    # ---- what is said of the connection

    def _say(self, fault: Fault) -> None:
        if self._state == fault.state:  # once, not at every try
            return
        self._state = fault.state
        if fault.kind is Kind.UNREACHABLE:
            log.warning("broker_unreachable", host=self._login.host, reason=fault.text)
        else:
            log.error("broker_refused", host=self._login.host, reason=fault.text)

    def _count_cut(self) -> None:
        told = self._fault is not None and self._fault.kind is Kind.TAKEN_OVER
        self._cuts += 1
        if self._taken_over or not (told or self._cuts >= CUTS_IN_A_ROW):
            return
        self._taken_over = True
        reason = broker_faults.SAME_IDENTITY if told else broker_faults.CUT_AGAIN_AND_AGAIN
        log.error("broker_taken_over", host=self._login.host, reason=reason)

    def _certificate_alarms(self) -> list[CertificateAlarm]:
        if self._login.tls is None:
            return []
        return certificate_alarms(self._login.tls, self._now_ms(), self._peer_not_after_ms)

    def _say_certificates(self) -> None:
        alarms = {(alarm.certificate, alarm.name): alarm for alarm in self._certificate_alarms()}
        for said, alarm in alarms.items():
            if said not in self._certificates_said:
                log.warning(alarm.name, certificate=alarm.certificate, ends=alarm.ends)
        if self._certificates_said and not alarms:
            log.info("certificates_good")
        self._certificates_said = frozenset(alarms)

    # ---- what paho calls, on its thread

    def _on_log(self, _client: mqtt.Client, _userdata: object, _level: int, line: str) -> None:
        if self._fault is None and "[SSL" in line:
            self._fault = broker_faults.of_log(line, self._login)

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refused(broker_faults.of_refusal(reason.value, str(reason), self._login))
            return
        # paho heeds no receive maximum by itself; nothing is in flight yet, so this may still change.
        allowed = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
        client._max_inflight_messages = min(IN_FLIGHT, allowed)  # noqa: SLF001 - public way: only before
        self._session(client, is_new=not flags.session_present)
        client.subscribe([(topic, 1) for topic in self.subscriptions])

    def _session(self, client: mqtt.Client, *, is_new: bool) -> None:
        """Hear of the session that a connection goes on with, or begins."""

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            topics = " and ".join(self.subscriptions)
            text = f"the broker refused the subscription to {topics}: check its access list"
            self._refused(Fault(Kind.REFUSED, text))
            return
        self._welcome = True
        self.connected_since_ms = self._now_ms()
        if self._state != "connected" and not self._taken_over:
            log.info("broker_connected", host=self._login.host, port=self._login.port)
        self._state = "connected"

    def _refused(self, fault: Fault) -> None:
        self._fault = fault
        self._say(fault)
        self._lost.set()

    def _on_disconnect(
        self,
        client: mqtt.Client,
        _userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is self._client and not self._stopping.is_set():
            if flags.is_disconnect_packet_from_server:
                self._fault = broker_faults.of_disconnect(reason.value, str(reason))
            if not self._welcome:
                # The refusal of a CONNACK is followed by the end of the connection.
                self._say(self._fault or broker_faults.of_silence(self._login, closed=True))
            elif not self._taken_over:
                self._state = "lost"
                log.warning("broker_lost", reason=self._fault.text if self._fault else str(reason))
        self._lost.set()

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        item = Message(message.topic, bytes(message.payload), message.retain, self._now_ms())
        if item.topic.endswith("/up"):
            self.tally.received()
        self._hand_on(item)

    def _hand_on(self, item: Message | Arrival | SessionBegins) -> None:
        """Wait for room in the queue: back-pressure on the broker."""
        while not self._stopping.is_set():
            try:
                self.messages.put(item, timeout=1)
            except queue.Full:
                continue
            return
