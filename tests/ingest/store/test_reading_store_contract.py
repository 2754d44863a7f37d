"""What every store of readings promises (``reading_store.ReadingStore``), for each implementation."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import (
    FAIL,
    LATE,
    MISSING,
    PASS,
    SENTINEL,
    SUSPECT,
    Batch,
    Fault,
    Series,
    TakenPack,
)
from ingest.store.downsample import keep_extremes
from ingest.store.duckdb_store import DuckDBStore, StoreError
from ingest.store.influx.influx_store import InfluxStore
from ingest.store.influx.influxql import LATEST_MS
from ingest.store.reading_store import Latest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ingest.store.reading_store import ReadingStore
    from tests.influxdb import Influx

NOW = 1_777_600_000_000
A, B = Series("hl-001", "soil1", "soil_ph"), Series("hl-001", "soil1", "soil_ec")
C = Series("hl-002", "soil1", "soil_ph")
ALL = {"start_ms": -(2**60), "end_ms": 2**60}

# Each example opens a store, on a real server and with all its files: few always, many on demand.
EXAMPLES = pytest.mark.parametrize("examples", [8, pytest.param(100, marks=pytest.mark.slow)])

FAULTS: list[Fault] = []  # what a store will never take


@pytest.fixture(params=["duckdb", "influxdb"])
def open_at(request) -> Callable[[Path], ReadingStore]:
    """Return a function that opens the store of a directory, the same each time."""
    if request.param == "duckdb":
        return lambda directory: DuckDBStore(directory / "readings.duckdb")
    influx: Influx = request.getfixturevalue("influx")
    FAULTS.clear()
    return lambda directory: InfluxStore(
        influx.server(str(directory).strip("/").replace("/", "-")), rejected=FAULTS.extend
    )


@pytest.fixture
def opened(open_at, tmp_path):
    """Return a function that opens the store, again and again on the same files."""
    stores = []

    def reopen():
        while stores:
            stores.pop().close()
        stores.append(open_at(tmp_path))
        return stores[0]

    yield reopen
    while stores:
        stores.pop().close()


@pytest.fixture
def store(opened):
    return opened()


class Feed:
    """Builds batches: one pack per list of (series, t_ms, v) rows; numbers of series never change."""

    def __init__(self, pos: int = 0) -> None:
        self.series: list[Series] = []
        self.pos = pos

    def batch(self, *packs, q=None, flags=None) -> Batch:
        taken, rows, index = [], [], []
        for number, pack in enumerate(packs):
            self.pos += 1
            taken.append(TakenPack(self.pos, "hl-001", "E", self.pos, NOW + self.pos, b""))
            rows += pack
            index += [number] * len(pack)
        for series, _, _ in rows:
            if series not in self.series:
                self.series.append(series)
        n = len(rows)
        v = np.array([v for _, _, v in rows], np.float64)
        pack_index = np.array(index, np.int32)
        pos = np.array([p.pos for p in taken], np.int64)
        quality = np.where(np.isnan(v), MISSING, PASS) if q is None else q
        return Batch(
            packs=taken,
            series=self.series,
            series_id=np.array([self.series.index(s) for s, _, _ in rows], np.int32),
            t_ms=np.array([t for _, t, _ in rows], np.int64),
            v=v,
            q=np.array(quality, np.uint8),
            flags=np.zeros(n, np.uint32) if flags is None else np.array(flags, np.uint32),
            received_ms=np.array([p.received_ms for p in taken], np.int64)[pack_index],
            inbox_pos=pos[pack_index],
            pack_index=pack_index,
            position=np.arange(n, dtype=np.int32),
            tests=[],
            faults=[],
        )


@pytest.fixture
def feed():
    return Feed()


def values(store, series=A, **span) -> list[tuple[int, float, int]]:
    points = store.query(series, **{**ALL, **span})
    return list(zip(points.t_ms.tolist(), points.v.tolist(), points.dup.tolist(), strict=True))


# ---- appending


def test_an_empty_store_has_nothing(store):
    assert (store.cursor(), store.count(), store.latest()) == (0, 0, [])
    points = store.query(A, **ALL)
    assert (points.total, len(points.t_ms)) == (0, 0)


def test_every_column_comes_back(store, feed):
    store.append(
        feed.batch(
            [(A, NOW, 6.5), (A, NOW + 1, math.nan)], q=[SUSPECT, MISSING], flags=[LATE, SENTINEL]
        )
    )
    points = store.query(A, **ALL)
    assert points.t_ms.tolist() == [NOW, NOW + 1]
    assert points.v[0] == 6.5
    assert math.isnan(points.v[1])
    assert points.q.tolist() == [SUSPECT, MISSING]
    assert points.flags.tolist() == [LATE, SENTINEL]
    assert points.received_ms.tolist() == [NOW + 1] * 2
    assert points.inbox_pos.tolist() == [1, 1]
    assert points.dup.tolist() == [0, 0]
    assert points.total == 2
    assert [points.t_ms.dtype, points.v.dtype, points.q.dtype] == [np.int64, np.float64, np.uint8]


def test_the_cursor_moves_with_a_pack_that_has_no_readings(opened, feed):
    opened().append(feed.batch([], []))
    assert opened().cursor() == 2


def test_series_are_apart_and_a_range_is_half_open(store, feed):
    store.append(
        feed.batch([(A, NOW + n, float(n)) for n in range(5)] + [(B, NOW, 9.0), (C, NOW, 8.0)])
    )
    assert values(store, B) == [(NOW, 9.0, 0)]
    assert values(store, C) == [(NOW, 8.0, 0)]
    assert [t for t, _, _ in values(store, start_ms=NOW + 1, end_ms=NOW + 3)] == [NOW + 1, NOW + 2]
    assert values(store, Series("hl-001", "soil1", "water_ph")) == []


def test_readings_come_in_time_order_whatever_their_arrival(store, feed):
    store.append(feed.batch([(A, NOW + t, float(t)) for t in (5, 1, 3)]))
    store.append(feed.batch([(A, NOW + t, float(t)) for t in (4, 0, 2)]))
    assert [v for _, v, _ in values(store)] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_second_value_at_one_time_is_kept_and_numbered(opened, feed):
    store = opened()
    store.append(feed.batch([(A, NOW, 1.0), (A, NOW, 2.0), (B, NOW, 9.0)], [(A, NOW, 3.0)]))
    store.append(feed.batch([(A, NOW + 5, 0.0), (A, NOW, 4.0)]))
    store = opened()
    store.append(feed.batch([(A, NOW, 5.0), (A, NOW - 5, 0.0)]))
    assert values(store, start_ms=NOW, end_ms=NOW + 1) == [
        (NOW, float(n), n - 1) for n in range(1, 6)
    ]
    assert values(store, B) == [(NOW, 9.0, 0)]
    assert store.count() == 8


packs_with_repeats = st.lists(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.integers(NOW, NOW + 4), st.just(1.0)),
        max_size=8,
    ),
    min_size=1,
    max_size=6,
)


@EXAMPLES
def test_duplicates_are_numbered_as_a_loop_would(open_at, tmp_path_factory, examples):
    @settings(max_examples=examples, deadline=None)
    @given(packs_with_repeats)
    def numbered(packs):
        store = open_at(tmp_path_factory.mktemp("dup"))
        feed = Feed()
        seen: Counter[tuple[Series, int]] = Counter()
        expected = set()
        for pack in packs:
            store.append(feed.batch(pack))
            for series, t_ms, _ in pack:
                expected.add((series, t_ms, seen[series, t_ms]))
                seen[series, t_ms] += 1
        stored = [(s, t, d) for s in (A, B, C) for t, _, d in values(store, s)]
        store.close()
        assert sorted(map(str, stored)) == sorted(map(str, expected))

    numbered()


# ---- replay


def test_a_batch_at_or_before_the_cursor_changes_nothing(opened, feed):
    store = opened()
    batch = feed.batch([(A, NOW, 1.0)], [(A, NOW + 1, 2.0)])
    store.append(batch)
    store.append(batch)
    store = opened()
    store.append(batch)
    assert values(store) == [(NOW, 1.0, 0), (NOW + 1, 2.0, 0)]
    assert (store.count(), store.cursor()) == (2, 2)


def test_of_a_batch_that_overlaps_only_what_is_new_is_stored(store, feed):
    whole = feed.batch([(A, NOW, 1.0)], [(A, NOW + 1, 2.0), (B, NOW, 3.0)], [(A, NOW + 2, 4.0)])
    first = replace(
        whole,
        packs=whole.packs[:2],
        **{n: getattr(whole, n)[:2] for n in ("series_id", "t_ms", "v", "q", "flags")},
        **{
            n: getattr(whole, n)[:2] for n in ("received_ms", "inbox_pos", "pack_index", "position")
        },
    )
    store.append(first)  # its second pack's reading of B never came to it
    store.append(whole)
    assert values(store) == [(NOW, 1.0, 0), (NOW + 1, 2.0, 0), (NOW + 2, 4.0, 0)]
    assert store.cursor() == 3


def test_numbers_of_another_process_mean_what_they_say(opened):
    opened().append(Feed().batch([(A, NOW, 1.0), (B, NOW, 2.0)]))
    store = opened()
    store.append(Feed(pos=1).batch([(B, NOW + 1, 3.0), (C, NOW + 1, 4.0)]))
    store.append(Feed(pos=2).batch([(C, NOW + 2, 5.0), (A, NOW + 2, 6.0)]))
    assert [v for _, v, _ in values(store, A)] == [1.0, 6.0]
    assert [v for _, v, _ in values(store, B)] == [2.0, 3.0]
    assert [v for _, v, _ in values(store, C)] == [4.0, 5.0]


# ---- failing


def test_an_append_that_fails_leaves_nothing_behind(opened, feed):
    store = opened()
    store.append(feed.batch([(A, NOW, 1.0)]))
    batch = feed.batch([(A, NOW + 1, 2.0), (C, NOW, 3.0)])
    broken = replace(batch, q=np.array(["?", "?"]))
    with pytest.raises((duckdb.Error, ValueError)):
        store.append(broken)
    assert (store.cursor(), store.count(), values(store)) == (1, 1, [(NOW, 1.0, 0)])
    assert values(store, C) == []
    store.append(batch)  # the consumer tries again
    assert (store.cursor(), store.count(), values(store, C)) == (2, 3, [(NOW, 3.0, 0)])
    store = opened()
    assert (store.cursor(), store.count()) == (2, 3)
    assert values(store) == [(NOW, 1.0, 0), (NOW + 1, 2.0, 0)]


# ---- latest, count, restart


def test_latest_is_by_measured_time_and_counts(opened, feed):
    store = opened()
    store.append(feed.batch([(A, NOW + 5, 1.0), (A, NOW, 2.0), (B, NOW, math.nan)], q=[1, 1, 9]))
    store.append(feed.batch([(A, NOW + 4, 3.0), (C, NOW, 4.0)]))
    for _ in range(2):
        latest = {row.series: row for row in store.latest()}
        assert latest[A] == Latest(A, NOW + 5, 1.0, PASS, 3)
        assert latest[C] == Latest(C, NOW, 4.0, PASS, 1)
        assert (latest[B].q, latest[B].count) == (MISSING, 1)
        assert math.isnan(latest[B].v)
        assert {row.series for row in store.latest("hl-001")} == {A, B}
        assert store.count() == 5
        store = opened()


def test_of_values_at_one_time_the_last_to_come_is_the_latest(opened, feed):
    store = opened()
    rows = [(A, NOW, float(n)) for n in range(40)]
    store.append(feed.batch(rows[:20], q=[PASS] * 20))
    store.append(feed.batch(rows[20:], q=[PASS] * 19 + [FAIL]))
    for _ in range(2):
        [row] = store.latest()
        assert (row.v, row.q, row.count) == (39.0, FAIL, 40)
        store = opened()


doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2]),
)


@EXAMPLES
def test_doubles_come_back_to_the_last_bit(open_at, tmp_path_factory, examples):
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(doubles, min_size=1, max_size=50))
    def come_back(given_values):
        directory = tmp_path_factory.mktemp("bits")
        store = open_at(directory)
        store.append(Feed().batch([(A, NOW + n, v) for n, v in enumerate(given_values)]))
        store.close()
        store = open_at(directory)
        bits = store.query(A, **ALL).v.view(np.uint64).tolist()
        [latest] = store.latest()
        store.close()
        assert bits == np.array(given_values).view(np.uint64).tolist()
        assert math.copysign(1, latest.v) == math.copysign(1, given_values[-1])
        assert latest.v == given_values[-1]

    come_back()


def test_times_far_away_come_back(store, feed):
    bound = 2**47 if isinstance(store, DuckDBStore) else LATEST_MS
    times = [-bound, 0, bound]
    store.append(feed.batch([(A, t, 1.0) for t in times]))
    assert [t for t, _, _ in values(store)] == times
    assert store.query(A, **ALL, max_points=3).total == 3


def test_it_can_be_asked_while_it_is_written(store, feed):
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                points = store.query(A, **ALL, max_points=50)
                assert points.total % 20 == 0  # a transaction is seen whole or not at all
                store.latest()
                store.count()
        except BaseException as exc:
            failures.append(exc)
            raise

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(30):
        store.append(feed.batch([(A, NOW + n * 20 + k, 1.0) for k in range(20)]))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count() == 600


# ---- fewer points


def test_without_max_points_everything_comes(store, feed):
    store.append(feed.batch([(A, NOW + n, float(n)) for n in range(5000)]))
    points = store.query(A, **ALL)
    assert points.total == len(points.t_ms) == 5000
    few = store.query(A, **ALL, max_points=300)
    assert few.total == 5000
    assert 2 < len(few.t_ms) <= 300
    assert (few.v.min(), few.v.max()) == (0.0, 4999.0)
    assert len(store.query(A, **ALL, max_points=5000).t_ms) == 5000


points_strategy = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.one_of(st.floats(-100, 100), st.just(math.nan)),
        st.sampled_from([PASS, PASS, PASS, PASS, SUSPECT, FAIL, MISSING]),
    ),
    max_size=300,
)


@given(points_strategy, st.integers(3, 60))
def test_fewer_points_keep_the_extremes_and_a_flagged_point_of_each_bucket(rows, max_points):
    rows = sorted(rows, key=lambda row: row[0])
    t = np.array([r[0] for r in rows], np.int64)
    v = np.array([r[1] for r in rows], np.float64)
    q = np.array([r[2] for r in rows], np.uint8)
    kept = keep_extremes(t, v, q, max_points)
    assert len(kept) <= max_points or len(rows) <= max_points
    assert kept.tolist() == sorted(set(kept.tolist()))
    if len(rows) <= max_points:
        assert len(kept) == len(rows)
        return
    buckets = max_points // 3
    bucket = (t - t[0]) * buckets // (int(t[-1] - t[0]) + 1)
    for number in set(bucket.tolist()):
        inside = np.flatnonzero(bucket == number)
        shown = np.intersect1d(inside, kept)
        finite, shown_finite = inside[~np.isnan(v[inside])], shown[~np.isnan(v[shown])]
        if len(finite):
            assert v[shown_finite].min() == v[finite].min()
            assert v[shown_finite].max() == v[finite].max()
        if (q[inside] != PASS).any():
            assert q[shown].max() == q[inside].max()
        assert len(shown)


# ---- files


def test_a_file_that_is_no_store_is_refused(tmp_path):
    path = tmp_path / "readings.duckdb"
    path.write_bytes(b"no database at all" * 999)
    with pytest.raises(StoreError, match=r"readings\.duckdb: .*restore a backup"):
        DuckDBStore(path)


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "readings.duckdb"
    DuckDBStore(path).close()
    with duckdb.connect(path) as db:
        db.execute("UPDATE meta SET schema_version = 9")
    with pytest.raises(StoreError, match="store of schema 9, this server knows 2"):
        DuckDBStore(path)
