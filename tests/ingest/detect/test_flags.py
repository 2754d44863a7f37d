"""Ranges, windows and behaviour of a stream of batches; what failed teaches nothing."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import (
    BAD_READING,
    CALIBRATION,
    CLOCK_SUSPECT,
    FAIL,
    MAINTENANCE,
    MISSING,
    MODEL_RANGE,
    NOT_EVALUATED,
    OUT_OF_ORDER,
    PASS,
    SITE_RANGE,
    SPIKE,
    SUSPECT,
    Batch,
    Series,
    TakenPack,
)
from ingest.decode import ArrivalOrder
from ingest.detect.behaviour import EPOCH
from ingest.detect.flags import QualityFlags
from ingest.detect.thresholds import DeviceWindow, NoThresholds, SeriesLimits

NOW = 1_763_900_000_000
MINUTE = 60_000
PH = Series("hl-001", "pond/ph", "water_ph")
TEMPERATURE = Series("hl-001", "pond/ph", "water_temperature")
OTHER = Series("hl-002", "pond/ph", "water_ph")


class Registered:
    """What is registered, as the test says."""

    def __init__(self, *windows: DeviceWindow, **limits) -> None:
        self.version = 1
        self.limits = SeriesLimits(**limits)
        self.held = windows

    def quality_limits(self, series):
        return self.limits if series == PH else SeriesLimits()

    def windows(self):
        return self.held


def batch(series, v, *, t=None, ids=None, q=None, flags=None) -> Batch:
    n = len(v)
    v = np.array(v, np.float64)
    return Batch(
        packs=[TakenPack(1, "hl-001", "E", 1, NOW, b"")],
        series=series,
        series_id=np.zeros(n, np.int32) if ids is None else np.array(ids, np.int32),
        t_ms=NOW + MINUTE * np.arange(n) if t is None else np.array(t, np.int64),
        v=v,
        q=np.where(np.isnan(v), MISSING, PASS).astype(np.uint8)
        if q is None
        else np.array(q, np.uint8),
        flags=np.zeros(n, np.uint32) if flags is None else np.array(flags, np.uint32),
        received_ms=np.full(n, NOW),
        inbox_pos=np.ones(n, np.int64),
        pack_index=np.zeros(n, np.int32),
        position=np.arange(n, dtype=np.int32),
        tests=[],
        faults=[],
    )


def flagged(given_: Batch, thresholds=None) -> list[tuple[int, int]]:
    got = QualityFlags(thresholds or NoThresholds()).flag(given_)
    return list(zip(got.q.tolist(), got.flags.tolist(), strict=True))


def window(
    from_ms: int, to_ms: int, kind: str = "maintenance", device: str = "pond/ph"
) -> DeviceWindow:
    return DeviceWindow(station="hl-001", device=device, kind=kind, from_ms=from_ms, to_ms=to_ms)


def test_ranges_of_model_and_site_fail_a_value_beyond_their_ends():
    thresholds = Registered(model_min=0.0, model_max=12.0, site_min=5.0, site_max=10.0)
    values = [5.0, 10.0, 4.99, 10.01, 12.01, math.nan, -0.1]
    assert flagged(batch([PH], values), thresholds) == [
        (PASS, 0),
        (PASS, 0),
        (FAIL, SITE_RANGE),
        (FAIL, SITE_RANGE),
        (FAIL, SITE_RANGE | MODEL_RANGE),
        (MISSING, 0),
        (FAIL, SITE_RANGE | MODEL_RANGE),
    ]
    assert flagged(batch([OTHER], values), thresholds)[2] == (PASS, 0)


def test_the_batch_that_was_given_is_left_as_it_is():
    given_ = batch([PH], [20.0])
    flagged(given_, Registered(site_max=10.0))
    assert (given_.q.tolist(), given_.flags.tolist()) == ([PASS], [0])


@pytest.mark.parametrize(
    ("kind", "bit"), [("maintenance", MAINTENANCE), ("calibration", CALIBRATION)]
)
def test_a_window_holds_from_its_beginning_up_to_its_end_for_its_device_only(kind, bit):
    thresholds = Registered(window(NOW + MINUTE, NOW + 3 * MINUTE, kind), site_max=10.0)
    got = flagged(batch([PH], [7.0, 7.0, 99.0, 7.0]), thresholds)
    assert got == [(PASS, 0), (NOT_EVALUATED, bit), (FAIL, SITE_RANGE | bit), (PASS, 0)]
    inside = batch([PH, TEMPERATURE, OTHER], [7.0, 7.0, 7.0], t=[NOW + MINUTE] * 3, ids=[0, 1, 2])
    assert [q for q, _ in flagged(inside, thresholds)] == [NOT_EVALUATED, NOT_EVALUATED, PASS]


def test_a_value_that_is_missing_in_a_window_stays_missing():
    thresholds = Registered(window(NOW, NOW + MINUTE))
    assert flagged(batch([PH], [math.nan]), thresholds) == [(MISSING, MAINTENANCE)]


def test_a_window_that_is_set_later_counts_from_the_next_batch():
    thresholds = Registered()
    one = QualityFlags(thresholds)
    assert one.flag(batch([PH], [7.0])).q.tolist() == [PASS]
    thresholds.held, thresholds.version = (window(NOW, NOW + 10 * MINUTE),), 2
    later = [NOW + MINUTE]
    assert one.flag(batch([PH], [7.0], t=later)).q.tolist() == [NOT_EVALUATED]
    thresholds.held, thresholds.version = (), 3
    assert one.flag(batch([PH], [7.0], t=[NOW + 2 * MINUTE])).q.tolist() == [PASS]


def ordinary(n: int) -> np.ndarray:
    return np.round(7 + 0.05 * np.random.default_rng(2).standard_normal(n), 2)


SPOILERS = {
    "out of order": {"t": NOW, "flags": OUT_OF_ORDER},
    "clock suspect": {"t": NOW + 10**9, "flags": CLOCK_SUSPECT},
    "failed": {"q": FAIL},
    "missing": {"v": math.nan, "q": MISSING, "flags": BAD_READING},
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_no_good_reading_neither_teaches_nor_is_compared(name):
    n = 4 * EPOCH
    v, t = ordinary(n), NOW + 2 * MINUTE * np.arange(n)
    v[-2] += 3
    clean = batch([PH], v, t=t)
    columns = {
        "v": np.repeat(v, 2),
        "t": np.repeat(t, 2) + np.tile([0, 1000], n),
        "q": np.full(2 * n, PASS),
        "flags": np.zeros(2 * n, np.uint32),
    }
    columns["v"][1::2] = 500.0
    for column, value in SPOILERS[name].items():
        columns[column][1::2] = value
    spoiled = flagged(batch([PH], **columns))
    assert spoiled[::2] == flagged(clean)
    assert spoiled[-4] == (SUSPECT, spoiled[-4][1])
    assert spoiled[-4][1] & SPIKE
    assert all(bits == columns["flags"][1] for _, bits in spoiled[1::2])


def test_what_a_window_holds_teaches_nothing():
    n = 4 * EPOCH
    v = ordinary(n + 20)
    v[n : n + 10] += 3
    work = Registered(window(NOW + MINUTE * n, NOW + MINUTE * (n + 10)))
    got = flagged(batch([PH], v), work)
    assert [q for q, _ in got[n:]] == [NOT_EVALUATED] * 10 + [PASS] * 10
    assert any(bits & SPIKE for _, bits in flagged(batch([PH], v)))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 3000),
            st.sampled_from([7.0, 7.01, 7.3, 9.0, 20.0, math.nan]),
            st.sampled_from([0, CLOCK_SUSPECT]),
        ),
        max_size=200,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=10),
)
def test_flags_do_not_depend_on_the_batches(rows, cuts):
    series = [PH, TEMPERATURE, OTHER]
    thresholds = Registered(
        window(NOW + 40_000, NOW + 60_000),
        site_max=10.0,
        spike=0.1,
        rate_per_s=0.01,
        flat_s=3.0,
        gap_s=20.0,
    )
    whole = batch(
        series,
        [v for _, _, v, _ in rows],
        ids=[i for i, _, _, _ in rows],
        t=[NOW + 40 * n for _, n, _, _ in rows],
        flags=[f for _, _, _, f in rows],
    )

    def run(edges: list[int]) -> list[tuple[int, int]]:
        order, quality, got = ArrivalOrder(), QualityFlags(thresholds), []
        for begin, end in pairwise(edges):
            names = [
                f.name
                for f in dataclasses.fields(Batch)
                if f.name not in {"packs", "series", "tests", "faults"}
            ]
            part = dataclasses.replace(whole, **{n: getattr(whole, n)[begin:end] for n in names})
            ordered = order.flag(part)
            flagged_ = quality.flag(ordered, order.by_series)
            got += zip(flagged_.q.tolist(), flagged_.flags.tolist(), strict=True)
        return got

    assert run([0, len(rows)]) == run([0, *sorted(min(c, len(rows)) for c in cuts), len(rows)])
