"""What is DuckDB's own: errors after which it must be opened anew, copies while it is written."""

from __future__ import annotations

import resource
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest
from structlog.testing import capture_logs

from ingest.batch import LATE, SENTINEL
from ingest.store.duckdb_store import DuckDBStore
from tests.ingest.store.test_reading_store_contract import ALL, NOW, A, C, Feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    store = DuckDBStore(tmp_path / "it's.duckdb")
    yield store
    store.close()


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def rows(first: int, count: int, series=A) -> list[tuple]:
    return [(series, NOW + n, n + 0.1) for n in range(first, first + count)]


def test_r15_a_commit_that_found_no_room_leaves_nothing_and_can_be_repeated(store, tmp_path):
    feed = Feed()
    store.append(feed.batch(rows(0, 10)))
    batch = feed.batch(rows(10, 5000, C))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    with files_end_at(size // 2), pytest.raises(duckdb.Error):
        store.append(batch)
    assert (store.count(), store.cursor()) == (10, 1)
    store.append(batch)
    assert (store.count(), store.cursor()) == (5010, 2)
    assert store.query(C, **ALL).dup.max() == 0


def test_r15_a_database_that_duckdb_has_given_up_is_opened_anew(store):
    feed = Feed()
    store.append(feed.batch(rows(0, 10)))
    with files_end_at(4096):
        for statement in ("FORCE CHECKPOINT", "SELECT 1 FROM readings"):
            with pytest.raises(duckdb.FatalException):
                store._run(statement)
    batch = feed.batch(rows(10, 10), rows(20, 5, C))
    with pytest.raises(duckdb.FatalException):
        store.append(batch)
    with capture_logs() as logs:
        store.append(batch)
    assert [entry["event"] for entry in logs] == ["store_reopened"]
    assert (store.count(), store.cursor()) == (25, 3)
    assert store.query(A, **ALL).v.tolist() == [n + 0.1 for n in range(20)]
    assert store.query(C, **ALL).dup.tolist() == [0] * 5


def test_a_copy_is_one_state_though_appending_goes_on(store, tmp_path):
    feed, done = Feed(), threading.Event()

    def append() -> None:
        n = 0
        while not done.is_set() or n < 20:
            store.append(feed.batch(rows(n * 50, 50)))
            n += 1

    writer = threading.Thread(target=append)
    writer.start()
    try:
        store.back_up(tmp_path / "copy's.duckdb")
    finally:
        done.set()
        writer.join()
    copy = DuckDBStore(tmp_path / "copy's.duckdb")
    assert copy.count() == 50 * copy.cursor()
    assert copy.cursor() <= store.cursor()
    copy.append(Feed(pos=copy.cursor()).batch(rows(10**6, 3)))  # and it can be gone on with
    copy.close()
    assert not list(tmp_path.glob("copy*.wal"))
    store.append(feed.batch(rows(10**7, 1)))


def test_a_file_whose_flags_were_eight_bits_is_widened_and_keeps_what_it_holds(tmp_path):
    path = tmp_path / "old.duckdb"
    feed = Feed()
    store = DuckDBStore(path)
    store.append(feed.batch([(A, NOW, 6.5)], flags=[LATE]))
    store.close()
    with duckdb.connect(path) as db:
        db.execute("ALTER TABLE readings ALTER flags TYPE UTINYINT")
    store = DuckDBStore(path)
    store.append(feed.batch([(A, NOW + 1, 6.6)], flags=[SENTINEL]))
    points = store.query(A, **ALL)
    store.close()
    assert points.flags.tolist() == [LATE, SENTINEL]
    assert points.flags.dtype == np.uint32
    with duckdb.connect(path) as db:
        types = {
            name: kind for _, name, kind, *_ in db.execute("PRAGMA table_info(readings)").fetchall()
        }
    assert types["flags"] == "UINTEGER"
