"""Tickets with a row per channel in columns, or lines that fit a pattern (sans-IO)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from drivers.tester.printer import Block, BlockEnd, PrinterReader
from drivers.tester.reader import RawRecord
from drivers.tester.text import decoded, folded, split_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIRST = re.compile(r"\d{1,4}")


class ColumnTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column: ``at`` and ``width`` in bytes of the instrument's character set, a Chinese character being two."""

    name: str
    at: Annotated[int, msgspec.Meta(ge=0, le=512)]
    width: Annotated[int, msgspec.Meta(ge=1, le=512)]


class FixedWidthTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``fixed_width``: ``columns``, or a ``pattern`` with groups named as fields."""

    columns: list[ColumnTable] = []
    pattern: str = ""
    block_end: list[BlockEnd] = msgspec.field(default_factory=lambda: list(BlockEnd))

    def faults(self) -> list[str]:
        """Return what is wrong with the table, one line each."""
        if bool(self.columns) == bool(self.pattern):
            return ["needs either columns or a pattern"]
        if self.pattern:
            try:
                named = re.compile(self.pattern).groupindex
            except re.error as exc:
                return [f"pattern: {exc}"]
            if not named:
                return ["pattern: has no group named as a field, as (?P<sample_no>…)"]
        return []


class FixedWidthReader(PrinterReader):
    """A row begins with a number in its first column; ``label: value`` lines of the ticket hold for all its rows."""

    def __init__(
        self, options: FixedWidthTable, *, labels: Mapping[str, str], charset: str = "auto"
    ) -> None:
        super().__init__(charset=charset, ends=frozenset(options.block_end))
        self._columns = options.columns
        self._pattern = re.compile(options.pattern) if options.pattern else None
        self._labels = labels

    def records(self, block: Block) -> Iterator[RawRecord]:
        """Yield a record per row of the ticket."""
        rows: list[tuple[tuple[tuple[str, str], ...], bytes, bool]] = []
        shared: list[tuple[str, str]] = []
        shared_lines: list[bytes] = []
        for line in block.lines:
            row = self._row(line, block.charset)
            if row is not None:
                rows.append((row[0], line, row[1]))
                continue
            pair = split_line(decoded(line, block.charset)[0])
            if pair is not None and pair[0] in self._labels:
                shared.append(pair)
                shared_lines.append(line)
        if not rows and shared:
            self._found.refuse("a ticket without a row", block.raw)
        for pairs, line, damaged in rows:
            raw = b"\n".join([*shared_lines, line])
            yield RawRecord((*shared, *pairs), raw, decoded(raw, block.charset)[0], damaged)

    def _row(self, line: bytes, charset: str) -> tuple[tuple[tuple[str, str], ...], bool] | None:
        """Return (pairs, damaged) of a row, None for a line that is none."""
        text, damaged = decoded(line, charset)
        if self._pattern is not None:
            found = self._pattern.search(text)
            if found is None:
                return None
            said = ((name, (value or "").strip()) for name, value in found.groupdict().items())
            return tuple(said), damaged
        if charset == "utf-8":  # a Chinese character is two columns wide in any character set
            line, charset = text.encode("gb18030"), "gb18030"
        pairs: list[tuple[str, str]] = []
        for number, column in enumerate(self._columns):
            cell, broken = decoded(line[column.at : column.at + column.width], charset)
            damaged = damaged or broken
            if number == 0 and not _FIRST.fullmatch(folded(cell)):
                return None
            pairs.append((column.name, cell.strip()))
        return tuple(pairs), damaged
