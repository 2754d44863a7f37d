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
    before = np.empty_like(by_time)
    starts = np.flatnonzero(np.diff(by_series, prepend=-1))
    ends = np.append(starts[1:], len(order))[: len(starts)]  # of no rows there is no run
    for first, end in zip(starts, ends, strict=True):
        run = np.maximum.accumulate(by_time[first:end])
        before[first] = last[by_series[first]]
        before[first + 1 : end] = np.maximum(run[:-1], before[first])
    result = np.empty_like(before)
    result[order] = before
    return result
