"""Companion readings: what was measured on a plot before a sample, thinned and kept in the operational database.

What picks a row or stands beside a value is whichever probe of the plot said it first. Hours that are added up are
those of one probe (its ``series``): two in one pond, one of them in the shade, are two histories.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from ingest import tables
from ingest.judge.inserts import insert_new
from ingest.judge.readings.derived import HOLD_MS, OXYGEN, SATURATION, TEMPERATURE, WATER_PH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from ingest.judge.catalogue.limits import Duration
    from ingest.judge.readings.compiled import Bools, Floats, Ints

HOUR_MS = 3_600_000
SOIL_PH = "soil_ph"
VALIDITY_MS = 24 * HOUR_MS
"""How long a probe's soil pH stands for its plot; after that the registered pH is used again."""

KEPT_MS = {
    SOIL_PH: VALIDITY_MS,
    WATER_PH: HOUR_MS,
    TEMPERATURE: HOUR_MS,
    SATURATION: HOUR_MS,
    OXYGEN: VALIDITY_MS + HOLD_MS,
}
"""Indicator -> for how long a companion counts: soil changes within days, water within the hour.

Oxygen is asked for a window of 24 h, and the value before it holds into it.
"""
COMPANION_INDICATORS = tuple(KEPT_MS)

OF_ONE_PROBE = frozenset({OXYGEN})
"""Indicators of which each probe has values of its own."""

THIN_MS = 600_000
"""At most one is kept per plot, indicator and series in each span of this length: the earliest, then the lowest."""

_PLOTS_AT_ONCE = 500

PRUNE_ROWS = 1_000
"""Removed at a time, for judging waits meanwhile; a minute of a county brings some two hundred."""

_Name = tuple[str, str, str]
"""Plot, indicator, series (blank: of the whole plot)."""


@dataclass(frozen=True, slots=True)
class CompanionValue:
    """One good reading that may serve as a condition for others on its plot, or of its series."""

    plot_id: str
    indicator: str
    t_ms: int
    value: float
    series: str = ""


class Companions:
    """Keeps and finds companion values."""

    def __init__(self) -> None:
        # Time and value of the newest that is kept, None: none is; most batches need no more.
        self._newest: dict[_Name, tuple[int, float] | None] = {}

    def forget(self) -> None:
        """Drop what is remembered of the database; call after a transaction that did not commit."""
        self._newest.clear()

    def keep(self, connection: sa.Connection, values: Sequence[CompanionValue]) -> None:
        """Store the earliest value of each plot, indicator, series and span, in the place of a later one."""
        named: dict[_Name, list[tuple[int, float]]] = {}
        for value in values:
            name = (value.plot_id, value.indicator, value.series)
            new = (value.t_ms, value.value)
            newest = self._newest.get(name)
            if newest is None or newest[0] // THIN_MS != value.t_ms // THIN_MS or new < newest:
                named.setdefault(name, []).append(new)
        table = tables.companions
        rows: list[dict[str, object]] = []
        for name, some in named.items():
            changed, gone = self._changed(connection, name, sorted(some))
            if gone:
                connection.execute(sa.delete(table).where(_of(name), table.c.t_ms.in_(gone)))
            plot_id, indicator, series = name
            rows += [
                {
                    "plot_id": plot_id,
                    "indicator": indicator,
                    "series": series,
                    "t_ms": t_ms,
                    "value": value,
                }
                for t_ms, value in changed
            ]
        insert_new(connection, table, rows)

    def _changed(
        self, connection: sa.Connection, name: _Name, values: Sequence[tuple[int, float]]
    ) -> tuple[list[tuple[int, float]], list[int]]:
        """Return what of ``values`` (by time) is to be kept, and the times of what it replaces."""
        table = tables.companions
        columns = sa.select(table.c.t_ms, table.c.value).where(_of(name))
        newest = self._last(connection, name)
        held: dict[int, tuple[int, float]] = {}
        start_ms = values[0][0] // THIN_MS * THIN_MS
        if newest is not None and newest[0] >= start_ms:
            end_ms = (values[-1][0] // THIN_MS + 1) * THIN_MS
            found = columns.where(table.c.t_ms >= start_ms, table.c.t_ms < end_ms)
            held = {int(t) // THIN_MS: (int(t), float(v)) for t, v in connection.execute(found)}
        changed: dict[int, tuple[int, float]] = {}
        gone = []
        for new in values:
            span = new[0] // THIN_MS
            old = held.get(span)
            if span in changed or (old is not None and old <= new):
                continue
            if old is not None:
                gone.append(old[0])
            changed[span] = new
            if newest is None or span >= newest[0] // THIN_MS:
                newest = self._newest[name] = new
        return list(changed.values()), gone

    def newest(
        self, connection: sa.Connection, plot_id: str, indicator: str
    ) -> tuple[int, float] | None:
        """Return time and value of the newest companion of a plot, asking the database once."""
        return self._last(connection, (plot_id, indicator, ""))

    def _last(self, connection: sa.Connection, name: _Name) -> tuple[int, float] | None:
        if name not in self._newest:
            table = tables.companions
            last = connection.execute(
                sa.select(table.c.t_ms, table.c.value)
                .where(_of(name))
                .order_by(table.c.t_ms.desc())
                .limit(1)
            ).first()
            self._newest[name] = None if last is None else (int(last[0]), float(last[1]))
        return self._newest[name]

    def series(
        self,
        connection: sa.Connection,
        plot_id: str,
        indicator: str,
        start_ms: int,
        end_ms: int,
        series: str = "",
    ) -> tuple[Ints, Floats]:
        """Return times and values of a plot that count for samples in start ≤ t < end, each (n,), by time.

        ``series`` names the probe where each has its own.
        """
        table = tables.companions
        rows = connection.execute(
            sa.select(table.c.t_ms, table.c.value)
            .where(
                _of((plot_id, indicator, series)),
                table.c.t_ms > start_ms - KEPT_MS[indicator],
                table.c.t_ms < end_ms,
            )
            .order_by(table.c.t_ms)
        ).all()
        times = np.array([row[0] for row in rows], dtype=np.int64)
        return times, np.array([row[1] for row in rows], dtype=np.float64)

    def with_low(
        self,
        connection: sa.Connection,
        indicator: str,
        bound: float,
        plots: Collection[str],
        start_ms: int,
        end_ms: int,
    ) -> set[tuple[str, str]]:
        """Return the (plot, series) of ``plots`` with a value at or under ``bound`` that counts in start ≤ t ≤ end."""
        table = tables.companions
        found: set[tuple[str, str]] = set()
        names = [plot_id for plot_id in plots if plot_id]
        for i in range(0, len(names), _PLOTS_AT_ONCE):
            query = (
                sa.select(table.c.plot_id, table.c.series)
                .where(
                    table.c.plot_id.in_(names[i : i + _PLOTS_AT_ONCE]),
                    table.c.indicator == indicator,
                    table.c.t_ms > start_ms - KEPT_MS[indicator],
                    table.c.t_ms <= end_ms,
                    table.c.value <= bound,
                )
                .distinct()
            )
            found.update((str(plot), str(series)) for plot, series in connection.execute(query))
        return found

    @staticmethod
    def prune(connection: sa.Connection, received_before_ms: int, limit: int = PRUNE_ROWS) -> int:
        """Remove at most ``limit`` of the oldest companions that no reading of after then can need; return how many.

        A reading may come as late as the inbox keeps packs, and look back as far as a companion counts.
        """
        table = tables.companions
        old = (
            sa.select(*table.primary_key)
            .where(table.c.t_ms < received_before_ms - max(KEPT_MS.values()))
            .order_by(table.c.t_ms)
            .limit(limit)
        )
        key = sa.tuple_(*table.primary_key)
        return connection.execute(sa.delete(table).where(key.in_(old))).rowcount


def _of(name: _Name) -> sa.ColumnElement[bool]:
    table = tables.companions
    plot_id, indicator, series = name
    return sa.and_(
        table.c.plot_id == plot_id, table.c.indicator == indicator, table.c.series == series
    )


class Beside:
    """What the companions say of some readings of a batch: for each its plot (blank: none), probe and time, (m,)."""

    def __init__(
        self,
        connection: sa.Connection,
        companions: Companions,
        plots: NDArray[np.object_],
        probes: NDArray[np.object_],
        t_ms: Ints,
    ) -> None:
        self._connection = connection
        self._companions = companions
        self._plots = plots
        self._probes = probes
        self._t_ms = t_ms

    def nearest(self, indicator: str, places: Ints) -> Floats:
        """Return for the readings at ``places`` (k,) the value at or nearest before them; NaN: none is valid."""
        names, which = np.unique(self._plots[places].astype(str), return_inverse=True)
        newest = [
            (self._companions.newest(self._connection, str(name), indicator) if name else None)
            or (0, math.nan)
            for name in names
        ]
        last_ms = np.array([t for t, _ in newest], np.int64)[which]  # (k,)
        last = np.array([value for _, value in newest], np.float64)[which]
        t_ms = self._t_ms[places]
        found: Floats = np.where(t_ms - last_ms < KEPT_MS[indicator], last, math.nan)
        older = np.flatnonzero((t_ms < last_ms) & ~np.isnan(last))
        found[older] = math.nan
        for some, times, values in self._by_plot(indicator, places[older]):
            found[older[some]] = nearest_before(
                times, values, t_ms[older[some]], KEPT_MS[indicator]
            )
        return found

    def low(
        self, indicator: str, bound: float, duration: Duration, places: Ints
    ) -> tuple[Ints, Bools]:
        """Return for ``places`` (k,) the ms of the window at or under ``bound``, and whether the last value was.

        The last value is the one before the reading.
        """
        low_ms = np.zeros(len(places), np.int64)
        just_low = np.zeros(len(places), np.bool_)
        t_ms = self._t_ms[places]
        concerned = self._companions.with_low(
            self._connection,
            indicator,
            bound,
            dict.fromkeys(self._plots[places].tolist()),
            int(t_ms.min()),
            int(t_ms.max()),
        )
        for some, times, values in self._by_plot(indicator, places, concerned):
            t_ms = self._t_ms[places[some]]
            low_ms[some] = held_low(times, values, bound, t_ms, duration.window_ms)
            before = np.searchsorted(times, t_ms, side="left") - 1
            just_low[some] = (before >= 0) & (values[np.maximum(before, 0)] <= bound)
        return low_ms, just_low

    def _by_plot(
        self, indicator: str, places: Ints, concerned: Collection[tuple[str, str]] | None = None
    ) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Yield for each plot that has companions: which of ``places``, and the companions' times and values.

        For each probe of a plot where each has its own. ``concerned`` are those to look at, None: all of them.
        """
        plots, probes = self._plots[places], self._probes[places]
        if indicator not in OF_ONE_PROBE:
            probes = np.full(len(places), "", np.object_)
        for plot_id, probe in dict.fromkeys(zip(plots.tolist(), probes.tolist(), strict=True)):
            if not plot_id or (concerned is not None and (plot_id, probe) not in concerned):
                continue
            some = np.flatnonzero((plots == plot_id) & (probes == probe))
            t_ms = self._t_ms[places[some]]
            times, values = self._companions.series(
                self._connection, plot_id, indicator, int(t_ms.min()), int(t_ms.max()) + 1, probe
            )
            if len(times):
                yield some, times, values


def nearest_before(
    times: Ints, values: Floats, t_ms: Ints, validity_ms: int = VALIDITY_MS
) -> Floats:
    """Return for each of ``t_ms`` (m,) the value at or nearest before it within the validity, else NaN.

    >>> nearest_before(
    ...     np.array([0, 600_000]), np.array([6.0, 7.0]), np.array([-1, 5, 600_000])
    ... ).tolist()
    [nan, 6.0, 7.0]
    """
    if not len(times):
        return np.full(len(t_ms), math.nan)
    place = np.searchsorted(times, t_ms, side="right") - 1  # (m,)
    held = np.maximum(place, 0)
    valid = (place >= 0) & (t_ms - times[held] < validity_ms)
    return np.where(valid, values[held], math.nan)


def held_low(times: Ints, values: Floats, bound: float, t_ms: Ints, window_ms: int) -> Ints:
    """Return for each of ``t_ms`` (m,) for how many ms of the window before it ``values`` were ≤ ``bound``.

    ``times`` and ``values`` are (n,), n ≥ 1, by time. Each value holds until the next, for an hour at most.

    >>> hour = 3_600_000
    >>> times, values = np.array([0, hour, 4 * hour]), np.array([4.0, 6.0, 4.0])
    >>> (held_low(times, values, 5.0, np.array([hour, 9 * hour]), 24 * hour) / hour).tolist()
    [1.0, 2.0]
    """
    low = values <= bound
    held = np.where(low[:-1], np.minimum(np.diff(times), HOLD_MS), 0)
    before = np.concatenate([[0], np.cumsum(held)])  # (n,) low time up to each value

    def until(t: Ints) -> Ints:
        place = np.searchsorted(times, t, side="right") - 1
        last = np.maximum(place, 0)
        since = np.where(low[last], np.minimum(t - times[last], HOLD_MS), 0)
        return np.where(place >= 0, before[last] + since, 0)

    return until(t_ms) - until(t_ms - window_ms)
