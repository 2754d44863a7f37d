"""Reading the tables under ``standards/``: cells with their place, faults collected instead of raised."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
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
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DAY_MS = 86_400_000
_NO_SUBSTANCE = ("source", "confidence", "note")


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
        if not text:
            return None
        if not _DECIMAL.fullmatch(text):
            self.fault(column, f"{text!r} is not a plain decimal with a point")
            return None
        return Decimal(text)

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
