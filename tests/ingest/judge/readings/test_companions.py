"""Companions: what is kept of the readings of a plot, for whom, and for how long it counts."""

import itertools
import math

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ingest import tables
from ingest.batch import Batch, Series, TakenPack
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.readings.batches import ReadingJudge
from ingest.judge.readings.companions import (
    KEPT_MS,
    THIN_MS,
    Companions,
    CompanionValue,
    nearest_before,
)
from ingest.judge.readings.series import SeriesTable
from ingest.registry.context import PlotContext

HOUR = 3_600_000
NOW = 1_777_600_000_000  # 2026-05-01
START = NOW - NOW % THIN_MS


@pytest.fixture
def connection():
    engine = sa.create_engine("sqlite://")
    tables.companions.create(engine)
    with engine.begin() as one:
        yield one
    engine.dispose()


def kept(connection):
    table = tables.companions
    return sorted(
        tuple(row)
        for row in connection.execute(
            sa.select(table.c.plot_id, table.c.indicator, table.c.t_ms, table.c.value)
        )
    )


def value(minutes, v, indicator="water_ph", plot="p1"):
    return CompanionValue(plot, indicator, START + minutes * 60_000, v)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("apart", [False, True])
def test_the_earliest_of_each_span_is_kept_in_whatever_order_they_come(connection, order, apart):
    values = [value(1, 7.0), value(3, 8.0), value(11, 9.0)]
    companions = Companions()
    for part in [[i] for i in order] if apart else [order]:
        companions.keep(connection, [values[i] for i in part])
    assert [(t - START, v) for _, _, t, v in kept(connection)] == [(60_000, 7.0), (660_000, 9.0)]


def test_of_two_at_once_the_lower_is_kept(connection):
    Companions().keep(connection, [value(0, 8.0), value(0, 7.0)])
    Companions().keep(connection, [value(0, 7.5), value(2, 6.0)])
    assert [v for *_, v in kept(connection)] == [7.0]


def test_plots_and_indicators_are_kept_apart(connection):
    companions = Companions()
    companions.keep(
        connection,
        [value(0, 7.0), value(0, 20.0, "water_temperature"), value(0, 8.0, plot="p2")],
    )
    assert [(p, i, v) for p, i, _, v in kept(connection)] == [
        ("p1", "water_ph", 7.0),
        ("p1", "water_temperature", 20.0),
        ("p2", "water_ph", 8.0),
    ]
    times, values = companions.series(connection, "p1", "water_ph", START, START + 1)
    assert (times.tolist(), values.tolist()) == ([START], [7.0])


def test_what_is_remembered_is_dropped_with_the_transaction(connection):
    companions = Companions()
    companions.keep(connection, [value(0, 7.0)])
    connection.execute(sa.delete(tables.companions))
    companions.forget()
    companions.keep(connection, [value(0, 7.0)])
    assert len(kept(connection)) == 1


@pytest.mark.parametrize("indicator", KEPT_MS)
def test_a_companion_counts_for_its_time_and_no_longer(indicator):
    at, last = np.array([0]), KEPT_MS[indicator]
    found = nearest_before(at, np.array([7.0]), np.array([-1, 0, last - 1, last]), last)
    assert np.isnan(found).tolist() == [True, False, False, True]


def test_water_changes_within_the_hour_and_soil_within_the_day():
    assert KEPT_MS["soil_ph"] == 24 * HOUR
    assert {KEPT_MS[f"water_{name}"] for name in ("ph", "temperature", "do_saturation")} == {HOUR}
    assert KEPT_MS["water_do"] == 25 * HOUR


# ---------------------------------------------------------------- for whom

PLOTS = {
    "pond": PlotContext(plot_id="pond", water_use="fishery", salmonid="no"),
    "spring": PlotContext(plot_id="spring", water_use="surface", water_class="I"),
    "river": PlotContext(plot_id="river", water_use="surface", water_class="III"),
    "field": PlotContext(plot_id="field", water_use="irrigation", crop="paddy"),
    "bare": PlotContext(plot_id="", water_use="fishery"),
}
NEEDED = {
    "pond": {"soil_ph", "water_ph", "water_temperature", "water_do"},
    "spring": {"soil_ph", "water_temperature", "water_do_saturation"},
    "river": {"soil_ph"},
    "field": {"soil_ph"},
    "bare": set(),
    "stray": set(),
}


class Registry:
    version = 1

    def context(self, _station, device):
        return PLOTS.get(device)


def batch(series, rows):
    """Rows are (series id, t_ms, v) with optional q and flags."""
    n = len(rows)
    return Batch(
        packs=[TakenPack(1, "s", "E", 1, NOW, b"")],
        series=series,
        series_id=np.array([row[0] for row in rows], np.int32),
        t_ms=np.array([row[1] for row in rows], np.int64),
        v=np.array([row[2] for row in rows], np.float64),
        q=np.array([row[3] if len(row) > 3 else 1 for row in rows], np.uint8),
        flags=np.array([row[4] if len(row) > 4 else 0 for row in rows], np.uint32),
        received_ms=np.full(n, NOW, np.int64),
        inbox_pos=np.ones(n, np.int64),
        pack_index=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        tests=[],
        faults=[],
    )


def keep(connection, series, rows):
    table = SeriesTable(standard_catalogue(), Registry())
    table.update(series)
    made = batch(series, rows)
    ReadingJudge(table, Companions()).keep_companions(connection, made, made.inbox_pos > 0)


def test_only_what_a_limit_on_the_plot_looks_at_is_kept(connection):
    series = [Series("s", device, indicator) for device in NEEDED for indicator in KEPT_MS]
    keep(connection, series, [(i, NOW, 6.0) for i in range(len(series))])
    found = {device: set() for device in NEEDED}
    for plot_id, indicator, _, _ in kept(connection):
        found[plot_id].add(indicator)
    assert found == NEEDED


@pytest.mark.parametrize(
    "row",
    [
        (NOW, math.nan),
        (NOW, math.inf),
        (NOW, 7.0, 4),
        (NOW, 7.0, 9),
        (NOW, 7.0, 2, 4096),  # maintenance
        (NOW, 7.0, 2, 8192),  # calibration
    ],
)
def test_what_is_not_good_is_no_companion(connection, row):
    keep(connection, [Series("s", "pond", "water_ph")], [(0, *row)])
    assert kept(connection) == []


@given(st.permutations(range(12)))
def test_the_order_within_a_batch_does_not_matter(order):
    engine = sa.create_engine("sqlite://")
    tables.companions.create(engine)
    series = [Series("s", "pond", name) for name in ("water_ph", "water_do")]
    rows = [(i % 2, START + i // 4 * 300_000, 5.0 + i) for i in range(12)]
    with engine.begin() as connection:
        keep(connection, series, [rows[i] for i in order])
        assert [v for *_, v in kept(connection)] == [6.0, 14.0, 5.0, 13.0]
    engine.dispose()
