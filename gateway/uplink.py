"""One station's MQTT connection: publishes what the link hands out, hands it the receipts.

A PUBACK only says that the broker is there; what counts are receipts. What keeps a connection from being is logged when
it changes, in words of ``gateway.broker_faults``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING

import aiomqtt
import structlog

from gateway import broker_faults, wire
from gateway.broker import CertificateAlarm, certificate_alarms, not_after_ms, tls_context
from gateway.broker_faults import Fault, Kind
from gateway.mqtt_client import QOS, Client, ConnectionFault, connection
from gateway.reconnect import reconnect_delay_s, renew_after_s

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import Callable

    from gateway.broker import BrokerLogin
    from gateway.link import Send
    from gateway.schedule import Clock
    from gateway.station import StationAgent

KEEPALIVE_S = 30
CONNACK_TIMEOUT_S = 10.0
# A megabyte takes minutes over GPRS; a dead connection is found by the keep-alive long before.
PUBACK_TIMEOUT_S = 120.0
# A broker that restarts loses all its stations at one moment: the first of them must not decide the others' moment.
RECONNECT_FIRST_S = 5.0
RECONNECT_MAX_S = 60.0
STEADY_AFTER_S = (
    30.0  # a connection that held this long is no flapping one: start the back-off anew
)
QUIET_AFTER_S = 300.0  # a connection that held this long is no longer contested
CUTS_IN_A_ROW = 3  # so many connections cut before they were steady: somebody takes them over
NO_RECEIPT_S = 300.0
ASK_AGAIN_AT_LEAST_S = 0.01
FLUSH_AT_MOST_S = 2.0
GOODBYE_AT_MOST_S = 1.5

NO_RECEIPTS = "no_receipts"

log = structlog.get_logger()


class Uplink:
    """Keeps one station connected until ``stop`` is called."""

    def __init__(
        self,
        agent: StationAgent,
        broker: BrokerLogin,
        *,
        clock: Clock,
        rng: random.Random,
        on_change: Callable[[], None],
    ) -> None:
        self._agent = agent
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._stopping = asyncio.Event()
        self._context: ssl.SSLContext | None = None
        self._failures = 0
        self._cuts = 0
        self._held = False  # the connection is, or was, steady
        self._taken_over = False
        self._state = ""  # of the last log line: news is what differs from it
        self._refused: dict[str, str] = {}  # leaf of a topic → why the broker does not take it
        self._unanswered_since: float | None = None
        self._garbage_reported = False
        self._peer_not_after_ms: int | None = None
        self._certificates_said: frozenset[tuple[str, str]] = frozenset()
        self.connected = False
        self.garbage_receipts = 0
        self.connections = 0

    @property
    def alarms(self) -> set[str]:
        """What a person should look at: ``taken_over``, ``certificate_7d`` and the like."""
        found = {alarm.name for alarm in self._certificate_alarms()}
        return found | {"taken_over"} if self._taken_over else found

    @property
    def certificates(self) -> dict[str, int]:
        """When the certificates of the connection end, UTC milliseconds: ``client`` and ``broker``."""
        ends = {
            "client": not_after_ms(self._broker.tls),
            "broker": self._peer_not_after_ms,
        }
        return {name: end_ms for name, end_ms in ends.items() if end_ms is not None}

    @property
    def identifier(self) -> str:
        """The client identifier: two gateways on one code have two, so they do not fight at the broker."""
        key = hashlib.sha256(base64.b64decode(self._agent.public_key)).hexdigest()
        return f"agri-{self._agent.code}-{key[:8]}"

    def stop(self) -> None:
        """Make ``run`` send what it can in a few seconds, say goodbye and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Connect, serve the connection, connect again; returns after ``stop``."""
        while not self._stopping.is_set():
            fault = await self._one_connection()
            if self._stopping.is_set():
                return
            if fault is None:
                continue  # the session was renewed
            self._failures += 1
            self._report(fault)
            delay_s = reconnect_delay_s(
                self._failures, self._rng, first_s=RECONNECT_FIRST_S, max_s=RECONNECT_MAX_S
            )
            if await self._stops_within(delay_s):
                return

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _one_connection(self) -> Fault | None:
        """Return why the connection ended; None when we ended it."""
        fault = None
        client = self._new_client()
        try:
            async with connection(client):
                await self._subscribe(client)
                await self._serve(client)
        except* (aiomqtt.MqttError, TimeoutError) as group:
            error = _first(group)
            fault = client.fault_of(error)
            if broker_faults.is_expiry(error.__context__):
                self._peer_not_after_ms = self._clock.wall_ms()
        self._count_cuts(client, fault)
        self._say_certificates()
        return fault

    def _new_client(self) -> Client:
        if self._context is None and self._broker.tls is not None:
            self._context = tls_context(self._broker.tls)
        return Client(
            self._broker,
            self._context,
            identifier=self.identifier,
            will=aiomqtt.Will(self._topic("status"), self._agent.will, qos=QOS, retain=True),
            keepalive_s=KEEPALIVE_S,
            timeout_s=CONNACK_TIMEOUT_S,
        )

    # ---- what is said of the connection

    def _report(self, fault: Fault) -> None:
        if self._taken_over and fault.kind is Kind.UNREACHABLE:
            return  # the cut of a session that is taken over is no news
        if self._state != fault.state:
            self._state = fault.state
            log.warning(
                "uplink_down",
                station=self._agent.code,
                broker=f"{self._broker.host}:{self._broker.port}",
                reason=fault.text,
            )

    def _count_cuts(self, client: Client, fault: Fault | None) -> None:
        """Recognise a take-over: MQTT 5 says it, with 3.1.1 a good connection is cut soon, again and again."""
        told = fault is not None and fault.kind is Kind.TAKEN_OVER
        self._cuts = self._cuts + 1 if client.cut and not self._held else 0
        again = self._cuts >= CUTS_IN_A_ROW
        if not (told or again) or self._taken_over:
            return
        self._taken_over = True
        log.error(
            "uplink_taken_over",
            station=self._agent.code,
            identifier=self.identifier,
            reason=broker_faults.SAME_IDENTITY if told else broker_faults.CUT_AGAIN_AND_AGAIN,
        )
        self._state = broker_faults.TAKEN_OVER_STATE
        self._on_change()

    def _steady(self) -> None:
        """The connection has held: forget what was before."""
        self._held = True
        self._failures = self._cuts = 0
        if self._taken_over:
            self._taken_over = False
            self._say_connected()
            self._on_change()

    def _say_connected(self) -> None:
        if not self._taken_over and self._state != "connected":
            self._state = "connected"
            log.info("uplink_connected", station=self._agent.code)

    def _certificate_alarms(self) -> list[CertificateAlarm]:
        if self._broker.tls is None:
            return []
        now = self._clock.wall_ms()
        return certificate_alarms(self._broker.tls, now, self._peer_not_after_ms)

    def _say_certificates(self) -> None:
        alarms = {(alarm.certificate, alarm.name): alarm for alarm in self._certificate_alarms()}
        for said, alarm in alarms.items():
            if said not in self._certificates_said:
                log.warning(
                    alarm.name,
                    station=self._agent.code,
                    certificate=alarm.certificate,
                    ends=alarm.ends,
                )
        if self._certificates_said and not alarms:
            log.info("certificates_good", station=self._agent.code)
        self._certificates_said = frozenset(alarms)

    def _topic(self, leaf: str) -> str:
        return wire.topic(self._agent.code, leaf)

    async def _subscribe(self, client: Client) -> None:
        for granted in await client.subscribe(self._topic("ack"), qos=QOS):
            if (granted if isinstance(granted, int) else granted.value) >= 0x80:
                text = f"the broker refused the subscription to {self._topic('ack')}: check its access list"
                raise ConnectionFault(Fault(Kind.REFUSED, text))

    async def _serve(self, client: Client) -> None:
        await self._agent.connected()
        self._peer_not_after_ms = client.peer_not_after_ms
        self._unanswered_since = None
        self._held = False
        self._set_connected(now=True)
        self._say_certificates()
        try:
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(self._receive(client), name="receive")
                sending = group.create_task(self._send(client), name="send")
                if await self._until_stop_or_renewal():
                    await self._flush()
                sending.cancel()
                receiving.cancel()
            if self._stopping.is_set():
                await self._say_goodbye(client)
            else:
                log.debug("uplink_renewed", station=self._agent.code)
        finally:
            self._set_connected(now=False)
            await self._agent.disconnected()

    async def _until_stop_or_renewal(self) -> bool:
        """Tell whether it is the stop."""
        renew_s = renew_after_s(
            self._clock.wall_ms(), self._broker.tls, self._peer_not_after_ms, self._rng
        )
        # The other one comes back after its back-off: the alarm stands until that is over.
        steady_s = min(QUIET_AFTER_S if self._taken_over else STEADY_AFTER_S, renew_s)
        if await self._stops_within(steady_s):
            return True
        self._steady()
        return await self._stops_within(renew_s - steady_s)

    def _set_connected(self, *, now: bool) -> None:
        self.connected = now
        if now:
            self.connections += 1
            self._garbage_reported = False
            self._say_connected()
        self._on_change()

    # ---- receiving

    async def _receive(self, client: Client) -> None:
        async for message in client.messages:
            payload = message.payload
            if isinstance(payload, bytes):
                await self._take_receipt(payload)

    async def _take_receipt(self, payload: bytes) -> None:
        try:
            receipt = wire.decode_receipt(payload)
        except wire.WireError as exc:
            self.garbage_receipts += 1
            if not self._garbage_reported:  # once per connection; the count says how many
                self._garbage_reported = True
                log.warning(
                    "receipt_unreadable",
                    station=self._agent.code,
                    topic=self._topic("ack"),
                    reason=str(exc),
                    bytes=len(payload),
                    advice="only the server may write this topic; check the broker's access list",
                )
            return
        self._receipted()
        await self._agent.receipt(receipt)

    def _receipted(self) -> None:
        if self._state == NO_RECEIPTS:
            self._state = ""
            self._say_connected()
        self._unanswered_since = None

    def _sent(self, leaf: str) -> None:
        """Count from the first pack that no receipt has followed: 3.1.1 does not tell what an access list drops."""
        if leaf != "up":
            return
        now = self._clock.monotonic()
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since >= NO_RECEIPT_S and self._state == "connected":
            self._state = NO_RECEIPTS
            log.warning(
                "no_receipts",
                station=self._agent.code,
                reason=f"packs go out and no receipt comes: is the server running? Else the broker's access list"
                f" does not let us write {self._topic('up')} or read {self._topic('ack')}",
            )

    # ---- sending

    async def _send(self, client: Client) -> None:
        """Publish what the link hands out, in its order, with a bounded number of PUBACKs outstanding."""
        free = asyncio.Semaphore(client.in_flight)
        async with asyncio.TaskGroup() as publishing:
            while True:
                self._agent.wake.clear()
                sends, wait_s = await self._agent.outgoing()
                for send in sends:
                    async with asyncio.timeout(PUBACK_TIMEOUT_S):
                        await free.acquire()
                    publishing.create_task(self._publish(client, send, free))
                await self._until_asked(wait_s)

    async def _until_asked(self, wait_s: float | None) -> None:
        at_least = None if wait_s is None else max(wait_s, ASK_AGAIN_AT_LEAST_S)
        try:
            async with asyncio.timeout(at_least):
                await self._agent.wake.wait()
        except TimeoutError:
            return

    async def _publish(self, client: Client, send: Send, free: asyncio.Semaphore) -> None:
        self._sent(send.leaf)
        try:
            refused = await client.publish_told(
                self._topic(send.leaf), send.payload, retain=send.retain, timeout_s=PUBACK_TIMEOUT_S
            )
        finally:
            free.release()
        self._say_refused(send.leaf, refused)

    def _say_refused(self, leaf: str, reason: str | None) -> None:
        """Log that the broker began, or ceased, not to take what goes to ``leaf``; the spool keeps it."""
        if reason is None:
            if self._refused.pop(leaf, None) is not None:
                log.info("publish_accepted", station=self._agent.code, topic=self._topic(leaf))
        elif self._refused.get(leaf) != reason:
            self._refused[leaf] = reason
            log.error(
                "publish_refused", station=self._agent.code, topic=self._topic(leaf), reason=reason
            )

    # ---- the end

    async def _flush(self) -> None:
        """Wait a little for the receipts of what is queued."""
        try:
            async with asyncio.timeout(FLUSH_AT_MOST_S):
                while True:
                    self._agent.receipted.clear()
                    if not (await self._agent.state()).queue:
                        return
                    await self._agent.receipted.wait()
        except TimeoutError:
            return

    async def _say_goodbye(self, client: Client) -> None:
        """Replace the retained status: an orderly DISCONNECT keeps the broker from sending the will."""
        send = await self._agent.goodbye()
        await client.publish(
            self._topic(send.leaf), send.payload, QOS, send.retain, timeout=GOODBYE_AT_MOST_S
        )


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
