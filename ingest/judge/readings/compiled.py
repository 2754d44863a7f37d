"""The limits on readings as arrays: one pass over a batch, whatever the number of limits.

A *profile* is an indicator under one registered context. Per profile, era (between two dates when an edition changes)
and pH band, each rule has one threshold; series point at profiles. A cheap test with the strictest thresholds of a
series finds the few readings that may be over a limit; only those are looked at with their own era and pH band.

A limit that asks for more than the value (a duration, an alternative) gives *special* places: the pass finds what may
break it, and whoever has the readings beside it decides. A value that is computed (un-ionised ammonia) has a profile of
its own beside the one of the reading that it is computed from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ingest.judge.catalogue.limits import FOREVER_MS, PH, PLOT, Comparator, edge, select
from ingest.judge.readings.derived import (
    OXYGEN,
    SATURATION,
    TEMPERATURE,
    TOTAL_AMMONIA,
    UNIONISED,
    UNIONISED_FROM,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.catalogue.limits import Alternative, Limit, Selection
    from ingest.judge.readings.conditions import Conditions

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RECOVERY_MARGIN = 0.02
"""A process parameter has recovered when it is inside its limit by this part of the limit."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Limits broken by readings of a batch; arrays are (m,), one row per reading and rule, in reading order.

    ``row`` is a place in ``CompiledLimits.rows``. ``special`` is −1 for a limit that the value breaks by itself, else
    a place in ``CompiledLimits.specials``: the limit is broken when each of those rows is.
    """

    reading: Ints
    row: Ints
    special: Ints


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
    special: Ints  # -1: plain
    rule_ids: list[str]
    needs_ph: bool
    companions: frozenset[str] = frozenset()  # indicators that its special places look at
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
        self.specials: list[tuple[Limit, ...]] = []
        self._special_of: dict[tuple[int, ...], int] = {}
        self._profiles: list[_Profile] = []
        self._profile_ids: dict[tuple[str, tuple[tuple[str, str | float], ...]], int] = {}
        self._relevant: dict[str, dict[str, frozenset[str]]] = {}
        # Per series: its profile, that of the value computed from it (-1: none), and the strictest thresholds of any
        # era and band (infinite: no limit).
        self._of_series: Ints = np.zeros(0, dtype=np.int64)
        self._computed: Ints = np.zeros(0, dtype=np.int64)
        self._strictest: Floats = np.zeros((0, 2))  # below, above
        self._needs_ph: Bools = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._of_series)

    def clear(self) -> None:
        """Forget every series (the registry has changed)."""
        self._of_series, self._computed = self._of_series[:0], self._computed[:0]
        self._needs_ph = self._needs_ph[:0]
        self._strictest = self._strictest[:0]

    def extend(self, series: Sequence[tuple[str, Conditions]]) -> None:
        """Add series by indicator and registered conditions; pH comes with the readings."""
        ids = [self._profile(indicator, conditions) for indicator, conditions in series]
        computed = [
            self._profile(UNIONISED, conditions) if indicator == TOTAL_AMMONIA else -1
            for indicator, conditions in series
        ]
        # The profiles that look at a reading; what is computed is never more than what it is computed from.
        both = [
            [self._profiles[i] for i in (own, other) if i >= 0]
            for own, other in zip(ids, computed, strict=True)
        ]
        self._of_series = np.append(self._of_series, np.array(ids, np.int64))
        self._computed = np.append(self._computed, np.array(computed, np.int64))
        strictest = [(max(p.below for p in some), min(p.above for p in some)) for some in both]
        needs_ph = np.array([any(p.needs_ph for p in some) for some in both], bool)
        self._strictest = np.concatenate(
            [self._strictest, np.array(strictest, float).reshape(-1, 2)]
        )
        self._needs_ph = np.append(self._needs_ph, needs_ph)

    def companions_of(self, conditions: Conditions) -> frozenset[str]:
        """Return the indicators of water that limits look at beside the reading, on a plot of these conditions."""
        oxygen = self._profiles[self._profile(OXYGEN, conditions)]
        ammonia = self._profiles[self._profile(UNIONISED, conditions)]
        limited = ammonia.above < math.inf
        return oxygen.companions | frozenset(UNIONISED_FROM if limited else ())

    def candidates(self, series_id: NDArray[np.int32], v: Floats) -> Ints:
        """Return the places of readings that may break a limit; NaN never does."""
        below, above = self._strictest.take(series_id, axis=0, mode="clip").T  # (n,) each
        found: Bools = np.less(v, below)
        found |= v > above
        return np.flatnonzero(found)

    def needs_ph(self, series_id: NDArray[np.int32]) -> Bools:
        """Tell which series (n,) have a limit that depends on the pH of the soil."""
        return self._needs_ph[series_id]

    def computes(self, series_id: NDArray[np.int32]) -> Bools:
        """Tell which series (n,) have a limit on a value that is computed from theirs."""
        return self._computed[series_id] >= 0

    def broken(
        self,
        at: Ints,
        series_id: NDArray[np.int32],
        t_ms: Ints,
        v: Floats,
        ph: Floats,
        *,
        computed: bool = False,
    ) -> Broken:
        """Compare the readings at ``at`` (m,) with the limits of their own time and pH (NaN: not known).

        ``series_id``, ``t_ms``, ``v`` and ``ph`` are (m,), one value for each place in ``at``. With ``computed``, ``v``
        are the values computed from the readings, compared with the limits on those; NaN breaks none.
        """
        readings: list[Ints] = []
        rows: list[Ints] = []
        specials: list[Ints] = []
        ids = (self._computed if computed else self._of_series)[series_id]
        for profile, some, era, band in self._by_profile(ids, t_ms, ph):
            beyond = profile.sign[era, band] * v[some, None] > profile.breaks[era, band]
            which, rule = np.nonzero(beyond)  # (k,) each
            readings.append(at[some[which]])
            rows.append(profile.row[era[which], band[which], rule])
            specials.append(profile.special[era[which], band[which], rule])
        if not readings:
            return Broken(at[:0], at[:0], at[:0])
        reading = np.concatenate(readings)
        order = np.argsort(reading, kind="stable")
        return Broken(reading[order], np.concatenate(rows)[order], np.concatenate(specials)[order])

    def recovery(
        self,
        at: Ints,
        series_id: NDArray[np.int32],
        t_ms: Ints,
        v: Floats,
        ph: Floats,
        other: Callable[[Alternative, Ints], Floats] | None = None,
    ) -> Recovery:
        """Tell for the readings at ``at`` (m,) whether they are inside all limits of each rule, by the margin.

        ``other`` gives for some of the m the values that an alternative is about (NaN: not known).
        """
        parts: list[tuple[Ints, list[str], Bools]] = []
        for profile, some, era, band in self._by_profile(self._of_series[series_id], t_ms, ph):
            inside: Bools = np.less_equal(
                profile.sign[era, band] * v[some, None], profile.recovers[era, band]
            )
            known: Bools = np.logical_not(np.isnan(profile.recovers[era, band]))  # (k, n_rules)
            if other is not None:
                self._other_way(profile.special[era, band], some, inside, known, other)
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

    def _other_way(
        self,
        special: Ints,
        some: Ints,
        inside: Bools,
        known: Bools,
        other: Callable[[Alternative, Ints], Floats],
    ) -> None:
        """Update ``inside`` and ``known`` (k, n_rules): the one row that applies may be kept by its alternative."""
        for i in np.unique(special[special >= 0]):
            rows = self.specials[i]
            if len(rows) > 1 or rows[0].unless is None:
                continue
            which, rule = np.nonzero((special == i) & ~inside)
            values = other(rows[0].unless, some[which])
            inside[which, rule] = values >= rows[0].unless.minimum * (1 + RECOVERY_MARGIN)
            known[which, rule] &= np.logical_not(np.isnan(values))

    def _by_profile(
        self, ids: Ints, t_ms: Ints, ph: Floats
    ) -> list[tuple[_Profile, Ints, Ints, Ints]]:
        """Split readings by profile: (profile, places, era, band), the last three (k,); −1 is no profile."""
        era = np.searchsorted(self._eras, t_ms, side="right")
        # Bands are exclusive below and inclusive above; the last place is for an unknown pH.
        band = np.searchsorted(self._edges, ph, side="left")
        band[np.isnan(ph)] = len(self._edges) + 1
        split = []
        for i in np.unique(ids[ids >= 0]):
            some = np.flatnonzero(ids == i)
            split.append((self._profiles[i], some, era[some], band[some]))
        return split

    def _profile(self, indicator: str, conditions: Conditions) -> int:
        relevant = self._relevant.get(indicator)
        if relevant is None:
            relevant = self._relevant[indicator] = self._words(indicator)
        # A plot that no row names is like any other.
        known = {
            k: v
            for k, v in conditions.known.items()
            if k in relevant and (k != PLOT or v in relevant[k])
        }
        wrong = {k for k in conditions.wrong if k in relevant}
        key = (indicator, (*sorted(known.items()), *((k, "") for k in sorted(wrong))))
        if key not in self._profile_ids:
            self._profile_ids[key] = len(self._profiles)
            self._profiles.append(self._compile(indicator, known, wrong))
        return self._profile_ids[key]

    def _words(self, indicator: str) -> dict[str, frozenset[str]]:
        """Return the conditions that rows of ``indicator`` look at, with their words; pH comes with the readings."""
        words: dict[str, frozenset[str]] = {}
        for rule in self._catalogue.rules.get(indicator, ()):
            for row in rule:
                for key, some in row.where.items():
                    words[key] = words.get(key, frozenset()) | some
        return words

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
            special=np.full(shape, -1, dtype=np.int64),
            rule_ids=[rule[0].rule_id for rule in rules],
            needs_ph=any(row.band is not None for rule in rules for row in rule),
        )
        for k, rule in enumerate(rules):
            profile.sign[:, :, k] = -1.0 if rule[0].comparator.from_below else 1.0
            banded = any(row.band is not None for row in rule)
            for era in range(shape[0]):
                at_ms = int(self._eras[era - 1]) if era else int(self._eras[0]) - 1
                if not banded:
                    self._put(profile, (era, slice(None), k), select(rule, known, at_ms))
                    continue
                for band in range(shape[1]):
                    selection = select(rule, {**known, **self._ph_of(band)}, at_ms)
                    self._put(profile, (era, slice(band, band + 1), k), selection)
        profile.above = float(profile.breaks.min(initial=np.inf, where=profile.sign > 0))
        profile.below = -float(profile.breaks.min(initial=np.inf, where=profile.sign < 0))
        return profile

    def _put(
        self, profile: _Profile, place: tuple[int, slice, int], selection: Selection | None
    ) -> None:
        if selection is None:
            return
        if not selection.complete:
            profile.recovers[place] = math.nan
            return
        cited, strictest = selection.mildest(), selection.strictest()
        sign = -1.0 if cited.comparator.from_below else 1.0
        profile.row[place] = self._row_of[id(cited)]
        profile.breaks[place] = _breaks(cited, sign)
        margin = RECOVERY_MARGIN * abs(strictest.threshold)
        profile.recovers[place] = sign * strictest.threshold - margin
        if any(row.duration is not None or row.unless is not None for row in selection.rows):
            self._put_special(profile, place, selection.rows)

    def _put_special(
        self, profile: _Profile, place: tuple[int, slice, int], rows: tuple[Limit, ...]
    ) -> None:
        key = tuple(self._row_of[id(row)] for row in rows)
        if key not in self._special_of:
            self._special_of[key] = len(self.specials)
            self.specials.append(rows)
        profile.special[place] = self._special_of[key]
        for row in rows:
            if row.duration is not None:
                # A reading that is well says how long the one before it held.
                profile.breaks[place] = -math.inf
                profile.companions |= {row.indicator}
            if row.unless is not None:
                profile.companions |= {row.unless.indicator}
                if row.unless.indicator == SATURATION:
                    profile.companions |= {TEMPERATURE}

    def _ph_of(self, band: int) -> dict[str, float]:
        """Return a pH inside the band's place, nothing for the last place."""
        if band > len(self._bounds) or not self._bounds:
            return {}
        return {PH: self._bounds[band] if band < len(self._bounds) else self._bounds[-1] + 1}


def beyond(row: Limit, v: Floats) -> Bools:
    """Tell which of ``v`` (n,) break ``row`` by themselves; NaN does not."""
    sign = -1.0 if row.comparator.from_below else 1.0
    return np.greater(sign * v, _breaks(row, sign))


def _breaks(row: Limit, sign: float) -> float:
    """Return the bound that sign × value must be over to break ``row`` by itself."""
    inclusive = row.comparator in {Comparator.AT_MOST, Comparator.AT_LEAST}
    # ``>`` and ``<`` spare what counts as equal to the limit; ``<=`` and ``>=`` take it in.
    bound = sign * edge(row.threshold, upward=(sign > 0) != inclusive)
    return math.nextafter(bound, -math.inf) if inclusive else bound
