"""Readings in an InfluxDB: points that may be written again, then the cursor.

``agrigate_store`` holds one point, at time 0: whose life this is and how far it has come. It is read before each write:
a server that was emptied, restored or exchanged does not say what was written last, and is filled from the inbox again
(``ReplacedError``). What is known of each series without asking is kept in memory, and once a minute in
``agrigate_series``; after a start the packs behind that come again from the inbox and are counted, not written.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog
from ulid import ULID

from ingest.batch import Fault, Series
from ingest.store.downsample import keep_extremes
from ingest.store.influx.buckets import measurement
from ingest.store.influx.errors import (
    InfluxError,
    RefusedError,
    RejectedError,
    ReplacedError,
    TooLargeError,
)
from ingest.store.influx.influxql import (
    EARLIEST_MS,
    LATEST_MS,
    between,
    either,
    literal,
    name,
    where,
)
from ingest.store.influx.known import Known, places
from ingest.store.influx.line_protocol import (
    MEASUREMENT,
    LineProtocol,
    Rows,
    float_field,
    series_key,
)
from ingest.store.influx.marker import NEVER_MS, Marker, read_marker
from ingest.store.influx.pending import HOUR_MS, Pending
from ingest.store.influx.rollups import Job, Keeping, Rollups, blocks, series_of
from ingest.store.levels import Retention
from ingest.store.reading_store import Kept, Level, Points, Trend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Batch
    from ingest.store.influx.server import InfluxServer
    from ingest.store.reading_store import Latest

log = structlog.get_logger()

LINES = 10_000  # a request: what the server's makers advise
LINES_FEW = 2_500  # fewer are not worth a request
LINES_MIN = 1
REQUESTS = 3  # of one batch at a time: while one is on its way the next is encoded
SERIES_MEASUREMENT = "agrigate_series"
_ASK_GAP_MS = 6 * 3_600_000  # places nearer to each other are asked for together
_ASK_SERIES = 20
_ANY_HOUR = 2**62
_NOTHING_MS = -(2**62)
_CLOSE_S = 2.0  # for what the next start would have to read from the inbox again
_RECENT_MS = 15 * 60_000
OUTSIDE = "time outside 1677 … 2262, which InfluxDB cannot hold"


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some of a batch's readings and where they stand in it."""

    where: NDArray[np.int64]
    rows: Rows


class InfluxStore:
    """Implements ``ReadingStore``; ``rejected`` is told of readings that the server will never take.

    Everything but ``latest`` and ``count`` raises InfluxError while the server does not do it.
    """

    def __init__(
        self,
        server: InfluxServer,
        *,
        rejected: Callable[[Sequence[Fault]], None],
        retention: Retention | None = None,
    ) -> None:
        self._server = server
        self._retention = retention or Retention()
        self._rollups = Rollups(server)
        self._pending = Pending()
        self._keeping = Keeping()
        self._swept: dict[str, int] = {}  # measurement → before which time nothing is left
        self._deleting_ms = _NOTHING_MS  # readings before it are being deleted
        self._deleted = threading.Event()
        self._rejected = rejected
        self._requests = ThreadPoolExecutor(REQUESTS, thread_name_prefix="influx-write")
        self._writing = threading.Lock()  # held over requests: who asks must not wait for it
        self._lock = threading.Lock()  # over what is in memory
        self._known = Known()
        self._lines = LineProtocol()
        self._marker: Marker | None = None  # what the server last said or was last told
        self._sent: Marker | None = None  # told, without an answer
        self._cursor = 0  # up to here all is counted in ``_known``
        self._snapshot_count = np.zeros(0, np.int64)  # of each series, as last written
        self._most_lines = LINES

    # ---- writing

    def cursor(self) -> int:
        """Inbox position from which packs are wanted: up to here they are written and counted."""
        with self._writing:
            self._open()
            return self._cursor

    def append(self, batch: Batch) -> None:
        """Write the readings of ``batch`` behind the cursor, then the cursor."""
        with self._writing:
            marker = self._joined()
            if batch.cursor <= self._cursor:
                return
            self._count_in(self._rows(batch, self._cursor, marker.inbox_pos).rows)
            self._cursor = min(batch.cursor, marker.inbox_pos)
            if batch.cursor <= marker.inbox_pos:
                return
            fresh = self._rows(batch, marker.inbox_pos, batch.cursor)
            while (fresh.rows.t_ms < self._deleting_ms).any():
                self._deleted.wait(1)  # else they were deleted before they are rolled up
            self._number_duplicates(fresh.rows, marker.inbox_pos)
            refused = self._write(fresh.rows)
            if refused:
                self._rejected([self._fault(batch, fresh, row, why) for row, why in refused])
            self._tell(marker.at(batch.cursor))
            stored = np.ones(len(fresh.rows.t_ms), np.bool_)
            stored[[row for row, _ in refused]] = False
            self._count_in(fresh.rows.take(np.flatnonzero(stored)))
            self._cursor = batch.cursor

    def _count_in(self, rows: Rows) -> None:
        with self._lock:
            self._known.remember(rows)
        self._pending.touch(rows)

    def _open(self) -> Marker:
        """Find out where the server stands, once; give an empty one a life."""
        if self._marker is not None:
            return self._marker
        marker = read_marker(self._server)
        if marker is None:
            marker = Marker(life=str(ULID()), inbox_pos=0, counted_pos=0)
            self._write_own(marker.line())
            log.info("store_begun", server=self._server.login.place, life=marker.life)
        known = self._load_series()
        with self._lock:
            self._known, self._snapshot_count = known, known.count.copy()
            self._pending = Pending()
        self._lines = LineProtocol()
        self._cursor = marker.counted_pos
        self._marker, self._sent = marker, None
        return marker

    def _joined(self) -> Marker:
        """Return the marker when the server still holds what was written; raise ReplacedError otherwise."""
        marker = self._open()
        found = read_marker(self._server)
        if found == marker:
            return marker
        if found is not None and found == self._sent:  # it was told, only its answer was lost
            self._marker = found
            return found
        self._marker = None
        at = self._open().inbox_pos
        log.warning("store_replaced", server=self._server.login.place, was=marker.inbox_pos, at=at)
        raise ReplacedError(
            f"{self._server.login.place}: another, emptied or restored server: it holds packs up to"
            f" {at}, {marker.inbox_pos} were written; filled again from the inbox"
        )

    def _tell(self, marker: Marker) -> None:
        self._sent = marker
        self._write_own(marker.line())
        self._marker, self._sent = marker, None

    def _write_own(self, lines: bytes) -> None:
        """Write what can only be rejected for the bucket's own sake."""
        try:
            self._server.write(lines)
        except RejectedError as exc:
            raise self._refusal(exc) from exc

    def _refusal(self, exc: RejectedError) -> RefusedError:
        """Return what a person has to do so that lines are taken again."""
        if "retention policy" in exc.reason:
            todo = "let the bucket keep for ever: [retention] drops what is old"
        else:
            todo = (
                f"another program has written {MEASUREMENT!r} with other types: give agrigate a bucket of its own,"
                " or drop that measurement"
            )
        return RefusedError(f"{self._server.login.place}: {exc.reason}; {todo}")

    def _rows(self, batch: Batch, after: int, through: int) -> _Chosen:
        """Return the readings with after < position ≤ through; ``dup`` is 0."""
        chosen = np.flatnonzero((batch.inbox_pos > after) & (batch.inbox_pos <= through))
        with self._lock:
            series = self._known.numbers(batch)[chosen]
        self._lines.know(self._known.series[len(self._lines) :])
        return _Chosen(
            chosen,
            Rows(
                series=series,
                t_ms=batch.t_ms[chosen],
                v=batch.v[chosen],
                q=batch.q[chosen],
                flags=batch.flags[chosen],
                received_ms=batch.received_ms[chosen],
                inbox_pos=batch.inbox_pos[chosen],
                dup=np.zeros(len(chosen), np.int32),
            ),
        )

    def _number_duplicates(self, rows: Rows, through: int) -> None:
        """Set ``dup``: 0 for the first value at its (series, t), one more than the last for each that follows.

        Only what stands at or before the cursor counts, so that a batch written in part comes out the same again.
        """
        first, place, rank = places(rows.series, rows.t_ms)
        begin = np.zeros(len(first), np.int64)
        old = np.flatnonzero(rows.t_ms[first] <= self._known.last_ms[rows.series[first]])
        if len(old):
            begin[old] = self._next_dups(rows.series[first[old]], rows.t_ms[first[old]], through)
        rows.dup[:] = rank + begin[place]

    def _next_dups(
        self, series: NDArray[np.int32], t_ms: NDArray[np.int64], through: int
    ) -> NDArray[np.int64]:
        """Return the next free ``dup`` at each place, (n,)."""
        station_of: dict[str, int] = {}
        stations = np.array(
            [station_of.setdefault(one.station, len(station_of)) for one in self._known.series]
        )[series]
        order = np.lexsort((t_ms, stations))
        breaks = (np.diff(stations[order]) != 0) | (np.diff(t_ms[order]) > _ASK_GAP_MS)
        free = np.zeros(len(series), np.int64)
        for run in np.split(order, np.flatnonzero(breaks) + 1):
            stored = self._stored_dups(series[run], t_ms[run], through)
            keys = zip(series[run].tolist(), t_ms[run].tolist(), strict=True)
            free[run] = [stored.get(key, -1) + 1 for key in keys]
        return free

    def _stored_dups(
        self, series: NDArray[np.int32], t_ms: NDArray[np.int64], through: int
    ) -> dict[tuple[int, int], int]:
        """Return the largest ``dup`` of each place of one station within the span of ``t_ms``."""
        numbers = np.unique(series).tolist()
        wanted = [self._known.series[number] for number in numbers]
        which = (
            either(wanted)
            if len(wanted) <= _ASK_SERIES
            else f"station = {literal(wanted[0].station)}"
        )
        span = between(max(int(t_ms.min()), EARLIEST_MS), int(t_ms.max()) + 1)
        found = self._server.ask(
            f"SELECT inbox_pos FROM {name(MEASUREMENT)} WHERE {which} AND {span}"  # noqa: S608 - names from a list, escaped values
            " GROUP BY station, device, indicator, dup",
            tuple[int, int],
        )
        highest: dict[tuple[int, int], int] = {}
        for table in found:
            number = self._known.number(series_of(table.tags))
            if number is None:
                continue
            dup = int(table.tags.get("dup") or 0)
            for at_ms, pos in table.rows:
                if pos <= through:
                    key = (number, at_ms)
                    highest[key] = max(highest.get(key, dup), dup)
        return highest

    def _write(self, rows: Rows) -> list[tuple[int, str]]:
        """Write ``rows`` and return those that the server will never take, each with the reason."""
        inside = (rows.t_ms >= EARLIEST_MS) & (rows.t_ms <= LATEST_MS)
        refused = [(row, OUTSIDE) for row in np.flatnonzero(~inside).tolist()]
        todo = np.flatnonzero(inside)
        size = min(self._most_lines, max(LINES_FEW, -(-len(todo) // REQUESTS)))
        parts = [todo[begin : begin + size] for begin in range(0, len(todo), size)]
        sent = [(part, self._requests.submit(self._send, rows, part)) for part in parts]
        wait([one for _, one in sent])  # nothing is under way any more when one of them raises
        for part, one in sent:
            try:
                one.result()
            except (TooLargeError, RejectedError):
                refused += self._write_slowly(rows, part)
        return refused

    def _send(self, rows: Rows, part: NDArray[np.int64]) -> None:
        self._server.write(self._lines.encode(rows.take(part)))

    def _write_slowly(self, rows: Rows, todo: NDArray[np.int64]) -> list[tuple[int, str]]:
        """Write rows of which not all are taken, or not at once; return those that never will be."""
        refused = []
        begin = 0
        while begin < len(todo):
            part = todo[begin : begin + self._most_lines]
            try:
                self._send(rows, part)
            except TooLargeError as exc:
                if len(part) <= LINES_MIN:
                    raise RefusedError(
                        f"{exc}; not even one line: raise the server's limit"
                    ) from exc
                self._most_lines = max(len(part) // 2, LINES_MIN)
                log.info("store_sends_less", lines=self._most_lines)
                continue
            except RejectedError as exc:
                bad = self._search(rows, part, exc)
                if len(bad) == len(part):
                    self._check_alive(rows, part, exc)
                refused += bad
            begin += len(part)
        return refused

    def _search(
        self, rows: Rows, part: NDArray[np.int64], exc: RejectedError
    ) -> list[tuple[int, str]]:
        """Halve what was rejected until the lines stand alone that are; all others are written."""
        if len(part) == 1:
            return [(int(part[0]), exc.reason)]
        bad = []
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            try:
                self._send(rows, half)
            except RejectedError as again:
                bad += self._search(rows, half, again)
        return bad

    def _check_alive(self, rows: Rows, todo: NDArray[np.int64], exc: RejectedError) -> None:
        """Raise when nothing of today is taken any more: that is the server's fault, and no reading's."""
        fresh = rows.t_ms[todo] > rows.received_ms[todo] - _RECENT_MS
        if (exc.is_type_conflict and fresh.any()) or "retention policy" in exc.reason:
            raise self._refusal(exc) from exc

    def _fault(self, batch: Batch, chosen: _Chosen, row: int, why: str) -> Fault:
        at = int(chosen.where[row])
        line = self._lines.encode(chosen.rows.take(np.array([row]))).decode().strip()
        return Fault(
            batch.packs[int(batch.pack_index[at])],
            int(batch.position[at]),
            "store",
            f"InfluxDB: {why}: {line}",
        )

    # ---- what is kept of the series

    def _load_series(self) -> Known:
        found = self._server.ask(
            f"SELECT last_ms, q, readings, pos, v FROM {name(SERIES_MEASUREMENT)}"  # noqa: S608 - a name from a list
            " GROUP BY station, device, indicator",
            tuple[int, int, int, int, int, float | None],
        )
        known = Known()
        known.add([series_of(table.tags) for table in found])
        for number, table in enumerate(found):
            _, last_ms, q, count, pos, v = table.rows[-1]
            known.last_ms[number], known.last_q[number] = last_ms, q
            known.last_v[number] = np.nan if v is None else v
            known.count[number], known.pos[number] = count, pos
        return known

    def _save_series(self, counted_pos: int) -> None:
        """Write down what is known of the series that changed, then up to where all is counted and rolled up."""
        with self._writing:
            marker, pos, known = self._marker, self._cursor, self._known
            if marker is None:
                return
            saved = np.zeros(len(known.count), np.int64)
            saved[: len(self._snapshot_count)] = self._snapshot_count
            count = known.count.copy()
            changed = np.flatnonzero(count != saved)
            columns = [
                column[changed].tolist()
                for column in (known.last_ms, known.last_q, known.count, known.last_v)
            ]
        names = [known.series[number] for number in changed.tolist()]
        lines = [
            _series_line(one, pos, *row)
            for one, row in zip(names, zip(*columns, strict=True), strict=True)
        ]
        for begin in range(0, len(lines), LINES):
            self._write_own(b"".join(lines[begin : begin + LINES]))
        with self._writing:
            if self._marker is None or self._marker.life != marker.life:
                return
            self._snapshot_count = count
            if counted_pos > self._marker.counted_pos:
                self._tell(self._marker.counted(min(counted_pos, pos)))

    # ---- roll-ups

    def maintain(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Roll up hours that have ended, note what is known, drop what is past retention but for ``keep``."""
        if self._marker is None:
            return
        self._keeping = _keeping(self._retention, now_ms)
        today_ms = Level.DAY.floor(now_ms)
        with self._writing:
            if self._marker.summed_ms == NEVER_MS:
                self._tell(self._marker.summed(today_ms))
        counted_pos = self._roll_up(now_ms // HOUR_MS)
        self._sum_days(today_ms)
        self._save_series(counted_pos)
        self._drop_old(now_ms, keep)

    def _roll_up(self, before_hour: int, *, within_s: float = math.inf) -> int:
        """Roll up pending hours before ``before_hour``; return up to which position none is left."""
        with self._writing:
            marker, cursor = self._marker, self._cursor
            known, pending = self._known, self._pending
        if marker is None:
            return 0
        until_s = time.monotonic() + within_s
        held = pending.all()
        ready = held.take(held.hour < before_hour)
        if len(ready):
            readings, lost_pos = pending.readings(before_hour)
            job = Job(marker.inbox_pos, known.series, self._keeping, marker.summed_ms)
            for block in blocks(ready, known.series):
                if time.monotonic() > until_s:
                    break
                there = readings if int(block.hours.first_pos.min()) > lost_pos else None
                self._rollups.roll(block, job, there)
                pending.done(block.hours, marker.inbox_pos)
            pending.forget()
        left = pending.all().first_pos
        return min(cursor, int(left.min()) - 1) if len(left) else cursor

    def _sum_days(self, today_ms: int) -> None:
        """Sum up the hours of days that have ended since it was done last."""
        with self._writing:
            marker, known, pending = self._marker, self._known, self._pending
            if marker is None or marker.summed_ms >= today_ms or pending.before(today_ms):
                return
            series = list(known.series)
        job = Job(marker.inbox_pos, series, self._keeping, marker.summed_ms)
        for day_ms in range(marker.summed_ms, today_ms, Level.DAY.ms):
            self._rollups.sum_day(day_ms, job)
        with self._writing:
            if self._marker is not None and self._marker.life == marker.life:
                self._tell(self._marker.summed(today_ms))

    def _drop_old(self, now_ms: int, keep: Sequence[Kept]) -> None:
        """Delete what is past retention, once a day; stations under evidence stay whole for its time."""
        levels: list[tuple[Level | None, str]] = [(None, MEASUREMENT)]
        levels += [(level, measurement(level)) for level in Level]
        for level, kept_in in levels:
            end_ms = self._retention.start_ms(level, now_ms)
            if end_ms is None or end_ms == self._swept.get(kept_in):
                continue
            if level is None and not self._begin_deleting(end_ms):
                continue
            try:
                for condition in _droppable(end_ms, keep if level is None else ()):
                    self._server.ask(
                        f"DELETE FROM {name(kept_in)} WHERE {condition}",  # noqa: S608 - names from a list
                        tuple[()],
                    )
            except RefusedError as exc:  # 3 Core cannot delete
                log.warning("retention_not_kept", measurement=kept_in, error=str(exc))
            finally:
                self._deleting_ms = _NOTHING_MS
                self._deleted.set()
            self._swept[kept_in] = end_ms

    def _begin_deleting(self, end_ms: int) -> bool:
        """Tell whether all before ``end_ms`` is rolled up; readings so old that come now wait until it is deleted."""
        with self._writing:
            if self._marker is None or self._pending.before(end_ms):
                return False
            self._deleted.clear()
            self._deleting_ms = end_ms
            return True

    def trend(self, series: Series, *, start_ms: int, end_ms: int, level: Level) -> Trend:
        """Every bucket that overlaps start ≤ t < end, each whole; pending hours from the readings."""
        marker = self._told()
        start_ms = max(level.floor(start_ms), level.floor(EARLIEST_MS) + level.ms)
        end_ms = min(level.floor(end_ms - 1) + level.ms, LATEST_MS)
        found = self._rollups.trend(
            series,
            level,
            (start_ms, end_ms),
            self._pending_hours(series),
            through=marker.inbox_pos,
            summed_ms=marker.summed_ms,
        )
        inside = (found.start_ms >= start_ms) & (found.start_ms < end_ms)
        return found.where(inside).trend()

    def _pending_hours(self, series: Series) -> NDArray[np.int64]:
        """Return the hours of ``series`` that are not rolled up, (n,)."""
        number = self._known.number(series)
        return np.zeros(0, np.int64) if number is None else self._pending.of(number)

    # ---- reading

    def _told(self) -> Marker:
        """Return how far the server was filled; open the store when nobody has."""
        marker = self._marker
        if marker is None:
            with self._writing:
                marker = self._open()
        return marker

    def query(
        self, series: Series, *, start_ms: int, end_ms: int, max_points: int | None = None
    ) -> Points:
        """Readings with start ≤ t < end in time order, down-sampled when there are more than ``max_points``."""
        through = self._told().inbox_pos
        found = self._server.ask(
            f"SELECT v, q, flags, received_ms, inbox_pos, dup FROM {name(MEASUREMENT)}"  # noqa: S608 - the same
            f" WHERE {where(series)} AND {between(start_ms, end_ms)}",
            tuple[int, float | None, int | None, int | None, int | None, int | None, str | None],
        )
        points = _points([row for table in found for row in table.rows], through)
        if max_points is None or points.total <= max_points:
            return points
        keep = keep_extremes(points.t_ms, points.v, points.q, max_points)
        return Points(
            t_ms=points.t_ms[keep],
            v=points.v[keep],
            q=points.q[keep],
            flags=points.flags[keep],
            received_ms=points.received_ms[keep],
            inbox_pos=points.inbox_pos[keep],
            dup=points.dup[keep],
            total=points.total,
        )

    def latest(self, station: str | None = None) -> list[Latest]:
        """One row per series, of one station or of all; from memory once the server has answered."""
        self._told()
        with self._lock:
            return self._known.latest(station)

    def count(self) -> int:
        """All readings ever stored; 0 before the server has answered."""
        with self._lock:
            return int(self._known.count.sum())

    def close(self) -> None:
        """Close the connections; what was appended is on the server."""
        with contextlib.suppress(InfluxError):  # it only saves the next start some work
            if self._marker is not None:
                self._save_series(self._roll_up(_ANY_HOUR, within_s=_CLOSE_S))
        self._requests.shutdown()
        self._server.close()


def _keeping(retention: Retention, now_ms: int) -> Keeping:
    hours, days = (retention.start_ms(level, now_ms) for level in (Level.HOUR, Level.DAY))
    readings, minutes = retention.readings_days, retention.minute_days
    return Keeping(
        hours_ms=EARLIEST_MS if hours is None else hours,
        days_ms=EARLIEST_MS if days is None else days,
        minutes=bool(readings) and (minutes == 0 or minutes > readings),
    )


def _series_line(series: Series, pos: int, last_ms: int, q: int, count: int, v: float) -> bytes:
    value = "" if np.isnan(v) else f",v={float_field(v)}"
    return (
        f"{series_key(SERIES_MEASUREMENT, series)} last_ms={last_ms}i,pos={pos}i,q={q}i,readings={count}i{value} 0\n"
    ).encode()


def _droppable(end_ms: int, keep: Sequence[Kept]) -> Iterator[str]:
    """Yield conditions that together pick all before ``end_ms`` but the stations and times of ``keep``."""
    held = [one for one in keep if one.start_ms < end_ms]
    edges = sorted(
        {
            EARLIEST_MS,
            end_ms,
            *(one.start_ms for one in held),
            *(min(one.end_ms, end_ms) for one in held),
        }
    )
    for start, end in itertools.pairwise(edges):
        stations = sorted({k.series.station for k in held if k.start_ms < end and k.end_ms > start})
        yield " AND ".join(
            [between(start, end), *(f"station != {literal(one)}" for one in stations)]
        )


_Row = tuple[
    int, "float | None", "int | None", "int | None", "int | None", "int | None", "str | None"
]


def _points(rows: Sequence[_Row], through: int) -> Points:
    """Return the columns of ``rows`` in time order, without those of a write that has not ended."""
    columns = list(zip(*rows, strict=True)) or [()] * 7
    pos = _whole(columns[5], through + 1)
    dup = np.array([int(one or 0) for one in columns[6]], np.int32)
    t_ms = np.array(columns[0], np.int64)
    order = np.lexsort((dup, t_ms))
    order = order[pos[order] <= through]
    return Points(
        t_ms=t_ms[order],
        v=np.array(columns[1], np.float64)[order],
        q=_whole(columns[2]).astype(np.uint8)[order],
        flags=_whole(columns[3]).astype(np.uint32)[order],
        received_ms=_whole(columns[4])[order],
        inbox_pos=pos[order],
        dup=dup[order],
        total=len(order),
    )


def _whole(column: Sequence[object], absent: int = 0) -> NDArray[np.int64]:
    """Return a column of integers, (n,); a field that a reader came too early for is ``absent``."""
    if None in column:
        column = [absent if one is None else one for one in column]
    return np.array(column, np.int64)
