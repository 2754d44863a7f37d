"""A recording of Modbus traffic, requests and replies in one stream, to frames good and bad (pure).

An RTU frame is found by its length and its CRC, a TCP frame by its header; what belongs to none is reported with its
bytes and where it is wrong, and the search goes on behind it. What is said does not depend on how the recording was
cut, the work per byte is bounded whatever the bytes are, and so is the memory.
"""

from __future__ import annotations

import functools
import struct
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

import msgspec

from drivers.modbus.frames import EXCEPTIONS, MAX_PDU_BYTES, crc16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ADU_BYTES = MAX_PDU_BYTES + 3
MAX_BAD_BYTES = 256
"""A longer stretch of bytes that are no frame is reported in pieces."""
_STEP_BYTES = 16 * 1024
_MBAP_BYTES = 7
_BIT_READS = (1, 2)
_REGISTER_READS = (3, 4)
_REGISTERS = 125  # Modbus application protocol V1.1b3 §6.3
_BITS = 2000
_ASKED_AT_MOST = 256  # requests whose answers are still waited for

Kind = Literal["request", "reply", "exception", "echo"]


class Captured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One frame, or bytes that are none.

    ``offset`` is where it begins in the recording and ``fault_at`` where it is wrong; ``request_at`` is where the
    request of a reply began. ``kind`` "echo" is a write, whose request and reply look alike.
    """

    good: bool
    offset: int
    bytes: str
    error: str = ""
    fault_at: int | None = None
    kind: Kind | None = None
    transaction: int | None = None
    unit: int | None = None
    function: int | None = None
    address: int | None = None
    count: int | None = None
    registers: tuple[int, ...] | None = None
    data: str = ""
    exception: int | None = None
    refusal: str = ""
    request_at: int | None = None
    values: dict[str, float | str] | None = None
    """What a register map makes of the registers, indicator -> value or quality; filled in by who has a map."""


# ---------------------------------------------------------------- shapes of PDUs


def _lengths(pdu: bytes | bytearray) -> tuple[int, ...] | None:
    """Return the lengths that a PDU beginning so may have, shortest first; None when more bytes are needed.

    ``()``: no known function begins so.
    """
    if not pdu:
        return None
    function = pdu[0]
    if function & 0x80:
        known = function & 0x7F in _SHAPES
        if not known or len(pdu) < 2:
            return None if known else ()
        return (2,) if pdu[1] in EXCEPTIONS else ()
    shape = _SHAPES.get(function)
    if shape is None:
        return ()
    needed, lengths = shape
    return lengths(pdu) if len(pdu) >= needed else None


def _read_shape(most: int, *, even: bool) -> Callable[[bytes | bytearray], tuple[int, ...]]:
    def lengths(pdu: bytes | bytearray) -> tuple[int, ...]:
        held = pdu[1]
        count = pdu[3] << 8 | pdu[4]
        asks = (5,) if count <= most else ()
        answers = (2 + held,) if held <= 250 and not (even and held & 1) else ()
        return tuple(sorted({*asks, *answers}))

    return lengths


def _multiple(pdu: bytes | bytearray) -> tuple[int, ...]:
    return tuple(sorted({5, 6 + pdu[5]}))


def _fixed(*lengths: int) -> Callable[[bytes | bytearray], tuple[int, ...]]:
    return lambda _: lengths


# function -> (bytes needed to tell, lengths); a read of count 0 is legal here: some probes begin so.
_SHAPES: dict[int, tuple[int, Callable[[bytes | bytearray], tuple[int, ...]]]] = {
    1: (5, _read_shape(_BITS, even=False)),
    2: (5, _read_shape(_BITS, even=False)),
    3: (5, _read_shape(_REGISTERS, even=True)),
    4: (5, _read_shape(_REGISTERS, even=True)),
    5: (5, lambda pdu: (5,) if bytes(pdu[3:5]) in {b"\0\0", b"\xff\0"} else ()),
    # Ecowitt answers a write in the shape of a read.
    6: (5, lambda pdu: (4, 5) if pdu[1] == 2 else (5,)),
    7: (1, _fixed(1, 2)),
    8: (1, _fixed(5)),
    15: (6, _multiple),
    16: (6, _multiple),
    17: (2, lambda pdu: tuple(sorted({1, 2 + pdu[1]}))),
    22: (1, _fixed(7)),
    23: (10, lambda pdu: tuple(sorted({2 + pdu[1], 10 + pdu[9]}))),
}
# A short answer stands where the bytes that would tell a longer request have not all come.
_SHORT = {1: 3, 2: 3, 3: 2, 4: 2, 15: 5, 16: 5, 6: 4, 17: 1, 23: 2}


def _shapes(pdu: bytes | bytearray, *, ended: bool) -> tuple[int, ...] | None:
    """As ``_lengths``; at the end of the recording what is there must do."""
    lengths = _lengths(pdu)
    if lengths is None and ended and pdu and pdu[0] in _SHORT:
        held = pdu[1] if len(pdu) > 1 else None
        function = pdu[0]
        if function in (15, 16):
            return (5,)
        if function == 17:
            return (1,) if held is None else (1, 2 + held)
        return () if held is None else (2 + held,)
    return () if lengths is None and ended else lengths


# ---------------------------------------------------------------- what a frame says


class _Asked:
    """The requests seen, so that a reply is known by what it answers."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int | None, int, int], tuple[int, int, int]] = OrderedDict()

    def add(self, key: tuple[int | None, int, int], offset: int, address: int, count: int) -> None:
        self._open[key] = (offset, address, count)
        self._open.move_to_end(key)
        if len(self._open) > _ASKED_AT_MOST:
            self._open.popitem(last=False)

    def take(self, key: tuple[int | None, int, int]) -> tuple[int, int, int] | None:
        return self._open.pop(key, None)

    def holds(self, key: tuple[int | None, int, int]) -> bool:
        return key in self._open


def _read(
    raw: bytes, offset: int, transaction: int | None, unit: int, pdu: bytes, asked: _Asked
) -> Captured:
    """Return what a frame of a known shape says."""
    function = pdu[0] & 0x7F
    key = (transaction, unit, function)

    def captured(kind: Kind, **more: object) -> Captured:
        head = Captured(
            good=True,
            offset=offset,
            bytes=raw.hex(" "),
            kind=kind,
            transaction=transaction,
            unit=unit,
            function=function,
        )
        return msgspec.structs.replace(head, **more)

    if pdu[0] & 0x80:
        before = asked.take(key)
        return captured(
            "exception",
            exception=pdu[1],
            refusal=EXCEPTIONS.get(pdu[1], ""),
            request_at=None if before is None else before[0],
        )
    reads = function in _REGISTER_READS or function in _BIT_READS
    answers = len(pdu) == 2 + pdu[1] if reads else False
    if reads and len(pdu) == 5 and not (answers and asked.holds(key)):
        address, count = struct.unpack_from(">HH", pdu, 1)
        asked.add(key, offset, address, count)
        return captured("request", address=address, count=count)
    if reads:
        return _reply(captured, function, pdu, asked.take(key))
    if function in (5, 6) and len(pdu) == 5:
        address, value = struct.unpack_from(">HH", pdu, 1)
        return captured("echo", address=address, registers=(value,))
    if function in (15, 16):
        address, count = struct.unpack_from(">HH", pdu, 1)
        if len(pdu) == 5:
            before = asked.take(key)
            at = None if before is None else before[0]
            return captured("reply", address=address, count=count, request_at=at)
        asked.add(key, offset, address, count)
        return captured("request", address=address, count=count, data=pdu[6:].hex(" "))
    return captured("echo", data=pdu[1:].hex(" "))


def _reply(
    captured: Callable[..., Captured],
    function: int,
    pdu: bytes,
    before: tuple[int, int, int] | None,
) -> Captured:
    more: dict[str, object] = {}
    held = pdu[1]
    if before is not None:
        at, address, count = before
        fits = held == 2 * count if function in _REGISTER_READS else held == -(-count // 8)
        if fits:  # else it answers something that was not recorded
            more = {"request_at": at, "address": address}
    if function in _BIT_READS:
        return captured("reply", data=pdu[2:].hex(" "), **more)
    return captured("reply", registers=struct.unpack_from(f">{held // 2}H", pdu, 2), **more)


# ---------------------------------------------------------------- bad bytes


def _why_rtu(run: bytes, *, ended: bool) -> tuple[str, int]:
    """Return what is wrong with bytes that are no RTU frame, and at which of them."""
    shapes = _shapes(run[1:], ended=True) or ()
    if len(run) >= 4 and crc16(run) == 0:  # the CRC of a frame with its own CRC behind it
        if run[1] & 0x7F not in _SHAPES:
            return f"function {run[1]:02X} is not known; the CRC fits", 1
        if run[1] in _REGISTER_READS:
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
        shapes = _shapes(run[at + 1 : at + 12], ended=True) or ()
        fits = [length + 3 for length in shapes if at + length + 3 <= len(run)]
        if not fits:
            return [len(run)]
        pieces.append(fits[0])
        at += fits[0]
    return pieces


def _why_tcp(run: bytes, *, ended: bool) -> tuple[str, int]:
    """Return what is wrong with bytes that begin no Modbus TCP frame, and at which of them."""
    if len(run) < _MBAP_BYTES + 1:
        return (f"{len(run)} bytes at the end are no frame" if ended else "no frame"), 0
    protocol, length = struct.unpack_from(">HH", run, 2)
    if protocol != 0:
        return f"protocol id {protocol} is not 0", 2
    if not 2 <= length <= MAX_PDU_BYTES + 1:
        return f"length {length} is not 2 to {MAX_PDU_BYTES + 1}", 4
    if ended and length + 6 > len(run):
        return f"the recording ends inside a frame of {length + 6} bytes", len(run)
    return f"{len(run)} bytes that belong to no frame", 0


# ---------------------------------------------------------------- RTU


def _table() -> tuple[int, ...]:
    return tuple(_crc16_byte(value) for value in range(256))


def _crc16_byte(value: int) -> int:
    """Return the CRC register after eight shifts of ``value``."""
    for _ in range(8):
        value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


_CRC = _table()


@functools.cache
def _zeros(length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what ``length`` zero bytes make of the low and the high byte of a CRC register.

    A CRC is linear: with this the CRC of any stretch follows from the running CRC at its ends, in one step.
    """
    bits = []
    for bit in range(16):
        crc = 1 << bit
        for _ in range(length):
            crc = crc >> 8 ^ _CRC[crc & 0xFF]
        bits.append(crc)

    def of_byte(shift: int) -> tuple[int, ...]:
        made = [0] * 256
        for value in range(1, 256):
            low = value & -value
            made[value] = made[value ^ low] ^ bits[shift + low.bit_length() - 1]
        return tuple(made)

    return of_byte(0), of_byte(8)


class RtuCapture:
    """RTU frames in a recording: ``feed`` bytes, then ``end``; each yields what has become certain."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._crc = array(
            "H", [0]
        )  # running CRC before each byte of the buffer, and behind the last
        self._at = 0  # bytes of the buffer that are dealt with
        self._base = 0  # offset of the buffer's first byte
        self._bad = bytearray()
        self._asked = _Asked()

    def feed(self, data: bytes) -> Iterator[Captured]:
        """Take the next bytes of the recording; yield what they complete."""
        for start in range(0, len(data), _STEP_BYTES):
            piece = data[start : start + _STEP_BYTES]
            crc = self._crc[-1]
            for byte in piece:
                crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
                self._crc.append(crc)
            self._buffer += piece
            yield from self._search(ended=False)
            del self._buffer[: self._at]
            del self._crc[: self._at]
            self._base += self._at
            self._at = 0

    def end(self) -> Iterator[Captured]:
        """Say what is left when the recording ends."""
        yield from self._search(ended=True)
        yield from self._end_bad(ended=True)

    def _search(self, *, ended: bool) -> Iterator[Captured]:
        buffer = self._buffer
        while self._at < len(buffer):
            length = self._frame(ended=ended)
            if length is None:
                return
            if not length:
                self._bad.append(buffer[self._at])
                self._at += 1
                if len(self._bad) == MAX_BAD_BYTES:
                    yield from self._end_bad(ended=False)
                continue
            yield from self._end_bad(ended=False)
            raw = bytes(buffer[self._at : self._at + length])
            offset = self._base + self._at
            self._at += length
            yield _read(raw, offset, None, raw[0], raw[1:-2], self._asked)

    def _frame(self, *, ended: bool) -> int | None:
        """Return the length of the frame that begins here, 0 for none; None when more bytes are needed."""
        at, buffer = self._at, self._buffer
        pdu = buffer[at + 1 : at + 12]
        if not pdu:
            return 0 if ended else None
        shapes = _shapes(pdu, ended=ended)
        if shapes is None:
            # An answer may be shorter than what tells a request.
            shapes = _shapes(pdu, ended=True) or ()
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

    def _end_bad(self, *, ended: bool) -> Iterator[Captured]:
        if not self._bad:
            return
        run = bytes(self._bad)
        self._bad.clear()
        offset = self._base + self._at - len(run)
        pieces = [len(run)] if len(run) >= 4 and crc16(run) == 0 else _tiles(run)
        for size in pieces:
            piece, run = run[:size], run[size:]
            error, fault = _why_rtu(piece, ended=ended and not run)
            yield Captured(
                good=False,
                offset=offset,
                bytes=piece.hex(" "),
                error=error,
                fault_at=offset + fault,
            )
            offset += size


# ---------------------------------------------------------------- TCP


class TcpCapture:
    """Modbus TCP frames in a recording: ``feed`` bytes, then ``end``; each yields what has become certain."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._base = 0
        self._bad = bytearray()
        self._asked = _Asked()

    def feed(self, data: bytes) -> Iterator[Captured]:
        """Take the next bytes of the recording; yield what they complete."""
        for start in range(0, len(data), _STEP_BYTES):
            self._buffer += data[start : start + _STEP_BYTES]
            yield from self._search(ended=False)
            del self._buffer[: self._at]
            self._base += self._at
            self._at = 0

    def end(self) -> Iterator[Captured]:
        """Say what is left when the recording ends."""
        yield from self._search(ended=True)
        yield from self._end_bad(ended=True)

    def _search(self, *, ended: bool) -> Iterator[Captured]:
        buffer = self._buffer
        while self._at < len(buffer):
            length = self._frame(ended=ended)
            if length is None:
                return
            if not length:
                self._bad.append(buffer[self._at])
                self._at += 1
                if len(self._bad) == MAX_BAD_BYTES:
                    yield from self._end_bad(ended=False)
                continue
            yield from self._end_bad(ended=False)
            raw = bytes(buffer[self._at : self._at + length])
            offset = self._base + self._at
            self._at += length
            yield self._opened(raw, offset)

    def _frame(self, *, ended: bool) -> int | None:
        """Return the length of the frame that begins here, 0 for none; None when more bytes are needed.

        After bad bytes a header alone is not believed: the PDU must have the shape of its function too.
        """
        head = self._buffer[self._at : self._at + _MBAP_BYTES + 12]
        for i, most in ((2, 0), (3, 0), (4, 0), (5, MAX_PDU_BYTES + 1)):
            if len(head) > i and head[i] > most:
                return 0
        if len(head) < _MBAP_BYTES + 1:
            return 0 if ended else None
        length = head[5]
        if length < 2:
            return 0
        if len(self._buffer) - self._at < length + 6:
            return 0 if ended else None
        if self._bad and not self._shaped(head[_MBAP_BYTES : length + 6], length - 1):
            return 0
        return length + 6

    @staticmethod
    def _shaped(pdu: bytes | bytearray, length: int) -> bool:
        return length in (_shapes(pdu, ended=True) or ()) or length in (_lengths(pdu) or ())

    def _opened(self, raw: bytes, offset: int) -> Captured:
        transaction, unit = int.from_bytes(raw[:2], "big"), raw[6]
        pdu = raw[_MBAP_BYTES:]
        if self._shaped(pdu, len(pdu)):
            return _read(raw, offset, transaction, unit, pdu, self._asked)
        function = pdu[0] & 0x7F
        if function not in _SHAPES:
            error, fault = f"function {pdu[0]:02X} is not known", _MBAP_BYTES
        elif pdu[0] & 0x80:
            error, fault = f"a refusal of {len(pdu)} bytes: {pdu.hex(' ')}", _MBAP_BYTES + 1
        elif pdu[0] in _REGISTER_READS and len(pdu) > 1:
            error = f"byte count says {pdu[1]}, {len(pdu) - 2} bytes follow"
            fault = _MBAP_BYTES + 1
        else:
            error, fault = f"function {pdu[0]:02X} with {len(pdu) - 1} bytes", _MBAP_BYTES
        return Captured(
            good=False,
            offset=offset,
            bytes=raw.hex(" "),
            error=error,
            fault_at=offset + fault,
            transaction=transaction,
            unit=unit,
            function=function,
        )

    def _end_bad(self, *, ended: bool) -> Iterator[Captured]:
        if not self._bad:
            return
        run = bytes(self._bad)
        self._bad.clear()
        offset = self._base + self._at - len(run)
        error, fault = _why_tcp(run, ended=ended)
        yield Captured(
            good=False, offset=offset, bytes=run.hex(" "), error=error, fault_at=offset + fault
        )
