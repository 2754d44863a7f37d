"""What a limit is, and which row of a standard applies under given conditions (pure).

Values are compared with a relative tolerance of 1e-12: a limit written ``0.3`` must not be exceeded by
0.30000000000000004, which is what 3 × 0.1 gives in doubles. Drivers send the double nearest to the exact decimal, so
for them the tolerance never matters; JSON written by others may carry such dust. No instrument resolves one part in
10^12.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ingest.registry.context import CONDITION_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from drivers.records import Severity

TOLERANCE = 1e-12
FOREVER_MS = 2**62

PH = "ph"
"""The only condition that is a number; the others are words of ``KEY_VALUES``."""

PLOT = "plot"
"""The id of a plot: a row that names one applies on that plot only, never where the plot is not known."""

PADDY_UPLAND = "paddy_upland_rotation"
"""Rice and upland crops in turn: the stricter row of paddy and other, decided when the tables are loaded."""

KEY_VALUES = CONDITION_WORDS
"""The words of each condition but ``ph`` and ``plot``."""

COMPANION_KEYS = ("water_ph", "water_temperature", "water_do_saturation")
"""Readings of the same water that some limits need beside their own value; named as indicators, in their units."""


class Comparator(StrEnum):
    """What breaks a limit."""

    ABOVE = ">"
    BELOW = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    DETECTED = "detected"

    @property
    def from_below(self) -> bool:
        """Whether values below the limit break it."""
        return self in {Comparator.BELOW, Comparator.AT_MOST}


def edge(limit: float, *, upward: bool = True) -> float:
    """Return the last double that still counts as equal to ``limit``, looking up or down."""
    slack = abs(limit) * TOLERANCE
    return limit + slack if upward else limit - slack


@dataclass(frozen=True, slots=True)
class Band:
    """A pH band: exclusive below, inclusive above; None is unbounded.

    >>> Band(5.5, 6.5).holds(5.5), Band(None, 5.5).holds(5.5), Band(5.5, 6.5).holds(5.51)
    (False, True, True)
    """

    low: float | None = None
    high: float | None = None

    def holds(self, x: float) -> bool:
        """Tell whether ``x`` lies in the band."""
        if self.low is not None and not x > edge(self.low):
            return False
        return self.high is None or x <= edge(self.high)

    def overlaps(self, other: Band) -> bool:
        """Tell whether the two bands share a value."""
        low = max(_or(self.low, -1e300), _or(other.low, -1e300))
        return low < min(_or(self.high, 1e300), _or(other.high, 1e300))

    def sample(self) -> float:
        """Return a value inside the band."""
        if self.low is None:
            return 7.0 if self.high is None else self.high
        return self.low + 1 if self.high is None else self.high

    def __str__(self) -> str:
        if self.low is None:
            return "" if self.high is None else f"pH≤{self.high:g}"
        return f"pH>{self.low:g}" if self.high is None else f"{self.low:g}<pH≤{self.high:g}"


def _or(x: float | None, default: float) -> float:
    return default if x is None else x


@dataclass(frozen=True, slots=True)
class Duration:
    """The bound must be kept for ``least_ms`` of any continuous ``window_ms`` (GB 11607: 16 h of 24 h)."""

    window_ms: int
    least_ms: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """The limit is also kept when ``indicator`` is at least ``minimum`` (GB 3838 class I: 90 % saturation)."""

    indicator: str
    minimum: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limit:
    """One numeric limit on an indicator, with the conditions under which it applies.

    ``limit`` and ``unit`` are the standard's own; ``threshold`` is the same in the indicator's catalogue unit.
    In force for samples with ``from_ms`` ≤ t < ``to_ms`` (UTC ms). ``where`` maps a condition to the words it may
    have, ``band`` is the pH band; a condition that is absent does not matter.
    """

    indicator: str
    standard: str
    title_zh: str
    clause: str
    clause_en: str = ""
    case_zh: str = ""
    case_en: str = ""
    """For what the row holds, without table and item."""
    level: str
    comparator: Comparator
    limit: Decimal
    unit: str
    threshold: float
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    band: Band | None = None
    severity: Severity
    rule_id: str
    from_ms: int
    to_ms: int = FOREVER_MS
    verified: bool
    limit_version: str
    place: str
    """File and line."""
    source: str = ""
    note: str = ""
    averaging: str = ""
    """What the value must be: blank for an instantaneous value, else a word such as ``weekly mean``."""
    duration: Duration | None = None
    unless: Alternative | None = None
    approved_by: str = ""
    """Who answers for a site's limit that is looser than the national one."""

    def condition_keys(self) -> tuple[str, ...]:
        """Return the conditions that the row looks at."""
        return (*self.where, PH) if self.band is not None else tuple(self.where)

    def broken_by(self, value: float) -> bool:
        """Tell whether ``value`` (catalogue unit) breaks the limit; at the limit ``>`` and ``<`` are kept."""
        match self.comparator:
            case Comparator.BELOW:
                return value < edge(self.threshold, upward=False)
            case Comparator.AT_MOST:
                return value <= edge(self.threshold)
            case Comparator.AT_LEAST:
                return value >= edge(self.threshold, upward=False)
            case _:
                return value > edge(self.threshold)

    def matches(self, conditions: Mapping[str, str | float]) -> bool:
        """Tell whether the row applies; every key of ``condition_keys()`` but the plot must be in ``conditions``."""
        for key, words in self.where.items():
            if (conditions.get(PLOT) if key == PLOT else conditions[key]) not in words:
                return False
        return self.band is None or self.band.holds(float(conditions[PH]))

    def in_force(self, at_ms: int | None) -> bool:
        """Tell whether the edition was in force; an unknown time leaves every edition possible."""
        return at_ms is None or self.from_ms <= at_ms < self.to_ms

    def overlaps(self, other: Limit) -> bool:
        """Tell whether some sample would pick both rows."""
        if self.from_ms >= other.to_ms or other.from_ms >= self.to_ms:
            return False
        if any(not words & other.where.get(key, words) for key, words in self.where.items()):
            return False
        return self.band is None or other.band is None or self.band.overlaps(other.band)


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of one rule that apply: one when all conditions are known, else every row that it could be.

    ``missing`` are the conditions that are not known. ``complete`` is False when, for some value of a missing
    condition, no row would apply.
    """

    rows: tuple[Limit, ...]
    missing: tuple[str, ...] = ()
    complete: bool = True

    def verdict(self, value: float) -> bool | None:
        """Return exceeded, complied with, or None when the rows it could be disagree."""
        if not self.complete:
            return None
        answers = {row.broken_by(value) for row in self.rows}
        return answers.pop() if len(answers) == 1 else None

    def mildest(self) -> Limit:
        """Return the row that is broken last: the one to cite when all of them are broken."""
        if self.rows[0].comparator.from_below:
            return min(self.rows, key=_threshold)
        return max(self.rows, key=_threshold)

    def strictest(self) -> Limit:
        """Return the row that is broken first."""
        if self.rows[0].comparator.from_below:
            return max(self.rows, key=_threshold)
        return min(self.rows, key=_threshold)


def _threshold(row: Limit) -> float:
    return row.threshold


def select(
    rule: Sequence[Limit], conditions: Mapping[str, str | float], at_ms: int | None
) -> Selection | None:
    """Return the rows of ``rule`` that apply, or None when the rule does not apply at all.

    ``rule`` holds rows of one rule and comparator, ``conditions`` the known ones. A condition that is missing stands
    for each value it can have.
    """
    rows = [row for row in rule if row.in_force(at_ms)]
    keys = dict.fromkeys(itertools.chain.from_iterable(row.condition_keys() for row in rows))
    missing = tuple(key for key in keys if key not in conditions and key != PLOT)
    found: dict[int, Limit] = {}
    uncovered = 0
    for values in itertools.product(*(_possible(key, rows) for key in missing)):
        case = {**conditions, **dict(zip(missing, values, strict=True))}
        matched = [row for row in rows if row.matches(case)]
        uncovered += not matched
        found.update((id(row), row) for row in matched)
    if not found:
        return None
    return Selection(tuple(found.values()), missing, complete=not uncovered)


def _possible(key: str, rows: Iterable[Limit]) -> Sequence[str | float]:
    if key != PH:
        return KEY_VALUES[key]
    return list(dict.fromkeys(row.band.sample() for row in rows if row.band is not None))
