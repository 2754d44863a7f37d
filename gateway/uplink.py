"""One station's MQTT connection: publishes what the link hands out, hands it the receipts.

A PUBACK only says that the broker is there; what counts are receipts. Every connection has a client object of its own,
because aiomqtt 2 keeps the messages of the connection before.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
import structlog

from gateway import wire
from gateway.schedule import BackOff

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    import paho.mqtt.client as paho
    from aiomqtt.types import PahoSocket

    from gateway.config import BrokerLogin
    from gateway.link import Send
    from gateway.schedule import Clock
    from gateway.station import StationAgent

QOS = 1
KEEPALIVE_S = 30
CONNACK_TIMEOUT_S = 10.0
# The link's window bounds what is sent (32 packs or 1 MiB a lane); this bounds what waits for its PUBACK.
IN_FLIGHT = 64
# A megabyte takes minutes over GPRS; a dead connection is found by the keep-alive long before.
PUBACK_TIMEOUT_S = 120.0
RECEIPTS_QUEUED = 1000  # beyond this receipts are dropped: a later one says the same
RECONNECT_FIRST_S = 1.0
RECONNECT_MAX_S = 30.0
STEADY_AFTER_S = (
    30.0  # a connection that held this long is no flapping one: start the back-off anew
)
ASK_AGAIN_AT_LEAST_S = 0.01
FLUSH_AT_MOST_S = 2.0
GOODBYE_AT_MOST_S = 1.5

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
        self._on_change = on_change
        self._back_off = BackOff(RECONNECT_FIRST_S, RECONNECT_MAX_S, rng)
        self._stopping = asyncio.Event()
        self._reported_down = False
        self._garbage_reported = False
        self.connected = False
        self.garbage_receipts = 0
        self.connections = 0

    def stop(self) -> None:
        """Make ``run`` send what it can in a few seconds, say goodbye and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Connect, serve the connection, connect again; returns after ``stop``."""
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            reason = await self._one_connection()
            if self._stopping.is_set():
                return
            if self._clock.monotonic() - started >= STEADY_AFTER_S:
                self._back_off.reset()
            delay = self._back_off.next_delay()
            if not self._reported_down:
                self._reported_down = True
                log.warning(
                    "uplink_down",
                    station=self._agent.code,
                    broker=f"{self._broker.host}:{self._broker.port}",
                    reason=reason,
                )
            try:
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _one_connection(self) -> str:
        """Return why the connection ended."""
        reason = "stopped"
        try:
            async with _connection(self._new_client()) as client:
                await self._subscribe(client)
                await self._serve(client)
        except* (aiomqtt.MqttError, TimeoutError) as group:
            reason = _first_reason(group)
        return reason

    def _new_client(self) -> aiomqtt.Client:
        client = _Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=f"agri-{self._agent.code}",
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=CONNACK_TIMEOUT_S,
            will=aiomqtt.Will(self._topic("status"), self._agent.will, qos=QOS, retain=True),
            max_inflight_messages=IN_FLIGHT,
            max_queued_incoming_messages=RECEIPTS_QUEUED,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        client.pending_calls_threshold = IN_FLIGHT  # aiomqtt warns from 10 on
        return client

    def _topic(self, leaf: str) -> str:
        return wire.topic(self._agent.code, leaf)

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for granted in await client.subscribe(self._topic("ack"), qos=QOS):
            if (granted if isinstance(granted, int) else granted.value) >= 0x80:
                raise aiomqtt.MqttError(
                    f"the broker refused the subscription to {self._topic('ack')}: check its access list"
                )

    async def _serve(self, client: aiomqtt.Client) -> None:
        await self._agent.connected()
        self._set_connected(now=True)
        try:
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(self._receive(client), name="receive")
                sending = group.create_task(self._send(client), name="send")
                await self._stopping.wait()
                await self._flush()
                sending.cancel()
                receiving.cancel()
            await self._say_goodbye(client)
        finally:
            self._set_connected(now=False)
            await self._agent.disconnected()

    def _set_connected(self, *, now: bool) -> None:
        self.connected = now
        if now:
            self.connections += 1
            self._reported_down = False
            self._garbage_reported = False
            log.info("uplink_connected", station=self._agent.code)
        self._on_change()

    # ---- receiving

    async def _receive(self, client: aiomqtt.Client) -> None:
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
        await self._agent.receipt(receipt)

    # ---- sending

    async def _send(self, client: aiomqtt.Client) -> None:
        """Publish what the link hands out, in its order, with a bounded number of PUBACKs outstanding."""
        free = asyncio.Semaphore(IN_FLIGHT)
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

    async def _publish(self, client: aiomqtt.Client, send: Send, free: asyncio.Semaphore) -> None:
        try:
            await client.publish(
                self._topic(send.leaf), send.payload, QOS, send.retain, timeout=PUBACK_TIMEOUT_S
            )
        finally:
            free.release()

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

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        """Replace the retained status: an orderly DISCONNECT keeps the broker from sending the will."""
        send = await self._agent.goodbye()
        await client.publish(
            self._topic(send.leaf), send.payload, QOS, send.retain, timeout=GOODBYE_AT_MOST_S
        )


class _Client(aiomqtt.Client):
    """aiomqtt, with one race closed: 2.5 asks the loop to watch a socket one turn later without looking again.

    By then the socket may be closed, its number another connection's, and the watch never ends.
    """

    def _on_socket_register_write(
        self, client: paho.Client, _userdata: object, sock: PahoSocket
    ) -> None:
        def register() -> None:
            now = client.socket()
            if now is not None and now is sock and client.want_write():
                self._loop.add_writer(now.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(register)


@asynccontextmanager
async def _connection(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """Connect; at the end disconnect, and close the socket whatever happened.

    aiomqtt 2.5 leaves the socket and its reader behind when the CONNACK does not come or the farewell cannot be sent.
    """
    try:
        async with client:
            yield client
    finally:
        client._client._sock_close()  # noqa: SLF001 - no public way


def _first_reason(group: BaseExceptionGroup[Exception]) -> str:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            return _first_reason(exc)
        return str(exc) or type(exc).__name__
    return "unknown"
