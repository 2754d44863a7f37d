"""One store copied into another, piece by piece, and both compared at the end.

How far it came stands in the target, so a process that is killed is gone on with where it was. The comparison reads
both stores from end to end, month by month: of each series the count of rows and the sums of two hashes of each row,
which do not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ingest.store.stock import month_name, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ingest.batch import Series
    from ingest.store.reading_store import Latest, Level
    from ingest.store.stock import Columns, Stock

HASHED = ("t_ms", "dup", "v", "q", "flags", "received_ms", "inbox_pos")
HASHED_OF_BUCKETS = ("t_ms", "low", "high", "valued", "n", "good")  # a sum depends on its order
_SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class DifferentError(Exception):
    """The copy is not what was copied; ``found`` names each difference."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__(f"{len(found)} differences")
        self.found = found


@dataclass(frozen=True, slots=True)
class Done:
    """How many pieces, and readings in them, are in the target."""

    pieces: int
    readings: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to; ``left`` are readings that the target cannot hold."""

    readings: int
    buckets: int
    left: int
    begun_at: int
    cursor: int


class Target(Protocol):
    """A store that is filled; until ``publish`` no server uses it."""

    @property
    def place(self) -> str:
        """What a person recognises it by."""
        ...

    @property
    def levels(self) -> Sequence[Level | None]:
        """What it wants to have; None are readings."""
        ...

    def begin(self, mark: str, cursor: int) -> tuple[int, int]:
        """Return how many pieces, and readings, of the source with this mark are there already."""
        ...

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Which rows it is able to hold, (n,)."""
        ...

    def put(
        self, level: Level | None, series: Sequence[Series], columns: Columns, done: Done
    ) -> None:
        """Add rows, then note that this is done."""
        ...

    def seal(self, cursor: int, latest: Sequence[Latest]) -> None:
        """Write down what is known of each series, and where the inbox goes on."""
        ...

    def stock(self) -> Stock:
        """What is there now."""
        ...

    def reset(self) -> None:
        """Have the next copy begin anew."""
        ...

    def publish(self) -> None:
        """Have it count."""
        ...


def copy(source: Stock, target: Target, report: Callable[[str, int, int], None]) -> Copied:
    """Copy what is not there yet, compare all, and have the target count; raise DifferentError when it may not.

    ``report`` is told what is done, how much of it, and how much there is.
    """
    skip, begun_at = target.begin(source.mark, source.cursor)
    total = source.count()
    pieces, done = 0, Done(skip, begun_at)
    report("copied", begun_at, total)
    for level in target.levels:
        for month in source.months(level):
            for piece in source.pieces(level, month):
                pieces += 1
                if pieces <= skip:
                    continue
                rows = source.read(piece)
                held = np.flatnonzero(target.holds(rows))
                done = Done(pieces, done.readings + (0 if level else len(rows["t_ms"])))
                target.put(level, source.series, take(rows, held), done)
                report("copied" if level is None else f"copied, and {level}s", done.readings, total)
    target.seal(source.cursor, source.latest())
    there = target.stock()
    try:
        copied = _compare(source, there, target, begun_at, report)
    except DifferentError:
        target.reset()
        raise
    finally:
        there.close()
    target.publish()
    return copied


def _compare(
    source: Stock,
    there: Stock,
    target: Target,
    begun_at: int,
    report: Callable[[str, int, int], None],
) -> Copied:
    found: list[str] = []
    compared = {True: 0, False: 0}
    left = 0
    total = source.count()
    read = 0

    def note(rows: int) -> None:
        nonlocal read
        read += rows  # of one store, then of the other
        report("compared", min(read // 2, total), total)

    for level in target.levels:
        for month in sorted({*source.months(level), *there.months(level)}):
            seen = note if level is None else None
            ours, lost = digests(source, level, month, holds=target.holds, seen=seen)
            theirs, _ = digests(there, level, month, seen=seen)
            left += lost if level is None else 0
            compared[level is None] += sum(one[0] for one in ours.values())
            found += _differences(level, month, ours, theirs)
    report("compared", total, total)
    if found:
        raise DifferentError(found)
    return Copied(compared[True], compared[False], left, begun_at, source.cursor)


Digest = tuple[int, int, int]


def _differences(
    level: Level | None,
    month_ms: int,
    ours: dict[Series, Digest],
    theirs: dict[Series, Digest],
) -> list[str]:
    said = []
    for series in sorted({*ours, *theirs}, key=lambda s: (s.station, s.device, s.indicator)):
        one, other = ours.get(series, (0, 0, 0)), theirs.get(series, (0, 0, 0))
        if one == other:
            continue
        what = "readings" if level is None else f"{level}s"
        how = "others" if one[0] == other[0] else f"{other[0]} instead of {one[0]}"
        name = f"{series.station}/{series.device}/{series.indicator}"
        said.append(f"{name} {month_name(month_ms)}: {how} {what}")
    return said


def digests(
    stock: Stock,
    level: Level | None,
    month_ms: int,
    *,
    holds: Callable[[Columns], NDArray[np.bool_]] | None = None,
    seen: Callable[[int], None] | None = None,
) -> tuple[dict[Series, Digest], int]:
    """Return of each series count and two sums of hashes of a month's rows, and how many were left out."""
    by_series: dict[int, Digest] = {}
    left = 0
    for piece in stock.pieces(level, month_ms):
        rows = stock.read(piece)
        if seen is not None:
            seen(len(rows["t_ms"]))
        if holds is not None:
            held = np.flatnonzero(holds(rows))
            left += len(rows["t_ms"]) - len(held)
            rows = take(rows, held)
        if not len(rows["t_ms"]):
            continue
        order = np.argsort(rows["series"], kind="stable")
        series, first = np.unique(rows["series"][order], return_index=True)
        counts = np.diff(np.append(first, len(order)))
        sums = [np.add.reduceat(hashes(rows, seed)[order], first) for seed in _SEEDS]
        for number, *more in zip(
            series.tolist(), counts.tolist(), sums[0].tolist(), sums[1].tolist(), strict=True
        ):
            n, low, high = by_series.get(number, (0, 0, 0))
            by_series[number] = n + more[0], (low + more[1]) % 2**64, (high + more[2]) % 2**64
    return {stock.series[number]: one for number, one in by_series.items()}, left


def hashes(columns: Columns, seed: int = _SEEDS[0]) -> NDArray[np.uint64]:
    """Return a hash of each row, (n,), of everything but its series: the mix of splitmix64, column after column."""
    is_readings = "dup" in columns
    mixed = np.full(len(columns["t_ms"]), seed, np.uint64)
    for name in HASHED if is_readings else HASHED_OF_BUCKETS:
        column = columns[name]
        if column.dtype == np.float64:
            column = np.where(np.isnan(column), np.nan, column)  # one NaN of the many
            if not is_readings:
                column = column + 0.0  # of −0 and 0 either may be the lowest
        else:
            column = column.astype(np.int64)
        mixed = (mixed ^ column.view(np.uint64)) + np.uint64(_SEEDS[0])
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        mixed ^= mixed >> np.uint64(31)
    return mixed
