from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from drivers.modbus.serial_frames import rtu
from gateway import config, once
from gateway.cli import edge
from gateway.schedule import Clock
from tests.drivers.modbus.conftest import Slaves, registers

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '[agent]\ndata_dir = "data"\n[broker]\nhost = "127.0.0.1"\nport = 1\n[[station]]\ncode = "hl-001"\n'


def device(keys: str) -> str:
    return f'{HEAD}[[station.device]]\npath = "p/a"\ndriver = "modbus"\nunit_id = 5\n{keys}\n'


async def test_each_value_stands_beside_its_own_bytes_on_a_serial_line(tmp_path: Path) -> None:
    slaves = Slaves(tmp_path / "tty", lambda _unit, _pdu, _n: registers(0x01EF, 0x41B5, 0xC079))
    slaves.plug_in()
    file = tmp_path / "edge.toml"
    points = (
        '{ indicator = "soil_moisture", address = 0, type = "u16", scale = "0.1", unit = "%" }, '
        '{ indicator = "water_temperature", address = 1, type = "f32", order = "ABCD", unit = "Cel" }'
    )
    file.write_text(device(f'serial = "{slaves.link}"\npoints = [{points}]'))
    shown: list[str] = []
    try:
        assert await once.read_once(config.load(file), Clock(), shown.append)
    finally:
        slaves.unplug()
    text = [line.split() for line in shown]
    assert ["request", *rtu(5, bytes((3, 0, 0, 0, 3))).hex(" ").split()] in text
    assert ["reply", *rtu(5, registers(0x01EF, 0x41B5, 0xC079)).hex(" ").split()] in text
    assert ["soil_moisture", "49.5", "%", "good", "01", "ef"] in text
    (water,) = [line for line in text if line[0] == "water_temperature"]
    assert water[3:] == ["good", "41", "b5", "c0", "79"]


async def test_a_refused_value_has_no_bytes_of_its_own(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readexactly(12))[:4]
                writer.write(head + b"\0\3\5\x83\2")
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()
            ended.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "edge.toml"
    point = '{ indicator = "soil_moisture", address = 0, type = "u16", unit = "%" }'
    file.write_text(device(f'host = "127.0.0.1"\nport = {port}\npoints = [{point}]'))
    shown: list[str] = []
    async with server:
        assert not await once.read_once(config.load(file), Clock(), shown.append)
        async with asyncio.timeout(10):
            await ended.wait()
    assert shown[-1].split() == ["soil_moisture", "-", "%", "bad:illegal_address"]


@pytest.mark.parametrize("kind", ["f32", "u32", "i32", "u64", "f64"])
def test_check_refuses_a_multi_word_point_without_an_order(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "edge.toml"
    point = f'{{ indicator = "soil_moisture", address = 0, type = "{kind}", unit = "%" }}'
    file.write_text(device(f'host = "10.0.0.5"\npoints = [{point}]'))
    result = CliRunner().invoke(edge, ["-c", str(file), "--check"])
    assert result.exit_code == 2
    (fault,) = result.stderr.splitlines()
    assert str(file) in fault
    assert "points[0]" in fault
    assert "order" in fault
    file.write_text(device(f'host = "10.0.0.5"\norder = "CDAB"\npoints = [{point}]'))
    assert CliRunner().invoke(edge, ["-c", str(file), "--check"]).exit_code == 0


def test_check_refuses_a_model_whose_order_nobody_stated(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(device('host = "10.0.0.5"\nmodel = "boqu_bh485_nh"'))
    result = CliRunner().invoke(edge, ["-c", str(file), "--check"])
    assert result.exit_code == 2
    assert f"{file}" in result.stderr
    assert ".order: is missing" in result.stderr
