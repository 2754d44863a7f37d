"""Sensors that give nothing usable are known by series, from the first such reading to the next usable one."""

import numpy as np
import pytest
import sqlalchemy as sa

from ingest import tables
from ingest.batch import (
    FAIL,
    FLAT,
    MAINTENANCE,
    MISSING,
    OUT_OF_ORDER,
    PASS,
    SUSPECT,
    Batch,
    Series,
    TakenPack,
)
from ingest.judge.readings.sensors import FaultySensors

START = 1_777_600_000_000
SECOND = 1000
PH, COD, SOIL = (
    Series("hl-001", "canal/ph", "water_ph"),
    Series("hl-001", "canal/cod", "water_cod"),
    Series("hl-002", "plot1/soil", "soil_cd"),
)
ALL = [PH, COD, SOIL]


@pytest.fixture
def connection():
    engine = sa.create_engine("sqlite://")
    tables.series_faults.create(engine)
    with engine.begin() as one:
        yield one
    engine.dispose()


def batch(*rows, series=ALL):
    """Each row: number of the series, second, q, flags."""
    n = len(rows)
    ids, seconds, q, flags = zip(*rows, strict=True) if rows else ((), (), (), ())
    pack = TakenPack(1, "hl-001", "E", 1, START, b"")
    return Batch(
        packs=[pack],
        series=list(series),
        series_id=np.array(ids, np.int32),
        t_ms=START + np.array(seconds, np.int64) * SECOND,
        v=np.zeros(n),
        q=np.array(q, np.uint8),
        flags=np.array(flags, np.uint32),
        received_ms=np.full(n, START, np.int64),
        inbox_pos=np.ones(n, np.int64),
        pack_index=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        tests=[],
        faults=[],
    )


def keep(sensors, connection, *rows, **more):
    one = batch(*rows, **more)
    sensors.keep(connection, one, np.ones(len(one.t_ms), np.bool_))


def kept(connection):
    rows = connection.execute(sa.select(tables.series_faults))
    return {
        (row.device, row.what): (
            (row.since_ms - START) // SECOND,
            (row.last_ms - START) // SECOND,
        )
        for row in rows
    }


def test_a_run_begins_goes_on_and_ends(connection):
    sensors = FaultySensors()
    keep(sensors, connection, (0, 0, PASS, 0), (0, 1, FAIL, 0), (0, 2, FAIL, 0), (1, 2, PASS, 0))
    assert kept(connection) == {("canal/ph", "range"): (1, 2)}
    keep(sensors, connection, (0, 30, FAIL, 0))
    assert kept(connection) == {("canal/ph", "range"): (1, 2)}  # not each second
    keep(sensors, connection, (0, 62, FAIL, 0))
    assert kept(connection) == {("canal/ph", "range"): (1, 62)}
    keep(sensors, connection, (0, 63, FAIL, 0), (0, 64, PASS, 0), (1, 64, PASS, 0))
    assert kept(connection) == {}


def test_a_usable_value_between_begins_it_anew(connection):
    sensors = FaultySensors()
    keep(sensors, connection, (0, 1, FAIL, 0))
    keep(sensors, connection, (0, 100, PASS, 0), (0, 101, FAIL, 0), (0, 200, FAIL, 0))
    assert kept(connection) == {("canal/ph", "range"): (101, 200)}


def test_missing_and_stuck_values_count_and_series_are_apart(connection):
    sensors = FaultySensors()
    rows = [(0, 1, SUSPECT, FLAT), (1, 1, MISSING, 0), (2, 1, SUSPECT, 0), (0, 2, SUSPECT, FLAT)]
    keep(sensors, connection, *rows)
    assert kept(connection) == {("canal/ph", "flat"): (1, 2), ("canal/cod", "missing"): (1, 1)}


@pytest.mark.parametrize("flag", [MAINTENANCE, OUT_OF_ORDER])
def test_work_on_the_device_and_old_values_say_nothing(connection, flag):
    sensors = FaultySensors()
    keep(sensors, connection, (0, 1, FAIL, flag))
    assert kept(connection) == {}
    keep(sensors, connection, (0, 2, FAIL, 0))
    keep(sensors, connection, (0, 3, PASS, flag))
    assert kept(connection) == {("canal/ph", "range"): (2, 2)}


def test_what_was_judged_before_does_not_count_again(connection):
    one = batch((0, 1, FAIL, 0))
    FaultySensors().keep(connection, one, np.zeros(1, np.bool_))
    assert kept(connection) == {}


def test_after_a_restart_it_is_known_by_name_when_the_series_comes(connection):
    keep(FaultySensors(), connection, (0, 1, FAIL, 0), (2, 1, MISSING, 0))
    sensors = FaultySensors()
    keep(sensors, connection, (0, 5, PASS, 0), series=[COD])
    assert len(kept(connection)) == 2
    keep(sensors, connection, (2, 70, PASS, 0), (1, 70, MISSING, 0), series=[COD, SOIL, PH])
    assert kept(connection) == {("plot1/soil", "missing"): (1, 70)}


def test_what_was_rolled_back_is_read_again(connection):
    sensors = FaultySensors()
    keep(sensors, connection, (0, 1, FAIL, 0))
    with connection.begin_nested() as undone:
        keep(sensors, connection, (0, 2, PASS, 0), (1, 2, FAIL, 0))
        undone.rollback()
    sensors.forget()
    keep(sensors, connection, (0, 70, FAIL, 0))
    assert kept(connection) == {("canal/ph", "range"): (1, 70)}
