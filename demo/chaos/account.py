"""The account of a run: what was served, accepted, taken, stored, lost and told, against each other (pure).

Accepted is what a spool committed. Accepted values are in the store exactly once, but for those in packs that are gone;
and the packs that are gone are exactly those that the server has booked as lost or gap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from demo.chaos.load import BREACH, SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from demo.chaos.spools import Accepted, Column, Place, SeriesKey

NOTES = 40
FIRST_EVENTS = frozenset({"alert.suspected", "alert.confirmed"})


@dataclass(frozen=True, slots=True)
class Replies:
    """What one device served: counts and times (n,), and for each place in its registers the counts that breached."""

    indicators: tuple[str, ...]
    n: NDArray[np.int64]
    ms: NDArray[np.int64]
    over: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """One series in the store, all (n,); a failed reading has NaN."""

    t_ms: NDArray[np.int64]
    v: NDArray[np.float64]
    dup: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Booked:
    """A range of packs that the server booked; ``readings`` is its bound, −1 unknown.

    ``said_from`` is where the range of the ``lost`` pack begins, ``said`` the readings that it speaks of. The server
    books only what it did not have of it, with no more readings than that can hold.
    """

    station: str
    epoch: str
    from_seq: int
    through_seq: int
    readings: int
    reason: str
    said_from: int = 0
    said: int = -1


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which what a station was served may have died before it reached the spool.

    With ``full`` nothing died: the disk was full, and what had to be given up for it must have been booked.
    """

    from_ms: int
    to_ms: int
    station: str
    full: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A webhook that the receiver took for a new one."""

    webhook_id: str
    event_type: str
    alert_id: str
    series: SeriesKey


OF_EQUIPMENT = frozenset({"alert.open", "alert.resolved", "alert.updated"})


@dataclass(slots=True)
class Account:
    """The numbers, and a line for each thing that does not agree."""

    served: int = 0
    accepted: int = 0
    stored: int = 0
    failed: int = 0
    """Readings without a value: an agent's word that a poll failed."""
    missing: int = 0
    doubled: int = 0
    differing: int = 0
    cut: int = 0
    """Served and never spooled, beside a kill."""
    refused: int = 0
    """Served and never seen in a spool while the agent's disk was full; these the server must have booked."""
    refused_booked: int = 0
    dropped: int = 0
    """Accepted readings that truly left a spool without having been taken."""
    dropped_in_cap: int = 0
    booked_in_cap: int = 0
    dropped_packs: int = 0
    booked_packs: int = 0
    gaps: int = 0
    gap_packs: int = 0
    wrongly_booked: int = 0
    wrongly_counted: int = 0
    wrongly_refused: int = 0
    unbooked: int = 0
    unread: int = 0
    epochs: int = 0
    epochs_behind: int = 0
    alerts_expected: int = 0
    alerts_missing: int = 0
    alerts_doubled: int = 0
    alerts_unexpected: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def even(self) -> bool:
        """Whether nothing is missing, doubled, different or booked wrongly."""
        return not any(
            (
                self.missing,
                self.doubled,
                self.differing,
                self.wrongly_booked,
                self.unbooked,
                self.unread,
                self.epochs_behind,
                self.alerts_missing,
                self.alerts_doubled,
                self.alerts_unexpected,
                self.wrongly_counted,
                self.wrongly_refused,
            )
        )

    def note(self, text: str) -> None:
        """Keep a line for the report, up to a bound."""
        if len(self.notes) < NOTES:
            self.notes.append(text)


def raw_of(v: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the raw numbers of values (n,); −1 where a value is not the double nearest to one."""
    raw = np.rint(v * SCALE).astype(np.int64)
    return np.where(raw / SCALE == v, raw, -1)


def take(
    served: Mapping[tuple[str, str], Replies],
    accepted: Accepted,
    stored: Mapping[SeriesKey, Stored],
    taken: set[Place],
    booked: Sequence[Booked],
    watermarks: Mapping[tuple[str, str], int],
    windows: Sequence[Window],
    told: Iterable[Told],
) -> Account:
    """Compare everything."""
    account = Account()
    full = {window.station for window in windows if window.full}
    gone = _packs(account, accepted, taken, booked, full)
    _epochs(account, accepted, watermarks)
    cuts = _Cuts(windows)
    breached = _readings(account, served, accepted, stored, gone, cuts)
    _refusals(account, accepted, booked, cuts)
    _alerts(account, breached, told)
    return account


class _Cuts:
    """What each station was served and never spooled, by the fault that excuses it."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows: dict[str, list[Window]] = defaultdict(list)
        for window in windows:
            self.windows[window.station].append(window)
        self.killed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def excuse(
        self, station: str, ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which of ``ms`` (n,) are beside a kill, and which in a time of a full disk only."""
        killed = np.zeros(len(ms), np.bool_)
        full = np.zeros(len(ms), np.bool_)
        for window in self.windows[station]:
            within = (ms >= window.from_ms) & (ms <= window.to_ms)
            if window.full:
                full |= within
            else:
                killed |= within
        return killed, full & ~killed


def _packs(
    account: Account,
    accepted: Accepted,
    taken: set[Place],
    booked: Sequence[Booked],
    full: set[str],
) -> NDArray[np.bool_]:
    """Compare packs that are gone with ranges that were booked; return which accepted packs are gone, (n_packs,).

    Of the stations in ``full`` packs may have come and gone between two looks: they had no room on their disk.
    """
    ranges: dict[Place, str] = {}
    for loss in booked:
        if loss.reason == "gap":
            account.gaps += 1
            account.gap_packs += loss.through_seq - loss.from_seq + 1
        for seq in range(loss.from_seq, loss.through_seq + 1):
            place = (loss.station, loss.epoch, seq)
            if place in ranges:
                account.wrongly_booked += 1
                account.note(f"booked twice: {place}")
            ranges[place] = loss.reason
    # A pack that stands for lost ones is in the inbox under its last number; what was in its place is gone.
    stand_ins = {(b.station, b.epoch, b.through_seq) for b in booked if b.reason != "gap"}
    whole = taken - stand_ins
    gone = np.array([place not in whole for place in accepted.packs], np.bool_)
    for number, place in enumerate(accepted.packs):
        if gone[number] and place not in ranges:
            account.unbooked += 1
            account.note(f"accepted, not taken and not booked: {place}")
    known = set(accepted.packs)
    unread = {place for place in accepted.unseen if place not in whole and place not in known}
    for place, reason in ranges.items():
        if place in whole:
            account.wrongly_booked += 1
            account.note(f"booked as {reason} though taken: {place}")
        elif place not in known and place not in unread:
            account.wrongly_booked += 1
            account.note(f"booked as {reason}, never accepted: {place}")
    unread_for_nothing = {place for place in unread if place[0] not in full}
    account.unread = len(unread_for_nothing)
    for place in sorted(unread_for_nothing)[:3]:
        account.note(f"dropped before it was read from outside: {place}")
    records = np.array(accepted.records, np.int64)
    capped = np.array([ranges.get(place) == "cap" for place in accepted.packs], np.bool_)
    account.dropped_packs = int(gone.sum()) + len(unread)
    account.booked_packs = len(ranges)
    account.dropped = int(records[gone].sum()) if len(records) else 0
    account.dropped_in_cap = int(records[gone & capped].sum()) if len(records) else 0
    account.booked_in_cap = sum(b.readings for b in booked if b.reason == "cap")
    _count_lost(account, accepted, booked)
    return gone


def _count_lost(account: Account, accepted: Accepted, booked: Sequence[Booked]) -> None:
    """Compare the readings that each ``lost`` pack speaks of with those that were in the packs of its range."""
    held = dict(zip(accepted.packs, accepted.records, strict=True))
    for loss in booked:
        if loss.reason != "cap":
            continue
        places = [
            (loss.station, loss.epoch, seq)
            for seq in range(loss.said_from or loss.from_seq, loss.through_seq + 1)
        ]
        if any(place in accepted.unseen and place not in held for place in places):
            continue  # counted as unread already
        true = sum(held.get(place, 0) for place in places)
        gone = sum(held.get(place, 0) for place in places if place[2] >= loss.from_seq)
        if true != loss.said or not gone <= loss.readings <= loss.said:
            account.wrongly_counted += 1
            account.note(f"{loss}: its packs held {true} readings, those booked {gone}")


def _refusals(account: Account, accepted: Accepted, booked: Sequence[Booked], cuts: _Cuts) -> None:
    """Compare, by station, what a full disk refused with what was booked beyond the packs that were seen.

    A kill may take what was refused and not booked yet, so only what no kill excuses must have been booked.
    """
    held = dict(zip(accepted.packs, accepted.records, strict=True))
    beyond: Counter[str] = Counter()
    for loss in booked:
        if loss.reason == "cap":
            first = loss.said_from or loss.from_seq
            places = [(loss.station, loss.epoch, n) for n in range(first, loss.through_seq + 1)]
            if any(place not in held for place in places):
                beyond[loss.station] += loss.said - sum(held.get(p, 0) for p in places)
    for station in cuts.refused.keys() | beyond.keys():
        refused, killed = cuts.refused[station], cuts.killed[station]
        account.refused_booked += beyond[station]
        if not refused <= beyond[station] <= refused + killed:
            account.wrongly_refused += 1
            account.note(
                f"{station}: a full disk refused {refused} readings ({killed} more died in kills),"
                f" {beyond[station]} were booked"
            )


def _epochs(
    account: Account, accepted: Accepted, watermarks: Mapping[tuple[str, str], int]
) -> None:
    account.epochs = len(accepted.last)
    for place, last in accepted.last.items():
        mark = watermarks.get(place, 0)
        if mark != last:
            account.epochs_behind += 1
            account.note(f"epoch {place}: {last} packs were spooled, the server stands at {mark}")


def _readings(
    account: Account,
    served: Mapping[tuple[str, str], Replies],
    accepted: Accepted,
    stored: Mapping[SeriesKey, Stored],
    gone: NDArray[np.bool_],
    cuts: _Cuts,
) -> set[SeriesKey]:
    """Compare value by value; return the series with a breach that was accepted and is not gone."""
    breached = set()
    every = {
        (*device, indicator): (replies, place)
        for device, replies in served.items()
        for place, indicator in enumerate(replies.indicators)
    }
    for key in sorted(every.keys() | accepted.series.keys() | stored.keys()):
        column, rows = accepted.series.get(key), stored.get(key)
        sent, sent_ms = _served_raw(*every[key]) if key in every else _nothing()
        account.served += len(sent)
        raw, t_ms, lost = _accepted_raw(account, key, column, gone)
        _cut(account, key, sent, sent_ms, raw, cuts)
        _compare(account, key, raw, t_ms, lost, rows)
        if np.any(raw[~lost] >= BREACH):
            breached.add(key)
    return breached


def _nothing() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def _served_raw(replies: Replies, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    raw = replies.n.copy()
    over = np.array(replies.over.get(place, ()), np.int64)
    raw[np.isin(raw, over)] += BREACH
    return raw, replies.ms


def _accepted_raw(
    account: Account, key: SeriesKey, column: Column | None, gone: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return raw, t_ms and whether it is gone of each accepted value, (n,)."""
    if column is None:
        return *_nothing(), np.zeros(0, np.bool_)
    v = np.array(column.v, np.float64)
    good = ~np.isnan(v)
    account.accepted += int(good.sum())
    raw = raw_of(v[good])
    if np.any(raw < 0):
        account.differing += int((raw < 0).sum())
        account.note(f"{key}: accepted {v[good][raw < 0][0]!r}, which nothing served")
    lost = gone[np.array(column.pack, np.int64)[good]]
    return raw, np.array(column.t_ms, np.int64)[good], lost


def _cut(
    account: Account,
    key: SeriesKey,
    sent: NDArray[np.int64],
    sent_ms: NDArray[np.int64],
    raw: NDArray[np.int64],
    cuts: _Cuts,
) -> None:
    """Count what was served and never spooled: excused beside a fault, missing elsewhere."""
    never = ~np.isin(sent, raw)
    killed, full = cuts.excuse(key[0], sent_ms)
    cuts.killed[key[0]] += int((never & killed).sum())
    cuts.refused[key[0]] += int((never & full).sum())
    account.cut += int((never & killed).sum())
    account.refused += int((never & full).sum())
    lacking = never & ~killed & ~full
    if lacking.any():
        account.missing += int(lacking.sum())
        at = int(np.flatnonzero(lacking)[0])
        account.note(f"{key}: served {sent[at]} at {sent_ms[at]}, never spooled, no fault near")
    invented = ~np.isin(raw, sent) & (raw >= 0)
    if invented.any():
        account.differing += int(invented.sum())
        account.note(f"{key}: accepted {raw[invented][0]}, never served")


def _compare(
    account: Account,
    key: SeriesKey,
    raw: NDArray[np.int64],
    t_ms: NDArray[np.int64],
    lost: NDArray[np.bool_],
    rows: Stored | None,
) -> None:
    """Compare accepted with stored, one series."""
    if rows is None:
        have, at_ms, dup = *_nothing(), np.zeros(0, np.int64)
    else:
        good = ~np.isnan(rows.v)
        account.failed += int((~good).sum())
        have, at_ms, dup = raw_of(rows.v[good]), rows.t_ms[good], rows.dup[good]
    account.stored += len(have)
    missing = ~np.isin(raw, have) & ~lost
    if missing.any():
        account.missing += int(missing.sum())
        first = int(np.flatnonzero(missing)[0])
        account.note(
            f"{key}: {int(missing.sum())} accepted and not stored, first {raw[first]} at {t_ms[first]}"
        )
    extra = len(have) - len(np.unique(have))
    clash = int((dup > 0).sum())
    if extra or clash:
        account.doubled += max(extra, clash)
        account.note(f"{key}: {extra} stored twice, {clash} at a time that was taken")
    strange = ~np.isin(have, raw[~lost])
    if strange.any():
        account.differing += int(strange.sum())
        account.note(f"{key}: stored {have[strange][0]}, not accepted or booked as lost")
    times = dict(zip(raw.tolist(), t_ms.tolist(), strict=True))
    moved = sum(times.get(n, t) != t for n, t in zip(have.tolist(), at_ms.tolist(), strict=True))
    if moved:
        account.differing += moved
        account.note(f"{key}: {moved} stored under another time")


def _alerts(account: Account, breached: set[SeriesKey], told: Iterable[Told]) -> None:
    """One first webhook for each watched series that breached, and no other event of a limit.

    What stations are told to be (away, silent) is as it is: the plan takes them away.
    """
    firsts: Counter[SeriesKey] = Counter()
    ids: dict[SeriesKey, list[str]] = defaultdict(list)
    for item in told:
        if item.event_type in OF_EQUIPMENT:
            continue
        if item.event_type in FIRST_EVENTS and item.series in breached:
            firsts[item.series] += 1
            ids[item.series].append(item.webhook_id)
        else:
            account.alerts_unexpected += 1
            account.note(f"told of {item.event_type} on {item.series}, which was not staged")
    account.alerts_expected = len(breached)
    for key in sorted(breached):
        if firsts[key] == 0:
            account.alerts_missing += 1
            account.note(f"no alert on {key}")
        elif firsts[key] > 1:
            account.alerts_doubled += firsts[key] - 1
            account.note(f"{firsts[key]} first alerts on {key}: {' '.join(ids[key])}")
