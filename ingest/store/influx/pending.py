"""Which hours are not rolled up yet.

An hour of a series is *pending* from the first reading that falls into it until it was rolled up; questions about it
are answered from the readings meanwhile. So that rolling up need not ask for them, its readings are kept in memory, as
long as there are not too many.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ingest.store.influx.buckets import Readings, joined
from ingest.store.influx.influxql import EARLIEST_MS, LATEST_MS
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ingest.store.influx.line_protocol import Rows

HOUR_MS = Level.HOUR.ms
READINGS_MOST = 2_000_000  # in memory, 33 bytes each
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
        self._readings: list[Readings] = []
        self._readings_count = 0
        self._lost_pos = -1  # readings up to here are no longer in memory

    def touch(self, rows: Rows) -> None:
        """Note the hours that ``rows`` fall into."""
        inside = (rows.t_ms >= EARLIEST_MS) & (rows.t_ms <= LATEST_MS)
        hour, pos = rows.t_ms[inside] // HOUR_MS, rows.inbox_pos[inside]
        series = rows.series[inside].astype(np.int64)
        part = np.stack([series, hour, pos, pos, np.ones_like(pos)])
        if not len(series):
            return
        with self._lock:
            self._parts.append(_of_each(part))
            self._readings.append(
                Readings(series, rows.t_ms[inside], rows.v[inside], rows.q[inside], pos)
            )
            self._readings_count += len(series)
            if self._readings_count > READINGS_MOST:
                self._lost_pos = max(int(one.inbox_pos.max()) for one in self._readings)
                self._readings, self._readings_count = [], 0

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
            return bool((self._merged()[_HOUR] < -(-t_ms // HOUR_MS)).any())

    def readings(self, before_hour: int) -> tuple[Readings, int]:
        """Return readings of hours before that one, by series and hour, and up to which position some are missing."""
        with self._lock:
            parts, lost_pos = list(self._readings), self._lost_pos
        every = joined(parts)
        every = every.where(every.t_ms < before_hour * HOUR_MS)
        order = np.argsort(hour_key(every.series, every.t_ms // HOUR_MS), kind="stable")
        return every.where(order), lost_pos

    def forget(self) -> None:
        """Forget the readings of hours that are pending no more."""
        with self._lock:
            parts = self._readings
            held = self._merged()
            pending = hour_key(held[_SERIES], held[_HOUR])
        every = joined(parts)
        every = every.where(np.isin(hour_key(every.series, every.t_ms // HOUR_MS), pending))
        with self._lock:
            if self._readings[: len(parts)] == parts:
                self._readings[: len(parts)] = [every]
                self._readings_count = sum(len(one.t_ms) for one in self._readings)

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
