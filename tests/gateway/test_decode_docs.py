"""docs/tools.md is followed to the letter."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agrigate import main
from drivers.modbus import config as modbus_config
from drivers.modbus.points import PointType, write_raw
from gateway import config, once
from gateway.schedule import Clock
from tests.drivers.modbus.conftest import Slaves, registers
from tests.gateway.test_probe import TcpDevice, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (Path(__file__).parents[2] / "docs/tools.md").read_text("utf-8")


def blocks(info: str) -> Iterator[str]:
    for kind, body in re.findall(r"^```(\S*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        if kind == info:
            yield body


@pytest.mark.parametrize("block", list(blocks("console")))
def test_decode_says_what_the_page_says(block: str) -> None:
    command, answer = block.split("\n", 1)
    said = re.fullmatch(r"\$ echo '(.*)' \| agrigate (.*)", command)
    assert said is not None
    result = CliRunner().invoke(main, shlex.split(said[2]), input=said[1])
    assert result.output == answer
    assert result.exit_code == (0 if '"good":false' not in answer else 1)


def test_the_probe_of_the_page_prints_the_table_of_the_page() -> None:
    (command,) = [
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("agrigate probe")
    ]
    (table,) = [block for block in blocks("text") if block.startswith("[[station.device]]")]
    words = dict(enumerate(write_raw(PointType.F32, "CDAB", 229.01), start=16))
    around = dict.fromkeys(range(30), 3) | words
    with TcpDevice(memory(around)) as device:
        arguments = shlex.split(command)[1:]
        arguments[arguments.index("--host") + 1] = "127.0.0.1"
        result = CliRunner().invoke(main, [*arguments, "--port", str(device.port)])
    assert result.exit_code == 0
    printed = result.stdout[result.stdout.index("[[station.device]]") :]
    expected = table.replace("192.168.10.5", "127.0.0.1").replace(
        "port = 502", f"port = {device.port}"
    )
    assert printed == expected
    modbus_config.parse(tomllib.loads(table)["station"]["device"][0], "docs")


async def test_once_prints_what_the_page_shows(tmp_path: Path) -> None:
    (shown,) = [block for block in blocks("text") if "request" in block]
    slaves = Slaves(tmp_path / "tty", lambda _unit, _pdu, _n: registers(0x01EF, 0x41B5, 0xC079))
    slaves.plug_in()
    file = tmp_path / "edge.toml"
    file.write_text(
        '[agent]\ndata_dir = "data"\n[broker]\nhost = "127.0.0.1"\nport = 1\n[[station]]\ncode = "hl-001"\n'
        f'[[station.device]]\npath = "plot3/soil1"\ndriver = "modbus"\nunit_id = 5\n'
        f'serial = "{slaves.link}"\npoints = ['
        '{ indicator = "soil_moisture", address = 0, type = "u16", scale = "0.1", unit = "%" }, '
        '{ indicator = "water_temperature", address = 1, type = "f32", order = "ABCD", unit = "Cel" }]\n'
    )
    lines: list[str] = []
    try:
        assert await once.read_once(config.load(file), Clock(), lines.append)
    finally:
        slaves.unplug()
    printed = "\n".join(lines).replace(str(slaves.link), "/dev/ttyUSB0")
    assert [line.split() for line in printed.splitlines()] == [
        line.split() for line in shown.splitlines()
    ]


def test_every_option_of_the_tools_is_on_the_page() -> None:
    for name in ("decode", "scan"):
        command = main.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        for parameter in command.params:
            for option in parameter.opts:
                assert not option.startswith("--") or option in TEXT or option == "--models"
