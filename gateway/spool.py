"""The spool: every pack on disk, in order, until its receipt and a while longer.

What is held of an epoch is always one run ``oldest … last``. Receipted packs are a prefix of it and leave from the
front; unreceipted ones that must go are replaced in their place by a ``lost`` pack, so the stream has no hole.
One thread, one connection. On disk the spool takes at most its cap and ``SEGMENT_BYTES``, and the reserve beside it.
"""

from __future__ import annotations

import copy
import itertools
import sqlite3
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from gateway.reserve import RESERVE_BYTES, Reserve, free_bytes
from gateway.spool_file import (
    PAGE_BYTES,
    WAL_KEPT_BYTES,
    Identity,
    LossReason,
    SpoolBlockedError,
    SpoolError,
    SpoolGoneError,
    Trouble,
    can_grow,
    connect,
    digest_of,
    prepare,
    size_of,
    trouble_of,
    wal_of,
)
from gateway.spool_open import open_file
from gateway.wire import MAX_BODY_BYTES, EpochState, Lane, Lost, LostReason, encode_lost, peek_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.salvage import Report

__all__ = ["Epoch", "Spool", "SpoolBlockedError", "SpoolError", "SpoolGoneError", "SpooledPack"]

ROW_BYTES = 120  # what a row costs beside its body: columns, two index entries
RETENTION_MS = 7 * 24 * 3600 * 1000
EPOCH_KEPT_MS = 90 * 24 * 3600 * 1000
SLACK_BYTES = 1024 * 1024  # pages that are not quite full, and those that are not packs
SEGMENT_BYTES = (
    SLACK_BYTES + 2 * WAL_KEPT_BYTES + 2 * 1024 * 1024
)  # … the log, and one commit in both
COMMIT_PAGES = 6  # what a commit writes beside its bodies, at most and roughly
TRIES = 4
RELIEF_BYTES = 64 * 1024
LOOK_EVERY_MS = 500  # a look writes a byte and syncs it

log = structlog.get_logger()


class BodyTooLargeError(SpoolError):
    """A body over the link's limit; the caller must split it."""


@dataclass(slots=True)
class Epoch:
    """One epoch in the spool; counts are of what is held."""

    epoch: str
    lane: Lane
    ord: int
    oldest: int
    last: int
    acked: int
    last_pack_ms: int
    packs: int = 0
    unreceipted: int = 0
    records: int = 0
    queued: int = 0
    """Records in all packs and in those without receipt; ``lost`` packs have none."""

    @property
    def open_to_send(self) -> bool:
        """Whether a held pack has no receipt."""
        return self.unreceipted > 0


@dataclass(frozen=True, slots=True)
class SpooledPack:
    """One pack as held."""

    seq: int
    body: bytes


@dataclass(slots=True)
class LaneCounts:
    """Records of one lane since the spool was opened.

    ``taken + queued_at_start = receipted - reopened + lost + queued``, where ``lost`` is without ``memory``: what was
    lost there was never taken.
    """

    taken: int = 0
    queued_at_start: int = 0
    receipted: int = 0
    reopened: int = 0
    queued: int = 0
    lost: dict[LossReason, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Picture:
    """All that memory has of the disk; changed by a transaction as a whole or not at all."""

    epochs: dict[str, Epoch] = field(default_factory=dict)
    opened: dict[Lane, str] = field(default_factory=dict)
    """The epoch of this start, made with its first pack."""
    dirty: set[str] = field(default_factory=set)
    """Epochs whose ``acked`` is ahead of the disk."""
    stores: list[str] = field(default_factory=list)
    """Lives of the server, the last one counts."""
    bytes: int = 0
    receipted_bytes: int = 0
    lost: dict[tuple[Lane, LossReason], int] = field(default_factory=dict)
    """Records lost since there is this spool."""
    lost_now: dict[tuple[Lane, LossReason], int] = field(default_factory=dict)
    counts: dict[Lane, LaneCounts] = field(default_factory=lambda: {x: LaneCounts() for x in Lane})

    def copied(self) -> _Picture:
        """Return a copy that shares nothing that changes."""
        return _Picture(
            epochs={name: copy.copy(epoch) for name, epoch in self.epochs.items()},
            opened=dict(self.opened),
            dirty=set(self.dirty),
            stores=list(self.stores),
            bytes=self.bytes,
            receipted_bytes=self.receipted_bytes,
            lost=dict(self.lost),
            lost_now=dict(self.lost_now),
            counts={lane: copy.copy(counts) for lane, counts in self.counts.items()},
        )


class Spool:
    """Packs of one station on disk; every method is one transaction at most.

    ``alarms`` holds what a person should know: ``spool_restored``, ``spool_corrupt``, ``spool_full``, ``disk_full``.
    Methods that write raise SpoolBlockedError when they cannot at present, SpoolGoneError when they never will again.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        cap_bytes: int,
        new_id: Callable[[], str],
        file: Path | None = None,
    ) -> None:
        self._db = connection
        self._cap = cap_bytes
        self._new_id = new_id
        self._file = file
        self._identities = [] if file is None else [Identity.of(file)]
        self._reserve = None if file is None else Reserve(file.with_name(f"{file.stem}.reserve"))
        self._room: int | None = None  # what the file may take while the disk is full
        self._looked_ms = 0  # when a commit last asked whether it still is
        self._damaged: str | None = (
            None  # why the file was given up; the new one could not be written yet
        )
        self._log_bytes = 0  # written since the last checkpoint, roughly
        self._overflowed = False
        self._aged_ms = 0  # when packs were last dropped for their age
        self._p = _Picture()
        self.alarms: set[str] = set()
        prepare(connection)
        self._load()
        for epoch in self.epochs.values():
            self._p.counts[epoch.lane].queued_at_start += epoch.queued

    @classmethod
    def open(cls, path: Path, *, cap_bytes: int, new_id: Callable[[], str]) -> Spool:
        """Open or make the spool file; a damaged one is moved aside and what is readable of it delivered.

        Raises SpoolError when it is from a newer version or cannot be opened.
        """
        connection, report = open_file(path)
        try:
            spool = cls(connection, cap_bytes=cap_bytes, new_id=new_id, file=path)
        except sqlite3.Error as exc:
            connection.close()
            raise SpoolError(f"{path}: {exc}; check disk space and permissions") from exc
        except BaseException:
            connection.close()
            raise
        if report is not None:
            spool._note_salvage(report)
            for (lane, reason), records in report.lost.items():
                spool._p.lost_now[lane, reason] = records
                spool._p.counts[lane].queued_at_start += records
        if spool._reserve is not None:
            spool._reserve.make()
        return spool

    def close(self) -> None:
        """Write what is pending and close; receipts that cannot be written are asked for again."""
        try:
            self.flush()
        except (SpoolBlockedError, SpoolGoneError) as exc:
            log.warning("receipts_not_written", error=str(exc))
        finally:
            self._db.close()

    @property
    def epochs(self) -> dict[str, Epoch]:
        """All epochs by name."""
        return self._p.epochs

    @property
    def held_bytes(self) -> int:
        """Bytes of all packs held, with what a row costs."""
        return self._p.bytes

    @property
    def dropped_records(self) -> int:
        """Records lost since the spool was opened, but those that never came to it."""
        return sum(
            n for (_, reason), n in self._p.lost_now.items() if reason is not LossReason.MEMORY
        )

    @property
    def lost_ever(self) -> dict[tuple[Lane, LossReason], int]:
        """Records lost since there is this spool."""
        return dict(self._p.lost)

    def counts(self) -> dict[Lane, LaneCounts]:
        """Return where the records of each lane are, all at this moment."""
        counts = {lane: replace(c, lost={}) for lane, c in self._p.counts.items()}
        for epoch in self.epochs.values():
            counts[epoch.lane].queued += epoch.queued
        for (lane, reason), records in self._p.lost_now.items():
            counts[lane].lost[reason] = records
        return counts

    # ------------------------------------------------------------ taking in

    def append(self, lane: Lane, body: bytes, records: int, now_ms: int) -> None:
        """Put one body at the end of ``lane``; durable on return."""
        self.append_many([(lane, body, records)], now_ms)

    def append_many(self, items: Sequence[tuple[Lane, bytes, int]], now_ms: int) -> None:
        """Put (lane, body, records) at the ends of their lanes in one transaction; durable on return."""
        for _, body, _ in items:
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLargeError(
                    f"a body of {len(body)} bytes is over {MAX_BODY_BYTES}: split it"
                )

        if self._room is not None and abs(now_ms - self._looked_ms) >= LOOK_EVERY_MS:
            self._looked_ms = now_ms
            self._look_for_space()  # before anything is given up for a disk that is full no more

        def work() -> None:
            for lane, body, records in items:
                self._make_room(len(body) + ROW_BYTES, now_ms)
                self._insert(self._open_epoch(lane, now_ms), body, records, now_ms)
                if peek_lost(body) is None:
                    self._p.counts[lane].taken += records
                else:
                    self._note_lost(lane, LossReason.MEMORY, records)
            self._prune(now_ms)
            self._write_acked()
            self._shrink()

        self._change(work, sum(len(body) for _, body, _ in items))

    def _open_epoch(self, lane: Lane, now_ms: int) -> Epoch:
        name = self._p.opened.get(lane)
        if name is None:
            name = self._p.opened[lane] = self._new_id()
            order = 1 + max((e.ord for e in self.epochs.values()), default=0)
            self.epochs[name] = Epoch(name, lane, order, 1, 0, 0, now_ms)
            self._db.execute(
                "INSERT INTO epochs VALUES (?, ?, ?, 0, 0, ?)", (name, lane.value, order, now_ms)
            )
        return self.epochs[name]

    def _insert(
        self, epoch: Epoch, body: bytes, records: int, now_ms: int, *, width: int = 1
    ) -> None:
        first, last = epoch.last + 1, epoch.last + width
        lost = peek_lost(body)
        if lost is not None:
            body = encode_lost(Lost(first, last, lost.readings, lost.reason))
        self._db.execute(
            "INSERT INTO packs (epoch, from_seq, seq, records, lost, created_ms, digest, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (epoch.epoch, first, last, records, lost is not None, now_ms, digest_of(body), body),
        )
        epoch.last = last
        epoch.last_pack_ms = now_ms
        epoch.packs += 1
        epoch.unreceipted += 1
        if lost is None:
            epoch.records += records
            epoch.queued += records
        self._db.execute(
            "UPDATE epochs SET last = ?, last_pack_ms = ? WHERE epoch = ?",
            (last, now_ms, epoch.epoch),
        )
        self._p.bytes += len(body) + ROW_BYTES

    # ------------------------------------------------------------ giving out

    def current_epoch(self, lane: Lane) -> str | None:
        """The epoch that this start writes to, once it has a pack."""
        return self._p.opened.get(lane)

    def first_unreceipted(self, lane: Lane) -> Epoch | None:
        """The epoch to send from: the earliest one that holds a pack without receipt."""
        waiting = [e for e in self.epochs.values() if e.lane is lane and e.open_to_send]
        return min(waiting, key=lambda e: e.ord, default=None)

    def packs_from(self, epoch: str, seq: int, limit: int) -> list[SpooledPack]:
        """Return up to ``limit`` packs of ``epoch`` whose seq is at least ``seq``, in order.

        A pack whose bytes no longer match their digest is replaced by ``lost`` first.
        """
        packs: list[SpooledPack] = []
        rows = self._rows(
            "SELECT id, from_seq, seq, records, lost, digest, CAST(body AS BLOB) FROM packs"
            " WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (epoch, seq, limit),
        )
        for row_id, first, last, records, lost, digest, body in rows:
            if digest_of(body) != digest:
                # The wire's copy of the range is the same whether or not it could be written here.
                fresh = encode_lost(Lost(first, last, records, LostReason.CORRUPT))
                try:
                    self._mark_corrupt(epoch, row_id, last, 0 if lost else records, body, fresh)
                except SpoolBlockedError as exc:
                    log.warning("corrupt_pack_not_marked", error=str(exc))
                body = fresh  # noqa: PLW2901
            packs.append(SpooledPack(last, body))
        return packs

    def _mark_corrupt(
        self, name: str, row_id: int, seq: int, records: int, old: bytes, new: bytes
    ) -> None:
        def work() -> None:
            self._db.execute(
                "UPDATE packs SET lost = 1, digest = ?, body = ? WHERE id = ?",
                (digest_of(new), new, row_id),
            )
            epoch = self.epochs[name]
            grown = len(new) - len(old)
            self._p.bytes += grown
            epoch.records -= records
            if seq <= epoch.acked:
                self._p.receipted_bytes += grown
            else:
                epoch.queued -= records
                self._note_lost(epoch.lane, LossReason.CORRUPT, records)

        self._change(work)
        self.alarms.add("spool_corrupt")

    def states(self) -> dict[Lane, list[EpochState]]:
        """Every epoch that ever had a pack (kept 90 days after its last), by lane, for the status."""
        lanes: dict[Lane, list[EpochState]] = {}
        for epoch in sorted(self.epochs.values(), key=lambda e: e.ord):
            lanes.setdefault(epoch.lane, []).append(
                EpochState(epoch.epoch, epoch.oldest, epoch.last)
            )
        return lanes

    def queue_length(self) -> int:
        """Packs without receipt."""
        return sum(e.unreceipted for e in self.epochs.values())

    def oldest_unreceipted_ms(self) -> int | None:
        """When the oldest pack without receipt was committed; None when all have theirs."""
        oldest: int | None = None
        for epoch in list(self.epochs.values()):
            if epoch.open_to_send:
                for (at,) in self._rows(
                    "SELECT created_ms FROM packs WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT 1",
                    (epoch.epoch, epoch.acked),
                ):
                    oldest = at if oldest is None else min(oldest, at)
        return oldest

    # ------------------------------------------------------------ receipts

    @property
    def store(self) -> str | None:
        """The server life whose receipts count."""
        return self._p.stores[-1] if self._p.stores else None

    def is_superseded(self, store: str) -> bool:
        """Whether ``store`` was followed by another."""
        return store in self._p.stores[:-1]

    def new_store(self, store: str) -> None:
        """Begin a server life: nothing is receipted under it yet."""

        def work() -> None:
            self._db.execute("DELETE FROM stores WHERE store = ?", (store,))
            self._db.execute("INSERT INTO stores (store) VALUES (?)", (store,))
            self._db.execute("UPDATE epochs SET acked = 0")
            self._p.stores = [*(past for past in self._p.stores if past != store), store]
            self._p.dirty.clear()
            for epoch in self.epochs.values():
                self._p.counts[epoch.lane].reopened += epoch.records - epoch.queued
                epoch.acked = 0
                epoch.unreceipted = epoch.packs
                epoch.queued = epoch.records
            self._p.receipted_bytes = 0

        self._change(work)

    def mark_receipted(self, name: str, seq: int) -> None:
        """Note that ``name`` is receipted up to ``seq`` (at most its last); written with the next commit."""
        ((count, size, records),) = self._rows(
            "SELECT count(*), coalesce(sum(length(body)), 0), coalesce(sum(records * (lost = 0)), 0)"
            " FROM packs WHERE epoch = ? AND seq > ? AND seq <= ?",
            (name, self.epochs[name].acked, seq),
        )
        epoch = self.epochs[name]
        epoch.acked = seq
        epoch.unreceipted -= count
        epoch.queued -= records
        self._p.counts[epoch.lane].receipted += records
        self._p.receipted_bytes += size + count * ROW_BYTES
        self._p.dirty.add(name)

    def move_to_new_epoch(self, lane: Lane, now_ms: int) -> None:
        """Spool the unreceipted packs of the open epoch again under a new one (another agent wrote the old)."""

        def work() -> None:
            old = self.epochs[self._p.opened.pop(lane)]
            rows = self._db.execute(
                "SELECT from_seq, seq, records, lost, created_ms, digest, CAST(body AS BLOB) FROM packs"
                " WHERE epoch = ? AND seq > ? ORDER BY seq",
                (old.epoch, old.acked),
            ).fetchall()
            self._db.execute(
                "DELETE FROM packs WHERE epoch = ? AND seq > ?", (old.epoch, old.acked)
            )
            for first, last, records, was_lost, created_ms, digest, body in rows:
                self._p.bytes -= len(body) + ROW_BYTES
                if digest_of(body) != digest:  # its new row would vouch for it
                    body = encode_lost(Lost(first, last, records, LostReason.CORRUPT))  # noqa: PLW2901
                    self._note_lost(lane, LossReason.CORRUPT, 0 if was_lost else records)
                    self.alarms.add("spool_corrupt")
                self._insert(
                    self._open_epoch(lane, now_ms),
                    body,
                    records,
                    created_ms,
                    width=last - first + 1,
                )
            old.packs -= old.unreceipted
            old.records -= old.queued
            old.unreceipted = old.queued = 0
            old.last = old.acked
            old.oldest = min(old.oldest, old.last + 1)
            self._db.execute("UPDATE epochs SET last = ? WHERE epoch = ?", (old.last, old.epoch))
            self._write_acked()

        self._change(work)

    # ------------------------------------------------------------ letting go

    def flush(self) -> None:
        """Write receipts that only memory knows."""
        if self._p.dirty:
            self._change(self._write_acked)

    def prune(self, now_ms: int) -> None:
        """Drop receipted packs beyond 7 days or half the cap, and epochs 90 days after their last pack."""

        def work() -> None:
            self._prune(now_ms)
            self._write_acked()
            self._shrink()

        try:
            self._change(work)
        except SpoolBlockedError:
            return  # nothing was asked for that cannot wait
        if self._overflowed and self._p.bytes < self._cap // 10 * 9:
            self._overflowed = False
            self.alarms.discard("spool_full")
        self._look_for_space()

    def _prune(self, now_ms: int) -> None:
        while (excess := self._p.receipted_bytes - self._cap // 2) > 0:
            if not self._drop_receipted(limit=64, size=excess):
                break
        if abs(now_ms - self._aged_ms) < 60_000:
            return
        self._aged_ms = now_ms
        for lane in Lane:
            # One lane's packs may be young while the other's, in later epochs, are old.
            while self._drop_receipted(limit=64, before_ms=now_ms - RETENTION_MS, lane=lane):
                pass
        for name, epoch in list(self.epochs.items()):
            ended = epoch.packs == 0 and name not in self._p.opened.values()
            if ended and epoch.last_pack_ms < now_ms - EPOCH_KEPT_MS:
                self._db.execute("DELETE FROM epochs WHERE epoch = ?", (name,))
                del self.epochs[name]
                self._p.dirty.discard(name)

    def _make_room(self, size: int, now_ms: int) -> None:
        while (excess := self._excess(size)) > 0:
            if self._drop_receipted(limit=16, size=excess):
                continue
            if not (
                self._drop_unsent(Lane.READINGS, now_ms) or self._drop_unsent(Lane.TESTS, now_ms)
            ):
                return  # only ``lost`` packs are left
            if self._room is None:
                self._overflowed = True
                self.alarms.add("spool_full")

    def _excess(self, size: int) -> int:
        """Bytes by which ``size`` more would be over the cap, or over what the disk has."""
        if self._p.bytes + size > self._cap:
            return self._p.bytes + size - self._cap
        room = self._cap + SLACK_BYTES if self._room is None else self._room
        pages, free = self._pages()
        return (pages - free) * PAGE_BYTES + size + 2 * PAGE_BYTES - room

    def _drop_receipted(
        self,
        *,
        limit: int,
        size: int | None = None,
        before_ms: int | None = None,
        lane: Lane | None = None,
    ) -> bool:
        """Delete up to ``limit`` of the oldest receipted packs, the earliest epoch first; False when none.

        With ``size``, no more than free so many bytes; with ``before_ms``, only those that were spooled before.
        """
        holding = [
            e for e in self.epochs.values() if e.packs > e.unreceipted and lane in {None, e.lane}
        ]
        if not holding:
            return False
        epoch = min(holding, key=lambda e: e.ord)
        rows = self._db.execute(
            "SELECT id, seq, length(body), created_ms, records * (lost = 0) FROM packs WHERE epoch = ? AND seq <= ?"
            " ORDER BY seq LIMIT ?",
            (epoch.epoch, epoch.acked, limit),
        ).fetchall()
        dropped = freed = 0
        for row_id, seq, body_size, created_ms, records in rows:
            # Only from the front, or the run would get a hole: times need not grow, a clock may have been set.
            if (size is not None and freed >= size) or (
                before_ms is not None and created_ms >= before_ms
            ):
                break
            self._db.execute("DELETE FROM packs WHERE id = ?", (row_id,))
            epoch.oldest = seq + 1
            epoch.packs -= 1
            epoch.records -= records
            dropped += 1
            freed += body_size + ROW_BYTES
        self._p.bytes -= freed
        self._p.receipted_bytes -= freed
        return dropped > 0

    def _drop_unsent(self, lane: Lane, now_ms: int) -> bool:
        """Turn the oldest unreceipted pack of ``lane`` into ``lost``, joined to the one before; False when none."""
        for epoch in sorted(self.epochs.values(), key=lambda e: e.ord):
            if epoch.lane is not lane or not epoch.open_to_send:
                continue
            victim = self._db.execute(
                "SELECT id, from_seq, seq, records, length(body) FROM packs"
                " WHERE epoch = ? AND seq > ? AND lost = 0 ORDER BY seq LIMIT 1",
                (epoch.epoch, epoch.acked),
            ).fetchone()
            if victim is not None:
                self._replace_by_lost(epoch, victim, now_ms)
                return True
        return False

    def _replace_by_lost(
        self, epoch: Epoch, victim: tuple[int, int, int, int, int], now_ms: int
    ) -> None:
        row_id, first, last, records, size = victim
        self._note_lost(epoch.lane, LossReason.CAP, records)
        epoch.records -= records
        epoch.queued -= records
        before = self._db.execute(
            "SELECT id, from_seq, records, length(body), body FROM packs"
            " WHERE epoch = ? AND seq = ? AND lost = 1 AND seq > ?",
            (epoch.epoch, first - 1, epoch.acked),
        ).fetchone()
        self._p.bytes -= size
        joined = peek_lost(before[4]) if before is not None else None
        if joined is not None and joined.reason is LostReason.CAP:
            self._db.execute("DELETE FROM packs WHERE id = ?", (before[0],))
            self._p.bytes -= before[3] + ROW_BYTES
            epoch.packs -= 1
            epoch.unreceipted -= 1
            first, records = before[1], records + before[2]
        body = encode_lost(Lost(first, last, records, LostReason.CAP))
        self._db.execute(
            "UPDATE packs SET from_seq = ?, records = ?, lost = 1, created_ms = ?, digest = ?,"
            " body = ? WHERE id = ?",
            (first, records, now_ms, digest_of(body), body, row_id),
        )
        self._p.bytes += len(body)

    def _note_lost(self, lane: Lane, reason: LossReason, records: int) -> None:
        if not records:
            return
        for lost in (self._p.lost, self._p.lost_now):
            lost[lane, reason] = lost.get((lane, reason), 0) + records
        self._db.execute(
            "INSERT OR REPLACE INTO lost VALUES (?, ?, ?)",
            (lane.value, reason.value, self._p.lost[lane, reason]),
        )

    # ------------------------------------------------------------ transactions

    def _change(self, work: Callable[[], None], size: int = 0) -> None:
        """Do ``work`` in one transaction that is durable on return; on failure disk and memory are as before.

        A full disk and a damaged file are dealt with first, then ``work`` is done again.
        """
        for attempt in itertools.count(1):
            self._recover()
            before = self._p.copied()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                work()
                self._db.execute("COMMIT")
                break
            except sqlite3.Error as exc:
                self._roll_back_to(before)
                self._overcome(exc, attempt)
            except BaseException:
                self._roll_back_to(before)
                raise
        self._check_identity()
        self._checkpoint_when_due(size)

    def _rows(self, sql: str, values: tuple[str | int, ...]) -> list[tuple]:  # type: ignore[type-arg]
        """Read; a damaged file is dealt with first."""
        for attempt in itertools.count(1):
            self._recover()
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as exc:
                self._overcome(exc, attempt)
        raise AssertionError("unreachable")

    def _roll_back_to(self, before: _Picture) -> None:
        self._p = before
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as exc:
            log.debug("rollback_failed", error=str(exc))

    def _overcome(self, exc: sqlite3.Error, attempt: int) -> None:
        """Make a further attempt possible after ``exc``, or raise what it means."""
        trouble = trouble_of(exc, self._file)
        where = "spool" if self._file is None else str(self._file)
        if trouble is Trouble.GONE:
            raise SpoolGoneError(f"{where}: {exc}; the agent cannot go on") from exc
        if trouble is Trouble.BUG or (trouble is Trouble.DAMAGE and self._file is None):
            raise exc
        if attempt >= TRIES or trouble is Trouble.BLOCKED:
            raise SpoolBlockedError(f"{where}: {exc}") from exc
        if trouble is Trouble.DAMAGE:
            self._damaged = str(exc)
        else:
            self._relieve(attempt)

    def _check_identity(self) -> None:
        """Raise SpoolGoneError when what was written is in no file that the next start will find."""
        if self._file is None:
            return
        if len(self._identities) == 1 and size_of(wal_of(self._file)):
            self._identities.append(Identity.of(wal_of(self._file)))
        for identity in self._identities:
            identity.check()

    # ------------------------------------------------------------ a full disk

    def _pages(self) -> tuple[int, int]:
        """Return the file's pages, and how many of them are free."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return pages, free

    def _checkpoint_when_due(self, size: int) -> None:
        self._log_bytes += size + COMMIT_PAGES * PAGE_BYTES
        if self._file is None or self._log_bytes < WAL_KEPT_BYTES:
            return
        try:
            self._checkpoint()
        except sqlite3.Error as exc:  # what was committed stays in the log
            if trouble_of(exc, self._file) is Trouble.SPACE:
                self._relieve(1)

    def _checkpoint(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._log_bytes = 0

    def _relieve(self, attempt: int) -> None:
        """Make room on a full disk: the file takes no more than it has, the reserve is for the log."""
        if self._room is None:
            self.alarms.add("disk_full")
            log.error("disk_full", spool=str(self._file), queued=self.queue_length())
        if self._reserve is not None:
            self._reserve.release()
        try:
            self._checkpoint()
            room = self._pages()[0] * PAGE_BYTES
        except sqlite3.Error:
            room = size_of(self._file) if self._file is not None else 0
        self._room = max(0, room - (attempt - 1) * RELIEF_BYTES)

    def _shrink(self) -> None:
        """Give back pages of the file that are beyond what it may take."""
        room = self._cap + SLACK_BYTES if self._room is None else self._room
        pages, free = self._pages()
        over = min(free, pages - room // PAGE_BYTES)
        for _ in range(over):  # Python takes one step of this statement, which is one page
            self._db.execute("PRAGMA incremental_vacuum(1)").fetchall()

    def _look_for_space(self) -> None:
        """Take the reserve again, and the whole cap, once the disk has room for twice that."""
        if self._file is None or self._reserve is None:
            return
        if self._room is None and self._reserve.held:
            return
        if (free_bytes(self._file.parent) or 0) < 2 * RESERVE_BYTES or can_grow(self._file):
            return
        if self._reserve.make() and self._room is not None:
            self._room = None
            self.alarms.discard("disk_full")
            log.info("disk_has_space", spool=str(self._file))

    # ------------------------------------------------------------ a damaged file

    def _recover(self) -> None:
        """Replace a file that was found damaged by what is readable of it."""
        if self._damaged is None or self._file is None:
            return
        from gateway import salvage  # noqa: PLC0415 - seldom needed

        self._db.close()
        known = {
            e.epoch: salvage.KnownEpoch(e.lane, e.last, e.acked, e.last_pack_ms, e.ord, e.oldest)
            for e in self.epochs.values()
        }
        try:
            report = salvage.replace_damaged(
                self._file, self._damaged, epochs=known, stores=self._p.stores, lost=self._p.lost
            )
            self._db = connect(self._file)
        except (sqlite3.Error, OSError) as exc:
            if self._reserve is not None:
                self._reserve.release()
            raise SpoolBlockedError(
                f"{self._file}: damaged ({self._damaged}), and what is readable of it cannot be"
                f" written: {exc}"
            ) from exc
        self._damaged = None
        self._identities = [Identity.of(self._file)]
        queued = {lane: count.queued for lane, count in self.counts().items()}
        self._load()
        # Here it is known how many there were; the packs' own bound is for the server.
        self._db.execute("BEGIN IMMEDIATE")
        for lane, count in self.counts().items():
            bound = report.lost.get((lane, LossReason.CORRUPT), 0)
            key = (lane, LossReason.CORRUPT)
            if key in self._p.lost:
                self._p.lost[key] -= bound
            self._note_lost(lane, LossReason.CORRUPT, queued[lane] - count.queued)
        self._db.execute("COMMIT")
        self._note_salvage(report)

    def _note_salvage(self, report: Report) -> None:
        self.alarms.add("spool_corrupt")
        log.error(
            "spool_damaged",
            spool=str(self._file),
            reason=report.reason,
            moved_to=report.moved_to,
            packs_kept=report.packs,
            holes=report.holes,
            records_lost_at_most=sum(report.lost.values()),
            epochs_without_receipts=report.rebuilt,
        )

    # ------------------------------------------------------------ memory's picture

    def _load(self) -> None:
        """Take memory's picture from the disk."""
        p = self._p
        p.epochs = self._load_epochs()
        p.opened = {lane: name for lane, name in p.opened.items() if name in p.epochs}
        p.dirty.clear()
        p.bytes, p.receipted_bytes = self._sizes()
        p.stores = [row[0] for row in self._db.execute("SELECT store FROM stores ORDER BY ord")]
        p.lost = {
            (Lane(lane), LossReason(reason)): records
            for lane, reason, records in self._db.execute("SELECT * FROM lost")
        }

    def _load_epochs(self) -> dict[str, Epoch]:
        epochs: dict[str, Epoch] = {}
        rows = self._db.execute(
            "SELECT e.epoch, e.lane, e.ord, min(p.from_seq), e.last, e.acked, e.last_pack_ms,"
            " count(p.id), coalesce(sum(p.seq > e.acked), 0), coalesce(sum(p.records * (p.lost = 0)), 0),"
            " coalesce(sum(p.records * (p.lost = 0) * (p.seq > e.acked)), 0)"
            " FROM epochs e LEFT JOIN packs p ON p.epoch = e.epoch GROUP BY e.epoch"
        )
        for name, lane, order, oldest, last, *held in rows:
            oldest = last + 1 if oldest is None else oldest  # noqa: PLW2901
            epochs[name] = Epoch(name, Lane(lane), order, oldest, last, *held)
        return epochs

    def _sizes(self) -> tuple[int, int]:
        row = self._db.execute(
            "SELECT coalesce(sum(length(p.body) + ?1), 0),"
            " coalesce(sum((length(p.body) + ?1) * (p.seq <= e.acked)), 0)"
            " FROM packs p JOIN epochs e ON e.epoch = p.epoch",
            (ROW_BYTES,),
        ).fetchone()
        return row[0], row[1]

    def _write_acked(self) -> None:
        self._db.executemany(
            "UPDATE epochs SET acked = ? WHERE epoch = ?",
            [(self.epochs[name].acked, name) for name in self._p.dirty],
        )
        self._p.dirty.clear()
