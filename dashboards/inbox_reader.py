"""The inbox of another process on this machine, for reading only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from ingest.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.inbox import DamagedMessage, StoredPack
    from ingest.intake import Loss

log = structlog.get_logger()


class InboxElsewhereError(Exception):
    """The inbox is not on this machine; the message says what to do."""


class InboxReader:
    """Opens the inbox when it is first asked, and anew when the file was replaced; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._inbox: Inbox | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_here(self) -> bool:
        """Whether there is an inbox to read."""
        return self._path.is_file()

    def pack(self, station: str, epoch: str, seq: int) -> StoredPack | None:
        """Return one pack, None when it never came; raise InboxElsewhereError."""
        inbox = self._opened()
        if inbox is None:
            raise InboxElsewhereError(
                f"{self._path}: is not on this machine; ask the one with role ingest"
            )
        return inbox.pack(station, epoch, seq)

    def losses(self, station: str | None) -> Sequence[Loss]:
        """Return what was lost at one station, or at all; nothing when the inbox is not here."""
        inbox = self._opened()
        return () if inbox is None else inbox.losses(station)

    def damaged(self, limit: int) -> Sequence[DamagedMessage]:
        """Return the newest messages that were no packs; nothing when the inbox is not here."""
        inbox = self._opened()
        return () if inbox is None else inbox.damaged(limit)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None

    def _opened(self) -> Inbox | None:
        with self._lock:
            try:
                state = self._path.stat()
            except FileNotFoundError:
                self._close()
                return None
            identity = (state.st_dev, state.st_ino)
            if self._inbox is None or identity != self._identity:
                self._close()
                self._inbox, self._identity = Inbox.open_read_only(self._path), identity
            return self._inbox
