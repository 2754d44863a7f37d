"""The judge: quality flags and limits on one thread, and ``agrigate judge`` on lines."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench import ioos
from bench.county import CENTRES, INDICATORS, STEPS
from bench.machine import load
from bench.processes import REPO, BenchError, python
from ingest.batch import Batch, TakenPack
from ingest.decode import ArrivalOrder, Decoder, SeriesIndex
from ingest.detect.behaviour import EPOCH
from ingest.detect.flags import QualityFlags
from ingest.detect.thresholds import NoThresholds
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.readings.batches import ReadingJudge
from ingest.judge.readings.companions import Companions
from ingest.judge.readings.series import SeriesTable
from ingest.operational import Operational
from ingest.registry.context import PlotContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SERIES = 100_000
DEVICES = SERIES // len(INDICATORS)
LEARN_ROUNDS = 4 * EPOCH + 1
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
    """Return readings/s of flags and limits beside numpy's own limit, lines/s, and each test beside ioos_qc's."""
    lines = 10_000
    before = load()
    repeats = [_columns(16 if quick else 2 * EPOCH) for _ in range(3 if quick else 5)]
    flags, alone, floor = (statistics.median(one) for one in zip(*repeats, strict=True))
    with_startup, own, lines_floor = _lines(lines)
    return {
        "what": f"{SERIES} series, none over its limit; {lines} lines of soil cadmium",
        "load_before": before,
        "n": len(repeats),
        "flags_and_limits_readings_per_s": round(flags),
        "flags_and_limits_spread": [round(x) for x in _ends(one[0] for one in repeats)],
        "flags_readings_per_s": round(alone),
        "numpy_floor_readings_per_s": round(floor),
        "judge_lines_per_cpu_s": round(lines / own),
        "judge_command_s": round(with_startup, 2),
        "ratios": {
            "flags_and_limits_to_numpy_floor": round(flags / floor, 3),
            "judge_lines_to_json_floor": round(lines / own / lines_floor, 4),
        },
        "beside_ioos_qc": ioos.measure(quick=quick),
    }


def _ends(values: Iterable[float]) -> tuple[float, float]:
    held = list(values)
    return min(held), max(held)


def _best(work: Callable[[], object], runs: int) -> float:
    """Return the least seconds that ``work`` takes: what else ran only adds."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)


def _columns(rounds: int) -> tuple[float, float, float]:
    """Return readings/s of flags and limits, of the flags alone, and of numpy's floor; all means over ``rounds``.

    Each round is a county polled once: every series has one reading, station after station in another order. The rounds
    begin with channels that are learnt, and pass over two closings of their epochs.
    """
    index = SeriesIndex()
    for n in range(DEVICES):
        for code in INDICATORS:
            index.number(f"s-{n % 500:03}", f"soil{n // 500}/{code}")
    rng = np.random.default_rng(1)
    stations = np.arange(SERIES).reshape(500, -1)
    centres, steps = np.tile(CENTRES, DEVICES), np.tile(STEPS, DEVICES)
    ones, zeros = np.ones(SERIES, np.int64), np.zeros(SERIES, np.int32)
    failed = np.zeros(SERIES, np.bool_)
    pack = TakenPack(1, "s-000", "E", 1, NOW_MS, b"")
    decoder = Decoder(index)
    order, quality = ArrivalOrder(), QualityFlags(NoThresholds())
    high, low = np.full(SERIES, np.inf), np.full(SERIES, -np.inf)
    found = flagged = 0
    whole_s = flags_s = floor_s = 0.0
    with tempfile.TemporaryDirectory(prefix="bench-judge-") as name:
        operational = Operational(f"sqlite:///{Path(name) / 'operational.db'}")
        operational.migrate()
        table = SeriesTable(standard_catalogue(), _Contexts())
        table.update(index.series)
        judge = ReadingJudge(table, Companions())
        with operational.read() as connection:
            for n in range(LEARN_ROUNDS + rounds):
                series = rng.permutation(stations).ravel().astype(np.int32)
                v = centres[series] + rng.integers(-5, 6, SERIES) * steps[series]
                t_ms = np.full(SERIES, NOW_MS + 60_000 * n)
                flags = np.zeros(SERIES, np.uint32)
                started = time.perf_counter()
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
                batch = order.flag(batch)
                batch = quality.flag(batch, order.by_series)
                between = time.perf_counter()
                found += len(judge.findings(connection, batch, ones > 0))
                ended = time.perf_counter()
                np.flatnonzero((v > high[series]) | (v < low[series]))
                if n >= LEARN_ROUNDS:
                    whole_s += ended - started
                    flags_s += between - started
                    floor_s += time.perf_counter() - ended
                    flagged += int(np.count_nonzero(batch.flags))
        operational.close()
    if found or flagged:
        raise BenchError(f"{found} findings and {flagged} flags where nothing is wrong")
    readings = SERIES * rounds
    return readings / whole_s, readings / flags_s, readings / floor_s


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
