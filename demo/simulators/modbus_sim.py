"""Modbus TCP servers that stand for RTU gateways: one port each, several instruments behind their unit ids.

A raw MBAP server of its own, so that the journal has exactly the bytes and values of every reply. Each reply carries a
fresh sample.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from demo.journal import JournalWriter, Reply, Staged
from demo.simulators.register_map import exact_text, quantise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from demo.simulators.behaviour import Excursion, Quantity
    from demo.simulators.models import SimModel
    from demo.simulators.register_map import Point

_MBAP = struct.Struct(">HHHB")
_MAX_LENGTH = 254  # Modbus TCP: PDU 253 bytes and the unit id
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_TARGET = 1, 2, 3, 0x0B


@dataclass(slots=True)
class Control:
    """What a test may do to one instrument; the fields take effect with the next request."""

    frozen: bool = False
    """Serve the last sample again."""
    silent: bool = False
    """Take requests and never answer."""
    delay_s: float = 0.0
    """Wait before each answer."""
    hang_up: bool = False
    """Close the connection instead of answering."""
    exception_code: int | None = None
    """Answer with this Modbus exception."""


@dataclass(slots=True)
class ModbusDevice:
    """One instrument: its map, how its quantities move, and what it last put into its registers."""

    station: str
    path: str
    unit_id: int
    model: SimModel
    quantities: Mapping[str, Quantity]
    excursions: Sequence[Excursion] = ()
    control: Control = field(default_factory=Control)
    serving: int = 0
    _registers: dict[int, bytes] = field(default_factory=dict)
    exact: dict[str, Fraction] = field(default_factory=dict)
    """What the registers mean, to the last digit."""

    def sample(self, now_s: float, points: Sequence[Point]) -> None:
        """Put a fresh sample of ``points`` into the registers."""
        for point in points:
            wire, exact = quantise(point, self.quantities[point.indicator].at(now_s))
            self.exact[point.indicator] = exact
            for i in range(point.registers):
                self._registers[point.address + i] = wire[2 * i : 2 * i + 2]

    def read(
        self, address: int, count: int, now_s: float
    ) -> tuple[bytes, dict[str, Fraction]] | None:
        """Return ``count`` registers and the exact values that lie whole in them; None when one is not mapped."""
        touched = [
            p
            for p in self.model.points
            if p.address < address + count and address < p.address + p.registers
        ]
        whole = [
            p
            for p in touched
            if address <= p.address and p.address + p.registers <= address + count
        ]
        fresh = [p for p in touched if not self.control.frozen or p.indicator not in self.exact]
        self.sample(now_s, fresh)
        words = [self._registers.get(i) for i in range(address, address + count)]
        data = b"".join(word for word in words if word is not None)
        if len(data) != 2 * count:
            return None
        return data, {p.indicator: self.exact[p.indicator] for p in whole}


class ModbusGateway:
    """One TCP port with its instruments; start with ``start``, end with ``close`` (replies under way are finished)."""

    def __init__(
        self,
        devices: Sequence[ModbusDevice],
        *,
        replies: JournalWriter,
        staged: JournalWriter,
        clock_s: Callable[[], float],
    ) -> None:
        self._devices = {device.unit_id: device for device in devices}
        self._replies = replies
        self._staged = staged
        self._clock_s = clock_s
        self._server: asyncio.Server | None = None
        self._busy = asyncio.Lock()  # an RTU line carries one exchange at a time
        self._quiet = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._phase: dict[str, str] = {}

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._busy.locked()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (useful with 0)."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def quiet(self) -> None:
        """Stop answering for good: return once the reply under way has left."""
        async with self._busy:
            self._quiet = True

    async def close(self) -> None:
        """Stop answering and listening, and end every connection."""
        await self.quiet()
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                transaction, protocol, length, unit = _MBAP.unpack(
                    await reader.readexactly(_MBAP.size)
                )
                if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
                    return
                pdu = await reader.readexactly(length - 1)
                async with self._busy:
                    if self._quiet:
                        return
                    if not await self._answer(writer, transaction, unit, pdu):
                        return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, transaction: int, unit: int, pdu: bytes
    ) -> bool:
        """Answer one request; False ends the connection."""
        device = self._devices.get(unit)
        if device is None:
            _send(writer, transaction, unit, bytes([pdu[0] | 0x80, NO_TARGET]))
            return True
        control = device.control
        if control.silent:
            return True
        if control.delay_s:
            await asyncio.sleep(control.delay_s)
        if control.hang_up:
            return False
        refusal, address, count = _check(pdu, device.model)
        only = device.model.only_blocks
        if not refusal and only and (address, count) not in only:
            return True  # the instrument stays silent
        found = None
        if not refusal and control.exception_code is None:
            found = device.read(address, count, self._clock_s())
        if found is None:
            code = control.exception_code or refusal or ILLEGAL_ADDRESS
            _send(writer, transaction, unit, bytes([pdu[0] | 0x80, code]))
            return True
        data, exact = found
        if writer.is_closing():
            return False
        _send(writer, transaction, unit, bytes([pdu[0], len(data)]) + data)
        device.serving += 1
        now_ms = time.time_ns() // 1_000_000
        self._replies.write(
            Reply(
                ms=now_ms,
                station=device.station,
                device=device.path,
                serving=device.serving,
                unit_id=unit,
                function=pdu[0],
                address=address,
                count=count,
                registers=data.hex(),
                values={indicator: exact_text(value) for indicator, value in exact.items()},
            )
        )
        self._note_excursions(device, exact, now_ms)
        await writer.drain()
        return True

    def _note_excursions(
        self, device: ModbusDevice, exact: Mapping[str, Fraction], now_ms: int
    ) -> None:
        now_s = self._clock_s()
        for excursion in device.excursions:
            value = exact.get(excursion.indicator)
            if value is None:
                continue
            key = f"{excursion.name}/{device.station}/{device.path}/{excursion.indicator}"
            phase = self._phase.get(key, "")
            following = _next_phase(excursion, phase, value, now_s)
            if following is None:
                continue
            self._phase[key] = following
            self._staged.write(
                Staged(
                    ms=now_ms,
                    name=excursion.name,
                    phase=following,
                    kind="reading",
                    station=device.station,
                    device=device.path,
                    indicator=excursion.indicator,
                    value=exact_text(value),
                    comparator=excursion.comparator,
                    limit=excursion.limit,
                    severity=excursion.severity,
                )
            )


def _next_phase(
    excursion: Excursion, phase: str, value: Fraction, now_s: float
) -> Literal["started", "breached", "ended"] | None:
    limit = Fraction(excursion.limit)
    beyond = value < limit if excursion.comparator == "<" else value > limit
    if phase == "" and now_s >= excursion.start_s:
        return "breached" if beyond else "started"
    if phase == "started" and beyond:
        return "breached"
    if phase == "breached" and not beyond:
        return "ended"
    return None


def _check(pdu: bytes, model: SimModel) -> tuple[int, int, int]:
    """Return (exception code or 0, address, count) of a request."""
    if pdu[0] not in model.functions:
        return ILLEGAL_FUNCTION, 0, 0
    if len(pdu) != 5:
        return ILLEGAL_VALUE, 0, 0
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= model.max_read:
        return ILLEGAL_VALUE, address, count
    return 0, address, count


def _send(writer: asyncio.StreamWriter, transaction: int, unit: int, pdu: bytes) -> None:
    writer.write(_MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu)
