"""The retry schedule and the rule for each answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.delivery.schedule import CRITICAL_DELAYS_S, DELAYS_S, Answer, decide, retry_after_ms

DAY_MS = 86_400_000


def answer(status: int | None, retry_after: str = "", at_ms: int = 0) -> Answer:
    return Answer(at_ms, at_ms, status, retry_after=retry_after)


def waits(*, critical: bool, jitter: float) -> list[int]:
    found, attempt = [], 1
    while (
        decision := decide(answer(500), attempt, critical=critical, jitter=jitter)
    ).state == "pending":
        found.append(decision.next_ms)
        attempt += 1
    assert decision.state == "undelivered"
    return found


def test_the_schedule_is_the_specified_one() -> None:
    hours = 3_600_000
    expected = [5000, 300_000, 1_800_000, *(h * hours for h in (2, 5, 10, 14, 20, 24))]
    assert waits(critical=False, jitter=0.0) == expected
    assert round(sum(expected) / hours, 1) == 75.6


def test_critical_adds_two_early_attempts() -> None:
    assert waits(critical=True, jitter=0.0)[:4] == [5000, 30_000, 120_000, 300_000]
    assert len(CRITICAL_DELAYS_S) == len(DELAYS_S) + 2


def test_jitter_is_a_fifth_either_way() -> None:
    assert waits(critical=False, jitter=-1.0)[0] == 4000
    assert waits(critical=False, jitter=1.0)[0] == 6000


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_delivered(status: int) -> None:
    assert decide(answer(status), 1, critical=False, jitter=0.0).state == "delivered"


@pytest.mark.parametrize("status", [None, 301, 302, 307, 400, 401, 404, 500, 502, 504])
def test_everything_else_is_retried(status: int | None) -> None:
    decision = decide(answer(status), 1, critical=False, jitter=0.0)
    assert (decision.state, decision.suspend, decision.quiet_until_ms) == ("pending", False, 0)


def test_gone_suspends_the_endpoint() -> None:
    decision = decide(answer(410), 1, critical=False, jitter=0.0)
    assert (decision.state, decision.suspend) == ("undelivered", True)


@pytest.mark.parametrize("status", [413, 415, 422])
def test_a_body_that_is_refused_is_tried_three_times(status: int) -> None:
    states = [decide(answer(status), n, critical=False, jitter=0.0).state for n in (1, 2, 3)]
    assert states == ["pending", "pending", "undelivered"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        ("60", 60_000),
        ("0", 0),
        ("-60", 0),
        ("99999999999999", DAY_MS),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 120_000),
        ("Wed, 31 Dec 1969 23:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_MS),
        ("soon", 0),
        ("", 0),
    ],
)
def test_retry_after_is_honoured_within_a_day(status: int, header: str, wait_ms: int) -> None:
    decision = decide(answer(status, header), 1, critical=False, jitter=0.0)
    assert decision.next_ms == max(5000, wait_ms)
    assert decision.quiet_until_ms == wait_ms


def test_retry_after_of_other_answers_means_nothing() -> None:
    assert decide(answer(500, "600"), 1, critical=False, jitter=0.0).next_ms == 5000


@given(st.text())
def test_any_retry_after_is_a_sane_wait(value: str) -> None:
    assert 0 <= retry_after_ms(value, 1_763_900_000_000) <= DAY_MS
