"""RTU and ASCII over a byte stream: a serial port, or a TCP converter that passes serial frames through.

Serial frames carry no transaction, so a late answer looks like the next one. Three things keep it out. What lies in the
input is dropped before a request. A unit that did not answer in time is not asked again before its late answer has come
or could no longer be under way. When none came, a read of another length goes before the next question: a device
answers in order, so whatever comes behind that answer belongs to what was asked behind it.

A second master on the bus is worse: its answers look like ours. Where its question is heard, no answer that could be
meant for it is taken.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from drivers.errors import FrameError, LinkError
from drivers.modbus.lines import SerialLine
from drivers.modbus.link import Answer
from drivers.modbus.serial_frames import (
    MAX_RTU_BYTES,
    AsciiReceiver,
    RtuReceiver,
    ascii_adu,
    data_bytes,
    find_frames,
    rtu,
)
from drivers.modbus.streams import SerialStream, TcpStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.modbus.lines import Line, TcpLine
    from drivers.modbus.serial_frames import Reply
    from drivers.modbus.streams import Stream

LATE_AFTER_TIMEOUTS = (
    3  # an answer is waited for this many timeouts more before its unit is asked again
)
_SILENT_BEFORE_REOPEN = 3  # a port that was unplugged and came back may still look open
_SHOWN_BYTES = 64
_ASKED_IN_VAIN = 3  # how many late answers of one length are reckoned with at most
_READS = (1, 2, 3, 4)
_REGISTER_READS = (3, 4)
_IDLE_S = (
    60.0  # a connection that was idle for so long may have been dropped on the way without a word
)
_TAIL_BYTES = 2 * MAX_RTU_BYTES  # of what was heard before a request

Receiver = RtuReceiver | AsciiReceiver
Shape = tuple[int, int]  # function and count: what an answer can be known by


@dataclass(slots=True)
class _Owed:
    """A request whose answer has not come; ``until`` it may still be under way."""

    shape: Shape
    receiver: Receiver
    until: float


class StreamLink:
    """One serial bus, over a port or a converter."""

    def __init__(self, line: SerialLine | TcpLine) -> None:
        self._line = line
        self._stream: Stream | None = None
        self._owed: dict[int, _Owed] = {}
        self._in_doubt: dict[int, Counter[Shape]] = {}
        self._plain_next: set[int] = set()
        self._silent = 0
        self._alive_at = float("-inf")
        self._tail = b""
        """The last bytes since an answer was taken or missed."""
        self.request = b""

    async def exchange(
        self,
        line: Line,
        unit: int,
        pdu: bytes,
        timeout_s: float,
        *,
        reply_unit: int | None,
        exact: bool,
    ) -> Answer:
        """Send ``pdu`` and return the answer; see ``Link``."""
        if line.framing == "tcp":
            raise LinkError(f"{line.bus} carries RTU for another device; one line has one framing")
        stream = await self._opened(line, timeout_s)
        asked_at = asyncio.get_running_loop().time()
        ask = _Ask(line, unit, pdu, reply_unit, timeout_s)
        try:
            reply = await self._settled(stream, ask, exact=exact)
        except LinkError:
            await self._on_silence(stream, asked_at)
            raise
        except FrameError:
            self._silent = 0
            raise
        self._silent = 0
        self._alive_at = asyncio.get_running_loop().time()
        self._in_doubt.pop(unit, None)
        return Answer(self.request, reply.raw, reply.pdu)

    async def close(self) -> None:
        """Close the line; a second call does nothing."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _opened(self, line: Line, timeout_s: float) -> Stream:
        if self._stream is not None and self._stream.received.lost is None:
            return self._stream
        await self.close()
        self._silent = 0
        # A path below /dev/serial/by-id or by-path is looked up anew, so the port is found where it came back.
        if isinstance(line, SerialLine):
            self._stream = await SerialStream.open(line)
        else:
            self._stream = await TcpStream.open(line, timeout_s)
        self._alive_at = asyncio.get_running_loop().time()
        return self._stream

    async def _on_silence(self, stream: Stream, asked_at: float) -> None:
        self._silent += 1
        was_idle = asked_at - self._alive_at > _IDLE_S
        stale = was_idle and not isinstance(self._line, SerialLine)
        if stream.received.lost is not None or stale or self._silent >= _SILENT_BEFORE_REOPEN:
            await self.close()

    async def _settled(self, stream: Stream, ask: _Ask, *, exact: bool) -> Reply:
        """Ask with the settings of the device, when nothing that is owed can be taken for its answer."""
        changed = await stream.settle(ask.line)
        await self._wait_for_late(stream, ask.unit)
        if ask.count and ask.shape in self._in_doubt.get(ask.unit, ()):
            await self._sound(stream, ask, exact=exact)
        try:
            return await self._asked(stream, ask)
        except FrameError:
            if not changed:
                raise
        # The first bytes after a change of settings may be spoilt; that is not the device's fault.
        await self._wait_for_late(stream, ask.unit)
        return await self._asked(stream, ask)

    async def _wait_for_late(self, stream: Stream, unit: int) -> None:
        """Wait until the answer that ``unit`` owes has come, or could no longer be under way.

        Only what comes while nobody else is asked counts: another device may answer in its name.
        """
        self._note(stream.drop_input(), None)
        owed = self._owed.get(unit)
        if owed is None:
            return
        try:
            async with asyncio.timeout_at(owed.until):
                while unit in self._owed:
                    self._note(await stream.received.read(), unit)
        except TimeoutError:
            del self._owed[unit]
            self._in_doubt.setdefault(unit, Counter())[owed.shape] += 1

    async def _sound(self, stream: Stream, ask: _Ask, *, exact: bool) -> None:
        """Make sure that the next answer is to the next question, although an older one may be under way.

        A read of a length that nobody waits for: its answer, or a refusal, comes behind all that is older. Every other
        time, and with ``exact`` always, for devices that answer nothing but the read that they know: the read itself,
        once for each answer that may be under way.
        """
        unit, doubted = ask.unit, self._in_doubt[ask.unit]
        other = next((n for n in _other_counts(ask) if (ask.pdu[0], n) not in doubted), None)
        if other is not None and not exact and unit not in self._plain_next:
            self._plain_next.add(unit)
            pdu = ask.pdu[:3] + other.to_bytes(2, "big")
            await self._asked(stream, replace(ask, pdu=pdu))
        else:
            self._plain_next.discard(unit)
            for _ in range(min(doubted[ask.shape], _ASKED_IN_VAIN)):
                await self._asked(stream, ask)
            await asyncio.sleep(ask.timeout_s)
        self._plain_next.discard(unit)
        del self._in_doubt[unit]

    async def _asked(self, stream: Stream, ask: _Ask) -> Reply:
        """Send the request and wait for its answer; raise LinkError after silence, FrameError when nothing fitted."""
        self._note(stream.drop_input(), None)
        before, self._tail = self._tail, b""
        line, unit = ask.line, ask.unit
        self.request = request = _framed(line, unit, ask.pdu)
        receiver = _receiver(line)
        echo = request if isinstance(line, SerialLine) and line.echo else b""
        receiver.expect(ask.reply_unit, ask.pdu[0], ask.count, echo=echo)
        late = _receiver(line)
        late.expect(ask.reply_unit, ask.pdu[0], ask.count, echo=echo)
        now = asyncio.get_running_loop().time()
        end = now + ask.timeout_s + _transfer_s(line, len(request) + ask.reply_bytes)
        self._owed[unit] = _Owed(ask.shape, late, end + LATE_AFTER_TIMEOUTS * ask.timeout_s)
        stream.write(request)
        reply: Reply | None = None
        try:
            async with asyncio.timeout_at(end):
                while reply is None:
                    data = await stream.received.read()
                    reply = receiver.feed(data)
                    self._note(data, unit)
        except TimeoutError:
            data = stream.received.take()  # came in the same turn of the loop
            self._note(data, unit)
            reply = receiver.feed(data) or receiver.end()
        self._tail = b""
        if reply is not None:
            self._owed.pop(unit, None)
            if _others_wait(before + receiver.passed_over, ask):
                raise FrameError(
                    f"another master asks unit {unit} at {line.bus}; this may be its answer",
                    raw=reply.raw,
                )
            return reply
        said = receiver.passed_over.replace(request, b"")
        if receiver.broken:
            self._owed.pop(unit, None)  # this was its answer
        if receiver.broken or _of_another_length(said, ask):
            raise FrameError(f"unit {unit} at {line.bus}: its answer does not fit", raw=said)
        passed = f"; passed over: {said[-_SHOWN_BYTES:].hex(' ')}" if said else ""
        raise LinkError(
            f"unit {unit} at {line.bus} did not answer in {ask.timeout_s} s{passed}", heard=said
        )

    def _note(self, data: bytes, unit: int | None) -> None:
        """Strike out what ``unit`` owes when it is in ``data``."""
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if unit in self._owed and self._owed[unit].receiver.feed(data) is not None:
            del self._owed[unit]


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request in full."""

    line: Line
    unit: int
    pdu: bytes
    reply_unit: int | None
    timeout_s: float

    @property
    def count(self) -> int:
        """What the request asks for: registers or bits of a read, 0 of a write."""
        return int.from_bytes(self.pdu[3:5], "big") if self.pdu[0] in _READS else 0

    @property
    def shape(self) -> Shape:
        """What the answer looks like."""
        return self.pdu[0], self.count

    @property
    def reply_bytes(self) -> int:
        """Bytes of the answer on an RTU line."""
        return 5 + data_bytes(self.pdu[0], self.count) if self.pdu[0] in _READS else 8


def _other_counts(ask: _Ask) -> Iterator[int]:
    """Lengths to sound a device with, the nearest first: a read within what it answers is the likeliest to succeed."""
    if ask.pdu[0] in _READS and ask.count > 0:
        yield from range(ask.count - 1, 0, -1)
        if ask.count == 1:
            yield 2


def _others_wait(heard: bytes, ask: _Ask) -> bool:
    """Whether a question that is not ours was heard, not answered yet, whose answer would look like ours."""
    if (
        ask.line.framing == "ascii"
        or ask.pdu[0] not in _REGISTER_READS
        or len(heard) < len(ask.pdu) + 3
    ):
        return False
    open_question = False
    for _, frame in find_frames(heard):
        if frame.unit != ask.unit or frame.pdu[0] != ask.pdu[0]:
            continue
        if len(frame.pdu) == len(ask.pdu):  # an answer has an even number of bytes
            open_question = frame.pdu != ask.pdu and frame.pdu[3:] == ask.pdu[3:]
        elif frame.pdu[1] == 2 * ask.count:
            open_question = False
    return open_question


def _of_another_length(said: bytes, ask: _Ask) -> bool:
    """Whether the unit answered the function, but not with as much as was asked for."""
    if ask.line.framing == "ascii":
        head = f":{ask.unit:02X}{ask.pdu[0]:02X}".encode()
        return head in said.upper()
    return any(
        frame.unit == ask.reply_unit and frame.pdu[0] == ask.pdu[0]
        for _, frame in find_frames(said)
    )


def _receiver(line: Line) -> Receiver:
    return AsciiReceiver() if line.framing == "ascii" else RtuReceiver()


def _framed(line: Line, unit: int, pdu: bytes) -> bytes:
    return ascii_adu(unit, pdu) if line.framing == "ascii" else rtu(unit, pdu)


def _transfer_s(line: Line, rtu_bytes: int) -> float:
    """Seconds that question and answer are on a serial line; a converter's are in its timeout."""
    if not isinstance(line, SerialLine):
        return 0.0
    return line.character_s * (2 * rtu_bytes if line.framing == "ascii" else rtu_bytes)


def open_stream_link(line: SerialLine | TcpLine) -> StreamLink:
    """Return the link of a serial bus; it opens at the first exchange."""
    return StreamLink(line)
