"""Lines: how a device's table names them; behaviour 6, eight RTU slaves on one of them, one dead for a while."""

import asyncio
import random
from itertools import pairwise

import pytest

from drivers.errors import ConfigError
from drivers.modbus.config import parse
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.registry import DRIVERS
from gateway.bus import DeviceBook, Member, group_by_bus, poll_bus
from gateway.packer import Packer
from gateway.schedule import BACK_OFF_MAX_S, JITTER, Clock
from gateway.wire import ClockTrust

DEAD = 3
POINT = {"indicator": "soil_ph", "address": 0, "type": "u16", "unit": "[pH]"}
BASE = {"path": "p", "unit_id": 1, "points": [POINT]}


@pytest.mark.parametrize(
    ("keys", "line", "bus", "gap_ms"),
    [
        ({"host": "10.0.0.7"}, TcpLine("10.0.0.7", 502, "tcp"), "tcp:10.0.0.7:502", 0),
        (
            {"host": "10.0.0.7", "port": 4196, "framing": "rtu"},
            TcpLine("10.0.0.7", 4196, "rtu"),
            "tcp:10.0.0.7:4196",
            20,
        ),
        (
            {"serial": "/dev/ttyS1"},
            SerialLine("/dev/ttyS1", 9600, "8N1", "rtu", echo=False),
            "serial:/dev/ttyS1",
            20,
        ),
        (
            {
                "serial": "/dev/ttyS1",
                "baud": 4800,
                "format": "7E1",
                "framing": "ascii",
                "echo": True,
            },
            SerialLine("/dev/ttyS1", 4800, "7E1", "ascii", echo=True),
            "serial:/dev/ttyS1",
            20,
        ),
        (
            {"serial": "/dev/ttyS1", "gap_ms": 0, "format": "8N2"},
            SerialLine("/dev/ttyS1", 9600, "8N2", "rtu"),
            "serial:/dev/ttyS1",
            0,
        ),
    ],
)
def test_a_table_names_its_line(keys, line, bus, gap_ms):
    device = parse(BASE | keys, "t")
    assert (device.line, device.bus, device.gap_ms) == (line, bus, gap_ms)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, "host (or serial): is missing"),
        ({"host": "h", "serial": "/dev/x"}, "serial: give either host or serial"),
        ({"host": "h", "baud": 9600}, "baud: belongs to serial"),
        ({"host": "h", "format": "8N1"}, "format: belongs to serial"),
        ({"host": "h", "echo": True}, "echo: belongs to serial"),
        ({"host": "h", "framing": "ascii"}, "framing: ascii is for serial"),
        ({"serial": "/dev/x", "framing": "tcp"}, "framing: tcp is for host"),
        ({"serial": "/dev/x", "port": 4196}, "port: belongs to host"),
        ({"serial": "/dev/x", "baud": 9601}, "baud: 9601 is none of 1200, "),
        ({"serial": "/dev/x", "format": "9N1"}, "format: "),
        ({"serial": "/dev/x", "format": "7E1"}, "format: 7E1 has 7 data bits; rtu needs 8"),
        ({"serial": ""}, "serial: "),
    ],
)
def test_each_fault_of_a_line_says_what_to_do(keys, fault):
    with pytest.raises(ConfigError) as refused:
        parse(BASE | keys, "t")
    assert any(line.startswith(f"t: {fault}") for line in refused.value.faults)


@pytest.mark.parametrize(
    ("baud", "form", "characters_ms"),
    [(4800, "8N1", 7.29), (9600, "8E1", 4.01), (115_200, "8N1", 1.75)],
)
def test_the_least_pause_is_three_and_a_half_characters(baud, form, characters_ms):
    assert SerialLine("/dev/x", baud, form).silence_s * 1000 == pytest.approx(
        characters_ms, abs=0.01
    )


class Bus:
    """Eight slaves, the readings that came of them, and when each was asked."""

    def __init__(self, slaves, registers, *, interval_s, timeout_s):
        self.asked = {unit: [] for unit in range(1, 9)}
        self.silent = False
        self.registers = registers
        self.pty = slaves(self.answer)
        self.paths = {unit: f"pond/probe{unit}" for unit in self.asked}
        self.book = DeviceBook("hl-001", self.paths.values(), lambda: None)
        self.packer = Packer(self.drop, trust=lambda: ClockTrust.SYNC, clock=Clock())
        self.members = [
            Member(
                DRIVERS["modbus"], self.device(unit, interval_s, timeout_s), self.packer, self.book
            )
            for unit in self.asked
        ]
        self.answers_again = asyncio.Event()

    async def drop(self, items):
        pass

    def device(self, unit, interval_s, timeout_s):
        return parse(
            {
                "path": self.paths[unit],
                "serial": str(self.pty.link),
                "baud": 115_200,
                "unit_id": unit,
                "poll_interval_s": interval_s,
                "timeout_s": timeout_s,
                "gap_ms": 2,
                "points": [{"indicator": "soil_ph", "address": 0, "type": "u16", "unit": "[pH]"}],
            },
            "test",
        )

    def answer(self, unit, _pdu, _n):
        self.asked[unit].append(asyncio.get_running_loop().time())
        if unit == DEAD and self.silent:
            return None
        if unit == DEAD and not self.silent:
            self.answers_again.set()
        return self.registers(unit)

    def polls(self, unit):
        return self.book.polls[self.paths[unit]]


async def one_dead(slaves, registers, *, interval_s, timeout_s, dead_s):
    """Return the bus, when its slave fell silent and revived (loop time), and the seconds until it was asked."""
    bus = Bus(slaves, registers, interval_s=interval_s, timeout_s=timeout_s)
    assert list(group_by_bus(bus.members)) == [f"serial:{bus.pty.link}"]
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        packing = tasks.create_task(bus.packer.readings.run())
        polling = tasks.create_task(poll_bus(bus.members, clock=Clock(), rng=random.Random(6)))
        await bus.answers_again.wait()
        bus.silent = True
        began = loop.time()
        await asyncio.sleep(dead_s)
        bus.answers_again.clear()
        bus.silent = False
        revived = loop.time()
        await bus.answers_again.wait()
        back_s = loop.time() - revived
        polling.cancel()
        packing.cancel()
    return bus, began, revived, back_s


def check(bus, began, revived, back_s, interval_s):
    nominal = (revived - began) / interval_s
    for unit in set(bus.asked) - {DEAD}:
        kept = [at for at in bus.asked[unit] if began <= at < revived]
        assert len(kept) >= 0.9 * nominal, f"unit {unit}: {len(kept)} of {nominal:.0f} polls"
        assert bus.polls(unit).answered >= 0.9 * nominal
    probes = [at for at in bus.asked[DEAD] if began <= at < revived]
    assert len(probes) < 0.4 * nominal
    assert bus.polls(DEAD).failed >= 2
    waits = [b - a for a, b in pairwise(probes)]
    # The wait that was running when it revived: twice the last one, each shortened by up to a quarter.
    assert back_s <= min(waits[-1] * 2 / (1 - JITTER), BACK_OFF_MAX_S) + 2 * interval_s


async def test_behaviour_6_one_dead_slave_of_eight(slaves, registers):
    interval_s = 0.5
    done = await one_dead(slaves, registers, interval_s=interval_s, timeout_s=0.3, dead_s=8.0)
    check(*done, interval_s)


@pytest.mark.slow
async def test_behaviour_6_one_slave_of_eight_dead_for_a_minute(slaves, registers):
    interval_s = 1.0
    bus, began, revived, back_s = await one_dead(
        slaves, registers, interval_s=interval_s, timeout_s=0.4, dead_s=60.0
    )
    check(bus, began, revived, back_s, interval_s)
    backed_off = bus.asked[DEAD][1] + 1.0
    for unit in set(bus.asked) - {DEAD}:
        asked = [at for at in bus.asked[unit] if backed_off <= at < revived]
        gaps = sorted(b - a for a, b in pairwise(asked))
        assert gaps[int(0.95 * len(gaps))] <= 1.1 * interval_s
    waits = [b - a for a, b in pairwise(at for at in bus.asked[DEAD] if began <= at < revived)]
    assert all(b > 1.3 * a for a, b in pairwise(waits[1:]))
