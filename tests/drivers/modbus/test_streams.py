"""Ports and connections that misbehave: what is said, and that nobody else waits for them."""

import asyncio
import os
import pty
import random
import subprocess
import sys
import time
import tty

import pytest

from drivers.errors import LinkError
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.serial_line import open_stream_link
from drivers.modbus.streams import MAX_HELD_BYTES, SerialStream, TcpStream, port_settings
from tests.conftest import until

READ = bytes.fromhex("0300000003")


async def ask(link, line, timeout_s=0.2, unit=1):
    return await link.exchange(line, unit, READ, timeout_s, reply_unit=unit, exact=True)


@pytest.mark.parametrize(
    ("path", "written", "settings"),
    [
        ("/dev/ttyUSB0", "7E1", (7, "E", 1)),
        ("/dev/pts/1", "7E1", (8, "N", 1)),
        ("/dev/ttyUSB0", "8O2", (8, "O", 2)),
    ],
)
def test_format_as_pyserial_calls_it(path, written, settings):
    made = port_settings(SerialLine(path, 9600, written))
    assert (made["bytesize"], made["parity"], made["stopbits"]) == settings
    assert made["baudrate"] == 9600


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: None, "there is no such port; is the adapter plugged in"),
        (lambda path: path.mkdir(), "is a directory; name the port in it"),
        (lambda path: path.write_text("x"), "is no serial port"),
        (os.mkfifo, "is no serial port"),
    ],
)
async def test_what_is_no_port_is_said_to_be_none(tmp_path, make, why):
    path = tmp_path / "port"
    make(path)
    with pytest.raises(LinkError, match=f"serial:{path}: {why}"):
        await SerialStream.open(SerialLine(str(path)))


@pytest.mark.parametrize("name", ["loop://", "a\0b"])
async def test_a_name_that_is_no_path_opens_nothing(name):
    with pytest.raises(LinkError, match="serial:"):
        await SerialStream.open(SerialLine(name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
async def test_a_port_without_permission_says_what_to_do(slaves):
    bus = slaves(lambda *_: None)
    bus.link.resolve().chmod(0)
    with pytest.raises(LinkError, match="group of the port, mostly dialout"):
        await SerialStream.open(SerialLine(str(bus.link)))


async def test_a_port_of_another_program_is_left_to_it(slaves):
    bus = slaves(lambda *_: None)
    script = "import serial, sys; p = serial.Serial(sys.argv[1], exclusive=True); print(); input()"
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        str(bus.link),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    await other.stdout.readline()
    try:
        with pytest.raises(LinkError, match="another program uses the port"):
            await SerialStream.open(SerialLine(str(bus.link)))
    finally:
        await other.communicate(b"\n")
    stream = await SerialStream.open(SerialLine(str(bus.link)))
    await stream.close()


async def test_a_port_that_takes_no_bytes_is_a_link_error_and_stops_nobody():
    """An adapter whose firmware hangs: the system's buffer fills, request by request."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    stream = await SerialStream.open(SerialLine(os.ttyname(slave)))
    try:
        with pytest.raises(LinkError, match=r"the port t(akes no bytes|ook)"):  # noqa: PT012 - how many, the system says
            for _ in range(1000):
                stream.write(bytes(256))
        assert stream.received.lost is not None
    finally:
        await stream.close()
        os.close(master)
        os.close(slave)


async def test_a_talking_line_ends_in_time_and_memory(slaves):
    """A probe in active-output mode, or a wrong speed: bytes without end."""
    rng = random.Random(4)
    timers = []

    def talk():
        bus.send(rng.randbytes(64))
        timers.append(asyncio.get_running_loop().call_later(0.005, talk))

    bus = slaves(lambda *_: None)
    line = SerialLine(str(bus.link), 115_200)
    link = open_stream_link(line)
    talk()
    try:
        for _ in range(2):
            with pytest.raises(LinkError, match="passed over"):
                await ask(link, line)
        assert link._stream.received.size <= 2 * MAX_HELD_BYTES
    finally:
        for timer in timers:
            timer.cancel()
        await link.close()


async def test_a_flood_is_cut_off_and_holds_up_nobody():
    """The worst bytes to search: each third begins what may be an answer of the greatest length."""
    flood = b"\x03\x03\xfa" * 20_000
    connections = []

    async def serve(_reader, writer):
        connections.append(writer)
        try:
            while True:
                writer.write(flood)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        line = TcpLine("127.0.0.1", server.sockets[0].getsockname()[1], "rtu")
        link = open_stream_link(line)
        pdu = bytes.fromhex("030000007d")
        try:
            for _ in range(3):
                began = time.process_time()
                with pytest.raises(LinkError, match="does not stop talking"):
                    await link.exchange(line, 3, pdu, 20.0, reply_unit=3, exact=True)
                # Searching all of what came in 20 s would take them all.
                assert time.process_time() - began < 10
            assert link._stream is None
            assert len(connections) == 3
        finally:
            await link.close()


async def test_a_line_that_talks_between_polls_is_cut_off_too():
    async def serve(_reader, writer):
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        line = TcpLine("127.0.0.1", server.sockets[0].getsockname()[1], "rtu")
        stream = await TcpStream.open(line, 5.0)
        async with asyncio.timeout(30):
            await stream.received.closed.wait()
        assert "does not stop talking" in stream.received.lost
        assert stream.received.size <= 2 * MAX_HELD_BYTES
        await stream.close()


async def test_a_connection_that_was_idle_is_opened_anew_after_one_silence():
    """A router forgets a quiet connection without a word; three polls of ten minutes would be lost."""
    opened = []

    async def serve(reader, writer):
        opened.append(writer)
        while await reader.read(100):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        line = TcpLine("127.0.0.1", server.sockets[0].getsockname()[1], "rtu")
        link = open_stream_link(line)
        for _ in range(2):
            with pytest.raises(LinkError):
                await ask(link, line, 0.05)
        assert len(opened) == 1
        link._alive_at -= 61.0
        for _ in range(2):
            with pytest.raises(LinkError):
                await ask(link, line, 0.05)
        assert len(opened) == 2
        await link.close()
        await asyncio.to_thread(until, lambda: all(w.is_closing() for w in opened))
