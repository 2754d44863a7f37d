"""Two records of one series laid side by side: what is missing, doubled or different (pure)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR_MS = 5_000  # no reading is stamped further from its reply: the agents' timeout is shorter


@dataclass(frozen=True, slots=True)
class Sample:
    """One value with its time; ``exact`` is what the instrument said, as a decimal text, or a double's own value."""

    ms: int
    exact: Fraction


@dataclass(frozen=True, slots=True)
class Differences:
    """Where two records differ: missing and doubled samples, and (served, stored) pairs that are not the same."""

    missing: tuple[Sample, ...] = ()
    doubled: tuple[Sample, ...] = ()
    differing: tuple[tuple[Sample, Sample], ...] = ()


def same(served: Sample, stored: Sample) -> bool:
    """Tell whether ``stored`` is the double nearest to ``served``, to the last bit.

    >>> same(Sample(0, Fraction("0.3")), Sample(0, Fraction(0.3)))
    True
    >>> same(Sample(0, Fraction("0.3")), Sample(0, Fraction(3 * 0.1)))
    False
    """
    return Fraction(float(served.exact)) == stored.exact


def align(served: Sequence[Sample], stored: Sequence[Sample]) -> Differences:
    """Return the fewest differences that explain ``stored``; both must be in order of time.

    Order decides; times only tell apart equal values and keep a sample from standing for one far away.
    """
    if len(served) == len(stored) and all(map(_matches, served, stored)):
        return Differences()
    return _trace(served, stored, _costs(served, stored))


def _matches(served: Sample, stored: Sample) -> bool:
    return abs(served.ms - stored.ms) <= NEAR_MS and same(served, stored)


_MATCH, _DIFFER, _MISSING, _DOUBLED = range(4)


@dataclass(frozen=True, slots=True)
class _Row:
    """Costs of explaining the first i served by the first ``low`` … stored, and the last step of each."""

    low: int
    cost: list[float]
    step: list[int]

    def at(self, j: int) -> float:
        k = j - self.low
        return self.cost[k] if 0 <= k < len(self.cost) else float("inf")


def _costs(served: Sequence[Sample], stored: Sequence[Sample]) -> list[_Row]:
    """Edit distance in the band of near samples; a match costs a trifle by its distance in time."""
    times = [sample.ms for sample in stored]
    n, m = len(served), len(stored)
    lows = [bisect_left(times, sample.ms - NEAR_MS) for sample in served] + [m]
    highs = [0, *(bisect_right(times, sample.ms + NEAR_MS) for sample in served)]
    rows: list[_Row] = []
    for i in range(n + 1):
        low = lows[i - 1] if i else 0
        high = max(highs[i], lows[i] if i < n else m)
        row = _Row(low, [], [])
        above = rows[-1] if rows else None
        for j in range(low, high + 1):
            best, step = (0.0, _MATCH) if i == j == 0 else (float("inf"), _MATCH)
            if above is not None:
                if above.at(j) + 1 < best:
                    best, step = above.at(j) + 1, _MISSING
                if j:
                    gap_ms = abs(served[i - 1].ms - stored[j - 1].ms)
                    if gap_ms <= NEAR_MS:
                        equal = same(served[i - 1], stored[j - 1])
                        price = above.at(j - 1) + gap_ms * 1e-9 + (0 if equal else 1)
                        if price < best:
                            best, step = price, _MATCH if equal else _DIFFER
            if j > low and row.cost[-1] + 1 < best:
                best, step = row.cost[-1] + 1, _DOUBLED
            row.cost.append(best)
            row.step.append(step)
        rows.append(row)
    return rows


def _trace(served: Sequence[Sample], stored: Sequence[Sample], rows: list[_Row]) -> Differences:
    missing: list[Sample] = []
    doubled: list[Sample] = []
    differing: list[tuple[Sample, Sample]] = []
    i, j = len(served), len(stored)
    while i or j:
        step = rows[i].step[j - rows[i].low]
        if step == _MISSING:
            i -= 1
            missing.append(served[i])
        elif step == _DOUBLED:
            j -= 1
            doubled.append(stored[j])
        else:
            i, j = i - 1, j - 1
            if step == _DIFFER:
                differing.append((served[i], stored[j]))
    return Differences(tuple(missing[::-1]), tuple(doubled[::-1]), tuple(differing[::-1]))
