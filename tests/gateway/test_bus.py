from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from drivers.errors import FrameError, LinkError
from drivers.records import Reading, TestRecord
from drivers.session import Driver, RawReading
from gateway import bus as bus_module
from gateway import wire
from gateway.bus import DeviceBook, Member, group_by_bus, listen_bus, poll_bus
from gateway.packer import Packer
from gateway.schedule import Clock
from gateway.wire import ClockTrust, DeviceSeen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from drivers.session import DeviceConfig
    from gateway.packer import PackItem
    from tests.gateway.conftest import FakeTime


@dataclass(frozen=True)
class Probe:
    path: str
    bus: str = "line1"
    poll_interval_s: float = 5.0


@dataclass
class Line:
    """A bus whose devices answer as the test says; ends the test's loop after ``polls`` polls."""

    polls: int
    answer: Callable[[str, int], Sequence[Reading]]
    polled: list[str] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    closed: int = 0

    async def poll(self, device: DeviceConfig) -> Sequence[RawReading]:
        if len(self.polled) == self.polls:
            self.done.set()
            await asyncio.Event().wait()
        self.polled.append(device.path)
        return [
            RawReading(reading, b"?", b"!")
            for reading in self.answer(device.path, self.polled.count(device.path))
        ]

    async def close(self) -> None:
        self.closed += 1


class Kept:
    """A packer with its commits in memory."""

    def __init__(self) -> None:
        self.items: list[PackItem] = []
        self.packer = Packer(self._commit, trust=lambda: ClockTrust.SYNC, clock=Clock())

    async def _commit(self, items: Sequence[PackItem]) -> None:
        self.items.extend(items)

    async def finish(self) -> list[wire.Body]:
        self.packer.stop()
        await self.packer.readings.run()
        await self.packer.tests.run()
        return [wire.decode_body(body) for _, body, _ in self.items]


def value(path: str, number: int) -> list[Reading]:
    return [Reading(path, "soil_ph", number, float(number))]


async def run_line(
    line: Line, probes: list[Probe], fake_time: FakeTime
) -> tuple[Kept, DeviceBook, list[dict[str, object]]]:
    kept = Kept()
    book = DeviceBook("hl-001", [p.path for p in probes], lambda: None)
    driver = Driver("scripted", parse=lambda _table, _where: probes[0], polled=lambda _d, _n: line)
    members = [Member(driver, probe, kept.packer, book) for probe in probes]
    with capture_logs() as logs:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(
                poll_bus(members, clock=fake_time.clock(), rng=random.Random(3))
            )
            await line.done.wait()
            task.cancel()
    return kept, book, [log for log in logs if log["log_level"] != "debug"]


async def test_devices_are_polled_in_turn_and_readings_packed(fake_time: FakeTime) -> None:
    line = Line(40, value)
    kept, book, _ = await run_line(line, [Probe("a"), Probe("b")], fake_time)
    assert line.polled.count("a") == line.polled.count("b") == 20
    bodies = await kept.finish()
    assert sum(len(body.readings or ()) for body in bodies) == 40
    assert [seen.ok for seen in book.seen()] == [True, True]
    assert line.closed == 1


async def test_a_dead_device_yields_nothing_and_is_logged_once_each_way(
    fake_time: FakeTime,
) -> None:
    def answer(path: str, number: int) -> list[Reading]:
        if path == "b" and 3 <= number <= 6:
            raise LinkError("no answer in 1 s")
        return value(path, number)

    kept, book, logs = await run_line(Line(60, answer), [Probe("a"), Probe("b")], fake_time)
    assert [(log["event"], log["device"]) for log in logs] == [
        ("device_online", "a"),
        ("device_online", "b"),
        ("device_offline", "b"),
        ("device_online", "b"),
    ] or [(log["event"], log["device"]) for log in logs] == [
        ("device_online", "b"),
        ("device_online", "a"),
        ("device_offline", "b"),
        ("device_online", "b"),
    ]
    assert logs[2]["reason"] == "no answer in 1 s"
    values = [r.v for body in await kept.finish() for r in body.readings or ()]
    assert values.count(2.0) == 2
    assert values.count(3.0) == values.count(6.0) == 1
    assert all(seen.ok for seen in book.seen())


async def test_garbage_on_the_line_counts_as_no_answer(fake_time: FakeTime) -> None:
    def answer(_path: str, _number: int) -> list[Reading]:
        raise FrameError("wrong CRC")

    line = Line(3, answer)
    _, book, logs = await run_line(line, [Probe("a")], fake_time)
    assert book.seen() == [DeviceSeen("a", None, ok=False)]
    assert [log["event"] for log in logs] == ["device_offline"]
    assert sum(fake_time.slept) > 5.0 + 10.0 * 0.75  # the back-off was waited for


async def test_a_failed_point_is_a_reading_with_quality(fake_time: FakeTime) -> None:
    def answer(path: str, number: int) -> list[Reading]:
        return [*value(path, number), Reading(path, "soil_ec", number, None, "bad:illegal_address")]

    kept, book, _ = await run_line(Line(1, answer), [Probe("a")], fake_time)
    (body,) = await kept.finish()
    assert body.readings is not None
    assert [(r.v, r.q) for r in body.readings] == [(1.0, None), (None, "bad:illegal_address")]
    assert book.seen()[0].ok


async def test_a_bug_in_a_driver_is_not_swallowed(fake_time: FakeTime) -> None:
    def answer(_path: str, _number: int) -> list[Reading]:
        raise KeyError("bug")

    line = Line(3, answer)
    driver = Driver("scripted", parse=lambda _t, _w: Probe("a"), polled=lambda _d, _n: line)
    member = Member(driver, Probe("a"), Kept().packer, DeviceBook("hl-001", ["a"], lambda: None))
    with pytest.raises(KeyError):
        await poll_bus([member], clock=fake_time.clock(), rng=random.Random(3))
    assert line.closed == 1


def test_devices_of_two_stations_share_a_bus() -> None:
    kept = Kept()
    driver = Driver("scripted", parse=lambda _t, _w: Probe("a"))
    members = [
        Member(driver, Probe(path, bus), kept.packer, DeviceBook(station, [path], lambda: None))
        for station, path, bus in [("s-1", "a", "x"), ("s-1", "b", "y"), ("s-2", "a", "x")]
    ]
    assert {key: len(on_bus) for key, on_bus in group_by_bus(members).items()} == {"x": 2, "y": 1}


# ---- instruments that speak by themselves


@dataclass
class Instrument:
    """Sends ``results`` in one session each; an empty list is a port that cannot be opened."""

    sessions: list[list[str]]
    acknowledged: list[str] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self, _device: DeviceConfig, _now_ms: Callable[[], int]) -> Instrument:
        self.opened += 1
        return self

    async def records(self) -> AsyncIterator[TestRecord]:
        if self.opened > len(self.sessions):
            self.idle.set()
            await asyncio.Event().wait()
        for name in self.sessions[self.opened - 1]:
            yield TestRecord(
                record_id=name,
                dedup_key=name,
                tested_at="2026-05-01T08:00:00+08:00",
                device_id="t1",
                raw="A" * 300_000 if name == "huge" else "",
            )
        raise LinkError("the port is gone")

    async def acknowledge(self, record: TestRecord) -> None:
        self.acknowledged.append(record.record_id)

    async def close(self) -> None:
        self.closed += 1


async def listen(
    instrument: Instrument, fake_time: FakeTime, kept: Kept
) -> tuple[DeviceBook, list[dict[str, object]]]:
    book = DeviceBook("hl-001", ["t1"], lambda: None)
    driver = Driver("tester", parse=lambda _t, _w: Probe("t1"), listening=instrument.open)
    member = Member(driver, Probe("t1"), kept.packer, book)
    with capture_logs() as logs:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            packing = group.create_task(kept.packer.tests.run())
            task = group.create_task(
                listen_bus(member, clock=fake_time.clock(), rng=random.Random(3))
            )
            await instrument.idle.wait()
            task.cancel()
            packing.cancel()
    return book, logs


async def test_results_are_acknowledged_after_the_commit_and_lost_links_reopened(
    fake_time: FakeTime,
) -> None:
    instrument = Instrument([["r1", "r2"], [], [], ["r3"]])
    kept = Kept()
    _, logs = await listen(instrument, fake_time, kept)
    assert instrument.acknowledged == ["r1", "r2", "r3"]
    assert instrument.closed == instrument.opened == 5
    committed = [t.record_id for body in await kept.finish() for t in body.tests or ()]
    assert committed == ["r1", "r2", "r3"]
    assert [log["event"] for log in logs] == [
        "device_online",
        "device_offline",
        "device_online",
        "device_offline",
    ]
    assert len(fake_time.slept) == 4
    assert fake_time.slept[1] > fake_time.slept[0]  # it backs off


async def test_a_result_that_is_not_on_disk_is_not_acknowledged(fake_time: FakeTime) -> None:
    instrument = Instrument([["huge", "r2"]])
    await listen(instrument, fake_time, Kept())
    assert instrument.acknowledged == ["r2"]


async def test_an_open_port_counts_as_answering_after_a_while(
    fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "OPEN_AFTER_S", 0.0)
    changed = asyncio.Event()
    instrument = Instrument([])
    book = DeviceBook("hl-001", ["t1"], changed.set)
    driver = Driver("tester", parse=lambda _t, _w: Probe("t1"), listening=instrument.open)
    member = Member(driver, Probe("t1"), Kept().packer, book)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(listen_bus(member, clock=fake_time.clock(), rng=random.Random(3)))
        await changed.wait()
        task.cancel()
    assert book.seen() == [DeviceSeen("t1", None, ok=True)]
