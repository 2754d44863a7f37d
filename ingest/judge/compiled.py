"""The limits on readings as arrays: one pass over a batch, whatever the number of limits.

A *profile* is an indicator under one registered context. Per profile, era (between two dates when an edition changes)
and pH band, each rule has one threshold; series point at profiles. A cheap test with the strictest thresholds of a
series finds the few readings that may be over a limit; only those are looked at with their own era and pH band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.judge.limits import FOREVER_MS, PH, Comparator, edge, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.judge.catalogue import Catalogue
    from ingest.judge.conditions import Conditions
    from ingest.judge.limits import Limit, Selection

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RECOVERY_MARGIN = 0.02
"""A process parameter has recovered when it is inside its limit by this part of the limit."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Limits broken by readings of a batch; arrays are (m,), one row per reading and rule, in reading order.

    ``row`` is a place in ``CompiledLimits.rows``.
    """

    reading: Ints
    row: Ints


@dataclass(frozen=True, slots=True)
class Recovery:
    """What readings of watched series say about recovery; arrays are (m,), in reading order."""

    reading: Ints
    rule: list[str]
    recovered: Bools


@dataclass(slots=True)
class _Profile:
    """Arrays of one profile, each (n_eras, n_bands, n_rules); a rule without a limit there never fires."""

    sign: Floats  # +1 above, -1 below
    breaks: Floats  # broken when sign × v > breaks
    recovers: Floats  # recovered when sign × v <= recovers; NaN: not known which limit applies
    row: Ints  # -1: none
    rule_ids: list[str]
    needs_ph: bool
    above: float = math.inf  # the strictest thresholds of any era and band
    below: float = -math.inf


class CompiledLimits:
    """Thresholds per profile, and the profile of each series."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.rows: list[Limit] = list(catalogue.limits())
        self._row_of = {id(row): i for i, row in enumerate(self.rows)}
        starts = {row.from_ms for row in self.rows} | {row.to_ms for row in self.rows}
        self._eras = np.array(sorted(starts - {FOREVER_MS}), dtype=np.int64)
        bands = [row.band for row in self.rows if row.band is not None]
        bounds = {bound for band in bands for bound in (band.low, band.high) if bound is not None}
        self._bounds = sorted(bounds)
        self._edges = np.array([edge(bound) for bound in self._bounds])
        self._profiles: list[_Profile] = []
        self._profile_ids: dict[tuple[str, tuple[tuple[str, str | float], ...]], int] = {}
        # Per series: its profile, and the strictest thresholds of any era and band (infinite: no limit).
        self._of_series: Ints = np.zeros(0, dtype=np.int64)
        self._above: Floats = np.zeros(0)
        self._below: Floats = np.zeros(0)
        self._needs_ph: Bools = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._of_series)

    def clear(self) -> None:
        """Forget every series (the registry has changed)."""
        self._of_series, self._needs_ph = self._of_series[:0], self._needs_ph[:0]
        self._above, self._below = self._above[:0], self._below[:0]

    def extend(self, series: Sequence[tuple[str, Conditions]]) -> None:
        """Add series by indicator and registered conditions; pH comes with the readings."""
        ids = [self._profile(indicator, conditions) for indicator, conditions in series]
        profiles = [self._profiles[i] for i in ids]
        self._of_series = np.append(self._of_series, np.array(ids, np.int64))
        self._above = np.append(self._above, np.array([p.above for p in profiles], float))
        self._below = np.append(self._below, np.array([p.below for p in profiles], float))
        self._needs_ph = np.append(self._needs_ph, np.array([p.needs_ph for p in profiles], bool))

    def candidates(self, series_id: NDArray[np.int32], v: Floats) -> Ints:
        """Return the places of readings that may break a limit; NaN never does."""
        found: Bools = np.logical_or(v > self._above[series_id], v < self._below[series_id])  # (n,)
        return np.flatnonzero(found)

    def needs_ph(self, series_id: NDArray[np.int32]) -> Bools:
        """Tell which series (n,) have a limit that depends on the pH of the soil."""
        return self._needs_ph[series_id]

    def broken(
        self, at: Ints, series_id: NDArray[np.int32], t_ms: Ints, v: Floats, ph: Floats
    ) -> Broken:
        """Compare the readings at ``at`` (m,) with the limits of their own time and pH (NaN: not known).

        ``series_id``, ``t_ms``, ``v`` and ``ph`` are (m,), one value for each place in ``at``.
        """
        readings: list[Ints] = []
        rows: list[Ints] = []
        for profile, some, era, band in self._by_profile(series_id, t_ms, ph):
            beyond = profile.sign[era, band] * v[some, None] > profile.breaks[era, band]
            which, rule = np.nonzero(beyond)  # (k,) each
            readings.append(at[some[which]])
            rows.append(profile.row[era[which], band[which], rule])
        if not readings:
            return Broken(at[:0], at[:0])
        reading, row = np.concatenate(readings), np.concatenate(rows)
        order = np.argsort(reading, kind="stable")
        return Broken(reading[order], row[order])

    def recovery(
        self, at: Ints, series_id: NDArray[np.int32], t_ms: Ints, v: Floats, ph: Floats
    ) -> Recovery:
        """Tell for the readings at ``at`` whether they are inside all limits of each rule, by the margin."""
        parts: list[tuple[Ints, list[str], Bools]] = []
        for profile, some, era, band in self._by_profile(series_id, t_ms, ph):
            inside: Bools = np.less_equal(
                profile.sign[era, band] * v[some, None], profile.recovers[era, band]
            )
            known: Bools = np.logical_not(np.isnan(profile.recovers[era, band]))  # (k, n_rules)
            for rule_id in dict.fromkeys(profile.rule_ids):
                columns = [i for i, name in enumerate(profile.rule_ids) if name == rule_id]
                some_limit = (profile.row[era, band][:, columns] >= 0).any(axis=1)
                told = known[:, columns].all(axis=1) & some_limit  # (k,)
                within: Bools = np.logical_and.reduce(inside[:, columns], axis=1)  # (k,)
                parts.append((at[some[told]], [rule_id] * int(told.sum()), within[told]))
        if not parts:
            return Recovery(at[:0], [], np.zeros(0, np.bool_))
        reading = np.concatenate([part[0] for part in parts])
        rule = [rule_id for part in parts for rule_id in part[1]]
        recovered = np.concatenate([part[2] for part in parts])
        order = np.argsort(reading, kind="stable")
        return Recovery(reading[order], [rule[i] for i in order], recovered[order])

    def _by_profile(
        self, series_id: NDArray[np.int32], t_ms: Ints, ph: Floats
    ) -> list[tuple[_Profile, Ints, Ints, Ints]]:
        """Split readings by profile: (profile, places, era, band), the last three (k,)."""
        ids = self._of_series[series_id]
        era = np.searchsorted(self._eras, t_ms, side="right")
        # Bands are exclusive below and inclusive above; the last place is for an unknown pH.
        band = np.searchsorted(self._edges, ph, side="left")
        band[np.isnan(ph)] = len(self._edges) + 1
        split = []
        for i in np.unique(ids):
            some = np.flatnonzero(ids == i)
            split.append((self._profiles[i], some, era[some], band[some]))
        return split

    def _profile(self, indicator: str, conditions: Conditions) -> int:
        relevant = {
            key
            for rule in self._catalogue.rules.get(indicator, ())
            for row in rule
            for key in row.condition_keys()
        }
        known = {k: v for k, v in conditions.known.items() if k in relevant and k != PH}
        wrong = {k for k in conditions.wrong if k in relevant and k != PH}
        key = (indicator, (*sorted(known.items()), *((k, "") for k in sorted(wrong))))
        if key not in self._profile_ids:
            self._profile_ids[key] = len(self._profiles)
            self._profiles.append(self._compile(indicator, known, wrong))
        return self._profile_ids[key]

    def _compile(
        self, indicator: str, known: Mapping[str, str | float], wrong: set[str]
    ) -> _Profile:
        rules = [
            rule
            for rule in self._catalogue.rules.get(indicator, ())
            if not any(key in wrong for row in rule for key in row.condition_keys())
        ]
        shape = (len(self._eras) + 1, len(self._edges) + 2, len(rules))
        profile = _Profile(
            sign=np.ones(shape),
            breaks=np.full(shape, np.inf),
            recovers=np.full(shape, np.inf),
            row=np.full(shape, -1, dtype=np.int64),
            rule_ids=[rule[0].rule_id for rule in rules],
            needs_ph=any(row.band is not None for rule in rules for row in rule),
        )
        for k, rule in enumerate(rules):
            sign = -1.0 if rule[0].comparator is Comparator.BELOW else 1.0
            profile.sign[:, :, k] = sign
            for era in range(shape[0]):
                at_ms = int(self._eras[era - 1]) if era else int(self._eras[0]) - 1
                for band in range(shape[1]):
                    selection = select(rule, {**known, **self._ph_of(band)}, at_ms)
                    self._put(profile, (era, band, k), sign, selection)
        profile.above = float(profile.breaks.min(initial=np.inf, where=profile.sign > 0))
        profile.below = -float(profile.breaks.min(initial=np.inf, where=profile.sign < 0))
        return profile

    def _put(
        self,
        profile: _Profile,
        place: tuple[int, int, int],
        sign: float,
        selection: Selection | None,
    ) -> None:
        if selection is None:
            return
        if not selection.complete:
            profile.recovers[place] = math.nan
            return
        cited, strictest = selection.mildest(), selection.strictest()
        profile.row[place] = self._row_of[id(cited)]
        profile.breaks[place] = sign * edge(cited.threshold, upward=sign > 0)
        margin = RECOVERY_MARGIN * abs(strictest.threshold)
        profile.recovers[place] = sign * strictest.threshold - margin

    def _ph_of(self, band: int) -> dict[str, float]:
        """Return a pH inside the band's place, nothing for the last place."""
        if band > len(self._bounds) or not self._bounds:
            return {}
        return {PH: self._bounds[band] if band < len(self._bounds) else self._bounds[-1] + 1}
