"""Modbus servers on any line: instruments behind the unit ids of a TCP port or on one serial bus.

A server of its own, so that the journal has exactly the bytes and values of every reply. Each reply carries a fresh
sample. What a reader may believe is in ``replies.jsonl``; what went wrong on command in ``misbehaved.jsonl``.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from demo.journal import JournalWriter, Misbehaved, Reply, Staged
from demo.simulators.framing import FRAMINGS, BrokenStreamError, Framing, Request
from demo.simulators.lines import Line, Pty, TcpLine, end_all
from demo.simulators.misbehaviour import READABLE, Control, Misbehaviour
from demo.simulators.register_map import CLOCKS, exact_text, quantise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from demo.simulators.behaviour import Excursion, Quantity
    from demo.simulators.models import SimModel
    from demo.simulators.register_map import Point

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, FAILURE, NO_TARGET = 1, 2, 3, 4, 0x0B
_HALVES = 2
_READ_SIZE = 5
_UNPLUG_S = 0.05
_SILENCE_S = (
    0.05  # a request that stops for so long is none; slower than the standard, for busy machines
)


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
    baud: int = 0
    """What the instrument is set to; 0 hears every speed and answers at once."""
    stop_bits: int = 1
    bits: int = 10
    serving: int = 0
    last: tuple[int, bytes] | None = None
    """Unit id and PDU of the answer before."""
    _registers: dict[int, bytes] = field(default_factory=dict)
    exact: dict[str, Fraction] = field(default_factory=dict)
    """What the registers mean, to the last digit."""

    def sample(self, now_s: float, points: Sequence[Point]) -> None:
        """Put a fresh sample of ``points`` into the registers."""
        for point in points:
            value = (
                time.time() if point.type in CLOCKS else self.quantities[point.indicator].at(now_s)
            )
            wire, exact = quantise(point, value)
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
        old = self.control.frozen or bool(self.model.triggers)
        fresh = [p for p in touched if not old or p.indicator not in self.exact]
        self.sample(now_s, fresh)
        fixed = self.model.fixed
        words = [self._registers.get(i, fixed.get(i)) for i in range(address, address + count)]
        data = b"".join(word for word in words if word is not None)
        if len(data) != 2 * count:
            return None
        return data, {p.indicator: self.exact[p.indicator] for p in whole}

    @property
    def on_demand(self) -> frozenset[str]:
        """Indicators that only a reader who names them publishes."""
        return frozenset(p.indicator for p in self.model.points if p.on_demand)

    def character_s(self) -> float:
        """Seconds that one character takes on the line, 0 without a speed."""
        return self.bits / self.baud if self.baud else 0.0

    def hears(self, line: Line) -> bool:
        """Whether the reader's baud and stop bits are the instrument's, as far as the line can tell."""
        if not self.baud or not isinstance(line, Pty):
            return True
        return line.heard_at() == (self.baud, self.stop_bits)


@dataclass(slots=True)
class _Answer:
    """What an instrument says: unit id and PDU, and the exact values in it if it is a good read."""

    unit: int
    pdu: bytes
    exact: Mapping[str, Fraction] = field(default_factory=dict)
    address: int = 0
    count: int = 0


class ModbusGateway:
    """One TCP port or serial bus with its instruments; end with ``close`` (replies under way are finished)."""

    def __init__(
        self,
        devices: Sequence[ModbusDevice],
        *,
        replies: JournalWriter,
        staged: JournalWriter,
        misbehaved: JournalWriter,
        clock_s: Callable[[], float],
        framing: str = "tcp",
    ) -> None:
        self._devices = {device.unit_id: device for device in devices}
        self._replies = replies
        self._staged = staged
        self._misbehaved = misbehaved
        self._clock_s = clock_s
        self.framing = framing
        self._server: asyncio.Server | None = None
        self._busy = asyncio.Lock()  # an RTU line carries one exchange at a time
        self._quiet = False
        self._lines: set[TcpLine] = set()
        self._phase: dict[str, str] = {}

    @property
    def devices(self) -> list[ModbusDevice]:
        """The instruments."""
        return list(self._devices.values())

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._busy.locked()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port (useful with 0)."""
        self._server = await asyncio.start_server(self._accept, host, port)
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
        await end_all(self._lines)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = TcpLine(reader, writer)
        self._lines.add(line)
        try:
            await self.serve(line)
        finally:
            self._lines.discard(line)
            line.hang_up()

    async def serve(self, line: Line) -> None:
        """Answer what comes on ``line`` until it ends."""
        framing = FRAMINGS[self.framing]()
        serial = not isinstance(line, TcpLine)
        heard_s = 0.0
        while data := await line.read():
            now_s = time.monotonic()
            if serial and now_s - heard_s > _SILENCE_S:
                framing.reset()
            heard_s = now_s
            try:
                for request in framing.feed(data):
                    async with self._busy:
                        if self._quiet:
                            return
                        if not await self._answer(line, framing, request):
                            return
                    heard_s = time.monotonic()
            except BrokenStreamError:
                return

    async def _answer(self, line: Line, framing: Framing, request: Request) -> bool:
        """Answer one request; False ends the connection."""
        device = self._asked(request, shared=framing.shared)
        if device is None:
            if not framing.shared:
                refusal = bytes([request.pdu[0] | 0x80, NO_TARGET])
                await line.write(framing.frame(request.unit, refusal, request.transaction))
            return True  # on a serial bus nobody says that nobody is there
        control = device.control
        if control.silent or not device.hears(line):
            return True
        kind = control.next()
        await _sleep(control.delay_s + device.character_s() * len(request.raw))
        if control.hang_up:
            return await _hang_up(line)
        answer = self._said(device, request)
        if answer is None:
            return True
        if kind is None:
            right = framing.frame(answer.unit, answer.pdu, request.transaction)
            if not await self._send(line, right, device):
                return not isinstance(line, TcpLine)
        else:
            goes_on = await self._misbehave(line, framing, request, device, answer, kind)
            if kind not in READABLE:
                return goes_on
        device.last = (answer.unit, answer.pdu)
        self._note(device, request, answer)
        return True

    def _asked(self, request: Request, *, shared: bool) -> ModbusDevice | None:
        """Return the instrument that feels addressed: by its id, or alone on its bus by the question for it."""
        device = self._devices.get(request.unit)
        if device is not None or not shared:
            return device
        for other in self._devices.values():
            question = other.model.question
            if question is not None and question.unit_id == request.unit:
                return other
        return None

    def _said(self, device: ModbusDevice, request: Request) -> _Answer | None:
        """Return the right answer of ``device``; None when it stays silent to such a request."""
        pdu, control, model = request.pdu, device.control, device.model
        unit = request.unit
        if control.exception_code is not None:
            return _Answer(unit, bytes([pdu[0] | 0x80, control.exception_code]))
        if pdu in model.triggers:
            device.sample(self._clock_s(), model.points)
            return _Answer(unit, bytes([3, 0]) if pdu[0] in (3, 4) else pdu[:5])
        if request.unit != device.unit_id:
            return _own_id(device, request)
        refusal, address, count = _check(pdu, model)
        if not refusal and model.only_blocks and (address, count) not in model.only_blocks:
            return None
        if not refusal and not control.refused.isdisjoint(range(address, address + count)):
            refusal = ILLEGAL_ADDRESS
        found = None if refusal else device.read(address, count, self._clock_s())
        if found is None:
            return _Answer(unit, bytes([pdu[0] | 0x80, refusal or ILLEGAL_ADDRESS]))
        data, exact = found
        return _Answer(unit, bytes([pdu[0], len(data)]) + data, exact, address, count)

    async def _send(self, line: Line, frame: bytes, device: ModbusDevice) -> bool:
        """Send ``frame`` at the instrument's speed: two writes, the last when its last byte would be there."""
        character_s = device.character_s()
        if not character_s:
            return await line.write(frame)
        half = len(frame) // _HALVES
        await _sleep(character_s * half)
        await line.write(frame[:half])
        await _sleep(character_s * (len(frame) - half))
        return await line.write(frame[half:])

    async def _misbehave(
        self,
        line: Line,
        framing: Framing,
        request: Request,
        device: ModbusDevice,
        answer: _Answer,
        kind: Misbehaviour,
    ) -> bool:
        """Answer wrong in the way of ``kind``; False ends the connection."""
        control = device.control
        random = control.random
        right = framing.frame(answer.unit, answer.pdu, request.transaction)
        sent = _wrong(framing, request, device, answer, kind, right)
        self._misbehaved.write(
            Misbehaved(
                ms=time.time_ns() // 1_000_000,
                station=device.station,
                device=device.path,
                kind=kind.value,
                request=request.raw.hex(),
                sent=sent.hex(),
            )
        )
        if kind is Misbehaviour.LATE:
            line.later(control.late_s, sent)
        elif kind is Misbehaviour.ONE_BYTE_WRITES:
            for place in range(len(sent)):
                await line.write(sent[place : place + 1])
                await asyncio.sleep(control.drip_s)
        elif kind is Misbehaviour.ECHO:
            await line.write(request.raw)
            await _sleep(random.choice((0.0, 0.005)))
            await line.write(right)
        elif sent:
            await self._send(line, sent, device)
        if kind is Misbehaviour.HANG_UP:
            return await _hang_up(line)
        return True

    def _note(self, device: ModbusDevice, request: Request, answer: _Answer) -> None:
        """Put a reply with registers into the journal."""
        if not answer.count:
            return
        device.serving += 1
        now_ms = time.time_ns() // 1_000_000
        said = {code: exact_text(value) for code, value in answer.exact.items()}
        self._replies.write(
            Reply(
                ms=now_ms,
                station=device.station,
                device=device.path,
                serving=device.serving,
                unit_id=request.unit,
                function=request.pdu[0],
                address=answer.address,
                count=answer.count,
                registers=answer.pdu[2:].hex(),
                values={c: text for c, text in said.items() if c not in device.on_demand},
                on_demand={c: text for c, text in said.items() if c in device.on_demand},
            )
        )
        self._note_excursions(device, answer.exact, now_ms)

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
    if len(pdu) != _READ_SIZE:
        return ILLEGAL_VALUE, 0, 0
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= model.max_read:
        return ILLEGAL_VALUE, address, count
    return 0, address, count


def _own_id(device: ModbusDevice, request: Request) -> _Answer | None:
    """Return what ``device`` says to the question for its unit id; None to any other."""
    question = device.model.question
    if question is None or len(request.pdu) != _READ_SIZE or request.pdu[0] not in (3, 4):
        return None
    address, count = struct.unpack(">HH", request.pdu[1:])
    if question.address is not None and (address, count) != (question.address, question.count):
        return None
    unit = device.unit_id if question.id_in == "reply_unit" else request.unit
    unit = unit if device.model.reply_unit is None else device.model.reply_unit
    number = device.unit_id << 8 if question.id_in == "register_high_byte" else device.unit_id
    data = number.to_bytes(2, "big") * count
    return _Answer(unit, bytes([request.pdu[0], len(data)]) + data)


def _wrong(
    framing: Framing,
    request: Request,
    device: ModbusDevice,
    answer: _Answer,
    kind: Misbehaviour,
    right: bytes,
) -> bytes:
    """Return the bytes of a misbehaviour; data of an answer that nobody asked for are not the instrument's."""
    random = device.control.random
    match kind:
        case Misbehaviour.SILENCE:
            return b""
        case Misbehaviour.NOISE:
            return random.randbytes(random.randint(1, 8)) + right
        case Misbehaviour.ECHO:
            return request.raw + right
        case Misbehaviour.CLIPPED:
            return right[1:]
        case Misbehaviour.GLUED:
            unit, pdu = device.last or (answer.unit % 247 + 1, _turned(answer.pdu))
            return framing.frame(unit, pdu, request.transaction - 1 & 0xFFFF) + right
        case Misbehaviour.CRC_ERROR:
            return framing.spoil(right, random.randrange(16))
        case Misbehaviour.EXCEPTION:
            code = device.control.exception_code or FAILURE
            refusal = bytes([answer.pdu[0] | 0x80, code])
            return framing.frame(answer.unit, refusal, request.transaction)
        case Misbehaviour.HANG_UP | Misbehaviour.TRUNCATED:
            return right[: len(right) // 2]
        case _:
            return _foreign(framing, request, answer, kind, random) or right


def _turned(pdu: bytes) -> bytes:
    """Return ``pdu`` with other data: a reader that takes it for its own shows values that no journal has."""
    return pdu[:2] + bytes(byte ^ 0xFF for byte in pdu[2:])


def _foreign(
    framing: Framing, request: Request, answer: _Answer, kind: Misbehaviour, random: Random
) -> bytes:
    """Return a sound frame that does not answer the request; nothing for other misbehaviours."""
    pdu, unit, transaction = _turned(answer.pdu), answer.unit, request.transaction
    match kind:
        case Misbehaviour.WRONG_UNIT:
            unit = random.choice([other for other in range(1, 248) if other != answer.unit])
        case Misbehaviour.WRONG_FUNCTION:
            pdu = bytes([pdu[0] ^ 7]) + pdu[1:]
        case Misbehaviour.WRONG_BYTE_COUNT:
            pdu = _miscounted(pdu, random)
        case Misbehaviour.WRONG_TRANSACTION:
            transaction = transaction + random.randint(1, 0xFFFF) & 0xFFFF
        case _:
            return b""
    return framing.frame(unit, pdu, transaction)


def _miscounted(pdu: bytes, random: Random) -> bytes:
    """Return a read reply that holds a register more or fewer than was asked, or says so of itself."""
    count, data = pdu[1], pdu[2:]
    if len(data) < 2 or count != len(data):
        return pdu + b"\0\0"
    match random.randrange(3):
        case 0:
            return bytes([pdu[0], count - 2]) + data[:-2]
        case 1:
            return bytes([pdu[0], count + 2]) + data + data[-2:]
        case _:
            return bytes([pdu[0], count + 2]) + data


async def _hang_up(line: Line) -> bool:
    """End the connection, or unplug the bus and plug it in again; return whether ``line`` goes on."""
    if isinstance(line, Pty):
        await asyncio.sleep(
            _UNPLUG_S
        )  # what is in a pty when it goes is lost, unlike what is on a wire
    line.hang_up()
    return not isinstance(line, TcpLine)


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
