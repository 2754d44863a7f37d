"""What is InfluxDB's own: points it will never take, a server that lost what it had, an answer that was lost."""

from __future__ import annotations

import math
import re
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from structlog.testing import capture_logs

from ingest.batch import FAIL, MISSING, PASS, SUSPECT, Series
from ingest.store.influx.errors import (
    InfluxError,
    RefusedError,
    ReplacedError,
    UnavailableError,
)
from ingest.store.influx.influx_store import InfluxStore
from ingest.store.influx.influxql import LATEST_MS
from ingest.store.influx.login import InfluxLogin
from ingest.store.influx.server import InfluxServer
from ingest.store.levels import Retention, fold
from ingest.store.reading_store import Kept, Level
from tests.ingest.store.influx.answering import Answer, answering
from tests.ingest.store.test_reading_store_contract import ALL, NOW, A, B, C, Feed, values


@pytest.fixture
def database(tmp_path) -> str:
    return str(tmp_path).strip("/").replace("/", "-")


@pytest.fixture
def faults() -> list:
    return []


@pytest.fixture
def store(influx, database, faults):
    store = InfluxStore(influx.server(database), rejected=faults.extend)
    yield store
    store.close()


@contextmanager
def behind(influx, database, answer, faults=None, **login):
    """A store that speaks to the InfluxDB through a server that may answer itself."""
    influx.database(database)
    with answering(answer, influx.port) as web:
        server = InfluxServer(InfluxLogin(url=web.url, bucket=database, timeout_s=5.0, **login))
        store = InfluxStore(server, rejected=[].extend if faults is None else faults.extend)
        try:
            yield store, web
        finally:
            web.answer = lambda _: None
            store.close()


def rows(first: int, count: int, series=A) -> list[tuple]:
    return [(series, NOW + n, n + 0.1) for n in range(first, first + count)]


# ---- names and values


@pytest.mark.parametrize(
    "name",
    ["x'; DROP MEASUREMENT reading --", 'a"b', "a,b c=d", "田东/站点", "back\\slash", "a' OR ''='"],
)
def test_p2_a_name_is_a_name_and_no_statement(store, influx, database, name):
    series, feed = Series(name, "soil1", "soil_ph"), Feed()
    store.append(feed.batch([(A, NOW, 1.0), (series, NOW, 2.0)]))
    store.append(feed.batch([(series, NOW, 3.0)]))  # asks what stands at that place
    assert values(store, series) == [(NOW, 2.0, 0), (NOW, 3.0, 1)]
    assert values(store) == [(NOW, 1.0, 0)]
    assert [row.series.station for row in store.latest(name)] == [name]
    assert b"reading" in influx.run("SHOW MEASUREMENTS", db=database)


@pytest.mark.parametrize("gzip", [True, False])
def test_every_digit_comes_back_packed_or_not(influx, database, gzip):
    given = [5e-324, -0.0, 1e300, 1e16, 123456789.125, 0.1 + 0.2, -1e-5, 6.0]
    with behind(influx, database, lambda _: None, gzip=gzip) as (store, web):
        store.append(Feed().batch([(A, NOW + n, v) for n, v in enumerate(given)]))
        found = store.query(A, **ALL).v
        assert found.view(np.uint64).tolist() == np.array(given).view(np.uint64).tolist()
        assert math.copysign(1, found[1]) == -1
        assert all(("content-encoding" in r.headers) == gzip for r in web.writes)


def test_a_time_that_influxdb_cannot_hold_is_quarantined(store, faults):
    store.append(Feed().batch([(A, 2**47, 1.0), (A, LATEST_MS, 2.0), (A, -(2**47), 3.0)]))
    assert values(store) == [(LATEST_MS, 2.0, 0)]
    assert [(fault.position, fault.field) for fault in faults] == [(0, "store"), (2, "store")]
    assert "1677" in faults[0].reason
    assert (store.count(), store.cursor()) == (1, 1)


# ---- points that are rejected


def test_r13_one_bad_point_is_quarantined_and_not_the_batch(influx, database, faults):
    bad = {b"%d" % (NOW + n) for n in (3, 500, 501)}

    def picky(request):
        found = [line for line in request.lines if line.split()[-1] in bad]
        return Answer(400, b'{"error":"unable to parse: bad"}') if found else None

    with behind(influx, database, picky, faults) as (store, web):
        feed = Feed()
        store.append(feed.batch(rows(0, 400), rows(400, 400)))
        assert store.count() == 797
        assert [v for _, v, _ in values(store)] == [
            n + 0.1 for n in range(800) if n not in {3, 500, 501}
        ]
        assert [(f.pack.pos, f.position) for f in faults] == [(1, 3), (2, 500), (2, 501)]
        assert "unable to parse: bad: reading,device=soil1" in faults[0].reason
        assert len(web.writes) < 80
        store.append(feed.batch([(A, NOW + 3, 9.0)]))  # refused again, and its dup is free
        bad.clear()
        store.append(feed.batch([(A, NOW + 3, 8.0)]))
        assert (NOW + 3, 8.0, 0) in values(store)
        assert (store.count(), store.cursor()) == (798, 4)


def test_a_field_of_another_type_in_an_old_shard_is_quarantined_and_the_rest_flows(
    store, influx, database, faults
):
    old = NOW - 60 * 86_400_000
    influx.write(database, f'reading,station=x v="six" {old}\n')
    store.append(Feed().batch([(A, old + 1, 1.0), (A, NOW, 2.0), (B, NOW, 3.0)]))
    assert [v for _, v, _ in values(store)] == [2.0]
    assert [v for _, v, _ in values(store, B)] == [3.0]
    [fault] = faults
    assert fault.position == 0
    assert re.search(r"field type conflict.* v=1 |field type conflict.*,v=1 ", fault.reason)


def test_a_field_of_another_type_today_stops_the_store_until_somebody_acts(
    store, influx, database, faults
):
    influx.write(database, f"reading,station=x v=6i {NOW}\n")
    batch = Feed().batch(rows(0, 5))
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"type conflict.*a bucket of its own"):
            store.append(batch)
    assert (faults, store.cursor(), store.count()) == ([], 0, 0)
    influx.run('DROP MEASUREMENT "reading"', db=database)
    store.append(batch)
    assert store.count() == 5


def test_a_bucket_that_forgets_is_refused(store, influx, database):
    influx.run(f'ALTER RETENTION POLICY autogen ON "{database}" DURATION 52w')
    with pytest.raises(RefusedError, match=r"retention policy.*keep for ever"):
        store.append(Feed().batch(rows(0, 5)))


def test_what_is_too_large_is_halved(influx, database):
    def small(request):
        return Answer(413) if len(request.lines) > 100 else None

    with behind(influx, database, small) as (store, web):
        feed = Feed()
        store.append(feed.batch(rows(0, 1000)))
        sizes = [len(request.lines) for request in web.writes]
        assert sum(size for size in sizes if size <= 100) == 1000 + 2  # life and cursor
        web.requests.clear()
        store.append(feed.batch(rows(1000, 500)))
        assert max(len(request.lines) for request in web.writes) <= 100  # it was remembered
        assert store.query(A, **ALL).total == 1500

    def nothing(request):
        return Answer(413) if request.body.startswith(b"reading") else None

    with (
        behind(influx, f"{database}-b", nothing) as (store, _),
        pytest.raises(RefusedError, match="raise the server's limit"),
    ):
        store.append(Feed().batch(rows(0, 4)))


# ---- replays


def test_a_batch_that_was_written_in_part_comes_out_the_same(influx, database):
    down = threading.Event()

    def cursor_lost(request):
        return Answer(503) if down.is_set() and b"agrigate_store" in request.body else None

    with behind(influx, database, cursor_lost) as (store, _):
        feed = Feed()
        store.append(feed.batch([(A, NOW, 0.0), (A, NOW, 1.0)]))
        batch = feed.batch([(A, NOW, 2.0), (B, NOW, 9.0)], [(A, NOW, 3.0)])
        down.set()
        for _ in range(2):
            with pytest.raises(UnavailableError):
                store.append(batch)
        assert len(values(store)) == 2  # what is not finished is not shown
        assert (store.count(), store.cursor()) == (2, 1)
        down.clear()
        store.append(batch)
        assert values(store) == [(NOW, float(n), n) for n in range(4)]
        assert (store.count(), store.cursor()) == (5, 3)


def test_a_lost_answer_to_the_cursor_is_found_out(influx, database):
    lose = threading.Event()

    def lossy(request):
        if lose.is_set() and b"agrigate_store" in request.body:
            lose.clear()
            influx.write(database, request.body.decode())
            return Answer(0)
        return None

    with behind(influx, database, lossy) as (store, _):
        feed = Feed()
        store.append(feed.batch(rows(0, 5)))
        batch = feed.batch([(A, NOW, 7.0)])
        lose.set()
        with pytest.raises(UnavailableError):
            store.append(batch)
        store.append(batch)
        store.append(feed.batch(rows(5, 5)))
        assert values(store)[:2] == [(NOW, 0.1, 0), (NOW, 7.0, 1)]
        assert (store.count(), store.cursor()) == (11, 3)


def test_after_a_crash_what_was_written_is_counted_again_and_not_written_again(influx, database):
    with behind(influx, database, lambda _: None) as (store, _):
        feed = Feed()
        first = feed.batch(rows(0, 10), [(A, NOW, 5.0)])
        store.append(first)
        store._save_series(store.cursor())
        second = feed.batch(rows(10, 10), [(A, NOW, 6.0)])
        store.append(second)
        store._save_series = lambda _: None  # it is killed
    with behind(influx, database, lambda _: None) as (store, web):
        assert store.cursor() == 2  # of the snapshot
        assert store.count() == 11
        web.requests.clear()
        store.append(second)
        assert web.writes == []
        assert (store.count(), store.cursor()) == (22, 4)
        store.append(feed.batch([(A, NOW, 7.0)]))
        assert [(v, dup) for _, v, dup in values(store)[:4]] == [
            (0.1, 0), (5.0, 1), (6.0, 2), (7.0, 3)
        ]  # fmt: skip
        [latest] = store.latest()
        assert (latest.count, latest.t_ms) == (23, NOW + 19)


@pytest.mark.parametrize("what", ["emptied", "older", "another"])
def test_a_server_that_does_not_hold_what_was_written_is_found_out(store, influx, database, what):
    feed = Feed()
    first, second = feed.batch(rows(0, 5)), feed.batch(rows(5, 5))
    store.append(first)
    marker = store._marker
    assert marker is not None
    store.append(second)
    if what == "older":  # a backup was restored
        influx.write(database, marker.line().decode())
        at = 0  # its snapshot is of nothing
    else:
        influx.run(f'DROP DATABASE "{database}"')
        influx.database(database)
        at = 0
    if what == "another":
        other = InfluxStore(influx.server(database), rejected=print)
        other.append(Feed().batch(rows(0, 5)))
        other.close()
        at = 1
    with capture_logs() as logs, pytest.raises(ReplacedError, match="filled again from the inbox"):
        store.append(feed.batch(rows(10, 5)))
    assert "store_replaced" in [entry["event"] for entry in logs]
    assert store.cursor() == at
    for batch in (first, second, feed.batch(rows(15, 1))):
        store.append(batch)
    assert [v for _, v, _ in values(store)] == [n + 0.1 for n in (*range(10), 15)]
    assert {dup for _, _, dup in values(store)} == {0}
    assert store.count() == 11


def test_a_store_of_a_newer_program_is_refused(influx, database, store):
    influx.database(database)
    influx.write(
        database,
        'agrigate_store counted_pos=0i,inbox_pos=0i,life="x",schema_version=9i 0\n',
    )
    with pytest.raises(RefusedError, match="store of schema 9, this server knows 1"):
        store.cursor()


# ---- standing still


def test_who_asks_does_not_wait_for_who_writes(influx, database):
    stuck, released = threading.Event(), threading.Event()

    def slow(request):
        if b"reading" in request.body and request.is_write:
            stuck.set()
            released.wait(20)

    with behind(influx, database, slow) as (store, _):
        released.set()
        feed = Feed()
        store.append(feed.batch(rows(0, 5)))
        released.clear()
        stuck.clear()
        writer = threading.Thread(target=store.append, args=(feed.batch(rows(5, 5)),))
        writer.start()
        try:
            assert stuck.wait(10)
            assert (store.count(), len(store.latest())) == (5, 1)
            assert store.query(A, **ALL).total == 5
        finally:
            released.set()
            writer.join()
        assert store.query(A, **ALL).total == 10


def test_a_server_that_is_away_at_the_start_is_waited_for(influx, database):
    away = threading.Event()
    away.set()
    with behind(influx, database, lambda _: Answer(503) if away.is_set() else None) as (store, _):
        for ask in (store.cursor, store.latest, lambda: store.query(A, **ALL)):
            with pytest.raises(InfluxError):
                ask()
        assert store.count() == 0
        away.clear()
        assert store.cursor() == 0


def test_quality_and_place_are_whole_numbers_there(store, influx, database):
    """Somebody who queries past us must find the types that the documentation promises."""
    store.append(Feed().batch([(C, NOW, math.nan)], q=[PASS]))
    told = influx.run('SHOW FIELD KEYS FROM "reading"', db=database)
    for field in (b"flags", b"inbox_pos", b"q", b"received_ms"):
        assert b'["%b","integer"]' % field in told
    store.append(Feed(pos=1).batch([(C, NOW + 1, 6.0)]))
    assert b'["v","float"]' in influx.run('SHOW FIELD KEYS FROM "reading"', db=database)


# ---- roll-ups


HOUR = 3_600_000


def same_trend(store, series, level, **span):
    points = store.query(series, **ALL)
    expected = fold(points.t_ms, points.v, points.q, level)
    found = store.trend(series, level=level, **(span or ALL))
    for column in ("start_ms", "count"):
        assert getattr(found, column).tolist() == getattr(expected, column).tolist()
    for column in ("minimum", "mean", "maximum", "good"):
        np.testing.assert_allclose(
            getattr(found, column), getattr(expected, column), rtol=1e-12, equal_nan=True
        )


@pytest.mark.parametrize("level", list(Level))
def test_a_trend_is_exact_before_and_after_rolling_up_and_for_what_comes_late(store, level):
    feed, now = Feed(), NOW + 42 * HOUR
    rng = np.random.default_rng(1)
    t_ms = NOW + rng.integers(0, 40 * HOUR, 600)
    v = np.where(rng.random(600) < 0.1, np.nan, rng.normal(20, 5, 600))
    q = np.where(np.isnan(v), MISSING, rng.choice([PASS, SUSPECT, FAIL], 600))
    feed_rows = [
        (A if n % 2 else B, int(t), float(x)) for n, (t, x) in enumerate(zip(t_ms, v, strict=True))
    ]
    store.append(feed.batch(feed_rows, q=q))
    same_trend(store, A, level)
    store.maintain(now, [])
    assert len(store._pending.of(store._known.number(A))) == 0
    for series in (A, B):
        same_trend(store, series, level)
    store.append(feed.batch([(A, NOW + 5 * HOUR, 99.0), (A, NOW + 90 * HOUR, -5.0)]))
    same_trend(store, A, level)
    store.maintain(now + 60 * HOUR, [])
    same_trend(store, A, level)


YEARS = Retention(readings_days=30, minute_days=100, hour_days=200, day_days=0)
DAYS = 24 * HOUR


def row_of(trend) -> list[tuple]:
    columns = (trend.count, trend.minimum, trend.mean, trend.maximum, trend.good)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("rolled", [False, True])
@pytest.mark.parametrize(
    ("age_days", "levels"), [(60, [Level.MINUTE, Level.HOUR, Level.DAY]), (300, [Level.DAY])]
)
def test_a_late_reading_is_added_to_roll_ups_whose_readings_are_gone(
    influx, database, age_days, levels, rolled
):
    """At 300 days the hours are gone too, and only the day is there to be added to."""
    store = InfluxStore(influx.server(database), rejected=print, retention=YEARS)
    feed, old = Feed(), Level.DAY.floor(NOW - age_days * DAYS) + 5 * HOUR
    store.append(feed.batch([(A, old, 4.0), (A, old + 1, 2.0), (B, old, 1.0)], q=[1, 3, 1]))
    store.maintain(old + 2 * HOUR, [])  # rolled up when it was new
    store.maintain(NOW, [])
    assert values(store) == []
    for n, (t_ms, v) in enumerate([(old + 2, 9.0), (old + 3, 0.0), (old, 5.0)]):
        store.append(feed.batch([(A, t_ms, v)]))
        if rolled:
            store.maintain(NOW + (n + 1) * DAYS, [])
            assert values(store) == []  # it went after the others
    together = (5, 0.0, 4.0, 9.0, 0.8)
    for level in levels:
        assert row_of(store.trend(A, **ALL, level=level)) == [together]
        assert row_of(store.trend(B, **ALL, level=level)) == [(1, 1.0, 1.0, 1.0, 1.0)]
    assert store.count() == 6
    store.close()


def test_rolling_up_that_is_cut_off_adds_nothing_twice(influx, database):
    lost: set[bytes] = set()

    def lossy(request):
        return Answer(503) if any(one in request.body for one in lost) else None

    with behind(influx, database, lossy) as (store, _):
        store._retention = YEARS
        feed, old = Feed(), NOW - 60 * DAYS
        store.append(feed.batch([(A, old + n, float(n)) for n in range(5)]))
        store.maintain(NOW, [])
        store.append(feed.batch([(A, old + 7, 7.0)]))
        for name in (b"reading_day,", b"agrigate_series,", b"agrigate_store "):
            lost.add(name)
            with pytest.raises(UnavailableError):
                store.maintain(NOW, [])
            lost.clear()
            for level in (Level.HOUR, Level.DAY):
                [(count, *_)] = row_of(store.trend(A, **ALL, level=level))
                assert count == 6
        store.maintain(NOW, [])
        for level in (Level.HOUR, Level.DAY):
            [(count, low, mean, high, _)] = row_of(store.trend(A, **ALL, level=level))
            assert (count, low, mean, high) == (6, 0.0, 17 / 6, 7.0)


def test_minutes_are_written_when_they_outlive_the_readings(influx, database):
    retention = Retention(readings_days=30, minute_days=100)
    store = InfluxStore(influx.server(database), rejected=print, retention=retention)
    feed, old = Feed(), Level.DAY.floor(NOW - 60 * DAYS)
    store.append(feed.batch([(A, old + n * 30_000, float(n)) for n in range(6)]))
    store.maintain(old + 2 * HOUR, [])
    same_trend(store, A, Level.MINUTE)
    before = row_of(store.trend(A, **ALL, level=Level.MINUTE))
    assert [row[0] for row in before] == [2, 2, 2]
    store.maintain(NOW, [])
    assert values(store) == []
    assert row_of(store.trend(A, **ALL, level=Level.MINUTE)) == before
    store.close()
    influx.database(f"{database}-b")
    store = InfluxStore(influx.server(f"{database}-b"), rejected=print)  # 400 and 100 days
    store.append(Feed().batch([(A, NOW + n * 30_000, float(n)) for n in range(6)]))
    store.maintain(NOW + 2 * HOUR, [])
    assert b"reading_minute" not in influx.run("SHOW MEASUREMENTS", db=f"{database}-b")
    same_trend(store, A, Level.MINUTE)
    store.close()


def test_many_series_are_rolled_up_in_parts_that_are_not_large(influx, database, monkeypatch):
    """Small parts: so an answer is decoded, and a part written, in a moment."""
    with behind(influx, database, lambda _: None) as (store, web):
        feed = Feed()
        series = [Series(f"s{n % 30:02}", "d", f"i{n // 30}") for n in range(300)]
        monkeypatch.setattr("ingest.store.influx.rollups.READINGS", 600)
        store.append(feed.batch([(s, NOW + t, t / 1e6) for t in range(10) for s in series]))
        web.requests.clear()
        store.maintain(NOW + 2 * HOUR, [])
        rolled = [r for r in web.writes if r.body.startswith(b"reading_")]
        assert 4 <= len(rolled) <= 20  # some hours, some days; none for each series
        for one in (series[0], series[277]):
            same_trend(store, one, Level.HOUR)
            same_trend(store, one, Level.DAY)


def test_days_are_summed_up_once_when_they_are_over_of_all_series(influx, database):
    day = Level.DAY.floor(NOW)
    with behind(influx, database, lambda _: None) as (store, web):
        feed = Feed()
        for hour in (1, 2, 30):
            at = day + hour * HOUR
            store.append(feed.batch([(A, at, 1.0), (B, at + 1, 2.0)], [(C, day + HOUR, 5.0)]))
            store.maintain(at + HOUR, [])
            for series in (A, B, C):
                same_trend(store, series, Level.DAY)
                same_trend(store, series, Level.HOUR)
        days = [r for r in web.writes if r.body.startswith(b"reading_day")]
        assert sum(len(r.lines) for r in days) == 3  # that of today is not over
    with behind(influx, database, lambda _: None) as (store, _):
        assert store.cursor() == 6  # nothing has to come again
        same_trend(store, A, Level.DAY)


def test_what_memory_does_not_hold_is_asked_for(store, monkeypatch):
    monkeypatch.setattr("ingest.store.influx.pending.READINGS_MOST", 5)
    feed = Feed()
    for n in range(4):
        store.append(feed.batch([(A, NOW + n, float(n)), (B, NOW + n, 2.0)]))
    store.maintain(NOW + 2 * HOUR, [])
    store.append(feed.batch([(A, NOW + 9, 9.0)]))
    store.maintain(NOW + 2 * HOUR, [])
    for series in (A, B):
        same_trend(store, series, Level.HOUR)
        same_trend(store, series, Level.DAY)


def test_closing_does_not_wait_for_all_to_be_rolled_up(influx, database, monkeypatch):
    now_s = iter(range(0, 1_000_000, 5)).__next__
    with behind(influx, database, lambda _: None) as (store, _):
        feed = Feed()
        hours = [(A, NOW - n * DAYS, 1.0) for n in range(40)]
        store.append(feed.batch(hours))
        monkeypatch.setattr("ingest.store.influx.influx_store.time.monotonic", now_s)
        store.close()
        monkeypatch.undo()
    with behind(influx, database, lambda _: None) as (store, _):
        assert store.cursor() == 0  # what is left comes from the inbox again
        store.append(feed.batch([]))
        store._pending.touch(store._rows(Feed().batch(hours), 0, 1).rows)
        assert store.trend(A, **ALL, level=Level.DAY).count.sum() == 40


def test_a_reading_too_old_waits_while_readings_of_its_time_are_deleted(influx, database):
    """Else it would be gone before it is rolled up."""
    deleting, go_on = threading.Event(), threading.Event()

    def slow(request):
        if b"DELETE" in request.body and b"%22reading%22" in request.body:
            deleting.set()
            assert go_on.wait(20)

    with behind(influx, database, slow) as (store, _):
        store._retention = YEARS
        feed, old = Feed(), NOW - 60 * DAYS
        store.append(feed.batch([(A, old, 1.0)]))
        upkeep = threading.Thread(target=store.maintain, args=(NOW, []))
        upkeep.start()
        assert deleting.wait(10)
        store.append(feed.batch([(B, NOW, 1.0)]))  # others do not wait
        writer = threading.Thread(target=store.append, args=(feed.batch([(A, old + 1, 3.0)]),))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        go_on.set()
        writer.join()
        upkeep.join()
        assert values(store) == [(old + 1, 3.0, 0)]
        assert row_of(store.trend(A, **ALL, level=Level.DAY)) == [(2, 1.0, 2.0, 3.0, 1.0)]


def test_after_a_crash_hours_that_were_not_rolled_up_are_known_again(influx, database):
    with behind(influx, database, lambda _: None) as (store, _):
        feed = Feed()
        first = feed.batch([(A, NOW - 5 * HOUR + n, 1.0) for n in range(5)])
        store.append(first)
        store.maintain(NOW, [])
        second = feed.batch([(A, NOW + n, 2.0) for n in range(5)])
        store.append(second)
        store.maintain(NOW, [])  # its hour is not over
        store._save_series = lambda _: None  # it is killed
    with behind(influx, database, lambda _: None) as (store, _):
        assert store.cursor() == 1
        store.append(second)
        assert store.count() == 10
        same_trend(store, A, Level.HOUR)


def test_what_is_past_retention_goes_but_evidence_and_trends_stay(influx, database):
    retention = Retention(readings_days=30, minute_days=0, hour_days=0, day_days=0)
    store = InfluxStore(influx.server(database), rejected=print, retention=retention)
    old = [NOW - days * 24 * HOUR for days in (60, 50, 40)]
    store.append(Feed().batch([(series, t, 1.0) for t in (*old, NOW) for series in (A, C)]))
    store.maintain(NOW, [Kept(A, old[1] - 1, old[1] + 1)])
    assert [t for t, _, _ in values(store)] == [old[1], NOW]
    assert [t for t, _, _ in values(store, C)] == [NOW]
    assert store.trend(C, **ALL, level=Level.DAY).count.tolist() == [1, 1, 1, 1]
    assert store.count() == 8
    store.close()
