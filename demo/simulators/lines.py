"""The lines that instruments are on: TCP connections, ptys of our own, serial ports that exist."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import termios
import tty
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_LOOK_S = 0.02  # a pty tells nobody that it was opened
_READ = 4096
_END_S = 1.0
SPEEDS = {
    baud: getattr(termios, f"B{baud}")
    for baud in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
}


class Line(Protocol):
    """One line to one reader."""

    async def read(self) -> bytes:
        """Return what the reader sent; nothing when it is gone for good."""
        ...

    async def write(self, data: bytes) -> bool:
        """Send all of ``data``; False when nobody takes it."""
        ...

    def later(self, delay_s: float, data: bytes) -> None:
        """Send ``data`` after ``delay_s`` if the line is still there then; return at once."""
        ...

    def hang_up(self) -> None:
        """End the line; a serial line is there again a moment later."""
        ...


class _Timers:
    """Answers that are still to come."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def clear(self) -> None:
        while self._handles:
            self._handles.pop().cancel()

    def add(self, delay_s: float, line: TcpLine | SerialPort | Pty, data: bytes) -> None:
        loop = asyncio.get_running_loop()

        def due() -> None:
            self._handles.discard(handle)
            line.put(data)

        handle = loop.call_later(delay_s, due)
        self._handles.add(handle)


class TcpLine:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._timers = _Timers()

    async def read(self) -> bytes:
        """Return what came; nothing at the end of the connection."""
        try:
            return await self._reader.read(_READ)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> bool:
        """Send ``data``; False when the connection is gone."""
        if self._writer.is_closing():
            return False
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return False
        return True

    def listened(self) -> bool:
        """Whether the other side still reads."""
        return not self._writer.is_closing() and not self._reader.at_eof()

    def put(self, data: bytes) -> None:
        """Send ``data`` if the connection is there."""
        if not self._writer.is_closing():
            self._writer.write(data)

    def later(self, delay_s: float, data: bytes) -> None:
        """Send ``data`` after ``delay_s``."""
        self._timers.add(delay_s, self, data)

    def hang_up(self) -> None:
        """Close the connection; answers still to come are dropped."""
        self._timers.clear()
        self._writer.close()


async def end_all(lines: set[TcpLine]) -> None:
    """Close connections and return when each of their tasks has seen it and left ``lines``."""
    for line in tuple(lines):
        line.hang_up()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            while lines:  # noqa: ASYNC110 - a turn or two of the loop
                await asyncio.sleep(0)


class _Descriptor:
    """Reading and writing a tty by its descriptor, without a thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._timers = _Timers()

    async def readable(self) -> None:
        """Return when there is something to read."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        descriptor = self.descriptor
        loop.add_reader(descriptor, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)

    async def write(self, data: bytes) -> bool:
        """Send ``data``, waiting while the line is full; False when nobody reads."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.descriptor, view) :]
            except BlockingIOError:
                if not self.listened():
                    return False
                await asyncio.sleep(0.001)
            except OSError:
                return False
        return True

    def put(self, data: bytes) -> None:
        """Send what the line takes of ``data`` at once."""
        if self.listened():
            with contextlib.suppress(OSError):
                os.write(self.descriptor, data)

    def listened(self) -> bool:
        """Whether a reader has the line open."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class SerialPort(_Descriptor):
    """A serial port that exists: a real one, or an end of socat's pair of ptys."""

    def __init__(self, path: Path, baud: int) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        tty.setraw(self.descriptor)
        settings = termios.tcgetattr(self.descriptor)
        settings[4] = settings[5] = SPEEDS[baud]
        termios.tcsetattr(self.descriptor, termios.TCSANOW, settings)

    async def read(self) -> bytes:
        """Return what came; nothing when the port is gone."""
        while True:
            await self.readable()
            try:
                return os.read(self.descriptor, _READ)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    def later(self, delay_s: float, data: bytes) -> None:
        """Send ``data`` after ``delay_s``."""
        self._timers.add(delay_s, self, data)

    def hang_up(self) -> None:
        """Drop what was still to come: a port that exists cannot be unplugged from here."""
        self._timers.clear()

    def close(self) -> None:
        """Close the port."""
        self._timers.clear()
        os.close(self.descriptor)

    def heard_at(self) -> tuple[int, int] | None:
        """Return None: only the other end of a pty can be asked how it is set."""
        return None


class Pty(_Descriptor):
    """A pty of our own whose other end is linked at ``link``; hanging up is unplugging and plugging in again."""

    def __init__(self, link: Path) -> None:
        self.link = link
        super().__init__(self._plug_in())

    def _plug_in(self) -> int:
        master, slave = os.openpty()
        tty.setraw(slave)
        name = os.ttyname(slave)
        os.close(slave)  # from now on the line hangs up while no reader has it open
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(name)
        return master

    async def read(self) -> bytes:
        """Return what came; waits over times without a reader."""
        while True:
            while not self.listened():  # noqa: ASYNC110 - nothing else tells it
                await asyncio.sleep(_LOOK_S)
            await self.readable()
            try:
                data = os.read(self.descriptor, _READ)
            except OSError:  # nobody any more, or nothing after all
                continue
            if data:
                return data

    def later(self, delay_s: float, data: bytes) -> None:
        """Send ``data`` after ``delay_s``."""
        self._timers.add(delay_s, self, data)

    def hang_up(self) -> None:
        """Unplug: readers get an error; a new pty is behind the link at once."""
        self._timers.clear()
        os.close(self.descriptor)
        self.descriptor = self._plug_in()
        os.set_blocking(self.descriptor, False)

    def close(self) -> None:
        """Unplug for good."""
        self._timers.clear()
        self.link.unlink(missing_ok=True)
        os.close(self.descriptor)

    def heard_at(self) -> tuple[int, int] | None:
        """Return baud and stop bits that the reader has set; a pty hides parity and data bits."""
        settings = termios.tcgetattr(self.descriptor)
        baud = next((baud for baud, code in SPEEDS.items() if code == settings[5]), 0)
        return baud, 2 if settings[2] & termios.CSTOPB else 1
