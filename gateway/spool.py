"""The spool: every pack on disk, in order, until its receipt and a while longer.

What is held of an epoch is always one run ``oldest … last``. Receipted packs are a prefix of it and leave from the
front; unreceipted ones that must go are replaced in their place by a ``lost`` pack, so the stream has no hole.
One thread, one connection.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.wire import MAX_BODY_BYTES, EpochState, Lane, Lost, LostReason, encode_lost, peek_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SCHEMA_VERSION = 1
ROW_BYTES = 120  # what a row costs beside its body: columns, two index entries
RETENTION_MS = 7 * 24 * 3600 * 1000
EPOCH_KEPT_MS = 90 * 24 * 3600 * 1000

_SCHEMA = """
CREATE TABLE epochs (
    epoch TEXT PRIMARY KEY, lane TEXT NOT NULL, ord INTEGER NOT NULL, last INTEGER NOT NULL,
    acked INTEGER NOT NULL, last_pack_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE packs (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, from_seq INTEGER NOT NULL, seq INTEGER NOT NULL,
    records INTEGER NOT NULL, lost INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    digest BLOB NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX packs_by_seq ON packs (epoch, seq);
CREATE TABLE stores (ord INTEGER PRIMARY KEY, store TEXT NOT NULL UNIQUE);
"""


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what to do."""


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

    @property
    def open_to_send(self) -> bool:
        """Whether a held pack has no receipt."""
        return self.unreceipted > 0


@dataclass(frozen=True, slots=True)
class SpooledPack:
    """One pack as held."""

    seq: int
    body: bytes


class Spool:
    """Packs of one station on disk; every method is one transaction at most.

    ``alarms`` holds what a person should know: ``spool_restored``, ``spool_corrupt``, ``spool_full``.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, cap_bytes: int, new_id: Callable[[], str]
    ) -> None:
        self._db = connection
        self._cap = cap_bytes
        self._new_id = new_id
        self._open: dict[Lane, str] = {}  # epoch of this start, made with its first pack
        self._dirty: set[str] = set()  # epochs whose acked is ahead of the disk
        self._aged_ms = 0  # when packs were last dropped for their age
        self._stores: list[str] = []  # lives of the server, the last one counts
        self.alarms: set[str] = set()
        self.dropped_records = 0
        self._prepare()
        self._load()

    @classmethod
    def open(cls, path: Path, *, cap_bytes: int, new_id: Callable[[], str]) -> Spool:
        """Open or make the spool file; raise SpoolError when it is from a newer version or no spool."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise SpoolError(f"{path}: {exc}; check the directory and its permissions") from exc
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            return cls(connection, cap_bytes=cap_bytes, new_id=new_id)
        except sqlite3.OperationalError as exc:
            # The file is whole: what it holds must not be thrown away.
            connection.close()
            raise SpoolError(f"{path}: {exc}; check disk space and permissions") from exc
        except sqlite3.DatabaseError as exc:
            connection.close()
            raise SpoolError(
                f"{path}: {exc}; move the file away to start with an empty spool"
            ) from exc
        except SpoolError as exc:
            connection.close()
            raise SpoolError(f"{path}: {exc}") from exc

    def close(self) -> None:
        """Write what is pending and close."""
        try:
            self.flush()
        finally:
            self._db.close()

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
        with self._transaction():
            for lane, body, records in items:
                self._make_room(len(body) + ROW_BYTES, now_ms)
                self._insert(self._open_epoch(lane, now_ms), body, records, now_ms)
            self._prune(now_ms)
            self._write_acked()

    def _open_epoch(self, lane: Lane, now_ms: int) -> Epoch:
        name = self._open.get(lane)
        if name is None:
            name = self._open[lane] = self._new_id()
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
            (epoch.epoch, first, last, records, lost is not None, now_ms, _digest(body), body),
        )
        epoch.last = last
        epoch.last_pack_ms = now_ms
        epoch.packs += 1
        epoch.unreceipted += 1
        self._db.execute(
            "UPDATE epochs SET last = ?, last_pack_ms = ? WHERE epoch = ?",
            (last, now_ms, epoch.epoch),
        )
        self._bytes += len(body) + ROW_BYTES

    # ------------------------------------------------------------ giving out

    def current_epoch(self, lane: Lane) -> str | None:
        """The epoch that this start writes to, once it has a pack."""
        return self._open.get(lane)

    def first_unreceipted(self, lane: Lane) -> Epoch | None:
        """The epoch to send from: the earliest one that holds a pack without receipt."""
        waiting = [e for e in self.epochs.values() if e.lane is lane and e.open_to_send]
        return min(waiting, key=lambda e: e.ord, default=None)

    def packs_from(self, epoch: str, seq: int, limit: int) -> list[SpooledPack]:
        """Return up to ``limit`` packs of ``epoch`` whose seq is at least ``seq``, in order.

        A pack whose bytes no longer match their digest is replaced by ``lost`` first.
        """
        packs: list[SpooledPack] = []
        rows = self._db.execute(
            "SELECT id, from_seq, seq, records, digest, body FROM packs"
            " WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (epoch, seq, limit),
        ).fetchall()
        for row_id, first, last, records, digest, body in rows:
            if _digest(body) != digest:
                body = self._mark_corrupt(row_id, first, last, records, len(body))  # noqa: PLW2901
            packs.append(SpooledPack(last, body))
        return packs

    def _mark_corrupt(self, row_id: int, first: int, last: int, records: int, size: int) -> bytes:
        body = encode_lost(Lost(first, last, records, LostReason.CORRUPT))
        with self._transaction():
            self._db.execute(
                "UPDATE packs SET lost = 1, digest = ?, body = ? WHERE id = ?",
                (_digest(body), body, row_id),
            )
        self._bytes += len(body) - size
        self.dropped_records += records
        self.alarms.add("spool_corrupt")
        return body

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
        for epoch in self.epochs.values():
            if epoch.open_to_send:
                (at,) = self._db.execute(
                    "SELECT created_ms FROM packs WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT 1",
                    (epoch.epoch, epoch.acked),
                ).fetchone()
                oldest = at if oldest is None else min(oldest, at)
        return oldest

    # ------------------------------------------------------------ receipts

    @property
    def store(self) -> str | None:
        """The server life whose receipts count."""
        return self._stores[-1] if self._stores else None

    def is_superseded(self, store: str) -> bool:
        """Whether ``store`` was followed by another."""
        return store in self._stores[:-1]

    def new_store(self, store: str) -> None:
        """Begin a server life: nothing is receipted under it yet."""
        with self._transaction():
            self._db.execute("DELETE FROM stores WHERE store = ?", (store,))
            self._db.execute("INSERT INTO stores (store) VALUES (?)", (store,))
            self._db.execute("UPDATE epochs SET acked = 0")
            self._stores = [*(past for past in self._stores if past != store), store]
            self._dirty.clear()
            for epoch in self.epochs.values():
                epoch.acked = 0
                epoch.unreceipted = epoch.packs
            self._receipted_bytes = 0

    def mark_receipted(self, name: str, seq: int) -> None:
        """Note that ``name`` is receipted up to ``seq`` (at most its last); written with the next commit."""
        epoch = self.epochs[name]
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM packs"
            " WHERE epoch = ? AND seq > ? AND seq <= ?",
            (name, epoch.acked, seq),
        ).fetchone()
        epoch.acked = seq
        epoch.unreceipted -= count
        self._receipted_bytes += size + count * ROW_BYTES
        self._dirty.add(name)

    def move_to_new_epoch(self, lane: Lane, now_ms: int) -> None:
        """Spool the unreceipted packs of the open epoch again under a new one (another agent wrote the old)."""
        with self._transaction():
            old = self.epochs[self._open.pop(lane)]
            rows = self._db.execute(
                "SELECT from_seq, seq, records, created_ms, digest, body FROM packs"
                " WHERE epoch = ? AND seq > ? ORDER BY seq",
                (old.epoch, old.acked),
            ).fetchall()
            self._db.execute(
                "DELETE FROM packs WHERE epoch = ? AND seq > ?", (old.epoch, old.acked)
            )
            for first, last, records, created_ms, digest, body in rows:
                self._bytes -= len(body) + ROW_BYTES
                if _digest(body) != digest:  # its new row would vouch for it
                    body = encode_lost(Lost(first, last, records, LostReason.CORRUPT))  # noqa: PLW2901
                    self.dropped_records += records
                    self.alarms.add("spool_corrupt")
                self._insert(
                    self._open_epoch(lane, now_ms),
                    body,
                    records,
                    created_ms,
                    width=last - first + 1,
                )
            old.packs -= old.unreceipted
            old.unreceipted = 0
            old.last = old.acked
            old.oldest = min(old.oldest, old.last + 1)
            self._db.execute("UPDATE epochs SET last = ? WHERE epoch = ?", (old.last, old.epoch))
            self._write_acked()

    # ------------------------------------------------------------ letting go

    def flush(self) -> None:
        """Write receipts that only memory knows."""
        if self._dirty:
            with self._transaction():
                self._write_acked()

    def prune(self, now_ms: int) -> None:
        """Drop receipted packs beyond 7 days or half the cap, and epochs 90 days after their last pack."""
        with self._transaction():
            self._prune(now_ms)
            self._write_acked()

    def _prune(self, now_ms: int) -> None:
        while (excess := self._receipted_bytes - self._cap // 2) > 0:
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
            ended = epoch.packs == 0 and name not in self._open.values()
            if ended and epoch.last_pack_ms < now_ms - EPOCH_KEPT_MS:
                self._db.execute("DELETE FROM epochs WHERE epoch = ?", (name,))
                del self.epochs[name]
                self._dirty.discard(name)

    def _make_room(self, size: int, now_ms: int) -> None:
        while (excess := self._bytes + size - self._cap) > 0:
            if self._drop_receipted(limit=16, size=excess):
                continue
            if not (
                self._drop_unsent(Lane.READINGS, now_ms) or self._drop_unsent(Lane.TESTS, now_ms)
            ):
                return  # only ``lost`` packs are left
            self.alarms.add("spool_full")

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
            "SELECT id, seq, length(body), created_ms FROM packs WHERE epoch = ? AND seq <= ?"
            " ORDER BY seq LIMIT ?",
            (epoch.epoch, epoch.acked, limit),
        ).fetchall()
        dropped = freed = 0
        for row_id, seq, body_size, created_ms in rows:
            # Only from the front, or the run would get a hole: times need not grow, a clock may have been set.
            if (size is not None and freed >= size) or (
                before_ms is not None and created_ms >= before_ms
            ):
                break
            self._db.execute("DELETE FROM packs WHERE id = ?", (row_id,))
            epoch.oldest = seq + 1
            epoch.packs -= 1
            dropped += 1
            freed += body_size + ROW_BYTES
        self._bytes -= freed
        self._receipted_bytes -= freed
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
        self.dropped_records += records
        before = self._db.execute(
            "SELECT id, from_seq, records, length(body), body FROM packs"
            " WHERE epoch = ? AND seq = ? AND lost = 1 AND seq > ?",
            (epoch.epoch, first - 1, epoch.acked),
        ).fetchone()
        self._bytes -= size
        joined = peek_lost(before[4]) if before is not None else None
        if joined is not None and joined.reason is LostReason.CAP:
            self._db.execute("DELETE FROM packs WHERE id = ?", (before[0],))
            self._bytes -= before[3] + ROW_BYTES
            epoch.packs -= 1
            epoch.unreceipted -= 1
            first, records = before[1], records + before[2]
        body = encode_lost(Lost(first, last, records, LostReason.CAP))
        self._db.execute(
            "UPDATE packs SET from_seq = ?, records = ?, lost = 1, created_ms = ?, digest = ?,"
            " body = ? WHERE id = ?",
            (first, records, now_ms, _digest(body), body, row_id),
        )
        self._bytes += len(body)

    # ------------------------------------------------------------ the file

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise SpoolError(
                f"spool of schema {version}, this agent knows {SCHEMA_VERSION}:"
                " use the newer agent, it delivers what is queued"
            )

    def _load(self) -> None:
        """Take memory's picture from the disk: at start, and after a transaction that failed."""
        self.epochs = self._load_epochs()
        self._open = {lane: name for lane, name in self._open.items() if name in self.epochs}
        self._dirty.clear()
        self._bytes, self._receipted_bytes = self._sizes()
        self._stores = [row[0] for row in self._db.execute("SELECT store FROM stores ORDER BY ord")]

    def _load_epochs(self) -> dict[str, Epoch]:
        epochs: dict[str, Epoch] = {}
        rows = self._db.execute(
            "SELECT e.epoch, e.lane, e.ord, min(p.from_seq), e.last, e.acked, e.last_pack_ms,"
            " count(p.id), coalesce(sum(p.seq > e.acked), 0)"
            " FROM epochs e LEFT JOIN packs p ON p.epoch = e.epoch GROUP BY e.epoch"
        )
        for name, lane, order, oldest, last, acked, last_pack_ms, packs, unreceipted in rows:
            oldest = last + 1 if oldest is None else oldest  # noqa: PLW2901
            epochs[name] = Epoch(
                name, Lane(lane), order, oldest, last, acked, last_pack_ms, packs, unreceipted
            )
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
            [(self.epochs[name].acked, name) for name in self._dirty],
        )
        self._dirty.clear()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end; when anything fails, roll back and read memory's picture again."""
        self._db.execute("BEGIN IMMEDIATE")
        opened = dict(self._open)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._open = opened
            self._load()
            raise


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).digest()
