from __future__ import annotations

import asyncio
import random
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from drivers.records import Reading, TestRecord
from gateway import keys, wire
from gateway.packer import Packer, Tally
from gateway.schedule import Clock
from gateway.spool import SpoolBlockedError, SpoolError
from gateway.station import StationAgent
from gateway.wire import ClockTrust, DeviceSeen, Lane

if TYPE_CHECKING:
    from pathlib import Path

STORES = [f"01KA000000000000000000000{n}" for n in range(4)]
BODY = wire.encode_readings([Reading("plot1/soil", "soil_ph", 1_763_900_000_000, 6.5)])


def reading(number: int) -> Reading:
    return Reading("plot1/soil", "soil_ph", 1_763_900_000_000 + number, float(number))


def record(name: str) -> TestRecord:
    return TestRecord(
        record_id=name, dedup_key=name, tested_at="2026-05-01T08:00:00+08:00", device_id="t1"
    )


async def open_station(directory: Path, cap_bytes: int = 1 << 20) -> StationAgent:
    return await StationAgent.open(
        "hl-001",
        directory,
        cap_bytes=cap_bytes,
        version="1.0",
        seen=lambda: [DeviceSeen("plot1/soil", 1, ok=True)],
        clock=Clock(),
        rng=random.Random(1),
    )


async def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    await agent.append([(Lane.READINGS, BODY, 1), (Lane.READINGS, BODY, 1)])
    await agent.close()
    agent = await open_station(tmp_path / "hl-001")
    assert (await agent.state()).queue == 2
    await agent.close()


async def test_a_pack_goes_out_and_its_receipt_empties_the_queue(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    assert not agent.wake.is_set()
    await agent.append([(Lane.READINGS, BODY, 1)])
    assert agent.wake.is_set()
    assert (await agent.outgoing())[0] == []  # nobody is connected
    await agent.connected()
    sends, wait_s = await agent.outgoing()
    assert [send.leaf for send in sends] == ["status", "up"]
    assert wait_s is not None
    status = wire.decode_status(sends[0].payload)
    assert status.devices == [DeviceSeen("plot1/soil", 1, ok=True)]
    assert status.disk_free is not None
    assert status.disk_free > 0
    signed = wire.status_signing_bytes("hl-001", status.session, status.lanes)
    assert keys.verify(status.key, status.sig, signed)
    pack = wire.decode_pack(sends[1].payload)
    assert pack.body == BODY
    await agent.receipt(
        wire.Receipt(
            epoch=pack.epoch,
            seq=1,
            store="01KAAAAAAAAAAAAAAAAAAAAAAA",
            now_ms=Clock().wall_ms() + 3_600_000,
        )
    )
    state = await agent.state()
    assert (state.queue, state.oldest_unreceipted_ms) == (0, None)
    assert state.last_receipt_ms is not None
    assert agent.clock_offset_ms == pytest.approx(3_600_000, abs=60_000)
    assert agent.receipted.is_set()
    goodbye = wire.decode_status((await agent.goodbye()).payload)
    assert (goodbye.online, goodbye.session) == (False, status.session)
    await agent.close()


async def test_the_key_stays_and_is_private(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    await agent.close()
    file = tmp_path / "hl-001" / "agent.key"
    before = file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    agent = await open_station(tmp_path / "hl-001")
    await agent.close()
    assert file.read_bytes() == before


async def test_a_newer_spool_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    await agent.close()
    with sqlite3.connect(tmp_path / "hl-001" / "spool.db") as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(SpoolError, match=r"spool\.db: spool of schema 7"):
        await open_station(tmp_path / "hl-001")
    assert not [t for t in threading.enumerate() if t.name.startswith("station-hl-001")]


async def test_the_balance_holds_at_every_moment_under_load(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001", cap_bytes=60_000)
    await agent.append([(Lane.READINGS, BODY, 1)] * 3)
    await agent.close()
    agent = await open_station(tmp_path / "hl-001", cap_bytes=60_000)
    packer = Packer(agent.append, trust=lambda: ClockTrust.SYNC, clock=Clock())
    seen = 0

    async def produce() -> None:
        for n in range(3_000):
            await packer.readings.put([reading(n * 7 + m) for m in range(7)])
            if n % 50 == 0:
                await packer.tests.put_durable(record(f"t{n}"))
        packer.stop()

    async def deliver() -> None:
        """Receipts, now and then under a new server life."""
        await agent.connected()
        for turn in range(10**6):
            if task.done():
                return
            sends, _ = await agent.outgoing()
            for send in sends:
                if send.leaf == "up":
                    pack = wire.decode_pack(send.payload)
                    store = STORES[min(turn // 40, 3)]
                    now_ms = Clock().wall_ms()
                    await agent.receipt(
                        wire.Receipt(epoch=pack.epoch, seq=pack.seq, store=store, now_ms=now_ms)
                    )
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(packer.readings.run())
        group.create_task(packer.tests.run())
        task = group.create_task(produce())
        group.create_task(deliver())
        while not task.done():
            for balance in (await agent.counts(packer.tallies)).values():
                assert balance.difference == 0
                assert min(balance.packing, balance.queued, balance.taken) >= 0
            seen += 1
            await asyncio.sleep(0)
    assert seen > 10
    end = (await agent.counts(packer.tallies))[Lane.READINGS]
    assert (end.taken, end.queued_at_start, end.packing) == (21_000, 3, 0)
    assert end.difference == 0
    assert end.receipted > 0
    assert end.lost["cap"] > 0
    await agent.close()


async def test_what_memory_dropped_is_in_the_balance(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    lost = wire.encode_lost(wire.Lost(1, 1, 7, wire.LostReason.CAP))
    await agent.append([(Lane.READINGS, lost, 7), (Lane.READINGS, BODY, 1)])
    tallies = {Lane.READINGS: Tally(taken=10, dropped=7), Lane.TESTS: Tally()}
    balance = (await agent.counts(lambda: tallies))[Lane.READINGS]
    assert balance.lost == {"cap": 0, "corrupt": 0, "memory": 7}
    assert (balance.queued, balance.packing, balance.difference) == (1, 2, 0)
    await agent.close()


async def test_a_spool_taken_away_ends_the_agent_and_takes_nothing_more(tmp_path: Path) -> None:
    agent = await open_station(tmp_path / "hl-001")
    told: list[str] = []
    agent.on_gone = lambda: told.append("gone")
    (tmp_path / "hl-001" / "spool.db").unlink()
    for _ in range(2):
        with pytest.raises(SpoolBlockedError, match=r"spool\.db: No such file"):
            await agent.append([(Lane.READINGS, BODY, 1)])
    assert told == ["gone"]
    assert "find out who removed it" in str(agent.gone)
    await agent.close()
