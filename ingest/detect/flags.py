"""Quality flags of a stream of batches, as QARTOD names them: ranges, windows, behaviour.

Causal: a reading is flagged when it comes, and what is stored is not touched again
(docs/decisions/0009-a-spike-is-judged-when-it-comes.md).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from drivers import indicators
from ingest.batch import (
    CALIBRATION,
    CLOCK_SUSPECT,
    FAIL,
    FLAT,
    MAINTENANCE,
    MODEL_RANGE,
    NOT_EVALUATED,
    OUT_OF_ORDER,
    PASS,
    RATE,
    SITE_RANGE,
    SPIKE,
    SUSPECT,
)
from ingest.detect.behaviour import GIVEN, Behaviour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ingest.batch import Batch, Series
    from ingest.detect.thresholds import DeviceWindow, SeriesLimits, Thresholds
    from ingest.sequence import BySeries

KINDS = {"maintenance": MAINTENANCE, "calibration": CALIBRATION}


class QualityFlags:
    """Flags readings by range, window and behaviour; for one stream of batches, in inbox order.

    Each consumer has its own: one that falls behind must not see what another has already had.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._version: int | None = None
        self._limits: list[SeriesLimits] = []
        self._behaviour = Behaviour()
        self._ranges = np.zeros((4, 0))  # (4, n_series) model min and max, site min and max
        self._given = np.zeros((0, len(GIVEN)))  # (n_series, 4) what the site gives
        self._steps = np.zeros(0)  # (n_series,) smallest step the indicator is given in
        self._low = self._high = np.zeros(0)  # (n_series,) the closer of both
        self._bounded = False  # some series has a range
        self._windows: list[tuple[DeviceWindow, NDArray[np.intp]]] = []  # with its series' ids

    def flag(self, batch: Batch, by_series: BySeries | None = None) -> Batch:
        """Return a copy of ``batch``, which is flagged for order already, with these flags and ``q`` set.

        A reading that failed, is missing, came out of order, has a doubtful time or lies in a window teaches nothing
        and is compared with nothing but the ranges. ``by_series`` is what ``ArrivalOrder`` found out about ``batch``.
        """
        self._update(batch.series)
        series, t_ms, v = batch.series_id, batch.t_ms, batch.v
        q, flags = batch.q.copy(), batch.flags.copy()
        if self._bounded:
            self._range(series, v, q, flags)
        if self._windows:
            self._window(series, t_ms, q, flags)
        doubtful = flags & (OUT_OF_ORDER | CLOCK_SUSPECT)
        usable = q == PASS
        all_usable = bool(usable.all()) and not doubtful.any()
        if not all_usable:
            usable &= doubtful == 0
        if by_series is not None:
            some = by_series if all_usable else by_series.part(usable[by_series.rows])
            bits = self._behaviour.flag_by_series(t_ms, v, some)
        else:
            rows = np.flatnonzero(usable)
            bits = np.zeros(len(series), np.uint32)
            bits[rows] = self._behaviour.flag(series[rows].astype(np.intp), t_ms[rows], v[rows])
        flagged = np.flatnonzero(bits)
        if flagged.size:
            flags[flagged] |= bits[flagged]
            q[flagged[(bits[flagged] & (SPIKE | RATE | FLAT)) != 0]] = SUSPECT
        return dataclasses.replace(batch, q=q, flags=flags)

    def _update(self, series: Sequence[Series]) -> None:
        """Take in series that are new; ask for all of them again when the registry has changed."""
        version = (
            self._thresholds.version
        )  # first: what changes from here on is asked for next time
        changed = version != self._version
        known = 0 if changed else len(self._limits)
        new = series[known:]  # the list goes on growing: what is here now counts
        if not new and not changed:
            return
        self._version = version
        self._limits[known:] = new_limits = [self._thresholds.quality_limits(one) for one in new]
        # Only of those that are new: a county begins with twenty thousand series, a few in each batch.
        ranges = _columns(new_limits, ("model_min", "model_max", "site_min", "site_max")).T
        decimals = [indicators.lookup(one.indicator).decimals for one in new]
        self._ranges = np.concatenate([self._ranges[:, :known], ranges], axis=1)
        self._given = np.concatenate([self._given[:known], _columns(new_limits, GIVEN)])
        self._steps = np.concatenate([self._steps[:known], 10.0 ** -np.array(decimals, np.float64)])
        self._low = np.fmax(self._ranges[0], self._ranges[2])
        self._high = np.fmin(self._ranges[1], self._ranges[3])
        self._bounded = not np.isnan(self._ranges).all()
        self._behaviour.give(self._given, self._steps)
        ids: dict[tuple[str, str], list[int]] = {}
        windows = self._thresholds.windows()
        wanted = {(one.station, one.device) for one in windows}
        for number, one in enumerate(series[: len(self._limits)] if wanted else ()):
            if (one.station, one.device) in wanted:
                ids.setdefault((one.station, one.device), []).append(number)
        self._windows = [
            (one, np.array(ids[one.station, one.device], np.intp))
            for one in windows
            if (one.station, one.device) in ids
        ]

    def _range(
        self,
        series: NDArray[np.int32],
        v: NDArray[np.float64],
        q: NDArray[np.uint8],
        flags: NDArray[np.uint32],
    ) -> None:
        """Fail what lies outside the model's or the site's range; all arrays (n,)."""
        outside = np.flatnonzero(
            (v < self._low.take(series, mode="clip")) | (v > self._high.take(series, mode="clip"))
        )
        if not outside.size:
            return
        model_min, model_max, site_min, site_max = self._ranges[:, series[outside]]
        value = v[outside]
        beyond_model = (value < model_min) | (value > model_max)
        beyond_site = (value < site_min) | (value > site_max)
        flags[outside[beyond_model]] |= MODEL_RANGE
        flags[outside[beyond_site]] |= SITE_RANGE
        q[outside] = FAIL

    def _window(
        self,
        series: NDArray[np.int32],
        t_ms: NDArray[np.int64],
        q: NDArray[np.uint8],
        flags: NDArray[np.uint32],
    ) -> None:
        """Mark what was measured during work on the device; all arrays (n,)."""
        if not len(t_ms):
            return
        first, last = int(t_ms.min()), int(t_ms.max())
        inside = np.zeros(len(self._limits), np.bool_)
        for window, ids in self._windows:
            if window.from_ms > last or window.to_ms <= first:
                continue
            inside[ids] = True
            at = np.flatnonzero(inside[series] & (t_ms >= window.from_ms) & (t_ms < window.to_ms))
            inside[ids] = False
            flags[at] |= KINDS[window.kind]
            q[at[q[at] == PASS]] = NOT_EVALUATED


def _columns(limits: Sequence[SeriesLimits], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the fields ``names`` of each series, (n_series, len(names)), NaN where nothing is given."""
    rows = [
        [math.nan if (x := getattr(one, name)) is None else x for name in names] for one in limits
    ]
    return np.array(rows, np.float64).reshape(-1, len(names))
