"""Times as instruments write them: Beijing time, often without seconds or century (pure)."""

from __future__ import annotations

import datetime as dt
import re

from drivers.tester.text import plain

# China has had one zone and no summer time since 1992.
BEIJING = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")

_DATE = r"(?P<year>\d{4}|\d{2})[-/.年](?P<month>\d{1,2})[-/.月](?P<day>\d{1,2})日?"
_CLOCK = r"(?P<hour>\d{1,2})[:时](?P<minute>\d{1,2})(?:[:分](?P<second>\d{1,2})(?:\.\d+)?秒?|分)?"
_DATE_AND_CLOCK = re.compile(rf"{_DATE}[T\s]*{_CLOCK}(?:Z|\+08:?00)?", re.ASCII)
_CLOCK_ALONE = re.compile(_CLOCK, re.ASCII)


def read_time(text: str, date_text: str = "") -> dt.datetime | None:
    """Return the time in a text (Beijing time, seconds 0 when not said), None when there is none.

    >>> read_time("26-11-02 8:41").isoformat()
    '2026-11-02T08:41:00+08:00'
    """
    said, date_said = plain(text), plain(date_text)
    found = _DATE_AND_CLOCK.fullmatch(said)
    if found is None and date_said and _CLOCK_ALONE.fullmatch(said):
        found = _DATE_AND_CLOCK.fullmatch(f"{date_said} {said}")
    if found is None:
        return None
    year = int(found["year"])
    try:
        when = dt.datetime(
            year if year >= 100 else 2000 + year,
            int(found["month"]),
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"] or 0),
            tzinfo=BEIJING,
        )
        return when.replace(tzinfo=dt.UTC).astimezone(BEIJING) if said.endswith("Z") else when
    except (ValueError, OverflowError):
        return None
