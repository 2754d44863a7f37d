"""Companion readings: the soil pH of a plot nearest before a sample, thinned and kept in the operational database."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from ingest import tables
from ingest.judge.inserts import insert_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VALIDITY_MS = 24 * 3_600_000
"""How long a probe's soil pH stands for its plot; after that the registered pH is used again."""

THIN_MS = 600_000
"""At most one companion is kept per plot and indicator in each span of this length, the first to arrive."""


@dataclass(frozen=True, slots=True)
class CompanionValue:
    """One good reading that may serve as a condition for others on its plot."""

    plot_id: str
    t_ms: int
    value: float


class Companions:
    """Keeps and finds the companion values of one indicator."""

    def __init__(self, indicator: str) -> None:
        self.indicator = indicator
        self._newest: dict[str, int] = {}  # plot -> span known to be kept; saves a query per batch

    def forget(self) -> None:
        """Drop what is remembered of the database; call after a transaction that did not commit."""
        self._newest.clear()

    def keep(self, connection: sa.Connection, values: Sequence[CompanionValue]) -> None:
        """Store the first value of each plot and span that has none yet."""
        first: dict[tuple[str, int], CompanionValue] = {}
        for value in values:
            span = value.t_ms // THIN_MS
            if self._newest.get(value.plot_id) != span:
                first.setdefault((value.plot_id, span), value)
        table = tables.companions
        for (plot_id, span), value in first.items():
            held = sa.select(table.c.t_ms).where(
                table.c.plot_id == plot_id,
                table.c.indicator == self.indicator,
                table.c.t_ms >= span * THIN_MS,
                table.c.t_ms < (span + 1) * THIN_MS,
            )
            if connection.execute(held.limit(1)).first() is None:
                row = {
                    "plot_id": plot_id,
                    "indicator": self.indicator,
                    "t_ms": value.t_ms,
                    "value": value.value,
                }
                insert_new(connection, table, [row])
            self._newest[plot_id] = max(span, self._newest.get(plot_id, span))

    def series(
        self, connection: sa.Connection, plot_id: str, start_ms: int, end_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return times and values of a plot that count for samples in start ≤ t < end, each (n,), by time."""
        table = tables.companions
        rows = connection.execute(
            sa.select(table.c.t_ms, table.c.value)
            .where(
                table.c.plot_id == plot_id,
                table.c.indicator == self.indicator,
                table.c.t_ms > start_ms - VALIDITY_MS,
                table.c.t_ms < end_ms,
            )
            .order_by(table.c.t_ms)
        ).all()
        times = np.array([row[0] for row in rows], dtype=np.int64)
        return times, np.array([row[1] for row in rows], dtype=np.float64)


def nearest_before(
    times: NDArray[np.int64], values: NDArray[np.float64], t_ms: NDArray[np.int64]
) -> NDArray[np.float64]:
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
    valid = (place >= 0) & (t_ms - times[held] < VALIDITY_MS)
    return np.where(valid, values[held], math.nan)
