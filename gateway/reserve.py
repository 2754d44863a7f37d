"""Disk space kept aside beside the spool, and what the system says when it refuses to write."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 4 * 1024 * 1024  # more than the write-ahead log ever is: one checkpoint fits
NO_SPACE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


class Reserve:
    """A file that holds blocks of the disk until they are needed."""

    def __init__(self, file: Path, size: int = RESERVE_BYTES) -> None:
        self._file = file
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the space is set aside."""
        try:
            return self._file.stat().st_size >= self._size
        except OSError:
            return False

    def make(self) -> bool:
        """Set the space aside; False when there is none."""
        if self.held:
            return True
        try:
            with self._file.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the space back to the disk."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError:  # a read-only file system: there is nothing to gain from it either
            return


def write_errno(directory: Path, at: int) -> int:
    """Write one byte at offset ``at`` of a new file in ``directory``; return 0 or the errno.

    SQLite tells "the disk is full" and "the disk fails" apart only in part; this asks the system.
    """
    probe = directory / ".spool.probe"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.pwrite(descriptor, b"\0", at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


def free_bytes(directory: Path) -> int | None:
    """Bytes that an ordinary user may still write in ``directory``; None when the system does not say."""
    try:
        answer = os.statvfs(directory)
    except OSError:
        return None
    return answer.f_bavail * answer.f_frsize
