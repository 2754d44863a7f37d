"""The year of ``bench``, small: what is laid down in bulk is what the store itself would say of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bench import year
from bench.year import END_MS, lay_down, names
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.levels import DAY_MS, fold
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from pathlib import Path


def test_roll_ups_that_were_laid_down_are_those_of_the_readings(tmp_path: Path) -> None:
    path = tmp_path / "readings.duckdb"
    rows = lay_down(path, series=3, fast=1, every_minutes=120)
    assert rows["readings"] == 525_600 + 2 * 365 * 12
    with closing(DuckDBStore(path)) as store:
        assert store.count() == rows["readings"]
        for one in names(3)[:2]:
            span = {"start_ms": END_MS - 30 * DAY_MS, "end_ms": END_MS}
            points = store.query(one, **span)
            for level in Level:
                expected = fold(points.t_ms, points.v, points.q, level)
                trend = store.trend(one, **span, level=level)
                np.testing.assert_array_equal(trend.start_ms, expected.start_ms)
                np.testing.assert_array_equal(trend.count, expected.count)
                np.testing.assert_array_equal(trend.maximum, expected.maximum)
                np.testing.assert_allclose(trend.good, expected.good)


def test_the_small_form_measures_store_and_api() -> None:
    result = year.measure(quick=True, series=8)
    assert result["api"]["year_of_one_minute_series"]["n"] >= 40
    assert result["store"]["latest_of_all"]["n"] >= 20
