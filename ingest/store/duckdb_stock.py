"""All that a DuckDB store holds, read from its files while no server has them, and such files filled anew."""

# ruff: noqa: S608 - names of tables, numbers and escaped texts, all of them ours

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

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
from ingest.store.duckdb_parts import folder_of, month_of, slices, sources
from ingest.store.duckdb_reading import latest_sql
from ingest.store.duckdb_rollups import FOLD, bucket
from ingest.store.reading_store import Latest, Level
from ingest.store.stock import BUCKET_TYPES, READING_TYPES, Columns, Piece, Wanted, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ingest.store.copying import Done

COPY_SUFFIX = ".copy"
_READING = (
    "series_id AS series, t_ms, coalesce(v, 'nan') AS v, q, flags, received_ms, inbox_pos, dup"
)
_BUCKET = (
    "series_id AS series, t_ms, coalesce(min(low), 'nan') AS low, coalesce(max(high), 'nan') AS high,"
    " coalesce(sum(total), 0.0) AS total, sum(valued)::BIGINT AS valued, sum(n)::BIGINT AS n,"
    " sum(good)::BIGINT AS good"
)


class DuckDBStock:
    """Implements ``Stock`` on the store at ``path``, opened read-only; raises StoreError when it cannot be read."""

    def __init__(self, path: Path, wanted: Wanted | None = None) -> None:
        self._path = path
        self._wanted = wanted or Wanted()
        if not path.is_file():
            raise StoreError(f"{path}: is not there: this server has no readings in DuckDB")
        try:
            self._db = duckdb.connect(
                path, read_only=True, config={"memory_limit": MEMORY_LIMIT, "threads": 2}
            )
        except duckdb.Error as exc:
            raise StoreError(f"{path}: {exc}") from exc
        try:
            self._load()
        except duckdb.Error as exc:
            self._db.close()
            raise StoreError(f"{path}: {exc}; restore a backup") from exc
        except StoreError:
            self._db.close()
            raise

    def _load(self) -> None:
        if self._all("SELECT 1 FROM duckdb_tables() WHERE table_name = 'meta'"):
            [(version, self._cursor)] = self._all("SELECT schema_version, inbox_pos FROM meta")
        else:
            version, self._cursor = 0, 0
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: of an earlier version: start and stop this server once"
            )
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: store of schema {version}, this program knows {SCHEMA_VERSION}; use the newer one"
            )
        for (name,) in self._all("SELECT name FROM parts"):
            file = folder_of(self._path) / f"{name}.duckdb"
            self._all(f"ATTACH {quoted(str(file))} AS {identifier(name)} (READ_ONLY)")
        self.series = [
            Series(*row)
            for row in self._all("SELECT station, device, indicator FROM series ORDER BY id")
        ]
        [(self._rolled,)] = self._all("SELECT inbox_pos FROM rolled")
        self._live = [g for (g,) in self._all("SELECT generation FROM live ORDER BY 1")]
        chosen = [str(n) for n, series in enumerate(self.series) if self._wanted.has(series)]
        self._chosen = (
            ""
            if self._wanted.is_of_all_series
            else f" AND series_id IN ({', '.join(chosen or ['-1'])})"
        )

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return self._db.execute(sql).fetchall()

    @property
    def place(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def cursor(self) -> int:
        """Inbox position of the last pack stored."""
        return int(self._cursor)

    @property
    def mark(self) -> str:
        """A hash over cursor, rolled position and the list of parts and tables."""
        said = [self._cursor, self._rolled, self._live]
        said.append(self._all("SELECT name, n FROM parts ORDER BY name"))
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]

    def count(self, level: Level | None = None) -> int:
        """Rows that will come; of roll-ups before they are merged."""
        rows = self._rows(level, self._wanted.start_ms, self._wanted.end_ms)
        [(n,)] = self._db.execute(
            f"SELECT count(*) FROM {rows} WHERE t_ms >= {self._wanted.start_ms} AND t_ms < {self._wanted.end_ms}"
        ).fetchall()
        return int(n)

    def latest(self) -> list[Latest]:
        """The last reading of each series, and how many it ever had."""
        last: dict[int, Latest] = {}
        for number, t_ms, v, q, count in self._db.execute(latest_sql(self._db)).fetchall():
            old = last.get(number)
            total = count + (old.count if old else 0)
            if old and old.t_ms > t_ms:
                t_ms, v, q = old.t_ms, old.v, old.q  # noqa: PLW2901 - one row is laid over the other
            last[number] = Latest(self.series[number], t_ms, v, q, total)
        return list(last.values())

    def months(self, level: Level | None) -> list[int]:
        """Months that have rows, in order."""
        start, end = self._wanted.start_ms, self._wanted.end_ms
        kind = READINGS if level is None else level.value
        months = {
            month
            for month, low, high in self._db.execute(
                "SELECT month_ms, low_ms, high_ms FROM parts WHERE kind = ?", (kind,)
            ).fetchall()
            if high >= start and low < end
        }
        tables = [live_table(kind, g) for g in self._live]
        tables += [] if level is None else [live_table(READINGS, g) for g in self._live]
        for table in tables:
            days = self._db.execute(
                f"SELECT DISTINCT {bucket(Level.DAY)} FROM {table} WHERE t_ms >= {start} AND t_ms < {end}"
            ).fetchall()
            months |= {month_of(day) for (day,) in days}
        return sorted(months)

    def pieces(self, level: Level | None, month_ms: int) -> Iterator[Piece]:
        """The pieces of a month, in order of series."""
        start, end = span(month_ms, self._wanted)
        within = f"t_ms >= {start} AND t_ms < {end}"
        rows = self._rows(level, start, end)
        # Counted at once: between two of its answers the connection is asked for other things.
        for where in list(slices(self._db, rows, within)):
            yield Piece(level, month_ms, where)

    def read(self, piece: Piece) -> Columns:
        """The rows of a piece."""
        rows = self._rows(piece.level, *span(piece.month_ms, self._wanted))
        what, types, group = (_READING, READING_TYPES, "")
        if piece.level is not None:
            what, types, group = _BUCKET, BUCKET_TYPES, " GROUP BY series_id, t_ms"
        order = "1, 2, dup" if piece.level is None else "1, 2"
        columns = self._db.execute(
            f"SELECT {what} FROM {rows} WHERE {piece.where}{group} ORDER BY {order}"
        ).fetchnumpy()
        return {name: np.asarray(columns[name], kind) for name, kind in types.items()}

    def _rows(self, level: Level | None, start_ms: int, end_ms: int) -> str:
        """Return SQL for the rows that may be in start ≤ t < end; roll-ups are still partial."""
        found = sources(self._db, READINGS if level is None else level.value, start_ms, end_ms)
        parts = [f"SELECT * FROM {source}" for source in found]
        if level is not None:  # what is not rolled up yet
            parts += [
                f"SELECT series_id, {bucket(level)} AS b, {FOLD} FROM {live_table(READINGS, g)}"
                f" WHERE inbox_pos > {self._rolled} GROUP BY series_id, b"
                for g in self._live
            ]
        return f"(SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE TRUE{self._chosen})"

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()


class NewDuckDB:
    """Implements ``copying.Target``: fills ``readings.duckdb.copy``, which becomes ``readings.duckdb`` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh = path.with_name(path.name + COPY_SUFFIX)
        if path.exists():
            raise StoreError(
                f"{path}: is there already: move it away, and {folder_of(path).name} beside it"
            )
        self._db: duckdb.DuckDBPyConnection | None = None
        self._ids: dict[Series, int] = {}

    @property
    def place(self) -> str:
        """The file that will be there."""
        return str(self._path)

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self._db is None:
            self._db = open_main(self._fresh)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS copying (source VARCHAR, pieces BIGINT, readings BIGINT)"
            ).fetchall()
            rows = self._db.execute("SELECT id, station, device, indicator FROM series").fetchall()
            self._ids = {Series(*names): number for number, *names in rows}
        return self._db

    @property
    def levels(self) -> Sequence[Level | None]:
        """Readings and all levels."""
        return (None, *Level)

    def begin(self, mark: str, _cursor: int) -> tuple[int, int]:
        """Return how many pieces, and readings, of the same source are there; begin anew with those of another."""
        db = self._open()
        found = db.execute("SELECT source, pieces, readings FROM copying").fetchall()
        if found and found[0][0] == mark:
            return int(found[0][1]), int(found[0][2])
        if found or self._ids:  # of another source, or killed while it was being renamed
            self.reset()
            db = self._open()
        db.execute("INSERT INTO copying VALUES (?, 0, 0)", (mark,)).fetchall()
        return 0, 0

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(len(columns["t_ms"]), np.bool_)

    def put(
        self, level: Level | None, series: Sequence[Series], columns: Columns, done: Done
    ) -> None:
        """Add rows and note how far that is, in one transaction."""
        db = self._open()
        db.execute("BEGIN").fetchall()
        known = len(self._ids)
        try:
            numbers = self._number(db, series, np.unique(columns["series"]).tolist())
            rows = {**columns, "series": numbers[columns["series"]]}
            db.register("incoming", rows)
            if level is None:
                db.execute(
                    f"INSERT INTO {READINGS} SELECT series, t_ms, CASE WHEN isnan(v) THEN NULL ELSE v END,"
                    " q, flags, received_ms, inbox_pos, dup FROM incoming"
                ).fetchall()
            else:
                db.execute(
                    f"INSERT INTO {level.value} SELECT series, t_ms, CASE WHEN isnan(low) THEN NULL ELSE low END,"
                    " CASE WHEN isnan(high) THEN NULL ELSE high END,"
                    " CASE WHEN valued = 0 THEN NULL ELSE total END, valued, n, good FROM incoming"
                ).fetchall()
            db.unregister("incoming")
            db.execute(
                "UPDATE copying SET pieces = ?, readings = ?", (done.pieces, done.readings)
            ).fetchall()
            db.execute("COMMIT").fetchall()
        except BaseException:
            self._ids = {one: number for one, number in self._ids.items() if number < known}
            raise

    def _number(
        self, db: duckdb.DuckDBPyConnection, series: Sequence[Series], wanted: Sequence[int]
    ) -> NDArray[np.int32]:
        numbers = np.full(len(series), -1, np.int32)
        for place in wanted:
            one = series[place]
            if one not in self._ids:
                self._ids[one] = len(self._ids)
                db.execute(
                    "INSERT INTO series VALUES (?, ?, ?, ?)",
                    (self._ids[one], one.station, one.device, one.indicator),
                ).fetchall()
            numbers[place] = self._ids[one]
        return numbers

    def seal(self, cursor: int, latest: Sequence[Latest]) -> None:
        """Write down where the inbox goes on, and the last reading of each series."""
        db = self._open()
        db.execute("BEGIN").fetchall()
        series = [one.series for one in latest]
        numbers = self._number(db, series, range(len(series))).tolist()
        db.execute("DELETE FROM latest").fetchall()
        for number, one in zip(numbers, latest, strict=True):
            v = None if np.isnan(one.v) else one.v
            db.execute(
                "INSERT INTO latest VALUES (?, ?, ?, ?, ?)", (number, one.t_ms, v, one.q, one.count)
            ).fetchall()
        db.execute("UPDATE meta SET inbox_pos = ?", (cursor,)).fetchall()
        db.execute("UPDATE rolled SET inbox_pos = ?", (cursor,)).fetchall()
        db.execute("COMMIT").fetchall()
        self.close()

    def stock(self) -> DuckDBStock:
        """What is there now."""
        return DuckDBStock(self._fresh)

    def reset(self) -> None:
        """Throw away what is there."""
        self.close()
        self._fresh.unlink(missing_ok=True)
        self._fresh.with_name(self._fresh.name + ".wal").unlink(missing_ok=True)

    def publish(self) -> None:
        """Have it count: the server may be started."""
        self._open().execute("DROP TABLE copying").fetchall()
        self._open().execute("CHECKPOINT").fetchall()
        self.close()
        self._fresh.rename(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the file; it can be gone on with."""
        if self._db is not None:
            self._db.close()
            self._db = None
