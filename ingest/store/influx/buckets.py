"""Buckets of roll-ups: folded from readings, merged, written down; many series at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ingest.batch import FAIL, MISSING, PASS
from ingest.store.influx.line_protocol import series_key
from ingest.store.reading_store import Level, Trend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.store.influx.server import Table

_LARGEST = float(np.finfo(np.float64).max)
READING_COLUMNS = "v, q, inbox_pos"
ReadingRow = tuple[int, float | None, int | None, int | None]
BUCKET_COLUMNS = "minimum, maximum, total, valued, readings, good, through"
BucketRow = tuple[int, float | None, float | None, float, int, int, int, int]


def measurement(level: Level) -> str:
    """Return where a level is kept."""
    return f"reading_{level}"


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Readings of several series in any order; every array is (n,)."""

    series: NDArray[np.int64]
    t_ms: NDArray[np.int64]
    v: NDArray[np.float64]  # NaN when missing
    q: NDArray[np.uint8]
    inbox_pos: NDArray[np.int64]

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Readings:
        """Return some of them."""
        return Readings(
            self.series[rows], self.t_ms[rows], self.v[rows], self.q[rows], self.inbox_pos[rows]
        )


def joined(parts: Sequence[Readings]) -> Readings:
    """Return the readings of all ``parts``."""
    if not parts:
        none = np.zeros(0, np.int64)
        return Readings(none, none, np.zeros(0), np.zeros(0, np.uint8), none)
    return Readings(
        *(np.concatenate([getattr(one, f.name) for one in parts]) for f in fields(Readings))
    )


@dataclass(frozen=True, slots=True)
class Partials:
    """Buckets of several series; every array is (n,). ``valued`` counts the values in ``total``.

    Readings of a bucket up to inbox position ``through`` are in it, later ones are not: so they can be added, once,
    also when the readings that made it are gone.
    """

    series: NDArray[np.int64]
    start_ms: NDArray[np.int64]
    minimum: NDArray[np.float64]  # NaN when there is no value
    maximum: NDArray[np.float64]
    total: NDArray[np.float64]
    valued: NDArray[np.int64]
    count: NDArray[np.int64]
    good: NDArray[np.int64]
    through: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ms)

    def then(self, other: Partials) -> Partials:
        """Return the buckets of both, not merged."""
        return Partials(
            *(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Partials:
        """Return some of the buckets."""
        return Partials(*(getattr(self, f.name)[rows] for f in fields(self)))

    def merged(self, level: Level) -> Partials:
        """Return them by series and time on a grid as coarse or coarser."""
        if not len(self):
            return self
        start_ms = level.floor(self.start_ms)
        order = np.lexsort((start_ms, self.series))
        series, start_ms = self.series[order], start_ms[order]
        new = (np.diff(series, prepend=-1) != 0) | (np.diff(start_ms, prepend=0) != 0)
        new[0] = True
        first = np.flatnonzero(new)
        with np.errstate(over="ignore"):
            total = np.add.reduceat(self.total[order], first)
        return Partials(
            series=series[first],
            start_ms=start_ms[first],
            minimum=np.fmin.reduceat(self.minimum[order], first),
            maximum=np.fmax.reduceat(self.maximum[order], first),
            total=np.clip(total, -_LARGEST, _LARGEST),  # a field cannot hold infinity
            valued=np.add.reduceat(self.valued[order], first),
            count=np.add.reduceat(self.count[order], first),
            good=np.add.reduceat(self.good[order], first),
            through=np.maximum.reduceat(self.through[order], first),
        )

    def with_through(self, through: int) -> Partials:
        """Return them as holding all readings up to ``through``."""
        return replace(self, through=np.full(len(self), through, np.int64))

    def through_at(
        self, series: NDArray[np.int64], start_ms: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return ``through`` of the bucket at each (series, start), 0 where there is none; these are merged."""
        if not len(self):
            return np.zeros(len(series), np.int64)
        by_series = dict(
            zip(
                zip(self.series.tolist(), self.start_ms.tolist(), strict=True),
                self.through.tolist(),
                strict=True,
            )
        )
        # Few places for many rows: each is looked up once.
        order = np.lexsort((start_ms, series))
        new = (np.diff(series[order], prepend=-1) != 0) | (np.diff(start_ms[order], prepend=0) != 0)
        first = np.flatnonzero(new)
        found = [
            by_series.get(place, 0)
            for place in zip(
                series[order][first].tolist(), start_ms[order][first].tolist(), strict=True
            )
        ]
        through = np.empty(len(series), np.int64)
        through[order] = np.repeat(np.array(found, np.int64), np.diff(np.append(first, len(order))))
        return through

    def trend(self) -> Trend:
        """Return what is shown of the buckets of one series."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return Trend(
                start_ms=self.start_ms,
                minimum=self.minimum,
                mean=np.where(self.valued > 0, self.total / self.valued, np.nan),
                maximum=self.maximum,
                count=self.count,
                good=self.good / self.count,
            )


_WHOLE, _REAL = np.zeros(0, np.int64), np.zeros(0)
NONE = Partials(_WHOLE, _WHOLE, _REAL, _REAL, _REAL, _WHOLE, _WHOLE, _WHOLE, _WHOLE)


def fold(readings: Readings, level: Level) -> Partials:
    """Return the buckets of ``readings``; ``through`` is the place of the last one in each."""
    usable = ~np.isnan(readings.v) & (readings.q != FAIL) & (readings.q != MISSING)
    value = np.where(usable, readings.v, np.nan)
    return Partials(
        series=readings.series,
        start_ms=readings.t_ms,
        minimum=value,
        maximum=value,
        total=np.where(usable, readings.v, 0.0),
        valued=usable.astype(np.int64),
        count=np.ones(len(value), np.int64),
        good=(readings.q == PASS).astype(np.int64),
        through=readings.inbox_pos,
    ).merged(level)


def added(stored: Partials, readings: Readings, level: Level) -> Partials:
    """Return ``stored`` and, merged into it, those ``readings`` that it does not hold yet."""
    through = stored.through_at(readings.series, level.floor(readings.t_ms))
    return stored.then(fold(readings.where(readings.inbox_pos > through), level)).merged(level)


def read_readings(
    tables: Sequence[Table[ReadingRow]], numbers: NDArray[np.int64], through: int
) -> Readings:
    """Return the rows of ``tables``, of which the series have ``numbers``, at or before ``through``."""
    series, (t_ms, v, q, pos) = _columns(tables, numbers, 4)
    at = np.array([through + 1 if one is None else one for one in pos], np.int64)
    return Readings(
        series,
        np.array(t_ms, np.int64),
        np.array(v, np.float64),
        np.array([0 if one is None else one for one in q], np.uint8),
        at,
    ).where(at <= through)


def read_buckets(tables: Sequence[Table[BucketRow]], numbers: NDArray[np.int64]) -> Partials:
    """Return the rows of ``tables``, of which the series have ``numbers``, by series and time."""
    series, columns = _columns(tables, numbers, 8)
    start_ms, minimum, maximum, total, valued, count, good, through = columns
    found = Partials(
        series,
        np.array(start_ms, np.int64),
        np.array(minimum, np.float64),
        np.array(maximum, np.float64),
        np.array(total, np.float64),
        np.array(valued, np.int64),
        np.array(count, np.int64),
        np.array(good, np.int64),
        np.array(through, np.int64),
    )
    order = np.lexsort((found.start_ms, found.series))
    return Partials(*(getattr(found, f.name)[order] for f in fields(found)))


def _columns(
    tables: Sequence[Table[Any]], numbers: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    rows = [row for table in tables for row in table.rows]
    series = np.repeat(numbers, [len(table.rows) for table in tables]).astype(np.int64)
    return series, list(zip(*rows, strict=True)) or [()] * width


def encode(level: Level, found: Partials, name: Callable[[int], Series]) -> list[bytes]:
    """Return the buckets as lines."""
    lines = []
    for rows, with_value in ((found.valued > 0, True), (found.valued == 0, False)):
        some = found.where(rows)
        if not len(some):
            continue
        numbers, which = np.unique(some.series, return_inverse=True)
        heads = [f"{series_key(measurement(level), name(n))} ".encode() for n in numbers.tolist()]
        columns = [
            [heads[n] for n in which.tolist()],
            _field(b"good=", some.good, b"i,"),
            _field(b"readings=", some.count, b"i,"),
            _field(b"through=", some.through, b"i,"),
            _field(b"total=", some.total, b","),
            _field(b"valued=", some.valued, b"i"),
        ]
        if with_value:
            columns += [
                _field(b",maximum=", some.maximum, b""),
                _field(b",minimum=", some.minimum, b""),
            ]
        columns.append(_field(b" ", some.start_ms, b"\n"))
        lines += [b"".join(line) for line in zip(*columns, strict=True)]
    return lines


def _field(before: bytes, values: NDArray[np.generic], after: bytes) -> list[bytes]:
    between = after + b"\0" + before
    text = msgspec.json.encode(values.tolist())[1:-1].replace(b",", between)
    return (before + text + after).split(b"\0")
