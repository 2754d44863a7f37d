"""More tests than an instrument can have made in the time: shown to the county, not held against anybody (§3.16)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from drivers.records import ResultKind
from ingest import tables
from ingest.judge.catalogue.tables import clean
from ingest.judge.records.corrections import is_correction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ingest.batch import TestItem

BURST = "burst"
SAME_MINUTE = "same_minute"

RUN_MS = 180_000
"""GB/T 5009.199-2003 reads the absorbance over 3 min: a channel cannot give its next result sooner."""
CHANNELS = 16
"""Of an instrument whose records name none: most have 8 to 16, and one of 24 is flagged for two runs at once only."""
MOST_CHANNELS = 96
"""A microplate; a larger number is a sample's, not a channel's."""
RUNS = 2
"""One run may end as a span of ``RUN_MS`` begins, and the next as it ends."""
DATE_ONLY_MINUTES = frozenset({23 * 60 + 59, 0})
"""Minutes of Shanghai's day that a date alone becomes, or a list that is keyed in for the whole day."""
DATE_ONLY_SAMPLES = 5
"""So many samples in such a minute are a list, not a late test with its repeats."""

_MINUTE_MS = 60_000
_SHANGHAI_MINUTES = 8 * 60
_MOST_STORED = 5_000
"""Stored tests of a device that are looked at for one batch, the newest."""

_SCREENED = (ResultKind.INHIBITION, ResultKind.QUALITATIVE)

Device = tuple[str, str]
"""Station, device."""


@dataclass(frozen=True, slots=True)
class TestTime:
    """One test of a device: ``sample`` is the same in records of one sample and attempt.

    ``channel`` is blank where it is not named, and of a strip: it is read in seconds, the channel limits nothing.
    """

    __test__ = False  # not a pytest class

    tested_ms: int
    record_id: str
    sample: tuple[str, int]
    channel: str = ""


def time_of(
    item: TestItem, record_id: str, kind: ResultKind | None, tested_ms: int | None
) -> TestTime | None:
    """Return what counts of a record here; None of one without a time, a correction, or one from a laboratory.

    A laboratory's series all bear the time of its report.
    """
    record = item.record
    if tested_ms is None or kind not in _SCREENED or is_correction(record):
        return None
    sample = (clean(record.sample_no, 60) or record_id, record.attempt)
    return TestTime(tested_ms, record_id, sample, _channel(kind, record.channel))


def _channel(kind: str, named: str) -> str:
    return clean(named, 20) if kind == ResultKind.INHIBITION else ""


def pace_flags(times: Iterable[TestTime]) -> dict[str, tuple[str, ...]]:
    """Return the flags of the tests of one device that have any, by record id; the order of ``times`` is of no matter.

    Each sample is counted once. A test is flagged when with those before it, in the order of their times, there are
    more than the channels can have given.
    """
    ordered = sorted(times, key=lambda one: (one.tested_ms, one.record_id))
    at_ms = [one.tested_ms for one in ordered]
    channels = _channels(ordered)
    found: dict[str, tuple[str, ...]] = {}
    for i, one in enumerate(ordered):
        flags = []
        if _samples(ordered, bisect_left(at_ms, one.tested_ms - RUN_MS), i) > RUNS * channels:
            flags.append(BURST)
        minute_ms = one.tested_ms // _MINUTE_MS * _MINUTE_MS
        least = DATE_ONLY_SAMPLES if _is_date_only(minute_ms) else channels + 1
        if _samples(ordered, bisect_left(at_ms, minute_ms), i) >= least:
            flags.append(SAME_MINUTE)
        if flags:
            found[one.record_id] = tuple(flags)
    return found


def _samples(ordered: Sequence[TestTime], first: int, last: int) -> int:
    # More than the most that anything here is compared with need not be counted.
    first = max(first, last - 4 * RUNS * MOST_CHANNELS)
    return len({one.sample for one in ordered[first : last + 1]})


def _channels(ordered: Sequence[TestTime]) -> int:
    """Return how many channels the device has, as far as its records say."""
    named = {one.channel for one in ordered if one.channel}
    if not named:
        return CHANNELS
    numbers = [int(name) for name in named if name.isascii() and name.isdigit() and len(name) < 4]
    most = max((number for number in numbers if number <= MOST_CHANNELS), default=0)
    return max(min(len(named), MOST_CHANNELS), most)


def _is_date_only(minute_ms: int) -> bool:
    return (minute_ms // _MINUTE_MS + _SHANGHAI_MINUTES) % (24 * 60) in DATE_ONLY_MINUTES


def flags_of(
    connection: sa.Connection, times: Mapping[Device, Sequence[TestTime]]
) -> dict[str, tuple[str, ...]]:
    """Return the flags of the tests of a batch, beside those stored around them, by record id."""
    found: dict[str, tuple[str, ...]] = {}
    for device, some in times.items():
        ids = {one.record_id for one in some}
        around = [one for one in _stored(connection, device, some) if one.record_id not in ids]
        found |= pace_flags([*around, *some])
    return found


def _stored(connection: sa.Connection, device: Device, some: Sequence[TestTime]) -> list[TestTime]:
    """Return the device's stored tests of the spans that tests of the batch end."""
    table = tables.tests
    at_ms = sorted(one.tested_ms for one in some)
    rows = connection.execute(
        sa.select(
            table.c.tested_ms,
            table.c.record_id,
            table.c.sample_no,
            table.c.attempt,
            table.c.result_kind,
            table.c.record,
        )
        .where(
            table.c.station == device[0],
            table.c.device == device[1],
            table.c.tested_ms >= at_ms[0] - RUN_MS,
            table.c.tested_ms <= at_ms[-1],
            table.c.result_kind.in_(_SCREENED),
            table.c.parent_record_id.is_(None) | (table.c.attempt > 0),  # no correction
        )
        .order_by(table.c.tested_ms.desc())
        .limit(_MOST_STORED)
    )
    return [
        TestTime(
            t_ms,
            record_id,
            (number or record_id, attempt),
            _channel(kind, str(record.get("channel", ""))),
        )
        for t_ms, record_id, number, attempt, kind, record in rows
        if bisect_right(at_ms, t_ms + RUN_MS) > bisect_left(at_ms, t_ms)
    ]
