"""Findings and observations of the readings in a batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from drivers import indicators
from drivers.records import Verdict
from ingest.batch import CLOCK_SUSPECT, FAIL, LATE, MISSING, OUT_OF_ORDER
from ingest.judge.companions import THIN_MS, CompanionValue, nearest_before
from ingest.judge.findings import Finding, Observation, finding_id
from ingest.judge.limits import PH
from ingest.judge.rapid import LIMIT_UNVERIFIED
from ingest.judge.readings import cite

if TYPE_CHECKING:
    from collections.abc import Collection

    import sqlalchemy as sa

    from ingest.batch import Batch, Series
    from ingest.judge.companions import Companions
    from ingest.judge.compiled import Bools, Floats, Ints
    from ingest.judge.series import SeriesTable


class ReadingJudge:
    """Judges whole batches: arrays for all readings, Python objects for what was found only."""

    def __init__(self, table: SeriesTable, companions: Companions) -> None:
        self._table = table
        self._companions = companions

    def keep_companions(self, connection: sa.Connection, batch: Batch, fresh: Bools) -> None:
        """Store the soil pH values of ``batch`` that later samples may need.

        A dry or open probe reads near its rail: the pH of a device that also sent no moisture is not taken.
        """
        table = self._table
        good = fresh & _good(batch)
        rows = np.flatnonzero(good & table.is_companion[batch.series_id])
        if not rows.size:
            return
        moisture = good & table.is_moisture[batch.series_id] & (batch.v <= 0)
        dry = np.unique(table.device[batch.series_id[moisture]])
        rows = rows[~np.isin(table.device[batch.series_id[rows]], dry)]
        # Only the first of a series in each span can be kept: no object for the others.
        span = (
            batch.series_id[rows].astype(np.int64) << 30 | batch.t_ms[rows] // THIN_MS & 2**30 - 1
        )
        rows = rows[np.sort(np.unique(span, return_index=True)[1])]
        values = [
            CompanionValue(plot_id, int(batch.t_ms[i]), float(batch.v[i]))
            for i in rows
            if (plot_id := table.plot_id(int(batch.series_id[i])))
        ]
        self._companions.keep(connection, values)

    def findings(self, connection: sa.Connection, batch: Batch, fresh: Bools) -> list[Finding]:
        """Return a finding for each limit broken by a good reading, in inbox order."""
        at = self._table.limits.candidates(batch.series_id, batch.v)
        at = at[(fresh & _good(batch))[at]]
        ph, from_probe = self._ph(connection, batch, at)
        limits = self._table.limits
        broken = limits.broken(at, batch.series_id[at], batch.t_ms[at], batch.v[at], ph)
        if not broken.reading.size:
            return []
        where = np.searchsorted(at, broken.reading)
        return [
            self._finding(batch, int(i), int(row), float(ph[k]), from_probe=bool(from_probe[k]))
            for i, row, k in zip(broken.reading, broken.row, where, strict=True)
        ]

    def observations(
        self, connection: sa.Connection, batch: Batch, fresh: Bools, watched: Collection[Series]
    ) -> list[Observation]:
        """Return what the readings of ``watched`` series say about recovery.

        Readings of doubtful time say nothing: an old value must not clear what is wrong now.
        """
        ids = [self._table.ids[one] for one in watched if one in self._table.ids]
        if not ids:
            return []
        usable = fresh & _good(batch) & (batch.flags & (CLOCK_SUSPECT | OUT_OF_ORDER) == 0)
        at = np.flatnonzero(usable & np.isin(batch.series_id, ids))
        at = at[self._table.clearable[batch.series_id[at]]]
        ph, _ = self._ph(connection, batch, at)
        said = self._table.limits.recovery(at, batch.series_id[at], batch.t_ms[at], batch.v[at], ph)
        return [
            Observation(
                batch.series[batch.series_id[i]],
                int(batch.t_ms[i]),
                float(batch.v[i]),
                rule_id,
                bool(recovered),
            )
            for i, rule_id, recovered in zip(said.reading, said.rule, said.recovered, strict=True)
        ]

    def _ph(self, connection: sa.Connection, batch: Batch, at: Ints) -> tuple[Floats, Bools]:
        """Return for the readings at ``at`` (m,) the soil pH of their plot, and whether a probe gave it.

        The registered pH stands in when no probe reading is valid; NaN when neither is known.
        """
        ph = np.full(len(at), math.nan)
        from_probe = np.zeros(len(at), np.bool_)
        series_id = batch.series_id[at]
        needs = np.flatnonzero(self._table.limits.needs_ph(series_id))
        ph[needs] = self._table.registered_ph[series_id[needs]]
        by_plot: dict[str, list[int]] = {}
        for one in np.unique(series_id[needs]):
            if plot_id := self._table.plot_id(int(one)):
                by_plot.setdefault(plot_id, []).append(int(one))
        for plot_id, ids in by_plot.items():
            places = needs[np.isin(series_id[needs], ids)]
            t_ms = batch.t_ms[at[places]]
            times, values = self._companions.series(
                connection, plot_id, int(t_ms.min()), int(t_ms.max()) + 1
            )
            found = nearest_before(times, values, t_ms)
            known = ~np.isnan(found)
            ph[places[known]] = found[known]
            from_probe[places[known]] = True
        return ph, from_probe

    def _finding(self, batch: Batch, i: int, row: int, ph: float, *, from_probe: bool) -> Finding:
        limit = self._table.limits.rows[row]
        series_id = int(batch.series_id[i])
        series, pack = batch.series[series_id], batch.packs[int(batch.pack_index[i])]
        position, value = int(batch.position[i]), float(batch.v[i])
        conditions: dict[str, str | float] = {**self._table.conditions[series_id].known}
        conditions.pop(PH, None)
        source: dict[str, str | float] = {}
        if limit.band is not None and not math.isnan(ph):
            conditions[PH] = ph
            source["ph_source"] = "probe" if from_probe else "registered"
        flags = int(batch.flags[i])
        plot = self._table.plots[series_id]
        named = (("late", LATE), ("clock_suspect", CLOCK_SUSPECT))
        return Finding(
            finding_id=finding_id(
                pack.station, pack.epoch, pack.seq, position, limit.rule_id, limit.limit_version
            ),
            station=series.station,
            epoch=pack.epoch,
            seq=pack.seq,
            position=position,
            inbox_pos=pack.pos,
            kind="reading",
            device=series.device,
            indicator=series.indicator,
            t_ms=int(batch.t_ms[i]),
            value=value,
            unit=indicators.lookup(series.indicator).unit,
            record_id="",
            rule_id=limit.rule_id,
            verdict=Verdict.EXCEED,
            severity=limit.severity,
            late=bool(flags & LATE),
            citation=msgspec.to_builtins(cite(limit, value, conditions, **source)),
            certainty="sensor",
            flags=tuple(name for name, bit in named if flags & bit)
            + (() if limit.verified else (LIMIT_UNVERIFIED,)),
            sample_no="",
            product_name="",
            plot_id="" if plot is None else plot.plot_id,
            region_code="" if plot is None else plot.region_code,
            clearable=bool(self._table.clearable[series_id]),
        )


def _good(batch: Batch) -> Bools:
    """Tell which readings (n,) may raise or clear anything."""
    usable: Bools = (batch.q != FAIL) & (batch.q != MISSING) & np.isfinite(batch.v)
    return usable
