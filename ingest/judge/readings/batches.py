"""Findings and observations of the readings in a batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from drivers import indicators
from drivers.records import Verdict
from ingest.batch import (
    CALIBRATION,
    CLOCK_SUSPECT,
    FAIL,
    LATE,
    MAINTENANCE,
    MISSING,
    OUT_OF_ORDER,
)
from ingest.judge.catalogue.limits import PH, edge
from ingest.judge.findings import LIMIT_UNVERIFIED, Finding, Observation, finding_id
from ingest.judge.readings.companions import (
    COMPANION_INDICATORS,
    OF_ONE_PROBE,
    SOIL_PH,
    THIN_MS,
    Beside,
    CompanionValue,
)
from ingest.judge.readings.compiled import beyond
from ingest.judge.readings.derived import (
    SATURATION,
    TEMPERATURE,
    UNIONISED_FROM,
    WARMEST_DEGC,
    oxygen_saturation,
    unionised_n,
)
from ingest.judge.readings.readings import cite, duration_used, saturation_used, unionised_used

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import sqlalchemy as sa
    from numpy.typing import NDArray

    from ingest.batch import Batch, Series
    from ingest.judge.catalogue.limits import Alternative, Limit
    from ingest.judge.readings.companions import Companions
    from ingest.judge.readings.compiled import Bools, Broken, CompiledLimits, Floats, Ints
    from ingest.judge.readings.series import SeriesTable

    _Used = dict[str, str | float]


class ReadingJudge:
    """Judges whole batches: arrays for all readings, Python objects for what was found only."""

    def __init__(self, table: SeriesTable, companions: Companions) -> None:
        self._table = table
        self._companions = companions

    def keep_companions(self, connection: sa.Connection, batch: Batch, fresh: Bools) -> None:
        """Store the values of ``batch`` that later samples may need beside them.

        A dry or open probe reads near its rail: the soil pH of a device that also sent no moisture is not taken.
        """
        table = self._table
        rows = np.flatnonzero(table.companion[batch.series_id] >= 0)
        rows = rows[fresh[rows] & _good(batch, rows)]
        if not rows.size:
            return
        which = table.companion[batch.series_id[rows]]
        dry = self._dry(batch, fresh)
        wet = np.logical_or(
            which != COMPANION_INDICATORS.index(SOIL_PH),
            ~np.isin(table.device[batch.series_id[rows]], dry),
        )
        rows, which = rows[wet], which[wet]
        # Only the first of a series in each span can be kept: no object for the others. Whatever their order here.
        order = np.lexsort((batch.v[rows], batch.t_ms[rows]))
        rows, which = rows[order], which[order]
        span = (
            batch.series_id[rows].astype(np.int64) << 30 | batch.t_ms[rows] // THIN_MS & 2**30 - 1
        )
        first = np.sort(np.unique(span, return_index=True)[1])
        values = [
            CompanionValue(
                str(table.plot_ids[batch.series_id[i]]),
                COMPANION_INDICATORS[k],
                int(batch.t_ms[i]),
                float(batch.v[i]),
                table.probes[batch.series_id[i]] if COMPANION_INDICATORS[k] in OF_ONE_PROBE else "",
            )
            for i, k in zip(rows[first], which[first], strict=True)
        ]
        self._companions.keep(connection, values)

    def _dry(self, batch: Batch, fresh: Bools) -> Ints:
        """Return the numbers of the devices that sent no moisture."""
        table = self._table
        moisture = np.flatnonzero(table.is_moisture[batch.series_id] & (batch.v <= 0))
        moisture = moisture[fresh[moisture] & _good(batch, moisture)]
        return np.unique(table.device[batch.series_id[moisture]])

    def findings(self, connection: sa.Connection, batch: Batch, fresh: Bools) -> list[Finding]:
        """Return a finding for each limit broken by a good reading or by what is computed from it."""
        limits = self._table.limits
        at = limits.candidates(batch.series_id, batch.v)
        at = at[fresh[at] & _good(batch, at)]
        if not at.size:
            return []
        series_id, t_ms, v = batch.series_id[at], batch.t_ms[at], batch.v[at]
        ph, from_probe = self._ph(connection, batch, at)
        beside = self._beside(connection, series_id, t_ms)
        places = np.arange(len(at))
        broken = limits.broken(places, series_id, t_ms, v, ph)
        stands, used = _decided(limits, broken, v, beside)
        found = [
            (int(broken.reading[j]), int(broken.row[j]), float(v[broken.reading[j]]), used[j])
            for j in np.flatnonzero(stands)
        ]
        found += self._computed(series_id, t_ms, v, ph, beside)
        return [
            self._finding(
                batch, int(at[k]), row, value, float(ph[k]), more, from_probe=bool(from_probe[k])
            )
            for k, row, value, more in found
        ]

    def _computed(
        self, series_id: NDArray[np.int32], t_ms: Ints, v: Floats, ph: Floats, beside: Beside
    ) -> list[tuple[int, int, float, _Used]]:
        """Return place, row, value and inputs of the limits that un-ionised ammonia breaks, as N and as NH3."""
        limits = self._table.limits
        some = np.flatnonzero(limits.computes(series_id))
        if not some.size:
            return []
        water_ph, temp_degc = (beside.nearest(name, some) for name in UNIONISED_FROM)
        # As N it is the smaller number: over the limit as N is over it as NH3, too.
        value = unionised_n(v[some], water_ph, temp_degc)
        places = np.arange(len(some))
        broken = limits.broken(places, series_id[some], t_ms[some], value, ph[some], computed=True)
        return [
            (
                int(some[j]),
                int(row),
                float(value[j]),
                unionised_used(float(v[some[j]]), float(water_ph[j]), float(temp_degc[j])),
            )
            for j, row in zip(broken.reading, broken.row, strict=True)
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
        at = np.flatnonzero(np.isin(batch.series_id, ids))
        doubtful = batch.flags[at] & (CLOCK_SUSPECT | OUT_OF_ORDER) != 0
        at = at[fresh[at] & _good(batch, at) & ~doubtful]
        at = at[self._table.clearable[batch.series_id[at]]]
        series_id, t_ms, v = batch.series_id[at], batch.t_ms[at], batch.v[at]
        ph, _ = self._ph(connection, batch, at)
        beside = self._beside(connection, series_id, t_ms)

        def other(unless: Alternative, places: Ints) -> Floats:
            values = _alternative(unless, v, beside, places)[0]
            most = _at_most(unless, v[places])
            return np.where(np.isnan(values) & (most < unless.minimum), most, values)

        said = self._table.limits.recovery(at, series_id, t_ms, v, ph, other)
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
        if needs.size:
            beside = self._beside(connection, series_id, batch.t_ms[at])
            found = beside.nearest(SOIL_PH, needs)
            known = ~np.isnan(found)
            ph[needs[known]] = found[known]
            from_probe[needs[known]] = True
        return ph, from_probe

    def _beside(
        self, connection: sa.Connection, series_id: NDArray[np.int32], t_ms: Ints
    ) -> Beside:
        plots, probes = self._table.plot_ids[series_id], self._table.probes[series_id]
        return Beside(connection, self._companions, plots, probes, t_ms)

    def _finding(
        self,
        batch: Batch,
        i: int,
        row: int,
        value: float,
        ph: float,
        more: _Used,
        *,
        from_probe: bool,
    ) -> Finding:
        limit = self._table.limits.rows[row]
        series_id = int(batch.series_id[i])
        series, pack = batch.series[series_id], batch.packs[int(batch.pack_index[i])]
        position = int(batch.position[i])
        conditions: dict[str, str | float] = {**self._table.conditions[series_id].known}
        conditions.pop(PH, None)
        source = dict(more)
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
            indicator=limit.indicator,
            t_ms=int(batch.t_ms[i]),
            value=value,
            unit=indicators.lookup(limit.indicator).unit,
            record_id="",
            rule_id=limit.rule_id,
            verdict=Verdict.EXCEED,
            severity=limit.severity,
            late=bool(flags & LATE),
            citation=msgspec.to_builtins(cite(limit, value, conditions, exceeded=True, **source)),
            certainty="sensor",
            flags=tuple(name for name, bit in named if flags & bit)
            + (() if limit.verified else (LIMIT_UNVERIFIED,)),
            sample_no="",
            product_name="",
            plot_id="" if plot is None else plot.plot_id,
            region_code="" if plot is None else plot.region_code,
            clearable=bool(self._table.clearable[series_id]),
        )


def _decided(
    limits: CompiledLimits, broken: Broken, v: Floats, beside: Beside
) -> tuple[Bools, list[_Used]]:
    """Tell which of ``broken`` stand once what was measured beside them is looked at, and what that was.

    ``broken.reading`` are places in ``v`` and ``beside``.
    """
    stands = np.ones(len(broken.reading), np.bool_)
    used: list[_Used] = [{} for _ in broken.reading]
    for i in np.unique(broken.special[broken.special >= 0]):
        some = np.flatnonzero(broken.special == i)
        places = broken.reading[some]
        for row in limits.specials[i]:
            exceeded, said = _row_broken(row, v, beside, places)
            stands[some] &= exceeded
            if row is limits.rows[broken.row[some[0]]]:  # the one to cite
                for j in np.flatnonzero(exceeded):
                    used[some[j]] = said(int(j))
    return stands, used


def _row_broken(
    row: Limit, v: Floats, beside: Beside, places: Ints
) -> tuple[Bools, Callable[[int], _Used]]:
    """Tell for the readings at ``places`` (k,) whether they certainly break ``row``, and what it looked at."""
    over = beyond(row, v[places])
    if row.duration is not None:
        window_ms = row.duration.window_ms
        low_ms, just_low = beside.low(row.indicator, edge(row.threshold), row.duration, places)
        # Raised while the value is low or has just ceased to be, not again by every good reading of the day.
        raised = (low_ms > window_ms - row.duration.least_ms) & (just_low | over)
        return raised, lambda j: duration_used(int(low_ms[j]), window_ms)
    if row.unless is not None:
        unless = row.unless
        other, temp_degc = _alternative(unless, v, beside, places)
        most = np.where(np.isnan(other), _at_most(unless, v[places]), other)

        def said(j: int) -> _Used:
            if math.isnan(other[j]):
                return {}
            if math.isnan(temp_degc[j]):
                return {unless.indicator: float(other[j])}
            return saturation_used(float(other[j]), float(temp_degc[j]))

        return over & (most < edge(unless.minimum, upward=False)), said
    return over, lambda _: {}


def _alternative(
    unless: Alternative, v: Floats, beside: Beside, places: Ints
) -> tuple[Floats, Floats]:
    """Return what the alternative is about for ``places`` (k,), and the temperature it was computed from, else NaN."""
    other = beside.nearest(unless.indicator, places)
    temp_degc = np.full(len(places), math.nan)
    lacking = np.flatnonzero(np.isnan(other))
    if unless.indicator == SATURATION and lacking.size:
        temp_degc[lacking] = beside.nearest(TEMPERATURE, places[lacking])
        other[lacking] = oxygen_saturation(v[places[lacking]], temp_degc[lacking])
    return other, temp_degc


def _at_most(unless: Alternative, v: Floats) -> Floats:
    """Return the most that the alternative can be beside ``v`` (k,), whatever is not known."""
    if unless.indicator == SATURATION:
        return oxygen_saturation(v, np.full(len(v), WARMEST_DEGC))
    return np.full(len(v), math.inf)


def _good(batch: Batch, at: Ints) -> Bools:
    """Tell which of the readings at ``at`` (m,) may raise or clear anything."""
    q = batch.q[at]
    worked_on = np.bitwise_and(batch.flags[at], np.uint32(MAINTENANCE | CALIBRATION)) != 0
    usable: Bools = (q != FAIL) & (q != MISSING) & np.isfinite(batch.v[at]) & ~worked_on
    return usable
