"""What cannot be undercut: decoding alone, columns appended to DuckDB in bulk, lines made before into InfluxDB."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import county, influx
from bench.server_path import packs_of
from gateway.wire import PACK_MAX_RECORDS
from ingest.batch import PASS, TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.store.duckdb_file import READINGS, live_table, open_main

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

DECODED_TOGETHER = 64  # packs, as in one commit
COMMIT_ROWS = 6_400
STATIONS, CONNECTIONS = 50, 4
SERIES_PER_STATION = county.DEVICES * len(county.INDICATORS)


def spread(values: Iterable[float]) -> list[int]:
    """Return median, least and most.

    >>> spread([3.2, 1.0, 2.0])
    [2, 1, 3]
    """
    held = list(values)
    return [round(statistics.median(held)), round(min(held)), round(max(held))]


def measure(readings: int, runs: int) -> dict[str, object]:
    """Return each floor in readings/s as median, least and most of ``runs``."""
    columns = _columns(readings)
    return {
        "decode_only_per_cpu_s": spread(_decode(readings) for _ in range(runs)),
        "duckdb_by_commits_per_cpu_s": spread(_append(columns, COMMIT_ROWS) for _ in range(runs)),
        "duckdb_at_once_per_cpu_s": spread(_append(columns, readings) for _ in range(runs)),
        **_influxdb(readings, runs),
    }


def _decode(readings: int) -> float:
    """Return readings per processor second of decoding packs, and nothing else."""
    packs = readings // PACK_MAX_RECORDS
    now_ms = time.time_ns() // 1_000_000
    bodies = packs_of(PACK_MAX_RECORDS, packs, now_ms - 5_000 * packs)
    taken = [
        TakenPack(n, "bench-000", "E", n, now_ms, body) for n, body in enumerate(bodies, start=1)
    ]
    decoder = Decoder(SeriesIndex())
    began = time.process_time()
    for first in range(0, packs, DECODED_TOGETHER):
        decoder.decode(taken[first : first + DECODED_TOGETHER])
    return packs * PACK_MAX_RECORDS / (time.process_time() - began)


def _columns(rows: int) -> dict[str, NDArray[np.generic]]:
    """Return the columns of the store's own table; (rows,)."""
    at = np.arange(rows)
    series = STATIONS * SERIES_PER_STATION
    t_ms = time.time_ns() // 1_000_000 + at // series * 1000
    return {
        "series_id": (at % series).astype(np.int32),
        "t_ms": t_ms,
        "v": 20 + (at % 11) * 0.1,
        "q": np.full(rows, PASS, np.uint8),
        "flags": np.zeros(rows, np.uint32),
        "received_ms": t_ms,
        "inbox_pos": 1 + at // PACK_MAX_RECORDS,
        "dup": np.zeros(rows, np.int32),
    }


def _append(columns: dict[str, NDArray[np.generic]], together: int) -> float:
    """Return rows per processor second, DuckDB's threads included, of appending ``together`` in each commit."""
    rows = len(columns["t_ms"])
    with (
        tempfile.TemporaryDirectory(prefix="bench-floor-") as name,
        closing(open_main(Path(name) / "readings.duckdb")) as db,
    ):
        began = time.process_time()
        for first in range(0, rows, together):
            some = {key: column[first : first + together] for key, column in columns.items()}
            db.register("incoming", some)
            db.execute("BEGIN").fetchall()
            db.execute(
                f"INSERT INTO {live_table(READINGS, 0)} SELECT {', '.join(columns)} FROM incoming"
            ).fetchall()
            db.execute("COMMIT").fetchall()
            db.unregister("incoming")
        return rows / (time.process_time() - began)


def _influxdb(readings: int, runs: int) -> dict[str, object]:
    """Return what influxd takes of lines that were made before, from several connections at once."""
    if shutil.which("influxd") is None:
        return {"influxdb_skipped": "influxd is not installed (apt install influxdb)"}
    codes = county.station_codes(STATIONS)
    requests = influx.made_lines(codes, max(1, readings // (STATIONS * PACK_MAX_RECORDS)))
    rows = sum(lines.count(b"\n") + (not lines.endswith(b"\n")) for lines in requests)
    rates, used = [], []
    for _ in range(runs):
        with (
            tempfile.TemporaryDirectory(prefix="bench-floor-") as name,
            influx.influxd(Path(name)) as (server, url),
        ):
            before = server.cpu_s()
            rates.append(rows / influx.loader(influx.make(url, "floor"), requests, CONNECTIONS))
            used.append(rows / max(server.cpu_s() - before, 0.01))
    return {"influxdb_lines_per_s": spread(rates), "influxdb_lines_per_server_cpu_s": spread(used)}
