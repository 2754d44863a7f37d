"""Order in time per series, for whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
