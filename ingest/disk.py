"""Room on the disk: when taking must stop, what is set aside for alerts, whether the files are still there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = structlog.get_logger()

BALLAST = "ballast"  # a file in the data directory: its space is the alerts'
BALLAST_BYTES = 8 * 1024 * 1024
MB = 1024 * 1024

# What passes by itself or when somebody makes room; a read-only or lost database does not.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_INTERRUPT,
}
_NO_ROOM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}  # beyond a file size limit it is an I/O error


class DiskError(Exception):
    """The files cannot be used any more; the message says which, and what to do."""


def passes(exc: BaseException) -> bool:
    """Whether trying again can help; of another engine's error it always may, but for a database that is damaged."""
    code = _code(exc)
    return not _is_damaged(exc) if code is None else code in _PASSING


def _is_damaged(exc: BaseException) -> bool:
    original = exc.orig if isinstance(exc, sa.exc.DBAPIError) else exc
    return str(getattr(original, "sqlstate", "")).startswith("XX")  # PostgreSQL's own class


def is_full(exc: BaseException) -> bool:
    """Whether a database could not be written for want of room."""
    return _code(exc) in _NO_ROOM


def _code(exc: BaseException) -> int | None:
    original = exc.orig if isinstance(exc, sa.exc.DBAPIError) else exc
    if not isinstance(original, sqlite3.Error):
        return None
    code: int = getattr(original, "sqlite_errorcode", sqlite3.SQLITE_BUSY)
    return code & 0xFF  # without what the extended code adds


class Room:
    """Watches the file system of ``directory`` and the ``files`` in it; safe to share between threads.

    ``reserve_bytes`` is what taking packs must leave free. A part of it is a file of its own, given up when an alert
    could not be written, and made again when there is room.
    """

    def __init__(self, directory: Path, *, reserve_bytes: int, files: Sequence[Path] = ()) -> None:
        self._directory = directory
        self._reserve = reserve_bytes
        self._ballast = directory / BALLAST
        self._ballast_bytes = min(BALLAST_BYTES, reserve_bytes // 4)
        self._lock = threading.Lock()
        self._known = {file: _identity(file) for file in files}
        self.low = False
        self.free_bytes = 0
        self.look()

    def look(self) -> None:
        """Measure; raise DiskError when a file is gone or the file system has become read-only."""
        for file, identity in self._known.items():
            if _identity(file) != identity:
                raise DiskError(
                    f"{file}: is gone or was replaced; put it back, or restore a backup"
                )
        state = os.statvfs(self._directory)
        if state.f_flag & os.ST_RDONLY:
            raise DiskError(
                f"{self._directory}: the file system is read-only; mount it for writing"
            )
        self.free_bytes = state.f_bavail * state.f_frsize
        if self.low:
            if self.free_bytes >= self._reserve + self._reserve // 8:
                self.low = False
                log.info("disk_has_room", free_mb=self.free_bytes // MB)
        elif self.free_bytes < self._reserve:
            self.low = True
            log.error(
                "disk_nearly_full",
                free_mb=self.free_bytes // MB,
                reserve_mb=self._reserve // MB,
                todo="free disk space; packs wait at the stations, alerts go on",
            )
        if not self.low:
            self._set_aside()

    def _set_aside(self) -> None:
        """Make the ballast when there is room for it beside the reserve."""
        with self._lock:
            if self._ballast.exists() or not self._ballast_bytes:
                return
            if self.free_bytes < self._reserve + self._ballast_bytes:
                return
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._ballast_bytes)
            except OSError:
                self._ballast.unlink()
            finally:
                os.close(descriptor)

    def relieve(self, exc: BaseException) -> None:
        """Give up the ballast when ``exc`` says that the operational database found no room."""
        if not is_full(exc):
            return
        with self._lock, contextlib.suppress(FileNotFoundError):
            self._ballast.unlink()
            log.warning("ballast_released", mb=self._ballast_bytes // MB)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        state = file.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino
