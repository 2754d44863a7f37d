"""How long a clock runs, and when it is due."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from alerts.cases.calendar import end_of, local_date
from alerts.cases.errors import MissingYear

if TYPE_CHECKING:
    from alerts.cases.calendar import Calendar, Day

HOURS, WORKING_DAYS, DAYS, YEARS = "h", "wd", "d", "y"
_HOUR_MS = 3_600_000
_TEXT = re.compile(r"([1-9]\d{0,3}) ?(h|wd|d|y)", re.ASCII)
_MAX = {HOURS: 9999, WORKING_DAYS: 1000, DAYS: 9999, YEARS: 50}


@dataclass(frozen=True, slots=True)
class Length:
    """A number of hours (run day and night), working days, days or years."""

    number: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Length:
        """Read ``4 h``, ``5 wd``, ``90 d`` or ``2 y``; raise ValueError.

        >>> Length.parse("5 wd")
        Length(number=5, unit='wd')
        """
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) > _MAX[match[2]]:
            raise ValueError(f"{text!r} is no length; write 4 h, 5 wd (working days), 90 d or 2 y")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.unit}"


@dataclass(frozen=True, slots=True)
class Due:
    """When a clock is due (UTC ms).

    With ``missing_year`` the table of that year is not there: of working days nothing is known, of days the end as if
    no holiday moved it.
    """

    due_ms: int | None
    missing_year: int | None = None


def due(start_ms: int, length: Length, calendar: Calendar) -> Due:
    """Return when a clock that began at ``start_ms`` is due.

    Days and working days end at 24:00 and do not count the first; a term of days whose last is a day off ends on the
    next working day (民法典 art. 201, 203; 农业行政处罚程序规定). A limitation in years is not moved (民法典 art. 202).
    """
    if length.unit == HOURS:
        return Due(start_ms + length.number * _HOUR_MS)
    if length.unit == YEARS:
        return Due(end_of(_years_after(local_date(start_ms), length.number)))
    try:
        if length.unit == WORKING_DAYS:
            return Due(calendar.working_days_after(start_ms, length.number))
    except MissingYear as exc:
        return Due(None, exc.year)
    last = local_date(start_ms) + timedelta(days=length.number)
    try:
        *_, moved = calendar.roll(last)
    except MissingYear as exc:
        return Due(end_of(last), exc.year)
    return Due(end_of(moved.day))


def explain(start_ms: int, length: Length, calendar: Calendar) -> list[Day]:
    """Return the days that make the due date what it is, as far as the calendar goes.

    Of working days all from the day after the start to the last; of days those by which the end was moved.
    """
    found: list[Day] = []
    if length.unit == WORKING_DAYS:
        days = calendar.count(start_ms, length.number)
    elif length.unit == DAYS:
        days = calendar.roll(local_date(start_ms) + timedelta(days=length.number))
    else:
        return found
    try:
        found.extend(days)
    except MissingYear:
        return found
    return found


def _years_after(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February: the last of the month
        return date(day.year + years, 2, 28)
