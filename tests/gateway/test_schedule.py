from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schedule import BackOff, BusSchedule, Ticks


def test_ticks_do_not_drift() -> None:
    ticks = Ticks(0.1, 5.0)
    for number in range(10_000):
        assert ticks.due == 5.0 + number * 0.1
        ticks.used(ticks.due + 0.03)
    assert ticks.missed == 0


def test_passed_ticks_are_skipped_and_counted() -> None:
    ticks = Ticks(10.0, 0.0)
    ticks.used(34.0)  # the tick of 0 was used, those of 10, 20 and 30 passed
    assert (ticks.due, ticks.missed) == (40.0, 3)


def test_resuming_keeps_the_grid_and_counts_nothing() -> None:
    ticks = Ticks(10.0, 3.0)
    ticks.resume(58.0)
    assert (ticks.due, ticks.missed) == (63.0, 0)


@given(
    st.floats(0.05, 1000),
    st.lists(st.floats(0, 3000), max_size=30),
)
def test_every_tick_is_used_or_missed(interval_s: float, delays: list[float]) -> None:
    ticks = Ticks(interval_s, 0.0)
    now = 0.0
    for used, delay in enumerate(delays, 1):
        now = max(now, ticks.due) + delay
        ticks.used(now)
        assert ticks.due > now - 1e-6
        assert round(ticks.due / interval_s) == used + ticks.missed


def test_back_off_doubles_to_its_maximum_with_jitter(rng: random.Random) -> None:
    back_off = BackOff(2.0, 60.0, rng)
    delays = [back_off.next_delay() for _ in range(200)]
    for nominal, delay in zip([2, 4, 8, 16, 32, 60, 60], delays, strict=False):
        assert 0.75 * nominal <= delay <= nominal
    assert len({round(delay, 6) for delay in delays[5:]}) > 100
    back_off.reset()
    assert back_off.next_delay() <= 2.0


def run_bus(
    intervals: dict[str, float],
    dead: set[str],
    until: float,
    *,
    timeout_s: float = 0.0,
    poll_s: float = 0.0,
) -> tuple[dict[str, list[float]], BusSchedule[str]]:
    """Polls of each device when a dead one costs ``timeout_s``."""
    now = 0.0
    schedule = BusSchedule(list(intervals.items()), now, random.Random(3))
    polls: dict[str, list[float]] = {name: [] for name in intervals}
    while True:
        slot = schedule.next(now)
        now = max(now, slot.due)
        if now > until:
            return polls, schedule
        polls[slot.device].append(now)
        if slot.device in dead:
            now += timeout_s
            schedule.failed(slot, now, silent_s=timeout_s)
        else:
            now += poll_s
            schedule.answered(slot, now)


def test_each_device_keeps_its_own_interval() -> None:
    polls, schedule = run_bus({"fast": 1.0, "slow": 7.0}, set(), 700.0)
    assert len(polls["fast"]) == 700
    assert len(polls["slow"]) == 100
    assert schedule.missed == 0


def test_a_dead_device_backs_off_alone() -> None:
    names = {f"probe{n}": 5.0 for n in range(8)}
    polls, schedule = run_bus(names, {"probe3"}, 600.0, timeout_s=1.0)
    gaps = [b - a for a, b in pairwise(polls["probe3"])]
    for nominal, gap in zip([10, 20, 40, *[60] * 20], gaps, strict=False):
        assert 0.75 * nominal <= gap <= nominal + 2.0  # a poll may wait for the one before it
    assert len(gaps) < 16
    for name in names.keys() - {"probe3"}:
        assert len(polls[name]) == 120
    assert schedule.missed == 0


@pytest.mark.parametrize("timeout_s", [0.2, 0.5])
def test_a_probe_of_a_dead_device_is_put_off_until_it_fits(timeout_s: float) -> None:
    """Eight devices at 1 Hz, 40 ms a poll: 0.72 s of each second are free."""
    names = {f"probe{n}": 1.0 for n in range(8)}
    polls, schedule = run_bus(names, {"probe3"}, 120.0, timeout_s=timeout_s, poll_s=0.04)
    assert len(polls["probe3"]) >= 6
    for name in names.keys() - {"probe3"}:
        gaps = [b - a for a, b in pairwise(polls[name][5:])]
        assert all(0.9 <= gap <= 1.1 for gap in gaps)
    assert schedule.missed == 0


def test_a_probe_that_never_fits_is_made_after_one_interval_more() -> None:
    names = {f"probe{n}": 1.0 for n in range(8)}
    polls, schedule = run_bus(names, {"probe3"}, 600.0, timeout_s=1.5, poll_s=0.04)
    gaps = [b - a for a, b in pairwise(polls["probe3"])]
    for nominal, gap in zip([2, 4, 8, 16, 32, 60, 60], gaps, strict=False):
        assert 0.75 * nominal <= gap - 1.5 <= nominal + 1.0 + 8 * 0.04
    assert len(gaps) >= 10
    assert schedule.missed < 0.05 * 600 * 7


def test_one_probe_ends_the_back_off() -> None:
    schedule = BusSchedule([("probe", 5.0)], 0.0, random.Random(3))
    slot = schedule.next(0.0)
    grid = slot.due
    now = 0.0
    for _ in range(4):
        now = slot.due
        schedule.failed(slot, now)
    revived = slot.due
    assert revived - now <= 60.0
    schedule.answered(slot, revived)
    assert 0 < slot.due - revived <= 5.0
    assert (slot.due - grid) % 5.0 == pytest.approx(0.0, abs=1e-9)
    assert schedule.missed == 0


def test_an_interval_longer_than_the_largest_back_off_is_kept() -> None:
    schedule = BusSchedule([("gauge", 3600.0)], 0.0, random.Random(3))
    slot = schedule.next(0.0)
    schedule.failed(slot, 100.0)
    assert 2700.0 <= slot.due - 100.0 <= 3600.0


def test_a_slow_bus_skips_and_counts() -> None:
    schedule = BusSchedule([("a", 1.0), ("b", 1.0)], 0.0, random.Random(3))
    now = 0.0
    polled = []
    for _ in range(20):  # each poll takes 2 s: the bus can do a quarter of what is asked
        slot = schedule.next(now)
        now = max(now, slot.due) + 2.0
        polled.append(slot.device)
        schedule.answered(slot, now)
    assert polled.count("a") == polled.count("b") == 10
    assert schedule.missed == pytest.approx(2 * (now - 10), abs=4)
