"""Opening a spool file whatever its state: new, older, newer, damaged, or half replaced."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from gateway.spool_file import (
    NEWEST_BELIEVABLE,
    SCHEMA_VERSION,
    SpoolError,
    Trouble,
    connect,
    give_name,
    prepare,
    refuse_newer,
    salvaged_of,
    set_up_pages,
    size_of,
    trouble_of,
    wal_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.salvage import Report


def open_file(file: Path) -> tuple[sqlite3.Connection, Report | None]:
    """Open or make the spool ``file``; a damaged one is moved aside and what is readable of it taken over.

    Returns the connection and what was salvaged. Raises SpoolError: a newer version, no permission, no space.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        _finish_earlier(file)
        if reason := _unusable(file):
            return _salvage(file, reason)
        if not file.exists():
            _create(file)
        try:
            connection = _checked(file)
        except sqlite3.DatabaseError as exc:
            if trouble_of(exc, file) is not Trouble.DAMAGE:
                raise
            return _salvage(file, str(exc))
    except (sqlite3.Error, OSError) as exc:
        raise SpoolError(f"{file}: {exc}; check disk space and permissions") from exc
    except SpoolError as exc:
        raise SpoolError(f"{file}: {exc}") from exc
    return connection, None


def _checked(file: Path) -> sqlite3.Connection:
    """Open ``file``; raise sqlite3.DatabaseError when it is damaged, SpoolError when it is newer."""
    version = _version_of(file)
    if version <= NEWEST_BELIEVABLE:
        refuse_newer(version)
    if not 0 < version <= SCHEMA_VERSION:
        raise _damaged("its header is not of a spool")
    connection = connect(file)
    try:
        _quick_check(connection)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _quick_check(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError when the file's structure is wrong; bodies have their digests."""
    answers = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if answers != ["ok"]:
        raise _damaged(answers[0].replace("\n", " "))


def _version_of(file: Path) -> int:
    """Read the schema version without SQLite, which would write to a newer agent's file."""
    if size_of(wal_of(file)):
        from gateway.salvage import Pages  # noqa: PLC0415 - only after a kill

        with Pages(file) as pages:
            header = pages.page(1)
    else:
        with file.open("rb") as opened:
            header = opened.read(100)
    return int.from_bytes(header[60:64]) if header.startswith(b"SQLite format 3\0") else 0


def _damaged(reason: str) -> sqlite3.DatabaseError:
    exc = sqlite3.DatabaseError(reason)
    exc.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return exc


def _unusable(file: Path) -> str | None:
    """Say why SQLite must not even open ``file``: it would throw away what the log beside it holds."""
    wal = wal_of(file)
    if not file.exists():
        return "the file is missing, its log is there" if size_of(wal) else None
    if not file.is_file():
        return None
    if size_of(file) == 0:  # ours come into being whole, under another name
        return "the file is empty"
    if size_of(wal):
        from gateway.salvage import wal_is_broken  # noqa: PLC0415 - only after a kill

        if wal_is_broken(wal):
            return "its write-ahead log is damaged"
    return None


def _create(file: Path) -> None:
    """Make an empty spool under another name, then give it its own."""
    new = file.with_name(f"{file.stem}.new{file.suffix}")
    new.unlink(missing_ok=True)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        set_up_pages(connection)
        prepare(connection)
    finally:
        connection.close()
    give_name(new, file)


def _salvage(file: Path, reason: str) -> tuple[sqlite3.Connection, Report]:
    from gateway import salvage  # noqa: PLC0415 - seldom needed

    report = salvage.replace_damaged(file, reason)
    return connect(file), report


def _finish_earlier(file: Path) -> None:
    """End a salvage that a kill cut short: the new file is whole once the damaged one has moved."""
    salvaged = salvaged_of(file)
    if not salvaged.exists():
        return
    if file.exists():
        salvaged.unlink()
        return
    from gateway import salvage  # noqa: PLC0415 - seldom needed

    salvage.move_aside(file)
    give_name(salvaged, file)
