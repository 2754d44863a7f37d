"""Order in time per series, for whole batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 8
"""Batches of less than one in so many series are sorted; in others each reading is put in its series' place."""


@dataclass(frozen=True, slots=True)
class BySeries:
    """Readings of a batch where no series stands twice, from the lowest series to the highest; arrays are (m,)."""

    rows: NDArray[np.intp]  # places in the batch
    ids: NDArray[np.intp]  # series

    @property
    def where(self) -> slice | NDArray[np.intp]:
        """What finds these series in an array of all: a slice when they are neighbours, which is much faster."""
        first, last = (int(self.ids[0]), int(self.ids[-1])) if len(self.ids) else (0, -1)
        return slice(first, last + 1) if last - first == len(self.ids) - 1 else self.ids

    def part(self, some: slice | NDArray[np.bool_]) -> BySeries:
        """Return some of them."""
        return BySeries(self.rows[some], self.ids[some])


def by_series(series: NDArray[np.int32], room: NDArray[np.int32]) -> BySeries | None:
    """Return ``series`` (n,) by number, None when one stands twice; ``room`` (n_series,) is written over.

    >>> by_series(np.array([2, 0, 1], np.int32), np.zeros(3, np.int32)).rows.tolist()
    [1, 2, 0]
    """
    if len(series) * FEW < len(room):
        rows = np.argsort(series, kind="stable")
        ids = series[rows].astype(np.intp)
        return BySeries(rows, ids) if (ids[1:] != ids[:-1]).all() else None
    room.fill(-1)
    room[series.astype(np.intp)] = np.arange(len(series), dtype=np.int32)
    ids = np.flatnonzero(room >= 0)
    if len(ids) < len(series):
        return None
    placed = room if len(ids) == len(room) else room[ids]
    return BySeries(placed.astype(np.intp), ids)


def previous_maxima(
    series: NDArray[np.int32], t: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return, for each row, the largest ``t`` of its series before it: in the batch, or ``last`` (n_series,).

    ``series`` and ``t`` are (n,) in order of arrival; returns (n,).

    >>> previous_maxima(
    ...     np.array([0, 1, 0], np.int32), np.array([5, 9, 3]), np.array([1, 2])
    ... ).tolist()
    [1, 2, 5]
    """
    order = np.argsort(series, kind="stable")  # (n,) by series, then by arrival
    by_series, by_time = series[order], t[order]
    starts = np.diff(by_series, prepend=-1) != 0  # (n,) the first row of each series
    highest = by_time  # as long as times go forward
    if np.any((by_time[1:] < by_time[:-1]) & ~starts[1:]):
        # A running maximum that begins anew with each series: of ranks, which leave room for the series' place.
        times, rank = np.unique(by_time, return_inverse=True)
        offset = (np.cumsum(starts) - 1) * len(times)
        highest = times[np.maximum.accumulate(rank + offset) - offset]
    before = last[by_series]
    before[~starts] = np.maximum(before[~starts], highest[:-1][~starts[1:]])
    result = np.empty_like(before)
    result[order] = before
    return result
