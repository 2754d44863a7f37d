"""Chinese working days, make-up workdays (调休) included, in UTC+8.

The day of the event does not count and a term ends with its last day at 24:00 (民法典 art. 201, 203). The years' tables
are those of the State Council as ``chinesecalendar`` has them; a supplement lays further dates over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from chinese_calendar.constants import Holiday, holidays, workdays

from alerts.cases.errors import MissingYear

if TYPE_CHECKING:
    from collections.abc import Iterator

CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")  # no summer time since 1991
DAY_MS = 86_400_000
_ONE_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SATURDAY = 5
_WEEKEND = (("周六", "Saturday"), ("周日", "Sunday"))
_KNOWN_YEARS = frozenset(day.year for day in holidays)


@dataclass(frozen=True, slots=True)
class Supplement:
    """Dates laid over the library's: ``holidays`` are off, ``workdays`` are worked.

    A year that the library lacks counts as known when its holidays are listed here, New Year and National Day among
    them.
    """

    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()

    def years(self) -> frozenset[int]:
        """Return the years whose table is here."""
        listed = {day.year for day in self.holidays}
        needed = ((1, 1), (10, 1))
        return frozenset(
            year
            for year in listed
            if all(date(year, month, day) in self.holidays for month, day in needed)
        )

    def faults(self) -> list[str]:
        """Return what is wrong with the dates, for a person."""
        both = sorted(self.holidays & self.workdays)
        faults = [f"{day}: both a holiday and a workday" for day in both]
        listed = {day.year for day in self.holidays | self.workdays}
        faults += [
            f"{year}: the table is not whole; list all its holidays and make-up workdays"
            for year in sorted(listed - _KNOWN_YEARS - self.years())
        ]
        return faults


@dataclass(frozen=True, slots=True)
class Day:
    """One day: whether it is worked, and why or why not (Chinese, English)."""

    day: date
    works: bool
    zh: str
    en: str


class Calendar:
    """Which days are worked.

    >>> Calendar().day(date(2025, 10, 11))
    Day(day=datetime.date(2025, 10, 11), works=True, zh='调休上班（国庆节）', en='make-up workday (National Day)')
    """

    def __init__(self, supplement: Supplement | None = None) -> None:
        self._more = supplement or Supplement()
        self._years = _KNOWN_YEARS | self._more.years()

    @property
    def last_year(self) -> int:
        """The last year whose table is there."""
        return max(self._years)

    def has(self, year: int) -> bool:
        """Tell whether the table of ``year`` is there."""
        return year in self._years

    def day(self, day: date) -> Day:
        """Return what ``day`` is; raise MissingYear."""
        if not self.has(day.year):
            raise MissingYear(day.year)
        if day in self._more.workdays:
            return Day(day, works=True, zh="调休上班（补充表）", en="make-up workday (supplement)")
        if day in self._more.holidays:
            return Day(day, works=False, zh="放假（补充表）", en="holiday (supplement)")
        if name := workdays.get(day):
            return Day(
                day, works=True, zh=f"调休上班（{_zh(name)}）", en=f"make-up workday ({name})"
            )
        if name := holidays.get(day):
            return Day(day, works=False, zh=_zh(name), en=name)
        if day.weekday() >= _SATURDAY:
            zh, en = _WEEKEND[day.weekday() - _SATURDAY]
            return Day(day, works=False, zh=zh, en=en)
        return Day(day, works=True, zh="工作日", en="working day")

    def count(self, start_ms: int, working_days: int) -> Iterator[Day]:
        """Go through the days after that of ``start_ms`` up to the last working day counted; raise MissingYear."""
        day, left = local_date(start_ms), working_days
        while left > 0:
            day += _ONE_DAY
            found = self.day(day)
            left -= found.works
            yield found

    def working_days_after(self, start_ms: int, count: int) -> int:
        """Return when ``count`` working days after ``start_ms`` are over (24:00, UTC ms); raise MissingYear."""
        *_, last = self.count(start_ms, count)
        return end_of(last.day)

    def roll(self, day: date) -> Iterator[Day]:
        """Go on from ``day`` to the first day that is worked; raise MissingYear."""
        found = self.day(day)
        yield found
        while not found.works:
            day += _ONE_DAY
            found = self.day(day)
            yield found


def local_date(ms: int) -> date:
    """Return the day in China.

    >>> local_date(1777564799999), local_date(1777564800000)
    (datetime.date(2026, 4, 30), datetime.date(2026, 5, 1))
    """
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(CHINA).date()


def end_of(day: date) -> int:
    """Return 24:00 of ``day`` in China, UTC ms."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=CHINA) + _ONE_DAY
    return (midnight - _EPOCH) // timedelta(milliseconds=1)


def _zh(name: str) -> str:
    return str(Holiday(name).chinese)
