"""Roll-ups and upkeep of the embedded store: exact whatever comes when, each reading once, nothing stops."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import FAIL, MISSING, PASS, SUSPECT
from ingest.store import duckdb_parts, duckdb_upkeep
from ingest.store.duckdb_store import DuckDBStore, StoreError, describe
from ingest.store.duckdb_upkeep import Part, worth_merging
from ingest.store.levels import DAY_MS, Retention
from ingest.store.reading_store import Kept, Latest, Level
from tests.ingest.store.test_levels import assert_trend
from tests.ingest.store.test_reading_store_contract import ALL, EXAMPLES, NOW, A, B, C, Feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOR_EVER = Retention(readings_days=0, minute_days=0, hour_days=0, day_days=0)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SPAN = {"start_ms": NOW - 400 * DAY_MS, "end_ms": NOW + 400 * DAY_MS}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Cut so small that every path is taken with few rows."""
    monkeypatch.setattr(duckdb_parts, "SLICE_ROWS", 7)
    monkeypatch.setattr(duckdb_upkeep, "PARTS_MOST", 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    store = DuckDBStore(tmp_path / "it's.duckdb", retention=FOR_EVER)
    yield store
    store.close()


def settle(store: DuckDBStore, now_ms: int, keep: tuple[Kept, ...] = ()) -> None:
    """Have live tables sealed and made into parts, and everything done that is due then."""
    for n in range(3):
        store.maintain(now_ms + n * DAY_MS, keep)
    store._parts.delete_retired(after_s=0)


def parts(store: DuckDBStore, kind: str = "readings") -> list[tuple[str, int]]:
    return store._run("SELECT name, n FROM parts WHERE kind = ? ORDER BY month_ms, n", (kind,))


def check(store: DuckDBStore, rows: list[tuple]) -> None:
    """Compare everything that the store says with ``rows`` (series, t, v, q) in order of arrival."""
    for series in (A, B, C):
        own = [(t, v, q) for s, t, v, q in rows if s == series]
        for level in Level:
            assert_trend(store.trend(series, **SPAN, level=level), own, level)
        stored = store.query(series, **ALL)
        ordered = sorted(own, key=lambda row: row[0])
        assert stored.t_ms.tolist() == [t for t, _, _ in ordered]
        np.testing.assert_array_equal(stored.v, [v for _, v, _ in ordered])
        assert stored.q.tolist() == [q for _, _, q in ordered]
    assert store.count() == len(rows)
    for row in store.latest():
        of_series = [(t, n, v, q) for n, (s, t, v, q) in enumerate(rows) if s == row.series]
        t_ms, _, v, q = max(of_series, key=lambda one: one[:2])
        assert (row.t_ms, row.q, row.count) == (t_ms, q, len(of_series))
        np.testing.assert_equal(row.v, v)


reading = st.tuples(
    st.sampled_from([A, A, B, C]),
    st.one_of(
        st.integers(0, 5).map(lambda n: NOW + n * 30_000),  # duplicates
        st.integers(-70 * 24, 24).map(lambda hours: NOW + hours * HOUR_MS + 1234),  # late by months
    ),
    st.one_of(st.floats(-1000, 1000), st.just(math.nan)),
    st.sampled_from([PASS, PASS, SUSPECT, FAIL, MISSING]),
)
step = st.one_of(
    st.lists(st.lists(reading, max_size=10), min_size=1, max_size=3),
    st.integers(0, 40).map(lambda hours: hours * HOUR_MS),  # maintain, that much later
    st.just("restart"),
)


@EXAMPLES
def test_whatever_comes_in_any_order_is_rolled_up_exactly_once(tmp_path_factory, examples):
    @settings(max_examples=examples, deadline=None)
    @given(st.lists(step, min_size=1, max_size=10))
    def rolled_up(steps):
        path = tmp_path_factory.mktemp("rolled") / "readings.duckdb"
        store, feed, now_ms, rows = DuckDBStore(path, retention=FOR_EVER), Feed(), NOW, []
        for one in steps:
            match one:
                case "restart":
                    store.close()
                    store = DuckDBStore(path, retention=FOR_EVER)
                case int():
                    now_ms += one
                    store.maintain(now_ms, ())
                case _:
                    flat = [row for pack in one for row in pack]
                    packs = [[row[:3] for row in pack] for pack in one]
                    store.append(feed.batch(*packs, q=[row[3] for row in flat]))
                    rows += flat
        check(store, rows)
        settle(store, now_ms + 90 * DAY_MS)
        check(store, rows)
        store.close()

    rolled_up()


def test_a_month_that_is_over_is_one_sorted_part_and_live_tables_are_gone(store):
    feed, rows = Feed(), []
    for n in range(6):
        pack = [(s, NOW + (n * 20 + k) * HOUR_MS, float(k), PASS) for k in range(5) for s in (A, B)]
        store.append(feed.batch([row[:3] for row in pack]))
        rows += pack
        settle(store, NOW + 3 * n * DAY_MS)
    check(store, rows)
    settle(store, NOW + 90 * DAY_MS)
    for kind in ("readings", "minute", "hour", "day"):
        assert len(parts(store, kind)) == 1
    assert store._run("SELECT count(*) FROM live") == [(1,)]
    [(name, n)] = parts(store)
    assert n == 60
    sorted_ = store._run(f'SELECT series_id, t_ms FROM "{name}".readings')
    assert sorted_ == sorted(sorted_)
    held = {file.name for file in duckdb_parts.folder_of(store._path).iterdir()}
    assert held == {f"{p}.duckdb" for k in ("readings", *Level) for p, _ in parts(store, k)}
    check(store, rows)


def test_late_readings_correct_a_month_that_was_closed(store):
    feed = Feed()
    store.append(feed.batch([(A, NOW + n * MINUTE_MS, 5.0) for n in range(100)]))
    settle(store, NOW + 90 * DAY_MS)
    store.append(feed.batch([(A, NOW + 7, -3.0), (A, NOW + 8, 99.0)]))
    rows = [(NOW + n * MINUTE_MS, 5.0, PASS) for n in range(100)]
    rows += [(NOW + 7, -3.0, PASS), (NOW + 8, 99.0, PASS)]
    for level in Level:
        assert_trend(store.trend(A, **SPAN, level=level), rows, level)
    settle(store, NOW + 120 * DAY_MS)
    for level in Level:
        assert_trend(store.trend(A, **SPAN, level=level), rows, level)


def test_buckets_that_overlap_the_range_come_whole(store):
    store.append(Feed().batch([(A, NOW + n * MINUTE_MS, float(n)) for n in range(180)]))
    trend = store.trend(
        A, start_ms=NOW + 61 * MINUTE_MS, end_ms=NOW + 62 * MINUTE_MS, level=Level.HOUR
    )
    assert trend.start_ms.tolist() == [Level.HOUR.floor(NOW + 61 * MINUTE_MS)]
    assert trend.count.tolist() == [60]


# ---- killed


WORKER = """
import sys
from pathlib import Path
from ingest.store import duckdb_parts, duckdb_upkeep
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.levels import DAY_MS, Retention
from tests.ingest.store.test_reading_store_contract import A, B, NOW, Feed
duckdb_parts.SLICE_ROWS = 50
duckdb_upkeep.PARTS_MOST = 3
duckdb_parts.RETIRE_S = 0.0
store = DuckDBStore(Path(sys.argv[1]), retention=Retention(0, 0, 0, 0))
print("open", flush=True)
feed = Feed()
while True:
    pos = feed.pos = store.cursor()
    store.append(feed.batch([(s, NOW + (pos * 7 + k) * 3_000_000, float(pos)) for k in range(9) for s in (A, B)]))
    store.maintain(NOW + pos * DAY_MS // 2, ())
    print(pos, flush=True)
"""


def test_killed_at_any_moment_each_reading_is_rolled_up_exactly_once(tmp_path):
    path = tmp_path / "readings.duckdb"
    seen = 0
    for kill in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout is not None
            for _ in range(3 + kill):  # lines; the kill falls into what comes after
                worker.stdout.readline()
            threading.Event().wait(0.004 * kill)
            os.kill(worker.pid, signal.SIGKILL)
        store = DuckDBStore(path, retention=FOR_EVER)
        cursor = store.cursor()
        assert cursor >= seen
        seen = cursor
        rows = [
            (NOW + (pos * 7 + k) * 3_000_000, float(pos), PASS)
            for pos in range(cursor)
            for k in range(9)
        ]
        wide = {"start_ms": NOW, "end_ms": NOW + 10_000 * DAY_MS}
        for series in (A, B):
            for level in Level:
                assert_trend(store.trend(series, **wide, level=level), rows, level)
            assert store.query(series, **ALL).total == len(rows)
        assert store.count() == 2 * len(rows)
        store.close()
    assert seen > 10


class Stops:
    """A connection that ends the work at its ``last``-th statement; what rolls back still does."""

    def __init__(self, db: duckdb.DuckDBPyConnection, last: int) -> None:
        self._db, self._left = db, last

    def execute(self, sql: str, *parameters: object) -> duckdb.DuckDBPyConnection:
        if sql != "ROLLBACK":
            self._left -= 1
        if self._left < 0:
            raise InterruptedError(sql)
        return self._db.execute(sql, *parameters)

    def close(self) -> None:
        self._db.close()


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_stopped_at_any_statement_nothing_is_lost_or_counted_twice(tmp_path, stride):
    feed, rows = Feed(), []
    path, last, stopped = tmp_path / "readings.duckdb", 0, 0
    while True:
        store = DuckDBStore(path, retention=FOR_EVER)
        pack = [
            (s, NOW + (last * 9 + k) * HOUR_MS, float(last), PASS) for k in range(3) for s in (A, B)
        ]
        store.append(feed.batch([row[:3] for row in pack]))
        rows += pack
        store._upkeep._db = Stops(store._upkeep._db, last)
        try:
            store.maintain(NOW + last * DAY_MS, ())
        except InterruptedError:
            stopped += 1
        else:
            store.close()
            break
        store.close()
        store = DuckDBStore(path, retention=FOR_EVER)
        check(store, rows)
        store.close()
        last += stride if last < 25 else 6 * stride
    assert stopped > 25 // stride
    store = DuckDBStore(path, retention=FOR_EVER)
    settle(store, NOW + 90 * DAY_MS)
    check(store, rows)
    store.close()


# ---- retention


def test_each_level_is_dropped_after_its_own_time_and_roll_ups_outlive_readings(tmp_path):
    kept = Retention(readings_days=40, minute_days=80, hour_days=200, day_days=400)
    store = DuckDBStore(tmp_path / "readings.duckdb", retention=kept)
    rows = [(NOW + n * HOUR_MS, float(n), PASS) for n in range(48)]
    store.append(Feed().batch([(A, t, v) for t, v, _ in rows]))
    held = []
    for days in (20, 75, 115, 235, 440):  # whole months go
        settle(store, NOW + days * DAY_MS)
        held.append(
            [store.query(A, **ALL).total]
            + [int(store.trend(A, **SPAN, level=level).count.sum()) for level in Level]
        )
    assert held == [
        [48, 48, 48, 48],
        [0, 48, 48, 48],
        [0, 0, 48, 48],
        [0, 0, 0, 48],
        [0, 0, 0, 0],
    ]
    assert not list(duckdb_parts.folder_of(store._path).iterdir())
    assert store.latest() == [Latest(A, NOW + 47 * HOUR_MS, 47.0, PASS, 48)]
    store.close()


def test_evidence_of_open_alerts_is_never_dropped(tmp_path):
    store = DuckDBStore(tmp_path / "readings.duckdb", retention=Retention(readings_days=40))
    feed = Feed()
    store.append(feed.batch([(s, NOW + n * HOUR_MS, float(n)) for n in range(48) for s in (A, B)]))
    keep = (
        Kept(A, NOW + 10 * HOUR_MS, NOW + 20 * HOUR_MS),
        Kept(A, NOW + 15 * HOUR_MS, NOW + 22 * HOUR_MS),
        Kept(C, NOW, NOW + DAY_MS),  # a series that the store does not know
    )
    settle(store, NOW + 75 * DAY_MS, keep)
    assert store.query(A, **ALL).v.tolist() == [float(n) for n in range(10, 22)]
    assert store.query(B, **ALL).total == 0
    before = parts(store)
    store.append(feed.batch([(A, NOW + 12 * HOUR_MS + 1, 0.5), (A, NOW + 30 * HOUR_MS, 0.5)]))
    settle(
        store, NOW + 80 * DAY_MS, keep
    )  # nothing is written again for nothing, what is late is sorted out
    assert before[0] in parts(store)
    assert store.query(A, **ALL).total == 13
    settle(store, NOW + 85 * DAY_MS)  # closed
    assert store.query(A, **ALL).total == 0
    assert int(store.trend(A, **SPAN, level=Level.DAY).count.sum()) == 50
    store.close()


def test_a_kept_part_is_not_written_again_while_the_same_is_kept(tmp_path):
    store = DuckDBStore(tmp_path / "readings.duckdb", retention=Retention(readings_days=40))
    store.append(Feed().batch([(A, NOW + n * HOUR_MS, float(n)) for n in range(48)]))
    keep = (Kept(A, NOW, NOW + HOUR_MS),)
    settle(store, NOW + 75 * DAY_MS, keep)
    before = parts(store)
    settle(store, NOW + 80 * DAY_MS, keep)
    assert parts(store) == before
    assert before[0][1] == 1
    store.close()


# ---- without stopping


def test_it_is_asked_and_written_while_it_is_maintained(store):
    feed, done, failures = Feed(), threading.Event(), []
    asked = [0]

    def ask() -> None:
        try:
            while not done.is_set():
                before = store.cursor()
                count = int(store.trend(A, **SPAN, level=Level.HOUR).count.sum())
                total = store.query(A, **ALL).total
                assert count % 10 == total % 10 == 0
                assert before * 10 <= count <= total <= (store.cursor() + 1) * 10
                asked[0] += 1
        except BaseException as exc:
            failures.append(exc)
            raise

    def maintain() -> None:
        try:
            now_ms = NOW
            while not done.is_set():
                now_ms += 8 * HOUR_MS
                store.maintain(now_ms, ())
        except BaseException as exc:
            failures.append(exc)
            raise

    threads = [threading.Thread(target=ask), threading.Thread(target=maintain)]
    for thread in threads:
        thread.start()
    n = 0
    while (n < 40 or asked[0] < 10) and not failures:
        store.append(feed.batch([(A, NOW + (n * 10 + k) * HOUR_MS, 1.0) for k in range(10)]))
        n += 1
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert parts(store)


# ---- which parts are merged


def sized(*sizes: int) -> list[Part]:
    return [Part(str(n), "hour", 0, 0, 0, n, "") for n in sizes]


@pytest.mark.parametrize(
    ("sizes", "closed", "chosen"),
    [
        ([100], True, []),
        ([100, 10], True, [10, 100]),
        ([1000, 10], True, []),  # a few late ones are not worth writing a month again
        ([100, 100], False, []),
        ([9, 9, 9], False, [9, 9, 9]),
        ([1000, 9, 9, 9], False, [9, 9, 9]),
    ],
)
def test_parts_are_merged_when_it_is_worth_it(sizes, closed, chosen):
    assert [part.n for part in worth_merging(sized(*sizes), closed=closed)] == chosen


# ---- files of other versions, copies, leftovers


def schema_1(path: Path, rows: list[tuple]) -> None:
    with duckdb.connect(path) as db:
        db.execute("CREATE TABLE meta (schema_version INTEGER NOT NULL, inbox_pos BIGINT NOT NULL)")
        db.execute("INSERT INTO meta VALUES (1, 7)")
        db.execute(
            "CREATE TABLE series (id INTEGER PRIMARY KEY, station VARCHAR NOT NULL,"
            " device VARCHAR NOT NULL, indicator VARCHAR NOT NULL)"
        )
        db.execute("INSERT INTO series VALUES (0, ?, ?, ?)", (A.station, A.device, A.indicator))
        db.execute(
            "CREATE TABLE readings (series_id INTEGER NOT NULL, t_ms BIGINT NOT NULL, v DOUBLE,"
            " q UTINYINT NOT NULL, flags UTINYINT NOT NULL, received_ms BIGINT NOT NULL,"
            " inbox_pos BIGINT NOT NULL, dup INTEGER NOT NULL)"
        )
        db.executemany("INSERT INTO readings VALUES (0, ?, ?, ?, 1, 5, 7, 0)", rows)


def test_a_store_of_schema_1_is_taken_over_with_all_it_holds(tmp_path):
    path = tmp_path / "readings.duckdb"
    rows = [(NOW + n * MINUTE_MS, float(n), PASS) for n in range(90)]
    schema_1(path, rows)
    assert describe(path) == (1, 7, 90)
    for _ in range(2):
        store = DuckDBStore(path, retention=FOR_EVER)
        assert (store.cursor(), store.count(), store.query(A, **ALL).total) == (7, 90, 90)
        store.append(Feed(pos=store.cursor()).batch([]))
        for level in Level:
            assert_trend(store.trend(A, **SPAN, level=level), rows, level)
        settle(store, NOW + DAY_MS)
        for level in Level:
            assert_trend(store.trend(A, **SPAN, level=level), rows, level)
        store.close()
        with duckdb.connect(path) as db:
            db.execute("UPDATE meta SET inbox_pos = 7")
    assert describe(path)[::2] == (2, 90)


def test_a_newer_store_is_refused_in_one_line_and_not_touched(tmp_path):
    path = tmp_path / "readings.duckdb"
    with duckdb.connect(path) as db:
        db.execute("CREATE TABLE meta AS SELECT 3 AS schema_version, 'other' AS shape")
    before = path.read_bytes()
    with pytest.raises(StoreError) as refused:
        DuckDBStore(path)
    assert str(refused.value) == (
        f"{path}: store of schema 3, this server knows 2; use the newer server"
    )
    assert path.read_bytes() == before


def test_a_copy_has_the_parts_with_it(store, tmp_path):
    feed, rows = Feed(), []
    for n in range(3):
        pack = [(A, NOW + (n * 40 + k) * HOUR_MS, float(k), PASS) for k in range(9)]
        store.append(feed.batch([row[:3] for row in pack]))
        rows += pack
        if n < 2:
            settle(store, NOW + 3 * n * DAY_MS)
    assert parts(store)
    (tmp_path / "copy").mkdir()
    copy_path = tmp_path / "copy" / "readings.duckdb"
    store.back_up(copy_path)
    assert describe(copy_path) == (2, 3, 27)
    settle(store, NOW + 90 * DAY_MS)  # the copy does not need what is deleted now
    copy = DuckDBStore(copy_path, retention=FOR_EVER)
    check(copy, rows)
    copy.close()


def test_what_a_killed_process_has_left_is_removed_and_a_missing_part_is_named(tmp_path):
    path = tmp_path / "readings.duckdb"
    store = DuckDBStore(path, retention=FOR_EVER)
    store.append(Feed().batch([(A, NOW, 1.0)]))
    settle(store, NOW)
    [(name, _)] = parts(store)
    store.close()
    folder = duckdb_parts.folder_of(path)
    for leftover in ("hour_1_99.duckdb", "hour_1_99.part", "hour_1_99.part.wal"):
        (folder / leftover).write_bytes(b"?")
    store = DuckDBStore(path, retention=FOR_EVER)
    assert not list(folder.glob("hour_1_99*"))
    store.close()
    (folder / f"{name}.duckdb").unlink()
    with pytest.raises(StoreError, match=f"{name}.*restore a backup"):
        DuckDBStore(path)
