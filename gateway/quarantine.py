"""What instruments sent and nobody could read: the bytes and the reason, in a bounded folder of the station."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.session import Refused

MAX_FILES = 500
MAX_BYTES = 8 * 1024 * 1024
MAX_RAW_BYTES = 64 * 1024
_NAME = re.compile(r"(\d{13})-(\d{4})\.json")

log = structlog.get_logger()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One file; ``raw`` is base64 of the bytes, at most 64 KiB of them."""

    device: str
    at_ms: int
    reason: str
    origin: str
    size: int
    """How many bytes there were."""
    raw: bytes


class Quarantine:
    """At most 500 files and 8 MiB; the oldest go first. Any thread may use it."""

    def __init__(
        self, directory: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._directory = directory
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def keep(self, device: str, refused: Refused, at_ms: int) -> bool:
        """Write one down; False when it cannot be, which is logged with the first bytes."""
        kept = Kept(
            device=device,
            at_ms=at_ms,
            reason=refused.reason,
            origin=refused.origin,
            size=len(refused.raw),
            raw=refused.raw[:MAX_RAW_BYTES],
        )
        try:
            with self._lock:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                self._write(msgspec.json.encode(kept), at_ms)
                self._thin_out()
        except OSError as exc:
            log.error(  # noqa: TRY400 - what failed is the disk, and it is named
                "refused_bytes_not_kept",
                device=device,
                reason=refused.reason,
                raw=refused.raw[:512].hex(),
                error=exc.strerror,
            )
            return False
        return True

    def newest(self, most: int) -> list[Kept]:
        """Return the last ones, newest first; a file that cannot be read is left out."""
        found: list[Kept] = []
        for file in reversed(self._files()):
            if len(found) == most:
                break
            try:
                found.append(msgspec.json.decode(file.read_bytes(), type=Kept))
            except (OSError, msgspec.DecodeError):
                continue
        return found

    def _write(self, data: bytes, at_ms: int) -> None:
        number = 0
        while (file := self._directory / f"{at_ms:013d}-{number:04d}.json").exists():
            number += 1
        new = file.with_suffix(".new")
        with new.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        new.rename(file)

    def _files(self) -> list[Path]:
        """Return the files, oldest first."""
        try:
            return sorted(file for file in self._directory.iterdir() if _NAME.fullmatch(file.name))
        except FileNotFoundError:
            return []

    def _thin_out(self) -> None:
        files = self._files()
        sizes = [file.stat().st_size for file in files]
        held = sum(sizes)
        for number, (file, size) in enumerate(zip(files, sizes, strict=True)):
            left = len(files) - number
            if left <= 1 or (left <= self._max_files and held <= self._max_bytes):
                return
            file.unlink(missing_ok=True)
            held -= size
