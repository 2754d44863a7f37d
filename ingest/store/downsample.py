"""Fewer points for a screen, none of the extremes lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import PASS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def keep_extremes(
    t_ms: NDArray[np.int64], v: NDArray[np.float64], q: NDArray[np.uint8], max_points: int
) -> NDArray[np.int64]:
    """Return the indices to keep of points in time order: minimum, maximum and one flagged point per bucket.

    All arrays are (n,); at most ``max_points`` (≥ 3) indices come back, in order.
    """
    if len(t_ms) <= max_points:
        return np.arange(len(t_ms))
    buckets = max_points // 3
    span = int(t_ms[-1] - t_ms[0]) + 1
    bucket = (t_ms - t_ms[0]) * buckets // span  # (n,) 0 … buckets−1
    low = np.where(np.isnan(v), np.inf, v)
    high = np.where(np.isnan(v), -np.inf, v)
    flagged = np.where(q == PASS, 0, q)
    smallest = _first_of_each(bucket, low)
    largest = _first_of_each(bucket, -high)
    worst = _first_of_each(bucket, -flagged.astype(np.int16))
    worst = worst[flagged[worst] > 0]
    return np.unique(np.concatenate([smallest, largest, worst]))


def _first_of_each(bucket: NDArray[np.int64], key: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the index of the smallest ``key`` in each bucket; both (n,), the earliest wins."""
    order = np.lexsort((key, bucket))
    return order[np.flatnonzero(np.diff(bucket[order], prepend=-1))]
