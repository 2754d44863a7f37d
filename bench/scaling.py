"""What a reading costs the server as the county grows: by the number of series, and by the size of the packs."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile

from bench import floors
from bench.floors import spread
from bench.machine import load
from bench.processes import REPO, BenchError, python

RUNS = 3
SERIES = (1_000, 5_000, 20_000, 100_000)
PACKS = (1, 10, 100, 1_000)
QUICK_SERIES, QUICK_PACKS = (1_000, 5_000), (10, 100)
READINGS, QUICK_READINGS = 500_000, 50_000
FULL_PACK = 100
PACKS_AT_MOST = (
    40_000  # of one reading each; a commit of 64 of them takes what one of 6,400 readings takes
)
NOTES = (
    "Without broker, receipts and HTTP. Intake, inbox, consumer threads, judge, SQLite and DuckDB are the real ones.",
    "A commit takes 64 packs, at most 6,400 readings: what comes in the 20 ms for which the service gathers.",
    "Every series was seen once before the measuring begins; that first time is first_us_per_series, with its first"
    " readings (one to five; of packs of 1,000, fifty).",
    "Half a million readings are 500 of each of 1,000 series, and 5 of each of 100,000: there no channel has learnt"
    " its own behaviour yet.",
    "An agent closes a pack at 100 records or 48 KiB. Packs of 1,000 records are sent as one all the same: the server"
    " takes up to 128 KiB.",
    "Packs of one reading are measured on 40,000 readings, packs of ten on 400,000.",
    "Upkeep (roll-ups, parts) does not run meanwhile.",
)


def measure(*, quick: bool) -> dict[str, object]:
    """Return readings per processor second, memory and stages for each number of series and each size of pack."""
    series = QUICK_SERIES if quick else SERIES
    packs = QUICK_PACKS if quick else PACKS
    readings = QUICK_READINGS if quick else READINGS
    before = load()
    points = list(dict.fromkeys([(s, FULL_PACK) for s in series] + [(series[0], p) for p in packs]))
    runs: dict[tuple[int, int], list[dict[str, float]]] = {point: [] for point in points}
    for _ in range(RUNS):  # round by round: what else the machine does meets every point
        for point in points:
            runs[point].append(_run(*point, min(readings, PACKS_AT_MOST * point[1])))
    floor = floors.measure(readings, RUNS)
    found = {point: _point(*point, held) for point, held in runs.items()}
    by_series = [found[s, FULL_PACK] for s in series]
    by_pack = [found[series[0], p] for p in packs]
    rate = {point: spread(r["readings_per_cpu_s"] for r in held)[0] for point, held in runs.items()}
    decode = floor["decode_only_per_cpu_s"]
    assert isinstance(decode, list)
    return {
        "what": f"{series[0]} to {series[-1]} series in packs of {FULL_PACK},"
        f" packs of {packs[0]} to {packs[-1]} of {series[0]} series",
        "load_before": before,
        "n": RUNS,
        "by_series": by_series,
        "by_pack": by_pack,
        "floors": floor,
        "notes": list(NOTES),
        "ratios": {
            "path_to_decode_floor": round(rate[series[0], FULL_PACK] / decode[0], 3),
            "many_series_to_few": round(
                rate[series[-1], FULL_PACK] / rate[series[0], FULL_PACK], 3
            ),
            "small_packs_to_full": round(rate[series[0], packs[0]] / rate[series[0], FULL_PACK], 4),
        },
    }


def _run(series: int, size: int, readings: int) -> dict[str, float]:
    """Run the path once in a process of its own; its memory is then only its own."""
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as name:
        argv = python("bench.server_path", name, str(series), str(size), str(readings))
        done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{series} series, packs of {size}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _point(series: int, size: int, runs: list[dict[str, float]]) -> dict[str, object]:
    """Return median, least and most of what was measured, and the medians of the stages in µs a reading."""
    rates = (
        "readings_per_cpu_s",
        "readings_per_s",
        "first_us_per_series",
        "rss_mb",
        "peak_mb",
    )
    stages = [name for name in runs[0] if name.startswith("us: ")]
    return {
        "series": series,
        "pack": size,
        "readings": int(runs[0]["readings"]),
        **{name: spread(run[name] for run in runs) for name in rates},
        "us_per_reading": {
            name.removeprefix("us: "): round(statistics.median(run[name] for run in runs), 2)
            for name in stages
        },
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
