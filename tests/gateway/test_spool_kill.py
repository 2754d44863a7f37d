"""Behaviours 1 and 4: neither ``kill -9`` nor another configuration costs a record that was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.records import Reading
from gateway import app, config, wire
from gateway.spool import Spool
from gateway.wire import Lane
from tests.gateway.conftest import edge_toml, free_port
from tests.gateway.test_app import agent_process
from tests.gateway.test_spool import NOW, new_id

if TYPE_CHECKING:
    from tests.gateway.conftest import Meter, Mosquitto, Server


def accepted(file: Path) -> dict[str, list[bytes]]:
    """Return every committed body by epoch, read from outside as the disk has it after a kill."""
    if not file.exists():
        return {}
    spool: dict[str, list[bytes]] = {}
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db:
        for epoch, body in db.execute("SELECT epoch, body FROM packs ORDER BY epoch, seq"):
            spool.setdefault(epoch, []).append(body)
    return spool


async def kill_and_drain(
    tmp_path: Path, meter: Meter, mosquitto: Mosquitto, server: Server, kills: int, seed: int
) -> None:
    rng = random.Random(seed)
    file = edge_toml(tmp_path, broker=free_port(), meter=meter.port, poll_interval_s=0.01)
    spool = tmp_path / "data" / "hl-001" / "spool.db"
    before: dict[str, list[bytes]] = {}
    for _ in range(kills):
        async with agent_process(file) as process:
            await meter.until_served(meter.served + rng.randrange(1, 25))
            await asyncio.sleep(rng.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        now = accepted(spool)
        for epoch, bodies in before.items():
            assert now[epoch][: len(bodies)] == bodies
        before = now
    assert len(before) > kills // 2
    edge_toml(tmp_path, broker=mosquitto.port, meter=meter.port, poll_interval_s=0.01)
    count = sum(len(bodies) for bodies in before.values())
    async with agent_process(file) as process:
        await server.until(lambda: len(server.taken) > count)
        process.terminate()
        assert await process.wait() == 0
    taken: dict[str, list[bytes]] = {}
    for pack in server.taken:
        taken.setdefault(pack.epoch, []).append(pack.body)
    assert {epoch: taken.get(epoch) for epoch in before} == before  # 0 missing, 0 twice, in order
    values = [value for _, value in server.readings]
    assert len(set(values)) == len(values)  # the meter counts: no poll came twice


@pytest.mark.mosquitto
async def test_twenty_kills_with_the_broker_down_lose_and_double_nothing(
    tmp_path: Path, meter: Meter, mosquitto: Mosquitto, server: Server
) -> None:
    async with asyncio.timeout(120):
        await kill_and_drain(tmp_path, meter, mosquitto, server, 20, seed=1)


@pytest.mark.slow
@pytest.mark.mosquitto
@pytest.mark.parametrize("seed", [2, 3, 4])
async def test_many_kills_with_the_broker_down(
    tmp_path: Path, meter: Meter, mosquitto: Mosquitto, server: Server, seed: int
) -> None:
    async with asyncio.timeout(900):
        await kill_and_drain(tmp_path, meter, mosquitto, server, 60, seed=seed)


# ---- configuration


def fill_10_000(path: Path) -> None:
    path.parent.mkdir(parents=True)
    spool = Spool.open(path, cap_bytes=1 << 28, new_id=new_id)
    for start in range(0, 10_000, 1000):
        spool.append_many(
            [
                (
                    Lane.READINGS,
                    wire.encode_readings(
                        [
                            Reading("old/device", "soil_ph", NOW + n, float(n))
                            for n in range(m, m + 20)
                        ]
                    ),
                    20,
                )
                for m in range(start, start + 1000, 20)
            ],
            NOW,
        )
    spool.close()


@pytest.mark.mosquitto
async def test_another_configuration_delivers_all_10_000_readings_that_are_queued(
    tmp_path: Path, meter: Meter, mosquitto: Mosquitto, server: Server
) -> None:
    spool = tmp_path / "data" / "hl-001" / "spool.db"
    fill_10_000(spool)
    # Another broker that is away, other devices, a higher cap, one station more: and again the other way round.
    for port, changes in [
        (
            free_port(),
            {"pond/meter": "well/meter", "[[station]]": "[spool]\ncap_mb = 2000\n[[station]]"},
        ),
        (free_port(), {"[agent]": "[spool]\ncap_mb = 2\n[agent]", "0.05": "0.5"}),
    ]:
        file = edge_toml(tmp_path, broker=port, meter=meter.port)
        text = file.read_text()
        for old, new in changes.items():
            text = text.replace(old, new, 1)
        device = text[text.index("[[station.device]]") :]
        file.write_text(f'{text}[[station]]\ncode = "hl-002"\n{device.replace("/meter", "/other")}')
        stop = asyncio.Event()
        served = meter.served
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(app.run(config.load(file), stop=stop))
            await meter.until_served(served + 3)
            stop.set()
    last = config.load(edge_toml(tmp_path, broker=mosquitto.port, meter=meter.port))
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(app.run(last, stop=stop))
        await server.until(
            lambda: sum(v == 9_999.0 and n == "soil_ph" for n, v in server.readings) > 0
        )
        await server.until_readings(10_006)
        stop.set()
    delivered = [value for name, value in server.readings if name == "soil_ph"]
    assert delivered == [float(n) for n in range(10_000)]
    assert sum(name != "soil_ph" for name, _ in server.readings) >= 6


async def test_a_spool_taken_away_ends_the_agent_with_one_line(
    tmp_path: Path, meter: Meter
) -> None:
    file = edge_toml(tmp_path, broker=free_port(), meter=meter.port)
    spool = tmp_path / "data" / "hl-001" / "spool.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from gateway.cli import edge; edge()",
        "-c",
        str(file),
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await meter.until_served(10)
        spool.unlink()
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode == 1
    lines = said.decode().splitlines()
    assert lines[-1].startswith(f"{spool}: No such file or directory while the agent runs")
    assert sum("spool_gone" in line for line in lines) == 1
    assert not any("Traceback" in line or "task_crashed" in line for line in lines)
