"""The account reads a stopped store whole: what is appended lately, and what upkeep has put into parts."""

from __future__ import annotations

import math

import numpy as np

from demo.chaos import stored
from ingest.store.duckdb_store import DuckDBStore
from tests.ingest.store.test_reading_store_contract import NOW, A, B, Feed

DAY_MS = 86_400_000


def test_every_reading_is_read_after_the_store_has_sealed_some(tmp_path):
    path, feed = tmp_path / "readings.duckdb", Feed()
    store = DuckDBStore(path)
    for day in range(3):
        store.append(feed.batch([(A, NOW, float(day)), (B, NOW + day, math.nan)]))
        store.maintain(NOW + day * DAY_MS, ())
    store.append(feed.batch([(A, NOW, 9.0), (A, NOW - 40 * DAY_MS, 1.5)]))
    assert store._run("SELECT * FROM parts WHERE kind = 'readings'")
    store.close()
    found = stored.store(path)
    a, b = (found[one.station, one.device, one.indicator] for one in (A, B))
    assert list(zip(a.t_ms.tolist(), a.v.tolist(), a.dup.tolist(), strict=True)) == [
        (NOW - 40 * DAY_MS, 1.5, 0),
        *((NOW, v, dup) for dup, v in enumerate([0.0, 1.0, 2.0, 9.0])),
    ]
    assert b.t_ms.tolist() == [NOW, NOW + 1, NOW + 2]
    assert np.isnan(b.v).all()
