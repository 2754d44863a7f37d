"""What is known of each series without asking: its last reading, and how many it has.

Struct of arrays, one row a series. A series' row also says up to which inbox position it counts (``pos``): a snapshot
that was written in the middle of others is gone on with exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ingest.store.reading_store import Latest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.batch import Batch, Series
    from ingest.store.influx.line_protocol import Rows

NEVER_MS = int(np.iinfo(np.int64).min)


class Known:
    """The series of one store, in the order in which they were first seen."""

    def __init__(self) -> None:
        self.series: list[Series] = []
        self.last_ms = np.zeros(0, np.int64)  # all are (n_series,)
        self.last_v = np.zeros(0)
        self.last_q = np.zeros(0, np.uint8)
        self.count = np.zeros(0, np.int64)
        self.pos = np.zeros(0, np.int64)
        self._ids: dict[Series, int] = {}
        self._numbered: list[Series] = []  # the list that ``_numbers`` is about
        self._numbers = np.zeros(0, np.int32)  # process-wide series number → ours

    def __contains__(self, series: Series) -> bool:
        return series in self._ids

    def number(self, series: Series) -> int | None:
        """Return the place of ``series``, None when it was never seen."""
        return self._ids.get(series)

    def add(self, series: Sequence[Series]) -> None:
        """Give places to those of ``series`` that have none."""
        for one in series:
            if one not in self._ids:
                self._ids[one] = len(self.series)
                self.series.append(one)
        grown = len(self.series) - len(self.count)
        if grown:
            self.last_ms = np.concatenate([self.last_ms, np.full(grown, NEVER_MS, np.int64)])
            self.last_v = np.concatenate([self.last_v, np.full(grown, np.nan)])
            self.last_q = np.concatenate([self.last_q, np.zeros(grown, np.uint8)])
            self.count = np.concatenate([self.count, np.zeros(grown, np.int64)])
            self.pos = np.concatenate([self.pos, np.zeros(grown, np.int64)])

    def numbers(self, batch: Batch) -> NDArray[np.int32]:
        """Return the place of each reading's series, (n,)."""
        if batch.series is not self._numbered:  # another index: its numbers mean other series
            self._numbered, self._numbers = batch.series, np.zeros(0, np.int32)
        new = batch.series[len(self._numbers) :]
        if new:
            self.add(new)
            more = np.array([self._ids[one] for one in new], np.int32)
            self._numbers = np.concatenate([self._numbers, more])
        return self._numbers[batch.series_id]

    def remember(self, rows: Rows) -> None:
        """Count ``rows`` in; those at or before their series' ``pos`` are counted already."""
        new = np.flatnonzero(rows.inbox_pos > self.pos[rows.series])
        if len(new) < len(rows.t_ms):
            rows = rows.take(new)
        series, t_ms = rows.series, rows.t_ms
        np.add.at(self.count, series, 1)
        newest = np.lexsort((np.arange(len(t_ms)), t_ms, series))  # (n,) last of each is newest
        last = newest[np.flatnonzero(np.diff(series[newest], append=-1))]
        last = last[t_ms[last] >= self.last_ms[series[last]]]
        kept = series[last]
        self.last_ms[kept], self.last_v[kept], self.last_q[kept] = (
            t_ms[last],
            rows.v[last],
            rows.q[last],
        )

    def latest(self, station: str | None) -> list[Latest]:
        """Return the last reading of each series that has one."""
        return [
            Latest(series, last_ms, v, q, count)
            for series, last_ms, v, q, count in zip(
                self.series,
                self.last_ms.tolist(),
                self.last_v.tolist(),
                self.last_q.tolist(),
                self.count.tolist(),
                strict=True,
            )
            if count and (station is None or series.station == station)
        ]


def places(
    series: NDArray[np.int32], t_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group rows by (series, t): the first row of each place, the place of each row, its rank there.

    >>> places(np.array([0, 1, 0], np.int32), np.array([5, 5, 5]))
    (array([0, 1]), array([0, 1, 0]), array([0, 0, 1]))
    """
    order = np.lexsort((t_ms, series))  # (n,) equal places side by side, in order of arrival
    changes = (np.diff(series[order]) != 0) | (np.diff(t_ms[order]) != 0)
    first = np.flatnonzero(np.append(True, changes)[: len(order)])
    by_order = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    place, rank = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    place[order] = by_order
    rank[order] = np.arange(len(order)) - first[by_order]
    return order[first], place, rank
