"""One value walked by hand: simulator's registers, inbox, DuckDB and API hold the same bits."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import struct
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import zstandard

from demo.chaos.stored import store
from demo.county import Script
from demo.journal import REPLIES, Reply, read_all
from demo.orchestrator import prepare

if TYPE_CHECKING:
    from demo.orchestrator import Run

NEVER_S = 1e9


async def replies_of(run: Run, device: str, at_least: int) -> list[Reply]:
    async with asyncio.timeout(90):
        while True:
            found = [
                reply
                for reply in read_all(run.files.journal_dir / REPLIES, Reply)
                if (reply.station, reply.device) == ("hl-001", device)
            ]
            if len(found) >= at_least:
                return found
            run.fleet.check()
            await asyncio.sleep(0.2)


def by_hand(reply: Reply, indicator: str) -> float:
    """Decode as the manuals say, with no code of ours."""
    data = bytes.fromhex(reply.registers)
    if indicator == "water_ph":  # BOQU PHG-2091: registers 0x2602-0x2603, little-endian float
        assert (reply.address, reply.count) == (0x2600, 4)
        return float(struct.unpack("<f", data[4:8])[0])
    assert (indicator, reply.address) == ("soil_ph", 0)  # Renke: register 3, tenths
    return int.from_bytes(data[6:8], "big") / 10


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


async def test_same_bits_everywhere(tmp_path: Path) -> None:
    script = Script(pollution_s=NEVER_S, inhibition_s=NEVER_S, banned_s=NEVER_S)
    chosen: dict[tuple[str, str], tuple[float, int]] = {}
    async with prepare(tmp_path / "run", api_key=tmp_path / "api-key", script=script) as run:
        await replies_of(run, "canal/ph", 4)
        await replies_of(run, "plot1/soil1", 3)
        await run.quiet()
        assert (await run.settle(within_s=60)).balanced
        async with httpx.AsyncClient(base_url=f"{run.url}/api/v1", trust_env=False) as client:
            for device, indicator in (("canal/ph", "water_ph"), ("plot1/soil1", "soil_ph")):
                served = [by_hand(r, indicator) for r in await replies_of(run, device, 1)]
                asked = {"station": "hl-001", "device": device, "indicator": indicator}
                points = (await client.get("/readings", params=asked)).json()["points"]
                assert [bits(v) for _, v, _, _ in points] == [bits(v) for v in served]
                chosen[device, indicator] = served[2], points[2][0]
    data_dir = Path(tomllib.loads(run.files.server.read_text("utf-8"))["server"]["data_dir"])
    bodies = inbox_bodies(data_dir / "inbox.db")
    stored = store(data_dir / "readings.duckdb")
    for (device, indicator), (value, t_ms) in chosen.items():
        series = stored["hl-001", device, indicator]
        assert [bits(v) for v in series.v[series.t_ms == t_ms].tolist()] == [bits(value)]
        # The digits on the wire are the shortest that name this double, the decimal itself for tenths.
        assert any(f'"v":{json.dumps(value)}' in body for body in bodies if indicator in body)


def inbox_bodies(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT body FROM packs WHERE station = 'hl-001'").fetchall()
    finally:
        connection.close()
    return [zstandard.decompress(body).decode("utf-8") for (body,) in rows]
