"""All that a stopped store holds, piece by piece: what copying, checking and exporting share.

Columns of readings: ``series, t_ms, v, q, flags, received_ms, inbox_pos, dup``; of roll-ups: ``series, t_ms, low, high,
total, valued, n, good``. Every array is (n,); ``series`` counts places in ``Stock.series``; what is missing is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ingest.store.duckdb_parts import SHANGHAI, month_end, month_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.store.reading_store import Latest, Level

Columns = dict[str, "NDArray[Any]"]

READING_TYPES: Mapping[str, type] = {
    "series": np.int32,
    "t_ms": np.int64,
    "v": np.float64,
    "q": np.uint8,
    "flags": np.uint32,
    "received_ms": np.int64,
    "inbox_pos": np.int64,
    "dup": np.int32,
}
BUCKET_TYPES: Mapping[str, type] = {
    "series": np.int32,
    "t_ms": np.int64,
    "low": np.float64,
    "high": np.float64,
    "total": np.float64,
    "valued": np.int64,
    "n": np.int64,
    "good": np.int64,
}
FIRST_MS, LAST_MS = -(2**62), 2**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which readings; an empty tuple is all of them, times are start ≤ t < end."""

    stations: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    indicators: tuple[str, ...] = ()
    start_ms: int = FIRST_MS
    end_ms: int = LAST_MS

    def has(self, series: Series) -> bool:
        """Return whether readings of ``series`` may be among them."""
        return (
            (not self.stations or series.station in self.stations)
            and (not self.devices or series.device in self.devices)
            and (not self.indicators or series.indicator in self.indicators)
        )

    @property
    def is_of_all_series(self) -> bool:
        """Whether no series is left out."""
        return not (self.stations or self.devices or self.indicators)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of one month; ``level`` None are readings. ``where`` is the store's own condition."""

    level: Level | None
    month_ms: int
    where: str


class Stock(Protocol):
    """A store of which nobody writes meanwhile; the same pieces in the same order each time."""

    series: list[Series]
    """May grow while pieces are read; places never change."""

    @property
    def place(self) -> str:
        """What a person recognises it by."""
        ...

    @property
    def cursor(self) -> int:
        """Inbox position of the last pack stored."""
        ...

    @property
    def mark(self) -> str:
        """A text that is another one as soon as other rows, or other pieces, are there."""
        ...

    def count(self, level: Level | None = None) -> int:
        """Rows that will come, about."""
        ...

    def latest(self) -> list[Latest]:
        """The last reading of each series, and how many it ever had."""
        ...

    def months(self, level: Level | None) -> list[int]:
        """Months of Shanghai (their begin, UTC ms) that may have rows, in order."""
        ...

    def pieces(self, level: Level | None, month_ms: int) -> Iterator[Piece]:
        """The pieces of a month, each small enough for memory."""
        ...

    def read(self, piece: Piece) -> Columns:
        """The rows of a piece, in order of series, time, ``dup``."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def span(month_ms: int, wanted: Wanted) -> tuple[int, int]:
    """Return start ≤ t < end of a month; the first and the last of the calendar have what lies beyond it."""
    start = month_ms if month_of(month_ms - 1) < month_ms else FIRST_MS
    end = month_end(month_ms)
    return max(start, wanted.start_ms), min(end if end > month_ms else LAST_MS, wanted.end_ms)


def month_name(month_ms: int) -> str:
    """Return a month as text.

    >>> month_name(1_777_564_800_000)
    '2026-05'
    """
    moment = np.datetime64(month_ms, "ms") + np.timedelta64(SHANGHAI.utcoffset(None))
    return str(moment.astype("datetime64[M]"))


def take(columns: Columns, rows: NDArray[Any]) -> Columns:
    """Return some of the rows."""
    return {name: column[rows] for name, column in columns.items()}


def joined(parts: Sequence[Columns], types: Mapping[str, type]) -> Columns:
    """Return all rows in order of series, time and ``dup``, each column in its type."""
    columns: Columns = {
        name: np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)]).astype(kind)
        for name, kind in types.items()
    }
    keys = [columns["dup"]] if "dup" in columns else []
    return take(columns, np.lexsort([*keys, columns["t_ms"], columns["series"]]))
