"""The embedded store: one DuckDB file, one process.

Series are numbered in a table of their own; what is asked most – the last reading of each – is kept in memory.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import structlog

from ingest.batch import Series
from ingest.store.downsample import keep_extremes
from ingest.store.reading_store import Latest, Points

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.batch import Batch

log = structlog.get_logger()

SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (schema_version INTEGER NOT NULL, inbox_pos BIGINT NOT NULL);
INSERT INTO meta SELECT {SCHEMA_VERSION}, 0 WHERE NOT EXISTS (SELECT * FROM meta);
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, station VARCHAR NOT NULL, device VARCHAR NOT NULL, indicator VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS readings (
    series_id INTEGER NOT NULL, t_ms BIGINT NOT NULL, v DOUBLE, q UTINYINT NOT NULL, flags UINTEGER NOT NULL,
    received_ms BIGINT NOT NULL, inbox_pos BIGINT NOT NULL, dup INTEGER NOT NULL
);
"""  # noqa: S608 - a constant
_Rows = dict[str, "NDArray[np.number]"]
_NEVER = np.iinfo(np.int64).min
MEMORY_LIMIT = "32MB"  # DuckDB would take four fifths of the machine for its cache


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class DuckDBStore:
    """Implements ``ReadingStore`` on one file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._broken = (
            False  # DuckDB refuses all work after some I/O errors, until it is opened anew
        )
        self._open()
        self._lock = threading.Lock()

    def _open(self) -> None:
        path = self._path
        try:
            self._db = duckdb.connect(path, config={"memory_limit": MEMORY_LIMIT})
        except duckdb.Error as exc:
            raise StoreError(f"{path}: {exc}; restore a backup or move the file away") from exc
        try:
            self._run(_SCHEMA)
            self._widen_flags()
            [(version, cursor)] = self._run("SELECT schema_version, inbox_pos FROM meta")
        except duckdb.Error as exc:
            self._db.close()
            raise StoreError(f"{path}: {exc}; restore a backup or move the file away") from exc
        if version != SCHEMA_VERSION:
            self._db.close()
            raise StoreError(
                f"{path}: store of schema {version}, this server knows {SCHEMA_VERSION}"
            )
        self._cursor = int(cursor)
        self._load_latest()

    def _widen_flags(self) -> None:
        """Make room for the bits of today in a file whose flags were eight."""
        [(held,)] = self._run(
            "SELECT data_type FROM information_schema.columns"
            " WHERE table_name = 'readings' AND column_name = 'flags'"
        )
        if held != "UINTEGER":
            self._run("ALTER TABLE readings ALTER flags TYPE UINTEGER")

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
        rows = self._run(
            "WITH newest AS (SELECT series_id, max(t_ms) AS t_ms, count(*) AS n FROM readings GROUP BY series_id)"
            " SELECT series_id, t_ms, coalesce(v, 'nan'), q, n FROM readings JOIN newest USING (series_id, t_ms)"
            " ORDER BY series_id, dup"  # of several at one time the last to come counts
        )
        for number, last_ms, v, q, count in rows:
            self._last_ms[number], self._last_v[number] = last_ms, v
            self._last_q[number], self._counts[number] = q, count

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
        """Write a copy of one state to ``path``, which must not exist; appending goes on meanwhile."""
        with self._db.cursor() as db:
            [(name,)] = db.execute("SELECT current_database()").fetchall()
            db.execute(f"ATTACH {_quoted(str(path))} AS backup_copy")
            try:
                db.execute(f"COPY FROM DATABASE {_name(name)} TO backup_copy")
            finally:
                db.execute("DETACH backup_copy")

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
                "INSERT INTO readings SELECT series_id, t_ms, CASE WHEN isnan(v) THEN NULL ELSE v END,"
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
        self._db.register("places", places)
        try:
            found = self._run(
                "SELECT place, count(*) FROM readings JOIN places USING (series_id, t_ms)"
                " WHERE t_ms BETWEEN ? AND ? GROUP BY place",
                (int(places["t_ms"].min()), int(places["t_ms"].max())),
            )
        finally:
            self._db.unregister("places")
        for place, count in found:
            counts[place] = count
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
        number = self._ids.get(series, -1)
        with self._db.cursor() as db:
            columns = db.execute(
                "SELECT t_ms, coalesce(v, 'nan') AS v, q, flags, received_ms, inbox_pos, dup FROM readings"
                " WHERE series_id = ? AND t_ms >= ? AND t_ms < ? ORDER BY t_ms, dup",
                (number, start_ms, end_ms),
            ).fetchnumpy()
        t_ms = columns["t_ms"]
        total = len(t_ms)
        keep = np.arange(total)
        if max_points is not None:
            keep = keep_extremes(t_ms, columns["v"], columns["q"], max_points)
        return Points(
            t_ms=t_ms[keep],
            v=columns["v"][keep],
            q=columns["q"][keep],
            flags=columns["flags"][keep],
            received_ms=columns["received_ms"][keep],
            inbox_pos=columns["inbox_pos"][keep],
            dup=columns["dup"][keep],
            total=total,
        )

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
        """All readings stored."""
        with self._lock:
            total: np.int64 = self._counts.sum()
            return int(total)

    def close(self) -> None:
        """Release the file; what was appended is durable."""
        with self._lock:
            self._db.close()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
