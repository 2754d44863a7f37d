"""The inbox: an append-only log of pack bodies, the raw record behind every number.

One SQLite file. One thread writes (``commit``, ``prune``); readers use connections of their own, read-only.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from gateway import wire
from ingest.batch import TakenPack
from ingest.intake import Loss, Staged, Watermark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
DAMAGED_KEPT = 1000  # messages
DAMAGED_BYTES = 512 * 1024  # of one message; a broker's limit is below it

_SCHEMA = """
CREATE TABLE packs (
    pos INTEGER PRIMARY KEY, station TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    oldest INTEGER NOT NULL, sent_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    size INTEGER NOT NULL, body BLOB NOT NULL
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


class InboxError(Exception):
    """The inbox cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoredPack:
    """One pack as it came, for whoever walks back to the bytes."""

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
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=FULL")
            reader = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=10
            )
        except sqlite3.DatabaseError as exc:
            writer.close()
            raise InboxError(f"{path}: {exc}; restore a backup or move the file away") from exc
        try:
            return cls(writer, reader)
        except (sqlite3.DatabaseError, InboxError) as exc:
            reader.close()
            writer.close()
            raise InboxError(f"{path}: {exc}; restore a backup or move the file away") from exc

    def _prepare(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._writer.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise InboxError(f"inbox of schema {version}, this server knows {SCHEMA_VERSION}")

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

    def commit(self, staged: Staged) -> list[TakenPack]:
        """Write packs, watermarks, losses and damaged messages in one transaction; durable on return."""
        taken = [
            TakenPack(self._pos + n, t.station, t.epoch, t.seq, t.received_ms, t.body)
            for n, t in enumerate(staged.taken, start=1)
        ]
        compress = self._compressor.compress
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO packs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                        z,
                    )
                    for p, t in zip(taken, staged.taken, strict=True)
                    for z in (compress(p.body),)
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
            if taken:
                db.execute("UPDATE counters SET value = ? WHERE name = 'pos'", (taken[-1].pos,))
        self._pos += len(taken)
        return taken

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

    def prune(self, before_ms: int, through_pos: int, limit: int = 1000) -> int:
        """Delete, of the ``limit`` oldest packs, those received before ``before_ms``; return how many.

        ``through_pos`` is the place up to which every consumer has had them.
        """
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM packs WHERE pos IN"
                " (SELECT pos FROM (SELECT pos, received_ms FROM packs WHERE pos <= ? ORDER BY pos LIMIT ?)"
                " WHERE received_ms < ?)",
                (through_pos, limit, before_ms),
            ).rowcount

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

    def read_after(self, pos: int, limit: int) -> list[TakenPack]:
        """Return up to ``limit`` packs behind ``pos``, in order."""
        rows = self._query(
            "SELECT pos, station, epoch, seq, received_ms, body FROM packs WHERE pos > ?"
            " ORDER BY pos LIMIT ?",
            (pos, limit),
        )
        return [
            TakenPack(pos, station, epoch, seq, received_ms, _unpack(body))
            for pos, station, epoch, seq, received_ms, body in rows
        ]

    def pack(self, station: str, epoch: str, seq: int) -> StoredPack | None:
        """Return one pack with its header as it was sent, or None when it is not (or no longer) here."""
        rows = self._query(
            "SELECT pos, oldest, sent_ms, received_ms, body FROM packs"
            " WHERE epoch = ? AND station = ? AND seq = ?",
            (epoch, station, seq),
        )
        if not rows:
            return None
        pos, oldest, sent_ms, received_ms, stored = rows[0]
        body = _unpack(stored)
        payload = wire.encode_pack(epoch, seq, oldest, sent_ms, body)
        header = payload[: -len(body) - 1].decode("ascii")
        digest = hashlib.sha256(body).hexdigest()
        topic = wire.topic(station, "up")
        return StoredPack(pos, station, epoch, seq, topic, header, received_ms, digest, body)

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


def _unpack(stored: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(stored, max_output_size=wire.MAX_BODY_BYTES)
