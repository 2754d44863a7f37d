"""Files that a tester's program or a person puts into a folder, on a local disk or a share."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drivers.errors import LinkError
from drivers.session import Refused
from drivers.tester.transports.intake import Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from drivers.records import TestRecord
    from drivers.tester.transports.intake import Instrument

POLL_S = 1.0
SETTLED_S = 3.0  # a file that has looked the same for this long is written to the end; also one renamed into place
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 1000  # looked at per poll; the rest comes when these are gone
DONE, REFUSED = "done", "refused"
_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart", "~")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a file looked at a poll."""

    size: int
    mtime_ns: int
    inode: int


class FolderSession:
    """Reads each complete file of ``folder`` once, then moves it.

    To ``done/`` when what is in it is stored, to ``refused/`` when nothing could be.
    """

    def __init__(
        self,
        instrument: Instrument,
        folder: Path,
        *,
        pattern: str = "*",
        poll_s: float = POLL_S,
        settled_s: float = SETTLED_S,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._instrument = instrument
        self._folder = folder
        self._pattern = pattern
        self._poll_s = poll_s
        self._settled_s = settled_s
        self._max_bytes = max_bytes
        self._since: dict[str, tuple[_Seen, float]] = {}
        """How each file looks, and since when (monotonic seconds)."""
        self._stuck: dict[str, _Seen] = {}
        """Read, but not to be moved or opened: not again while they stay as they are."""
        self._acknowledged: TestRecord | None = None

    async def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield the records of each complete file; raise LinkError when the folder is gone."""
        while True:
            for name in await self._complete():
                async for item in self._read(name):
                    yield item
            await asyncio.sleep(self._poll_s)

    async def acknowledge(self, record: TestRecord) -> None:
        """``record`` is on disk; its file moves when all of its records are."""
        self._acknowledged = record

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    async def _complete(self) -> list[str]:
        """Return the files that nobody writes any more, in the order of their names."""
        try:
            files = await asyncio.to_thread(_files, self._folder, self._pattern)
        except OSError as exc:
            raise LinkError(
                f"{self._instrument.path}: {self._folder}: {exc.strerror or exc}"
            ) from exc
        now = asyncio.get_running_loop().time()
        before = self._since
        self._since = {
            name: before[name] if name in before and before[name][0] == seen else (seen, now)
            for name, seen in files.items()
        }
        self._stuck = {name: seen for name, seen in self._stuck.items() if files.get(name) == seen}
        return [
            name
            for name, (seen, since) in sorted(self._since.items())
            if seen.size and now - since >= self._settled_s and name not in self._stuck
        ]

    async def _read(self, name: str) -> AsyncIterator[TestRecord | Refused]:
        """Yield what is in one file, then move it."""
        try:
            data = await asyncio.to_thread(_content, self._folder / name, self._max_bytes)
        except FileNotFoundError:
            return  # its owner took it back
        except OSError as exc:
            self._leave(name, exc)
            return
        intake = Intake(self._instrument, name)
        reasons: list[str] = []
        stored = 0
        if len(data) > self._max_bytes:
            too_large = Refused(data[:4096], f"larger than {self._max_bytes} bytes", name)
            items: Iterator[TestRecord | Refused] = iter((too_large,))
        else:
            items = _all_of(intake, data)
        for item in items:
            yield item
            if isinstance(item, Refused):
                reasons.append(item.reason)
            elif self._acknowledged is item:
                stored += 1
            else:
                reasons.append(f"{item.sample_no}: too large to be stored")
        if not stored and not reasons:
            reasons.append("nothing in it is a test")
            yield Refused(data[:4096], reasons[0], name)
        try:
            await asyncio.to_thread(_move, self._folder, name, DONE if stored else REFUSED, reasons)
        except OSError as exc:
            self._leave(name, exc)
        self._since.pop(name, None)

    def _leave(self, name: str, exc: OSError) -> None:
        self._stuck[name] = self._since[name][0]
        log.warning(
            "tester_file_stuck",
            device=self._instrument.path,
            file=str(self._folder / name),
            error=exc.strerror or str(exc),
        )


def _all_of(intake: Intake, data: bytes) -> Iterator[TestRecord | Refused]:
    yield from intake.feed(data)
    yield from intake.silence()


def _files(folder: Path, pattern: str) -> dict[str, _Seen]:
    """Return the plain files of ``folder`` that ``pattern`` names and that may be complete; raise OSError."""
    found: dict[str, _Seen] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith((".", "~")) or name.lower().endswith(_UNFINISHED):
                continue
            if not fnmatch.fnmatch(name, pattern):
                continue
            try:
                at = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(at.st_mode):
                found[name] = _Seen(at.st_size, at.st_mtime_ns, at.st_ino)
                if len(found) == MAX_FILES:
                    break
    return found


def _content(file: Path, max_bytes: int) -> bytes:
    """Return the file's bytes, one more than ``max_bytes`` at most; raise OSError."""
    # What was a file a moment ago may be a link or a pipe by now.
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as opened:  # noqa: PTH123 - a handle, no path
        return opened.read(max_bytes + 1)


def _move(folder: Path, name: str, where: str, reasons: list[str]) -> None:
    """Move a file under ``where``, with its reasons beside it; never over another file. Raises OSError."""
    directory = folder / where
    directory.mkdir(exist_ok=True)
    target, number = directory / name, 1
    while target.exists():
        number += 1
        target = directory / f"{Path(name).stem}.{number}{Path(name).suffix}"
    if reasons:
        reason = target.with_name(f"{target.name}.reason")
        reason.write_text("".join(f"{line}\n" for line in reasons), encoding="utf-8")
    (folder / name).rename(target)
