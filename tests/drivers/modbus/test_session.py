"""The session against a real pymodbus server and against a server that misbehaves."""

import asyncio
import contextlib
import itertools
import struct

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.errors import LinkError
from drivers.modbus.config import parse
from drivers.modbus.frames import mbap_frame, read_request
from drivers.modbus.lines import TcpLine
from drivers.modbus.points import PointType, write_raw
from drivers.modbus.session import ModbusSession, open_link, open_session

UNIT = 7


def device(port, *, path="plot/probe", points=None, **more):
    if points is None and "model" not in more:
        points = [point(f, i) for i, f in enumerate(INDICATORS)]
    table = {"path": path, "host": "127.0.0.1", "port": port, "unit_id": UNIT, "timeout_s": 5.0}
    return parse(table | ({"points": points} if points else {}) | more, "test")


INDICATORS = [
    "soil_moisture",
    "soil_temperature",
    "soil_ec",
    "soil_ph",
    "soil_n",
    "soil_p",
    "soil_k",
]
UNITS = {"soil_moisture": "%", "soil_temperature": "Cel", "soil_ec": "uS/cm", "soil_ph": "[pH]"}


def point(indicator, address, **more):
    unit = UNITS.get(indicator, "mg/kg")
    return {"indicator": indicator, "address": address, "type": "u16", "unit": unit} | more


def clock(start=1_763_900_000_000):
    ticks = itertools.count(start, 100)
    return lambda: next(ticks)


@contextlib.asynccontextmanager
async def session_for(config, now_ms=None):
    session = open_session(config, now_ms or clock())
    try:
        yield session
    finally:
        await session.close()


@contextlib.asynccontextmanager
async def pymodbus_server(simdata, unit=UNIT):
    server = ModbusTcpServer([SimDevice(unit, simdata)], address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


class Scripted:
    """A Modbus server of a few lines that does what ``answer(unit, function, address, count, n)`` says.

    ``answer`` returns a PDU or (transaction, unit, PDU) triples; None keeps silent, ``HANG_UP`` closes.
    """

    HANG_UP = object()

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.connections = 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readexactly(6)
                adu = head + await reader.readexactly(int.from_bytes(head[4:], "big"))
                frame = mbap_frame(adu)
                asked = read_request(frame.pdu)
                self.requests.append(asked)
                reply = self.answer(frame.unit, *asked, len(self.requests))
                if reply is self.HANG_UP:
                    return
                if reply is None:
                    continue
                if isinstance(reply, bytes):
                    reply = [(frame.transaction, frame.unit, reply)]
                for transaction, unit, pdu in reply:
                    writer.write(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]


def words(*values):
    return bytes([3, 2 * len(values)]) + b"".join(v.to_bytes(2, "big") for v in values)


def good(address, count):
    return words(*range(address + 1, address + 1 + count))


def by_indicator(raws):
    return {
        r.reading.indicator: r.reading.value if r.reading.quality is None else r.reading.quality
        for r in raws
    }


async def test_a_model_is_read_from_a_real_server():
    registers = [235, 65_471, 640, 65, 12, 8, 110, 350, 320]
    async with (
        pymodbus_server([SimData(0, values=registers, datatype=DataType.REGISTERS)]) as port,
        session_for(device(port, model="renke_soil_7in1"), clock(1000)) as session,
    ):
        raws = await session.poll(device(port, model="renke_soil_7in1"))
    assert by_indicator(raws) == {
        "soil_moisture": 23.5,
        "soil_temperature": -6.5,
        "soil_ec": 640.0,
        "soil_ph": 6.5,
        "soil_n": 12.0,
        "soil_p": 8.0,
        "soil_k": 110.0,
        "soil_salinity": 350.0,
        "soil_tds": 320.0,
    }
    assert {r.reading.device for r in raws} == {"plot/probe"}
    assert {r.reading.t_ms for r in raws} == {
        1050
    }  # half-way between request (1000) and answer (1100)
    (request,) = {r.request for r in raws}
    (reply,) = {r.reply for r in raws}
    assert read_request(mbap_frame(request).pdu) == (3, 0, 9)
    assert mbap_frame(request).unit == UNIT
    assert mbap_frame(reply).pdu[2:] == struct.pack(">9H", *registers)


async def test_every_wide_type_and_order_arrives_to_the_last_bit():
    cases = [
        ("u32", "CDAB", 3_000_000_001),
        ("i32", "DCBA", -2),
        ("f32", "BADC", 0.15625),
        ("u64", "GHEFCDAB", 2**53 - 1),
        ("i64", "BADCFEHG", -(2**40)),
        ("f64", "HGFEDCBA", 4.2e-7),
        ("f64", "ABCDEFGH", 5e-324),
    ]
    codes = ["water_k", "water_b", "water_mn", "water_fe", "water_ag", "water_ba", "water_co"]
    points, registers = [], []
    for code, (kind, order, value) in zip(codes, cases, strict=True):
        unit = "mg/L"
        points.append(
            {
                "indicator": code,
                "address": len(registers),
                "type": kind,
                "order": order,
                "unit": unit,
            }
        )
        registers += write_raw(PointType(kind), order, value)
    async with (
        pymodbus_server([SimData(0, values=registers, datatype=DataType.REGISTERS)]) as port,
        session_for(device(port, points=points)) as session,
    ):
        got = by_indicator(await session.poll(device(port, points=points)))
    assert {code: struct.pack(">d", value) for code, value in got.items()} == {
        code: struct.pack(">d", value) for code, (_, _, value) in zip(codes, cases, strict=True)
    }


async def test_input_registers_are_asked_with_function_4():
    points = [point("soil_ph", 5, function=4, scale=0.01)]
    simdata = ([], [], [], [SimData(5, values=[655], datatype=DataType.REGISTERS)])
    blank = SimData(0, count=1, values=[0], datatype=DataType.REGISTERS)
    bits = SimData(0, count=1, values=[False] * 16, datatype=DataType.BITS)
    simdata = ([bits], [bits], [blank], simdata[3])
    async with (
        pymodbus_server(simdata) as port,
        session_for(device(port, points=points)) as session,
    ):
        assert by_indicator(await session.poll(device(port, points=points))) == {"soil_ph": 6.55}


async def test_one_refused_register_fails_alone_and_is_looked_for_once():
    def answer(_unit, _function, address, count, _n):
        return bytes([0x83, 2]) if address <= 4 < address + count else good(address, count)

    server = Scripted(answer)
    async with server.running() as port, session_for(device(port)) as session:
        first = await session.poll(device(port))
        searching = len(server.requests)
        second = await session.poll(device(port))
        asked = server.requests[searching:]
    expected = dict(zip(INDICATORS, map(float, range(1, 8)), strict=True))
    expected["soil_n"] = "bad:illegal_address"
    assert by_indicator(first) == by_indicator(second) == expected
    assert asked == [(3, 0, 4), (3, 4, 1), (3, 5, 2)]
    refused = next(r for r in second if r.reading.quality)
    assert refused.reading.value is None
    assert mbap_frame(refused.reply).pdu == bytes([0x83, 2])
    assert server.connections == 1


async def test_what_a_pymodbus_server_lacks_fails_alone():
    simdata = [
        SimData(0, values=[1, 2, 3], datatype=DataType.REGISTERS),
        SimData(4, values=[5, 6, 7], datatype=DataType.REGISTERS),
    ]
    async with pymodbus_server(simdata) as port, session_for(device(port)) as session:
        got = by_indicator(await session.poll(device(port)))
    assert got["soil_ph"] == "bad:illegal_address"
    assert [v for v in got.values() if isinstance(v, float)] == [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]


async def test_a_device_that_refuses_everything_is_halved_once():
    refusing = True

    def answer(_unit, _function, address, count, _n):
        return bytes([0x83, 2]) if refusing else good(address, count)

    server = Scripted(answer)
    async with server.running() as port, session_for(device(port)) as session:
        assert set(by_indicator(await session.poll(device(port))).values()) == {
            "bad:illegal_address"
        }
        before = len(server.requests)
        await session.poll(device(port))
        assert len(server.requests) == before + 1
        refusing = False  # it was only starting
        assert by_indicator(await session.poll(device(port)))["soil_k"] == 7.0


async def test_exact_blocks_are_never_cut():
    more = {"exact_blocks_only": True, "blocks": [{"address": 0, "count": 10}]}
    server = Scripted(lambda *_: bytes([0x83, 2]))
    async with server.running() as port, session_for(device(port, **more)) as session:
        got = by_indicator(await session.poll(device(port, **more)))
    assert set(got.values()) == {"bad:illegal_address"}
    assert server.requests == [(3, 0, 10)]


async def test_other_refusals_keep_their_name():
    server = Scripted(lambda *_: bytes([0x83, 6]))
    async with server.running() as port, session_for(device(port)) as session:
        got = by_indicator(await session.poll(device(port)))
    assert set(got.values()) == {"bad:device_busy"}
    assert len(server.requests) == 1


async def test_a_bridge_that_finds_nobody_is_no_answer():
    server = Scripted(lambda *_: bytes([0x83, 11]))
    async with server.running() as port, session_for(device(port)) as session:
        with pytest.raises(LinkError, match="gateway_no_answer"):
            await session.poll(device(port))


async def test_silence_is_a_link_error_that_names_the_request():
    config = {"timeout_s": 0.05}
    server = Scripted(lambda *_: None)
    async with server.running() as port, session_for(device(port, **config)) as session:
        with pytest.raises(LinkError, match=r"plot/probe: FC03 address 0 count 7.*did not answer"):
            await session.poll(device(port, **config))


async def test_a_late_answer_is_never_taken_for_the_next():
    late = []

    def answer(_unit, _function, address, count, n):
        if n == 1:
            late.append((1, UNIT, words(*[9] * count)))
            return None
        return [*late, (n, UNIT, good(address, count))]

    server = Scripted(answer)
    async with server.running() as port, session_for(device(port)) as session:
        with pytest.raises(LinkError):
            await session.poll(device(port, timeout_s=0.05))
        got = by_indicator(await session.poll(device(port)))
    assert list(got.values()) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert server.connections == 1


async def test_the_answer_of_another_unit_is_passed_over():
    server = Scripted(
        lambda _u, _f, a, c, n: [(n, UNIT + 1, words(*[9] * c)), (n, UNIT, good(a, c))]
    )
    async with server.running() as port, session_for(device(port)) as session:
        assert by_indicator(await session.poll(device(port)))["soil_moisture"] == 1.0


async def test_another_unit_alone_is_no_answer():
    server = Scripted(lambda _u, _f, _a, c, n: [(n, UNIT + 1, words(*[9] * c))])
    async with server.running() as port, session_for(device(port, timeout_s=0.05)) as session:
        with pytest.raises(LinkError):
            await session.poll(device(port, timeout_s=0.05))


@pytest.mark.parametrize(
    "reply",
    [
        [(0, UNIT, words(*[9] * 7))],  # transaction 0: pymodbus lets it pass
        words(*[9] * 6),  # short
        words(*[9] * 8),  # long
        bytes([3, 12]) + bytes(14),  # byte count says less than there is
        bytes([3, 14]) + bytes(12),  # and more
        bytes([4, 14]) + bytes(14),  # another function
        bytes([0x55, 1, 2, 3]),  # none at all
        bytes([0x83]),  # an exception without its code
    ],
    ids=[
        "transaction_0",
        "short",
        "long",
        "count_low",
        "count_high",
        "function",
        "unknown",
        "no_code",
    ],
)
async def test_a_reply_that_does_not_fit_gives_no_value_and_the_next_poll_is_good(reply):
    server = Scripted(lambda _u, _f, a, c, n: reply if n == 1 else good(a, c))
    async with server.running() as port, session_for(device(port)) as session:
        assert set(by_indicator(await session.poll(device(port))).values()) == {"bad:frame"}
        assert by_indicator(await session.poll(device(port)))["soil_k"] == 7.0


async def test_unit_0_takes_only_its_own_answer():
    points = [point("soil_ph", 0)]
    config = parse(
        {"path": "p", "host": "127.0.0.1", "port": 1, "unit_id": 0, "points": points}, "t"
    )
    server = Scripted(lambda _u, _f, _a, _c, n: [(n, 5 if n == 1 else 0, words(6))])
    async with server.running() as port:
        session = ModbusSession(open_link(TcpLine("127.0.0.1", port)), clock())
        try:
            assert by_indicator(await session.poll(config)) == {"soil_ph": "bad:frame"}
        finally:
            await session.close()


async def test_a_later_block_without_answer_does_not_spoil_the_first():
    points = [point("soil_moisture", 0), point("soil_ph", 10), point("soil_ec", 20)]
    config = {"points": points, "timeout_s": 0.2}
    server = Scripted(lambda _u, _f, a, c, _n: None if a == 10 else good(a, c))
    async with server.running() as port, session_for(device(port, **config)) as session:
        raws = await session.poll(device(port, **config))
    assert by_indicator(raws) == {
        "soil_moisture": 1.0,
        "soil_ph": "bad:no_answer",
        "soil_ec": "bad:no_answer",
    }
    assert next(r for r in raws if r.reading.indicator == "soil_ph").reply == b""


async def test_silence_while_a_refused_block_is_halved_keeps_what_was_read():
    silent = True

    def answer(_unit, _function, address, count, _n):
        if address <= 4 < address + count:
            return bytes([0x83, 2])
        return None if silent and address > 4 else good(address, count)

    server = Scripted(answer)
    config = {"timeout_s": 0.2}
    async with server.running() as port, session_for(device(port, **config)) as session:
        first = by_indicator(await session.poll(device(port, **config)))
        silent = False
        second = by_indicator(await session.poll(device(port, **config)))
    expected = dict(zip(INDICATORS, map(float, range(1, 8)), strict=True))
    expected["soil_n"] = "bad:illegal_address"
    assert second == expected  # the search that was cut short was made again
    assert first == expected | {"soil_p": "bad:no_answer", "soil_k": "bad:no_answer"}


async def test_hang_up_ends_the_wait_and_the_next_poll_reconnects():
    server = Scripted(lambda _u, _f, a, c, n: Scripted.HANG_UP if n == 2 else good(a, c))
    async with server.running() as port, session_for(device(port, timeout_s=60.0)) as session:
        config = device(port, timeout_s=60.0)
        await session.poll(config)
        async with asyncio.timeout(30):  # far below the device's own timeout
            with pytest.raises(LinkError, match="closed"):
                await session.poll(config)
        assert by_indicator(await session.poll(config))["soil_k"] == 7.0
    assert server.connections == 2


async def test_a_half_open_connection_is_given_up():
    server = Scripted(lambda _u, _f, a, c, _n: None if server.connections == 1 else good(a, c))
    async with server.running() as port, session_for(device(port)) as session:
        for _ in range(3):
            with pytest.raises(LinkError):
                await session.poll(device(port, timeout_s=0.05))
        assert by_indicator(await session.poll(device(port)))["soil_k"] == 7.0
    assert server.connections == 2


async def test_no_server_is_a_link_error_and_it_may_come_later():
    server = Scripted(lambda _u, _f, a, c, _n: good(a, c))
    async with server.running() as port:
        pass
    async with session_for(device(port)) as session:
        with pytest.raises(LinkError, match="no connection"):
            await session.poll(device(port))
        again = await asyncio.start_server(server.serve, "127.0.0.1", port)
        async with again:
            assert by_indicator(await session.poll(device(port)))["soil_k"] == 7.0
            await session.close()


async def test_cancelling_a_poll_leaves_the_session_usable():
    asked = asyncio.Event()

    def answer(_unit, _function, address, count, n):
        if n == 1:
            asked.set()
            return None
        return [(1, UNIT, words(*[9] * count)), (n, UNIT, good(address, count))]

    server = Scripted(answer)
    async with server.running() as port, session_for(device(port)) as session:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(session.poll(device(port)))
            await asked.wait()
            task.cancel()
        assert task.cancelled()
        assert by_indicator(await session.poll(device(port)))["soil_moisture"] == 1.0


async def test_two_devices_share_a_connection_and_keep_their_plans():
    def answer(unit, _function, address, count, _n):
        refused = unit == UNIT and address <= 4 < address + count
        return bytes([0x83, 2]) if refused else good(address, count)

    server = Scripted(answer)
    async with server.running() as port:
        one = device(port)
        other = parse(
            {
                "path": "plot/other",
                "host": "127.0.0.1",
                "port": port,
                "unit_id": 9,
                "points": [point(f, i) for i, f in enumerate(INDICATORS)],
            },
            "test",
        )
        assert one.bus == other.bus == f"tcp:127.0.0.1:{port}"
        async with session_for(one) as session:
            await session.poll(one)
            before = len(server.requests)
            assert by_indicator(await session.poll(other))["soil_n"] == 5.0
            assert len(server.requests) == before + 1
    assert server.connections == 1


async def test_close_twice_and_before_the_first_poll():
    session = ModbusSession(open_link(TcpLine("127.0.0.1", 1)), clock())
    await session.close()
    await session.close()
