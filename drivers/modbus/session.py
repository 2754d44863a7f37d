"""One bus of Modbus devices, whatever its line: requests, refusals, steps, and readings of what came."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from drivers.errors import DeviceError, FrameError, LinkError
from drivers.modbus.config import ModbusDevice
from drivers.modbus.frames import EXCEPTIONS, read_reply
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.plan import Plan
from drivers.modbus.points import value_of
from drivers.modbus.steps import Action, around_points
from drivers.records import Reading
from drivers.session import RawReading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drivers.modbus.lines import Line
    from drivers.modbus.link import Answer, Link
    from drivers.modbus.plan import Block
    from drivers.modbus.points import Point
    from drivers.modbus.steps import Step
    from drivers.session import DeviceConfig

BAD_NO_ANSWER = "bad:no_answer"
BAD_FRAME = "bad:frame"
_BISECTED = (2, 3)  # illegal address, illegal value: some points of the block may be good
_GATEWAY = (10, 11)  # a bridge speaks for a device that does not answer
_READ = struct.Struct(">BHH")


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
    """Polls the devices on one bus, one request in flight.

    The link connects at the first poll and again after it was lost; the caller decides when to try again.
    """

    def __init__(self, link: Link, now_ms: Callable[[], int]) -> None:
        self._link = link
        self._now_ms = now_ms
        self._plans: dict[tuple[str, str], Plan] = {}
        self._one_at_a_time = asyncio.Lock()
        self._last_end = float("-inf")

    async def poll(self, device: DeviceConfig) -> list[RawReading]:
        """Read every point of ``device`` once; raise LinkError when it does not answer.

        A point that fails alone is a reading with quality: ``bad:illegal_address`` and the other refusals, ``bad:nan``,
        ``bad:sentinel``, ``bad:range``, ``bad:frame`` for a reply that does not fit, ``bad:no_answer`` when the device
        fell silent after it had answered. Raises DeviceError when it refuses a step that the points need.
        """
        if not isinstance(device, ModbusDevice):
            raise TypeError(f"{device.path} is not a Modbus device")
        async with self._one_at_a_time:
            before, after = around_points(device.steps)
            await self._take(device, before)
            readings = await self._points(device)
            await self._take(device, after)
            return readings

    async def close(self) -> None:
        """Release the link; a second call does nothing."""
        await self._link.close()

    async def _points(self, device: ModbusDevice) -> list[RawReading]:
        plan = self._plans.get((device.station, device.path))
        if plan is None:
            plan = Plan(device.blocks, device.max_read, exact=device.exact_blocks_only)
            self._plans[device.station, device.path] = plan
        readings: list[RawReading] = []
        silence: LinkError | None = None
        for block in plan.blocks:
            if silence is None:
                try:
                    readings += await self._read(device, block, plan)
                    continue
                except LinkError as exc:
                    if not readings:
                        raise
                    silence = exc
            readings += _readings(device, block, self._missed())
        return readings

    async def _take(self, device: ModbusDevice, steps: Sequence[Step]) -> None:
        """Do ``steps`` in turn; an optional one may fail."""
        for step in steps:
            if step.do is Action.WAIT:
                await asyncio.sleep(step.wait_ms / 1000)
            if not step.asks:
                continue
            try:
                answer = await self._ask(device, step.pdu(), exact=True)
                step.check(answer.pdu)
            except (LinkError, FrameError, DeviceError) as exc:
                if not step.optional:
                    exc.args = (f"{device.path}: step {step.do} at {step.address}: {exc}",)
                    raise

    async def _ask(self, device: ModbusDevice, pdu: bytes, *, exact: bool) -> Answer:
        """Send one request after the pause that the bus needs."""
        loop = asyncio.get_running_loop()
        gap_s = device.gap_ms / 1000
        if isinstance(device.line, SerialLine):
            gap_s = max(gap_s, device.line.silence_s)
        pause_s = self._last_end + gap_s - loop.time()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        try:
            return await self._link.exchange(
                device.line,
                device.unit_id,
                pdu,
                device.timeout_s,
                reply_unit=device.unit_id if device.reply_unit is None else device.reply_unit,
                exact=exact,
            )
        finally:
            self._last_end = loop.time()

    async def _read(self, device: ModbusDevice, block: Block, plan: Plan) -> list[RawReading]:
        exchange = await self._exchange(device, block)
        if exchange.exception not in _BISECTED or not plan.may_bisect(block):
            return _readings(device, block, exchange)
        return await self._bisect(device, block, plan)

    async def _bisect(self, device: ModbusDevice, block: Block, plan: Plan) -> list[RawReading]:
        """Read a refused block in halves until the points that the device refuses stand alone.

        A device that falls silent meanwhile has answered before: what was read stands, the rest has no answer.
        """
        readings: list[RawReading] = []
        refused: set[Point] = set()
        silent = False
        pending = deque(block.halves())
        while pending:
            half = pending.popleft()
            exchange = self._missed()
            if not silent:
                try:
                    exchange = await self._exchange(device, half)
                except LinkError:
                    exchange, silent = self._missed(), True
            if exchange.exception in _BISECTED and len(half.points) > 1:
                pending.extendleft(reversed(half.halves()))
                continue
            if exchange.exception in _BISECTED:
                refused.add(half.points[0])
            readings += _readings(device, half, exchange)
        if not silent:
            plan.learn(block, frozenset(refused))
        return readings

    def _missed(self) -> _Exchange:
        """Return what stands for a request that got no answer, or was not made because the one before got none."""
        return _Exchange(self._now_ms(), self._link.request, b"", quality=BAD_NO_ANSWER)

    async def _exchange(self, device: ModbusDevice, block: Block) -> _Exchange:
        """Ask for ``block`` once; raise LinkError when no answer comes."""
        asked = f"{device.path}: FC{block.function:02d} address {block.address} count {block.count}"
        pdu = _READ.pack(block.function, block.address, block.count)
        before_ms = self._now_ms()
        try:
            answer = await self._ask(device, pdu, exact=device.exact_blocks_only)
        except FrameError as exc:
            return _Exchange(self._now_ms(), self._link.request, exc.raw, quality=BAD_FRAME)
        except LinkError as exc:
            raise LinkError(f"{asked}: {exc}") from exc
        after_ms = self._now_ms()
        t_ms = (before_ms + after_ms) // 2 if before_ms <= after_ms else after_ms
        exchange = _Exchange(t_ms, answer.request, answer.reply)
        try:
            return replace(exchange, registers=read_reply(answer.pdu, block.function, block.count))
        except FrameError:
            await self._link.close()  # a stream out of step is cheapest to put right by a new one
            return replace(exchange, quality=BAD_FRAME)
        except DeviceError as exc:
            code = exc.code or 0
            if code in _GATEWAY:
                raise LinkError(f"{asked}: {exc}") from exc
            name = EXCEPTIONS.get(code, f"exception_{code}")
            return replace(exchange, quality=f"bad:{name}", exception=code)


def _readings(device: ModbusDevice, block: Block, exchange: _Exchange) -> list[RawReading]:
    made: list[RawReading] = []
    for point in block.points:
        value, quality = None, exchange.quality
        if quality is None:
            value, quality = value_of(point, block.words(exchange.registers, point))
        reading = Reading(device.path, point.indicator, exchange.t_ms, value, quality)
        made.append(RawReading(reading, exchange.request, exchange.reply))
    return made


def open_link(line: Line) -> Link:
    """Return the link for ``line``; it connects at the first exchange."""
    match line:
        case TcpLine(framing="tcp"):
            from drivers.modbus.tcp_link import TcpLink  # noqa: PLC0415 - an agent without TCP needs no pymodbus

            return TcpLink(line)
        case TcpLine() | SerialLine():
            from drivers.modbus.serial_line import open_stream_link  # noqa: PLC0415 - nor one without serial lines pyserial

            return open_stream_link(line)
        case _:
            assert_never(line)


def open_session(device: DeviceConfig, now_ms: Callable[[], int]) -> ModbusSession:
    """Return a session on the device's bus; it connects at the first poll."""
    if not isinstance(device, ModbusDevice):
        raise TypeError(f"{device.path} is not a Modbus device")
    return ModbusSession(open_link(device.line), now_ms)
