from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.records import Reading, TestRecord
from gateway import wire
from gateway.packer import (
    COMMIT_BYTES,
    LARGEST_RECORD,
    MEMORY_BYTES,
    QUEUE_BATCHES,
    OpenPack,
    Packer,
    PackItem,
    Tally,
    size_of_reading,
    size_of_test,
)
from gateway.schedule import Clock
from gateway.spool_file import SpoolBlockedError
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


class Disk:
    """Keeps what is committed; can be slow or fail."""

    def __init__(self) -> None:
        self.commits: list[list[PackItem]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.started = asyncio.Event()
        self.fail = 0
        self.blocked = False
        self.refusals = asyncio.Queue[int]()

    async def commit(self, items: Sequence[PackItem]) -> None:
        self.started.set()
        if self.fail:
            self.fail -= 1
            raise OSError("disk full")
        if self.blocked:
            self.refusals.put_nowait(len(items))
            raise SpoolBlockedError("no space")
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


# ---- while the spool cannot be written


class Quick(Clock):
    """Monotonic time that passes a thousand times faster."""

    def monotonic(self) -> float:
        return super().monotonic() * 1000


def quick_packer(disk: Disk) -> Packer:
    return Packer(disk.commit, trust=lambda: ClockTrust.SYNC, clock=Quick())


async def test_polls_go_on_while_the_spool_is_blocked_and_what_is_dropped_is_booked() -> None:
    disk = Disk()
    disk.blocked = True
    packer = quick_packer(disk)
    lane = packer.readings
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(lane.run())
        number = 0
        while lane.tally.dropped < 20_000:  # each put returns: no poll waits for the disk
            await lane.put([reading(n, device="a/device") for n in range(number, number + 500)])
            number += 500
        assert lane._waiting.bytes <= MEMORY_BYTES + 256 * 500 * 120
        assert lane.tally.taken == number
        disk.blocked = False
        packer.stop()
    dropped = lane.tally.dropped
    lost = disk.bodies[0].lost
    assert lost is not None
    assert (lost.readings, lost.reason) == (dropped, wire.LostReason.CAP)
    assert [body.lost for body in disk.bodies[1:]] == [None] * (len(disk.bodies) - 1)
    assert disk.values == [float(n) for n in range(dropped, number)]  # the newest are kept
    assert lane.tally == Tally(taken=number, dropped=dropped)
    assert lane.counts.records == number - dropped
    assert (
        max(sum(len(raw) for _, raw, _ in commit) for commit in disk.commits) <= COMMIT_BYTES + 200
    )


async def test_a_test_is_never_dropped_and_not_acknowledged_before_it_is_on_disk() -> None:
    disk = Disk()
    disk.blocked = True
    packer = quick_packer(disk)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(packer.tests.run())
        waiting = [
            group.create_task(packer.tests.put_durable(record(f"t{n}", raw="A" * 60_000)))
            for n in range(60)
        ]
        for _ in range(3):
            await disk.refusals.get()
        assert not any(task.done() for task in waiting)
        disk.blocked = False
        assert all([await task for task in waiting])
        packer.tests.stop()
    assert [t.record_id for body in disk.bodies for t in body.tests or ()] == [
        f"t{n}" for n in range(60)
    ]
    assert packer.tests.tally == Tally(taken=60)


async def test_an_end_while_the_spool_is_blocked_ends() -> None:
    disk = Disk()
    disk.blocked = True
    packer = new_packer(disk)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        await packer.readings.put([reading(1)])
        packer.stop()
    assert disk.commits == []
