"""All that an InfluxDB holds, asked for in pieces, and one that is filled from another store.

``agrigate_copy`` holds one point, at time 0: of which source how many pieces are written. Until all is, the marker says
that the copy is unfinished, and a server does not use it.
"""

# ruff: noqa: S608 - names from a list, escaped texts, whole numbers

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ingest.store.duckdb_parts import month_end, month_of
from ingest.store.influx.buckets import (
    BUCKET_COLUMNS,
    BucketRow,
    Partials,
    Readings,
    added,
    encode,
    measurement,
    read_buckets,
)
from ingest.store.influx.errors import (
    RefusedError,
    RejectedError,
    TooLargeError,
    UnavailableError,
)
from ingest.store.influx.influxql import EARLIEST_MS, LATEST_MS, between, literal, name
from ingest.store.influx.line_protocol import (
    MEASUREMENT,
    LineProtocol,
    Rows,
    float_field,
    string_field,
    tag_value,
)
from ingest.store.influx.marker import (
    MARKER_MEASUREMENT,
    SCHEMA_VERSION,
    UNFINISHED,
    Marker,
    read_marker,
)
from ingest.store.influx.rollups import series_of
from ingest.store.influx.server import InfluxServer, Table
from ingest.store.reading_store import Latest, Level
from ingest.store.stock import (
    BUCKET_TYPES,
    READING_TYPES,
    Columns,
    Piece,
    Wanted,
    joined,
    span,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.store.copying import Done

COPY_MEASUREMENT = "agrigate_copy"
PIECE_ROWS = 50_000  # an answer is JSON, and in memory as such
STATIONS_MOST = 50  # asked for together
LINES = 10_000
PATIENCE_S = 120.0
_SERIES_MEASUREMENT = "agrigate_series"
_DAY_MS = 86_400_000
_LARGEST = float(np.finfo(np.float64).max)
_BY_SERIES = "GROUP BY station, device, indicator"
_Answer = TypeVar("_Answer")


class PatientServer(InfluxServer):
    """An InfluxServer that, once it has answered, is given two minutes to answer again."""

    _has_answered = False

    def write(self, lines: bytes) -> None:
        """Write line protocol; raise InfluxError when it was not all stored."""
        self._patiently(lambda: super(PatientServer, self).write(lines))

    def ask(self, statement: str, row: object) -> list[Table[Any]]:
        """Run one statement and return its series."""
        return self._patiently(lambda: super(PatientServer, self).ask(statement, row))

    def _patiently(self, call: Callable[[], _Answer]) -> _Answer:
        until_s = time.monotonic() + PATIENCE_S
        for tried in itertools.count():
            try:
                answer = call()
            except UnavailableError as exc:
                wait_s = max(min(0.5 * 2**tried, 15.0), exc.retry_after_s)
                if not self._has_answered or time.monotonic() + wait_s > until_s:
                    raise
                time.sleep(wait_s)
            else:
                self._has_answered = True
                return answer
        raise AssertionError  # it counts for ever


class InfluxStock:
    """Implements ``Stock``; rows behind ``through`` belong to a write that has not ended, and are left out.

    Everything raises InfluxError while the server does not answer.
    """

    def __init__(
        self, server: InfluxServer, wanted: Wanted | None = None, *, marker: Marker | None = None
    ) -> None:
        self._server = server
        self._wanted = wanted or Wanted()
        self._through = 2**62  # of one that is being filled all counts
        if marker is None:
            marker = read_marker(server)
            if marker is None:
                raise RefusedError(f"{server.login.place}: holds no readings of agrigate")
            self._through = marker.inbox_pos
        self.marker = marker
        self.series: list[Series] = []
        self._numbers: dict[Series, int] = {}
        self._chosen = "".join(
            f" AND ({' OR '.join(f'{tag} = {literal(one)}' for one in names)})"
            for tag, names in (
                ("station", self._wanted.stations),
                ("device", self._wanted.devices),
                ("indicator", self._wanted.indicators),
            )
            if names
        )

    @property
    def place(self) -> str:
        """Address and bucket."""
        return self._server.login.place

    @property
    def cursor(self) -> int:
        """Inbox position of the last pack stored."""
        return self.marker.inbox_pos

    @property
    def mark(self) -> str:
        """What its marker says."""
        return f"{self.marker.life} {self.marker.inbox_pos} {self.marker.counted_pos}"

    def count(self, level: Level | None = None) -> int:
        """Rows that will come, and those of a write that has not ended."""
        within = between(*_held(self._wanted.start_ms, self._wanted.end_ms))
        found = self._server.ask(
            f"SELECT count({_counted(level)}) FROM {_kept_in(level)} WHERE {within}{self._chosen}",
            tuple[int, int],
        )
        return sum(row[1] for table in found for row in table.rows)

    def latest(self) -> list[Latest]:
        """The last reading of each series, and how many it ever had, as of the last stop."""
        found = self._server.ask(
            f"SELECT last_ms, q, readings, v FROM {name(_SERIES_MEASUREMENT)} {_BY_SERIES}",
            tuple[int, int, int, int, float | None],
        )
        return [
            Latest(series_of(table.tags), last_ms, np.nan if v is None else v, q, count)
            for table in found
            for _, last_ms, q, count, v in table.rows[-1:]
        ]

    def months(self, level: Level | None) -> list[int]:
        """All months from the first row to the last."""
        within = between(*_held(self._wanted.start_ms, self._wanted.end_ms))
        ends: list[int] = []
        kept_in = (None, level) if level is Level.MINUTE else (level,)
        for order, one in itertools.product(("ASC", "DESC"), kept_in):
            found = self._server.ask(
                f"SELECT {_counted(one)} FROM {_kept_in(one)} WHERE {within}{self._chosen}"
                f" ORDER BY time {order} LIMIT 1",
                tuple[int, int],
            )
            ends += [row[0] for table in found for row in table.rows]
        months: list[int] = []
        month = month_of(min(ends)) if ends else 0
        while ends and month <= max(ends):
            months.append(month)
            month = month_end(month)
        return months

    def pieces(self, level: Level | None, month_ms: int) -> Iterator[Piece]:
        """The pieces of a month: several small stations, or some time of a large one."""
        start, end = _held(*span(month_ms, self._wanted))
        if start >= end:
            return
        within = f"{between(start, end)}{self._chosen}"
        counts: dict[str, int] = {}
        for table in self._counts(level, f"{within} GROUP BY station"):
            station = table.tags["station"]
            counts[station] = counts.get(station, 0) + table.rows[0][1]
        some: list[str] = []
        held = 0
        for station, n in sorted(counts.items()):
            which = f"station = {literal(station)}"
            if n > PIECE_ROWS:
                for window in self._windows(level, f"{within} AND {which}", start, end):
                    yield Piece(level, month_ms, f"{window} AND {which}{self._chosen}")
                continue
            if some and (held + n > PIECE_ROWS or len(some) == STATIONS_MOST):
                yield Piece(level, month_ms, f"{within} AND ({' OR '.join(some)})")
                some, held = [], 0
            some.append(which)
            held += n
        if some:
            yield Piece(level, month_ms, f"{within} AND ({' OR '.join(some)})")

    def _counts(self, level: Level | None, where: str) -> list[Table[tuple[int, int]]]:
        """Return how many rows there are, of which a level is made."""
        found: list[Table[tuple[int, int]]] = []
        for one in (None, level) if level is Level.MINUTE else (level,):
            found += self._server.ask(
                f"SELECT count({_counted(one)}) FROM {_kept_in(one)} WHERE {where}", tuple[int, int]
            )
        return found

    def _windows(self, level: Level | None, where: str, start: int, end: int) -> Iterator[str]:
        counts: dict[int, int] = {}
        for table in self._counts(level, f"{where} GROUP BY time(1d) fill(none)"):
            for day, n in table.rows:
                counts[day] = counts.get(day, 0) + n
        begin, held = start, 0
        for day, n in sorted(counts.items()):
            first, behind = max(day, start), min(day + _DAY_MS, end)
            if held and held + n > PIECE_ROWS:
                yield between(begin, first)
                begin, held = first, 0
            held += n
            if n > PIECE_ROWS:  # no minute is cut
                edges = np.linspace(first, behind, n // PIECE_ROWS + 2).astype(np.int64)
                edges[1:-1] -= edges[1:-1] % 60_000
                edges[0] = begin
                yield from (between(low, high) for low, high in itertools.pairwise(edges.tolist()))
                begin, held = behind, 0
        if held:
            yield between(begin, end)

    def read(self, piece: Piece) -> Columns:
        """The rows of a piece."""
        if piece.level is not None:
            return self._read_buckets(piece, piece.level)
        found = self._server.ask(
            f"SELECT v, q, flags, received_ms, inbox_pos FROM {name(MEASUREMENT)} WHERE {piece.where}"
            f" {_BY_SERIES}, dup",
            tuple[int, float | None, int | None, int | None, int | None, int | None],
        )
        parts: list[Columns] = []
        for table in found:
            t_ms, v, q, flags, received_ms, pos = zip(*table.rows, strict=True)
            parts.append(
                {
                    "series": self._number(table, len(t_ms)),
                    "t_ms": np.array(t_ms, np.int64),
                    "v": np.array(v, np.float64),
                    "q": _whole(q),
                    "flags": _whole(flags),
                    "received_ms": _whole(received_ms),
                    "inbox_pos": _whole(pos),
                    "dup": np.full(len(t_ms), int(table.tags.get("dup") or 0)),
                }
            )
        columns = joined(parts, READING_TYPES)
        return take(columns, np.flatnonzero(columns["inbox_pos"] <= self._through))

    def _read_buckets(self, piece: Piece, level: Level) -> Columns:
        found = self._server.ask(
            f"SELECT {BUCKET_COLUMNS} FROM {_kept_in(level)} WHERE {piece.where} {_BY_SERIES}",
            BucketRow,
        )
        numbers = np.array([self._number(table, 1)[0] for table in found], np.int64)
        buckets = read_buckets(found, numbers)
        if level is Level.MINUTE:  # few are written down: they are folded from the readings
            rows = self.read(Piece(None, piece.month_ms, piece.where))
            readings = Readings(
                rows["series"].astype(np.int64),
                rows["t_ms"],
                rows["v"],
                rows["q"],
                rows["inbox_pos"],
            )
            buckets = added(buckets, readings, level)
        columns = {
            "series": buckets.series,
            "t_ms": buckets.start_ms,
            "low": buckets.minimum,
            "high": buckets.maximum,
            "total": buckets.total,
            "valued": buckets.valued,
            "n": buckets.count,
            "good": buckets.good,
        }
        return joined([columns], BUCKET_TYPES)

    def _number(self, table: Table[Any], n: int) -> NDArray[np.int32]:
        series = series_of(table.tags)
        number = self._numbers.setdefault(series, len(self.series))
        if number == len(self.series):
            self.series.append(series)
        return np.full(n, number, np.int32)

    def close(self) -> None:
        """Nothing to let go of: the connections belong to who made them."""


class NewInflux:
    """Implements ``copying.Target``; ``life`` is the same for all copies from one data directory."""

    def __init__(self, server: InfluxServer, life: str, *, keeps_minutes: bool) -> None:
        self._keeps_minutes = keeps_minutes
        self._server = server
        self._life = life
        self._mark = ""
        self._cursor = 0
        self._most_lines = LINES
        self._lines = LineProtocol()

    @property
    def place(self) -> str:
        """Address and bucket."""
        return self._server.login.place

    @property
    def levels(self) -> Sequence[Level | None]:
        """Readings, hours, days; minutes only when they are to outlive the readings they can be folded from."""
        minutes = (Level.MINUTE,) if self._keeps_minutes else ()
        return (None, *minutes, Level.HOUR, Level.DAY)

    def begin(self, mark: str, cursor: int) -> tuple[int, int]:
        """Return how many pieces, and readings, of the same source are written already.

        Raises RefusedError when what is there is not a copy from here.
        """
        self._mark, self._cursor = mark, cursor
        place = self.place
        found = [
            row
            for table in self._server.ask(
                f"SELECT life, inbox_pos, schema_version FROM {name(MARKER_MEASUREMENT)}",
                tuple[int, str, int, int],
            )
            for row in table.rows
        ]
        if not found:
            there = self._server.ask(f"SELECT * FROM {name(MEASUREMENT)} LIMIT 1", list[object])
            if there:
                raise RefusedError(
                    f"{place}: not empty: another program wrote {MEASUREMENT!r} there; give agrigate one of its own"
                )
        for _, life, inbox_pos, version in found:
            if life != self._life or version not in {UNFINISHED, SCHEMA_VERSION}:
                raise RefusedError(
                    f"{place}: not empty, and no copy from here: it holds another server's packs up to"
                    f" {inbox_pos}; give this one an empty database"
                )
            if version != UNFINISHED and inbox_pos > cursor:
                raise RefusedError(
                    f"{place}: was copied, and the server has gone on there: packs up to {inbox_pos}, here up to"
                    f" {cursor}; nothing to copy"
                )
        self._send([Marker(self._life, 0, 0).line(UNFINISHED)])
        for table in self._server.ask(
            f"SELECT source, pieces, readings FROM {name(COPY_MEASUREMENT)}",
            tuple[int, str, int, int],
        ):
            for _, source, pieces, readings in table.rows:
                if found and source == mark:
                    return pieces, readings
        return 0, 0

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Which rows InfluxDB can hold: from 1677 to 2262, finite; (n,)."""
        t_ms = columns["t_ms"]
        held: NDArray[np.bool_] = (t_ms >= EARLIEST_MS) & (t_ms <= LATEST_MS)
        for field in ("v", "low", "high"):
            if field in columns:
                held &= ~np.isinf(columns[field])
        return held

    def put(
        self, level: Level | None, series: Sequence[Series], columns: Columns, done: Done
    ) -> None:
        """Write rows, then how far that is; what is written twice are the same points."""
        self._lines.know(series[len(self._lines) :])
        if level is None:
            # Rows of a pack share their fields: side by side they are encoded once.
            rows = Rows(**take(columns, np.argsort(columns["inbox_pos"], kind="stable")))
            for begin in range(0, len(rows.t_ms), LINES):
                some = rows.take(np.arange(begin, min(begin + LINES, len(rows.t_ms))))
                self._send(self._lines.lines(some))
        else:
            found = Partials(
                series=columns["series"].astype(np.int64),
                start_ms=columns["t_ms"],
                minimum=columns["low"],
                maximum=columns["high"],
                total=np.clip(columns["total"], -_LARGEST, _LARGEST),
                valued=columns["valued"],
                count=columns["n"],
                good=columns["good"],
                through=np.full(len(columns["n"]), self._cursor, np.int64),
            )
            lines = encode(level, found, series.__getitem__)
            for begin in range(0, len(lines), LINES):
                self._send(lines[begin : begin + LINES])
        self._note(done)

    def _note(self, done: Done) -> None:
        self._send(
            [
                f"{COPY_MEASUREMENT} pieces={done.pieces}i,readings={done.readings}i,"
                f"source={string_field(self._mark)} 0\n".encode()
            ]
        )

    def _send(self, lines: list[bytes]) -> None:
        begin = 0
        while begin < len(lines):
            some = lines[begin : begin + self._most_lines]
            try:
                self._server.write(b"".join(some))
            except TooLargeError as exc:
                if len(some) == 1:
                    raise RefusedError(
                        f"{exc}; not even one line: raise the server's limit"
                    ) from exc
                self._most_lines = len(some) // 2
                continue
            except RejectedError as exc:
                line = self._rejected(some).decode().strip()
                todo = (
                    "let the bucket keep for ever"
                    if "retention policy" in exc.reason
                    else "give agrigate a database of its own"
                )
                raise RefusedError(f"{self.place}: {exc.reason}: {line}; {todo}") from exc
            begin += len(some)

    def _rejected(self, lines: list[bytes]) -> bytes:
        """Return a line that is not taken."""
        while len(lines) > 1:
            half = lines[: len(lines) // 2]
            try:
                self._server.write(b"".join(half))
            except RejectedError:
                lines = half
            else:
                lines = lines[len(half) :]
        return lines[0]

    def seal(self, cursor: int, latest: Sequence[Latest]) -> None:
        """Write the last reading of each series."""
        self._send(
            [
                (
                    f"{_SERIES_MEASUREMENT},device={tag_value(one.series.device)},"
                    f"indicator={tag_value(one.series.indicator)},station={tag_value(one.series.station)}"
                    f" last_ms={one.t_ms}i,pos={cursor}i,q={one.q}i,readings={one.count}i"
                    f"{'' if np.isnan(one.v) else f',v={float_field(one.v)}'} 0\n"
                ).encode()
                for one in latest
            ]
        )

    def stock(self) -> InfluxStock:
        """What is there now."""
        return InfluxStock(self._server, marker=Marker(self._life, self._cursor, self._cursor))

    def reset(self) -> None:
        """Have the next copy begin anew."""
        self._mark = "-"
        self._send([f'{COPY_MEASUREMENT} pieces=0i,readings=0i,source="-" 0\n'.encode()])

    def publish(self) -> None:
        """Have it count: the server may be started."""
        self._send([Marker(self._life, self._cursor, self._cursor).line()])


def _kept_in(level: Level | None) -> str:
    return name(MEASUREMENT if level is None else measurement(level))


def _counted(level: Level | None) -> str:
    """Return a field that every row has."""
    return "inbox_pos" if level is None else "readings"


def _held(start_ms: int, end_ms: int) -> tuple[int, int]:
    return max(start_ms, EARLIEST_MS), min(end_ms, LATEST_MS + 1)


def _whole(column: Sequence[int | None]) -> NDArray[np.int64]:
    """Return a column of integers, (n,); one that is not there is −1, as no reading has it."""
    if None in column:
        column = [-1 if one is None else one for one in column]
    return np.array(column, np.int64)


def stopped(server: InfluxServer) -> InfluxStock:
    """Return what a server holds; raise RefusedError when not all of it is rolled up."""
    stock = InfluxStock(server)
    if stock.marker.counted_pos < stock.marker.inbox_pos:
        raise RefusedError(
            f"{stock.place}: not all is rolled up there: start the server, and stop it again a few minutes later"
        )
    return stock
