"""Roll-ups in InfluxDB: hours that readings fell into are computed again from the readings themselves.

So late readings and repeats need no book-keeping: what stands there is overwritten. An hour is *pending* from the first
reading that falls into it until it was rolled up; a question about it is answered from the readings meanwhile.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import FAIL, MISSING, PASS, Series
from ingest.store.influx.influxql import EARLIEST_MS, LATEST_MS, between, literal, name, where
from ingest.store.influx.line_protocol import MEASUREMENT, float_field, tag_value
from ingest.store.reading_store import Level, Trend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.store.influx.line_protocol import Rows
    from ingest.store.influx.server import InfluxServer, Table

HOUR_MS = Level.HOUR.ms
STATIONS = 20  # asked for together
_LINES = 10_000
_LARGEST = float(np.finfo(np.float64).max)
_Reading = tuple[int, float | None, int | None, int | None]
_Bucket = tuple[int, float | None, float | None, float, int, int, int]


def measurement(level: Level) -> str:
    """Return where a level is kept."""
    return f"reading_{level}"


@dataclass(frozen=True, slots=True)
class Partials:
    """Buckets of one series in time order; every array is (n,). ``valued`` counts the values in ``total``."""

    start_ms: NDArray[np.int64]
    minimum: NDArray[np.float64]  # NaN when there is no value
    maximum: NDArray[np.float64]
    total: NDArray[np.float64]
    valued: NDArray[np.int64]
    count: NDArray[np.int64]
    good: NDArray[np.int64]

    def then(self, other: Partials) -> Partials:
        """Return the buckets of both, not merged."""
        return Partials(
            *(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )

    def where(self, rows: NDArray[np.bool_]) -> Partials:
        """Return some of the buckets."""
        return Partials(*(getattr(self, f.name)[rows] for f in fields(self)))

    def merged(self, level: Level) -> Partials:
        """Return them on a grid as coarse or coarser."""
        order = np.argsort(self.start_ms, kind="stable")
        start_ms, first = np.unique(level.floor(self.start_ms[order]), return_index=True)
        if not len(first):
            return self
        with np.errstate(over="ignore"):
            total = np.add.reduceat(self.total[order], first)
        return Partials(
            start_ms=start_ms,
            minimum=np.fmin.reduceat(self.minimum[order], first),
            maximum=np.fmax.reduceat(self.maximum[order], first),
            total=np.clip(total, -_LARGEST, _LARGEST),  # a field cannot hold infinity
            valued=np.add.reduceat(self.valued[order], first),
            count=np.add.reduceat(self.count[order], first),
            good=np.add.reduceat(self.good[order], first),
        )

    def trend(self) -> Trend:
        """Return what is shown of them."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return Trend(
                start_ms=self.start_ms,
                minimum=self.minimum,
                mean=np.where(self.valued > 0, self.total / self.valued, np.nan),
                maximum=self.maximum,
                count=self.count,
                good=self.good / self.count,
            )


def of_readings(
    t_ms: NDArray[np.int64], v: NDArray[np.float64], q: NDArray[np.uint8], level: Level
) -> Partials:
    """Return the buckets of readings in any order; all arrays are (n,), ``v`` NaN when missing."""
    usable = ~np.isnan(v) & (q != FAIL) & (q != MISSING)
    value = np.where(usable, v, np.nan)
    each = Partials(
        start_ms=t_ms,
        minimum=value,
        maximum=value,
        total=np.where(usable, v, 0.0),
        valued=usable.astype(np.int64),
        count=np.ones(len(v), np.int64),
        good=(q == PASS).astype(np.int64),
    )
    return each.merged(level)


class Pending:
    """Hours not yet rolled up, and since which inbox position; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: list[NDArray[np.int64]] = []  # each (3, n): series, hour, first position

    def touch(self, rows: Rows) -> None:
        """Note the hours that ``rows`` fall into."""
        inside = (rows.t_ms >= EARLIEST_MS) & (rows.t_ms <= LATEST_MS)
        hour = rows.t_ms[inside] // HOUR_MS
        part = np.stack([rows.series[inside].astype(np.int64), hour, rows.inbox_pos[inside]])
        if part.shape[1]:
            with self._lock:
                self._parts.append(_first_of_each(part))

    def all(self) -> NDArray[np.int64]:
        """Return series, hour number and first position of each, (3, n)."""
        with self._lock:
            if len(self._parts) > 1:
                self._parts = [_first_of_each(np.concatenate(self._parts, axis=1))]
            return self._parts[0] if self._parts else np.zeros((3, 0), np.int64)

    def of(self, series: int) -> NDArray[np.int64]:
        """Return the pending hours of one series, (n,) hour numbers."""
        held = self.all()
        hours: NDArray[np.int64] = held[1][held[0] == series]
        return hours

    def done(self, held: NDArray[np.int64], rolled: NDArray[np.bool_]) -> None:
        """Forget those of ``held`` that were rolled up, unless readings have come since."""
        with self._lock:
            later = self._parts[1:] if self._parts and self._parts[0] is held else self._parts
            self._parts = [held[:, ~rolled], *later]


def _first_of_each(part: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.lexsort((part[2], part[1], part[0]))
    ordered = part[:, order]
    new = (np.diff(ordered[0], prepend=-1) != 0) | (np.diff(ordered[1], prepend=-(2**62)) != 0)
    return ordered[:, new]


class Rollups:
    """Writes and reads the three levels on one server."""

    def __init__(self, server: InfluxServer) -> None:
        self._server = server

    def readings(
        self, condition: str, start_ms: int, end_ms: int, through: int
    ) -> Iterator[tuple[dict[str, str], Partials]]:
        """Yield the minutes of each series that ``condition`` picks, from readings at or before ``through``."""
        found: list[Table[_Reading]] = self._server.ask(
            f"SELECT v, q, inbox_pos FROM {name(MEASUREMENT)} WHERE {condition}"  # noqa: S608 - escaped
            f" AND {between(start_ms, end_ms)} GROUP BY station, device, indicator",
            _Reading,
        )
        for table in found:
            rows = [row for row in table.rows if row[3] is not None and row[3] <= through]
            if rows:
                t_ms, v, q, _ = zip(*rows, strict=True)
                yield (
                    dict(table.tags),
                    of_readings(
                        np.array(t_ms, np.int64),
                        np.array(v, np.float64),
                        np.array(q, np.uint8),
                        Level.MINUTE,
                    ),
                )

    def stored(self, series: Series, level: Level, start_ms: int, end_ms: int) -> Partials:
        """Return what stands in a level of one series."""
        for _, found in self._stored(where(series), level, start_ms, end_ms):
            return found
        return _of_rows([])

    def _stored(
        self, condition: str, level: Level, start_ms: int, end_ms: int
    ) -> Iterator[tuple[dict[str, str], Partials]]:
        found: list[Table[_Bucket]] = self._server.ask(
            f"SELECT minimum, maximum, total, valued, readings, good FROM {name(measurement(level))}"  # noqa: S608
            f" WHERE {condition} AND {between(start_ms, end_ms)} GROUP BY station, device, indicator",
            _Bucket,
        )
        return ((dict(table.tags), _of_rows(table.rows)) for table in found)

    def write(self, level: Level, buckets: Sequence[tuple[Series, Partials]]) -> None:
        """Write buckets over what stands there."""
        lines = [line for series, found in buckets for line in _lines(level, series, found)]
        for begin in range(0, len(lines), _LINES):
            self._server.write("".join(lines[begin : begin + _LINES]).encode())

    def roll(self, hour: int, series: Sequence[Series], through: int) -> None:
        """Compute one hour of ``series`` again, and the day that it is part of."""
        start_ms = hour * HOUR_MS
        day_ms = Level.DAY.floor(start_ms)
        wanted = set(series)
        stations = sorted({one.station for one in series})
        for begin in range(0, len(stations), STATIONS):
            some = " OR ".join(
                f"station = {literal(one)}" for one in stations[begin : begin + STATIONS]
            )
            found = self.readings(f"({some})", start_ms, start_ms + HOUR_MS, through)
            minutes = [(one, rows) for tags, rows in found if (one := series_of(tags)) in wanted]
            self.write(Level.MINUTE, minutes)
            self.write(Level.HOUR, [(one, rows.merged(Level.HOUR)) for one, rows in minutes])
            hours = self._stored(f"({some})", Level.HOUR, day_ms, day_ms + Level.DAY.ms)
            self.write(
                Level.DAY,
                [
                    (one, rows.merged(Level.DAY))
                    for tags, rows in hours
                    if (one := series_of(tags)) in wanted
                ],
            )


def series_of(tags: Mapping[str, str]) -> Series:
    """Return the series that an answer's tags name."""
    return Series(tags["station"], tags["device"], tags["indicator"])


def _of_rows(rows: Sequence[_Bucket]) -> Partials:
    columns: Sequence[Sequence[object]] = list(zip(*rows, strict=True)) or [()] * 7
    start, minimum, maximum, total, valued, count, good = columns
    return Partials(
        np.array(start, np.int64),
        np.array(minimum, np.float64),
        np.array(maximum, np.float64),
        np.array(total, np.float64),
        np.array(valued, np.int64),
        np.array(count, np.int64),
        np.array(good, np.int64),
    )


def _lines(level: Level, series: Series, found: Partials) -> Iterator[str]:
    head = (
        f"{measurement(level)},device={tag_value(series.device)},indicator={tag_value(series.indicator)},"
        f"station={tag_value(series.station)} "
    )
    for start, low, high, total, valued, count, good in zip(
        *(getattr(found, f.name).tolist() for f in fields(found)), strict=True
    ):
        values = ""
        if valued:
            values = f"maximum={float_field(high)},minimum={float_field(low)},"
        yield (
            f"{head}good={good}i,{values}readings={count}i,total={float_field(total)},valued={valued}i {start}\n"
        )
