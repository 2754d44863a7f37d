"""Parts: files of one month and one kind, sorted by series, written once.

A part is attached to the store's database read-only. Sorted rows let a question about one series skip the rest, and a
file that is deleted gives its disk back, which a table in a large file would not.
"""

# ruff: noqa: S608 - names of tables and whole numbers, all of them ours

from __future__ import annotations

import datetime as dt
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from ingest.store.duckdb_file import READINGS, columns, identifier, live_table, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

WRITER_MEMORY = "64MB"
SLICE_ROWS = 250_000  # sorted in memory at a time
RETIRE_S = 60.0  # a question that was begun with a part may take this long
SHANGHAI = dt.timezone(dt.timedelta(hours=8))
FOLDER_SUFFIX = ".parts"
_ORDER = {READINGS: "series_id, t_ms, dup"}


def folder_of(path: Path) -> Path:
    """Return where the parts of the store at ``path`` lie."""
    return path.with_name(path.name + FOLDER_SUFFIX)


def month_of(t_ms: int) -> int:
    """Return when the month of a time began in Shanghai (UTC ms); times beyond the calendar count as its ends."""
    seconds = min(max(t_ms // 1000, -62_135_000_000), 253_402_000_000)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    begin = moment.astimezone(SHANGHAI).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(begin.timestamp()) * 1000


def month_end(month_ms: int) -> int:
    """Return when the month that began at ``month_ms`` ends."""
    return month_of(month_ms + 32 * 86_400_000)


def sources(db: DuckDBPyConnection, kind: str, start_ms: int, end_ms: int) -> list[str]:
    """Return the tables that may hold rows of ``kind`` in start ≤ t < end, as the transaction of ``db`` sees them."""
    live = db.execute("SELECT generation FROM live").fetchall()
    parts = db.execute(
        "SELECT name FROM parts WHERE kind = ? AND high_ms >= ? AND low_ms < ?",
        (kind, start_ms, end_ms),
    ).fetchall()
    return [live_table(kind, g) for (g,) in live] + [f"{identifier(n)}.{kind}" for (n,) in parts]


class Parts:
    """The part files of one store; the table ``parts`` says which of them count."""

    def __init__(self, db: DuckDBPyConnection, folder: Path) -> None:
        self._db = db
        self.folder = folder
        self._attached: set[str] = set()
        self._retired: dict[str, float] = {}
        self._attach_all()

    def _attach_all(self) -> None:
        names = {n for (n,) in self._db.execute("SELECT name FROM parts").fetchall()}
        if self.folder.is_dir():
            for file in self.folder.iterdir():  # what a process that was killed has left
                if file.name.split(".")[0] not in names:
                    file.unlink()
        for name in sorted(names):
            self.attach(self._db, name)

    def file(self, name: str) -> Path:
        """Return the file of a part."""
        return self.folder / f"{name}.duckdb"

    def attach(self, db: DuckDBPyConnection, name: str) -> None:
        """Let questions see a part that is on disk."""
        db.execute(
            f"ATTACH {quoted(str(self.file(name)))} AS {identifier(name)} (READ_ONLY)"
        ).fetchall()
        self._attached.add(name)

    @contextmanager
    def writing(self, name: str, kind: str) -> Iterator[DuckDBPyConnection]:
        """Give a connection, apart from the store's, that fills the new part; on disk and synced afterwards."""
        self.folder.mkdir(exist_ok=True)
        fresh = self.folder / f"{name}.part"
        for leftover in self.folder.glob(f"{name}.*"):
            leftover.unlink()
        with duckdb.connect(fresh, config={"memory_limit": WRITER_MEMORY, "threads": 1}) as db:
            db.execute(f"CREATE TABLE {kind} ({columns(kind)})").fetchall()
            db.execute("BEGIN").fetchall()
            yield db
            db.execute("COMMIT").fetchall()
        fresh.rename(self.file(name))
        _sync(self.file(name))
        _sync(self.folder)

    def merge(self, name: str, kind: str, names: Sequence[str], select: str) -> None:
        """Write part ``name`` from others, sorted; ``select`` is an SQL template over ``{rows}`` and ``{where}``."""
        with self.writing(name, kind) as db:
            for n, source in enumerate(names):
                db.execute(
                    f"ATTACH {quoted(str(self.file(source)))} AS s{n} (READ_ONLY)"
                ).fetchall()
            rows = " UNION ALL ".join(f"SELECT * FROM s{n}.{kind}" for n in range(len(names)))
            for where in slices(db, f"({rows})"):
                insert(db, kind, select.format(rows=f"({rows})", where=where))

    def retire(self, names: Sequence[str]) -> None:
        """Note parts that count no more; their files go when nobody can be reading them."""
        now = time.monotonic()
        self._retired |= dict.fromkeys(names, now)

    def delete_retired(self, *, after_s: float = RETIRE_S) -> None:
        """Delete the files of parts retired at least ``after_s`` ago."""
        for name, at in list(self._retired.items()):
            if time.monotonic() - at < after_s:
                continue
            del self._retired[name]
            if name in self._attached:
                self._attached.discard(name)
                self._db.cursor().execute(f"DETACH {identifier(name)}").fetchall()
            self.file(name).unlink(missing_ok=True)


def insert(db: DuckDBPyConnection, kind: str, select: str) -> None:
    """Append what ``select`` gives, in the order of a part."""
    order = _ORDER.get(kind, "series_id, t_ms")
    db.execute(f"INSERT INTO {kind} SELECT * FROM ({select}) ORDER BY {order}").fetchall()


def slices(db: DuckDBPyConnection, rows: str, where: str = "TRUE") -> Iterator[str]:
    """Yield SQL conditions that cut ``rows`` into pieces of some 250,000, in order of series, at days within one."""
    counted = db.execute(
        f"SELECT series_id, count(*), min(t_ms), max(t_ms) FROM {rows} WHERE {where} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    begun: list[int] = []
    held = 0
    for series_id, n, low, high in counted:
        if begun and held + n > SLICE_ROWS:
            yield f"{where} AND series_id BETWEEN {begun[0]} AND {begun[-1]}"
            begun, held = [], 0
        if n > SLICE_ROWS:
            yield from _slices_of_one(series_id, n, low, high, where)
            continue
        begun.append(series_id)
        held += n
    if begun:
        yield f"{where} AND series_id BETWEEN {begun[0]} AND {begun[-1]}"


def _slices_of_one(series_id: int, n: int, low: int, high: int, where: str) -> Iterator[str]:
    day_ms = 86_400_000
    first = low - (low + day_ms // 3) % day_ms  # days of Shanghai: no bucket is cut
    days = max(1, ((high - first) // day_ms + 1) * SLICE_ROWS // n)
    for begin in range(first, high + 1, days * day_ms):
        yield f"{where} AND series_id = {series_id} AND t_ms >= {begin} AND t_ms < {begin + days * day_ms}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
