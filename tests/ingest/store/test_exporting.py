"""Readings as files: what is read back is what is stored, bit by bit."""

from __future__ import annotations

import csv
import datetime as dt
import math
import struct

import duckdb
import pytest

from ingest.batch import Series
from ingest.store.duckdb_stock import DuckDBStock
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.exporting import HEADER, ExportError, export
from ingest.store.influx.influx_store import InfluxStore
from ingest.store.influx.stock import InfluxStock, PatientServer
from ingest.store.stock import Wanted
from tests.ingest.store.test_reading_store_contract import ALL, NOW, A, B, C, Feed

ARMED = Series("=1+1", '@a "b",\n c', "soil_ph")
DAY = 86_400_000
VALUES = [0.1 + 0.2, math.nan, -0.0, 5e-324, 1e300, -7.25]
SERIES = (A, B, C, ARMED)


@pytest.fixture(params=["duckdb", "influxdb"])
def stocked(request, tmp_path):
    """Return a store, and a function that gives all it holds."""
    feed = Feed()
    rows = [(s, NOW + n * 5 * DAY, VALUES[n % 6]) for n in range(12) for s in SERIES]
    if request.param == "duckdb":
        store = DuckDBStore(tmp_path / "readings.duckdb")
        server = None
    else:
        influx = request.getfixturevalue("influx")
        login = influx.database(str(tmp_path).strip("/").replace("/", "-"))
        server = PatientServer(login)
        store = InfluxStore(influx.server(login.bucket), rejected=pytest.fail)
        # A line's end is no part of a tag.
        rows = [row for row in rows if row[0] is not ARMED]
    store.append(feed.batch(rows, rows[:5], flags=range(len(rows) + 5)))
    if request.param == "duckdb":
        store.maintain(NOW, [])
    expected = {s: store.query(s, **ALL) for s in SERIES}
    store.close()
    opened = []

    def stock(wanted=None):
        one = (
            DuckDBStock(tmp_path / "readings.duckdb", wanted)
            if request.param == "duckdb"
            else InfluxStock(server, wanted)
        )
        opened.append(one)
        return one

    yield stock, expected
    for one in opened:
        one.close()
    if server is not None:
        server.close()


def bits(value: float | None) -> bytes:
    return struct.pack("<d", math.nan if value is None else value)


def as_rows(expected) -> list[tuple]:
    rows = []
    for series, points in expected.items():
        columns = (points.t_ms, points.q, points.flags, points.received_ms, points.dup)
        whole = zip(*(c.tolist() for c in columns), points.inbox_pos.tolist(), strict=True)
        name = (series.station, series.device, series.indicator)
        rows += [
            (t, *name, bits(v), q, flags, received, dup, pos)
            for v, (t, q, flags, received, dup, pos) in zip(points.v.tolist(), whole, strict=True)
        ]
    return sorted(rows)


def ms(text: str) -> int:
    assert text.endswith("+08:00")
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


def read_csv(path) -> list[tuple]:
    data = path.read_bytes()
    assert data.count(b"\r\n") >= 1
    with path.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, strict=True)
    assert tuple(header) == HEADER
    found = []
    for time, station, device, indicator, value, unit, q, flags, received, dup, pos in rows:
        assert all(not text.startswith(("=", "+", "-", "@")) for text in (station, device, unit))
        name = (text.removeprefix("'") for text in (station, device, indicator))
        number = bits(float(value) if value else None)
        found.append(
            (ms(time), *name, number, int(q), int(flags), ms(received), int(dup), int(pos))
        )
    return sorted(found)


def read_parquet(path) -> list[tuple]:
    with duckdb.connect() as db:
        rows = db.execute(
            "SELECT epoch_ms(time), station, device, indicator, value, quality, flags, epoch_ms(received), dup,"
            f" inbox_pos FROM read_parquet('{path}')"
        ).fetchall()
    return sorted((*row[:4], bits(row[4]), *row[5:]) for row in rows)


READ = {"csv": read_csv, "parquet": read_parquet}


def unit_of(indicator: str) -> str:
    return {"soil_ph": "[pH]"}.get(indicator, "")


def quiet(*_: object) -> None:
    """Take no notice."""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_a_month_and_all_in_one_hold_every_bit(stocked, tmp_path, form):
    stock, expected = stocked
    said = []
    whole = as_rows(expected)
    written = export(stock(), tmp_path / "out", form, unit_of, lambda *one: said.append(one))
    names = [path.name for path, _ in written]
    assert names == [f"readings-2026-0{month}.{form}" for month in (5, 6)]
    assert sorted(row for path, _ in written for row in READ[form](path)) == whole
    assert said[-1] == ("exported", len(whole), len(whole))
    one = tmp_path / f"all.{form}"
    assert export(stock(), one, form, unit_of, quiet) == [(one, len(whole))]
    assert READ[form](one) == whole
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names  # nothing beside


def test_only_what_was_asked_for(stocked, tmp_path):
    stock, expected = stocked
    start, end = NOW + 5 * DAY, NOW + 30 * DAY
    wanted = Wanted(("hl-001",), ("soil1",), ("soil_ph",), start, end)
    file = tmp_path / "some.csv"
    export(stock(wanted), file, "csv", unit_of, quiet)
    assert read_csv(file) == [r for r in as_rows({A: expected[A]}) if start <= r[0] < end]
    export(stock(Wanted(("nobody",))), file, "csv", unit_of, quiet)
    assert read_csv(file) == []
    assert export(stock(Wanted(("nobody",))), tmp_path / "none", "parquet", unit_of, quiet) == []


def test_parquet_is_typed_says_its_units_and_is_packed_by_zstd(stocked, tmp_path):
    stock, _ = stocked
    file = tmp_path / "it's.parquet"
    export(stock(), file, "parquet", unit_of, quiet)
    name = str(file).replace("'", "''")
    with duckdb.connect() as db:
        types = dict(
            db.execute(
                f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{name}')"
            ).fetchall()
        )
        notes = dict(db.execute(f"SELECT key, value FROM parquet_kv_metadata('{name}')").fetchall())
        [(codec,)] = db.execute(
            f"SELECT DISTINCT compression FROM parquet_metadata('{name}')"
        ).fetchall()
    assert tuple(types) == HEADER
    assert types["time"] == types["received"] == "TIMESTAMP WITH TIME ZONE"
    assert (types["value"], types["flags"], types["quality"]) == ("DOUBLE", "UINTEGER", "UTINYINT")
    assert (notes[b"agrigate.unit.soil_ph"], codec) == (b"[pH]", "ZSTD")
    assert b"QARTOD" in notes[b"agrigate.quality"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_is_whole_or_the_old_one(stocked, tmp_path, form):
    stock, expected = stocked
    file = tmp_path / f"all.{form}"
    export(stock(), file, form, unit_of, quiet)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        export(stock(Wanted(("hl-002",))), file, form, unit_of, stop)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert READ[form](file) == as_rows(expected)


def test_a_place_that_cannot_be_is_said(stocked, tmp_path):
    stock, _ = stocked
    (tmp_path / "file").touch()
    for to, form in (("a.csv", "parquet"), ("no/a.csv", "csv"), ("file", "csv")):
        with pytest.raises(ExportError):
            export(stock(), tmp_path / to, form, unit_of, quiet)
