"""Reading the tables under ``standards/``: cells with their place, faults collected instead of raised."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CHINA = ZoneInfo("Asia/Shanghai")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e-[0-9]{1,2})?")
_DAY_MS = 86_400_000
_EARLIEST = dt.date(1950, 1, 1)
_AHEAD_DAYS = 5 * 366
"""Standards are announced months ahead; a start beyond five years is a slip of the pen."""
_NO_SUBSTANCE = ("source", "confidence", "note")


@dataclass(frozen=True, slots=True)
class Directories:
    """The tables of the project, with a directory over them: its files replace those of the same name, or are added.

    ``directories / name`` is the file that counts.
    """

    shipped: Path
    overlay: Path

    def __truediv__(self, name: str) -> Path:
        over = self.overlay / name
        return over if over.is_file() else self.shipped / name

    def both(self, name: str) -> list[Path]:
        """Return the shipped file of that name, then the one over it, as far as they are there."""
        paths = dict.fromkeys((self.shipped / name, self.overlay / name))
        return [path for path in paths if path.is_file()]

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of the tables that begin with ``prefix``, by name."""
        paths = itertools.chain(self.shipped.glob("*.csv"), self.overlay.glob("*.csv"))
        return sorted({path.name for path in paths if path.name.startswith(prefix)})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; ``line`` is the line in the file (its last, when a cell spans lines)."""

    file: str
    line: int
    cells: Mapping[str, str]
    faults: list[str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    @property
    def verified(self) -> bool:
        """Whether the compiler saw the limit itself in a source."""
        return self.cells["confidence"] == "confirmed"

    def fault(self, column: str, message: str) -> None:
        """Note a fault of this row."""
        self.faults.append(f"{self.place}: {column}: {message}")

    def decimal(self, column: str) -> Decimal | None:
        """Return the number in ``column``, None when blank; a fault for anything else."""
        text = self.cells[column]
        number = decimal_of(text)
        if number is None and text:
            self.fault(column, f"{text!r} is not a plain decimal with a point")
        return number

    def date(self, column: str) -> dt.date | None:
        """Return the date in ``column``, None when blank; a fault for anything but YYYY-MM-DD."""
        text = self.cells[column]
        if not text:
            return None
        try:
            if _DATE.fullmatch(text):
                return dt.date.fromisoformat(text)
        except ValueError:
            pass
        self.fault(column, f"{text!r} is not a date YYYY-MM-DD")
        return None

    def start(self, column: str) -> dt.date | None:
        """Return the date in ``column`` from which something is in force, None with a fault when it cannot be."""
        day = self.date(column)
        if day is None:
            if not self.cells[column]:
                self.fault(column, "is needed")
            return None
        latest = dt.datetime.now(CHINA).date() + dt.timedelta(days=_AHEAD_DAYS)
        if not _EARLIEST <= day <= latest:
            self.fault(column, f"{day} is before {_EARLIEST} or more than 5 years ahead")
            return None
        return day

    def word(self, column: str, known: Sequence[str]) -> str | None:
        """Return the word in ``column`` when it is one of ``known``, else note a fault."""
        text = self.cells[column]
        if text in known:
            return text
        self.fault(column, f"{text!r} is not one of {', '.join(known)}")
        return None

    def version(self, *more: str) -> str:
        """Return a short hash of what the row says, its source and confidence left out."""
        said = [f"{k}={v}" for k, v in self.cells.items() if k not in _NO_SUBSTANCE]
        return hashlib.sha256("\n".join([*said, *more]).encode()).hexdigest()[:12]


def read_table(
    path: Path, columns: Sequence[str], faults: list[str], *, with_source: bool = True
) -> list[Row]:
    """Return the rows of a CSV file with exactly ``columns``, then ``source`` and ``confidence``; note every fault."""
    wanted = [*columns, *(("source",) if with_source else ()), "confidence"]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path.name}: cannot be read: {exc}")
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    seen: dict[tuple[str, ...], int] = {}
    try:
        header = next(reader, [])
        if header != wanted:
            faults.append(f"{path.name}:1: the columns must be {','.join(wanted)}")
            return []
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(wanted):
                faults.append(
                    f"{path.name}:{line}: has {len(cells)} cells, not {len(wanted)}"
                    " (a decimal comma?)"
                )
                continue
            row = Row(
                path.name, line, dict(zip(wanted, map(str.strip, cells), strict=True)), faults
            )
            row.word("confidence", ("confirmed", "recalled"))
            said = tuple(row[column] for column in columns)
            if said in seen:
                faults.append(f"{row.place}: repeats line {seen[said]}")
                continue
            seen[said] = line
            rows.append(row)
    except csv.Error as exc:
        faults.append(f"{path.name}:{reader.line_num}: {exc}")
    return rows


def decimal_of(text: str) -> Decimal | None:
    """Return the number that ``text`` is, None for anything but a plain decimal with a point.

    >>> decimal_of("0.30"), decimal_of("5e-05"), decimal_of("0,3")
    (Decimal('0.30'), Decimal('0.00005'), None)
    """
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def day_start_ms(day: dt.date) -> int:
    """Return UTC ms of the start of a day in China: a Chinese standard comes into force at local midnight.

    >>> day_start_ms(dt.date(1970, 1, 2))
    57600000
    """
    start = dt.datetime.combine(day, dt.time(), CHINA)
    return round(start.timestamp() * 1000)


def day_end_ms(day: dt.date) -> int:
    """Return UTC ms of the end of a day in China (the next day's start)."""
    return day_start_ms(day) + _DAY_MS


def china_day(at_ms: int) -> dt.date:
    """Return the day in China at a UTC ms."""
    return dt.datetime.fromtimestamp(at_ms / 1000, CHINA).date()


def clean(text: str, length: int) -> str:
    """Return ``text`` for a column: without NUL, which a database may refuse, and at most ``length`` long."""
    return text.replace("\0", "").strip()[:length]
