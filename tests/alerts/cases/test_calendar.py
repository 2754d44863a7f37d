"""Working days across real make-up workdays, as the State Council published them."""

from __future__ import annotations

from datetime import date, timedelta

import chinese_calendar
import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerts.cases.calendar import Calendar, Supplement, end_of, local_date
from alerts.cases.errors import MissingYear
from alerts.cases.lengths import Length, due, explain
from tests.alerts.cases.conftest import at

UNKNOWN = next(year for year in range(2026, 2200) if not Calendar().has(year))
"""The first year that the installed library lacks."""


@pytest.mark.parametrize("year", range(2019, 2027))
def test_the_library_has_the_years(year: int) -> None:
    assert Calendar().has(year)


@pytest.mark.parametrize(
    ("start", "days", "last"),
    [
        # National Day 2025: off 1 to 8 October, worked Sun 28 September and Sat 11 October
        ("2025-09-26 10:00", 1, "2025-09-28"),
        ("2025-09-26 10:00", 5, "2025-10-10"),
        ("2025-09-26 10:00", 6, "2025-10-11"),
        ("2025-09-30 10:00", 3, "2025-10-11"),
        # Spring Festival 2025: off 28 January to 4 February, worked Sun 26 January and Sat 8 February
        ("2025-01-24 16:00", 1, "2025-01-26"),
        ("2025-01-24 16:00", 5, "2025-02-07"),
        ("2025-01-24 16:00", 6, "2025-02-08"),
        # Spring Festival 2026: off 15 to 23 February, worked Sat 14 and Sat 28 February
        ("2026-02-13 09:00", 1, "2026-02-14"),
        ("2026-02-13 09:00", 5, "2026-02-27"),
        ("2026-02-13 09:00", 7, "2026-03-02"),
        # Labour Day 2026: off 1 to 5 May, worked Sat 9 May
        ("2026-04-30 23:59", 5, "2026-05-11"),
        # National Day 2026: off 1 to 7 October, worked Sun 20 September and Sat 10 October
        ("2026-09-18 08:00", 1, "2026-09-20"),
        ("2026-09-30 10:00", 3, "2026-10-10"),
        ("2026-09-30 10:00", 5, "2026-10-13"),
        ("2026-09-30 10:00", 7, "2026-10-15"),
        # over a new year
        ("2025-12-30 10:00", 5, "2026-01-07"),
        ("2025-12-30 10:00", 2, "2026-01-04"),
    ],
)
def test_working_days_end_at_24_of_the_last(start: str, days: int, last: str) -> None:
    assert Calendar().working_days_after(at(start), days) == end_of(date.fromisoformat(last))


def test_the_day_of_the_event_is_that_of_china() -> None:
    length = Length(5, "wd")
    late = due(at("2026-11-23 23:59"), length, Calendar())
    early = due(at("2026-11-24 00:00"), length, Calendar())
    assert late.due_ms == at("2026-12-01 00:00")
    assert early.due_ms == at("2026-12-02 00:00")
    assert local_date(at("2026-11-24 00:00")) == date(2026, 11, 24)


def test_hours_run_day_and_night() -> None:
    assert due(at("2026-09-30 22:30"), Length(4, "h"), Calendar()).due_ms == at("2026-10-01 02:30")
    assert due(at("2026-10-02 10:00"), Length(24, "h"), Calendar()).due_ms == at("2026-10-03 10:00")


@pytest.mark.parametrize(
    ("start", "days", "last"),
    [
        ("2026-03-02 10:00", 3, "2026-03-05"),
        ("2026-03-04 10:00", 3, "2026-03-09"),  # Saturday: the Monday after
        ("2026-09-30 10:00", 3, "2026-10-08"),  # within the National Day holiday
        ("2026-10-07 10:00", 3, "2026-10-10"),  # a Saturday that is worked
        ("2026-07-03 10:00", 90, "2026-10-08"),  # the 90th day is 1 October
    ],
)
def test_a_term_of_days_that_ends_on_a_day_off_goes_on(start: str, days: int, last: str) -> None:
    ends = due(at(start), Length(days, "d"), Calendar())
    assert (ends.due_ms, ends.missing_year) == (end_of(date.fromisoformat(last)), None)


def test_years_end_on_the_same_day_and_are_not_moved() -> None:
    assert due(at("2024-02-29 10:00"), Length(2, "y"), Calendar()).due_ms == at("2026-03-01 00:00")
    assert due(at("2026-10-01 10:00"), Length(5, "y"), Calendar()).due_ms == at("2031-10-02 00:00")


def test_a_missing_year_is_named_and_guessed_by_nobody() -> None:
    start = at(f"{UNKNOWN - 1}-12-31 10:00")
    ends = due(start, Length(5, "wd"), Calendar())
    assert (ends.due_ms, ends.missing_year) == (None, UNKNOWN)
    assert explain(start, Length(5, "wd"), Calendar()) == []
    with pytest.raises(MissingYear, match=f"{UNKNOWN} 年节假日表未发布/缺失"):
        Calendar().day(date(UNKNOWN, 3, 1))


def test_a_term_of_days_into_a_missing_year_may_still_move() -> None:
    ends = due(at(f"{UNKNOWN - 1}-12-01 10:00"), Length(90, "d"), Calendar())
    assert (ends.due_ms, ends.missing_year) == (at(f"{UNKNOWN}-03-02 00:00"), UNKNOWN)


def test_a_supplement_makes_a_year_known() -> None:
    off = {date(UNKNOWN, 1, day) for day in (1, 2, 3)} | {date(UNKNOWN, 10, 1)}
    worked = next(day for day in (date(UNKNOWN, 1, d) for d in range(4, 15)) if day.weekday() == 5)
    supplement = Supplement(frozenset(off), frozenset({worked}))
    assert supplement.faults() == []
    calendar = Calendar(supplement)
    assert calendar.day(worked).works
    assert not calendar.day(date(UNKNOWN, 1, 1)).works
    assert due(at(f"{UNKNOWN - 1}-12-31 10:00"), Length(5, "wd"), calendar).missing_year is None


def test_a_supplement_goes_over_the_library() -> None:
    calendar = Calendar(
        Supplement(frozenset({date(2026, 11, 25)}), frozenset({date(2026, 11, 28)}))
    )
    assert not calendar.day(date(2026, 11, 25)).works
    assert calendar.day(date(2026, 11, 28)).works


def test_half_a_table_is_refused() -> None:
    [fault] = Supplement(frozenset({date(UNKNOWN, 1, 1)})).faults()
    assert "not whole" in fault
    both = Supplement(frozenset({date(2026, 1, 2)}), frozenset({date(2026, 1, 2)}))
    assert both.faults() == ["2026-01-02: both a holiday and a workday"]


def test_why_a_due_date_is_right_day_by_day() -> None:
    days = explain(at("2026-09-30 10:00"), Length(5, "wd"), Calendar())
    assert [(str(d.day), d.works, d.zh) for d in days] == [
        *((f"2026-10-0{day}", False, "国庆节") for day in range(1, 8)),
        ("2026-10-08", True, "工作日"),
        ("2026-10-09", True, "工作日"),
        ("2026-10-10", True, "调休上班（国庆节）"),
        ("2026-10-11", False, "周日"),
        ("2026-10-12", True, "工作日"),
        ("2026-10-13", True, "工作日"),
    ]
    moved = explain(at("2026-03-04 10:00"), Length(3, "d"), Calendar())
    assert [(str(d.day), d.en) for d in moved] == [
        ("2026-03-07", "Saturday"),
        ("2026-03-08", "Sunday"),
        ("2026-03-09", "working day"),
    ]


@pytest.mark.parametrize("text", ["", "5", "0 wd", "-1 d", "5 days", "99999 h", "51 y", "５ wd"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="is no length"):
        Length.parse(text)


@given(
    st.dates(date(2019, 1, 1), date(2025, 12, 1)), st.integers(1, 20), st.integers(0, 86_399_999)
)
def test_working_days_are_those_that_the_library_counts(
    start: date, count: int, of_day_ms: int
) -> None:
    day, left = start, count
    while left:
        day += timedelta(days=1)
        left -= chinese_calendar.is_workday(day)
    start_ms = end_of(start - timedelta(days=1)) + of_day_ms
    assert Calendar().working_days_after(start_ms, count) == end_of(day)
