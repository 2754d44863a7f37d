r"""InfluxQL, the dialect that 1.8, 2 and 3 share: names from a list, values escaped, times within bounds.

>>> from ingest.batch import Series
>>> where(Series("x'; DROP MEASUREMENT reading --", "a", "b"))
"station = 'x\\'; DROP MEASUREMENT reading --' AND device = 'a' AND indicator = 'b'"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.batch import Series

# What InfluxDB can hold: 1677-09-21 … 2262-04-11, the nanoseconds of an int64.
EARLIEST_MS, LATEST_MS = -9_223_372_036_854, 9_223_372_036_854
_FIRST_NS, _LAST_NS = -9_223_372_036_854_775_806, 9_223_372_036_854_775_806
NAMES = frozenset(
    {
        *("reading", "reading_minute", "reading_hour", "reading_day"),
        *("agrigate_store", "agrigate_series", "agrigate_check", "agrigate_copy"),
    }
)
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n"})


def literal(text: str) -> str:
    r"""Return ``text`` as a string literal.

    >>> literal("a'b\\")
    "'a\\'b\\\\'"
    """
    return f"'{text.translate(_ESCAPES)}'"


def name(measurement: str) -> str:
    """Return a measurement's quoted name; raise ValueError for one that is not ours."""
    if measurement not in NAMES:
        raise ValueError(f"{measurement!r} is not one of {', '.join(sorted(NAMES))}")
    return f'"{measurement}"'


def where(series: Series) -> str:
    """Return the condition that picks one series."""
    return (
        f"station = {literal(series.station)} AND device = {literal(series.device)}"
        f" AND indicator = {literal(series.indicator)}"
    )


def either(series: Iterable[Series]) -> str:
    """Return the condition that picks several series."""
    return "(" + " OR ".join(f"({where(one)})" for one in series) + ")"


def between(start_ms: int, end_ms: int) -> str:
    """Return the condition start ≤ t < end."""
    first = max(start_ms * 1_000_000, _FIRST_NS)
    if end_ms > LATEST_MS:
        return f"time >= {first} AND time <= {_LAST_NS}"
    return f"time >= {first} AND time < {max(end_ms * 1_000_000, _FIRST_NS)}"
