"""Roll-ups in SQL: partial aggregates of each level, each reading counted exactly once."""

# ruff: noqa: S608 - names of tables and whole numbers, all of them ours

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.store.duckdb_file import READINGS, live_table
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROLL_READINGS = 250_000  # at a time: what is grouped must fit into the memory limit
_USABLE = "FILTER (v IS NOT NULL AND q NOT IN (4, 9))"
FOLD = (
    f"min(v) {_USABLE} AS low, max(v) {_USABLE} AS high, sum(v) {_USABLE} AS total,"
    f" count(*) {_USABLE} AS valued, count(*) AS n, count(*) FILTER (q = 1) AS good"
)
MERGE = (
    "min(low) AS low, max(high) AS high, sum(total) AS total,"
    " sum(valued)::INTEGER AS valued, sum(n)::INTEGER AS n, sum(good)::INTEGER AS good"
)


def bucket(level: Level) -> str:
    """Return SQL for the start of a reading's bucket; DuckDB's remainder has the sign of the dividend."""
    ms, offset = level.ms, level.offset_ms
    return f"t_ms - ((t_ms + {offset}) % {ms} + {ms}) % {ms}"


def roll_up(db: DuckDBPyConnection, cursor: int, now_ms: int) -> None:
    """Add the readings behind the rolled position, through ``cursor``, to each level: each exactly once."""
    [(rolled,)] = db.execute("SELECT inbox_pos FROM rolled").fetchall()
    generations = [g for (g,) in db.execute("SELECT generation FROM live ORDER BY 1").fetchall()]
    tail = " UNION ALL ".join(f"SELECT * FROM {live_table(READINGS, g)}" for g in generations)
    [(waiting,)] = db.execute(
        f"SELECT count(*) FROM ({tail}) WHERE inbox_pos > ? AND inbox_pos <= ?", (rolled, cursor)
    ).fetchall()
    step = max(1, (cursor - rolled) // (waiting // ROLL_READINGS + 1))
    while rolled < cursor:
        through = min(cursor, rolled + step)
        db.execute("BEGIN").fetchall()
        try:
            _roll(db, tail, generations[-1], rolled, through)
            db.execute("UPDATE rolled SET inbox_pos = ?, at_ms = ?", (through, now_ms)).fetchall()
            db.execute("COMMIT").fetchall()
        except BaseException:
            db.execute("ROLLBACK")
            raise
        rolled = through


def _roll(db: DuckDBPyConnection, tail: str, into: int, after: int, through: int) -> None:
    span = f"inbox_pos > {after} AND inbox_pos <= {through}"
    for level in Level:
        db.execute(
            f"INSERT INTO {live_table(level, into)} SELECT series_id, {bucket(level)} AS t, {FOLD}"
            f" FROM ({tail}) WHERE {span} GROUP BY series_id, t ORDER BY series_id, t"
        ).fetchall()
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE newest AS WITH fresh AS (SELECT * FROM ({tail}) WHERE {span}),"
        " last AS (SELECT series_id, max(t_ms) AS t_ms, count(*) AS n FROM fresh GROUP BY series_id),"
        " late AS (SELECT series_id, t_ms, arg_max_null(v, dup) AS v, arg_max_null(q, dup) AS q,"
        " any_value(last.n) AS n FROM fresh JOIN last USING (series_id, t_ms) GROUP BY series_id, t_ms)"
        " SELECT series_id, greatest(late.t_ms, old.t_ms) AS t_ms,"
        " CASE WHEN old.t_ms > late.t_ms THEN old.v ELSE late.v END AS v,"
        " CASE WHEN old.t_ms > late.t_ms THEN old.q ELSE late.q END AS q, late.n + coalesce(old.n, 0) AS n"
        " FROM late LEFT JOIN latest AS old USING (series_id)"
    ).fetchall()
    db.execute("DELETE FROM latest WHERE series_id IN (SELECT series_id FROM newest)").fetchall()
    db.execute("INSERT INTO latest SELECT * FROM newest").fetchall()
