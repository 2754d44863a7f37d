"""Sample numbers that the edge gives out by itself: ``hl-001-20261102-0001``, counted per station and day."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

MAX_STATION_CHARS = 26  # a sample number has 40 characters at most
MAX_DAYS = 400
FILE = "sample-numbers.json"


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    days: dict[str, int] = {}
    """Day -> the last number given out, the day that was last used at the end."""


class SampleNumbers:
    """The numbers of one station; a number that was given out never comes again, also after a crash."""

    def __init__(self, station: str, directory: Path) -> None:
        self._station = station[:MAX_STATION_CHARS]
        self._file = directory / FILE

    def next(self, day: dt.date) -> str:
        """Return a new number for ``day``; raise OSError when the disk does not take it."""
        days = dict(self._read().days)
        stamp = f"{day:%Y%m%d}"
        # A clock that was set back goes on counting on the day where it was before.
        number = days.pop(stamp, 0) + 1
        days[stamp] = number
        while len(days) > MAX_DAYS:
            del days[next(iter(days))]
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(_Given(days=days)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        return f"{self._station}-{stamp}-{number:04d}"

    def _read(self) -> _Given:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Given)
        except FileNotFoundError:
            return _Given()
        except msgspec.DecodeError as exc:
            raise OSError(0, f"{self._file} is damaged: {exc}") from exc
