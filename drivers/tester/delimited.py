"""Lines of fields between delimiters: CSV files and "RS-232 output" options (sans-IO)."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Literal

import msgspec

from drivers.tester.reader import Found, RawRecord
from drivers.tester.text import CHARSETS, decoded_as, folded

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE_BYTES = 4096  # a row of the widest export is under 1 kB
_LF, _CR = 0x0A, 0x0D
_ENOUGH_LABELS = 2  # a line with so many known labels is a header


class DelimitedTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``delimited``: ``columns`` by number ("" = not read), or a ``header`` line that names them."""

    delimiter: Literal[",", ";", "\t", "|"] = ","
    quote: str = '"'
    columns: list[str] = []
    header: bool = False
    record_word: str = ""
    end_words: list[str] = []
    line_end: Literal["any", "cr", "lf", "crlf"] = "any"

    def faults(self) -> list[str]:
        """Return what is wrong with the table, one line each."""
        wrong = []
        if bool(self.columns) == self.header:
            wrong.append("needs either columns or header = true")
        if len(self.quote) > 1:
            wrong.append(f"quote: {self.quote!r} is more than one character")
        return wrong


class DelimitedReader:
    """A line is a record; a line of another shape is refused with its bytes."""

    def __init__(
        self, options: DelimitedTable, *, labels: Mapping[str, str], charset: str = "auto"
    ) -> None:
        self._options = options
        self._labels = labels
        self._charset = charset
        self._found = Found()
        self._line = bytearray()
        self._lost = False
        self._was_cr = False
        self._header: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether a line has begun."""
        return bool(self._line) or self._lost

    def feed(self, data: bytes) -> None:
        """Take what the line sent."""
        line_end = self._options.line_end
        for byte in data:
            was_cr, self._was_cr = self._was_cr, byte == _CR
            if byte == _LF and line_end != "cr":
                if line_end == "crlf" and not was_cr:
                    self._add(byte)
                elif not (was_cr and line_end == "any"):
                    self._end_line()
            elif byte == _CR and line_end in ("any", "cr"):
                self._end_line()
            else:
                self._add(byte)

    def silence(self) -> None:
        """The line fell silent, or the file ended: its last line may have no end."""
        self._was_cr = False
        self._end_line()

    def next(self) -> RawRecord | None:
        """Return the next record; raise FrameError for a line that is none."""
        return self._found.next()

    def next_reply(self) -> bytes | None:
        """Return the next whole line."""
        return self._found.next_reply()

    def _add(self, byte: int) -> None:
        if self._lost:
            return
        self._line.append(byte)
        if len(self._line) > MAX_LINE_BYTES:
            self._found.refuse(f"a line of more than {MAX_LINE_BYTES} bytes", self._line)
            self._line.clear()
            self._lost = True

    def _end_line(self) -> None:
        line = bytes(self._line).rstrip(b"\r")
        self._line.clear()
        lost, self._lost = self._lost, False
        if lost or not line.strip(b" \t\x00"):
            return
        text, damaged, charset = decoded_as(line, self._charset)
        if self._charset == "auto" and charset != CHARSETS["auto"][0]:
            self._charset = charset  # one line that is no utf-8 speaks for all
        text = text.removeprefix("\ufeff").strip("\x00")
        self._found.reply(line)
        if text.strip() in self._options.end_words:
            return
        try:
            cells = self._cells(text)
        except csv.Error as exc:
            self._found.refuse(f"not a row: {exc}", line)
            return
        if self._options.header and self._is_header(cells):
            self._header = [folded(cell) for cell in cells]
            return
        self._record(cells, line, text, damaged=damaged)

    def _cells(self, text: str) -> list[str]:
        options = self._options
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE
        rows = csv.reader(
            [text],
            delimiter=options.delimiter,
            quotechar=options.quote or None,
            quoting=quoting,
            strict=True,
        )
        return [cell.strip() for row in rows for cell in row]

    def _is_header(self, cells: list[str]) -> bool:
        known = sum(folded(cell) in self._labels for cell in cells)
        return known >= min(_ENOUGH_LABELS, len(cells))

    def _record(self, cells: list[str], line: bytes, text: str, *, damaged: bool) -> None:
        options = self._options
        columns = options.columns or self._header
        if not columns:
            self._found.refuse("a row before the header", line)
        elif options.record_word and (not cells or cells[0] != options.record_word):
            self._found.refuse(f"does not begin with {options.record_word!r}", line)
        elif len(cells) < len(columns) or any(cells[len(columns) :]):
            self._found.refuse(f"{len(cells)} fields, not {len(columns)}", line)
        else:
            pairs = tuple((c, v) for c, v in zip(columns, cells, strict=False) if c)
            self._found.record(RawRecord(pairs, line, text, damaged))
