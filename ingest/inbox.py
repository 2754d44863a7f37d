"""The inbox: an append-only log of pack bodies, the raw record behind every number.

One SQLite file. One thread writes (``commit``, ``prune``); readers use connections of their own, read-only. Each row
keeps the start of the body's SHA-256 that the header carried: a body that no longer matches is handed on as damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zstandard

from gateway import wire
from ingest.batch import TakenPack
from ingest.intake import Loss, Staged, Watermark
from ingest.publishers.arrival import KEPT, Delivery

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

SCHEMA_VERSION = 3
DIGEST_BYTES = 8  # of SHA-256, as in a pack's header
SPARE_PAGES = 1024  # free pages that are kept: what comes next needs them
GIVE_BACK_PAGES = 256  # at a time: 1 MiB
DAMAGED_KEPT = 1000  # messages
DAMAGED_BYTES = 512 * 1024  # of one message; a broker's limit is below it

_SCHEMA = """
CREATE TABLE packs (
    pos INTEGER PRIMARY KEY, station TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    oldest INTEGER NOT NULL, sent_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    size INTEGER NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL,
    topic TEXT NOT NULL DEFAULT '', header TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX packs_by_seq ON packs (epoch, station, seq);
CREATE TABLE watermarks (
    station TEXT NOT NULL, epoch TEXT NOT NULL, owner TEXT NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (station, epoch)
) WITHOUT ROWID;
CREATE TABLE losses (
    id INTEGER PRIMARY KEY, station TEXT NOT NULL, epoch TEXT NOT NULL, from_seq INTEGER NOT NULL,
    through_seq INTEGER NOT NULL, readings INTEGER NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL
);
CREATE INDEX losses_by_station ON losses (station, id);
CREATE TABLE damaged (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, field TEXT NOT NULL, reason TEXT NOT NULL,
    received_ms INTEGER NOT NULL, size INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('pos', 0);
"""
_DELIVERIES = """
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, token TEXT NOT NULL, digest BLOB NOT NULL,
    received_ms INTEGER NOT NULL, UNIQUE (source, token)
);
"""
_INCREMENTAL = 2  # what PRAGMA auto_vacuum answers


class InboxError(Exception):
    """The inbox cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoredPack:
    """One pack as it came, for whoever walks back to the bytes; a publisher's header is what came beside it."""

    pos: int
    station: str
    epoch: str
    seq: int
    topic: str
    header: str
    received_ms: int
    sha256: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DamagedMessage:
    """A message that was no pack, with the reason and its first bytes."""

    id: int
    topic: str
    field: str
    reason: str
    received_ms: int
    size: int
    payload: bytes


class Inbox:
    """The log of taken packs; implements ``intake.Ledger``. ``writer`` and ``reader`` are of one database."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._reader_lock = threading.Lock()
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._prepare()
        self._pos: int = writer.execute(
            "SELECT max(value, (SELECT coalesce(max(pos), 0) FROM packs)) FROM counters"
            " WHERE name = 'pos'"
        ).fetchone()[0]

        self._file: Path | None = None
        self._identity: tuple[int, int] = (0, 0)

    @classmethod
    def open(cls, path: Path) -> Inbox:
        """Open or make the inbox file; raise InboxError when it cannot be used."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
        except sqlite3.Error as exc:
            raise InboxError(f"{path}: {exc}; check the directory and its permissions") from exc
        try:
            writer.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only a new file takes it
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=FULL")
            reader = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
        except sqlite3.DatabaseError as exc:
            writer.close()
            raise InboxError(f"{path}: {exc}; restore a backup or move the file away") from exc
        try:
            inbox = cls(writer, reader)
        except (sqlite3.DatabaseError, InboxError) as exc:
            reader.close()
            writer.close()
            raise InboxError(f"{path}: {exc}; restore a backup or move the file away") from exc
        state = path.stat()
        inbox._file, inbox._identity = path, (state.st_dev, state.st_ino)
        return inbox

    @classmethod
    def open_read_only(cls, path: Path) -> Inbox:
        """Open the inbox of a process that runs, for questions only; raise InboxError when it cannot be read."""
        try:
            reader = read_only(path)
            return cls(reader, reader)
        except (sqlite3.DatabaseError, InboxError) as exc:
            raise InboxError(f"{path}: {exc}") from exc

    def _prepare(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._writer.executescript(
                f"BEGIN; {_SCHEMA} {_DELIVERIES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif not 1 <= version <= SCHEMA_VERSION:
            raise InboxError(f"inbox of schema {version}, this server knows {SCHEMA_VERSION}")
        elif version < SCHEMA_VERSION:
            with self._transaction() as db:  # all of it or nothing
                if version == 1:
                    self._add_digests(db)
                self._add_publishers(db)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @staticmethod
    def _add_digests(db: sqlite3.Connection) -> None:
        """Give each row of schema 1 its digest."""
        db.execute("ALTER TABLE packs ADD COLUMN digest BLOB NOT NULL DEFAULT x''")
        at = -1
        while rows := db.execute(
            "SELECT pos, body FROM packs WHERE pos > ? ORDER BY pos LIMIT 500", (at,)
        ).fetchall():
            at = rows[-1][0]
            # What does not decompress keeps an empty digest: it was damaged before.
            digests = [
                (_digest(body), pos) for pos, z in rows if (body := _unpacked(z)) is not None
            ]
            db.executemany("UPDATE packs SET digest = ? WHERE pos = ?", digests)

    @staticmethod
    def _add_publishers(db: sqlite3.Connection) -> None:
        """Make room for messages that are no packs of the edge link: schema 3."""
        for column in ("topic", "header"):
            db.execute(f"ALTER TABLE packs ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
        db.execute(_DELIVERIES)

    def close(self) -> None:
        """Close both connections."""
        with self._reader_lock:
            self._reader.close()
        self._writer.close()

    # ---- writing

    def skip_to(self, pos: int) -> None:
        """Give the next pack a place behind ``pos``; kept with the next commit that takes one."""
        self._pos = max(self._pos, pos)

    def watermarks(self) -> dict[tuple[str, str], Watermark]:
        """All watermarks by (station, epoch); they outlive the packs' retention."""
        rows = self._writer.execute("SELECT station, epoch, owner, last FROM watermarks")
        return {(station, epoch): Watermark(owner, last) for station, epoch, owner, last in rows}

    def deliveries(self) -> list[Delivery]:
        """What was lately taken from publishers, oldest first."""
        rows = self._writer.execute(
            "SELECT source, token, digest, received_ms FROM deliveries ORDER BY id"
        )
        return [Delivery(*row) for row in rows]

    def commit(self, staged: Staged) -> list[TakenPack]:
        """Write packs, watermarks, losses and damaged messages in one transaction; durable on return.

        Raises InboxError when the file was taken away: what was written into it would be nobody's.
        """
        taken = [
            TakenPack(
                self._pos + n, t.station, t.epoch, t.seq, t.received_ms, t.body, topic=t.topic
            )
            for n, t in enumerate(staged.taken, start=1)
        ]
        compress = self._compressor.compress
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO packs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        p.pos,
                        p.station,
                        p.epoch,
                        p.seq,
                        t.oldest,
                        t.sent_ms,
                        p.received_ms,
                        len(p.body),
                        compress(p.body),
                        _digest(p.body),
                        t.topic,
                        t.header,
                    )
                    for p, t in zip(taken, staged.taken, strict=True)
                ],
            )
            db.executemany(
                "INSERT INTO watermarks VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET last = excluded.last",
                [(*place, mark.owner, mark.last) for place, mark in staged.watermarks.items()],
            )
            db.executemany(
                "INSERT INTO losses (station, epoch, from_seq, through_seq, readings, reason, at_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (x.station, x.epoch, x.from_seq, x.through_seq, x.readings, x.reason, x.at_ms)
                    for x in staged.losses
                ],
            )
            if staged.damaged:
                self._keep_damaged(db, staged)
            if staged.deliveries or staged.sessions_begun:
                self._keep_deliveries(db, staged)
            if taken:
                db.execute("UPDATE counters SET value = ? WHERE name = 'pos'", (taken[-1].pos,))
        self._check_file()
        self._pos += len(taken)
        return taken

    def _check_file(self) -> None:
        if self._file is None:
            return
        try:
            state = os.stat(self._file)  # noqa: PTH116 - at each commit
        except FileNotFoundError:
            state = None
        if state is None or (state.st_dev, state.st_ino) != self._identity:
            raise InboxError(f"{self._file}: is gone or was replaced; start the server again")

    @staticmethod
    def _keep_damaged(db: sqlite3.Connection, staged: Staged) -> None:
        db.executemany(
            "INSERT INTO damaged (topic, field, reason, received_ms, size, payload)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    d.topic,
                    d.field,
                    d.reason,
                    d.received_ms,
                    len(d.payload),
                    d.payload[:DAMAGED_BYTES],
                )
                for d in staged.damaged
            ],
        )
        db.execute(
            "DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?", (DAMAGED_KEPT,)
        )

    @staticmethod
    def _keep_deliveries(db: sqlite3.Connection, staged: Staged) -> None:
        for source in staged.sessions_begun:
            db.execute("DELETE FROM deliveries WHERE source = ?", (source,))
        db.executemany(
            "INSERT OR REPLACE INTO deliveries (source, token, digest, received_ms) VALUES (?, ?, ?, ?)",
            [(d.source, d.token, d.digest, d.received_ms) for d in staged.deliveries],
        )
        db.execute(
            "DELETE FROM deliveries WHERE id <= (SELECT max(id) FROM deliveries) - ?",
            (sum(KEPT.values()),),
        )

    def prune(
        self,
        before_ms: int,
        through_pos: int,
        limit: int = 1000,
        keep: Collection[int] = frozenset(),
    ) -> int:
        """Delete, of the ``limit`` oldest packs, those received before ``before_ms``; return how many.

        ``through_pos`` is the place up to which every consumer has had them; packs at the places ``keep`` stay.
        """
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM packs WHERE pos IN"
                " (SELECT pos FROM (SELECT pos, received_ms FROM packs WHERE pos <= ?"
                " AND pos NOT IN (SELECT value FROM json_each(?)) ORDER BY pos LIMIT ?)"
                " WHERE received_ms < ?)",
                (through_pos, json.dumps(sorted(keep)), limit, before_ms),
            ).rowcount

    def give_back(self, spare_pages: int = SPARE_PAGES, pages: int = GIVE_BACK_PAGES) -> int:
        """Return up to ``pages`` free pages to the file system, leaving ``spare_pages``; return how many went.

        Does nothing in a file made before schema 2 that was not compacted.
        """
        db = self._writer
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        (mode,) = db.execute("PRAGMA auto_vacuum").fetchone()
        pages = min(pages, free - spare_pages)
        if mode != _INCREMENTAL or pages <= 0:
            return 0
        db.executescript(f"PRAGMA incremental_vacuum({pages})")  # execute() would stop at the first
        return int(pages)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    # ---- reading

    @property
    def last_pos(self) -> int:
        """Place of the last pack taken."""
        return self._pos

    def count_after(self, pos: int, through: int | None = None) -> int:
        """Return how many packs stand behind ``pos``, up to ``through`` when it is given."""
        last = 2**63 - 1 if through is None else through
        [(count,)] = self._query(
            "SELECT count(*) FROM packs WHERE pos > ? AND pos <= ?", (pos, last)
        )
        number: int = count
        return number

    def received_after(self, pos: int) -> int | None:
        """Return when the first pack behind ``pos`` was received (UTC ms), None when there is none."""
        rows = self._query(
            "SELECT received_ms FROM packs WHERE pos > ? ORDER BY pos LIMIT 1", (pos,)
        )
        return rows[0][0] if rows else None

    def loss_totals(self) -> list[tuple[str, int, int, int]]:
        """Return by reason: ranges, packs and readings (an upper bound) that never came."""
        return self._query(
            "SELECT reason, count(*), sum(through_seq - from_seq + 1), sum(max(readings, 0))"
            " FROM losses GROUP BY reason ORDER BY reason",
            (),
        )

    def read_after(self, pos: int, limit: int) -> list[TakenPack]:
        """Return up to ``limit`` packs behind ``pos``, in order."""
        with self._reader_lock:
            return packs_after(self._reader, pos, limit)

    def pack(self, station: str, epoch: str, seq: int) -> StoredPack | None:
        """Return one pack with its header as it was sent, or None when it is not (or no longer) here.

        Of a body that cannot be unpacked any more, what is stored.
        """
        rows = self._query(
            "SELECT pos, oldest, sent_ms, received_ms, size, body, digest, topic, header FROM packs"
            " WHERE epoch = ? AND station = ? AND seq = ?",
            (epoch, station, seq),
        )
        if not rows:
            return None
        pos, oldest, sent_ms, received_ms, size, stored, digest, topic, header = rows[0]
        unpacked = _unpacked(stored)
        body = stored if unpacked is None else unpacked
        if not topic:
            topic = wire.topic(station, "up")
            header = f"agri1 {epoch} {seq} {oldest} {sent_ms} {size} {digest.hex()}"
        return StoredPack(
            pos,
            station,
            epoch,
            seq,
            topic,
            header,
            received_ms,
            hashlib.sha256(body).hexdigest(),
            body,
        )

    def losses(self, station: str | None = None) -> list[Loss]:
        """Return what was booked as lost or gone, newest first, of one station or of all."""
        rows = self._query(
            "SELECT station, epoch, from_seq, through_seq, readings, reason, at_ms FROM losses"
            " WHERE ?1 IS NULL OR station = ?1 ORDER BY id DESC LIMIT 10000",
            (station,),
        )
        return [Loss(*row) for row in rows]

    def damaged(self, limit: int = 100) -> list[DamagedMessage]:
        """Return the newest messages that were no packs."""
        rows = self._query(
            "SELECT id, topic, field, reason, received_ms, size, payload FROM damaged"
            " ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [DamagedMessage(*row) for row in rows]

    def _query(self, sql: str, parameters: tuple[object, ...]) -> list[tuple]:  # type: ignore[type-arg]
        with self._reader_lock:
            return self._reader.execute(sql, parameters).fetchall()


@dataclass(frozen=True, slots=True)
class BadPack:
    """A row whose bytes are not those that were taken."""

    pos: int
    station: str
    epoch: str
    seq: int
    reason: str


@dataclass(slots=True)
class Verified:
    """What ``verify`` found: counts, and everything that is wrong."""

    packs: int = 0
    epochs: int = 0
    bytes_packed: int = 0
    bytes_unpacked: int = 0
    bad: list[BadPack] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.bad or self.faults)


def verify(path: Path) -> Verified:
    """Read the whole inbox at ``path``, beside a running server too; raise InboxError when it cannot be read."""
    found = Verified()
    try:
        with closing(read_only(path)) as db:
            db.execute("BEGIN")  # one state of it
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise InboxError(
                    f"{path}: inbox of schema {version}, this program knows {SCHEMA_VERSION}"
                )
            faults = [text for (text,) in db.execute("PRAGMA integrity_check")]
            found.faults += [f"integrity_check: {text}" for text in faults if text != "ok"]
            _verify_rows(db, found)
    except sqlite3.DatabaseError as exc:
        raise InboxError(f"{path}: {exc}; restore a backup or move the file away") from exc
    return found


def _verify_rows(db: sqlite3.Connection, found: Verified) -> None:
    rows = db.execute("SELECT pos, station, epoch, seq, size, body, digest FROM packs ORDER BY pos")
    for pos, station, epoch, seq, size, stored, digest in rows:
        found.packs += 1
        found.bytes_packed += len(stored)
        found.bytes_unpacked += size
        _, damage = _checked(stored, digest)
        if damage:
            found.bad.append(BadPack(pos, station, epoch, seq, damage))
    (found.epochs,) = db.execute("SELECT count(*) FROM watermarks").fetchone()
    behind = db.execute(
        "SELECT p.station, p.epoch, max(p.seq), w.last FROM packs p"
        " LEFT JOIN watermarks w ON w.station = p.station AND w.epoch = p.epoch"
        " GROUP BY p.station, p.epoch HAVING w.last IS NULL OR max(p.seq) > w.last"
    )
    for station, epoch, seq, last in behind:
        found.faults.append(
            f"{station}/{epoch}: holds pack {seq}, but its watermark is {'missing' if last is None else last}"
        )


def compact(path: Path) -> tuple[int, int]:
    """Rewrite the file of a server that is stopped; return its size before and after (bytes).

    Afterwards it gives space back by itself. Needs as much free space as the file is large; raises InboxError.
    """
    before = path.stat().st_size
    free = shutil.disk_usage(path.parent).free
    if free < before:
        raise InboxError(
            f"{path}: {before} bytes must be free to compact it, there are {free}; free disk space"
        )
    Inbox.open(path).close()  # in the newest schema
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError as exc:
        raise InboxError(f"{path}: {exc}") from exc
    return before, path.stat().st_size


def packs_after(db: sqlite3.Connection, pos: int, limit: int) -> list[TakenPack]:
    """Return up to ``limit`` packs of the inbox ``db`` behind ``pos``, in order."""
    rows = db.execute(
        "SELECT pos, station, epoch, seq, received_ms, body, digest, topic FROM packs WHERE pos > ?"
        " ORDER BY pos LIMIT ?",
        (pos, limit),
    ).fetchall()
    return [
        TakenPack(pos, station, epoch, seq, received_ms, *_checked(stored, digest), topic)
        for pos, station, epoch, seq, received_ms, stored, digest, topic in rows
    ]


def read_only(path: Path) -> sqlite3.Connection:
    """Open a database for reading only; raise sqlite3.OperationalError when it is not there."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:DIGEST_BYTES]


def _unpacked(stored: bytes) -> bytes | None:
    try:
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=wire.MAX_BODY_BYTES)
    except zstandard.ZstdError:
        return None


def _checked(stored: bytes, digest: bytes) -> tuple[bytes, str]:
    """Return the body, and what is wrong with it, if anything."""
    body = _unpacked(stored)
    if body is None:
        return stored, "does not decompress: the inbox file was damaged"
    if _digest(body) != digest:
        return body, "does not match its hash: the inbox file was damaged"
    return body, ""
