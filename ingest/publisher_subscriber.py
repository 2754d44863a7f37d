"""A second connection to the broker, for publishers that keep nothing: its queue there is the only one.

The session is persistent, and a message is acknowledged only after the inbox's commit, in the order it came. What
cannot be taken now is not acknowledged: the connection is given up, and the broker sends all of it again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.intake import Outcome
from ingest.publishers.address import SUBSCRIPTIONS
from ingest.publishers.arrival import MQTT, Arrival, Delivery, SessionBegins
from ingest.subscriber import KEEPALIVE_S, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.broker import BrokerLogin

SESSION_EXPIRY_S = 7 * 24 * 3600  # MQTT 5; with 3.1.1 the broker's own setting
LOOK_EVERY_S = 0.1
RECEIVE_MAXIMUM = 200  # messages sent to us and not acknowledged: what a group commit may hold


class _Connection:
    """One connection; given up, nothing more that came on it is taken."""

    def __init__(self) -> None:
        self.given_up = False


class PublisherSubscriber(Subscriber):
    """Feeds the queue of ``beside``, the subscriber of the edge link, and counts into its tally."""

    client_id = "agrigate-publishers"
    subscriptions = SUBSCRIPTIONS

    def __init__(
        self,
        login: BrokerLogin,
        now_ms: Callable[[], int],
        beside: Subscriber,
        guard: Callable[[], str | None] | None = None,
    ) -> None:
        """``guard`` is asked before every connection: while ingest holds there is none."""
        super().__init__(login, now_ms, guard)
        self.messages = beside.messages
        self.tally = beside.tally
        self._connection = _Connection()
        self._beside = beside

    def _may_connect(self) -> bool:
        """Wait for the edge link's connection: before each of those the broker's access list is proven."""
        while self._beside.connected_since_ms is None:
            self.refusal = self._beside.refusal
            if self._stopping.wait(LOOK_EVERY_S):
                return False
        return super()._may_connect()

    def _connect(self, client: mqtt.Client) -> None:
        self._connection = _Connection()
        if not self._is_newest:
            super()._connect(client)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        client.connect(
            self._login.host,
            self._login.port,
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=properties,
        )

    def _bare_client(self) -> mqtt.Client:
        newest = self._is_newest
        return mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if newest else False,
            protocol=mqtt.MQTTv5 if newest else mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )

    def _session(self, client: mqtt.Client, *, is_new: bool) -> None:  # noqa: ARG002 - of the base
        if is_new:  # it numbers its messages anew
            self._hand_on(SessionBegins(MQTT))

    def _on_message(
        self, client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        mid, qos, payload = message.mid, message.qos, bytes(message.payload)
        if message.retain:  # the copy that each subscription gets: it was taken when it was new
            client.ack(mid, qos)
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = repr(message._topic)  # noqa: SLF001 - the only way to its bytes
        connection = self._connection

        def done(outcome: str) -> None:
            if outcome != Outcome.HELD:
                client.ack(mid, qos)
            elif not connection.given_up:
                connection.given_up = True
                if connection is self._connection:
                    self._lost.set()

        delivery = None
        if qos:
            digest = hashlib.sha256(topic.encode() + b"\0" + payload).digest()
            delivery = Delivery(MQTT, str(mid), digest, self._now_ms())
        self.tally.received()
        self._hand_on(
            Arrival(
                topic,
                payload,
                f"qos={qos} mid={mid}",
                self._now_ms(),
                done,
                delivery,
                may_be_repeated=message.dup,
                is_stale=lambda: connection.given_up,
            )
        )
