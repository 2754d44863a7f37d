"""Peers written by others: servers that our driver reads and clients that read our simulators."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import os
import re
import struct
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import pytest

from demo.journal import REPLIES, Reply, read_all
from demo.simulators.config import BusTable, DeviceTable, GatewayTable, SimConfig
from demo.simulators.plant import Plant
from drivers.errors import LinkError
from drivers.modbus.config import parse
from drivers.modbus.session import open_session
from drivers.modbus.steps import Action, Step
from tests.conftest import free_port, require, until

EXAMPLES = Path("/usr/share/doc/libmodbus-dev/examples")
LIBMODBUS_UNIT = 17
KELLER = DeviceTable(station="hl-001", path="level", model="keller_30x", unit_id=5)
SOIL = DeviceTable(station="hl-001", path="soil", model="renke_soil_7in1", unit_id=2)
PATIENCE_S = 20.0


def require_module(name):
    """Return a module that is a test dependency; without it skip the test, and fail it in CI."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed; CI must have it")
        pytest.skip(f"{name} is not installed")


@contextlib.contextmanager
def process(*command):
    running = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def pair(tmp_path):
    """Two ends of a serial line, by socat."""
    ends = tmp_path / "near", tmp_path / "far"
    ptys = [f"pty,raw,echo=0,link={end}" for end in ends]
    with process(require("socat"), *ptys):
        until(lambda: all(end.exists() for end in ends))
        yield ends


@pytest.fixture(scope="session")
def libmodbus_server(tmp_path_factory):
    """The example server of libmodbus; its fixed port and serial port become its second argument."""
    compiler = require("gcc")
    source = EXAMPLES / "unit-test-server.c"
    if not source.exists() or not Path("/usr/include/modbus/modbus.h").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("libmodbus-dev is not installed; CI must have it")
        pytest.skip("libmodbus-dev is not installed")
    directory = tmp_path_factory.mktemp("libmodbus")
    text = source.read_text("utf-8").replace('"127.0.0.1", 1502', '"127.0.0.1", atoi(argv[2])')
    (directory / "server.c").write_text(text.replace('"/dev/ttyUSB0"', "argv[2]"), "utf-8")
    built = directory / "server"
    subprocess.run(
        [
            compiler,
            "-w",
            f"-I{EXAMPLES}",
            "-I/usr/include/modbus",
            "-o",
            built,
            directory / "server.c",
            "-lmodbus",
        ],
        check=True,
    )
    return built


def device(points, line, *, unit_id=LIBMODBUS_UNIT, write=None, **more):
    path = f"peer/{points[0]['address']}-{points[0]['type']}"  # a session keeps a plan for each
    table = {"path": path, "unit_id": unit_id, "points": points, "timeout_s": 2.0} | line | more
    parsed = parse(table, "test")
    if write is None:
        return parsed
    address, values = write
    steps = (
        Step(Action.WRITE, function=16, address=address, values=values),
        Step(Action.POINTS),
    )
    return dataclasses.replace(parsed, steps=steps)


def point(indicator, address, kind="u16", unit="mg/kg", **more):
    return {"indicator": indicator, "address": address, "type": kind, "unit": unit} | more


FLOATS = [  # 123456.0 in three orders, as libmodbus' own tests have it
    point("soil_n", 0x160, "f32", order="ABCD"),
    point("soil_p", 0x162, "f32", order="CDAB"),
    point("soil_k", 0x164, "f32", order="BADC"),
]
FLOAT_WORDS = (0x160, (0x47F1, 0x2000, 0x2000, 0x47F1, 0xF147, 0x0020))


@contextlib.asynccontextmanager
async def session_on(config):
    session = open_session(config, lambda: time.time_ns() // 1_000_000)
    try:
        yield session
    finally:
        await session.close()


async def poll(session, config):
    """Return indicator -> (value, quality); a server that is still starting is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            readings = await session.poll(config)
        except LinkError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
            continue
        return {r.reading.indicator: (r.reading.value, r.reading.quality) for r in readings}


async def test_our_driver_reads_libmodbus_over_tcp(libmodbus_server):
    port = free_port()
    config = device(FLOATS, {"host": "127.0.0.1", "port": port}, write=FLOAT_WORDS)
    with process(libmodbus_server, "tcp", port):
        async with session_on(config) as session:
            assert await poll(session, config) == {
                "soil_n": (123456.0, None),
                "soil_p": (123456.0, None),
                "soil_k": (123456.0, None),
            }


async def test_our_driver_reads_libmodbus_over_a_serial_line(libmodbus_server, pair):
    near, far = pair
    line = {"serial": str(near), "baud": 115_200}
    config = device(FLOATS, line, write=FLOAT_WORDS)
    constant = device([point("soil_ec", 0x108, unit="uS/cm", function=4)], line)
    with process(libmodbus_server, "rtu", far):
        async with session_on(config) as session:
            got = await poll(session, config)
            assert [value for value, _ in got.values()] == [123456.0] * 3
            assert await poll(session, constant) == {"soil_ec": (10.0, None)}


async def test_what_libmodbus_does_wrong_is_no_value(libmodbus_server, pair):
    near, far = pair
    line = {"serial": str(near), "baud": 115_200, "timeout_s": 0.3}
    good = device([point("soil_n", 0x160)], line)
    busy = device([point("soil_n", 0x170)], line)
    foreign = device([point("soil_n", 0x171)], line)
    late = device([point("soil_n", 0x172)], line)
    short = device([point("soil_n", 0x160, "u32", order="ABCD")], line)
    with process(libmodbus_server, "rtu", far):
        async with session_on(good) as session:
            assert await poll(session, good) == {"soil_n": (0.0, None)}
            assert (await poll(session, busy))["soil_n"] == (None, "bad:device_busy")
            assert (await poll(session, short))["soil_n"][0] is None  # one register in place of two
            for wrong in (foreign, late):
                try:
                    readings = await session.poll(wrong)
                except LinkError:
                    pass
                else:
                    assert [r.reading.value for r in readings] == [None]
            assert await poll(session, good) == {"soil_n": (0.0, None)}


@pytest.mark.parametrize("address", [0x171, 0x173])  # at once, and byte by byte with pauses
async def test_a_foreign_answer_of_libmodbus_over_tcp_is_no_value(libmodbus_server, address):
    port = free_port()
    line = {"host": "127.0.0.1", "port": port, "timeout_s": 0.3}
    good, foreign = device([point("soil_n", 0x160)], line), device([point("soil_n", address)], line)
    with process(libmodbus_server, "tcp", port):
        async with session_on(good) as session:
            assert await poll(session, good) == {"soil_n": (0.0, None)}
            try:
                readings = await session.poll(foreign)
            except LinkError:
                return
            assert [r.reading.value for r in readings] == [None]


async def test_our_driver_reads_pymodbustcp():
    server_of = require_module("pyModbusTCP.server")
    port = free_port()
    bank = server_of.DataBank()
    bank.set_holding_registers(100, [0x47F1, 0x2000, 65535, 7])
    bank.set_input_registers(5, [1234])
    server = server_of.ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    server.start()
    try:
        config = device(
            [
                point("soil_n", 100, "f32", order="ABCD"),
                point("soil_p", 102),
                point("soil_k", 103),
                point("soil_ec", 5, unit="uS/cm", function=4),
            ],
            {"host": "127.0.0.1", "port": port},
        )
        async with session_on(config) as session:
            assert await poll(session, config) == {
                "soil_n": (123456.0, None),
                "soil_p": (65535.0, None),
                "soil_k": (7.0, None),
                "soil_ec": (1234.0, None),
            }
    finally:
        server.stop()


# ---------------------------------------------------------------- clients of our simulators


@contextlib.asynccontextmanager
async def simulated(directory, *, serial=None, framing="rtu"):
    """Run the two instruments on Modbus TCP, or on an end of a serial line."""
    devices = [KELLER, SOIL]
    config = SimConfig(
        journal_dir=directory,
        gateway=[] if serial else [GatewayTable(port=0, device=devices)],
        bus=[BusTable(serial=serial, framing=framing, device=devices)] if serial else [],
    )
    async with Plant(config) as plant, asyncio.TaskGroup() as tasks:
        for one in devices:
            plant.control(one.station, one.path).frozen = True
        serving = tasks.create_task(plant.run())
        yield plant
        serving.cancel()


def served(directory, path):
    return {
        code: Fraction(text)
        for reply in read_all(directory / REPLIES, Reply)
        if reply.device == path
        for code, text in reply.values.items()
    }


def mbpoll(*arguments):
    """Return what mbpoll prints: address -> number."""
    done = subprocess.run(
        [require("mbpoll"), "-0", "-1", "-q", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = re.findall(r"^\[(\d+)\]:\s+(-?[\d.e+-]+)", done.stdout, re.MULTILINE)
    return {int(address): float(number) for address, number in found}


async def check_mbpoll(directory, *line):
    words = await asyncio.to_thread(
        mbpoll, *line[:-1], "-a", 2, "-t", 4, "-r", 0, "-c", 9, line[-1]
    )
    pressure = await asyncio.to_thread(
        mbpoll, *line[:-1], "-a", 5, "-t", "4:float", "-B", "-r", 2, "-c", 1, line[-1]
    )
    soil = served(directory, "soil")
    assert words[0] == soil["soil_moisture"] * 10
    assert words[2] == soil["soil_ec"]
    assert words[8] == soil["soil_tds"]
    (bar,) = pressure.values()
    assert bar == pytest.approx(float(served(directory, "level")["water_pressure"]) / 100, rel=1e-5)


async def test_mbpoll_reads_our_simulator_over_tcp(tmp_path):
    require("mbpoll")
    async with simulated(tmp_path) as plant:
        await check_mbpoll(tmp_path, "-m", "tcp", "-p", plant.ports[0], "127.0.0.1")


async def test_mbpoll_reads_our_simulator_over_a_serial_line(tmp_path, pair):
    require("mbpoll")
    near, far = pair
    async with simulated(tmp_path, serial=far):
        await check_mbpoll(tmp_path, "-m", "rtu", "-b", 9600, "-P", "none", near)


@pytest.mark.parametrize("framing", ["rtu", "ascii"])
async def test_minimalmodbus_reads_our_simulator(tmp_path, pair, framing):
    minimalmodbus = require_module("minimalmodbus")
    near, far = pair

    def read():
        probe = minimalmodbus.Instrument(str(near), 2, mode=framing)
        try:
            probe.serial.baudrate = 9600
            probe.serial.timeout = 2.0
            words = probe.read_registers(0, 9)
            probe.address = 5
            bar = probe.read_float(2)
            with pytest.raises(minimalmodbus.IllegalRequestError):
                probe.read_register(999)
        finally:
            probe.serial.close()
        return words, bar

    async with simulated(tmp_path, serial=far, framing=framing):
        words, bar = await asyncio.to_thread(read)
    soil = served(tmp_path, "soil")
    assert words[0] == soil["soil_moisture"] * 10
    assert words[3] == soil["soil_ph"] * 10
    assert words[8] == soil["soil_tds"]
    assert Fraction(bar) * 100 == served(tmp_path, "level")["water_pressure"]


async def test_pymodbustcp_reads_our_simulator(tmp_path):
    client_of = require_module("pyModbusTCP.client")

    def read(port):
        client = client_of.ModbusClient("127.0.0.1", port, unit_id=2, auto_open=True)
        try:
            words = client.read_holding_registers(0, 9)
            client.unit_id = 5
            return words, client.read_holding_registers(2, 2)
        finally:
            client.close()

    async with simulated(tmp_path) as plant:
        words, pair_of_words = await asyncio.to_thread(read, plant.ports[0])
    soil = served(tmp_path, "soil")
    assert words[0] == soil["soil_moisture"] * 10
    (bar,) = struct.unpack(">f", struct.pack(">2H", *pair_of_words))
    assert Fraction(bar) * 100 == served(tmp_path, "level")["water_pressure"]
