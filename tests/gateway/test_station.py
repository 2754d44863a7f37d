from __future__ import annotations

import random
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from drivers.records import Reading
from gateway import keys, wire
from gateway.schedule import Clock
from gateway.spool import SpoolError
from gateway.station import StationAgent
from gateway.wire import DeviceSeen, Lane

if TYPE_CHECKING:
    from pathlib import Path

BODY = wire.encode_readings([Reading("plot1/soil", "soil_ph", 1_763_900_000_000, 6.5)])


async def open_station(directory: Path) -> StationAgent:
    return await StationAgent.open(
        "hl-001",
        directory,
        cap_bytes=1 << 20,
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


async def test_a_file_that_is_no_spool_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "hl-001").mkdir()
    (tmp_path / "hl-001" / "spool.db").write_bytes(b"not a database, but long enough" * 100)
    with pytest.raises(SpoolError, match=r"spool\.db"):
        await open_station(tmp_path / "hl-001")
    assert not [t for t in threading.enumerate() if t.name.startswith("station-hl-001")]
