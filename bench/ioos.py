"""Range, spike, rate of change and flat line beside ioos_qc's (PyPI), on the same arrays in the same run."""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import FLAT, PASS, RATE, SITE_RANGE, SPIKE, Batch, Series, TakenPack
from ingest.detect.flags import QualityFlags
from ingest.detect.thresholds import NoThresholds, SeriesLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

READINGS = 200_000
NOW_MS = 1_763_900_000_000
STEP_MS = 60_000
LOW, HIGH = 10.0, 30.0
SPIKE_BOUND, RATE_PER_S, FLAT_S = 5.0, 0.05, 3600
MANY = 1000  # series
OURS = {
    "range": (SeriesLimits(site_min=LOW, site_max=HIGH), SITE_RANGE),
    "spike": (SeriesLimits(spike=SPIKE_BOUND), SPIKE),
    "rate_of_change": (SeriesLimits(rate_per_s=RATE_PER_S), RATE),
    "flat_line": (SeriesLimits(flat_s=FLAT_S), FLAT),
}


class _Site(NoThresholds):
    """The same limits for every series."""

    def __init__(self, limits: SeriesLimits) -> None:
        self._limits = limits

    def quality_limits(self, series: Series) -> SeriesLimits:  # noqa: ARG002 - the same for all
        return self._limits


def measure(*, quick: bool) -> dict[str, object]:
    """Return readings/s of each test of ours and of ioos_qc's, median and spread; a line when it is not installed.

    Ours always does all tests at once, order of arrival and learning included; ioos_qc's does the one.
    """
    try:
        from ioos_qc import qartod  # noqa: PLC0415 - not a dependency
    except ImportError:
        return {"skipped": "ioos_qc is not installed (pip install ioos_qc)"}
    runs = 3 if quick else 7
    return {
        "runs": runs,
        "versions": {
            "ioos_qc": importlib.metadata.version("ioos_qc"),
            "numpy": np.__version__,
            "python": sys.version.split()[0],
        },
        "one_series": _compare(qartod, 1, READINGS // (10 if quick else 1), runs),
        "many_series": _compare(qartod, MANY, READINGS // (10 if quick else 1) // MANY, runs),
    }


def _compare(qartod: ModuleType, series: int, each: int, runs: int) -> dict[str, object]:
    """Compare on ``series`` of ``each`` readings: ours in one batch as they come, ioos_qc's series by series."""
    t_ms, v = _values(series * each)
    rows, t_ms = v.reshape(series, each), t_ms[:each]
    when = t_ms.astype("datetime64[ms]").astype("datetime64[ns]")
    theirs: dict[str, Callable[[NDArray[np.float64]], NDArray[np.uint8]]] = {
        "range": lambda x: qartod.gross_range_test(x, fail_span=(LOW, HIGH)),
        "spike": lambda x: qartod.spike_test(x, SPIKE_BOUND, None, method="differential"),
        "rate_of_change": lambda x: qartod.rate_of_change_test(x, when, RATE_PER_S),
        "flat_line": lambda x: qartod.flat_line_test(x, when, FLAT_S, 2 * FLAT_S, 1e-9),
    }
    batch = _batch(t_ms, rows)
    result: dict[str, object] = {"series": series, "readings": series * each}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (limits, bit) in OURS.items():

            def ours(limits: SeriesLimits = limits) -> Batch:
                return QualityFlags(_Site(limits)).flag(batch)

            def other(name: str = name) -> int:
                test = theirs[name]
                return sum(int(np.count_nonzero(np.asarray(test(row)) >= 3)) for row in rows)

            mine, others = _rates(ours, v.size, runs), _rates(other, v.size, runs)
            result[name] = {
                "ours_readings_per_s": mine,
                "ioos_qc_readings_per_s": others,
                "ratio": round(mine[0] / others[0], 2),
                "flagged_by_ours": int(np.count_nonzero(ours().flags & bit)),
                "flagged_by_ioos_qc": other(),
            }
    return result


def _rates(work: Callable[[], object], n: int, runs: int) -> tuple[int, int, int]:
    """Return readings/s: median, least, most."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        took.append(n / (time.perf_counter() - started))
    return round(statistics.median(took)), round(min(took)), round(max(took))


def _values(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a day's course with noise, spikes, a stuck stretch in each 10,000 and values out of range; (n,)."""
    rng = np.random.default_rng(1)
    at = np.arange(n)
    v = 20 + 3 * np.sin(at / 1440 * 2 * np.pi) + 0.05 * rng.standard_normal(n)
    v[rng.random(n) < 0.001] += 8
    v[rng.random(n) < 0.0005] = 45
    for begin in range(5000, n, 10_000):
        v[begin : begin + 200] = v[begin]
    return NOW_MS + STEP_MS * at.astype(np.int64), v


def _batch(t_ms: NDArray[np.int64], rows: NDArray[np.float64]) -> Batch:
    """Return ``rows`` (series, each) as they come: one reading of every series, then the next of every series."""
    series, each = rows.shape
    n = rows.size
    times = np.repeat(t_ms, series)
    return Batch(
        packs=[TakenPack(1, "s-001", "E", 1, NOW_MS, b"")],
        series=[Series("s-001", f"pond{number}", "water_temperature") for number in range(series)],
        series_id=np.tile(np.arange(series, dtype=np.int32), each),
        t_ms=times,
        v=np.ascontiguousarray(rows.T).ravel(),
        q=np.full(n, PASS, np.uint8),
        flags=np.zeros(n, np.uint32),
        received_ms=times,
        inbox_pos=np.ones(n, np.int64),
        pack_index=np.zeros(n, np.int32),
        position=np.zeros(n, np.int32),
        tests=[],
        faults=[],
    )


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
