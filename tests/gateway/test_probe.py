from __future__ import annotations

import asyncio
import struct
import threading
import tomllib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agrigate import main
from drivers.errors import LinkError
from drivers.modbus import config as modbus_config
from drivers.modbus.fit import Expected, fits
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.points import ORDERS, PointType, value_of, write_raw
from drivers.modbus.session import open_link
from gateway import probe as probing
from tests.drivers.modbus.conftest import Slaves
from tests.gateway.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class TcpDevice(threading.Thread):
    """A Modbus TCP server in a thread of its own; ``answer(unit, pdu)`` gives the reply's PDU, None for silence."""

    def __init__(self, answer: Callable[[int, bytes], bytes | None]) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self.port = 0
        self.heard: list[tuple[int, bytes]] = []

    def run(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._ended.wait()
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6]) - 1)
                self.heard.append((head[6], pdu))
                reply = self._answer(head[6], pdu)
                if reply is not None:
                    writer.write(head[:4] + (len(reply) + 1).to_bytes(2) + head[6:7] + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await writer.wait_closed()

    def __enter__(self) -> TcpDevice:
        self.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(10)


def memory(
    words: dict[int, int], *, unit: int = 5, function: int = 3
) -> Callable[[int, bytes], bytes | None]:
    """Answer reads of ``words``; refuse what lies beside them, and writes by failing the test."""

    def answer(asked: int, pdu: bytes) -> bytes | None:
        assert pdu[0] in (1, 2, 3, 4), f"not a read: {pdu.hex()}"
        if asked != unit:
            return None
        if pdu[0] != function:
            return bytes((pdu[0] | 0x80, 1))
        address, count = struct.unpack(">HH", pdu[1:])
        if any(a not in words for a in range(address, address + count)):
            return bytes((pdu[0] | 0x80, 2))
        data = struct.pack(f">{count}H", *(words[a] for a in range(address, address + count)))
        return bytes((pdu[0], len(data))) + data

    return answer


def run(port: int, *more: str) -> Result:
    arguments = ["probe", "modbus", "--host", "127.0.0.1", "--port", str(port), "--unit", "5"]
    return CliRunner().invoke(main, [*arguments, "--timeout", "0.2", *more])


@pytest.fixture
def level() -> Iterator[TcpDevice]:
    """A meter that shows 229.01 in registers 16 and 17, low word first, among other numbers."""
    around = {address: 1000 + address for address in range(10, 24)}
    around |= dict(enumerate(write_raw(PointType.F32, "CDAB", 229.01), start=16))
    with TcpDevice(memory(around)) as device:
        yield device


def test_the_example_of_the_issue(level: TcpDevice) -> None:
    result = run(level.port, "--address", "16", "--expect", "229.01")
    assert result.exit_code == 0, result.output
    first = next(line for line in result.stdout.splitlines() if line.startswith("# 1."))
    assert "address 16 " in first
    assert "f32" in first
    assert "order CDAB" in first
    assert all(pdu[0] in (3, 4) for _, pdu in level.heard)


def test_the_printed_table_can_be_pasted_and_reads_the_value(level: TcpDevice) -> None:
    names = ["--path", "pond/level", "--indicator", "water_level", "--in", "m"]
    result = run(level.port, "--address", "17", "--expect", "229.01", *names)
    table = tomllib.loads(result.stdout)["station"]["device"][0]
    device = modbus_config.parse(table, "pasted")
    (point,) = device.points
    assert (point.address, point.order, device.unit_id) == (16, "CDAB", 5)
    value, quality = value_of(point, write_raw(PointType.F32, "CDAB", 229.01))
    assert quality is None
    assert value == pytest.approx(229.01)


def test_integers_are_found_with_their_scale_and_a_shifted_address() -> None:
    with TcpDevice(memory({40: 9, 41: 22901, 42: 7})) as device:
        result = run(device.port, "--address", "42", "--expect", "229.01", "--indicator", "soil_ec")
    assert result.exit_code == 0
    assert "address 41 (-1)  u16 or i16  × 0.01" in result.stdout
    assert 'scale = "0.01"' in result.stdout


def test_input_registers_are_tried_when_holding_ones_are_refused() -> None:
    with TcpDevice(memory(dict.fromkeys(range(20), 71), function=4)) as device:
        result = run(device.port, "--address", "8", "--expect", "7.1")
    assert result.exit_code == 0
    assert "function = 4" in result.stdout


def test_nothing_that_fits_ends_with_1_and_shows_what_was_read(level: TcpDevice) -> None:
    result = run(level.port, "--address", "16", "--expect", "5.5555")
    assert result.exit_code == 1
    assert "16: " in result.stdout
    assert "nothing here reads as 5.5555" in result.stderr


def test_a_silent_unit_and_a_closed_port_end_with_1() -> None:
    with TcpDevice(memory({0: 1}, unit=9)) as device:
        silent = run(device.port, "--address", "0", "--expect", "1")
    refused = run(free_port(), "--address", "0", "--expect", "1")
    for result in (silent, refused):
        assert result.exit_code == 1
        assert "no answer" in result.stderr
    assert "try --framing rtu" in silent.stderr
    assert "no connection: Connection refused" in refused.stderr
    assert "try" not in refused.stderr


def test_a_unit_that_refuses_all_registers_is_told_from_a_silent_one() -> None:
    with TcpDevice(lambda _unit, pdu: bytes((pdu[0] | 0x80, 2))) as device:
        result = run(device.port, "--address", "40001", "--expect", "20")
    assert result.exit_code == 1
    assert "# function 3: refuses 39997 to 40006: exception 2 illegal address" in result.stdout
    assert "40001 is 0" in result.stderr
    assert "no answer" not in result.stderr


@pytest.mark.parametrize(
    "more",
    [
        ["--expect", "abc", "--address", "0"],
        ["--expect", "nan", "--address", "0"],
        ["--expect", "1e999", "--address", "0"],
        ["--expect", "1", "--address", "70000"],
        ["--expect", "1"],
        ["--expect", "1", "--address", "0", "--baud", "9600"],
        ["--expect", "1", "--address", "0", "--serial", "/dev/ttyUSB0"],
        ["--expect", "1", "--address", "0", "--framing", "ascii"],
    ],
)
def test_wrong_usage_ends_with_2(more: list[str]) -> None:
    assert run(502, *more).exit_code == 2


def test_zero_is_said_to_prove_nothing() -> None:
    with TcpDevice(memory(dict.fromkeys(range(20), 0))) as device:
        result = run(device.port, "--address", "8", "--expect", "0.0")
    assert "0 reads as 0 in every type" in result.stdout


async def test_an_rtu_device_that_answers_single_registers_only(tmp_path: Path) -> None:
    words = {6: 229, 7: 1, 8: 2}
    reads = memory(words)

    def answer(unit: int, pdu: bytes, _n: int) -> bytes | None:
        return reads(unit, pdu) if pdu[3:5] == b"\0\1" else None

    slaves = Slaves(tmp_path / "tty", answer)
    slaves.plug_in()
    line = SerialLine(str(slaves.link))
    link = open_link(line)
    question = probing.Question(5, 6, 1, 1, (3,), Expected.of("22.9"), 0.05)
    try:
        found = await probing.probe(link, line, question)
    finally:
        await link.close()
        slaves.unplug()
    assert found.registers == {3: {6: 229, 7: 1}}
    assert (found.fits[0].address, found.fits[0].type, found.fits[0].scale) == (6, "u16", "0.1")
    table = probing.device_table(
        line, question, found.fits[0], path="p", indicator="soil_ec", unit="uS/cm"
    )
    device = modbus_config.parse(tomllib.loads(table)["station"]["device"][0], "pasted")
    assert device.line == line


async def test_a_line_that_cannot_be_opened_raises_link_error(tmp_path: Path) -> None:
    line = SerialLine(str(tmp_path / "none"))
    link = open_link(line)
    question = probing.Question(5, 6, 1, 1, (3,), Expected.of("1"), 0.05)
    with pytest.raises(LinkError):
        await probing.probe(link, line, question)


KINDS = [
    PointType.U16,
    PointType.I16,
    PointType.F32,
    PointType.U32,
    PointType.I32,
    PointType.F64,
    PointType.U64,
    PointType.I64,
    PointType.BCD16,
    PointType.BCD32,
]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_was_written_is_among_the_fits(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    order = data.draw(st.sampled_from(ORDERS[kind.words]))
    power = 0 if kind.is_float else data.draw(st.integers(-4, 2))
    if kind.is_float:
        number = data.draw(st.integers(-99_999, 99_999))
        assume(number)
        raw, shown = number / 100, f"{number / 100:.2f}"
    else:
        low = 0 if kind in (PointType.BCD16, PointType.BCD32) or kind.startswith("u") else -9999
        number = data.draw(st.integers(low, 9999))
        assume(number)
        raw = float(number)
        shown = f"{number * 10**power}" if power >= 0 else f"{number / 10**-power:.{-power}f}"
    address = data.draw(st.integers(0, 100))
    words = dict(enumerate(write_raw(kind, order, raw), start=address))
    found = fits({3: words}, address, Expected.of(shown))
    assert any(
        fit.address == address
        and (fit.order or "AB") == order
        and (kind == fit.type or str(kind) in fit.also)
        and fit.power == power
        for fit in found
    )


@given(
    words=st.lists(st.integers(0, 0xFFFF), max_size=8),
    text=st.sampled_from(["229.01", "-3", "0", "1e3"]),
)
@settings(max_examples=100, deadline=None)
def test_any_registers_are_compared_and_only_what_fits_is_said(words: list[int], text: str) -> None:
    expected = Expected.of(text)
    for fit in fits({3: dict(enumerate(words))}, 0, expected):
        assert abs(fit.value - float(expected.value)) <= float(expected.tolerance) * 1.0001 + 1e-9


def test_digits_given_are_the_tolerance() -> None:
    words = dict(enumerate(write_raw(PointType.F32, "ABCD", 229.0149)))
    assert fits({3: words}, 0, Expected.of("229.01"))[0].type == "f32"
    assert not [f for f in fits({3: words}, 0, Expected.of("229.010")) if f.type == "f32"]
    assert fits({3: words}, 0, Expected.of("229.010", "0.1"))[0].type == "f32"


def test_the_line_of_a_bridge_is_written_out() -> None:
    question = probing.Question(5, 0, 1, 0, (3,), Expected.of("1"), 0.1)
    (fit, *_) = fits({3: {0: 1}}, 0, Expected.of("1"))
    line = TcpLine("10.0.0.5", 8899, "rtu")
    table = probing.device_table(line, question, fit, path="p", indicator="soil_n", unit="mg/kg")
    assert modbus_config.parse(tomllib.loads(table)["station"]["device"][0], "x").line == line
