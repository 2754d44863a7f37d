"""The protocol that every store of readings keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ingest.batch import Batch, Series


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
    """The last reading of a series by measured time, and how many it has."""

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

    def latest(self, station: str | None = None) -> list[Latest]:
        """One row per series, of one station or of all."""
        ...

    def count(self) -> int:
        """All readings stored."""
        ...

    def close(self) -> None:
        """Release the store; what was appended is durable."""
        ...
