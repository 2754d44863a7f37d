"""The judge: quality flags and limits on one thread, and ``agrigate judge`` on lines."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench.county import CENTRES, INDICATORS, STEPS
from bench.machine import load
from bench.processes import REPO, BenchError, python
from ingest.batch import Batch, TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.judge.batches import ReadingJudge
from ingest.judge.catalogue import standard_catalogue
from ingest.judge.companions import Companions
from ingest.judge.limit_tables import COMPANIONS
from ingest.judge.limits import PH
from ingest.judge.series import SeriesTable
from ingest.operational import Operational
from ingest.registry.context import PlotContext

if TYPE_CHECKING:
    from collections.abc import Callable

SERIES = 100_000
DEVICES = SERIES // len(INDICATORS)
NOW_MS = 1_763_900_000_000
LINE = (
    b'{"id":%d,"kind":"reading","indicator":"soil_cd","value":0.%d,"unit":"mg/kg","at":"2026-05-01",'
    b'"context":{"ph":6.8,"land_use":"paddy"}}\n'
)


class _Contexts:
    """A registry where every device has a plot with a use and a pH."""

    version = 1

    def context(self, station: str, device: str) -> PlotContext | None:
        return PlotContext(plot_id=f"{station}-{device}", land_use="other", soil_ph=6.8)


def measure(*, quick: bool) -> dict[str, object]:
    """Return readings/s of the compiled pass beside numpy's own limit, and lines/s."""
    runs, lines = (5 if quick else 15), 10_000
    before = load()
    flags, floor = _columns(1_000_000, runs)
    with_startup, own, lines_floor = _lines(lines)
    return {
        "what": f"{SERIES} series, none over its limit; {lines} lines of soil cadmium",
        "load_before": before,
        "flags_and_limits_readings_per_s": round(flags),
        "numpy_floor_readings_per_s": round(floor),
        "judge_lines_per_cpu_s": round(lines / own),
        "judge_command_s": round(with_startup, 2),
        "ratios": {
            "flags_and_limits_to_numpy_floor": round(flags / floor, 3),
            "judge_lines_to_json_floor": round(lines / own / lines_floor, 4),
        },
    }


def _best(work: Callable[[], object], runs: int) -> float:
    """Return the least seconds that ``work`` takes: what else ran only adds."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)


def _columns(readings: int, runs: int) -> tuple[float, float]:
    """Return readings/s of flags and limits, and of two gathers with a comparison each (all that they need)."""
    index = SeriesIndex()
    for n in range(DEVICES):
        for code in INDICATORS:
            index.number(f"s-{n % 500:03}", f"soil{n // 500}/{code}")
    rng = np.random.default_rng(1)
    series = rng.integers(0, SERIES, readings).astype(np.int32)
    which = series % len(INDICATORS)
    v = np.array(CENTRES)[which] + rng.integers(-5, 6, readings) * np.array(STEPS)[which]
    t_ms = NOW_MS + np.arange(readings, dtype=np.int64) // 1000
    flags = np.zeros(readings, np.uint8)
    failed = np.zeros(readings, np.bool_)
    pack = TakenPack(1, "s-000", "E", 1, NOW_MS, b"")
    decoder = Decoder(index)
    zeros = np.zeros(readings, np.int32)
    ones = np.ones(readings, np.int64)
    with tempfile.TemporaryDirectory(prefix="bench-judge-") as name:
        operational = Operational(f"sqlite:///{Path(name) / 'operational.db'}")
        operational.migrate()
        companions = Companions(COMPANIONS[PH])
        table = SeriesTable(standard_catalogue(), _Contexts())
        table.update(index.series)
        judge = ReadingJudge(table, companions)
        found = 0
        with operational.read() as connection:

            def work() -> None:
                nonlocal found
                # The decoder's own step, without the JSON before it.
                q = decoder._flag_values(series, v, flags, failed)  # noqa: SLF001
                batch = Batch(
                    packs=[pack],
                    series=index.series,
                    series_id=series,
                    t_ms=t_ms,
                    v=v,
                    q=q,
                    flags=flags,
                    received_ms=t_ms,
                    inbox_pos=ones,
                    pack_index=zeros,
                    position=zeros,
                    tests=[],
                    faults=[],
                )
                found += len(judge.findings(connection, batch, ones > 0))

            took = _best(work, runs)
            high, low = np.full(SERIES, np.inf), np.full(SERIES, -np.inf)
            least = _best(lambda: np.flatnonzero((v > high[series]) | (v < low[series])), runs)
        operational.close()
    if found:
        raise BenchError(f"{found} findings where nothing is over its limit")
    return readings / took, readings / least


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lines(count: int) -> tuple[float, float, float]:
    """Return seconds of the command, its processor seconds after the start, and lines/s of JSON alone."""
    text = b"".join(LINE % (n, n % 90 + 10) for n in range(count))

    def run(given: bytes) -> tuple[float, float]:
        started, used = time.perf_counter(), _children_s()
        done = subprocess.run(
            python("agrigate", "judge"), input=given, cwd=REPO, stdout=subprocess.PIPE, check=True
        )
        if done.stdout.count(b"\n") != given.count(b"\n"):
            raise BenchError("agrigate judge did not answer every line")
        return time.perf_counter() - started, _children_s() - used

    start_s = min(run(LINE % (1, 10))[1] for _ in range(3))
    runs = [run(text) for _ in range(3)]
    whole_s, used_s = min(wall for wall, _ in runs), min(used for _, used in runs)
    decode, encode = msgspec.json.decode, msgspec.json.encode
    split = text.splitlines()
    floor_s = _best(lambda: [encode(decode(line)) for line in split], 5)
    return whole_s, used_s - start_s, count / floor_s


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
