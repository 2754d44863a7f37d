"""The end of a three-day outage: 100 stations send what they kept, while others go on and tests come in between.

The volume is that of a county's station, 20,000 readings a day: a poll of a device is a pack of five readings. How old
the readings are is simulated, everything else is real: spools, links, mosquitto, inbox, judge, DuckDB.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
import urllib.error
from pathlib import Path

from ulid import ULID

from bench import county
from bench.machine import load
from bench.processes import BenchError, Child, child, mosquitto, python
from bench.sender import CAP_BYTES
from gateway import wire
from gateway.spool import Spool
from gateway.wire import Lane

POLL_READINGS = len(county.INDICATORS)
READINGS_PER_DAY = 20_000
DAY_MS = 24 * 3600 * 1000
FILL_COMMIT = 1000  # packs
SAMPLE_S = 2.0
GIVE_UP_S = 1800.0


def fill(directory: Path, stations: list[str], days: float) -> int:
    """Put ``days`` of packs into the spool of each station; return packs a station.

    The spools are copies of one: an epoch belongs to a station, so equal names do not meet.
    """
    packs = round(days * READINGS_PER_DAY / POLL_READINGS)
    step_ms = round(days * DAY_MS / packs)
    start_ms = time.time_ns() // 1_000_000 - round(days * DAY_MS)
    first = directory / stations[0] / "spool.db"
    spool = Spool.open(first, cap_bytes=CAP_BYTES, new_id=lambda: str(ULID()))
    for begin in range(0, packs, FILL_COMMIT):
        bodies = [
            (Lane.READINGS, poll_body(start_ms + n * step_ms, n % county.DEVICES), POLL_READINGS)
            for n in range(begin, min(packs, begin + FILL_COMMIT))
        ]
        spool.append_many(bodies, start_ms + begin * step_ms)
    spool.close()
    for code in stations[1:]:
        shutil.copy(first, directory / code / "spool.db")
    return packs


def poll_body(t_ms: int, device: int) -> bytes:
    """Return the body of one poll of one device."""
    readings = county.readings(POLL_READINGS * county.DEVICES, t_ms)
    of_device = list(readings)[device * POLL_READINGS : (device + 1) * POLL_READINGS]
    return wire.encode_readings(of_device)


def measure(*, quick: bool) -> dict[str, object]:
    """Return how fast the backlog drains, what others notice, and how memory behaves."""
    drained, live, days = (20, 5, 0.5) if quick else (100, 20, 3.0)
    before = load()
    with tempfile.TemporaryDirectory(prefix="bench-outage-") as name:
        directory = Path(name)
        codes = county.station_codes(drained + live)
        keys = {code: county.public_key(directory, code) for code in codes}
        packs = fill(directory, codes[:drained], days)
        with mosquitto(directory) as (_, port):
            files = county.write_server(directory, keys, county.device_paths(), broker_port=port)
            with county.server(files) as server:
                county.wait_ready(files, server)
                argv = python("bench.outage_sender", name, str(port), str(drained), *codes)
                with child("sender", argv, directory) as senders:
                    samples = _watch(files, server, senders)
                result = json.loads(senders.log.read_text("utf-8"))
    seconds = result.pop("drained_s")
    readings = packs * drained * POLL_READINGS
    return {
        "what": f"{drained} stations back after {days:g} days, {live} others live; {readings} readings",
        "load_before": before,
        "drained_in_s": round(seconds, 1),
        "packs_per_s": round(packs * drained / seconds),
        "readings_per_s": round(readings / seconds),
        **result,
        **_memory(samples),
        "judge_behind_packs_max": max((s["behind"] for s in samples), default=0),
        "ratios": {"times_real_time": round(days * DAY_MS / 1000 / seconds, 1)},
    }


def _watch(files: county.ServerFiles, server: Child, senders: Child) -> list[dict[str, float]]:
    """Sample memory and the judge's backlog until the senders end."""
    samples: list[dict[str, float]] = []
    started = time.monotonic()
    while senders.process.poll() is None:
        server.check()
        now_s = time.monotonic() - started
        if now_s > GIVE_UP_S:
            raise BenchError(f"not drained after {GIVE_UP_S:.0f} s")
        behind = _judge_behind(files)
        samples.append(
            {"s": now_s, "server": server.rss_mb(), "edge": senders.rss_mb(), "behind": behind}
        )
        time.sleep(SAMPLE_S)
    if senders.process.returncode:
        raise BenchError(senders.log.read_text("utf-8")[-2000:])
    return samples


def _judge_behind(files: county.ServerFiles) -> float:
    try:
        return files.metrics()['ingest_consumer_behind_packs{consumer="judge"}']
    except urllib.error.URLError as exc:
        raise BenchError(f"/metrics does not answer: {exc}") from exc


def _memory(samples: list[dict[str, float]]) -> dict[str, float]:
    """Return the peak of the server's memory and its slope in the second half, caches being full (MiB a minute)."""
    warm = [s for s in samples if s["s"] >= samples[-1]["s"] / 2]
    return {
        "server_rss_peak_mb": max(s["server"] for s in samples),
        "server_rss_slope_mb_per_min": _slope_per_min(warm, "server"),
        "senders_rss_slope_mb_per_min": _slope_per_min(warm, "edge"),
    }


def _slope_per_min(samples: list[dict[str, float]], of: str) -> float:
    fit = statistics.linear_regression([s["s"] / 60 for s in samples], [s[of] for s in samples])
    return round(fit.slope, 2)


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
