"""From a register's change to the verified webhook, with a load of readings from other stations beside it."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alerts.delivery.signing import new_secret
from bench import county
from bench.machine import load
from bench.modbus import Registers
from bench.processes import BenchError, child, free_port, mosquitto, python, until
from demo.receiver import Receiver
from gateway.packer import LINGER_S
from ingest.service import GROUP_S

if TYPE_CHECKING:
    from bench.processes import Child

STATION = "bench-alarm"
POLL_S = 0.5
CADMIUM = 45  # × 0.01 mg/kg: over GB 15618's 0.3 at this pH, under the intervention value
SETTLE_S = 3.0
ARRIVE_S = 10.0
COMMITS = 4  # on the way: spool, inbox, alert with its outbox row, the receiver's ledger


def measure(*, quick: bool) -> dict[str, object]:
    """Return percentiles in milliseconds, beyond the poll interval and after the poll that saw the change."""
    stations, readings_per_s, changes = (20, 20_000, 30) if quick else (50, 50_000, 200)
    before = load()
    alone = asyncio.run(_run(max(10, changes // 4), stations, 0))
    beside = asyncio.run(_run(changes, stations, readings_per_s))
    # What the path waits for by design on this disk; parts of it overlap.
    reference_ms = (LINGER_S + GROUP_S) * 1000 + COMMITS * _commit_ms()
    return {
        "what": f"{changes} registers changed one after the other, polled every {POLL_S} s,"
        f" beside {readings_per_s} readings/s of {stations} stations",
        "load_before": before,
        **beside,
        "without_load": alone,
        "reference_ms": round(reference_ms, 1),
        "ratios": {
            "reference_to_p50_without_load": round(
                reference_ms / float(str(alone["after_poll_p50_ms"])), 3
            )
        },
    }


def _commit_ms() -> float:
    """Return the median milliseconds of a durable SQLite commit on this disk."""
    took = []
    with tempfile.TemporaryDirectory(prefix="bench-commit-") as name:
        db = sqlite3.connect(Path(name) / "commit.db", isolation_level=None)
        db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (body BLOB);"
        )
        for _ in range(50):
            started = time.perf_counter()
            db.execute("INSERT INTO t VALUES (?)", (b"x" * 4096,))
            took.append(time.perf_counter() - started)
        db.close()
    return statistics.median(took) * 1000


async def _run(changes: int, stations: int, readings_per_s: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="bench-latency-") as name, ExitStack() as outer:
        directory = Path(name)
        secret = new_secret()
        (directory / "secret").write_text(secret, "ascii")
        registers = Registers(default=0)
        modbus = await asyncio.start_server(registers.serve, "127.0.0.1", 0)
        _, broker_port = outer.enter_context(mosquitto(directory))
        journal, receiver_port = directory / "received.jsonl", free_port()
        async with modbus, Receiver(secret=secret, journal=journal, port=receiver_port) as url:
            codes = county.station_codes(stations)
            keys = {code: county.public_key(directory, code) for code in codes}
            paths = [f"soil{n}" for n in range(changes)]
            files = county.write_server(
                directory,
                {**keys, STATION: county.public_key(directory / "data", STATION)},
                [*county.device_paths(), *paths],
                broker_port=broker_port,
                webhook=f'[[webhook]]\nid = "bench"\nurl = "{url}"\nsecret_file = "secret"\nallow_http = true\n',
            )
            with ExitStack() as stack:  # ended before the servers they talk to
                server = stack.enter_context(county.server(files))
                await asyncio.to_thread(county.wait_ready, files, server)
                config = directory / "edge.toml"
                port = modbus.sockets[0].getsockname()[1]
                config.write_text(_edge_toml(paths, port, broker_port), "utf-8")
                agent = stack.enter_context(
                    child("edge", python("agrigate", "edge", "-c", str(config)), directory)
                )
                await asyncio.to_thread(until, lambda: registers.polls > 2 * changes, agent, "poll")
                spread_s = changes * 0.08
                senders: Child | None = None
                if readings_per_s:
                    seconds = str(spread_s + 2 * SETTLE_S + 2.0)
                    rate = str(readings_per_s / 100)
                    argv = python("bench.sender", name, str(broker_port), rate, seconds, *codes)
                    senders = stack.enter_context(child("sender", argv, directory))
                    await asyncio.sleep(SETTLE_S)
                stored, began = files.metrics()["store_readings"], time.time()
                changed = await _change(registers, changes)
                lasted = time.time() - began
                stored = files.metrics()["store_readings"] - stored
                await _arrive(journal, paths, server)
                if senders is not None:
                    await asyncio.to_thread(_ended, senders)
            await asyncio.sleep(0.1)  # the agent's connections end
        received = _received(journal)
        total = np.array([received[path] - changed[path] for path in paths])
        served = {f"soil{unit - 1}": at * 1000 for (unit, _), at in registers.served.items()}
        after_poll = np.array([received[path] - served[path] for path in paths])
        beyond = total - POLL_S * 1000
        return {
            "beyond_poll_interval_p50_ms": _percentile(beyond, 50),
            "beyond_poll_interval_p99_ms": _percentile(beyond, 99),
            "after_poll_p50_ms": _percentile(after_poll, 50),
            "after_poll_p99_ms": _percentile(after_poll, 99),
            "after_poll_max_ms": _percentile(after_poll, 100),
            "stored_readings_per_s": round(stored / lasted),
        }


def _percentile(values: np.ndarray[tuple[int], np.dtype[np.float64]], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1)


async def _change(registers: Registers, changes: int) -> dict[str, float]:
    """Put cadmium into one device after the other; return when (UTC ms), by device path."""
    rng = random.Random(1)
    changed = {}
    for n in range(changes):
        await asyncio.sleep(rng.uniform(0.04, 0.12))
        changed[f"soil{n}"] = time.time() * 1000
        registers.value[n + 1, 0] = CADMIUM
    return changed


def _received(journal: Path) -> dict[str, float]:
    """Return when the first verified event of each device came (UTC ms)."""
    received: dict[str, float] = {}
    lines = journal.read_text("utf-8").splitlines() if journal.exists() else []
    for line in lines:
        entry = json.loads(line)
        received.setdefault(entry["event"]["data"]["site"]["device"], entry["received_ms"])
    return received


async def _arrive(journal: Path, paths: list[str], server: Child) -> None:
    deadline = time.monotonic() + ARRIVE_S
    while missing := set(paths).difference(_received(journal)):
        server.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{len(missing)} webhooks did not come within {ARRIVE_S:.0f} s")
        await asyncio.sleep(0.1)


def _ended(senders: Child) -> None:
    if senders.process.wait(60):
        raise BenchError(senders.log.read_text("utf-8")[-2000:])


def _edge_toml(paths: list[str], port: int, broker_port: int) -> str:
    parts = [
        f'[agent]\ndata_dir = "data"\n\n[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n\n'
        f'[[station]]\ncode = "{STATION}"\n'
    ]
    parts += [
        f'[[station.device]]\npath = "{path}"\ndriver = "modbus"\nhost = "127.0.0.1"\nport = {port}\n'
        f"unit_id = {unit}\npoll_interval_s = {POLL_S}\n"
        'points = [{ indicator = "soil_cd", address = 0, type = "u16", scale = "0.01", unit = "mg/kg" }]\n'
        for unit, path in enumerate(paths, start=1)
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
