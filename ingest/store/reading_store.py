"""The protocol that every store of readings keeps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ingest.batch import Batch, Series

Times = TypeVar("Times", int, "NDArray[np.int64]")


class Level(StrEnum):
    """A grid of buckets: UTC minutes and hours, days of Asia/Shanghai (UTC+8, no summer time)."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def ms(self) -> int:
        """Length of one bucket."""
        return _LEVEL_MS[self]

    @property
    def offset_ms(self) -> int:
        """What is added to a time before it is cut down to the grid."""
        return 8 * 3_600_000 if self is Level.DAY else 0

    def floor(self, t_ms: Times) -> Times:
        """Return the start of the bucket that each time falls into, before 1970 too.

        >>> Level.DAY.floor(0)
        -28800000
        """
        return t_ms - (t_ms + self.offset_ms) % self.ms


_LEVEL_MS = {Level.MINUTE: 60_000, Level.HOUR: 3_600_000, Level.DAY: 86_400_000}


@dataclass(frozen=True, slots=True)
class Trend:
    """Buckets of one series in time order, those without a reading left out; every array is (n,).

    Of the values, those that are there and neither FAIL nor MISSING; NaN when there is none. ``good`` is the share
    of ``count`` whose flag is PASS, 0 … 1.
    """

    start_ms: NDArray[np.int64]
    minimum: NDArray[np.float64]
    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]
    count: NDArray[np.int64]
    good: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Kept:
    """A range of one series, start ≤ t < end, that retention must not drop."""

    series: Series
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Points:
    """Readings of one series in time order; every array is (n,)."""

    t_ms: NDArray[np.int64]
    v: NDArray[np.float64]  # NaN when missing
    q: NDArray[np.uint8]
    flags: NDArray[np.uint32]
    received_ms: NDArray[np.int64]
    inbox_pos: NDArray[np.int64]
    dup: NDArray[np.int32]
    total: int
    """Readings in the range before down-sampling."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The last reading of a series by measured time, and how many were ever stored."""

    series: Series
    t_ms: int
    v: float  # NaN when missing
    q: int
    count: int


class ReadingStore(Protocol):
    """Append batches, remember the cursor with them, answer ranges. Safe to call from several threads."""

    def append(self, batch: Batch) -> None:
        """Store the readings of ``batch`` and its cursor in one transaction.

        A second value at the same (series, t) is kept with ``dup`` 1, 2, …; a batch at or before the cursor is a no-op.
        """
        ...

    def cursor(self) -> int:
        """Inbox position of the last pack stored, 0 when empty."""
        ...

    def query(
        self, series: Series, *, start_ms: int, end_ms: int, max_points: int | None = None
    ) -> Points:
        """Readings with start ≤ t < end; with ``max_points``, min and max of each bucket are kept."""
        ...

    def trend(self, series: Series, *, start_ms: int, end_ms: int, level: Level) -> Trend:
        """Every bucket that overlaps start ≤ t < end, each whole.

        Exact over everything appended so far, late readings too; where readings are gone, their roll-ups stand.
        """
        ...

    def maintain(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Roll up, drop what is past retention but for ``keep``, compact; called each minute by one thread.

        Appending and asking go on meanwhile. Readings that are dropped stay in their roll-ups.
        """
        ...

    def latest(self, station: str | None = None) -> list[Latest]:
        """One row per series, of one station or of all."""
        ...

    def count(self) -> int:
        """All readings ever stored, also those that retention has dropped since."""
        ...

    def close(self) -> None:
        """Release the store; what was appended is durable."""
        ...
