"""The spool's file: its schema and upgrades, and what an error of SQLite means for it."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

from gateway.reserve import NO_SPACE, write_errno

if TYPE_CHECKING:
    from pathlib import Path


SCHEMA_VERSION = 2
NEWEST_BELIEVABLE = 999  # a larger version is not a newer agent's but a damaged header
PAGE_BYTES = 4096
WAL_KEPT_BYTES = 1024 * 1024
PROBE_AHEAD_BYTES = 1024 * 1024

_LOST = """
CREATE TABLE lost (
    lane TEXT NOT NULL, reason TEXT NOT NULL, records INTEGER NOT NULL, PRIMARY KEY (lane, reason)
) WITHOUT ROWID;
"""
_TABLES = """
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
SCHEMA = _TABLES + _LOST

# From the version named to the next. Version 1 had no table of losses: what its ``lost`` packs say is the start.
UPGRADES = {
    1: _LOST  # noqa: S608 - constants
    + """
INSERT INTO lost (lane, reason, records)
    SELECT e.lane, json_extract(CAST(p.body AS TEXT), '$.lost.reason'), sum(p.records)
    FROM packs p JOIN epochs e ON e.epoch = p.epoch
    WHERE p.lost = 1 AND json_valid(CAST(p.body AS TEXT))
        AND json_extract(CAST(p.body AS TEXT), '$.lost.reason') IN ('cap', 'corrupt')
    GROUP BY 1, 2;
"""
}


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what to do."""


class SpoolBlockedError(SpoolError):
    """Nothing can be written at present; what was handed over was not taken."""


class SpoolGoneError(SpoolError):
    """The file is not ours to write any more: removed, replaced, or its file system is read-only."""


class LossReason(StrEnum):
    """Why records were lost at the edge; ``memory``: while the spool could not be written (``cap`` on the link)."""

    CAP = "cap"
    CORRUPT = "corrupt"
    MEMORY = "memory"


class Trouble(Enum):
    """What an error of SQLite means for the spool."""

    SPACE = auto()  # no room on the disk, or the file may not grow
    DAMAGE = auto()  # the file's content is wrong
    GONE = auto()  # never to be written again
    BLOCKED = auto()  # anything else that may pass
    BUG = auto()  # ours


def trouble_of(exc: sqlite3.Error, file: Path | None) -> Trouble:
    """Say what ``exc`` means; asks the file system where SQLite does not say."""
    code = getattr(exc, "sqlite_errorcode", 0)
    if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or code in {
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    }:
        return Trouble.DAMAGE
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return Trouble.SPACE
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return Trouble.GONE
    if not isinstance(exc, sqlite3.OperationalError):
        return Trouble.BUG
    if file is not None and code & 0xFF in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}:
        refused = can_grow(file)
        if refused in NO_SPACE:
            return Trouble.SPACE
        if refused in {errno.EROFS, errno.ENOENT}:
            return Trouble.GONE
    return Trouble.BLOCKED if code else Trouble.BUG


def can_grow(file: Path) -> int:
    """Return 0 when ``file`` and its log could grow by a megabyte, else the errno."""
    largest = max(size_of(file), size_of(wal_of(file)))
    return write_errno(file.parent, largest + PROBE_AHEAD_BYTES)


def size_of(file: Path) -> int:
    """Bytes of ``file``; 0 when it is not there."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def wal_of(file: Path) -> Path:
    """Return the write-ahead log beside ``file``."""
    return file.with_name(f"{file.name}-wal")


def prepare(connection: sqlite3.Connection) -> None:
    """Make the schema in an empty database or bring an older one up to date, in one transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    refuse_newer(version)
    if version == SCHEMA_VERSION:
        return
    steps = SCHEMA if version == 0 else "".join(UPGRADES[v] for v in range(version, SCHEMA_VERSION))
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def refuse_newer(version: int) -> None:
    """Raise SpoolError for a version that only a newer agent knows."""
    if version > SCHEMA_VERSION:
        raise SpoolError(
            f"spool of schema {version}, this agent knows {SCHEMA_VERSION}:"
            " use the newer agent, it delivers what is queued"
        )


def digest_of(body: bytes) -> bytes:
    """Return what a row vouches for its body with."""
    return hashlib.blake2b(body, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it was that we opened."""

    file: Path
    device: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> Identity:
        """Take the identity of ``file`` as it is now."""
        stat = file.stat()
        return cls(file, stat.st_dev, stat.st_ino)

    def check(self) -> None:
        """Raise SpoolGoneError when another file, or none, is there now."""
        try:
            stat = self.file.stat()
        except OSError as exc:
            raise SpoolGoneError(
                f"{self.file}: {exc.strerror} while the agent runs; what it held is lost,"
                " find out who removed it and start the agent again"
            ) from exc
        if (stat.st_dev, stat.st_ino) != (self.device, self.inode):
            raise SpoolGoneError(
                f"{self.file}: replaced by another file while the agent runs; stop the agent before"
                " a spool is restored, and start it again now"
            )


def connect(file: Path) -> sqlite3.Connection:
    """Connect with the settings that the spool lives by; the file must be there."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Checkpoints are the spool's own: SQLite's keep it to themselves when they fail.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def set_up_pages(connection: sqlite3.Connection) -> None:
    """Choose page size and vacuum of an empty database; a file that may shrink can be saved on a full disk."""
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")


def give_name(new: Path, file: Path) -> None:
    """Rename ``new`` to ``file``, durably."""
    for path in (new, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path is new:
            new.replace(file)


def salvaged_of(file: Path) -> Path:
    """Return the name under which a salvage builds the new file."""
    return file.with_name(f"{file.stem}.salvaged{file.suffix}")
