from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.records import Reading, TestRecord
from gateway import wire
from gateway.packer import (
    LARGEST_RECORD,
    QUEUE_BATCHES,
    OpenPack,
    Packer,
    PackItem,
    clock_trust,
    size_of_reading,
    size_of_test,
)
from gateway.schedule import Clock
from gateway.wire import ClockTrust, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence


def reading(number: int = 0, *, device: str = "plot1/soil") -> Reading:
    return Reading(device, "soil_ph", 1_763_900_000_000 + number, float(number))


def record(name: str, *, raw: str = "") -> TestRecord:
    return TestRecord(
        record_id=name,
        dedup_key=name,
        tested_at="2026-05-01T08:00:00+08:00",
        device_id="t1",
        raw=raw,
    )


def test_a_pack_closes_at_a_hundred_records() -> None:
    pack = OpenPack(size_of_reading, 0.1)
    for number in range(250):
        pack.add(reading(number), 0.0)
    assert [len(closed) for closed in pack.take(0.05)] == [100, 100]
    assert [len(closed) for closed in pack.take(0.1)] == [50]


def test_a_pack_closes_at_its_age_counted_from_the_first_record() -> None:
    pack = OpenPack(size_of_reading, 0.1)
    assert pack.closes_at is None
    pack.add(reading(1), 10.0)
    pack.add(reading(2), 10.09)
    assert pack.closes_at == pytest.approx(10.1)
    assert pack.take(10.09) == []
    assert pack.take(10.11) == [[reading(1), reading(2)]]
    assert pack.closes_at is None


def test_a_pack_closes_at_48_kib() -> None:
    pack = OpenPack(size_of_test, 0.1)
    for number in range(30):
        pack.add(record(f"r{number}", raw="A" * 11_000), 0.0)
    closed = pack.take(0.0, everything=True)
    assert [len(records) for records in closed] == [4] * 7 + [2]
    for records in closed:
        assert len(wire.encode_tests(records)) <= wire.PACK_MAX_BYTES + 64


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)


@given(
    st.lists(
        st.builds(
            Reading,
            device=names,
            indicator=names,
            t_ms=st.integers(0, 4_102_444_800_000),
            value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
            quality=st.none() | names.map(lambda name: f"bad:{name}"),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_the_size_of_a_reading_is_never_too_small(readings: list[Reading]) -> None:
    assert len(wire.encode_readings(readings)) <= sum(map(size_of_reading, readings)) + 64


def test_clock_trust() -> None:
    now_ms = 1_763_900_000_000
    assert clock_trust(0, None) is ClockTrust.UNSET
    assert clock_trust(now_ms, None) is ClockTrust.FREE
    assert clock_trust(now_ms, -4_999) is ClockTrust.SYNC
    assert clock_trust(now_ms, 5_001) is ClockTrust.FREE


class Disk:
    """Keeps what is committed; can be slow or fail."""

    def __init__(self) -> None:
        self.commits: list[list[PackItem]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.started = asyncio.Event()
        self.fail = 0

    async def commit(self, items: Sequence[PackItem]) -> None:
        self.started.set()
        if self.fail:
            self.fail -= 1
            raise OSError("disk full")
        await self.open.wait()
        self.commits.append(list(items))

    @property
    def bodies(self) -> list[wire.Body]:
        return [wire.decode_body(body) for commit in self.commits for _, body, _ in commit]

    @property
    def values(self) -> list[float | None]:
        return [r.v for body in self.bodies for r in body.readings or ()]


def new_packer(disk: Disk, trust: ClockTrust = ClockTrust.SYNC) -> Packer:
    return Packer(disk.commit, trust=lambda: trust, clock=Clock())


async def test_all_is_committed_in_order_and_stop_leaves_nothing() -> None:
    disk = Disk()
    packer = new_packer(disk, ClockTrust.FREE)
    async with asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        group.create_task(packer.tests.run())
        for number in range(950):
            await packer.readings.put([reading(number)])
        assert await packer.tests.put_durable(record("t1"))
        packer.stop()
    assert disk.values == [float(number) for number in range(950)]
    assert [t.record_id for body in disk.bodies for t in body.tests or ()] == ["t1"]
    assert {body.clk for body in disk.bodies} == {ClockTrust.FREE}
    assert packer.readings.counts.records == 950
    for commit in disk.commits:
        for lane, body, count in commit:
            decoded = wire.decode_body(body)
            held = decoded.tests if lane is Lane.TESTS else decoded.readings
            assert held is not None
            assert len(held) == count <= wire.PACK_MAX_RECORDS


async def test_a_lone_reading_is_committed_without_more_coming() -> None:
    disk = Disk()
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        await packer.readings.put([reading(5)])
        await disk.started.wait()
        packer.stop()
    assert disk.values == [5.0]


async def test_packs_gather_while_a_commit_is_written() -> None:
    disk = Disk()
    disk.open.clear()
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        await packer.readings.put([reading(n) for n in range(100)])
        await disk.started.wait()
        for start in range(100, 1100, 100):
            await packer.readings.put([reading(n) for n in range(start, start + 100)])
        disk.open.set()
        packer.stop()
    assert [len(commit) for commit in disk.commits] == [1, 10]


async def test_a_full_queue_slows_the_producer() -> None:
    disk = Disk()
    disk.open.clear()
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        await packer.readings.put([reading(n) for n in range(100)])
        await disk.started.wait()
        for number in range(QUEUE_BATCHES):
            await packer.readings.put([reading(number)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await packer.readings.put([reading(1)])
        disk.open.set()
        await packer.readings.put([reading(1)])
        packer.stop()
    assert len(disk.values) == 100 + QUEUE_BATCHES + 1


async def test_a_test_does_not_wait_behind_readings() -> None:
    disk = Disk()
    packer = new_packer(disk)
    for number in range(QUEUE_BATCHES):  # nobody runs the readings lane: its queue is full
        await packer.readings.put([reading(number)])
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.tests.run())
        assert await packer.tests.put_durable(record("positive"))
        packer.tests.stop()


async def test_durable_means_committed() -> None:
    disk = Disk()
    disk.open.clear()
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.tests.run())
        waiting = group.create_task(packer.tests.put_durable(record("t1")))
        await disk.started.wait()
        await asyncio.sleep(0)
        assert not waiting.done()
        disk.open.set()
        assert await waiting
        assert len(disk.commits) == 1
        packer.stop()


async def test_a_failed_commit_is_made_again_with_all_it_had() -> None:
    disk = Disk()
    disk.fail = 2
    packer = new_packer(disk)
    await packer.readings.put([reading(n) for n in range(150)])
    packer.readings.stop()
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            await packer.readings.run()
    await packer.readings.run()
    assert disk.values == [float(n) for n in range(150)]


async def test_a_record_that_no_pack_can_hold_is_refused_and_the_next_goes_on() -> None:
    disk = Disk()
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.tests.run())
        assert not await packer.tests.put_durable(record("huge", raw="A" * 200_000))
        assert await packer.tests.put_durable(record("large", raw="A" * (LARGEST_RECORD - 300)))
        packer.tests.stop()
    assert packer.tests.counts.refused == 1
    assert [t.record_id for body in disk.bodies for t in body.tests or ()] == ["large"]
    assert len(disk.commits[0][0][1]) <= wire.MAX_BODY_BYTES
