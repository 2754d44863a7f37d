"""How far an instrument has been asked, and what of it is stored; survives a restart."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING

import msgspec
import structlog

from drivers.tester.transports.handover import digest

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.records import TestRecord

MAX_KNOWN = 5000  # a few days of the busiest station; asked again beyond that, the server knows the record anyway

log = structlog.get_logger()


class _Kept(msgspec.Struct, kw_only=True):
    newest_ms: int | None = None
    """UTC ms of the newest test that is stored, never ahead of the edge's clock."""
    known: dict[str, str] = {}
    """De-duplication key -> digest of the stored record, oldest first."""


class Cursor:
    """Moves only when ``stored`` is told of a record that is on disk."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._kept = _Kept()
        self._changed = False
        if file is None:
            return
        try:
            self._kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as exc:
            # Asking from the beginning costs time and repeats records; it loses none.
            log.warning("cursor_unreadable", file=str(file), error=str(exc))

    @property
    def since_ms(self) -> int | None:
        """The newest stored test, UTC ms; None before the first."""
        return self._kept.newest_ms

    def knows(self, record: TestRecord) -> bool:
        """Whether this very record is stored."""
        return self._kept.known.get(record.dedup_key) == digest(record).hex()

    def stored(self, record: TestRecord, now_ms: int) -> None:
        """``record`` is on disk; a device's clock that runs ahead does not push the cursor beyond ``now_ms``."""
        known = self._kept.known
        known.pop(record.dedup_key, None)
        known[record.dedup_key] = digest(record).hex()
        while len(known) > MAX_KNOWN:
            del known[next(iter(known))]
        try:
            tested_ms = round(dt.datetime.fromisoformat(record.tested_at).timestamp() * 1000)
        except ValueError:
            tested_ms = 0
        newest = self._kept.newest_ms
        tested_ms = min(tested_ms, now_ms)
        self._kept.newest_ms = tested_ms if newest is None else max(newest, tested_ms)
        self._changed = True

    def save(self) -> None:
        """Write it down if it moved; a disk that is full only means asking again."""
        if self._file is None or not self._changed:
            return
        new = self._file.with_name(f"{self._file.name}.new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(self._kept))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
        except OSError as exc:
            log.warning("cursor_not_saved", file=str(self._file), error=exc.strerror)
            return
        self._changed = False
