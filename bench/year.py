"""A year of many series in DuckDB: how long it takes to lay down, how large it is, and how fast a trend answers.

The year is laid down in bulk, not through the inbox: the same tables in the same part files that upkeep leaves behind
when each month is over, written by SQL. What is measured is asking.
"""

from __future__ import annotations

import asyncio
import random
import resource
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from bench.county import INDICATORS
from bench.machine import load
from dashboards.app import create_app
from dashboards.signal import EventSignal
from dashboards.sources import Sources
from dashboards.standards import Standards
from ingest.batch import Series
from ingest.inbox import Inbox
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.operational import Operational
from ingest.registry import files
from ingest.store.duckdb_file import READINGS, open_main
from ingest.store.duckdb_parts import Parts, folder_of, month_end, month_of
from ingest.store.duckdb_rollups import FOLD, MERGE, bucket
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.levels import DAY_MS, Retention
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection

END_MS = 1_777_564_800_000  # 2026-05-01T00:00+08:00
MINUTE_MS = 60_000
PER_STATION = 40
SLICE_ROWS = 2_000_000
ASKED = 200
RANGES = {"day": DAY_MS, "week": 7 * DAY_MS, "month": 30 * DAY_MS, "year": 365 * DAY_MS}


def measure(
    *, quick: bool, series: int = 20_000, every_minutes: int = 15, directory: Path | None = None
) -> dict[str, object]:
    """Lay a year of ``series`` down, one in a thousand each minute, the others each ``every_minutes``; ask it."""
    if quick:
        series, every_minutes = min(series, 40), 60
    before = load()
    with tempfile.TemporaryDirectory(prefix="agrigate-year-", dir=directory) as name:
        path = Path(name) / "readings.duckdb"
        fast = max(1, series // 1000)
        began = time.monotonic()
        rows = lay_down(path, series, fast, every_minutes)
        laid_s = time.monotonic() - began
        size = path.stat().st_size + sum(f.stat().st_size for f in folder_of(path).iterdir())
        began = time.monotonic()
        with closing(DuckDBStore(path)) as store:
            opened_s = time.monotonic() - began
            asked = _ask_store(store, series, fast, 40 if quick else ASKED)
            over_http = asyncio.run(
                _ask_app(store, Path(name), series, fast, 40 if quick else ASKED)
            )
        slowest = over_http["year_of_one_minute_series"]["p95_ms"]
    return {
        "what": f"{series} series × 1 year, {fast} of them each minute, the others each {every_minutes} min",
        "load_before": before,
        "laid_down": "in bulk by SQL, in the part files that upkeep leaves; not through the inbox",
        "rows": rows,
        "laid_down_s": round(laid_s, 1),
        "bytes": size,
        "bytes_per_reading": round(size / rows[READINGS], 2),
        "opened_s": round(opened_s, 2),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "store": asked,
        "api": over_http,
        "ratios": {"allowed_to_taken_year_p95": round(200 / float(slowest), 2)},
    }


def names(series: int) -> list[Series]:
    """Return the names of the series: 40 at a station, eight devices of five indicators."""
    return [
        Series(
            f"bench-{n // PER_STATION:03}",
            f"plot/soil{n % PER_STATION // len(INDICATORS)}",
            INDICATORS[n % len(INDICATORS)],
        )
        for n in range(series)
    ]


def lay_down(path: Path, series: int, fast: int, every_minutes: int) -> dict[str, int]:
    """Write the year before END_MS; the first ``fast`` series have a reading each minute. Return rows by kind."""
    rows: dict[str, int] = {}
    with closing(open_main(path)) as db:
        parts = Parts(db, folder_of(path))
        month = month_of(END_MS - 365 * DAY_MS)
        while month < END_MS:
            span = (max(month, END_MS - 365 * DAY_MS), min(month_end(month), END_MS))
            for kind in (READINGS, *Level):
                first_ms = Retention().start_ms(None if kind == READINGS else Level(kind), END_MS)
                if first_ms is not None and month_end(month) <= first_ms:
                    continue
                name = f"{kind}_{month // 1000}_1"
                with parts.writing(name, kind) as writer:
                    if kind in {Level.HOUR, Level.DAY}:
                        finer = READINGS if kind == Level.HOUR else Level.HOUR
                        file = parts.file(f"{finer}_{month // 1000}_1")
                        writer.execute(f"ATTACH '{file}' AS finer (READ_ONLY)").fetchall()
                    for piece, step in _pieces(series, fast, every_minutes, span):
                        _write(writer, kind, piece, span, step)
                parts.attach(db, name)
                db.execute(
                    f"INSERT INTO parts SELECT '{name}', '{kind}', {month}, min(t_ms), max(t_ms), count(*), ''"
                    f" FROM {name}.{kind}"
                ).fetchall()
                [(n,)] = db.execute(f"SELECT count(*) FROM {name}.{kind}").fetchall()
                rows[str(kind)] = rows.get(kind, 0) + n
            month = month_end(month)
        _close_books(db, series, fast, every_minutes)
    return rows


def _pieces(
    series: int, fast: int, every_minutes: int, span: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield ((first series, behind the last), step in ms), none with many more rows than are sorted at a time."""
    for begin, end, step in (
        (0, fast, MINUTE_MS),
        (fast, series, every_minutes * MINUTE_MS),
    ):
        at_once = max(1, SLICE_ROWS * step // (span[1] - span[0]))
        for first in range(begin, end, at_once):
            yield (first, min(first + at_once, end)), step


def _write(
    db: DuckDBPyConnection, kind: str, piece: tuple[int, int], span: tuple[int, int], step: int
) -> None:
    """Write the readings of some series, or their roll-ups; in order of series and time."""
    each = (span[1] - span[0]) // step
    first, behind = piece
    noise = f"(hash(i + {first * each}) % 1000) / 1000.0"
    made = (
        f"SELECT ({first} + i // {each})::INTEGER AS series_id, {span[0]} + (i % {each}) * {step} AS t_ms,"
        f" round(20 + 5 * sin(((i % {each}) * {step}) / 13750987.0 + i // {each}) + {noise}, 2) AS v,"
        " (CASE WHEN hash(i * 7) % 500 = 0 THEN 3 ELSE 1 END)::UTINYINT AS q"
        f" FROM range({(behind - first) * each}) AS made(i)"
    )
    some = f"series_id BETWEEN {first} AND {behind - 1}"
    match kind:
        case Level.MINUTE:  # no series has two readings in one
            select = f"SELECT series_id, t_ms, v, v, v, 1, 1, (q = 1)::INTEGER FROM ({made})"
        case Level.HOUR:
            select = (
                f"SELECT series_id, {bucket(Level.HOUR)} AS b, {FOLD} FROM finer.{READINGS}"
                f" WHERE {some} GROUP BY ALL ORDER BY series_id, b"
            )
        case Level.DAY:
            select = (
                f"SELECT series_id, {bucket(Level.DAY)} AS b, {MERGE} FROM finer.{Level.HOUR}"
                f" WHERE {some} GROUP BY ALL ORDER BY series_id, b"
            )
        case _:
            select = (
                "SELECT series_id, t_ms, v, q, 0::UINTEGER, t_ms + 1500, 1 + t_ms // 60000, 0::INTEGER"
                f" FROM ({made})"
            )
    db.execute(f"INSERT INTO {kind} {select}").fetchall()


def _close_books(db: DuckDBPyConnection, series: int, fast: int, every_minutes: int) -> None:
    """Write what a store knows beside its rows: names, the last of each series, positions."""
    all_names = names(series)
    db.execute(
        "INSERT INTO series"
        " SELECT unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
        (
            list(range(series)),
            [one.station for one in all_names],
            [one.device for one in all_names],
            [one.indicator for one in all_names],
        ),
    ).fetchall()
    year = 365 * DAY_MS
    db.execute(
        f"INSERT INTO latest SELECT i, {END_MS} - step, 20.0, 1, {year} // step FROM (SELECT i,"
        f" CASE WHEN i < {fast} THEN {MINUTE_MS} ELSE {every_minutes * MINUTE_MS} END AS step"
        f" FROM range({series}) AS every_one(i))"
    ).fetchall()
    cursor = 1 + END_MS // MINUTE_MS
    db.execute("UPDATE meta SET inbox_pos = ?", (cursor,)).fetchall()
    db.execute("UPDATE rolled SET inbox_pos = ?, at_ms = ?", (cursor, END_MS)).fetchall()
    db.execute("UPDATE live SET since_ms = ?", (END_MS,)).fetchall()


# ---- asking


def _ask_store(store: DuckDBStore, series: int, fast: int, asked: int) -> dict[str, object]:
    known = names(series)
    pick = random.Random(7)

    def trend(span_ms: int, level: Level) -> Callable[[], object]:
        one = known[pick.randrange(series)]
        return lambda: store.trend(one, start_ms=END_MS - span_ms, end_ms=END_MS, level=level)

    def of_day() -> Callable[[], object]:
        end = END_MS - pick.randrange(360) * DAY_MS
        one = known[pick.randrange(fast)]
        return lambda: store.query(one, start_ms=end - DAY_MS, end_ms=end, max_points=2000)

    return {
        "year_of_days": _timed(asked, lambda: trend(RANGES["year"], Level.DAY)),
        "year_of_hours": _timed(asked, lambda: trend(RANGES["year"], Level.HOUR)),
        "month_of_hours": _timed(asked, lambda: trend(RANGES["month"], Level.HOUR)),
        "day_of_one_minute_readings": _timed(asked, of_day),
        "latest_of_all": _timed(max(20, asked // 10), lambda: store.latest),
    }


async def _ask_app(
    store: DuckDBStore, directory: Path, series: int, fast: int, asked: int
) -> dict[str, dict[str, float]]:
    """Ask the API: routing, checks, JSON; no socket in between."""
    known = names(series)
    pick = random.Random(8)
    with (
        closing(_county(directory, sorted({one.station for one in known}))) as operational,
        closing(Inbox.open(directory / "inbox.db")) as inbox,
    ):
        app = create_app(
            Sources(
                operational=operational,
                readings=store,
                inbox=inbox,
                limits=lambda _series, _start, _end: [],
                names=lambda code: (code, code),
                products=lambda _: "",
                standards=Standards(standard_catalogue()),
                metrics=lambda: "",
                ready=list,
                now_ms=lambda: END_MS,
                loopback_only_reads=True,
                wake=EventSignal(),
                wake_sender=lambda: None,
            )
        )
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50000))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8080"
        ) as client:

            async def get(path: str, **query: object) -> float:
                began = time.perf_counter()
                reply = await client.get(f"/api/v1/{path}", params=query)  # type: ignore[arg-type]
                took = time.perf_counter() - began
                reply.raise_for_status()
                return took

            async def ask(span_ms: int, most: int) -> float:
                one = known[pick.randrange(most)]
                return await get(
                    "readings",
                    station=one.station,
                    device=one.device,
                    indicator=one.indicator,
                    start=END_MS - span_ms,
                    end=END_MS,
                )

            found = {
                f"{name}_of_random_series": [await ask(span, series) for _ in range(asked)]
                for name, span in RANGES.items()
            }
            for name, span in RANGES.items():
                found[f"{name}_of_one_minute_series"] = [
                    await ask(span, fast) for _ in range(asked)
                ]
            found["overview"] = [await get("overview") for _ in range(max(20, asked // 10))]
            found["stations"] = [await get("stations") for _ in range(max(20, asked // 10))]
    return {name: _percentiles(took) for name, took in found.items()}


def _county(directory: Path, stations: list[str]) -> Operational:
    """Return an operational database with these stations."""
    operational = Operational(f"sqlite:///{directory / 'operational.db'}")
    operational.migrate()
    region = files.Region(code="330182", name="基准县")
    files.sync(
        operational,
        files.RegistryFile(
            regions=(region,),
            subjects=(),
            bases=(),
            plots=(),
            devices=(),
            stations=tuple(
                files.Station(code=code, name=code, region=region.code, key="") for code in stations
            ),
        ),
        END_MS,
    )
    return operational


def _timed(asked: int, prepare: Callable[[], Callable[[], object]]) -> dict[str, float]:
    took = []
    for _ in range(asked):
        ask = prepare()
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return _percentiles(took)


def _percentiles(took_s: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(took_s) * 1000, [50, 95, 99])
    return {
        "n": len(took_s),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
    }
