"""Stores copied into each other: every bit, once, and whatever is not the same is named."""

from __future__ import annotations

import math
import shutil
from copy import deepcopy

import duckdb
import numpy as np
import pytest

from ingest.batch import Series
from ingest.store.copying import DifferentError, copy, digests, hashes
from ingest.store.duckdb_file import StoreError
from ingest.store.duckdb_stock import DuckDBStock, NewDuckDB
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.influx import stock as influx_stock
from ingest.store.influx.errors import RefusedError
from ingest.store.influx.influx_store import InfluxStore
from ingest.store.influx.influxql import LATEST_MS
from ingest.store.influx.login import InfluxLogin
from ingest.store.influx.stock import InfluxStock, NewInflux, PatientServer
from ingest.store.reading_store import Level
from ingest.store.stock import month_name
from tests.ingest.store.influx.answering import Answer, answering
from tests.ingest.store.test_reading_store_contract import ALL, NOW, A, B, C, Feed

DAY = 86_400_000
D = Series("田东, 1", 'so"il=1', "soil_ph")
VALUES = [0.1 + 0.2, math.nan, -0.0, 5e-324, 1e300, 1e16, -1e-5, 6.0]


def quiet(*_: object) -> None:
    """Take no notice."""


@pytest.fixture
def database(tmp_path) -> str:
    return str(tmp_path).strip("/").replace("/", "-")


@pytest.fixture
def server(influx, database):
    server = PatientServer(influx.database(database))
    yield server
    server.close()


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A DuckDB store of parts, live rows, repeats, late readings and all kinds of values, closed; and its feed."""
    path = tmp_path_factory.mktemp("original") / "readings.duckdb"
    feed = Feed()
    store = DuckDBStore(path)
    for day in range(0, 70, 5):
        at = NOW + day * DAY
        rows = [
            (series, at + n * 30_000, VALUES[n % 8] + (n if n % 8 == 7 else 0))
            for n in range(120)
            for series in (A, B, C, D)
        ]
        store.append(feed.batch(rows[:200], rows[200:], flags=range(480)))
        store.append(feed.batch([(A, at, 7.0), (A, at, 7.0)], [(A, NOW, float(day))]))
        store.maintain(at, [])
    store.append(feed.batch([(B, NOW + 71 * DAY, 3.5)]))  # not rolled up
    store.close()
    return path.parent, feed


@pytest.fixture
def filled(original, tmp_path):
    """Return a copy of that store."""
    shutil.copytree(original[0], tmp_path / "filled")
    return tmp_path / "filled" / "readings.duckdb"


@pytest.fixture
def feed(original) -> Feed:
    """Return what goes on behind it."""
    return deepcopy(original[1])


def columns(store, series) -> dict[str, list]:
    points = store.query(series, **ALL)
    names = ("t_ms", "q", "flags", "received_ms", "inbox_pos", "dup")
    return {"v": points.v.view(np.uint64).tolist()} | {
        name: getattr(points, name).tolist() for name in names
    }


def buckets(store, series, level) -> list[tuple]:
    found = store.trend(series, level=level, **ALL)
    rows = zip(
        found.start_ms.tolist(),
        found.minimum.tolist(),
        [float(f"{mean:.9g}") for mean in found.mean.tolist()],
        found.maximum.tolist(),
        found.count.tolist(),
        found.good.tolist(),
        strict=True,
    )
    return [tuple(str(one) for one in row) for row in rows]


def is_equal(one, other) -> None:
    assert one.cursor() == other.cursor()
    assert one.count() == other.count()
    by_name = {str(row.series): row for row in other.latest()}
    assert {str(row.series): str(row) for row in one.latest()} == {
        name: str(row) for name, row in by_name.items()
    }
    for series in (A, B, C, D):
        assert columns(one, series) == columns(other, series)
        for level in Level:
            assert buckets(one, series, level) == buckets(other, series, level)


def copied(path, server, **options):
    source = DuckDBStock(path)
    try:
        return copy(
            source, NewInflux(server, "LIFE", keeps_minutes=False), options.get("report", quiet)
        )
    finally:
        source.close()


def test_duckdb_to_influxdb_and_back_is_the_same_in_every_bit(filled, server, tmp_path, feed):
    done = copied(filled, server)
    assert (done.readings, done.left, done.cursor) == (14 * 483 + 1, 0, feed.pos)
    store = InfluxStore(server, rejected=list)
    other = DuckDBStore(filled)
    is_equal(store, other)
    # The server goes on where the source was: no gap, nothing twice, repeats are numbered on.
    more = feed.batch([(A, NOW, 1.5), (D, NOW + 72 * DAY, 2.5)])
    for one in (store, other):
        one.append(more)
        one.maintain(NOW + 80 * DAY, [])
    is_equal(store, other)
    store._roll_up(2**62)
    store._save_series(store.cursor())
    target = NewDuckDB(tmp_path / "back" / "readings.duckdb")
    (tmp_path / "back").mkdir()
    source = influx_stock.stopped(server)
    back = copy(source, target, quiet)
    assert back.readings == other.count()
    fresh = DuckDBStore(tmp_path / "back" / "readings.duckdb")
    is_equal(fresh, other)
    fresh.maintain(NOW + 80 * DAY, [])
    is_equal(fresh, other)
    fresh.close()
    other.close()


class EndedError(Exception):
    """As a process that is killed: nothing is put right."""


@pytest.mark.parametrize("at", [1, 3, 7])
def test_what_was_killed_goes_on_and_counts_nothing_twice(filled, server, at, monkeypatch):
    written = []
    put = NewInflux.put

    def cut(self, level, series, columns, done):
        if len(written) == at:
            raise EndedError
        written.append((level, done.pieces))
        put(self, level, series, columns, done)

    monkeypatch.setattr(NewInflux, "put", cut)
    with pytest.raises(EndedError):
        copied(filled, server)
    with pytest.raises(RefusedError, match="not finished"):
        InfluxStore(server, rejected=list).cursor()
    monkeypatch.setattr(NewInflux, "put", put)
    done = copied(filled, server)
    readings_before = sum(1 for level, _ in written if level is None)
    assert (done.begun_at > 0) == (readings_before > 0)
    store, other = InfluxStore(server, rejected=list), DuckDBStore(filled)
    is_equal(store, other)
    other.close()


@pytest.mark.parametrize("at", ["put", "seal", "stock", "rename"])
def test_a_duckdb_that_is_being_filled_goes_on_too(filled, server, tmp_path, at, monkeypatch):
    copied(filled, server)
    (tmp_path / "back").mkdir()
    path = tmp_path / "back" / "readings.duckdb"
    real, calls = getattr(NewDuckDB, at, None), []

    def cut(self, *arguments):
        calls.append(arguments)
        if at != "put" or len(calls) == 3:
            raise EndedError
        real(self, *arguments)

    monkeypatch.setattr(*((NewDuckDB, at) if real else (type(path), "rename")), cut)
    target = NewDuckDB(path)
    with pytest.raises(EndedError):
        copy(influx_stock.stopped(server), target, quiet)
    target.close()
    monkeypatch.undo()
    assert not path.exists()
    target = NewDuckDB(path)
    done = copy(influx_stock.stopped(server), target, quiet)
    assert done.readings == 14 * 483 + 1
    if at == "put":
        assert 0 < done.begun_at < done.readings
    else:  # what is whole but not renamed is not told from what is not whole
        assert done.begun_at == (0 if at == "rename" else done.readings)
    fresh, other = DuckDBStore(path), DuckDBStore(filled)
    is_equal(fresh, other)
    fresh.close()
    other.close()


def test_killed_between_the_points_and_the_note_of_them(filled, server, monkeypatch):
    note = NewInflux._note

    def cut(self, done):
        if done.pieces == 2:
            raise EndedError
        note(self, done)

    monkeypatch.setattr(NewInflux, "_note", cut)
    with pytest.raises(EndedError):
        copied(filled, server)
    monkeypatch.setattr(NewInflux, "_note", note)
    assert copied(filled, server).readings == 14 * 483 + 1


def test_a_source_that_has_grown_is_copied_anew_and_a_finished_copy_only_compared(
    filled, server, feed
):
    assert copied(filled, server).begun_at == 0
    assert copied(filled, server).begun_at == 14 * 483 + 1
    store = DuckDBStore(filled)
    store.append(feed.batch([(C, NOW + 90 * DAY, 4.0)]))
    store.close()
    done = copied(filled, server)
    assert (done.begun_at, done.readings) == (0, 14 * 483 + 2)


def test_every_difference_is_named_and_the_copy_does_not_count(filled, server, influx, database):
    copied(filled, server)
    influx.write(
        database, f"reading,device=soil1,indicator=soil_ph,station=hl-002 v=1.25 {NOW + 60_000}"
    )
    influx.write(database, f"reading,device=x,indicator=y,station=z v=1,inbox_pos=1i {NOW}")
    with pytest.raises(DifferentError) as caught:
        copied(filled, server)
    assert caught.value.found == [
        "hl-002/soil1/soil_ph 2026-05: others readings",
        "z/x/y 2026-05: 1 instead of 0 readings",
    ]
    with pytest.raises(RefusedError, match="not finished"):
        InfluxStore(server, rejected=list).cursor()
    influx.run("DROP SERIES FROM reading WHERE station = 'z'", db=database)
    assert copied(filled, server).begun_at == 0  # and what was other is put right


def test_a_target_that_is_not_ours_is_refused(filled, server, influx, database, tmp_path):
    influx.write(database, "reading,station=x temperature=6 0")
    with pytest.raises(RefusedError, match="another program wrote 'reading'"):
        copied(filled, server)
    influx.run("DROP MEASUREMENT reading", db=database)
    store = InfluxStore(server, rejected=list)
    store.append(Feed().batch([(A, NOW, 1.0)]))
    with pytest.raises(RefusedError, match="another server's packs up to 1"):
        copied(filled, server)
    with pytest.raises(StoreError, match="is there already"):
        NewDuckDB(filled)
    with pytest.raises(StoreError, match="is not there"):
        DuckDBStock(tmp_path / "nothing.duckdb")


def test_a_server_that_has_gone_on_is_not_copied_over(filled, server, feed):
    copied(filled, server)
    store = InfluxStore(server, rejected=list)
    store.append(feed.batch([(A, NOW + 99 * DAY, 1.0)]))
    with pytest.raises(RefusedError, match="has gone on there"):
        copied(filled, server)


def test_what_influxdb_cannot_hold_stays_and_is_counted(tmp_path, server):
    path = tmp_path / "readings.duckdb"
    store, feed = DuckDBStore(path), Feed()
    far = [(A, LATEST_MS + 1, 1.0), (A, LATEST_MS, 2.0), (A, 2**47, 1.0), (A, NOW, math.inf)]
    store.append(feed.batch(far))
    store.close()
    done = copied(path, server)
    assert (done.readings, done.left) == (1, 3)


def test_lines_are_halved_when_they_are_too_many_and_a_pause_is_waited_for(
    filled, influx, database, monkeypatch
):
    influx.database(database)
    monkeypatch.setattr(influx_stock, "PATIENCE_S", 30.0)
    seen = []

    def answer(request):
        lines = getattr(request, "lines", [])
        if not request.path.startswith("/query") and len(lines) > 300:
            return Answer(413, b'{"error":"too large"}')
        if len(lines) > 100:
            seen.append(len(lines))
            if len(seen) == 2:
                return Answer(503, b'{"error":"busy"}', headers={"Retry-After": "0"})
        return None

    with answering(answer, influx.port) as web:
        server = PatientServer(InfluxLogin(url=web.url, bucket=database, timeout_s=20))
        try:
            assert copied(filled, server).readings == 14 * 483 + 1
        finally:
            server.close()
    assert len(seen) > 5
    assert max(seen) <= 300


def test_progress_and_pieces_that_fit_into_memory(filled, server, monkeypatch):
    monkeypatch.setattr("ingest.store.duckdb_parts.SLICE_ROWS", 100)
    monkeypatch.setattr(influx_stock, "PIECE_ROWS", 100)
    said = []
    copied(filled, server, report=lambda *one: said.append(one))
    total = 14 * 483 + 1
    assert said[0] == ("copied", 0, total)
    assert ("copied", total, total) in said
    assert said[-1] == ("compared", total, total)
    stock = InfluxStock(server)
    for level in (None, *Level):
        for month in stock.months(level):
            sizes = [len(stock.read(piece)["t_ms"]) for piece in stock.pieces(level, month)]
            assert max(sizes, default=0) <= 400  # a day of a station may stand in one place


def test_digests_do_not_depend_on_order_and_see_every_column(filled):
    stock = DuckDBStock(filled)
    month = stock.months(None)[0]
    [piece] = stock.pieces(None, month)
    rows = stock.read(piece)
    same = hashes(rows)
    order = np.random.default_rng(1).permutation(len(same))
    assert (hashes({k: v[order] for k, v in rows.items()}) == same[order]).all()
    for name in ("t_ms", "dup", "q", "flags", "received_ms", "inbox_pos", "v"):
        other = {k: v.copy() for k, v in rows.items()}
        if name == "v":
            other["v"].view(np.uint64)[2] ^= 1
        else:
            other[name][2] ^= 1
        assert np.flatnonzero(hashes(other) != same).tolist() == [2], name
    found, left = digests(stock, None, month)
    assert (set(found), left, month_name(month)) == ({A, B, C, D}, 0, "2026-05")
    stock.close()


def test_files_of_another_version_are_refused(tmp_path):
    path = tmp_path / "readings.duckdb"
    DuckDBStore(path).close()
    for version, says in ((1, "earlier version"), (99, "schema 99")):
        with duckdb.connect(path) as db:
            db.execute(f"UPDATE meta SET schema_version = {version}")
        with pytest.raises(StoreError, match=says):
            DuckDBStock(path)


def test_what_a_killed_server_left_in_its_log_is_read(tmp_path):
    store, feed = DuckDBStore(tmp_path / "a" / "readings.duckdb"), Feed()
    store.append(feed.batch([(A, NOW, 1.0), (B, NOW, math.nan)]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "readings.duckdb.wal").exists()
    store.close()
    stock = DuckDBStock(tmp_path / "b" / "readings.duckdb")
    assert (stock.cursor, stock.count()) == (1, 2)
    stock.close()
