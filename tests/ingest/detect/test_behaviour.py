"""The arrays flag what the plain loop flags, however the readings are cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import FLAT, GAP, RATE, SPIKE
from ingest.detect.behaviour import EPOCH, KEPT, Behaviour
from ingest.sequence import by_series
from tests.ingest.detect.naive import naive

NOW = 1_763_900_000_000
MINUTE = 60_000
SITE = {"spike": 3.0, "rate": 0.5, "gap_s": 100.0, "flat_s": 30.0}


def behaviour(series: int = 1, *, site: int | None = None, resolution: float = 0.01) -> Behaviour:
    given_ = np.full((series, 4), np.nan)
    if site is not None:
        given_[site] = list(SITE.values())
    one = Behaviour()
    one.give(given_, np.full(series, resolution))
    return one


def flags(one: Behaviour, v, *, t=None, series=None) -> list[int]:
    """Return the bits of values a minute apart, one series unless others are named."""
    v = np.asarray(v, np.float64)
    t = NOW + MINUTE * np.arange(len(v)) if t is None else np.asarray(t, np.int64)
    ids = np.zeros(len(v), np.intp) if series is None else np.asarray(series, np.intp)
    return one.flag(ids, t, v).tolist()


def noise(n: int, *, seed: int = 1, step: float = 0.1) -> np.ndarray:
    """Return values that wander around 20 in steps of 0.01."""
    rng = np.random.default_rng(seed)
    return np.round(20 + step * rng.standard_normal(n), 2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    series=st.integers(1, 5),
    n=st.integers(1, 3000),
    resolution=st.sampled_from([0.001, 0.1, 1.0, 5.0]),
    longest=st.sampled_from([1, 3, 100, 3000]),
)
def test_arrays_flag_what_the_loop_flags_in_any_batches(seed, series, n, resolution, longest):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, series, n)
    v = np.round(np.cumsum(rng.normal(0, 1, n)) / resolution) * resolution
    for _ in range(3):  # it stands still for a while
        begin = int(rng.integers(0, n))
        v[begin : begin + int(rng.integers(1, 1500))] = v[begin]
    v[rng.random(n) < 0.01] += rng.choice([1, 100, 1e6])
    usual = rng.integers(900, 1100, n) * int(rng.choice([1, 60]))
    t = NOW + np.cumsum(np.where(rng.random(n) < 0.01, rng.integers(1000, 10**7, n), usual))
    site = 1 if series > 1 else None
    one = behaviour(series, site=site)
    got: list[int] = []
    while len(got) < n:
        part = slice(len(got), len(got) + int(rng.integers(1, longest + 1)))
        got += flags(one, v[part], t=t[part], series=ids[part])
    assert got == naive(ids.tolist(), t, v, {1: SITE})


def test_many_series_in_any_order_are_flagged_as_each_alone():
    rng = np.random.default_rng(3)
    rounds, series = 400, 300
    v = np.round(rng.normal(20, 0.1, (rounds, series)), 2)
    v[350, ::7] += 50
    order = np.argsort(rng.random((rounds, series)), axis=1)
    one = behaviour(series)
    got = np.zeros((rounds, series), np.uint32)
    for n in range(rounds):
        ids = order[n]
        got[n, ids] = one.flag(ids, np.full(series, NOW + MINUTE * n), v[n, ids])
    for s in (0, 1, 7, 299):
        assert got[:, s].tolist() == flags(behaviour(), v[:, s])
    assert np.all(got[350, ::7] & SPIKE)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.05])
def test_a_poll_of_many_series_is_flagged_as_each_alone(share, monkeypatch):
    """Worked on where the state lies when all answer, gathered when some do not, in pieces either way."""
    monkeypatch.setattr("ingest.detect.behaviour.CHUNK", 100)
    rng = np.random.default_rng(4)
    rounds, series = 450, 250
    v = np.round(rng.normal(20, 0.1, (rounds, series)), 2)
    v[350, ::7] += 50
    v[300:400, 3] = v[300, 3]
    t = NOW + MINUTE * np.arange(rounds) + 36_000_000 * (np.arange(rounds) > 330)
    answers = rng.random((rounds, series)) < share
    one, room = behaviour(series), np.zeros(series, np.int32)
    got = np.zeros((rounds, series), np.uint32)
    for n in range(rounds):
        ids = rng.permutation(np.flatnonzero(answers[n]))
        polled = by_series(ids.astype(np.int32), room)
        got[n, ids] = one.flag_by_series(np.full(len(ids), t[n]), v[n, ids], polled)
    for s in range(series):
        there = answers[:, s]
        assert got[there, s].tolist() == flags(behaviour(), v[there, s], t=t[there])
    assert share < 0.5 or np.all(got[350, ::7][answers[350, ::7]] & SPIKE)


def test_a_gap_in_a_long_run_leaves_no_place_without_company():
    v = np.concatenate([noise(300), np.full(200, 20.0), [90.0]])
    t = NOW + MINUTE * np.arange(len(v))
    t[450:] += 36_000_000
    got = flags(behaviour(), v, t=t)
    assert got[450] & GAP
    assert got[-1] & SPIKE


def test_a_spike_is_flagged_when_it_comes_and_the_values_after_it_are_not():
    v = noise(600)
    v[500] += 5
    got = flags(behaviour(), v)
    assert got[500] & SPIKE
    assert not any(bits & SPIKE for bits in got[:500] + got[501:])


def test_a_jump_is_a_spike_until_the_values_have_company():
    v = noise(600)
    v[500:] += 5
    got = flags(behaviour(), v)
    assert [bool(bits & SPIKE) for bits in got[499:504]] == [False, True, True, False, False]
    assert [bool(bits & RATE) for bits in got[499:504]] == [False, True, False, False, False]


def test_nothing_is_evaluated_before_three_epochs_are_closed():
    v = noise(3 * EPOCH)
    v[3 * EPOCH - 2] += 1000
    assert flags(behaviour(), v) == [0] * len(v)
    v = noise(3 * EPOCH + 10)
    v[3 * EPOCH + 5] += 1000
    assert flags(behaviour(), v)[3 * EPOCH + 5] & SPIKE


def test_two_faulty_epochs_of_seven_teach_nothing():
    v = noise(EPOCH * KEPT + 100)
    v[EPOCH * 5 + 10] += 1000
    v[EPOCH * 6 + 10] += 1000
    v[EPOCH * KEPT + 50] += 5
    assert flags(behaviour(), v)[EPOCH * KEPT + 50] & SPIKE


def test_no_step_inside_the_resolution_is_a_spike():
    """An EC probe of 1 µS/cm that seldom moves: 3 µS/cm is nothing."""
    v = np.full(600, 500.0)
    v[::10] += 0.001
    v[500] += 3
    assert not any(bits & (SPIKE | RATE) for bits in flags(behaviour(resolution=1.0), v))
    assert flags(behaviour(resolution=0.01), v)[500] & SPIKE


def test_a_stuck_sensor_is_flat_until_it_moves():
    v = noise(1200)
    v[500:1000] = v[500]
    got = [bool(bits & FLAT) for bits in flags(behaviour(), v)]
    assert not any(got[:515])
    assert all(got[560:1000])
    assert not any(got[1000:])


def test_a_quiet_channel_of_coarse_steps_is_not_flat():
    """Water at 0.1 °C: runs of tens of equal readings are what it does."""
    rng = np.random.default_rng(5)
    v = np.round(15 + np.cumsum(rng.normal(0, 0.01, 5000)), 1)
    assert not any(bits & FLAT for bits in flags(behaviour(resolution=0.1), v))


def test_rain_that_stands_at_zero_is_not_flat():
    rng = np.random.default_rng(6)
    wet = (np.arange(20_000) // 40) % 25 == 0
    v = np.where(wet, np.round(rng.gamma(1, 2, 20_000), 1), 0.0)
    assert not any(bits & FLAT for bits in flags(behaviour(resolution=0.1), v))


def test_the_reading_after_a_gap_is_flagged_and_compared_with_nothing():
    v = noise(500)
    v[400:] += 50
    t = NOW + MINUTE * np.arange(500)
    t[400:] += 3_600_000
    got = flags(behaviour(), v, t=t)
    assert got[400] == GAP
    assert not any(got[401:])
    assert not any(got[:400])


def test_a_site_says_when_before_anything_is_learnt():
    v = [20.0, 20.0, 20.0, 24.0, 20.0]
    t = NOW + np.array([0, 20_000, 40_000, 60_000, 200_000])
    assert flags(behaviour(site=0), v, t=t) == [0, 0, FLAT, SPIKE, GAP]
    t = NOW + np.array([0, 20_000, 40_000, 42_000, 60_000])
    assert flags(behaviour(site=0), v, t=t)[3:] == [SPIKE | RATE, 0]


def test_a_site_that_changes_its_mind_is_heard_at_once_and_what_is_learnt_stays():
    one = behaviour()
    flags(one, noise(400))
    later = [NOW + MINUTE * n for n in (400, 401, 402, 403)]
    generous = np.full((1, 4), np.nan)
    generous[0, 0] = 100.0
    one.give(generous, np.full(1, 0.01))
    assert not flags(one, [60.0], t=later[:1])[0] & SPIKE
    one.give(np.full((1, 4), np.nan), np.full(1, 0.01))
    assert flags(one, [60.0], t=later[1:2])[0] & SPIKE


@pytest.mark.parametrize("n", [1, 100_000])
def test_one_series_may_fill_a_batch(n):
    v = noise(n)
    one = behaviour()
    t = NOW + MINUTE * np.arange(n)
    cut = n // 3
    halves = flags(one, v[:cut], t=t[:cut]) + flags(one, v[cut:], t=t[cut:])
    assert flags(behaviour(), v) == halves
