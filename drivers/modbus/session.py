"""One TCP connection to Modbus devices, over pymodbus: requests, refusals, and what a broken link means."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import DecodePDU, ModbusPDU

from drivers.errors import DeviceError, FrameError, LinkError
from drivers.modbus.config import MAX_TIMEOUT_S, ModbusDevice
from drivers.modbus.frames import EXCEPTIONS, Frame, mbap, mbap_frame, read_reply
from drivers.modbus.plan import Plan
from drivers.modbus.points import value_of
from drivers.records import Reading
from drivers.session import RawReading

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.modbus.plan import Block
    from drivers.modbus.points import Point
    from drivers.session import DeviceConfig

BAD_NO_ANSWER = "bad:no_answer"
BAD_FRAME = "bad:frame"
_BISECTED = (2, 3)  # illegal address, illegal value: some points of the block may be good
_GATEWAY = (10, 11)  # a bridge speaks for a device that does not answer
_SILENT_BEFORE_RECONNECT = 3  # a half-open connection looks like a silent device

# pymodbus logs each miss as an error; here a miss is an exception, logged once by whoever owns the device.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class _Reply(ModbusPDU):
    """Any reply, its bytes untouched: pymodbus takes a short or long byte count for what it finds."""

    pdu: bytes = b""


class _AnyReply(DecodePDU):
    """Hand every reply on; what pymodbus cannot decode would otherwise end as a traceback in the event loop."""

    def decode(self, frame: bytes) -> ModbusPDU:
        reply = _Reply()
        reply.function_code = frame[0]
        reply.pdu = bytes(frame)
        return reply


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request and its reply, as on the wire; ``t_ms`` lies between them."""

    t_ms: int
    request: bytes
    reply: bytes
    registers: tuple[int, ...] = ()
    quality: str | None = None
    exception: int = 0


class ModbusSession:
    """Polls the devices behind one host and port, one request in flight.

    Connects at the first poll and again after the link was lost; the caller decides when to try again.
    """

    def __init__(self, host: str, port: int, now_ms: Callable[[], int]) -> None:
        self._host = host
        self._port = port
        self._now_ms = now_ms
        self._client: AsyncModbusTcpClient | None = None
        self._plans: dict[str, Plan] = {}
        self._one_at_a_time = asyncio.Lock()
        self._waiting = False
        self._request = b""
        self._silent = 0

    async def poll(self, device: DeviceConfig) -> list[RawReading]:
        """Read every point of ``device`` once; raise LinkError when it does not answer.

        A point that fails alone is a reading with quality: ``bad:illegal_address`` and the other refusals, ``bad:nan``,
        ``bad:sentinel``, ``bad:range``, ``bad:frame`` for a reply that does not fit, ``bad:no_answer`` when the device
        fell silent after it had answered.
        """
        if not isinstance(device, ModbusDevice):
            raise TypeError(f"{device.path} is not a Modbus device")
        async with self._one_at_a_time:
            plan = self._plans.get(device.path)
            if plan is None:
                plan = Plan(device.blocks, device.max_read, exact=device.exact_blocks_only)
                self._plans[device.path] = plan
            readings: list[RawReading] = []
            silence: LinkError | None = None
            for block in plan.blocks:
                if silence is None:
                    try:
                        if readings and device.gap_ms:
                            await asyncio.sleep(device.gap_ms / 1000)
                        readings += await self._read(device, block, plan)
                        continue
                    except LinkError as exc:
                        if not readings:
                            raise
                        silence = exc
                missed = _Exchange(self._now_ms(), self._request, b"", quality=BAD_NO_ANSWER)
                readings += _readings(device, block, missed)
            return readings

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            await asyncio.sleep(0)  # asyncio closes the socket one turn later

    async def _read(self, device: ModbusDevice, block: Block, plan: Plan) -> list[RawReading]:
        exchange = await self._exchange(device, block)
        if exchange.exception not in _BISECTED or not plan.may_bisect(block):
            return _readings(device, block, exchange)
        readings, refused = await self._bisect(device, block)
        plan.learn(block, refused)
        return readings

    async def _bisect(
        self, device: ModbusDevice, block: Block
    ) -> tuple[list[RawReading], frozenset[Point]]:
        """Read a refused block in halves until the points that the device refuses stand alone."""
        readings: list[RawReading] = []
        refused: frozenset[Point] = frozenset()
        for half in block.halves():
            exchange = await self._exchange(device, half)
            if exchange.exception in _BISECTED and len(half.points) > 1:
                more, worse = await self._bisect(device, half)
                readings += more
                refused |= worse
                continue
            if exchange.exception in _BISECTED:
                refused |= {half.points[0]}
            readings += _readings(device, half, exchange)
        return readings, refused

    async def _exchange(self, device: ModbusDevice, block: Block) -> _Exchange:
        """Ask for ``block`` once; raise LinkError when no answer comes."""
        client = await self._connected(device.timeout_s)
        read = client.read_holding_registers if block.function == 3 else client.read_input_registers
        asked = f"{device.path}: FC{block.function:02d} address {block.address} count {block.count}"
        before_ms = self._now_ms()
        self._waiting = True
        try:
            async with asyncio.timeout(device.timeout_s):
                answer = await read(block.address, count=block.count, device_id=device.unit_id)
        except TimeoutError:
            self._silent += 1
            if self._silent >= _SILENT_BEFORE_RECONNECT:
                await self.close()
            raise LinkError(
                f"{asked}: unit {device.unit_id} at {device.bus} did not answer in {device.timeout_s} s"
            ) from None
        except (ModbusException, OSError) as exc:
            await self.close()
            raise LinkError(f"{asked}: {device.bus}: {exc}") from exc
        finally:
            self._waiting = False
        after_ms = self._now_ms()
        self._silent = 0
        t_ms = (before_ms + after_ms) // 2 if before_ms <= after_ms else after_ms
        pdu = answer.pdu if isinstance(answer, _Reply) else b""
        reply = mbap(Frame(answer.dev_id, pdu, answer.transaction_id))
        exchange = _Exchange(t_ms, self._request, reply)
        sent = mbap_frame(self._request)
        if (answer.dev_id, answer.transaction_id) != (sent.unit, sent.transaction):
            # pymodbus lets unit 0 and transaction 0 pass; a foreign reply may have been one.
            await self.close()
            return replace(exchange, quality=BAD_FRAME)
        try:
            return replace(exchange, registers=read_reply(pdu, block.function, block.count))
        except FrameError:
            await self.close()  # a stream out of step is cheapest to put right by a new one
            return replace(exchange, quality=BAD_FRAME)
        except DeviceError as exc:
            code = exc.code or 0
            if code in _GATEWAY:
                raise LinkError(f"{asked}: {exc}") from exc
            name = EXCEPTIONS.get(code, f"exception_{code}")
            return replace(exchange, quality=f"bad:{name}", exception=code)

    async def _connected(self, timeout_s: float) -> AsyncModbusTcpClient:
        client = self._client
        if client is not None and client.connected:
            return client
        await self.close()
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            retries=0,  # pymodbus retries inside its lock and would hold up the whole bus
            reconnect_delay=0,  # the next poll reconnects
            timeout=2 * MAX_TIMEOUT_S,  # ours is per device and always shorter
            trace_packet=self._on_packet,
            trace_connect=self._on_connection,
        )
        client.ctx.framer.decoder = _AnyReply(is_server=False)
        self._client = client
        self._silent = 0
        try:
            async with asyncio.timeout(timeout_s):
                connected = await client.connect()
        except TimeoutError:
            connected = False
        if not connected:
            await self.close()
            raise LinkError(f"tcp:{self._host}:{self._port}: no connection within {timeout_s} s")
        return client

    def _on_packet(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001 - pymodbus calls it so
        if sending:
            self._request = bytes(data)
        return data

    def _on_connection(self, up: bool) -> None:  # noqa: FBT001 - pymodbus calls it so
        """End the wait at once when the device hangs up; pymodbus would sit out its timeout."""
        if up or not self._waiting or self._client is None:
            return
        future = self._client.ctx.response_future
        if not future.done():
            future.set_exception(ConnectionException("the device closed the connection"))


def _readings(device: ModbusDevice, block: Block, exchange: _Exchange) -> list[RawReading]:
    made: list[RawReading] = []
    for point in block.points:
        value, quality = None, exchange.quality
        if quality is None:
            value, quality = value_of(point, block.words(exchange.registers, point))
        reading = Reading(device.path, point.indicator, exchange.t_ms, value, quality)
        made.append(RawReading(reading, exchange.request, exchange.reply))
    return made


def open_session(device: DeviceConfig, now_ms: Callable[[], int]) -> ModbusSession:
    """Return a session on the device's bus; it connects at the first poll."""
    if not isinstance(device, ModbusDevice):
        raise TypeError(f"{device.path} is not a Modbus device")
    return ModbusSession(device.host, device.port, now_ms)
