"""Questions to the embedded store in SQL: each sees one state of live tables and parts."""

# ruff: noqa: S608 - names of tables and whole numbers, all of them ours

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ingest.store.downsample import keep_extremes
from ingest.store.duckdb_file import READINGS, live_table
from ingest.store.duckdb_parts import sources
from ingest.store.duckdb_rollups import FOLD, bucket
from ingest.store.reading_store import Points, Trend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

    from ingest.store.reading_store import Level


@contextmanager
def one_state(db: DuckDBPyConnection) -> Iterator[None]:
    """Have all statements see the same rows and parts."""
    db.execute("BEGIN").fetchall()
    try:
        yield
    finally:
        db.execute("ROLLBACK").fetchall()  # nothing was written


def points(
    db: DuckDBPyConnection, number: int, start_ms: int, end_ms: int, max_points: int | None
) -> Points:
    """Return the readings of series ``number`` with start ≤ t < end in time order, thinned to ``max_points``."""
    with one_state(db):
        pieces = " UNION ALL ".join(
            f"SELECT * FROM {source} WHERE series_id = {number} AND t_ms >= {start_ms} AND t_ms < {end_ms}"
            for source in sources(db, READINGS, start_ms, end_ms)
        )
        columns = db.execute(
            "SELECT t_ms, coalesce(v, 'nan') AS v, q, flags, received_ms, inbox_pos, dup"
            f" FROM ({pieces}) ORDER BY t_ms, dup"
        ).fetchnumpy()
    total = len(columns["t_ms"])
    keep = np.arange(total)
    if max_points is not None:
        keep = keep_extremes(columns["t_ms"], columns["v"], columns["q"], max_points)
    return Points(
        t_ms=columns["t_ms"][keep],
        v=columns["v"][keep],
        q=columns["q"][keep],
        flags=columns["flags"][keep],
        received_ms=columns["received_ms"][keep],
        inbox_pos=columns["inbox_pos"][keep],
        dup=columns["dup"][keep],
        total=total,
    )


def latest_sql(db: DuckDBPyConnection) -> str:
    """Return SQL for rows (series, time, value, flag, count) to be laid over each other in their order."""
    [(rolled,)] = db.execute("SELECT inbox_pos FROM rolled").fetchall()
    tail = " UNION ALL ".join(
        f"SELECT * FROM {live_table(READINGS, g)} WHERE inbox_pos > {rolled}"
        for (g,) in db.execute("SELECT generation FROM live").fetchall()
    )
    return (
        f"WITH tail AS ({tail}), newest AS"
        " (SELECT series_id, max(t_ms) AS t_ms, count(*) AS n FROM tail GROUP BY series_id)"
        " SELECT series_id, t_ms, coalesce(v, 'nan'), q, n FROM"
        " (SELECT 0 AS o, 0 AS dup, * FROM latest UNION ALL"
        # Of several at one time the last to come counts; they are counted once.
        " SELECT 1, dup, series_id, t_ms, v, q,"
        " CASE WHEN row_number() OVER (PARTITION BY series_id ORDER BY dup) = 1 THEN n ELSE 0 END"
        " FROM tail JOIN newest USING (series_id, t_ms)) ORDER BY series_id, o, dup"
    )


def trend(db: DuckDBPyConnection, number: int, start_ms: int, end_ms: int, level: Level) -> Trend:
    """Return the buckets of series ``number`` that overlap start ≤ t < end: what is rolled up and what is not yet."""
    first, behind = level.floor(start_ms), level.floor(end_ms - 1) + level.ms
    where = f"WHERE series_id = {number} AND t_ms >= {first} AND t_ms < {behind}"
    with one_state(db):
        [(rolled,)] = db.execute("SELECT inbox_pos FROM rolled").fetchall()
        pieces = [
            f"SELECT t_ms, low, high, total, valued, n, good FROM {source} {where}"
            for source in sources(db, level, first, behind)
        ]
        pieces += [
            f"SELECT {bucket(level)} AS b, {FOLD} FROM {live_table(READINGS, g)} {where}"
            f" AND inbox_pos > {rolled} GROUP BY b"
            for (g,) in db.execute("SELECT generation FROM live").fetchall()
        ]
        columns = db.execute(
            "SELECT t_ms, coalesce(min(low), 'nan') AS low, coalesce(max(high), 'nan') AS high,"
            " coalesce(sum(total) / nullif(sum(valued), 0), 'nan') AS mean, sum(n)::BIGINT AS n,"
            f" sum(good) / sum(n) AS good FROM ({' UNION ALL '.join(pieces)}) GROUP BY t_ms ORDER BY t_ms"
        ).fetchnumpy()
    return Trend(
        start_ms=columns["t_ms"],
        minimum=np.asarray(columns["low"], np.float64),
        mean=np.asarray(columns["mean"], np.float64),
        maximum=np.asarray(columns["high"], np.float64),
        count=columns["n"],
        good=np.asarray(columns["good"], np.float64),
    )
