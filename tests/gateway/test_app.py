from __future__ import annotations

import asyncio
import os
import signal
import sys
import tty
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway import agent_status, app, config, wire
from gateway.errors import DataDirBusyError, NoStatusError
from gateway.spool import Spool
from gateway.wire import ClockTrust
from tests.gateway.conftest import edge_toml, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gateway.agent_status import AgentStatus
    from tests.gateway.conftest import Meter, Mosquitto, Server

ROOT = Path(__file__).parents[2]
EDGE = "from gateway.cli import edge; edge()"


async def until(directory: Path, good: Callable[[AgentStatus], bool]) -> AgentStatus:
    """Wait for a status of the agent in ``directory`` that is ``good``."""
    async with asyncio.timeout(30):
        while True:
            try:
                status = agent_status.read(directory)
            except NoStatusError:
                pass
            else:
                if good(status):
                    return status
            await asyncio.sleep(0.02)


@asynccontextmanager
async def agent_process(file: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *options,
        "-c",
        EDGE,
        "-c",
        str(file),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.stderr.read()
        await process.wait()


@pytest.mark.mosquitto
async def test_from_register_to_server_and_an_orderly_end(
    tmp_path: Path, meter: Meter, server: Server
) -> None:
    edge = config.load(edge_toml(tmp_path, broker=server.port, meter=meter.port))
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(app.run(edge, stop=stop))
        await server.until_readings(20)
        running = await until(tmp_path / "data", lambda s: s.stations[0].devices[0].ok)
        assert running.running
        assert running.stations[0].connected
        stop.set()
    # What the device served is what the server has, but for a poll that the end cut short.
    got = len(server.readings)
    assert got in {meter.served, meter.served - 1}
    assert server.readings == [("soil_moisture_counts", float(n)) for n in range(1, got + 1)]
    assert not (await server.until_status(online=False)).online
    last = agent_status.read(tmp_path / "data")
    assert not last.running
    assert last.stations[0].queue == 0
    assert last.stations[0].records == got
    clocks = [wire.decode_body(pack.body).clk for pack in server.taken]
    assert set(clocks) <= {ClockTrust.FREE, ClockTrust.SYNC}
    assert clocks[-1] is ClockTrust.SYNC


@pytest.mark.mosquitto
async def test_a_printed_slip_reaches_the_server(
    tmp_path: Path, meter: Meter, server: Server
) -> None:
    tester, port = os.openpty()
    tty.setraw(port)
    file = edge_toml(tmp_path, broker=server.port, meter=meter.port)
    file.write_text(
        file.read_text()
        + f"""
[[station.device]]
path = "tester1"
driver = "slip"
serial = "{os.ttyname(port)}"
charset = "gbk"
[station.device.defaults]
parameter = "organophosphate_carbamate"
method = "enzyme_inhibition"
"""
    )
    stop = asyncio.Event()
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(app.run(config.load(file), stop=stop))
            await until(tmp_path / "data", lambda s: s.stations[0].devices[1].ok)
            os.write(
                tester,
                "样品编号: S-0001\n样品名称: 菠菜\n抑制率: 61.5%\n结果: 阳性\n\n".encode("gbk"),
            )
            await server.until(lambda: bool(server.tests))
            stop.set()
    finally:
        os.close(tester)
        os.close(port)
    (pack,) = [pack for pack in server.taken if b'"tests"' in pack.body]
    (record,) = wire.decode_body(pack.body).tests or ()
    assert (record.sample_no, record.product_name) == ("S-0001", "菠菜")
    assert str(record.value) == "61.5"
    assert agent_status.read(tmp_path / "data").stations[0].devices[1].seen_ms is not None


async def test_two_agents_do_not_share_a_data_dir(tmp_path: Path, meter: Meter) -> None:
    edge = config.load(edge_toml(tmp_path, broker=free_port(), meter=meter.port))
    with (
        app.only_agent(edge.data_dir),
        pytest.raises(DataDirBusyError, match=rf"process {os.getpid()}"),
    ):
        await app.run(edge, stop=asyncio.Event())
    with app.only_agent(edge.data_dir):
        pass


async def test_a_device_that_falls_silent_and_comes_back(tmp_path: Path, meter: Meter) -> None:
    edge = config.load(edge_toml(tmp_path, broker=free_port(), meter=meter.port))
    stop = asyncio.Event()
    data = tmp_path / "data"
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(app.run(edge, stop=stop))
        await until(data, lambda s: s.stations[0].devices[0].ok)
        meter.silent = True
        gone = await until(data, lambda s: not s.stations[0].devices[0].ok)
        assert gone.stations[0].devices[0].seen_ms is not None
        meter.silent = False
        await until(data, lambda s: s.stations[0].devices[0].ok)
        stop.set()


@pytest.mark.mosquitto
async def test_kill_9_keeps_what_was_committed_and_the_next_start_delivers_it(
    tmp_path: Path, meter: Meter, mosquitto: Mosquitto, server: Server
) -> None:
    file = edge_toml(tmp_path, broker=mosquitto.port, meter=meter.port)
    data = tmp_path / "data"
    server.answering = False
    committed: list[float | None] = []
    for _ in range(2):
        async with agent_process(file) as process:
            await meter.until_served(meter.served + 15)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        committed = spooled(data / "hl-001" / "spool.db")
        assert not agent_status.is_alive(agent_status.read(data).pid)
    assert len(committed) >= 20
    assert any(status.online for _, status in server.statuses)
    server.answering = True
    async with agent_process(file) as process:
        await server.until_readings(len(committed) + 10)
        process.terminate()
        assert await process.wait() == 0
    values = [v for _, v in server.readings]
    assert values[: len(committed)] == committed
    # What a kill caught in memory is missing; nothing comes twice.
    assert all(a < b for a, b in pairwise(v for v in values if v is not None))
    will = next(status for retained, status in server.statuses if not (status.online or retained))
    assert not will.key  # the broker spoke for the killed agent


async def test_sigterm_while_the_broker_is_away_keeps_the_readings(
    tmp_path: Path, meter: Meter
) -> None:
    file = edge_toml(tmp_path, broker=free_port(), meter=meter.port)
    data = tmp_path / "data"
    async with agent_process(file) as process:
        await meter.until_served(10)
        assert resident_mb(process.pid) < 60.0
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    last = agent_status.read(data)
    assert not last.running
    assert last.stations[0].records in {meter.served, meter.served - 1}
    assert last.stations[0].queue > 0


def spooled(file: Path) -> list[float | None]:
    """Values on disk, in order."""
    spool = Spool.open(file, cap_bytes=1 << 30, new_id=str)
    try:
        return [
            record.v
            for epoch in sorted(spool.epochs.values(), key=lambda e: e.ord)
            for pack in spool.packs_from(epoch.epoch, 1, 10_000)
            for record in wire.decode_body(pack.body).readings or ()
        ]
    finally:
        spool.close()


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


async def test_a_task_that_lost_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "CANCEL_AGAIN_S", 0.01)
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(forgetful())
        await asyncio.sleep(0)
        await app._end([task], 0.0)
    assert task.cancelled()


SERVER_MODULES = {
    *("numpy", "sqlalchemy", "duckdb", "fastapi", "starlette", "pydantic", "uvicorn", "zstandard"),
    *("alembic", "httpx", "prometheus_client", "ingest", "alerts", "dashboards", "demo"),
}


@pytest.mark.mosquitto
async def test_a_running_agent_imports_nothing_of_the_server(
    tmp_path: Path, meter: Meter, server: Server
) -> None:
    file = edge_toml(tmp_path, broker=server.port, meter=meter.port)
    async with agent_process(file, "-X", "importtime") as process:
        assert process.stderr is not None
        await server.until_readings(3)
        process.terminate()
        lines = (await process.stderr.read()).decode().splitlines()
        assert await process.wait() == 0
    names = {line.rsplit("|", 1)[1].strip() for line in lines if line.startswith("import time:")}
    assert {"gateway.app", "gateway.uplink", "aiomqtt"} <= names
    assert {name.split(".")[0] for name in names} & SERVER_MODULES == set()


@pytest.mark.mosquitto
async def test_an_idle_agent_stays_below_60_mb(
    tmp_path: Path, meter: Meter, server: Server
) -> None:
    file = edge_toml(tmp_path, broker=server.port, meter=meter.port, poll_interval_s=0.2)
    device = file.read_text().split("[[station.device]]")[1]
    other = device.replace("pond/meter", "pond/other").replace("unit_id = 1", "unit_id = 2")
    file.write_text(f"{file.read_text()}[[station.device]]{other}")
    async with agent_process(file) as process:
        status = await until(
            tmp_path / "data",
            lambda s: s.stations[0].connected and all(d.ok for d in s.stations[0].devices),
        )
        assert len(status.stations[0].devices) == 2
        await server.until_readings(20)
        assert resident_mb(process.pid) < 60.0
