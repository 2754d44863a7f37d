"""RTU frames in a recording, found by length and CRC; the rest is reported with its bytes (pure).

The work per byte is bounded whatever the bytes are.
"""

from __future__ import annotations

import functools
from array import array
from typing import TYPE_CHECKING

from drivers.modbus.capture_search import CaptureSearch
from drivers.modbus.captured import REGISTER_READS, Captured, read_frame
from drivers.modbus.frames import CRC_TABLE, crc16
from drivers.modbus.pdu_shapes import SHAPES, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def _why(run: bytes, *, ended: bool) -> tuple[str, int]:
    """Return what is wrong with bytes that are no RTU frame, and at which of them."""
    shapes = shapes_of(run[1:], ended=True) or ()
    if len(run) >= 4 and crc16(run) == 0:  # the CRC of a frame with its own CRC behind it
        if run[1] & 0x7F not in SHAPES:
            return f"function {run[1]:02X} is not known; the CRC fits", 1
        if run[1] in REGISTER_READS:
            return f"byte count says {run[2]}, {len(run) - 5} bytes follow; the CRC fits", 2
        return f"function {run[1]:02X} is not {len(run)} bytes long; the CRC fits", 1
    if any(length + 3 == len(run) for length in shapes):
        sent = int.from_bytes(run[-2:], "little")
        return f"CRC is {sent:04X}, the bytes give {crc16(run[:-2]):04X}", len(run) - 2
    longer = [length + 3 for length in shapes if length + 3 > len(run)]
    if ended and longer:
        return f"the recording ends inside a frame of {longer[0]} bytes", len(run)
    if len(run) == 1:
        return "a byte that belongs to no frame", 0
    return f"{len(run)} bytes that belong to no frame", 0


def _tiles(run: bytes) -> list[int]:
    """Return lengths of frames with a wrong CRC that fill ``run``; one piece when they do not."""
    pieces: list[int] = []
    at = 0
    while at < len(run):
        shapes = shapes_of(run[at + 1 : at + 12], ended=True) or ()
        fits = [length + 3 for length in shapes if at + length + 3 <= len(run)]
        if not fits:
            return [len(run)]
        pieces.append(fits[0])
        at += fits[0]
    return pieces


@functools.cache
def _zeros(length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what ``length`` zero bytes make of the low and the high byte of a CRC register.

    A CRC is linear: with this the CRC of any stretch follows from the running CRC at its ends, in one step.
    """
    bits = []
    for bit in range(16):
        crc = 1 << bit
        for _ in range(length):
            crc = crc >> 8 ^ CRC_TABLE[crc & 0xFF]
        bits.append(crc)

    def of_byte(shift: int) -> tuple[int, ...]:
        made = [0] * 256
        for value in range(1, 256):
            low = value & -value
            made[value] = made[value ^ low] ^ bits[shift + low.bit_length() - 1]
        return tuple(made)

    return of_byte(0), of_byte(8)


class RtuCapture(CaptureSearch):
    """RTU frames in a recording."""

    def __init__(self) -> None:
        super().__init__()
        # The running CRC before each byte of the buffer, and behind the last.
        self._crc = array("H", [0])

    def _grow(self, piece: bytes) -> None:
        super()._grow(piece)
        crc = self._crc[-1]
        for byte in piece:
            crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
            self._crc.append(crc)

    def _forget(self) -> None:
        del self._crc[: self._at]
        super()._forget()

    def _frame(self, *, ended: bool) -> int | None:
        """Return the length of the frame that begins here, 0 for none; None when more bytes are needed."""
        at, buffer = self._at, self._buffer
        pdu = buffer[at + 1 : at + 12]
        if not pdu:
            return 0 if ended else None
        shapes = shapes_of(pdu, ended=ended)
        if shapes is None:
            # An answer may be shorter than what tells a request.
            shapes = shapes_of(pdu, ended=True) or ()
            for length in shapes:
                if at + length + 3 <= len(buffer) and self._fits(at, length + 3):
                    return length + 3
            return None
        for length in shapes:
            if at + length + 3 > len(buffer):
                if ended:
                    continue
                return None
            if self._fits(at, length + 3):
                return length + 3
        return 0

    def _fits(self, at: int, length: int) -> bool:
        """Whether the CRC of ``length`` bytes from ``at``, their own CRC included, is right."""
        low, high = _zeros(length)
        before = self._crc[at] ^ 0xFFFF
        return self._crc[at + length] == low[before & 0xFF] ^ high[before >> 8]

    def _opened(self, raw: bytes, offset: int) -> Captured:
        return read_frame(raw, offset, None, raw[0], raw[1:-2], self._asked)

    def _refused(self, run: bytes, *, ended: bool) -> Iterator[tuple[int, str, int]]:
        pieces = [len(run)] if len(run) >= 4 and crc16(run) == 0 else _tiles(run)
        for size in pieces:
            piece, run = run[:size], run[size:]
            yield size, *_why(piece, ended=ended and not run)
