"""Modbus as servers speak it on TCP, RTU and ASCII lines: requests out of bytes, answers into bytes (pure).

Written from the specifications alone: Modbus Messaging on TCP/IP V1.0b §3.1.3, Modbus over Serial Line V1.02 §2.5. It
shares nothing with the drivers, so a test compares two readings of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_MBAP = struct.Struct(">HHHB")
_MAX_LENGTH = 254  # Modbus TCP: PDU 253 bytes and the unit id
_MAX_ADU = 256  # RTU
_MAX_ASCII = 513


class BrokenStreamError(Exception):
    """A Modbus TCP stream without a header: servers end the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: ``raw`` is how it came."""

    unit: int
    pdu: bytes
    transaction: int
    raw: bytes


class Framing(Protocol):
    """What stands around a PDU on one kind of line; one object for each line."""

    shared: bool
    """Whether silence is how a line with several instruments says that nobody is there."""

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are whole; raise BrokenStreamError when none can follow."""
        ...

    def reset(self) -> None:
        """Forget a request that did not end: the line fell silent."""
        ...

    def frame(self, unit: int, pdu: bytes, transaction: int) -> bytes:
        """Return the bytes of an answer."""
        ...

    def spoil(self, frame: bytes, bit: int) -> bytes:
        """Return ``frame`` with one bit of its check turned."""
        ...


class Mbap:
    """Modbus TCP."""

    shared = False

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are whole; raise BrokenStreamError for what is no header."""
        self._buffer += data
        while len(self._buffer) >= _MBAP.size:
            transaction, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
                raise BrokenStreamError(self._buffer[: _MBAP.size].hex())
            if len(self._buffer) < 6 + length:
                return
            raw, self._buffer = self._buffer[: 6 + length], self._buffer[6 + length :]
            yield Request(unit, raw[7:], transaction, raw)

    def reset(self) -> None:
        """Do nothing: TCP has no silence."""

    def frame(self, unit: int, pdu: bytes, transaction: int) -> bytes:
        """Return header and PDU."""
        return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu

    def spoil(self, frame: bytes, bit: int) -> bytes:
        """Raise: Modbus TCP has no check."""
        raise ValueError(f"no check in {frame.hex()} to turn bit {bit} of")


class Rtu:
    """Modbus RTU, on a serial line or inside TCP."""

    shared = True

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are whole and sound; a slave hears nothing else until the line is silent."""
        self._buffer = (self._buffer + data)[:_MAX_ADU]
        while (size := _request_size(self._buffer)) and len(self._buffer) >= size:
            raw = self._buffer[:size]
            if crc16(raw[:-2]) != raw[-2:]:
                return
            self._buffer = self._buffer[size:]
            yield Request(raw[0], raw[1:-2], 0, raw)

    def reset(self) -> None:
        """Forget what did not become a request."""
        self._buffer = b""

    def frame(self, unit: int, pdu: bytes, transaction: int) -> bytes:  # noqa: ARG002 - the protocol's
        """Return unit, PDU and CRC."""
        body = bytes([unit]) + pdu
        return body + crc16(body)

    def spoil(self, frame: bytes, bit: int) -> bytes:
        """Return ``frame`` with bit ``bit`` (0 … 15) of its CRC turned."""
        place = len(frame) - 2 + bit // 8 % 2
        return frame[:place] + bytes([frame[place] ^ 1 << bit % 8]) + frame[place + 1 :]


class Ascii:
    """Modbus ASCII."""

    shared = True

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are whole and sound; a colon begins a new one."""
        self._buffer = (self._buffer + data)[-_MAX_ASCII:]
        while (end := self._buffer.find(b"\r\n")) >= 0:
            line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            start = line.rfind(b":")
            try:
                body = bytes.fromhex(line[start + 1 :].decode("ascii"))
            except ValueError:
                continue
            if start >= 0 and len(body) >= 3 and lrc(body[:-1]) == body[-1]:
                yield Request(body[0], body[1:-1], 0, line[start:] + b"\r\n")

    def reset(self) -> None:
        """Forget what did not become a request."""
        self._buffer = b""

    def frame(self, unit: int, pdu: bytes, transaction: int) -> bytes:  # noqa: ARG002 - the protocol's
        """Return the line of hex digits."""
        body = bytes([unit]) + pdu
        return b":" + (body + bytes([lrc(body)])).hex().upper().encode() + b"\r\n"

    def spoil(self, frame: bytes, bit: int) -> bytes:
        """Return ``frame`` with one bit (0 … 7) of its LRC turned."""
        wrong = int(frame[-4:-2], 16) ^ 1 << bit % 8
        return frame[:-4] + f"{wrong:02X}".encode() + frame[-2:]


FRAMINGS: dict[str, type[Mbap | Rtu | Ascii]] = {"tcp": Mbap, "rtu": Rtu, "ascii": Ascii}


def _request_size(buffer: bytes) -> int:
    """Return how long the request at the start of ``buffer`` is, 0 while that cannot be said."""
    if len(buffer) < 2:
        return 0
    match buffer[1]:
        case 7 | 11 | 12 | 17:
            return 4
        case 15 | 16:
            return 9 + buffer[6] if len(buffer) > 6 else 0
        case 22:
            return 10
        case 23:
            return 13 + buffer[10] if len(buffer) > 10 else 0
        case _:
            return 8


def crc16(data: bytes) -> bytes:
    """Return the CRC as it stands on the line, low byte first.

    >>> crc16(bytes.fromhex("010300000003")).hex()
    '05cb'
    """
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return struct.pack("<H", crc)


def lrc(data: bytes) -> int:
    """Return the two's complement of the sum of ``data``.

    >>> hex(lrc(bytes.fromhex("f7031389000a")))
    '0x60'
    """
    return -sum(data) & 0xFF
