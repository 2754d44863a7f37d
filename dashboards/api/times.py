"""Times as a query gives them, and the day on which a county works."""

import re
from datetime import UTC, datetime, timedelta, timezone

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")  # no summer time since 1991
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MAX_MS = 253_402_300_799_999  # the end of the year 9999
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?P<offset>[Zz]|[+\- ]\d\d:\d\d)?",
    re.ASCII,
)


def parse_time(name: str, text: str) -> int:
    """Return UTC milliseconds of RFC 3339 with an offset, or of an integer; raise ValueError naming ``name``.

    >>> parse_time("start", "2026-05-01T08:00:00+08:00"), parse_time("start", "1777593600000")
    (1777593600000, 1777593600000)
    """
    if re.fullmatch(r"\d{1,15}", text, re.ASCII):
        if int(text) > _MAX_MS:
            raise ValueError(f"{name}: {text} is after the year 9999; give UTC milliseconds")
        return int(text)
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{name}: {text[:60]!r} is neither RFC 3339 with an offset (2026-05-01T08:00:00+08:00) nor UTC milliseconds"
        )
    offset = match["offset"]
    if offset is None:
        raise ValueError(f"{name}: {text!r} has no offset; add Z or +08:00")
    if offset[0] == " ":  # an unescaped + in a query string is a blank
        text = text[: -len(offset)] + "+" + offset[1:]
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MS
    except ValueError as exc:
        raise ValueError(f"{name}: {text!r} is no time: {exc}") from exc


def shanghai_day(now_ms: int) -> tuple[int, int]:
    """Return the start and the end of today in Asia/Shanghai, UTC milliseconds.

    >>> shanghai_day(1777593600000)
    (1777564800000, 1777651200000)
    """
    start = local_time(now_ms).replace(hour=0, minute=0, second=0, microsecond=0)
    start_ms = (start - _EPOCH) // _MS
    return start_ms, start_ms + 86_400_000


def local_time(ms: int) -> datetime:
    """Return a time in Asia/Shanghai."""
    return (_EPOCH + ms * _MS).astimezone(SHANGHAI)
