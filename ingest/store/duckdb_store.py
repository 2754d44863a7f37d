"""The embedded store: one DuckDB file that is appended to, and sorted parts beside it; one process.

Series are numbered in a table of their own; what is asked most – the last reading of each – is kept in memory.
"""

# ruff: noqa: S608 - names of tables and whole numbers, all of them ours

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import structlog

from ingest.batch import Series
from ingest.store.duckdb_file import (
    MEMORY_LIMIT,
    READINGS,
    SCHEMA_VERSION,
    StoreError,
    identifier,
    live_table,
    open_main,
    quoted,
)
from ingest.store.duckdb_parts import Parts, folder_of, sources
from ingest.store.duckdb_reading import latest_sql, points, trend
from ingest.store.duckdb_upkeep import Upkeep
from ingest.store.levels import Retention
from ingest.store.reading_store import Latest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.batch import Batch
    from ingest.store.reading_store import Kept, Level, Points, Trend

__all__ = ["MEMORY_LIMIT", "SCHEMA_VERSION", "DuckDBStore", "StoreError", "describe"]

log = structlog.get_logger()

_Rows = dict[str, "NDArray[np.number]"]
_NEVER = np.iinfo(np.int64).min


class DuckDBStore:
    """Implements ``ReadingStore`` on one file and its parts."""

    def __init__(self, path: Path, *, retention: Retention | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._retention = retention or Retention()
        self._broken = (
            False  # DuckDB refuses all work after some I/O errors, until it is opened anew
        )
        self._lock = threading.Lock()
        self._files_lock = threading.Lock()  # one of maintaining and copying
        self._open()

    def _open(self) -> None:
        self._db = open_main(self._path)
        try:
            [(cursor,)] = self._run("SELECT inbox_pos FROM meta")
            [(self._generation,)] = self._run("SELECT max(generation) FROM live")
            self._cursor = int(cursor)
            self._parts = Parts(self._db, folder_of(self._path))
            self._load_latest()
        except duckdb.Error as exc:
            self._db.close()
            raise StoreError(
                f"{self._path}: {exc}; restore a backup or move the file away"
            ) from exc
        self._upkeep = Upkeep(
            self._db,
            self._parts,
            self._lock,
            self._retention,
            cursor=self.cursor,
            number=lambda kept: self._ids.get(kept.series, -1),
            sealed=self._append_to,
        )

    def _append_to(self, generation: int) -> None:
        self._generation = generation

    def _load_latest(self) -> None:
        rows = self._run("SELECT station, device, indicator FROM series ORDER BY id")
        self._series = [Series(*row) for row in rows]
        self._ids = {series: number for number, series in enumerate(self._series)}
        self._numbered: list[Series] = []  # the list that ``_numbers`` is about
        self._numbers = np.zeros(0, np.int32)  # process-wide series number → ours; −1 unknown
        size = len(self._series)
        self._last_ms = np.full(size, _NEVER, np.int64)
        self._last_v = np.full(size, np.nan)
        self._last_q = np.zeros(size, np.uint8)
        self._counts = np.zeros(size, np.int64)
        for number, last_ms, v, q, count in self._run(latest_sql(self._db)):
            if last_ms >= self._last_ms[number]:
                self._last_ms[number], self._last_v[number] = last_ms, v
                self._last_q[number] = q
            self._counts[number] += count

    def _run(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement to its end: the connection takes no other work while a result is unread."""
        return self._db.execute(sql, parameters).fetchall()

    # ---- writing

    def append(self, batch: Batch) -> None:
        """Store the readings of ``batch`` behind the cursor, and the cursor, in one transaction.

        Raises duckdb.Error when that cannot be done now; the batch may then be handed in again.
        """
        with self._lock:
            self._mend()
            if batch.cursor <= self._cursor:
                return
            fresh = batch.inbox_pos > self._cursor
            known = len(self._series)
            try:
                self._run("BEGIN")
                rows = self._rows(batch, fresh)
                if len(rows["t_ms"]):
                    self._insert(rows)
                self._run("UPDATE meta SET inbox_pos = ?", (batch.cursor,))
                self._run("COMMIT")
            except BaseException:
                self._forget_series(known)
                with contextlib.suppress(duckdb.Error):  # a commit that failed has ended it
                    self._run("ROLLBACK")
                self._probe()
                raise
            self._cursor = batch.cursor
            self._remember(rows)

    def _probe(self) -> None:
        """Find out whether the database still answers after an error."""
        try:
            self._run("SELECT inbox_pos FROM meta")
        except duckdb.Error:
            self._broken = True

    def _mend(self) -> None:
        if not self._broken:
            return
        with contextlib.suppress(duckdb.Error):
            self._db.close()
        try:
            self._open()
        except StoreError as exc:  # still no room: the batch waits
            raise duckdb.IOException(str(exc)) from exc
        self._broken = False
        log.info("store_reopened", file=str(self._path))

    def back_up(self, path: Path) -> None:
        """Write a copy of one state to ``path``, which must not exist, and its parts beside it; appending goes on."""
        with self._files_lock, self._db.cursor() as db:
            [(name,)] = db.execute("SELECT current_database()").fetchall()
            db.execute(f"ATTACH {quoted(str(path))} AS backup_copy")
            try:
                db.execute(f"COPY FROM DATABASE {identifier(name)} TO backup_copy")
                names = db.execute("SELECT name FROM backup_copy.parts").fetchall()
            finally:
                db.execute("DETACH backup_copy")
            folder = folder_of(path)
            for (part,) in names:
                folder.mkdir(exist_ok=True)
                shutil.copyfile(self._parts.file(part), folder / self._parts.file(part).name)

    def _rows(self, batch: Batch, fresh: NDArray[np.bool_]) -> _Rows:
        series = self._number(batch)[batch.series_id[fresh]]
        t_ms = batch.t_ms[fresh]
        return {
            "series_id": series,
            "t_ms": t_ms,
            "v": batch.v[fresh],
            "q": batch.q[fresh],
            "flags": batch.flags[fresh],
            "received_ms": batch.received_ms[fresh],
            "inbox_pos": batch.inbox_pos[fresh],
            "dup": self._duplicates(series, t_ms),
        }

    def _insert(self, rows: _Rows) -> None:
        self._db.register("incoming", rows)
        try:
            self._run(
                f"INSERT INTO {live_table(READINGS, self._generation)}"
                " SELECT series_id, t_ms, CASE WHEN isnan(v) THEN NULL ELSE v END,"
                " q, flags, received_ms, inbox_pos, dup FROM incoming"
            )
        finally:
            self._db.unregister("incoming")

    def _number(self, batch: Batch) -> NDArray[np.int32]:
        """Return our number of each of the process's series, (n_series,)."""
        if batch.series is not self._numbered:  # another index: its numbers mean other series
            self._numbered, self._numbers = batch.series, np.zeros(0, np.int32)
        new = batch.series[len(self._numbers) :]
        numbers = []
        known = len(self._series)
        for series in new:
            number = self._ids.get(series)
            if number is None:
                number = self._ids[series] = len(self._series)
                self._series.append(series)
            numbers.append(number)
        added = self._series[known:]
        if added:  # in one statement: one for each takes a millisecond, and a county has thousands
            self._run(
                "INSERT INTO series"
                " SELECT unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
                (
                    list(range(known, len(self._series))),
                    [one.station for one in added],
                    [one.device for one in added],
                    [one.indicator for one in added],
                ),
            )
        if new:
            self._numbers = np.concatenate([self._numbers, np.array(numbers, np.int32)])
            grown = len(self._series) - len(self._last_ms)
            self._last_ms = np.concatenate([self._last_ms, np.full(grown, _NEVER, np.int64)])
            self._last_v = np.concatenate([self._last_v, np.full(grown, np.nan)])
            self._last_q = np.concatenate([self._last_q, np.zeros(grown, np.uint8)])
            self._counts = np.concatenate([self._counts, np.zeros(grown, np.int64)])
        return self._numbers

    def _forget_series(self, known: int) -> None:
        for series in self._series[known:]:
            del self._ids[series]
        del self._series[known:]
        self._numbers = np.zeros(0, np.int32)
        for name in ("_last_ms", "_last_v", "_last_q", "_counts"):
            setattr(self, name, getattr(self, name)[:known])

    def _duplicates(self, series: NDArray[np.int32], t_ms: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return 0 for the first value at its (series, t), 1 for the second …; all (n,)."""
        order = np.lexsort((t_ms, series))  # (n,) equal places side by side, in order of arrival
        changes = (np.diff(series[order]) != 0) | (np.diff(t_ms[order]) != 0)
        first = np.flatnonzero(np.append(True, changes)[: len(order)])  # where each place begins
        place = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
        dup = np.empty(len(order), np.int32)
        dup[order] = (
            np.arange(len(order)) - first[place] + self._stored(order[first], series, t_ms)[place]
        )
        return dup

    def _stored(
        self, rows: NDArray[np.int64], series: NDArray[np.int32], t_ms: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many values are stored at the place of each of ``rows``; (n_places,)."""
        counts = np.zeros(len(rows), np.int64)
        old = np.flatnonzero(t_ms[rows] <= self._last_ms[series[rows]])
        if not len(old):
            return counts
        places: _Rows = {"place": old, "series_id": series[rows[old]], "t_ms": t_ms[rows[old]]}
        low, high = int(places["t_ms"].min()), int(places["t_ms"].max())
        self._db.register("places", places)
        try:
            for source in sources(self._db, READINGS, low, high + 1):
                found = self._run(
                    f"SELECT place, count(*) FROM {source} JOIN places USING (series_id, t_ms)"
                    f" WHERE t_ms BETWEEN {low} AND {high} GROUP BY place"
                )
                for place, count in found:
                    counts[place] += count
        finally:
            self._db.unregister("places")
        return counts

    def _remember(self, rows: _Rows) -> None:
        series, t_ms = rows["series_id"].astype(np.int64), rows["t_ms"]
        np.add.at(self._counts, series, 1)
        newest = np.lexsort(
            (np.arange(len(t_ms)), t_ms, series)
        )  # (n,) last of each series is newest
        last = np.flatnonzero(np.diff(series[newest], append=-1))
        rows_kept = newest[last]
        rows_kept = rows_kept[t_ms[rows_kept] >= self._last_ms[series[rows_kept]]]
        kept = series[rows_kept]
        self._last_ms[kept] = t_ms[rows_kept]
        self._last_v[kept] = rows["v"][rows_kept]
        self._last_q[kept] = rows["q"][rows_kept]

    # ---- reading

    def cursor(self) -> int:
        """Inbox position of the last pack stored, 0 when empty."""
        return self._cursor

    def query(
        self, series: Series, *, start_ms: int, end_ms: int, max_points: int | None = None
    ) -> Points:
        """Readings with start ≤ t < end in time order, down-sampled when there are more than ``max_points``."""
        with self._db.cursor() as db:
            return points(db, self._ids.get(series, -1), start_ms, end_ms, max_points)

    def trend(self, series: Series, *, start_ms: int, end_ms: int, level: Level) -> Trend:
        """Every bucket that overlaps start ≤ t < end: what is rolled up, and what is not yet."""
        with self._db.cursor() as db:
            return trend(db, self._ids.get(series, -1), start_ms, end_ms, level)

    def maintain(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Do what is due of rolling up, sorting, merging, dropping; raise duckdb.Error when it must be tried again."""
        with self._files_lock:
            self._upkeep.run(now_ms, keep)

    def latest(self, station: str | None = None) -> list[Latest]:
        """One row per series, of one station or of all."""
        with self._lock:
            return [
                Latest(
                    series,
                    int(self._last_ms[number]),
                    float(self._last_v[number]),
                    int(self._last_q[number]),
                    int(self._counts[number]),
                )
                for number, series in enumerate(self._series)
                if (station is None or series.station == station) and self._counts[number]
            ]

    def count(self) -> int:
        """All readings ever stored."""
        with self._lock:
            total: np.int64 = self._counts.sum()
            return int(total)

    def close(self) -> None:
        """Release the file; what was appended is durable."""
        with self._files_lock, self._lock:
            self._upkeep.close()
            self._db.close()


def describe(path: Path) -> tuple[int, int, int]:
    """Return schema version, cursor and how many readings are there, of a store that nobody has open."""
    with duckdb.connect(path, read_only=True) as db:
        [(version, cursor)] = db.execute("SELECT schema_version, inbox_pos FROM meta").fetchall()
        if version == 1:
            [(count,)] = db.execute("SELECT count(*) FROM readings").fetchall()
            return version, cursor, count
        tables = [
            live_table(READINGS, g) for (g,) in db.execute("SELECT generation FROM live").fetchall()
        ]
        counts = [db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables]
        [(parts,)] = db.execute(
            "SELECT coalesce(sum(n), 0)::BIGINT FROM parts WHERE kind = ?", (READINGS,)
        ).fetchall()
    return version, cursor, sum(counts) + parts
