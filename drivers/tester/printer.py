"""A printer's byte stream to blocks of lines: ESC/POS stripped, blocks cut, text decoded (sans-IO).

A block ends at a blank line, a form feed, a paper cut, the end label, the second start label (no slip has two), or when
the caller says that the line fell silent. What the stream says does not depend on how it was cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from drivers.tester.reader import MAX_RAW_BYTES, Found
from drivers.tester.text import decoded_as, folded, split_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drivers.tester.reader import RawRecord

MAX_LINE_BYTES = 512  # printers have 32 to 64 columns; names run over a few lines
MAX_SLIP_BYTES = MAX_RAW_BYTES
MAX_BITMAP_BYTES = 128 * 1024  # 576 dots × 1800 lines, a logo on 80 mm paper
_MAX_STRING_BYTES = 255  # a barcode or tab list that ends with NUL

ESC, GS, FS, DLE = 0x1B, 0x1D, 0x1C, 0x10
LF, CR, FF, TAB = 0x0A, 0x0D, 0x0C, 0x09

# Bytes of a command, parameters included (Epson ESC/POS reference); a command that is not here has one parameter.
_ESC_LENGTH = dict.fromkeys(b"@2<iFLSmP", 2) | dict.fromkeys(b"$\\c", 4)
_ESC_LENGTH |= {ord("p"): 5, ord("W"): 10, ord("("): 5, ord("*"): 5}
_GS_LENGTH = {ord(":"): 2, ord("v"): 8, ord("("): 5, ord("^"): 5} | dict.fromkeys(b"LW$\\P*", 4)
_FS_LENGTH = dict.fromkeys(b"&.", 2) | {ord("S"): 4, ord("p"): 4, ord("("): 5}
_DLE_LENGTH = {4: 3, 5: 3, 0x14: 5}
_CUT_WITH_FEED = frozenset((65, 66, 97, 98, 103, 104))


class BlockEnd(StrEnum):
    """What ends a slip, beside silence and the end label."""

    BLANK_LINE = "blank_line"
    FORM_FEED = "form_feed"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Block:
    """What was printed at one go: its lines as bytes, its text, and the bytes (bitmaps left out)."""

    lines: tuple[bytes, ...]
    text: str
    charset: str
    raw: bytes
    damaged: bool


class PrinterReader:
    """The printer's side of a reader; ``records`` of a kind of slip makes records of a block."""

    def __init__(
        self,
        *,
        charset: str = "auto",
        ends: frozenset[BlockEnd] = frozenset(BlockEnd),
        start_label: str = "",
        end_label: str = "",
    ) -> None:
        self._charset = charset
        self._ends = ends
        self._start_label = folded(start_label)
        self._end_label = folded(end_label)
        self._pending = bytearray()  # at most one unfinished command
        self._found = Found()
        self._line = bytearray()
        self._lines: list[bytes] = []
        self._raw = bytearray()
        self._line_at = 0  # where the line begins in ``raw``
        self._started = False
        self._lost = False  # the block is over a cap: drop what comes until it ends
        self._skip = 0
        self._twin = 0  # the second byte of CR LF or LF CR

    @property
    def is_open(self) -> bool:
        """Whether something has begun that only more bytes, or silence, will end."""
        return bool(self._lines or self._line or self._lost or self._pending or self._skip)

    def feed(self, data: bytes) -> None:
        """Take what the line sent."""
        self._pending += data
        position = 0
        while position < len(self._pending):
            used = self._step(position)
            if not used:
                break
            position += used
        del self._pending[:position]

    def next(self) -> RawRecord | None:
        """Return the next record, None when there is none yet; raise FrameError for a block that is none."""
        return self._found.next()

    def next_reply(self) -> bytes | None:
        """Return the next whole answer."""
        return self._found.next_reply()

    def records(self, block: Block) -> Iterable[RawRecord]:
        """Return the records of ``block``; each kind of slip has its own."""
        del block
        return ()

    def silence(self) -> None:
        """The line fell silent: what is there is the whole slip."""
        self._pending.clear()
        self._skip = 0
        self._end_line()
        self._end_block()

    # ------------------------------------------------------------ bytes

    def _step(self, at: int) -> int:
        """Consume one byte, command or bitmap; return the bytes used, 0 to wait for more."""
        buf = self._pending
        if self._skip:
            used = min(self._skip, len(buf) - at)
            self._skip -= used
            return used
        byte = buf[at]
        if byte in (LF, CR):
            self._newline(byte)
            return 1
        self._twin = 0
        if byte in (ESC, GS, FS, DLE):
            return self._command(at)
        if byte == FF:
            self._keep(b"\x0c")
            self._end_line()
            if BlockEnd.FORM_FEED in self._ends:
                self._end_block()
        elif byte == TAB or (byte >= 0x20 and byte != 0x7F):
            self._line.append(byte)
            self._keep(bytes((byte,)))
            if len(self._line) > MAX_LINE_BYTES:
                self._refuse(f"a line of more than {MAX_LINE_BYTES} bytes")
        else:
            self._keep(bytes((byte,)))  # a printer's status, not text
        return 1

    def _newline(self, byte: int) -> None:
        self._keep(bytes((byte,)))
        if byte == self._twin:
            self._twin = 0
            return
        self._twin = LF if byte == CR else CR
        self._end_line()

    def _command(self, at: int) -> int:
        length = self._command_length(at)
        if length == 0 or at + length > len(self._pending):
            return 0
        command = bytes(self._pending[at : at + length])
        self._keep(command)
        if length == 1:
            return 1
        kind, name = command[0], command[1]
        if kind == GS and name == ord("V"):
            self._skip = 1 if command[2] in _CUT_WITH_FEED else 0
            self._cut()
        elif kind == ESC and name in b"im":
            self._cut()
        elif kind == ESC and name in b"dJ":  # print and feed
            self._end_line()
            if name == ord("d") and command[2] > 1:
                self._end_line()
        elif bitmap := _bitmap_bytes(command):
            if bitmap > MAX_BITMAP_BYTES:
                self._refuse(f"a bitmap of {bitmap} bytes")
            else:
                self._skip = bitmap
        return length

    def _command_length(self, at: int) -> int:
        """Return the command's length without a bitmap's dots; 0 when more bytes are needed to tell."""
        buf, left = self._pending, len(self._pending) - at
        if left < 2:
            return 0
        kind, name = buf[at], buf[at + 1]
        if name in (ESC, GS, FS, LF, CR):
            return 1  # noise: the next byte begins something else
        if kind == ESC:
            return self._until_nul(at, 2) if name == ord("D") else _ESC_LENGTH.get(name, 3)
        if kind == GS and name == ord("k"):
            if left < 4:
                return 0
            return 4 + buf[at + 3] if buf[at + 2] >= 65 else self._until_nul(at, 3)
        if kind == GS:
            return _GS_LENGTH.get(name, 3)
        return _FS_LENGTH.get(name, 3) if kind == FS else _DLE_LENGTH.get(name, 1)

    def _until_nul(self, at: int, start: int) -> int:
        end = self._pending.find(0, at + start, at + start + _MAX_STRING_BYTES)
        if end >= 0:
            return end + 1 - at
        return 2 if len(self._pending) - at >= start + _MAX_STRING_BYTES else 0

    def _keep(self, data: bytes | bytearray) -> None:
        """Keep the bytes as evidence once a block has begun."""
        if self._lost or not (self._lines or self._line):
            return
        self._raw += data
        if len(self._raw) > MAX_SLIP_BYTES:
            self._refuse(f"a slip of more than {MAX_SLIP_BYTES} bytes")

    # ------------------------------------------------------------ lines and blocks

    def _cut(self) -> None:
        self._end_line()
        if BlockEnd.CUT in self._ends:
            self._end_block()

    def _end_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        text = decoded_as(line, self._charset)[0]
        pair = split_line(text)
        label = "" if pair is None else pair[0]
        if label and label == self._start_label:
            self._start(line)
        if not text.strip():
            if BlockEnd.BLANK_LINE in self._ends:
                self._end_block()
        elif not self._lost:
            self._lines.append(line)
        if label and label == self._end_label:
            self._end_block()
        self._line_at = len(self._raw)

    def _start(self, line: bytes) -> None:
        """Note the start label; a second one ends the block before it, which was cut short or had no end."""
        if self._started or self._lost:
            tail = self._raw[self._line_at :] or line  # a dropped block keeps no bytes
            del self._raw[self._line_at :]
            self._end_block()
            self._raw += tail
        self._started = True

    def _end_block(self) -> None:
        if self._lines and not self._lost:
            text, damaged, charset = decoded_as(b"\n".join(self._lines), self._charset)
            block = Block(tuple(self._lines), text, charset, bytes(self._raw), damaged)
            for record in self.records(block):
                self._found.record(record)
            self._found.reply(block.raw)
        self._lines = []
        self._raw.clear()
        self._started = self._lost = False
        self._line_at = 0

    def _refuse(self, what: str) -> None:
        """Report a block that breaks a cap and drop the rest of it."""
        self._found.refuse(f"{what}: not a slip; dropped to its end", self._raw)
        self._lines = []
        self._line.clear()
        self._raw.clear()
        self._started = False
        self._line_at = 0
        self._lost = True


def _bitmap_bytes(command: bytes) -> int:
    """Return how many bytes of dots (or of a function's data) follow ``command``."""
    if len(command) < 4:
        return 0
    if command[:2] == b"\x1b*":
        columns = int.from_bytes(command[3:5], "little")
        return columns * (3 if command[2] in (32, 33) else 1)
    if command[:2] == b"\x1dv":
        return int.from_bytes(command[4:6], "little") * int.from_bytes(command[6:8], "little")
    if command[1:2] == b"(":
        return int.from_bytes(command[3:5], "little")
    if command[:2] == b"\x1d*":
        return command[2] * command[3] * 8
    return 0
