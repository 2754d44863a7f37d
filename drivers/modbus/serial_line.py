"""RTU and ASCII over a byte stream: a serial port, or a TCP converter that passes serial frames through.

Serial frames carry no transaction, so a late answer looks like the next one. Three things keep it out. What lies in the
input is dropped before a request. A unit that did not answer in time is not asked again before its late answer has come
or could no longer be under way. When none came, a read of another length goes before the next question: a device
answers in order, so whatever comes behind that answer belongs to what was asked behind it.
"""

from __future__ import annotations

import asyncio
import termios
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import serial
import serial_asyncio_fast

from drivers.errors import FrameError, LinkError
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.link import Answer
from drivers.modbus.serial_frames import (
    AsciiReceiver,
    RtuReceiver,
    ascii_adu,
    data_bytes,
    find_frames,
    rtu,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.modbus.lines import Line
    from drivers.modbus.serial_frames import Reply

SETTLE_S = 0.05  # a transceiver and its neighbours need this after a change of speed or parity
LATE_AFTER_TIMEOUTS = (
    3  # an answer is waited for this many timeouts more before its unit is asked again
)
_SILENT_BEFORE_REOPEN = 3  # a port that was unplugged and came back may still look open
_CLOSE_S = 0.5
_MAX_HELD_BYTES = 8192  # a line that never stops talking
_SHOWN_BYTES = 64
_ASKED_IN_VAIN = 3  # how many late answers of one length are reckoned with at most
_READS = (1, 2, 3, 4)
_PARITY = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}

Receiver = RtuReceiver | AsciiReceiver
Shape = tuple[int, int]  # function and count: what an answer can be known by


class _Bytes(asyncio.Protocol):
    """What has arrived and not been taken; old bytes go when there are too many."""

    def __init__(self) -> None:
        self._held: deque[bytes] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self.lost: str | None = None
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        while self._size > _MAX_HELD_BYTES and len(self._held) > 1:
            self._size -= len(self._held.popleft())
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = str(exc) if exc else "the line was closed"
        self._arrived.set()
        self.closed.set()

    def take(self) -> bytes:
        """Return what is there."""
        data = b"".join(self._held)
        self._held.clear()
        self._size = 0
        self._arrived.clear()
        return data

    async def read(self) -> bytes:
        """Wait for bytes; raise LinkError when the line is gone."""
        while not self._held:
            if self.lost is not None:
                raise LinkError(f"the line is gone: {self.lost}")
            self._arrived.clear()
            await self._arrived.wait()
        return self.take()


class Stream(Protocol):
    """An open line: ``received`` fills by itself."""

    received: _Bytes

    def write(self, data: bytes) -> None:
        """Send ``data`` in one piece."""
        ...

    def drop_input(self) -> bytes:
        """Return and forget what has come."""
        ...

    async def settle(self, line: Line) -> bool:
        """Take over the settings of ``line``; return whether they were others."""
        ...

    async def close(self) -> None:
        """Close the line; raises nothing."""
        ...


class SerialStream:
    """An open serial port."""

    def __init__(self, line: SerialLine, port: serial.Serial) -> None:
        self.received = _Bytes()
        self._line = line
        self._port = port
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, line: SerialLine) -> SerialStream:
        """Open the port for ourselves alone; raise LinkError."""
        try:
            port = serial.serial_for_url(
                line.path,
                exclusive=True,  # a second reader would take half of each answer
                **port_settings(line),
            )
        except (OSError, ValueError, termios.error) as exc:  # SerialException is an OSError
            raise LinkError(f"{line.bus}: {exc}") from exc
        stream = cls(line, port)
        stream._transport, _ = await serial_asyncio_fast.connection_for_serial(
            asyncio.get_running_loop(), lambda: stream.received, port
        )
        return stream

    def write(self, data: bytes) -> None:
        """Send ``data`` in one write: some devices drop a request with a pause in it (Keller: 1.5 ms)."""
        if self._transport is not None:
            self._transport.write(data)

    def drop_input(self) -> bytes:
        """Return and forget what has come, also what the system still holds."""
        held = self.received.take()
        try:
            waiting = self._port.in_waiting if self.received.lost is None else 0
            return held + (self._port.read(waiting) if waiting else b"")
        except OSError as exc:
            self.received.lost = str(exc)
            raise LinkError(f"{self._line.bus}: {exc}") from exc

    async def settle(self, line: Line) -> bool:
        """Set speed and format of the device that comes next, and give the line time."""
        if not isinstance(line, SerialLine):
            raise TypeError(f"{line.bus} is no serial line")
        before, self._line = self._line, line
        if (before.baud, before.format) == (line.baud, line.format):
            return False
        try:
            self._port.apply_settings(port_settings(line))
        except (OSError, ValueError, termios.error) as exc:
            self.received.lost = str(exc)
            raise LinkError(f"{line.bus}: {exc}") from exc
        await asyncio.sleep(SETTLE_S)
        return True

    async def close(self) -> None:
        """Close the port without waiting for bytes that nobody reads."""
        if self._transport is not None:
            self._transport.abort()
            await _closed(self.received)


def port_settings(line: SerialLine) -> dict[str, int | str]:
    """Return speed and format as pyserial calls them; a pseudo-terminal has no parity and always 8 bits."""
    pseudo = str(Path(line.path).resolve()).startswith("/dev/pts/")
    return {
        "baudrate": line.baud,
        "bytesize": 8 if pseudo else int(line.format[0]),
        "parity": serial.PARITY_NONE if pseudo else _PARITY[line.format[1]],
        "stopbits": int(line.format[2]),
    }


class TcpStream:
    """A connection to a converter."""

    def __init__(self) -> None:
        self.received = _Bytes()
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, line: TcpLine, timeout_s: float) -> TcpStream:
        """Connect; raise LinkError."""
        stream = cls()
        try:
            async with asyncio.timeout(timeout_s):
                stream._transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: stream.received, line.host, line.port
                )
        except TimeoutError:
            raise LinkError(f"{line.bus}: no connection within {timeout_s} s") from None
        except OSError as exc:
            raise LinkError(f"{line.bus}: {exc}") from exc
        return stream

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self._transport is not None:
            self._transport.write(data)

    def drop_input(self) -> bytes:
        """Return and forget what has come."""
        return self.received.take()

    async def settle(self, line: Line) -> bool:
        """Do nothing: the converter has its own settings."""
        del line
        await asyncio.sleep(0)  # lets the loop take what lies in the socket
        return False

    async def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
            await _closed(self.received)


async def _closed(received: _Bytes) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await received.closed.wait()
    except TimeoutError:
        return  # the system is still closing it; nothing of ours waits for it


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
        ask = _Ask(line, unit, pdu, reply_unit, timeout_s)
        try:
            reply = await self._settled(stream, ask, exact=exact)
        except LinkError:
            await self._on_silence(stream)
            raise
        except FrameError:
            self._silent = 0
            raise
        self._silent = 0
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
        return self._stream

    async def _on_silence(self, stream: Stream) -> None:
        self._silent += 1
        if stream.received.lost is not None or self._silent >= _SILENT_BEFORE_REOPEN:
            await self.close()

    async def _settled(self, stream: Stream, ask: _Ask, *, exact: bool) -> Reply:
        """Ask with the settings of the device, when nothing that is owed can be taken for its answer."""
        changed = await stream.settle(ask.line)
        await self._wait_for_late(stream, ask.unit)
        if not exact and ask.shape in self._in_doubt.get(ask.unit, ()):
            await self._sound(stream, ask)
        try:
            return await self._asked(stream, ask)
        except FrameError:
            if not changed:
                raise
        # The first bytes after a change of settings may be spoilt; that is not the device's fault.
        await self._wait_for_late(stream, ask.unit)
        return await self._asked(stream, ask)

    async def _wait_for_late(self, stream: Stream, unit: int) -> None:
        """Wait until the answer that ``unit`` owes has come, or could no longer be under way."""
        self._note(stream.drop_input())
        owed = self._owed.get(unit)
        if owed is None:
            return
        try:
            async with asyncio.timeout_at(owed.until):
                while unit in self._owed:
                    self._note(await stream.received.read())
        except TimeoutError:
            del self._owed[unit]
            self._in_doubt.setdefault(unit, Counter())[owed.shape] += 1

    async def _sound(self, stream: Stream, ask: _Ask) -> None:
        """Make sure that the next answer is to the next question, although an older one may be under way.

        A read of a length that nobody waits for: its answer, or a refusal, comes behind all that is older. Every other
        time, for devices that answer nothing but the read that they know: the read itself, once for each answer that
        may be under way.
        """
        unit, doubted = ask.unit, self._in_doubt[ask.unit]
        other = next((n for n in _other_counts(ask) if (ask.pdu[0], n) not in doubted), None)
        if other is not None and unit not in self._plain_next:
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
        self._note(stream.drop_input())
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
                    self._note(data)
        except TimeoutError:
            data = stream.received.take()  # came in the same turn of the loop
            self._note(data)
            reply = receiver.feed(data) or receiver.end()
        except LinkError as exc:
            raise LinkError(f"{line.bus}: {exc}") from exc
        if reply is not None:
            self._owed.pop(unit, None)
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

    def _note(self, data: bytes) -> None:
        """Strike out the answers that are owed and in ``data``, whoever was asked last."""
        for unit in list(self._owed):
            if self._owed[unit].receiver.feed(data) is not None:
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
