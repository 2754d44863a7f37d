"""Sensors that give nothing usable: which series have said only failed, missing or stuck values, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from ingest import tables
from ingest.batch import (
    CALIBRATION,
    CLOCK_SUSPECT,
    FAIL,
    FLAT,
    MAINTENANCE,
    MISSING,
    OUT_OF_ORDER,
    Series,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.batch import Batch
    from ingest.judge.readings.compiled import Bools, Ints

NOTE_EVERY_MS = 60_000  # of the readings' time: how often the table learns that a fault goes on
RANGE, NO_VALUE, STUCK = "range", "missing", "flat"
_IGNORED = np.uint32(MAINTENANCE | CALIBRATION | CLOCK_SUSPECT | OUT_OF_ORDER)


@dataclass(slots=True)
class SensorFault:
    """A run of unusable readings, by the readings' own time (UTC ms)."""

    since_ms: int
    last_ms: int
    what: str


class FaultySensors:
    """Keeps ``series_faults``: a row from the first unusable reading of a series to the next usable one.

    Readings during work on the device, out of order or of doubtful time say nothing here. For one thread.
    """

    def __init__(self) -> None:
        self._unmet: dict[Series, SensorFault] | None = (
            None  # of series not seen yet; None: not read
        )
        self._met = 0  # series seen so far
        self._faults: dict[int, SensorFault] = {}  # by number of the series, as in the table

    def forget(self) -> None:
        """Drop what is remembered of the database; call after a transaction that did not commit."""
        self._unmet, self._met = None, 0
        self._faults.clear()

    def keep(self, connection: sa.Connection, batch: Batch, fresh: Bools) -> None:
        """Note which series of ``batch`` begin to be faulty, go on so, or are well again."""
        self._meet(connection, batch.series)
        bad = (batch.q == FAIL) | (batch.q == MISSING) | (batch.flags & FLAT != 0)
        if not self._faults and not bad.any():
            return
        counts = fresh & (batch.flags & _IGNORED == 0)
        concerned = np.zeros(len(batch.series), np.bool_)
        concerned[batch.series_id[bad & counts]] = True
        concerned[list(self._faults)] = True
        rows = np.flatnonzero(counts & concerned[batch.series_id])
        changed: dict[int, SensorFault | None] = {}
        for series_id, some in _by_series(batch, rows):
            before = self._faults.get(series_id)
            now = _after(batch, some, bad, before)
            if _is_news(before, now):
                changed[series_id] = now
        self._write(connection, batch.series, changed)

    def _meet(self, connection: sa.Connection, series: list[Series]) -> None:
        if self._unmet is None:
            self._unmet = {
                Series(row.station, row.device, row.indicator): SensorFault(
                    row.since_ms, row.last_ms, row.what
                )
                for row in connection.execute(sa.select(tables.series_faults))
            }
        if self._unmet:
            for series_id in range(self._met, len(series)):
                fault = self._unmet.pop(series[series_id], None)
                if fault is not None:
                    self._faults[series_id] = fault
        self._met = len(series)

    def _write(
        self,
        connection: sa.Connection,
        series: list[Series],
        changed: dict[int, SensorFault | None],
    ) -> None:
        table = tables.series_faults
        old, new = [], []
        for series_id, fault in changed.items():
            one = series[series_id]
            name = {"station": one.station, "device": one.device, "indicator": one.indicator}
            if self._faults.pop(series_id, None) is not None:
                old.append({f"of_{key}": value for key, value in name.items()})
            if fault is not None:
                self._faults[series_id] = fault
                new.append(
                    {
                        **name,
                        "since_ms": fault.since_ms,
                        "last_ms": fault.last_ms,
                        "what": fault.what,
                    }
                )
        if old:
            named = (column == sa.bindparam(f"of_{column.name}") for column in table.primary_key)
            connection.execute(sa.delete(table).where(*named), old)
        if new:
            connection.execute(sa.insert(table), new)


def _by_series(batch: Batch, rows: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each series of ``rows`` (m,) with its rows, as they arrived."""
    if not rows.size:
        return
    ids = batch.series_id[rows]
    order = np.argsort(ids, kind="stable")
    ids, rows = ids[order], rows[order]
    firsts = np.flatnonzero(np.diff(ids, prepend=-1))
    for series_id, some in zip(ids[firsts], np.split(rows, firsts[1:]), strict=True):
        yield int(series_id), some


def _after(batch: Batch, rows: Ints, bad: Bools, before: SensorFault | None) -> SensorFault | None:
    """Return the fault of one series after its ``rows`` (k,), None when it is well."""
    last = rows[-1]
    if not bad[last]:
        return None
    good = np.flatnonzero(~bad[rows])
    first = rows[good[-1] + 1] if good.size else rows[0]
    went_on = before is not None and not good.size
    since_ms = before.since_ms if went_on and before is not None else int(batch.t_ms[first])
    return SensorFault(since_ms, int(batch.t_ms[last]), _what(int(batch.q[last])))


def _is_news(before: SensorFault | None, now: SensorFault | None) -> bool:
    if before is None or now is None:
        return before is not now
    return now.since_ms != before.since_ms or now.last_ms - before.last_ms >= NOTE_EVERY_MS


def _what(q: int) -> str:
    return {MISSING: NO_VALUE, FAIL: RANGE}.get(q, STUCK)
