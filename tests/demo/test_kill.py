"""kill -9 of an agent, of the server and of the broker in mid-run: the three journals still agree."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import httpx
import pytest

from demo.balance import table
from demo.county import Script
from demo.journal import REPLIES, STAGED, Reply, Staged, read_all
from demo.orchestrator import BROKER, SERVER, Run, prepare

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = Script(pollution_s=2.0, inhibition_s=3.0, banned_s=4.0)


async def served(run: Run, more: int) -> None:
    """Return when ``more`` replies have been served from now on."""
    path = run.files.journal_dir / REPLIES
    goal = len(read_all(path, Reply)) + more
    async with asyncio.timeout(90):
        while len(read_all(path, Reply)) < goal:
            run.fleet.check()
            await asyncio.sleep(0.2)


async def breached(run: Run, count: int) -> None:
    """Return when the simulators have staged ``count`` breaches."""
    path = run.files.journal_dir / STAGED
    async with asyncio.timeout(90):
        while sum(s.phase == "breached" for s in read_all(path, Staged)) < count:
            run.fleet.check()
            await asyncio.sleep(0.2)


async def balanced(run: Run) -> None:
    await breached(run, 4)
    await run.quiet()
    balance = await run.settle(within_s=180)
    report = "\n".join(table(balance))
    assert balance.balanced, report
    assert balance.webhooks.expected == balance.webhooks.verified == 4, report
    lines = [*balance.readings, *balance.tests]
    assert sum(line.stored for line in lines) > 200, report
    # What may die with a killed agent is the poll under way on each bus, not more.
    assert sum(line.cut for line in lines) <= 40 * len(run.kills), report


async def test_three_journals_agree(tmp_path: Path) -> None:
    stale = tmp_path / "api-key"
    stale.write_text("agk_of_an_earlier_run", "ascii")
    async with prepare(tmp_path / "run", api_key=stale, script=SCRIPT) as run:
        await served(run, 60)
        await balanced(run)
        await acknowledged(run)


async def acknowledged(run: Run) -> None:
    """Write with the key that the demo shows."""
    key = run.files.api_key.read_text("ascii").strip()
    async with httpx.AsyncClient(base_url=f"{run.url}/api/v1", trust_env=False) as client:
        alert = (await client.get("/alerts")).json()["alerts"][0]["alert_id"]
        body = {"actor": "演示"}
        assert (await client.post(f"/alerts/{alert}/ack", json=body)).status_code == 401
        reply = await client.post(f"/alerts/{alert}/ack", json=body, headers={"X-API-Key": key})
    assert reply.status_code == 200, reply.text


async def kill_each(run: Run) -> None:
    for name in ("edge-1", SERVER, "edge-2", BROKER, SERVER, "edge-5"):
        await served(run, 15)
        await run.kill_and_restart(name)
        if name == SERVER:
            await run.wait_for_server()
    await served(run, 30)


async def test_kills_with_the_embedded_broker(tmp_path: Path) -> None:
    async with prepare(tmp_path, api_key=tmp_path / "api-key", script=SCRIPT) as run:
        await kill_each(run)
        await balanced(run)


@pytest.mark.mosquitto
async def test_kills_with_mosquitto(tmp_path: Path) -> None:
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("mosquitto is not installed; CI must have it")
        pytest.skip("mosquitto is not installed")
    run = prepare(tmp_path, api_key=tmp_path / "api-key", script=SCRIPT)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {run.ports.mqtt} 127.0.0.1\nallow_anonymous true\npersistence false\n", "ascii"
    )
    run.broker_argv = (program, "-c", str(settings))
    async with run:
        await kill_each(run)
        await balanced(run)
