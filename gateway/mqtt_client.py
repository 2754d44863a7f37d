"""aiomqtt's client, with what it hides made visible: reason codes, the broker's limits, TLS alerts.

One client object serves one connection, because aiomqtt 2 keeps the messages of the connection before.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.reasoncodes import ReasonCode

from gateway import broker, broker_faults
from gateway.broker_faults import Fault, Kind, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import paho.mqtt.client as paho
    from aiomqtt.types import PahoSocket
    from paho.mqtt.properties import Properties

    from gateway.broker import BrokerLogin

QOS = 1
# The link's window bounds what is sent; this bounds what waits for its PUBACK, and so may the broker (MQTT 5).
IN_FLIGHT = 64
RECEIPTS_QUEUED = 1000  # beyond this receipts are dropped: a later one says the same
PUBLISH_HEADER_BYTES = 16  # beside topic and payload; rather too many


class ConnectionFault(aiomqtt.MqttError):
    """There is no connection, or no longer; ``fault`` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Client(aiomqtt.Client):
    """One connection to the broker."""

    def __init__(
        self,
        login: BrokerLogin,
        context: ssl.SSLContext | None,
        *,
        identifier: str,
        will: aiomqtt.Will,
        keepalive_s: int,
        timeout_s: float,
    ) -> None:
        newest = login.protocol == "5"
        super().__init__(
            login.host,
            login.port,
            username=login.username,
            password=login.password,
            identifier=identifier,
            protocol=aiomqtt.ProtocolVersion.V5 if newest else aiomqtt.ProtocolVersion.V311,
            clean_session=None if newest else True,
            keepalive=keepalive_s,
            timeout=timeout_s,
            will=will,
            tls_context=context,
            max_inflight_messages=IN_FLIGHT,
            max_queued_incoming_messages=RECEIPTS_QUEUED,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self._login = login
        self.pending_calls_threshold = IN_FLIGHT  # aiomqtt warns from 10 on
        self._client.connect_timeout = timeout_s
        self._client.on_log = self._on_log
        self._answers: dict[int, asyncio.Future[ReasonCode]] = {}
        self._fault: Fault | None = None  # what the broker said of the end
        self._welcome = False  # there was a good CONNACK
        self.in_flight = IN_FLIGHT
        self.peer_not_after_ms: int | None = None
        self.cut = False  # the other side ended the connection, saying nothing
        self._largest: int | None = None

    async def publish_told(
        self, topic: str, payload: bytes, *, retain: bool, timeout_s: float
    ) -> str | None:
        """Publish with QoS 1; return why the broker did not take it, None when it did (3.1.1 never says)."""
        if self._largest is not None:
            size = len(topic) + len(payload) + PUBLISH_HEADER_BYTES
            if size > self._largest:  # sending it would end the connection
                return broker_faults.of_publish(Reason.PACKET_TOO_LARGE, "Packet too large")
        info = self._client.publish(topic, payload, QOS, retain)
        if info.rc != 0:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        answer: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._answers[info.mid] = answer
        try:
            async with asyncio.timeout(timeout_s):
                reason = await answer
        finally:
            self._answers.pop(info.mid, None)
        return broker_faults.of_publish(reason.value, str(reason)) if reason.is_failure else None

    def fault_of(self, error: BaseException) -> Fault:
        """Name the fault behind what ended this connection or kept it from being."""
        if self._fault is not None:
            return self._fault
        if self.cut:
            return Fault(Kind.UNREACHABLE, "the broker, or the network, cut the connection")
        match error:
            case ConnectionFault():
                return error.fault
            case MqttConnectError() if isinstance(error.rc, ReasonCode):
                return broker_faults.of_refusal(error.rc.value, str(error.rc), self._login)
            case aiomqtt.MqttError() if isinstance(error.__context__, OSError):
                return broker_faults.of_connect(error.__context__, self._login)
            case aiomqtt.MqttError() if not self._welcome:
                return broker_faults.of_silence(self._login, closed=False)
            case TimeoutError():
                return Fault(Kind.UNREACHABLE, "the broker acknowledges nothing any more")
        return Fault(Kind.UNREACHABLE, f"the connection broke: {error.__cause__ or error}")

    # ---- what paho calls, all but the log from the loop's thread

    def _on_log(self, _client: paho.Client, _userdata: object, _level: int, line: str) -> None:
        if self._fault is None and self._login.tls is not None and "[SSL" in line:
            self._fault = broker_faults.of_log(line, self._login)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._welcome = not reason_code.is_failure
        receive_maximum = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
        self.in_flight = min(IN_FLIGHT, receive_maximum)
        # paho heeds no receive maximum by itself; nothing is in flight yet, so this may still change.
        client._max_inflight_messages = self.in_flight  # noqa: SLF001 - public way: only before
        self._largest = getattr(properties, "MaximumPacketSize", None)
        connection = client.socket()
        if isinstance(connection, ssl.SSLSocket):
            self.peer_not_after_ms = broker.peer_not_after_ms(connection)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._fault = self._fault or broker_faults.of_disconnect(
                reason_code.value, str(reason_code)
            )
        elif self._welcome and self._fault is None and reason_code.is_failure:
            self.cut = True
        if not self._connected.done():
            # aiomqtt would wait for the CONNACK until its timeout.
            self._connected.set_exception(
                ConnectionFault(broker_faults.of_silence(self._login, closed=True))
            )
            self._connected.exception()  # seen, even when nobody waits
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        answer = self._answers.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_socket_register_write(
        self, client: paho.Client, _userdata: object, sock: PahoSocket
    ) -> None:
        """Watch the socket, if it is still there one turn of the loop later.

        aiomqtt 2.5 does not look again: by then the socket may be closed, its number another connection's, and the
        watch never ends.
        """

        def register() -> None:
            now = client.socket()
            if now is not None and now is sock and client.want_write():
                self._loop.add_writer(now.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(register)


@asynccontextmanager
async def connection(client: Client) -> AsyncIterator[Client]:
    """Connect; at the end disconnect, and close the socket whatever happened.

    aiomqtt 2.5 leaves the socket and its reader behind when the CONNACK does not come or the farewell cannot be sent.
    """
    try:
        async with client:
            yield client
    finally:
        client._client._sock_close()  # noqa: SLF001 - no public way
