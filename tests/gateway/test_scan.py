from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from agrigate import main
from drivers.errors import LinkError
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.serial_frames import rtu
from drivers.modbus.session import open_link
from gateway import scan as scanning
from tests.drivers.modbus.conftest import Slaves
from tests.gateway.conftest import free_port
from tests.gateway.test_probe import TcpDevice, memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOIL = dict(enumerate([495, 324, 4, 65, 10, 11, 12, 13, 14]))  # the map of renke_soil_7in1
WEATHER = dict(enumerate([200, 13, 405, 60, 0, 0, 150, 0, 10010], start=0x165)) | {0x160: 0x90}


def run(port: int, *more: str) -> Result:
    arguments = ["scan", "--host", "127.0.0.1", "--port", str(port), "--timeout", "0.15", *more]
    return CliRunner().invoke(main, arguments)


def both(unit: int, pdu: bytes) -> bytes | None:
    return memory(SOIL, unit=5)(unit, pdu) or memory(WEATHER, unit=0x90)(unit, pdu)


def test_units_and_models_are_found_by_reading_only() -> None:
    with TcpDevice(both) as device:
        result = run(device.port, "--units", "4-6,144")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    soil = lines.index("unit 5: answers (register 0: 01EF)")
    assert any("renke_soil_7in1: " in line for line in lines[soil : soil + 4])
    weather = lines.index("unit 144: answers (refuses register 0: exception 2)")
    assert "ecowitt_wn90lp: " in lines[weather + 1]
    assert "device_code is 144" in lines[weather + 1]
    assert "2 of 4 unit ids answer" in lines
    assert {pdu[0] for _, pdu in device.heard} <= {3, 4}


def test_values_that_cannot_be_are_no_soil_probe() -> None:
    hot = SOIL | {3: 900}  # a soil of pH 90
    with TcpDevice(memory(hot, unit=5)) as device:
        result = run(device.port, "--units", "5")
    assert "unit 5: answers" in result.stdout
    assert "renke_soil_7in1: " not in result.stdout


def test_a_bridge_that_speaks_for_a_missing_unit_is_no_unit() -> None:
    def answer(unit: int, pdu: bytes) -> bytes | None:
        return memory(SOIL, unit=5)(unit, pdu) or bytes((pdu[0] | 0x80, 11))

    with TcpDevice(answer) as device:
        result = run(device.port, "--units", "1-8", "--no-models")
    assert "1 of 8 unit ids answer" in result.stdout


def test_a_server_that_ignores_the_unit_id_is_told() -> None:
    with TcpDevice(lambda unit, pdu: memory(SOIL, unit=unit)(unit, pdu)) as device:
        result = run(device.port, "--no-models")
    assert "nearly every unit id answers" in result.stdout


def test_nobody_there_ends_with_1() -> None:
    with TcpDevice(lambda _unit, _pdu: None) as device:
        silent = run(device.port, "--units", "1-3", "--no-models")
    closed = run(free_port(), "--units", "1-3")
    assert (silent.exit_code, closed.exit_code) == (1, 1)
    assert "0 of 3" in silent.stdout
    assert "try --framing rtu" in silent.stderr
    assert "the line does not work" in closed.stderr
    assert "Connection refused" in closed.stderr


@pytest.mark.parametrize("units", ["0", "248", "5-3", "a", "1-", "", "1,,2"])
def test_wrong_units_end_with_2(units: str) -> None:
    assert run(502, "--units", units).exit_code == 2


async def on_a_bus(
    tmp_path: Path,
    answer: Callable[[int, bytes, int], object],
    units: list[int],
    *,
    within_s: float = 60.0,
    name_models: bool = True,
) -> tuple[scanning.Found, list[tuple[int, bytes]]]:
    slaves = Slaves(tmp_path / "tty", answer)
    slaves.plug_in()
    line = SerialLine(str(slaves.link))
    link = open_link(line)
    how = scanning.Scan(units, 0.15, within_s, name_models=name_models)
    try:
        return await scanning.scan(link, line, how, lambda _: None), slaves.heard
    finally:
        await link.close()
        slaves.unplug()


async def test_a_probe_with_an_unknown_id_says_it_and_its_model(tmp_path: Path) -> None:
    soil = memory(SOIL, unit=5)

    def answer(unit: int, pdu: bytes, _n: int) -> bytes | None:
        if unit == 255 and pdu == struct.pack(">BHH", 3, 2000, 1):
            return b"\3\2\0\5"
        return soil(unit, pdu)

    found, heard = await on_a_bus(tmp_path, answer, [4, 5, 6])
    (unit,) = found.units
    assert unit.unit == 5
    assert unit.candidates[0].model in ("renke_soil_7in1", "comwintop_cwt_soil_thc_s")
    assert "answers its unit id query" in unit.candidates[0].why
    assert any("renke_soil_7in1: its unit id is 5" in query for query in found.queries)
    assert all(pdu[0] in (3, 4) for _, pdu in heard)


async def test_a_probe_that_answers_count_0_from_its_own_id_is_heard(tmp_path: Path) -> None:
    def answer(unit: int, pdu: bytes, _n: int) -> object:
        if unit == 254 and pdu == bytes.fromhex("0300500000"):
            return [(0, rtu(16, b"\3\2\0\x10"))]
        return None

    found, _ = await on_a_bus(tmp_path, answer, [1])
    assert any("unit 16 answered" in query and "dragino" in query for query in found.queries)


async def test_two_devices_that_answer_at_once_are_warned_of(tmp_path: Path) -> None:
    def answer(unit: int, _pdu: bytes, _n: int) -> object:
        if unit != 7:
            return None
        one, two = rtu(7, b"\3\2\0\x11"), rtu(7, b"\3\2\1\x22")
        return [(0, bytes(a & b for a, b in zip(one, two, strict=True)))]

    found, _ = await on_a_bus(tmp_path, answer, [6, 7, 8], name_models=False)
    assert found.units == []
    assert list(found.noisy) == [7]


async def test_time_is_bounded(tmp_path: Path) -> None:
    found, heard = await on_a_bus(
        tmp_path, lambda *_: None, list(range(1, 248)), within_s=0.3, name_models=False
    )
    assert found.stopped_at is not None
    assert found.asked < 247
    assert len(heard) < 60


async def test_a_missing_port_raises_link_error(tmp_path: Path) -> None:
    for line in (SerialLine(str(tmp_path / "none")), TcpLine("127.0.0.1", free_port())):
        link = open_link(line)
        how = scanning.Scan([1], 0.1, 10)
        with pytest.raises(LinkError):
            await scanning.scan(link, line, how, lambda _: None)
        await link.close()
