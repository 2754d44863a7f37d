"""RTU and ASCII frames on a serial line: built, and found again among noise, echo and foreign answers (pure).

A receiver is told what answer it waits for, and looks for that answer at every byte: right unit, right function, right
length, right check. The end of a frame is its length, never a pause, so a line may cut and glue as it likes. What is
not the answer is passed over: echo, noise, a broken frame, another unit, a late answer of another shape. A late answer
of the *same* shape cannot be told apart by its bytes; ``serial_line.py`` keeps those out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.errors import FrameError
from drivers.modbus.frames import EXCEPTIONS, MAX_PDU_BYTES, Frame, crc16, rtu_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RTU_BYTES = MAX_PDU_BYTES + 3
MAX_ASCII_CHARS = 2 * (MAX_PDU_BYTES + 2) + 3
_KEPT_BYTES = 2 * MAX_RTU_BYTES  # of what was passed over, for the log
_BIT_READS = (1, 2)
_REGISTER_READS = (3, 4)
_ECHOING = (5, 6, 15, 16)  # answered with address and value, or address and count
_WRITE_SINGLE = 6
_EXCEPTION = 0x80
_COLON, _CR, _LF = b":\r\n"
_HEX = frozenset(b"0123456789ABCDEFabcdef")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the unit that gave it, its PDU, its bytes on the line."""

    unit: int
    pdu: bytes
    raw: bytes


def rtu(unit: int, pdu: bytes) -> bytes:
    """Return the frame as it goes over an RTU line.

    >>> rtu(1, bytes.fromhex("0300000009")).hex()
    '01030000000985cc'
    """
    body = bytes((unit,)) + pdu
    return body + crc16(body).to_bytes(2, "little")


def lrc(data: bytes) -> int:
    """Return the check byte of ASCII framing (MODBUS over serial line V1.02 §6.2.1)."""
    return -sum(data) & 0xFF


def ascii_adu(unit: int, pdu: bytes) -> bytes:
    r"""Return the frame as it goes over an ASCII line.

    >>> ascii_adu(1, bytes.fromhex("0300000009"))
    b':010300000009F3\r\n'
    """
    body = bytes((unit,)) + pdu
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


def ascii_frame(adu: bytes) -> Frame:
    """Check and open an ASCII frame, its line end included or not; raise FrameError."""
    text = adu.rstrip(b"\r\n")
    if not text.startswith(b":") or len(adu) > MAX_ASCII_CHARS:
        raise FrameError("an ASCII frame begins with a colon", raw=adu)
    if len(text) % 2 == 0 or not _HEX.issuperset(text[1:]):
        raise FrameError("not pairs of hexadecimal digits", raw=adu, offset=1)
    body = bytes.fromhex(text[1:].decode("ascii"))
    if len(body) < 3:
        raise FrameError(f"{len(body)} bytes are no ASCII frame", raw=adu)
    if (right := lrc(body[:-1])) != body[-1]:
        raise FrameError(f"LRC is {body[-1]:02X}, the bytes give {right:02X}", raw=adu)
    return Frame(body[0], body[1:-1])


def data_bytes(function: int, count: int) -> int:
    """Return how many data bytes answer a read of ``count`` bits or registers."""
    return -(-count // 8) if function in _BIT_READS else 2 * count


def reply_bytes(data: bytes, function: int, count: int) -> int | None:
    """Return the length of the RTU frame that ``data`` begins, when it can be the answer; None when it cannot.

    The answer to ``function`` for ``count`` registers or bits (of a write: anything). 0: too few bytes to say.
    """
    if len(data) < 2:
        return 0
    code = data[1]
    if code == function | _EXCEPTION:
        return 5
    if code != function:
        return None
    if function in _BIT_READS or function in _REGISTER_READS:
        if len(data) < 3:
            return 0
        held = data_bytes(function, count)
        return 5 + held if data[2] == held else None
    return 8 if function in _ECHOING else None


class RtuReceiver:
    """Finds the awaited answer in what an RTU line delivers; at most one per ``expect``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._unit: int | None = 0
        self._function = 0
        self._count = 0
        self._echo = b""
        self._waiting = False
        self.passed_over = b""
        """The last bytes since ``expect`` that were not the answer."""
        self.broken = False
        """Whether something with the head of the answer, and a wrong check, was among them."""

    def expect(self, unit: int | None, function: int, count: int, *, echo: bytes = b"") -> None:
        """Wait for the answer of ``unit`` (None: of any) to ``function`` for ``count``; forget what came before.

        ``echo`` is passed over once where it stands first, also where it would be an answer by its shape.
        """
        self._buffer.clear()
        self._unit, self._function, self._count = unit, function, count
        self._echo = echo
        self._waiting = True
        self.passed_over = b""
        self.broken = False

    def feed(self, data: bytes) -> Reply | None:
        """Take bytes from the line; return the answer when it is complete."""
        if not self._waiting:
            return None
        self._buffer += data
        return self._search(given_up=False)

    def end(self) -> Reply | None:
        """No more bytes will come in time: return an answer that stands behind the beginning of a longer one."""
        return self._search(given_up=True) if self._waiting else None

    def _search(self, *, given_up: bool) -> Reply | None:
        """Look at each start; one whose bytes have not all come holds up those behind it: a cut changes nothing."""
        buffer = self._buffer
        start = 0
        found: Reply | None = None
        while start < len(buffer):
            if self._echo and buffer.startswith(self._echo, start):
                start += len(self._echo)
                self._echo = b""
                continue
            found, is_open = self._at(start)
            if found is not None or (is_open and not given_up):
                break
            start += 1
        self.passed_over = (self.passed_over + bytes(buffer[:start]))[-_KEPT_BYTES:]
        del buffer[:start]
        if found is not None:
            buffer.clear()
            self._waiting = False
        return found

    def _at(self, start: int) -> tuple[Reply | None, bool]:
        """Return the answer that begins at ``start``, or whether more bytes may make one (or the echo)."""
        buffer = self._buffer
        is_open = bool(self._echo) and self._echo.startswith(
            buffer[start : start + len(self._echo)]
        )
        if self._unit is None or buffer[start] == self._unit:
            found, unfinished = self._read(bytes(buffer[start : start + MAX_RTU_BYTES]))
            if found is not None or unfinished:
                return found, unfinished
            self.broken = self.broken or self._has_head(start)
        if self._unit is not None and buffer[start] & ~_EXCEPTION == self._function:
            # An adapter that lets go late clips the unit id. The CRC covers it, so it proves what it was.
            clipped = bytes((self._unit,)) + bytes(buffer[start : start + MAX_RTU_BYTES - 1])
            found, unfinished = self._read(clipped)
            if found is not None:
                return Reply(found.unit, found.pdu, found.raw[1:]), False
            is_open = is_open or unfinished
        return None, is_open

    def _read(self, data: bytes) -> tuple[Reply | None, bool]:
        """Return the answer that ``data`` begins with, or whether more bytes may make one."""
        unfinished = False
        for length in self._lengths(data[:3]):
            if length == 0 or len(data) < length:
                unfinished = True
            elif crc16(data[: length - 2]) == int.from_bytes(data[length - 2 : length], "little"):
                return Reply(data[0], data[1 : length - 2], data[:length]), False
        return None, unfinished

    def _has_head(self, start: int) -> bool:
        """Whether the three bytes at ``start`` are the answer's; two of a refusal would be met in noise too often."""
        head = bytes(self._buffer[start : start + 3])
        refusal = bool(head[1:] and head[1] & _EXCEPTION)
        return bool(self._lengths(head)) and not (refusal and head[2] not in EXCEPTIONS)

    def _lengths(self, head: bytes) -> tuple[int, ...]:
        """Return the lengths that the answer beginning with ``head`` may have; 0 for not known yet."""
        length = reply_bytes(head, self._function, self._count)
        if length is None:
            return ()
        if self._function == _WRITE_SINGLE and head[1:3] in (b"\x06", b"\x06\x02"):
            return (7, length)  # some answer a write in the shape of a read (Ecowitt WN90LP)
        return (length,)


class AsciiReceiver:
    """Finds the awaited answer in what an ASCII line delivers; at most one per ``expect``."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._unit: int | None = 0
        self._function = 0
        self._count = 0
        self._echo = b""
        self._waiting = False
        self.passed_over = b""
        """The last bytes since ``expect`` that were not the answer."""
        self.broken = False
        """Whether something with the head of the answer, and a wrong check, was among them."""

    def expect(self, unit: int | None, function: int, count: int, *, echo: bytes = b"") -> None:
        """Wait for the answer of ``unit`` (None: of any) to ``function`` for ``count``; forget what came before."""
        self._line.clear()
        self._unit, self._function, self._count = unit, function, count
        self._echo = echo
        self._waiting = True
        self.passed_over = b""
        self.broken = False

    def feed(self, data: bytes) -> Reply | None:
        """Take bytes from the line; return the answer when it is complete."""
        for byte in data:
            if not self._waiting:
                return None
            if byte == _COLON:
                self._pass_over()
            self._line.append(byte)
            if byte == _LF:
                reply = self._opened(bytes(self._line))
                if reply is not None:
                    self._waiting = False
                    self._line.clear()
                    return reply
                self._pass_over()
            elif len(self._line) > MAX_ASCII_CHARS:
                self._pass_over()
        return None

    def end(self) -> Reply | None:
        """No more bytes will come in time; a line without its end is none."""
        return None

    def _pass_over(self) -> None:
        self.passed_over = (self.passed_over + bytes(self._line))[-_KEPT_BYTES:]
        self._line.clear()

    def _opened(self, line: bytes) -> Reply | None:
        if self._echo and line == self._echo:
            self._echo = b""
            return None
        try:
            frame = ascii_frame(line)
        except FrameError:
            self.broken = self.broken or self._has_head(line)
            return None
        if self._unit is not None and frame.unit != self._unit:
            return None
        head = bytes((frame.unit,)) + frame.pdu
        length = reply_bytes(head[:3], self._function, self._count)
        if self._function == _WRITE_SINGLE and head[1:3] == b"\x06\x02" and len(head) == 5:
            length = 7
        return Reply(frame.unit, frame.pdu, line) if length == len(head) + 2 else None

    def _has_head(self, line: bytes) -> bool:
        unit = b"" if self._unit is None else b"%02X" % self._unit
        return line[1:5].upper() == unit + b"%02X" % self._function


def find_frames(data: bytes) -> Iterator[tuple[int, Frame]]:
    """Yield (offset, frame) of the RTU frames in a recording of either direction, passing over what is none.

    A frame is what has the length that its function asks for, as request or as answer, and the right CRC.
    """
    start = 0
    while start + 4 <= len(data):
        for length in sorted(_any_lengths(data[start : start + 7])):
            try:
                frame = rtu_frame(data[start : start + length])
            except FrameError:
                continue
            if start + length <= len(data):
                yield start, frame
                start += length
                break
        else:
            start += 1


def _any_lengths(head: bytes) -> set[int]:
    function = head[1]
    if function & _EXCEPTION:
        return {5}
    if function in _BIT_READS or function in _REGISTER_READS:
        return {8, 5 + head[2]}
    if function == _WRITE_SINGLE:
        return {7, 8}
    if function in _ECHOING:
        return {8, 9 + head[6]} if len(head) > 6 and function > _WRITE_SINGLE else {8}
    return set()
