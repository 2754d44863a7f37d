"""The Modbus simulator speaks the real protocol, and its journal is what a stranger's client reads."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from pymodbus.client import AsyncModbusTcpClient

from demo.journal import REPLIES, STAGED, Reply, Staged, read_all
from demo.simulators.config import DeviceTable, ExcursionTable, GatewayTable, SimConfig
from demo.simulators.plant import Plant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOIL = DeviceTable(station="hl-001", path="plot1/soil1", model="renke_soil_7in1", unit_id=1)
PH = DeviceTable(station="hl-001", path="canal/ph", model="boqu_phg2091", unit_id=2)
SOLIDS = DeviceTable(station="hl-001", path="canal/ss", model="supmea_turbidity_mlss", unit_id=3)
WEATHER = DeviceTable(station="hl-001", path="weather/ws1", model="ecowitt_wn90lp", unit_id=144)
LEVEL = DeviceTable(station="hl-001", path="canal/level", model="keller_30x", unit_id=5)


def config(directory: Path, *excursions: ExcursionTable) -> SimConfig:
    return SimConfig(
        journal_dir=directory,
        gateway=[GatewayTable(port=0, device=[SOIL, PH, SOLIDS, WEATHER, LEVEL])],
        excursion=list(excursions),
    )


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    async with Plant(config(tmp_path)) as running:
        yield running


@contextlib.asynccontextmanager
async def client_of(plant: Plant, **options: float) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient("127.0.0.1", port=plant.ports[0], **options)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


def values_of(reply: Reply) -> dict[str, Fraction]:
    return {indicator: Fraction(text) for indicator, text in reply.values.items()}


async def test_integers_decode_to_the_journal(plant: Plant, tmp_path: Path) -> None:
    async with client_of(plant) as client:
        answer = await client.read_holding_registers(0, count=9, device_id=1)
    (reply,) = read_all(tmp_path / REPLIES, Reply)
    assert bytes.fromhex(reply.registers) == struct.pack(">9H", *answer.registers)
    values = values_of(reply)
    assert values["soil_moisture"] == Fraction(answer.registers[0], 10)
    assert values["soil_temperature"] == Fraction(answer.registers[1], 10)
    assert values["soil_tds"] == answer.registers[8]
    assert len(values) == 9
    assert (reply.station, reply.device, reply.serving) == ("hl-001", "plot1/soil1", 1)


async def test_little_endian_floats_decode_to_the_journal(plant: Plant, tmp_path: Path) -> None:
    async with client_of(plant) as client:
        answer = await client.read_holding_registers(0x2600, count=4, device_id=2)
    (reply,) = read_all(tmp_path / REPLIES, Reply)
    wire = struct.pack(">4H", *answer.registers)
    temperature, ph = struct.unpack("<ff", wire)
    assert values_of(reply) == {
        "water_temperature": Fraction(temperature),
        "water_ph": Fraction(ph),
    }
    assert 7 < ph < 8.5


async def test_wide_integers_offsets_and_units_decode_to_the_journal(
    plant: Plant, tmp_path: Path
) -> None:
    async with client_of(plant) as client:
        solids = await client.read_holding_registers(0, count=4, device_id=3)
        weather = await client.read_holding_registers(0x0165, count=10, device_id=144)
        level = await client.read_holding_registers(2, count=2, device_id=5)
    first, second, third = read_all(tmp_path / REPLIES, Reply)
    turbidity, suspended = struct.unpack(">ii", struct.pack(">4H", *solids.registers))
    assert values_of(first) == {
        "water_turbidity": Fraction(turbidity, 100),
        "water_suspended_solids": Fraction(suspended, 10),
    }
    assert values_of(second)["air_temperature"] == Fraction(weather.registers[2] - 400, 10)
    assert values_of(second)["air_rain_counter"] == Fraction(weather.registers[9], 100)
    (bar,) = struct.unpack(">f", struct.pack(">2H", *level.registers))
    assert values_of(third) == {"water_pressure": Fraction(bar) * 100}


async def test_each_reply_carries_a_fresh_sample(plant: Plant, tmp_path: Path) -> None:
    async with client_of(plant) as client:
        for _ in range(5):
            await client.read_holding_registers(0x2600, count=4, device_id=2)
    replies = read_all(tmp_path / REPLIES, Reply)
    assert [reply.serving for reply in replies] == [1, 2, 3, 4, 5]
    assert len({reply.registers for reply in replies}) == 5
    assert plant.served("hl-001", "canal/ph") == 5


async def test_frozen_instrument_repeats_itself(plant: Plant, tmp_path: Path) -> None:
    plant.control("hl-001", "canal/ph").frozen = True
    async with client_of(plant) as client:
        for _ in range(3):
            await client.read_holding_registers(0x2600, count=4, device_id=2)
    assert len({reply.registers for reply in read_all(tmp_path / REPLIES, Reply)}) == 1


async def test_part_of_a_value_is_not_a_value(plant: Plant, tmp_path: Path) -> None:
    async with client_of(plant) as client:
        await client.read_holding_registers(0x2601, count=3, device_id=2)
    (reply,) = read_all(tmp_path / REPLIES, Reply)
    assert list(reply.values) == ["water_ph"]


@pytest.mark.parametrize(
    ("address", "count", "unit", "code"),
    [
        (9, 1, 1, 2),  # behind the map
        (8, 2, 1, 2),  # over its end
        (0, 10, 1, 3),  # more than the model takes
        (0, 1, 77, 0x0B),  # nobody there
    ],
)
async def test_refusals_are_exceptions_and_not_served(
    plant: Plant, tmp_path: Path, address: int, count: int, unit: int, code: int
) -> None:
    async with client_of(plant) as client:
        answer = await client.read_holding_registers(address, count=count, device_id=unit)
    assert answer.isError()
    assert answer.exception_code == code
    assert read_all(tmp_path / REPLIES, Reply) == []


async def test_other_functions_are_refused(plant: Plant) -> None:
    async with client_of(plant) as client:
        assert (await client.write_register(0, 1, device_id=1)).exception_code == 1
        assert (await client.read_input_registers(0, count=1, device_id=1)).exception_code == 1


async def exchange(plant: Plant, request: bytes, *, size: int) -> bytes:
    """Send raw bytes and return ``size`` bytes of the answer, fewer at the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plant.ports[0])
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.readexactly(size)
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    finally:
        writer.close()
        await writer.wait_closed()


READ_SOIL = bytes.fromhex("0007 0000 0006 01 03 0000 0001")


async def test_reply_has_the_header_of_its_request(plant: Plant, tmp_path: Path) -> None:
    answer = await exchange(plant, READ_SOIL, size=11)
    (reply,) = read_all(tmp_path / REPLIES, Reply)
    assert answer.hex() == "0007000000050103" + "02" + reply.registers


async def test_hang_up_closes_and_serves_nothing(plant: Plant, tmp_path: Path) -> None:
    plant.control("hl-001", "plot1/soil1").hang_up = True
    assert await exchange(plant, READ_SOIL, size=1) == b""
    assert read_all(tmp_path / REPLIES, Reply) == []


async def test_silent_instrument_leaves_the_line_to_the_others(
    plant: Plant, tmp_path: Path
) -> None:
    plant.control("hl-001", "plot1/soil1").silent = True
    read_ph = bytes.fromhex("0008 0000 0006 02 03 2600 0004")
    answer = await exchange(plant, READ_SOIL + read_ph, size=17)
    assert answer[:2] == b"\x00\x08"
    assert [reply.device for reply in read_all(tmp_path / REPLIES, Reply)] == ["canal/ph"]


async def test_exception_on_command(plant: Plant) -> None:
    plant.control("hl-001", "plot1/soil1").exception_code = 4
    assert (await exchange(plant, READ_SOIL, size=9)).hex() == "0007000000030183" + "04"


async def test_broken_header_ends_the_connection(plant: Plant) -> None:
    assert await exchange(plant, bytes.fromhex("0007 0001 0006 01 03 0000 0001"), size=1) == b""


async def test_delayed_reply_is_served_before_quiet_returns(plant: Plant, tmp_path: Path) -> None:
    control = plant.control("hl-001", "plot1/soil1")
    control.delay_s = 0.3
    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(exchange(plant, READ_SOIL, size=11))
        while not plant.gateways[0].busy:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await plant.quiet()
    assert len(answer.result()) == 11
    assert len(read_all(tmp_path / REPLIES, Reply)) == 1
    assert await exchange(plant, READ_SOIL, size=1) == b""
    assert len(read_all(tmp_path / REPLIES, Reply)) == 1


async def test_staged_breach_is_known_from_the_script(tmp_path: Path) -> None:
    acid = ExcursionTable(
        name="acid",
        station="hl-001",
        device="canal/ph",
        indicator="water_ph",
        target=5.0,
        start_s=0.0,
        ramp_s=0.05,
        hold_s=600.0,
        comparator="<",
        limit="5.5",
    )
    async with Plant(config(tmp_path, acid)) as plant, client_of(plant) as client:
        async with asyncio.timeout(20):
            while not any(s.phase == "breached" for s in read_all(tmp_path / STAGED, Staged)):
                await client.read_holding_registers(0x2600, count=4, device_id=2)
    staged = read_all(tmp_path / STAGED, Staged)
    replies = read_all(tmp_path / REPLIES, Reply)
    (breach,) = [s for s in staged if s.phase == "breached"]
    assert Fraction(breach.value) < Fraction("5.5")
    assert breach.value == replies[-1].values["water_ph"]
    assert all(values_of(reply)["water_ph"] >= Fraction("5.5") for reply in replies[:-1])
