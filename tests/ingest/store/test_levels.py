"""Which grid answers, and what a grid makes of readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import FAIL, MISSING, NOT_EVALUATED, PASS, SUSPECT
from ingest.store.levels import DAY_MS, Retention, choose, fold
from ingest.store.reading_store import Level

NOW = 1_777_600_000_000
HOUR_MS = 3_600_000
FOR_EVER = Retention(readings_days=0, minute_days=0, hour_days=0, day_days=0)


def naive(rows: list[tuple[int, float, int]], level: Level) -> dict[int, tuple]:
    """Return by start of bucket: lowest, mean, highest, count, share of good ones."""
    buckets: dict[int, list[tuple[float, int]]] = {}
    for t_ms, v, q in rows:
        shifted = t_ms + level.offset_ms
        buckets.setdefault(math.floor(shifted / level.ms) * level.ms - level.offset_ms, []).append(
            (v, q)
        )
    found = {}
    for start, inside in sorted(buckets.items()):
        usable = [v for v, q in inside if not math.isnan(v) and q not in (FAIL, MISSING)]
        found[start] = (
            min(usable, default=math.nan),
            math.fsum(usable) / len(usable) if usable else math.nan,
            max(usable, default=math.nan),
            len(inside),
            sum(q == PASS for _, q in inside) / len(inside),
        )
    return found


def assert_trend(trend, rows: list[tuple[int, float, int]], level: Level) -> None:
    expected = naive(rows, level)
    assert trend.start_ms.tolist() == list(expected)
    low, mean, high, count, good = (
        np.array([bucket[n] for bucket in expected.values()], np.float64) for n in range(5)
    )
    np.testing.assert_array_equal(trend.minimum, low)
    np.testing.assert_array_equal(trend.maximum, high)
    np.testing.assert_array_equal(trend.count, count)
    np.testing.assert_array_equal(trend.good, good)
    np.testing.assert_allclose(trend.mean, mean, rtol=1e-12, atol=1e-9)


rows_strategy = st.lists(
    st.tuples(
        st.integers(-3 * DAY_MS, 3 * DAY_MS).map(lambda t: t // 7919 * 7919),
        st.one_of(st.floats(-1000, 1000), st.just(math.nan)),
        st.sampled_from([PASS, PASS, NOT_EVALUATED, SUSPECT, FAIL, MISSING]),
    ),
    max_size=60,
)


@given(rows_strategy, st.sampled_from(list(Level)))
def test_readings_fold_as_a_loop_would(rows, level):
    t, v, q = zip(*rows, strict=True) if rows else ((), (), ())
    folded = fold(np.array(t, np.int64), np.array(v, np.float64), np.array(q, np.uint8), level)
    assert_trend(folded, rows, level)


def test_a_day_begins_at_midnight_in_shanghai():
    midnight = 1_777_564_800_000  # 2026-05-01T00:00+08:00
    assert Level.DAY.floor(midnight) == midnight
    assert Level.DAY.floor(midnight - 1) == midnight - DAY_MS
    assert Level.HOUR.floor(-1) == -HOUR_MS


@pytest.mark.parametrize(
    ("days", "max_points", "count", "level"),
    [
        (1, 2000, None, None),
        (2, 2000, None, None),
        (7, 2000, None, Level.HOUR),
        (7, 11_000, None, Level.MINUTE),
        (7, 2000, 10_080, None),  # one reading a minute: all of them are read, and thinned
        (7, 2000, 604_800, Level.HOUR),  # one a second
        (30, 2000, 43_200, Level.HOUR),
        (365, 2000, 525_600, Level.DAY),
        (365, 2000, 1990, None),
        (60, 2000, 17_520, None),
        (365, 2000, 17_520, Level.DAY),
        (365, 10_000, 525_600, Level.HOUR),
        (3650, 300, 5_000_000, Level.DAY),
    ],
)
def test_the_finest_grid_that_fits_is_chosen(days, max_points, count, level):
    start = NOW - days * DAY_MS
    found = choose(start, NOW, max_points, now_ms=NOW, retention=FOR_EVER, count=count)
    assert found == level


def test_a_grid_that_has_dropped_a_part_of_the_range_is_not_chosen():
    kept = Retention(readings_days=30, minute_days=60, hour_days=300, day_days=0)

    def chosen(days_ago: int) -> Level | None:
        start = NOW - days_ago * DAY_MS
        return choose(start, start + DAY_MS // 2, 2000, now_ms=NOW, retention=kept)

    assert [chosen(d) for d in (5, 40, 100, 400)] == [None, Level.MINUTE, Level.HOUR, Level.DAY]
