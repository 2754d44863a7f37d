"""Which hours are not rolled up yet.

An hour of a series is *pending* from the first reading that falls into it until it was rolled up; questions about it
are answered from the readings meanwhile.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ingest.store.influx.influxql import EARLIEST_MS, LATEST_MS
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ingest.store.influx.line_protocol import Rows

HOUR_MS = Level.HOUR.ms
_SERIES, _HOUR, _FIRST, _LAST, _COUNT = range(5)


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of series; every array is (n,). ``hour`` counts since 1970, ``count`` the readings that came."""

    series: NDArray[np.int64]
    hour: NDArray[np.int64]
    first_pos: NDArray[np.int64]
    last_pos: NDArray[np.int64]
    count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.hour)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Hours:
        """Return some of them."""
        return Hours(*(column[rows] for column in self._columns()))

    def key(self) -> NDArray[np.int64]:
        """Return one number for each (series, hour)."""
        return hour_key(self.series, self.hour)

    def _columns(self) -> tuple[NDArray[np.int64], ...]:
        return self.series, self.hour, self.first_pos, self.last_pos, self.count


def hour_key(series: NDArray[np.int64], hour: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for each (series, hour): InfluxDB's times are 5.1 million hours, before 1970 as many."""
    return (series << 24) + hour


class Pending:
    """The hours that are pending; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: list[NDArray[np.int64]] = []  # each (5, n), one row a column of ``Hours``

    def touch(self, rows: Rows) -> None:
        """Note the hours that ``rows`` fall into."""
        inside = (rows.t_ms >= EARLIEST_MS) & (rows.t_ms <= LATEST_MS)
        hour, pos = rows.t_ms[inside] // HOUR_MS, rows.inbox_pos[inside]
        part = np.stack([rows.series[inside].astype(np.int64), hour, pos, pos, np.ones_like(pos)])
        if part.shape[1]:
            with self._lock:
                self._parts.append(_of_each(part))

    def all(self) -> Hours:
        """Return all of them, by series and hour."""
        with self._lock:
            return Hours(*self._merged())

    def of(self, series: int) -> NDArray[np.int64]:
        """Return the pending hours of one series, (n,) in order."""
        with self._lock:
            held = self._merged()
            begin, end = np.searchsorted(held[_SERIES], [series, series + 1])
            return held[_HOUR, begin:end].copy()

    def before(self, t_ms: int) -> bool:
        """Tell whether an hour that begins before ``t_ms`` is pending."""
        with self._lock:
            return bool((self._merged()[_HOUR] * HOUR_MS < t_ms).any())

    def done(self, rolled: Hours, through: int) -> None:
        """Forget ``rolled``, but for those that readings after inbox position ``through`` fell into."""
        with self._lock:
            held = self._merged()
            gone = np.isin(hour_key(held[_SERIES], held[_HOUR]), rolled.key())
            self._parts = [held[:, ~(gone & (held[_LAST] <= through))]]

    def _merged(self) -> NDArray[np.int64]:
        if len(self._parts) > 1:
            self._parts = [_of_each(np.concatenate(self._parts, axis=1))]
        return self._parts[0] if self._parts else np.zeros((5, 0), np.int64)


def _of_each(part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one column for each (series, hour), in order."""
    key = hour_key(part[_SERIES], part[_HOUR])
    order = np.argsort(key, kind="stable")
    part = part[:, order]
    first = np.flatnonzero(np.diff(key[order], prepend=np.iinfo(np.int64).min) != 0)
    return np.stack(
        [
            part[_SERIES, first],
            part[_HOUR, first],
            np.minimum.reduceat(part[_FIRST], first),
            np.maximum.reduceat(part[_LAST], first),
            np.add.reduceat(part[_COUNT], first),
        ]
    )
