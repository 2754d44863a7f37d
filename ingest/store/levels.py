"""Which grid answers a question, and what one grid makes of readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import FAIL, MISSING, PASS
from ingest.store.reading_store import Level, Trend

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY_MS = 86_400_000
RAW_SPAN_MS = 2 * DAY_MS
RAW_READINGS = 20_000  # read and thinned within some tens of ms
RAW_READINGS_SPAN_MS = 62 * DAY_MS  # where they lie in a few places


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days each level is kept; 0 = for ever."""

    readings_days: int = 400
    minute_days: int = 100
    hour_days: int = 1100
    day_days: int = 0

    def start_ms(self, level: Level | None, now_ms: int) -> int | None:
        """Return the time before which ``level`` (None: the readings) may be gone; None when it is for ever."""
        days = {
            None: self.readings_days,
            Level.MINUTE: self.minute_days,
            Level.HOUR: self.hour_days,
            Level.DAY: self.day_days,
        }[level]
        return Level.DAY.floor(now_ms - days * DAY_MS) if days else None


def choose(
    start_ms: int,
    end_ms: int,
    max_points: int,
    *,
    now_ms: int,
    retention: Retention,
    count: int | None = None,
) -> Level | None:
    """Return the finest grid that answers start ≤ t < end in ``max_points``; None for the readings themselves.

    ``count`` is how many readings there are in the range: few are read as they are. Of grids that
    have dropped a part of the range, only the last resort – days – is chosen.
    """
    span = end_ms - start_ms
    most = max_points if span > RAW_READINGS_SPAN_MS else max(max_points, RAW_READINGS)
    few = span <= RAW_SPAN_MS if count is None else count <= most
    if few and _holds(None, start_ms, now_ms, retention):
        return None
    for level in (Level.MINUTE, Level.HOUR):
        if span <= level.ms * max_points and _holds(level, start_ms, now_ms, retention):
            return level
    return Level.DAY


def _holds(level: Level | None, start_ms: int, now_ms: int, retention: Retention) -> bool:
    first_ms = retention.start_ms(level, now_ms)
    return first_ms is None or start_ms >= first_ms


def fold(
    t_ms: NDArray[np.int64], v: NDArray[np.float64], q: NDArray[np.uint8], level: Level
) -> Trend:
    """Return the trend of readings in any order; all arrays are (n,), ``v`` NaN when missing."""
    order = np.argsort(t_ms, kind="stable")
    start_ms, first = np.unique(level.floor(t_ms[order]), return_index=True)  # (n_buckets,)
    if not len(start_ms):
        none = np.zeros(0)
        return Trend(start_ms.astype(np.int64), none, none, none, np.zeros(0, np.int64), none)
    v, q = v[order], q[order]
    usable = ~np.isnan(v) & (q != FAIL) & (q != MISSING)
    valued = np.add.reduceat(usable, first, dtype=np.int64)
    count = np.diff(np.append(first, len(v)))
    total = np.add.reduceat(np.where(usable, v, 0.0), first)
    with np.errstate(invalid="ignore"):
        mean = np.where(valued > 0, total / valued, np.nan)
    return Trend(
        start_ms=start_ms,
        minimum=np.fmin.reduceat(np.where(usable, v, np.nan), first),
        mean=mean,
        maximum=np.fmax.reduceat(np.where(usable, v, np.nan), first),
        count=count.astype(np.int64),
        good=np.add.reduceat(q == PASS, first, dtype=np.int64) / count,
    )
