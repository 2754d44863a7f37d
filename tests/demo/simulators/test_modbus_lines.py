"""Every model on every kind of line, read by our driver; and each misbehaviour, seen as the bytes it is."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import struct
import termios
import time
import tty
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from demo.journal import MISBEHAVED, REPLIES, Misbehaved, Reply, read_all
from demo.simulators.config import BusTable, DeviceTable, FaultTable, GatewayTable, SimConfig
from demo.simulators.framing import Ascii, Rtu
from demo.simulators.misbehaviour import MODBUS_SERIAL, MODBUS_TCP, READABLE, Misbehaviour
from demo.simulators.plant import Plant
from drivers.errors import LinkError
from drivers.modbus import models
from drivers.modbus.config import parse
from drivers.modbus.session import open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LINES = ("tcp", "rtu over tcp", "rtu", "ascii")
READ_PH = bytes.fromhex("03 26 00 00 04")
UNIT = 3


@contextlib.asynccontextmanager
async def running(config: SimConfig) -> AsyncIterator[Plant]:
    async with Plant(config) as plant, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(plant.run())
        yield plant
        serving.cancel()


def plant_on(line: str, directory: Path, *devices: DeviceTable, timed: bool = False) -> SimConfig:
    if "tcp" in line:
        framing = "tcp" if line == "tcp" else "rtu"
        return SimConfig(
            journal_dir=directory,
            gateway=[GatewayTable(port=0, framing=framing, device=list(devices))],
        )
    return SimConfig(
        journal_dir=directory,
        bus=[
            BusTable(link=directory / "bus", framing=line, timed=timed, device=list(devices)),
        ],
    )


def place(line: str, directory: Path, plant: Plant) -> dict[str, object]:
    if line == "tcp":
        return {"host": "127.0.0.1", "port": plant.ports[0]}
    if line == "rtu over tcp":
        return {"host": "127.0.0.1", "port": plant.ports[0], "framing": "rtu"}
    return {"serial": str(directory / "bus"), "framing": line}


def site_settings(model: models.Model) -> dict[str, dict[str, object]]:
    """Return what a site settles; points that are read on demand only are left alone."""
    optional = {point.key for point in model.points if point.optional}
    chosen = {"order": "DCBA", "scale": 0.1, "indicator": "water_codcr"}
    return {
        key: {n: chosen.get(n) or models.catalogue_unit(key) for n in names}
        for key, names in model.open_settings().items()
        if key not in optional
    }


def served(directory: Path, path: str = "probe") -> dict[str, Fraction]:
    """Return the last value of each indicator that the journal has."""
    values: dict[str, Fraction] = {}
    for reply in read_all(directory / REPLIES, Reply):
        if reply.device == path:
            values |= {code: Fraction(text) for code, text in reply.values.items()}
    return values


async def read_once(table: dict[str, object]) -> dict[str, tuple[float | None, str | None]]:
    device = parse({"path": "probe", **table}, "test")
    # The wipers of real probes take up to 22 s; the steps matter here, not their waits.
    steps = tuple(
        dataclasses.replace(step, wait_ms=1) if step.wait_ms else step for step in device.steps
    )
    session = open_session(
        dataclasses.replace(device, steps=steps), lambda: time.time_ns() // 1_000_000
    )
    try:
        readings = await session.poll(dataclasses.replace(device, steps=steps))
    finally:
        await session.close()
    return {r.reading.indicator: (r.reading.value, r.reading.quality) for r in readings}


@pytest.mark.parametrize("name", models.names())
async def test_every_model_reads_as_it_was_served(name: str, tmp_path: Path) -> None:
    whole = models.load(name)
    for variant in [*([""] if whole.points else []), *whole.variants]:
        model = whole.variants[variant] if variant else whole
        settings = site_settings(model)
        directory = tmp_path / (variant or "plain")
        sim = DeviceTable(
            station="hl-001", path="probe", model=name, variant=variant, settings=settings
        )
        for line in LINES if not variant else ("rtu",):
            where = directory / line.replace(" ", "-")
            async with running(plant_on(line, where, sim)) as plant:
                table = place(line, where, plant) | {"model": name, "unit_id": model.unit_id}
                table |= {"settings": settings} if settings else {}
                table |= {"variant": variant} if variant else {}
                got = await read_once(table)
            truth = served(where)
            assert got, (variant, line)
            assert not any(quality for _, quality in got.values()), (variant, line, got)
            assert {code: value for code, (value, _) in got.items()} == {
                code: float(truth[code]) for code in got
            }, (variant, line)


# ---------------------------------------------------------------- one misbehaviour at a time


@contextlib.asynccontextmanager
async def wire(
    line: str, directory: Path, *faults: FaultTable, timed: bool = False
) -> AsyncIterator[tuple[Plant, Wire]]:
    device = DeviceTable(
        station="hl-001", path="ph", model="boqu_phg2091", unit_id=UNIT, fault=list(faults)
    )
    async with running(plant_on(line, directory, device, timed=timed)) as plant:
        if "tcp" in line:
            reader, writer = await asyncio.open_connection("127.0.0.1", plant.ports[0])
            client = Wire(line, reader, writer, None)
        else:
            client = Wire(line, None, None, directory / "bus")
        try:
            yield plant, client
        finally:
            await client.close()


class Wire:
    """Raw bytes on a line, framed by the protocol's rules and no client's."""

    def __init__(
        self,
        line: str,
        reader: asyncio.StreamReader | None,
        writer: asyncio.StreamWriter | None,
        port: Path | None,
    ) -> None:
        self.line, self.reader, self.writer = line, reader, writer
        self.port = port
        self.descriptor = -1
        if port is not None:
            self.plug_in()

    def plug_in(self) -> None:
        self.descriptor = os.open(self.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self.descriptor)

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            with contextlib.suppress(ConnectionError):
                await self.writer.wait_closed()
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def frame(self, pdu: bytes, unit: int = UNIT, transaction: int = 7) -> bytes:
        if self.line == "tcp":
            return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu
        framing = Ascii() if self.line == "ascii" else Rtu()
        return framing.frame(unit, pdu, 0)

    async def ask(self, request: bytes, *, quiet_s: float = 0.25) -> bytes:
        """Send, and return all that comes until ``quiet_s`` of silence."""
        if self.writer is not None:
            self.writer.write(request)
        elif request:
            os.write(self.descriptor, request)
        heard = b""
        while data := await self.some(quiet_s):
            heard += data
        return heard

    async def some(self, within_s: float) -> bytes:
        if self.reader is not None:
            try:
                async with asyncio.timeout(within_s):
                    return await self.reader.read(4096)
            except TimeoutError:
                return b""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                return os.read(self.descriptor, 4096)
            await asyncio.sleep(0.002)
        return b""


def expected(client: Wire, directory: Path) -> bytes:
    reply = read_all(directory / REPLIES, Reply)[-1]
    data = bytes.fromhex(reply.registers)
    return client.frame(bytes([3, len(data)]) + data)


@pytest.mark.parametrize("line", LINES)
async def test_a_good_answer_is_the_frame_of_the_journal(line: str, tmp_path: Path) -> None:
    async with wire(line, tmp_path) as (_, client):
        answer = await client.ask(client.frame(READ_PH))
        assert answer == expected(client, tmp_path)
        assert len(answer) == {"tcp": 17, "ascii": 27}.get(line, 13)
    assert read_all(tmp_path / MISBEHAVED, Misbehaved) == []


def able(line: str) -> frozenset[Misbehaviour]:
    """What an instrument with the framing of ``line`` can do wrong."""
    return MODBUS_TCP if line == "tcp" else MODBUS_SERIAL


@pytest.mark.parametrize(("line", "kind"), [(a, kind) for a in LINES for kind in sorted(able(a))])
async def test_each_misbehaviour_is_what_it_says(  # noqa: C901 - a case for each
    kind: Misbehaviour, line: str, tmp_path: Path
) -> None:
    async with wire(line, tmp_path) as (plant, client):
        control = plant.control("hl-001", "ph")
        control.late_s = 0.4
        control.behave([None, kind, None])
        request = client.frame(READ_PH)
        before = await client.ask(request)
        heard = await client.ask(request)
        (row,) = read_all(tmp_path / MISBEHAVED, Misbehaved)
        replies = read_all(tmp_path / REPLIES, Reply)
        right = expected(client, tmp_path)
        assert row.kind == kind
        assert len(replies) == (2 if kind in READABLE else 1)
        sound = _sound(line, heard)
        match kind:
            case Misbehaviour.SILENCE:
                assert heard == b""
            case Misbehaviour.LATE:
                assert heard == b""
                assert _sound(line, await client.ask(b"", quiet_s=0.5))
            case Misbehaviour.NOISE:
                assert heard.endswith(right)
                assert 1 <= len(heard) - len(right) <= 8
            case Misbehaviour.ECHO:
                assert heard == request + right
            case Misbehaviour.CLIPPED:
                assert heard == right[1:]
            case Misbehaviour.ONE_BYTE_WRITES:
                assert heard == right
            case Misbehaviour.GLUED:
                assert heard.endswith(right)
                assert (
                    heard[2 if line == "tcp" else 0 : -len(right)]
                    == before[2 if line == "tcp" else 0 :]
                )
            case Misbehaviour.CRC_ERROR:
                assert len(heard) == len(before)
                assert not sound
            case Misbehaviour.EXCEPTION:
                assert heard == client.frame(bytes([0x83, 4]))
            case Misbehaviour.HANG_UP | Misbehaviour.TRUNCATED:
                assert 0 < len(heard) < len(before)
            case Misbehaviour.WRONG_UNIT:
                assert sound
                assert sound[0] != UNIT
            case Misbehaviour.WRONG_FUNCTION:
                assert sound
                assert sound[:2] == bytes([UNIT, 4])
            case Misbehaviour.WRONG_BYTE_COUNT:
                assert sound
                assert sound[2] != 8
            case Misbehaviour.WRONG_TRANSACTION:
                assert heard[:2] != b"\0\7"
                assert heard[6:8] == bytes([UNIT, 3])
            case _:
                pytest.fail(f"{kind} is not looked at")
        if kind is Misbehaviour.HANG_UP:
            await _again(line, client, plant)
        assert await client.ask(request) == expected(client, tmp_path)


async def _again(line: str, client: Wire, plant: Plant) -> None:
    """Find the line again after a hang-up."""
    if "tcp" in line:
        client.reader, writer = await asyncio.open_connection("127.0.0.1", plant.ports[0])
        client.writer.close()
        client.writer = writer
        return
    os.close(client.descriptor)
    client.plug_in()


def _sound(line: str, heard: bytes) -> bytes:
    """Return unit and PDU of an answer whose check is right, nothing otherwise."""
    if line == "tcp":
        return heard[6:] if len(heard) > 7 else b""
    if line == "ascii":
        with contextlib.suppress(ValueError):
            body = bytes.fromhex(heard.strip()[1:].decode())
            return body[:-1] if sum(body) & 0xFF == 0 else b""
        return b""
    crc = 0xFFFF
    for byte in heard:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return heard[:-2] if heard and crc == 0 else b""


async def test_probability_and_count_and_start_are_seeded(tmp_path: Path) -> None:
    fault = FaultTable(kind=Misbehaviour.SILENCE, probability=0.5, count=3, after=2)
    silent = []
    for run in range(2):
        async with wire("tcp", tmp_path / str(run), fault) as (_, client):
            silent.append(
                [not await client.ask(client.frame(READ_PH), quiet_s=0.05) for _ in range(14)]
            )
    assert silent[0] == silent[1]
    assert sum(silent[0]) == 3
    assert silent[0][:2] == [False, False]


async def test_a_register_refused_inside_a_block(tmp_path: Path) -> None:
    async with wire("rtu", tmp_path) as (plant, client):
        plant.control("hl-001", "ph").refused = frozenset({0x2602})
        assert await client.ask(client.frame(READ_PH)) == client.frame(bytes([0x83, 2]))
        alone = await client.ask(client.frame(bytes.fromhex("0326000002")))
        assert alone == expected(client, tmp_path)


async def test_a_serial_bus_is_silent_for_who_is_not_there(tmp_path: Path) -> None:
    async with wire("rtu", tmp_path) as (_, client):
        assert await client.ask(client.frame(READ_PH, unit=9)) == b""
        assert await client.ask(client.frame(READ_PH))


async def test_a_request_with_a_wrong_check_is_not_answered(tmp_path: Path) -> None:
    async with wire("rtu", tmp_path) as (_, client):
        request = client.frame(READ_PH)
        assert await client.ask(request[:-1] + bytes([request[-1] ^ 1])) == b""
        assert await client.ask(request)


async def test_a_timed_bus_takes_its_time_and_hears_its_own_baud_only(tmp_path: Path) -> None:
    async with wire("rtu", tmp_path, timed=True) as (_, client):
        request = client.frame(READ_PH)
        settings = termios.tcgetattr(client.descriptor)
        settings[4] = settings[5] = termios.B4800
        termios.tcsetattr(client.descriptor, termios.TCSANOW, settings)
        assert await client.ask(request) == b""
        settings[4] = settings[5] = termios.B9600
        termios.tcsetattr(client.descriptor, termios.TCSANOW, settings)
        started = time.monotonic()
        heard = b""
        os.write(client.descriptor, request)
        while len(heard) < 13:
            heard += await client.some(1.0)
        # 21 characters of 10 bits at 9600 baud: never faster than the line.
        assert time.monotonic() - started >= 21 * 10 / 9600


async def test_a_trigger_makes_a_fresh_sample(tmp_path: Path) -> None:
    probe = DeviceTable(station="hl-001", path="ec", model="aqualabo_c4e")
    async with running(plant_on("rtu", tmp_path, probe)):
        client = Wire("rtu", None, None, tmp_path / "bus")
        try:
            read = client.frame(bytes.fromhex("0300530008"), unit=30)
            start = client.frame(bytes.fromhex("10 0001 0001 02 001F"), unit=30)
            first, second = await client.ask(read), await client.ask(read)
            assert await client.ask(start) == client.frame(bytes.fromhex("1000010001"), unit=30)
            third = await client.ask(read)
        finally:
            await client.close()
    assert first == second != third


async def test_who_are_you_is_answered_in_the_models_way(tmp_path: Path) -> None:
    soil = DeviceTable(station="hl-001", path="soil", model="renke_soil_7in1", unit_id=9)
    async with running(plant_on("rtu", tmp_path, soil)):
        client = Wire("rtu", None, None, tmp_path / "bus")
        try:
            asked = client.frame(bytes.fromhex("0307D00001"), unit=0xFF)
            answer = await client.ask(asked)
        finally:
            await client.close()
    assert answer == client.frame(bytes.fromhex("03020009"), unit=0xFF)


@pytest.mark.parametrize(("line", "kind"), [(a, kind) for a in LINES for kind in sorted(able(a))])
async def test_no_misbehaviour_gets_a_wrong_value_past_the_driver(
    line: str, kind: Misbehaviour, tmp_path: Path
) -> None:
    """Behaviour 8, small: what the driver says is in the journal, whatever the instrument did, and it recovers."""
    timeout_s = 0.05
    sim = DeviceTable(
        station="s", path="probe", model="boqu_phg2091", unit_id=3, late_s=2.5 * timeout_s
    )
    seen: set[tuple[str, float]] = set()
    whole: list[bool] = []
    async with running(plant_on(line, tmp_path, sim)) as plant:
        # Three times: once with the one before still about, and once more when all was well again.
        control = plant.control("s", "probe")
        control.behave([None, kind, kind, None, None, kind])
        table = place(line, tmp_path, plant) | {
            "path": "probe",
            "model": "boqu_phg2091",
            "unit_id": 3,
            "timeout_s": timeout_s,
        }
        device = parse(table, "test")
        session = open_session(device, lambda: 0)
        try:
            while len(whole) < 40 and not (len(whole) > 6 and not control.script and whole[-1]):
                good: dict[str, float] = {}
                with contextlib.suppress(LinkError):
                    for raw in await session.poll(device):
                        if raw.reading.value is not None:
                            good[raw.reading.indicator] = raw.reading.value
                whole.append(len(good) == len(device.points))
                seen |= good.items()
        finally:
            await session.close()
    truth = {
        (code, float(Fraction(text)))
        for reply in read_all(tmp_path / REPLIES, Reply)
        for code, text in reply.values.items()
    }
    assert seen <= truth
    assert whole[-1], whole
    assert {row.kind for row in read_all(tmp_path / MISBEHAVED, Misbehaved)} == {kind}
