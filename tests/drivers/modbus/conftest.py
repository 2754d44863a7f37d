"""RTU slaves on a pty, in this process: as many units as asked, each doing what it is told."""

import asyncio
import contextlib
import os
import pty
import termios
import tty

import pytest

from drivers.modbus.serial_frames import ascii_adu, rtu


def request_length(data):
    return 9 + data[6] if len(data) > 6 and data[1] == 16 else 8


class Slaves:
    """A pty behind the path ``link``; ``answer(unit, pdu, n)`` says what goes back.

    That is a PDU, or (delay_s, bytes) pairs as they go over the line, or None for silence. ``heard`` has every request.
    """

    def __init__(self, link, answer, *, ascii_framing=False):
        self.link = link
        self.answer = answer
        self.ascii = ascii_framing
        self.heard = []
        self._build = ascii_adu if ascii_framing else rtu
        self._buffer = b""
        self._master = self._slave = None
        self._later = []

    def plug_in(self):
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        tty.setraw(self._master)
        os.set_blocking(self._master, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))
        self._buffer = b""
        asyncio.get_running_loop().add_reader(self._master, self._on_bytes)

    def unplug(self):
        if self._master is None:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        for timer in self._later:
            timer.cancel()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = None
        self.link.unlink(missing_ok=True)

    def settings(self):
        """Speed and control flags that the reader set."""
        flags = termios.tcgetattr(self._slave)
        return flags[4], flags[2]

    def send(self, data):
        if self._master is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def _on_bytes(self):
        try:
            self._buffer += os.read(self._master, 4096)
        except OSError:
            return
        while request := self._next():
            unit, pdu = request
            self.heard.append(request)
            reply = self.answer(unit, pdu, len(self.heard))
            if reply is None:
                continue
            if isinstance(reply, bytes):
                reply = [(0, self._build(unit, reply))]
            for delay_s, data in reply:
                if delay_s:
                    loop = asyncio.get_running_loop()
                    self._later.append(loop.call_later(delay_s, self.send, data))
                else:
                    self.send(data)

    def _next(self):
        buffer = self._buffer
        if self.ascii:
            line, end, rest = buffer.partition(b"\n")
            if not end:
                return None
            self._buffer = rest
            body = bytes.fromhex(line.strip()[1:].decode())
            return body[0], body[1:-1]
        if len(buffer) < 8 or len(buffer) < request_length(buffer):
            return None
        length = request_length(buffer)
        self._buffer = buffer[length:]
        assert rtu(buffer[0], buffer[1 : length - 2]) == buffer[:length]
        return buffer[0], buffer[1 : length - 2]


@pytest.fixture
async def slaves(tmp_path):
    """Make ``Slaves`` that are plugged in; they are unplugged at the end."""
    made = []

    def make(answer, **more):
        bus = Slaves(tmp_path / f"tty{len(made)}", answer, **more)
        bus.plug_in()
        made.append(bus)
        return bus

    yield make
    for bus in made:
        bus.unplug()


def registers(*values):
    """The PDU that answers a read of function 3 with ``values``."""
    return bytes((3, 2 * len(values))) + b"".join(value.to_bytes(2, "big") for value in values)


@pytest.fixture(name="registers")
def registers_fixture():
    return registers
