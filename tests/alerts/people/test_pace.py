"""When messages go: properties of the pace, and quiet hours across midnight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.people.pace import BACK_OFF_S, Go, Pace, Waiting, resumed
from alerts.people.quiet import Quiet

HOUR_MS = 3_600_000
NOON_MS = 1_777_608_000_000  # 12:00 in China


@given(
    rate=st.integers(1, 20),
    digest_s=st.integers(0, 120),
    steps=st.lists(st.tuples(st.integers(0, 30_000), st.booleans(), st.booleans()), max_size=200),
)
def test_no_minute_has_more_messages_than_the_rate(rate, digest_s, steps):
    pace, now, sent = Pace(rate, digest_s), NOON_MS, []
    for wait_ms, critical, delivered in steps:
        now += wait_ms
        step = pace.next(Waiting(5, 1 if critical else 0), now)
        if isinstance(step, Go):
            assert step.messages >= 1
            pace.told(now, delivered=delivered)
            sent.append(now)
        else:
            assert step is not None
            assert step > now
    for at in sent:
        assert sum(at <= other < at + 60_000 for other in sent) <= rate


def test_critical_does_not_wait_for_the_digest():
    pace = Pace(20, 600)
    pace.told(NOON_MS, delivered=True)
    later = NOON_MS + 4_000
    assert pace.next(Waiting(1, 0), later) == NOON_MS + 600_000
    assert isinstance(pace.next(Waiting(1, 1), later), Go)


def test_failures_back_off_and_a_success_ends_that():
    pace = Pace(20, 0)
    at = NOON_MS
    for wait_s in BACK_OFF_S:
        assert pace.told(at, delivered=False) == at + wait_s * 1000
        at += wait_s * 1000
    assert pace.next(Waiting(1, 0), at - 1) == at
    pace.told(at, delivered=True)
    assert isinstance(pace.next(Waiting(1, 0), at + 61_000), Go)


def test_what_a_target_asks_for_is_kept_within_a_day():
    pace = Pace(20, 0)
    assert pace.told(NOON_MS, delivered=False, retry_after_s=1e12) == NOON_MS + 86_400_000


def test_a_clock_that_was_set_back_stops_nothing_for_long():
    pace = Pace(1, 60)
    pace.told(NOON_MS + 1000 * HOUR_MS, delivered=False)
    step = pace.next(Waiting(1, 0), NOON_MS)
    assert isinstance(step, int)
    assert step <= NOON_MS + 61_000


def test_the_pace_is_resumed_from_what_was_sent():
    pace = resumed(Pace(2, 0), [(NOON_MS - 20_000, True), (NOON_MS - 10_000, True)])
    assert pace.next(Waiting(1, 0), NOON_MS) == NOON_MS + 41_000


@pytest.mark.parametrize(
    ("table", "hours", "quiet_at"),
    [
        ({"from": "22:00", "to": "07:00"}, 24, {22, 23, 0, 1, 2, 3, 4, 5, 6}),
        ({"from": "00:00", "to": "07:00"}, 24, set(range(7))),
        ({"from": "12:30", "to": "14:00"}, 24, {13}),
    ],
)
def test_quiet_hours(table, hours, quiet_at):
    quiet = Quiet.parse(table)
    midnight = NOON_MS - 12 * HOUR_MS
    found = {}
    for hour in range(hours):
        until = quiet.until_ms(midnight + hour * HOUR_MS)
        if until is not None:
            found[hour] = until
            assert quiet.until_ms(until) is None
            assert quiet.until_ms(until - 1) is not None
    assert set(found) == quiet_at


@pytest.mark.parametrize(
    "table",
    [
        {"from": "22:00"},
        {"from": "7", "to": "8"},
        {"from": "24:00", "to": "07:00"},
        {"from": "07:00", "to": "07:00"},
        {"from": "22:00", "to": "07:00", "x": "1"},
    ],
)
def test_quiet_hours_that_are_none_are_refused(table):
    with pytest.raises(ValueError, match=r"."):
        Quiet.parse(table)
