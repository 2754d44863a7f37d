"""Roll-ups in InfluxDB: hours that have ended are folded from their readings, days that have ended from their hours.

A bucket says up to which inbox position it holds its readings (``through``). So a late reading is added to it once,
however often that is tried and whether or not the readings that made it are still there. Minutes are written only when
they are to outlive the readings; else they are folded when somebody asks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ingest.batch import Series
from ingest.store.influx.buckets import (
    BUCKET_COLUMNS,
    NONE,
    READING_COLUMNS,
    BucketRow,
    Partials,
    ReadingRow,
    Readings,
    added,
    encode,
    joined,
    measurement,
    read_buckets,
    read_readings,
)
from ingest.store.influx.influxql import EARLIEST_MS, between, either, literal, name, where
from ingest.store.influx.line_protocol import MEASUREMENT
from ingest.store.influx.pending import HOUR_MS, Hours, hour_key
from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ingest.store.influx.server import InfluxServer, Row, Table

READINGS = 30_000  # about as many are asked for at a time: a small answer is decoded in a few ms
STATIONS = 20
_EACH = 20  # series named one by one
_LINES = 5_000
_TOGETHER_HOURS = 12  # hours nearer to each other are asked for together
_DAY_SUMS = (
    "min(minimum), max(maximum), sum(total), sum(valued), sum(readings), sum(good), max(through)"
)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Before which times what may be gone."""

    hours_ms: int = EARLIEST_MS
    days_ms: int = EARLIEST_MS
    minutes: bool = False
    """Whether minutes outlive the readings."""


@dataclass(frozen=True, slots=True)
class Job:
    """What rolling up is about: ``series`` names numbers, days before ``summed_ms`` are summed up already."""

    through: int
    series: Sequence[Series]
    keeping: Keeping
    summed_ms: int


@dataclass(frozen=True, slots=True)
class Block:
    """Pending hours of some stations on one day of China."""

    day_ms: int
    hours: Hours


class Rollups:
    """Writes and reads the three levels on one server."""

    def __init__(self, server: InfluxServer) -> None:
        self._server = server

    # ---- rolling up

    def roll(self, block: Block, job: Job, readings: Readings | None) -> None:
        """Bring a block's hours up to the inbox position of ``job``, and their day when it is summed up already.

        ``readings`` are those of its hours and of others, by series and hour; None to ask for them.
        """
        number = {job.series[n]: n for n in np.unique(block.hours.series).tolist()}
        new = np.zeros(len(job.series), np.int64)  # readings added to each
        for piece in _pieces(block.hours):
            names = [job.series[n] for n in np.unique(piece.series).tolist()]
            span = (int(piece.hour.min()) * HOUR_MS, (int(piece.hour.max()) + 1) * HOUR_MS)
            wanted = np.unique(piece.key())
            stored = self._stored(_any_of(names), Level.HOUR, *span, number)
            stored = stored.where(np.isin(_hours_of(stored.series, stored.start_ms), wanted))
            if job.keeping.minutes:  # all that is there may be wanted
                found = self._readings(_any_of(names), *span, number, (0, job.through))
                found = found.where(np.isin(_hours_of(found.series, found.t_ms), wanted))
            elif readings is None:
                held = int(stored.through_at(piece.series, piece.hour * HOUR_MS).min())
                found = self._readings(_any_of(names), *span, number, (held, job.through))
                found = found.where(np.isin(_hours_of(found.series, found.t_ms), wanted))
            else:
                found = _slices(readings, wanted)
                found = found.where(found.inbox_pos <= job.through)
            hours = added(stored, found, Level.HOUR)
            np.add.at(new, hours.series, hours.count)
            np.subtract.at(new, stored.series, stored.count)
            if job.keeping.minutes:
                minutes = self._stored(_any_of(names), Level.MINUTE, *span, number)
                of_wanted = np.isin(_hours_of(minutes.series, minutes.start_ms), wanted)
                minutes = added(minutes.where(of_wanted), found, Level.MINUTE)
                self._write(Level.MINUTE, minutes.with_through(job.through), job.series)
            if block.day_ms >= job.keeping.hours_ms:
                self._write(Level.HOUR, hours.with_through(job.through), job.series)
        if job.keeping.days_ms <= block.day_ms < job.summed_ms:
            self._roll_day(block.day_ms, job, number, new)

    def sum_day(self, day_ms: int, job: Job) -> None:
        """Sum up the hours of a day that has ended, of all series of ``job``."""
        if day_ms < job.keeping.days_ms:
            return
        new = np.zeros(len(job.series), np.int64)
        ordered = sorted(range(len(job.series)), key=lambda n: job.series[n].station)
        for _, some in itertools.groupby(ordered, key=lambda n: job.series[n].station):
            self._roll_day(day_ms, job, {job.series[n]: n for n in some}, new)

    def _roll_day(
        self, day_ms: int, job: Job, number: Mapping[Series, int], new: NDArray[np.int64]
    ) -> None:
        """Sum the hours of a day; where some are gone, add what is new to the day that stands."""
        end_ms = day_ms + Level.DAY.ms
        stored = self._stored(_any_of(number), Level.DAY, day_ms, end_ms, number)
        tables = self._ask(_DAY_SUMS, Level.HOUR, _any_of(number), day_ms, end_ms, BucketRow)
        sums = read_buckets(*_known(tables, number))  # one each
        sums = replace(sums, start_ms=np.full(len(sums), day_ms, np.int64))
        had = np.zeros(len(job.series), np.int64)
        had[stored.series] = stored.count
        summed = np.zeros(len(job.series), np.int64)
        summed[sums.series] = sums.count
        gone = (day_ms < job.keeping.hours_ms) | (summed - new < had)
        left = [one for one, n in number.items() if gone[n]]
        days = sums.where(~gone[sums.series])
        if left:
            old = stored.where(gone[stored.series])
            held = int(old.through.min()) if len(old) == len(left) else 0
            found = self._readings(_any_of(left), day_ms, end_ms, number, (held, job.through))
            days = days.then(added(old, found.where(gone[found.series]), Level.DAY))
        self._write(Level.DAY, days.with_through(job.through), job.series)

    def _write(self, level: Level, found: Partials, series: Sequence[Series]) -> None:
        for begin in range(0, len(found), _LINES):
            part = found.where(np.arange(begin, min(begin + _LINES, len(found))))
            self._server.write(b"".join(encode(level, part, series.__getitem__)))

    # ---- asking

    def trend(
        self,
        series: Series,
        level: Level,
        span: tuple[int, int],
        hours: NDArray[np.int64],
        *,
        through: int,
        summed_ms: int,
    ) -> Partials:
        """Return the buckets of one series that begin in ``span``; ``hours`` are its pending ones.

        Days from ``summed_ms`` on are summed up now.
        """
        start_ms, end_ms = span
        number = {series: 0}
        if level is Level.MINUTE:
            stored = self._stored(where(series), level, start_ms, end_ms, number)
            readings = self._readings(where(series), start_ms, end_ms, number, (0, through))
            return added(stored, readings, level)
        hours = hours[(hours * HOUR_MS < end_ms) & ((hours + 1) * HOUR_MS > start_ms)]
        stored = self._stored(where(series), level, start_ms, end_ms, number)
        if level is Level.HOUR:
            return added(stored, self._of_hours(series, hours, through), level)
        if not len(hours) and end_ms <= summed_ms:
            return stored
        return self._pending_days(
            series, stored, hours, through, (max(start_ms, summed_ms), end_ms)
        )

    def _pending_days(
        self,
        series: Series,
        stored: Partials,
        hours: NDArray[np.int64],
        through: int,
        unsummed: tuple[int, int],
    ) -> Partials:
        """Return the days with ``hours`` put in: from their hours, or where these are gone added to what stands."""
        number = {series: 0}
        days = np.unique(Level.DAY.floor(hours * HOUR_MS))
        spans = [
            (begin * HOUR_MS, end * HOUR_MS + Level.DAY.ms - HOUR_MS)
            for begin, end in _runs(days[days < unsummed[0]] // HOUR_MS, _TOGETHER_HOURS + 24)
        ]
        if unsummed[0] < unsummed[1]:
            spans.append(unsummed)
        by_hour = NONE
        for span in spans:
            by_hour = by_hour.then(self._stored(where(series), Level.HOUR, *span, number))
        day_of = Level.DAY.floor(by_hour.start_ms)
        by_hour = by_hour.where(np.isin(day_of, days) | (day_of >= unsummed[0]))
        summed = by_hour.merged(Level.DAY)
        held = dict(zip(summed.start_ms.tolist(), summed.count.tolist(), strict=True))
        counts = zip(stored.start_ms.tolist(), stored.count.tolist(), strict=True)
        gone = np.array([count > held.get(day, 0) for day, count in counts], np.bool_)
        gone &= np.isin(stored.start_ms, days) | (stored.start_ms >= unsummed[0])
        old = NONE
        for day_ms in stored.start_ms[gone].tolist():
            span = (day_ms, day_ms + Level.DAY.ms)
            found = self._readings(where(series), *span, number, (0, through))
            old = old.then(added(stored.where(stored.start_ms == day_ms), found, Level.DAY))
        fresh = added(by_hour, self._of_hours(series, hours, through), Level.HOUR)
        fresh = fresh.merged(Level.DAY)
        fresh = fresh.where(~np.isin(fresh.start_ms, old.start_ms))
        rest = stored.where(~np.isin(stored.start_ms, [*fresh.start_ms, *old.start_ms]))
        return rest.then(fresh).then(old).merged(Level.DAY)

    def _of_hours(self, series: Series, hours: NDArray[np.int64], through: int) -> Readings:
        """Return the readings of hours of one series, and of some between them."""
        found: list[Readings] = []
        for begin, end in _runs(hours, _TOGETHER_HOURS):
            span = (begin * HOUR_MS, end * HOUR_MS)
            found.append(self._readings(where(series), *span, {series: 0}, (0, through)))
        many = joined(found)
        return many.where(np.isin(many.t_ms // HOUR_MS, hours))

    def _readings(
        self,
        condition: str,
        start_ms: int,
        end_ms: int,
        number: Mapping[Series, int],
        behind: tuple[int, int],
    ) -> Readings:
        """Return readings with positions after the first and up to the second of ``behind``."""
        after, through = behind
        if after:
            condition = f"{condition} AND inbox_pos > {after}"
        tables: list[Table[ReadingRow]] = self._server.ask(
            f"SELECT {READING_COLUMNS} FROM {name(MEASUREMENT)} WHERE {condition}"  # noqa: S608 - escaped
            f" AND {between(start_ms, end_ms)} GROUP BY station, device, indicator",
            ReadingRow,
        )
        return read_readings(*_known(tables, number), through)

    def _stored(
        self,
        condition: str,
        level: Level,
        start_ms: int,
        end_ms: int,
        number: Mapping[Series, int],
    ) -> Partials:
        tables = self._ask(BUCKET_COLUMNS, level, condition, start_ms, end_ms, BucketRow)
        return read_buckets(*_known(tables, number))

    def _ask(
        self, columns: str, level: Level, condition: str, start_ms: int, end_ms: int, row: object
    ) -> list[Table[BucketRow]]:
        return self._server.ask(
            f"SELECT {columns} FROM {name(measurement(level))}"  # noqa: S608 - escaped
            f" WHERE {condition} AND {between(start_ms, end_ms)} GROUP BY station, device, indicator",
            row,
        )


def blocks(hours: Hours, series: Sequence[Series]) -> Iterator[Block]:
    """Yield ``hours`` in parts that are rolled up at once, oldest days first."""
    if not len(hours):
        return
    stations: dict[str, int] = {}
    numbers, which = np.unique(hours.series, return_inverse=True)
    of_number = [stations.setdefault(series[n].station, len(stations)) for n in numbers.tolist()]
    station = np.array(of_number, np.int64)[which]
    day = Level.DAY.floor(hours.hour * HOUR_MS)
    order = np.lexsort((hours.hour, station, day))
    hours, station, day = hours.take(order), station[order], day[order]
    first = np.flatnonzero((np.diff(station, prepend=-1) != 0) | (np.diff(day, prepend=0) != 0))
    size = np.add.reduceat(hours.count, first).tolist()
    ends = [*first[1:].tolist(), len(hours)]
    begin, held, count = 0, 0, 0
    for at, end, more in zip(first.tolist(), ends, size, strict=True):
        full = held == STATIONS or count + more > READINGS or day[at] != day[begin]
        if held and full:
            yield Block(int(day[begin]), hours.take(np.arange(begin, at)))
            begin, held, count = at, 0, 0
        held, count = held + 1, count + more
        if end == len(hours):
            yield Block(int(day[begin]), hours.take(np.arange(begin, end)))


def _pieces(hours: Hours) -> Iterator[Hours]:
    """Yield a block's hours in parts of about READINGS."""
    if int(hours.count.sum()) <= 2 * READINGS:
        yield hours
        return
    hours = hours.take(np.lexsort((hours.series, hours.hour)))
    part = (np.cumsum(hours.count) - hours.count) // READINGS
    for number in np.unique(part).tolist():
        yield hours.take(part == number)


def _runs(numbers: NDArray[np.int64], gap: int) -> Iterator[tuple[int, int]]:
    """Yield (first, behind the last) of ordered numbers that are nearer to each other than ``gap``."""
    if not len(numbers):
        return
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) >= gap) + 1):
        yield int(run[0]), int(run[-1]) + 1


def _hours_of(series: NDArray[np.int64], t_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return hour_key(series, t_ms // HOUR_MS)


def _slices(readings: Readings, keys: NDArray[np.int64]) -> Readings:
    """Return those of ``readings``, which are by series and hour, that are of hours with ``keys``."""
    key = _hours_of(readings.series, readings.t_ms)
    begin, end = np.searchsorted(key, keys), np.searchsorted(key, keys, side="right")
    return readings.where(
        np.concatenate([np.arange(a, b) for a, b in zip(begin, end, strict=True)])
    )


def _any_of(series: Mapping[Series, int] | Sequence[Series]) -> str:
    """Return a condition that picks ``series``, and of stations with many of them others too."""
    if len(series) <= _EACH:
        return either(series)
    stations = sorted({one.station for one in series})
    return "(" + " OR ".join(f"station = {literal(one)}" for one in stations) + ")"


def _known(
    tables: list[Table[Row]], number: Mapping[Series, int]
) -> tuple[list[Table[Row]], NDArray[np.int64]]:
    """Return those of ``tables`` whose series have a number, and the numbers."""
    found = [(table, number.get(series_of(table.tags))) for table in tables]
    return [table for table, n in found if n is not None], np.array(
        [n for _, n in found if n is not None], np.int64
    )


def series_of(tags: Mapping[str, str]) -> Series:
    """Return the series that an answer's tags name."""
    return Series(tags["station"], tags["device"], tags["indicator"])
