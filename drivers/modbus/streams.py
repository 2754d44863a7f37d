"""Bytes to and from a bus: a serial port opened for ourselves alone, or the connection to a converter."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import serial
import serial_asyncio_fast

from drivers.errors import LinkError
from drivers.modbus.lines import SerialLine
from drivers.modbus.link import refusal

if TYPE_CHECKING:
    from drivers.modbus.lines import Line, TcpLine

SETTLE_S = 0.05  # a transceiver and its neighbours need this after a change of speed or parity
MAX_HELD_BYTES = 8192  # an answer has 513 at most; more would only be searched in vain
MAX_UNASKED_BYTES = 64 * 1024
"""A line that has said so much since it was last asked never stops: it is closed, or it would take all our time."""
_CLOSE_S = 0.5
_PARITY = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}
_WHY_NOT_OPEN = {
    errno.ENOENT: "there is no such port; is the adapter plugged in, and its name right?",
    errno.EACCES: "no permission; the agent's user must be in the group of the port, mostly dialout",
    errno.EISDIR: "is a directory; name the port in it",
    errno.EAGAIN: "another program uses the port, or another device of ours under another name of it",
    errno.EBUSY: "another program uses the port",
}


class Received(asyncio.Protocol):
    """What has arrived and not been taken; old bytes go when there are too many."""

    def __init__(self, bus: str) -> None:
        self._bus = bus
        self._held: deque[bytes] = deque()
        self._size = 0
        self._unasked = 0
        self._arrived = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None
        self.lost: str | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to stop."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep the last of what comes; end a line that never stops talking."""
        self._unasked += len(data)
        self._held.append(data[-MAX_HELD_BYTES:])
        self._size += len(self._held[-1])
        while self._size > MAX_HELD_BYTES and len(self._held) > 1:
            self._size -= len(self._held.popleft())
        if self._unasked > MAX_UNASKED_BYTES and self.lost is None:
            self.lost = f"it does not stop talking: {self._unasked} bytes that nobody asked for"
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.abort()
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake who waits for bytes."""
        self.lost = self.lost or (str(exc) if exc else "the line was closed")
        self._arrived.set()
        self.closed.set()

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._size

    def asked(self) -> None:
        """From here on an answer may come."""
        self._unasked = 0

    def take(self) -> bytes:
        """Return what is there."""
        data = b"".join(self._held)
        self._held.clear()
        self._size = 0
        self._arrived.clear()
        return data

    async def read(self) -> bytes:
        """Wait for bytes; raise LinkError when the line is gone."""
        while not self._held or self.lost is not None:
            if self.lost is not None:
                raise LinkError(f"{self._bus}: the line is gone: {self.lost}")
            self._arrived.clear()
            await self._arrived.wait()
        return self.take()


class Stream(Protocol):
    """An open line: ``received`` fills by itself."""

    received: Received

    def write(self, data: bytes) -> None:
        """Send ``data`` in one piece; raise LinkError when the line does not take it."""
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
        self.received = Received(line.bus)
        self._line = line
        self._port = port
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, line: SerialLine) -> SerialStream:
        """Open the port for ourselves alone; raise LinkError."""
        try:
            # Exclusive: a second reader would take half of each answer.
            port = serial.Serial(line.path, exclusive=True, **port_settings(line))
        except (OSError, ValueError, termios.error) as exc:  # SerialException is an OSError
            raise LinkError(f"{line.bus}: {_why_not_open(line, exc)}") from exc
        stream = cls(line, port)
        stream._transport, _ = await serial_asyncio_fast.connection_for_serial(
            asyncio.get_running_loop(), lambda: stream.received, port
        )
        return stream

    def write(self, data: bytes) -> None:
        """Send ``data`` in one write: some devices drop a request with a pause in it (Keller: 1.5 ms).

        Past pyserial, which would try for ever on a port that takes no more.
        """
        self.received.asked()
        try:
            sent = os.write(self._port.fileno(), data)
        except OSError as exc:
            self.received.lost = str(exc)
            raise LinkError(f"{self._line.bus}: the port takes no bytes: {exc}") from exc
        if sent != len(data):
            self.received.lost = "a request went out in part"
            raise LinkError(f"{self._line.bus}: the port took {sent} of {len(data)} bytes")

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
            if not self._transport.is_closing():  # it ends by itself when the port is unplugged
                self._transport.abort()
            await _closed(self.received)


def _why_not_open(line: SerialLine, exc: Exception) -> str:
    """Return what to do about a port that does not open."""
    number = exc.errno if isinstance(exc, OSError) else None
    if number is None and Path(line.path).exists() and not Path(line.path).is_char_device():
        return "is no serial port"
    return _WHY_NOT_OPEN.get(number or 0) or str(exc)


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

    def __init__(self, line: TcpLine) -> None:
        self.received = Received(line.bus)
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, line: TcpLine, timeout_s: float) -> TcpStream:
        """Connect; raise LinkError."""
        stream = cls(line)
        try:
            async with asyncio.timeout(timeout_s):
                stream._transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: stream.received, line.host, line.port
                )
        except TimeoutError:
            raise LinkError(f"{line.bus}: no connection within {timeout_s} s") from None
        except OSError as exc:
            raise LinkError(f"{line.bus}: {refusal(exc)}") from exc
        return stream

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        self.received.asked()
        if self._transport is not None:
            self._transport.write(data)

    def drop_input(self) -> bytes:
        """Return and forget what has come."""
        return self.received.take()

    async def settle(self, line: Line) -> bool:
        """Do nothing: the converter has its own settings."""
        del line
        for _ in range(2):  # the loop looks at the socket in one turn and hands over in the next
            await asyncio.sleep(0)
        return False

    async def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()
            await _closed(self.received)


async def _closed(received: Received) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await received.closed.wait()
    except TimeoutError:
        return  # the system is still closing it; nothing of ours waits for it
