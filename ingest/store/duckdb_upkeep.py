"""Upkeep of the embedded store while it is used: live tables become sorted parts, parts are merged and dropped."""

# ruff: noqa: S608 - names of tables and whole numbers, all of them ours

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.store.duckdb_file import KINDS, READINGS, create_live, live_table
from ingest.store.duckdb_parts import insert, month_end, month_of, slices
from ingest.store.duckdb_rollups import MERGE, roll_up
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from duckdb import DuckDBPyConnection

    from ingest.store.duckdb_parts import Parts
    from ingest.store.levels import Retention
    from ingest.store.reading_store import Kept

DAY_MS = 86_400_000
ROLL_EVERY_MS = 10 * 60_000  # what is not rolled up yet is added when it is asked for
SEAL_READINGS = 5_000_000  # a live table is searched from end to end
SEAL_EVERY_MS = DAY_MS
MONTH_CLOSES_MS = 2 * DAY_MS  # after its end; what comes later is merged when it is worth it
PARTS_MOST = 8  # of one kind and month
SMALL_SHARE = 20  # parts that are together below a twentieth of the largest may stay beside it

_COPY = "SELECT * FROM {rows} WHERE {where}"
_MERGE = f"SELECT series_id, t_ms, {MERGE} FROM {{rows}} WHERE {{where}} GROUP BY series_id, t_ms"
_SELECT = {kind: _COPY if kind == READINGS else _MERGE for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Part:
    """A row of ``parts``: low and high are the first and the last time in it."""

    name: str
    kind: str
    month_ms: int
    low_ms: int
    high_ms: int
    n: int
    kept: str  # of which ranges this is what was left; empty when it is whole


class Upkeep:
    """Does what is due, one call at a time; ``lock`` is held by whoever appends."""

    def __init__(
        self,
        db: DuckDBPyConnection,
        parts: Parts,
        lock: threading.Lock,
        retention: Retention,
        *,
        cursor: Callable[[], int],
        number: Callable[[Kept], int],
        sealed: Callable[[int], None],
    ) -> None:
        self._db = db.cursor()
        self._parts = parts
        self._lock = lock
        self._retention = retention
        self._cursor = cursor
        self._number = number
        self._sealed = sealed

    def run(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Roll up, seal, settle, merge, drop: each is whole by itself, a process killed in between goes on later."""
        self._parts.delete_retired()
        generations = self._generations()
        seal = self._is_full(generations, now_ms)
        if seal:
            self._seal(generations, now_ms)
        [(at_ms,)] = self._db.execute("SELECT at_ms FROM rolled").fetchall()
        if seal or len(generations) > 1 or not 0 <= now_ms - at_ms < ROLL_EVERY_MS:
            roll_up(self._db, self._cursor(), now_ms)
        for generation, _ in self._generations()[:-1]:
            self._settle(generation)
        self._merge(now_ms)
        self._drop(now_ms, keep)

    def close(self) -> None:
        """Give the connection back."""
        self._db.close()

    # ---- live tables

    def _generations(self) -> list[tuple[int, int]]:
        return self._db.execute("SELECT generation, since_ms FROM live ORDER BY 1").fetchall()

    def _is_full(self, generations: list[tuple[int, int]], now_ms: int) -> bool:
        newest, since_ms = generations[-1]
        if not since_ms:
            self._db.execute(
                "UPDATE live SET since_ms = ? WHERE since_ms = 0", (now_ms,)
            ).fetchall()
            since_ms = now_ms
        [(n,)] = self._db.execute(f"SELECT count(*) FROM {live_table(READINGS, newest)}").fetchall()
        return n >= SEAL_READINGS or (n > 0 and not 0 <= now_ms - since_ms < SEAL_EVERY_MS)

    def _seal(self, generations: list[tuple[int, int]], now_ms: int) -> None:
        """Have what is appended from now on go into new tables."""
        newest = generations[-1][0] + 1
        with self._lock:
            self._db.execute("BEGIN").fetchall()
            try:
                create_live(self._db, newest)
                self._db.execute("INSERT INTO live VALUES (?, ?)", (newest, now_ms)).fetchall()
                self._db.execute("COMMIT").fetchall()
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._sealed(newest)

    def _settle(self, generation: int) -> None:
        """Write a sealed generation, all of it rolled up, into parts; then it counts no more."""
        fresh = [part for kind in KINDS for part in self._split(kind, live_table(kind, generation))]
        drop = [live_table(kind, generation) for kind in KINDS]
        self._swap(fresh, [], drop, generation)

    def _split(self, kind: str, table: str) -> list[Part]:
        [(low, high)] = self._db.execute(f"SELECT min(t_ms), max(t_ms) FROM {table}").fetchall()
        parts: list[Part] = []
        month = None if low is None else month_of(low)
        while month is not None:
            end = month_end(month)
            # A time beyond the calendar stands in its first or last month.
            begin = low if not parts else month
            part = self._write(
                kind, table, month, begin, max(end, begin + 1) if end > month else high + 1
            )
            if part:
                parts.append(part)
            behind = part.high_ms + 1 if part else end
            [(following,)] = self._db.execute(
                f"SELECT min(t_ms) FROM {table} WHERE t_ms >= ?", (max(end, behind),)
            ).fetchall()
            month = None if following is None else month_of(following)
        return parts

    def _write(self, kind: str, table: str, month: int, begin: int, end: int) -> Part | None:
        name = self._name(kind, month)
        where = f"t_ms >= {begin} AND t_ms < {end}"
        with self._parts.writing(name, kind) as writer:
            for piece in slices(self._db, table, where):
                select = _SELECT[kind].format(rows=table, where=piece)
                rows = self._db.execute(select).fetchnumpy()
                writer.register("incoming", rows)
                insert(writer, kind, "SELECT * FROM incoming")
                writer.unregister("incoming")
        return self._describe(name, kind, month)

    # ---- parts

    def _listed(self) -> list[Part]:
        rows = self._db.execute(
            "SELECT name, kind, month_ms, low_ms, high_ms, n, kept FROM parts ORDER BY n"
        ).fetchall()
        return [Part(*row) for row in rows]

    def _name(self, kind: str, month_ms: int) -> str:
        """Return a name that no part ever had."""
        [(number,)] = self._db.execute(
            "UPDATE rolled SET parts = parts + 1 RETURNING parts"
        ).fetchall()
        return f"{kind}_{month_ms // 1000}_{number}".replace("-", "m")

    def _describe(self, name: str, kind: str, month: int, kept: str = "") -> Part | None:
        self._parts.attach(self._db, name)
        [(low, high, n)] = self._db.execute(
            f'SELECT min(t_ms), max(t_ms), count(*) FROM "{name}".{kind}'
        ).fetchall()
        if not n:
            self._parts.retire([name])
            return None
        return Part(name, kind, month, low, high, n, kept)

    def _swap(
        self,
        fresh: Sequence[Part],
        old: Sequence[Part],
        drop: Sequence[str] = (),
        generation: int = -1,
    ) -> None:
        """Have ``fresh`` count instead of ``old`` and of the tables of a generation, in one transaction."""
        db = self._db
        db.execute("BEGIN").fetchall()
        try:
            for part in old:
                db.execute("DELETE FROM parts WHERE name = ?", (part.name,)).fetchall()
            for part in fresh:
                db.execute(
                    "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        part.name,
                        part.kind,
                        part.month_ms,
                        part.low_ms,
                        part.high_ms,
                        part.n,
                        part.kept,
                    ),
                ).fetchall()
            db.execute("DELETE FROM live WHERE generation = ?", (generation,)).fetchall()
            for table in drop:
                db.execute(f"DROP TABLE {table}").fetchall()
            db.execute("COMMIT").fetchall()
        except BaseException:
            db.execute("ROLLBACK")
            raise
        self._parts.retire([part.name for part in old])

    def _merge(self, now_ms: int) -> None:
        groups: dict[tuple[str, int], list[Part]] = {}
        for part in self._listed():
            if not part.kept:
                groups.setdefault((part.kind, part.month_ms), []).append(part)
        for (kind, month), parts in groups.items():
            chosen = worth_merging(parts, closed=now_ms >= month_end(month) + MONTH_CLOSES_MS)
            if not chosen:
                continue
            name = self._name(kind, month)
            self._parts.merge(name, kind, [part.name for part in chosen], _SELECT[kind])
            merged = self._describe(name, kind, month)
            self._swap([merged] if merged else [], chosen)

    # ---- retention

    def _drop(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Drop months that are wholly past their retention, but for the readings to be kept."""
        for part in self._listed():
            level = None if part.kind == READINGS else Level(part.kind)
            first_ms = self._retention.start_ms(level, now_ms)
            if first_ms is None or month_end(part.month_ms) > first_ms or part.high_ms >= first_ms:
                continue
            ranges = [] if level else self._ranges(part, keep)
            if not ranges:
                self._swap([], [part])
                continue
            kept = hashlib.sha256(" ".join(ranges).encode()).hexdigest()[:16]
            if kept == part.kept:
                continue
            name = self._name(part.kind, part.month_ms)
            select = f"{_COPY} AND ({' OR '.join(ranges)})"
            self._parts.merge(name, part.kind, [part.name], select)
            left = self._describe(name, part.kind, part.month_ms, kept)
            self._swap([left] if left else [], [part])

    def _ranges(self, part: Part, keep: Sequence[Kept]) -> list[str]:
        ranges = {
            (self._number(one), one.start_ms, one.end_ms)
            for one in keep
            if one.start_ms <= part.high_ms and one.end_ms > part.low_ms
        }
        return [
            f"(series_id = {number} AND t_ms >= {start} AND t_ms < {end})"
            for number, start, end in sorted(ranges)
            if number >= 0
        ]


def worth_merging(parts: Sequence[Part], *, closed: bool) -> list[Part]:
    """Return which parts of one kind and month to merge now: all but those that are far larger than the rest."""
    by_size = sorted(parts, key=lambda part: part.n)
    total = sum(part.n for part in by_size)
    if len(by_size) < 2:
        return []
    largest = by_size[-1].n
    if closed and (total - largest) * SMALL_SHARE >= largest:
        return by_size
    if len(by_size) < PARTS_MOST:
        return []
    chosen = by_size[:2]
    for part in by_size[2:]:
        if part.n > 2 * sum(one.n for one in chosen):
            break
        chosen.append(part)
    return chosen
