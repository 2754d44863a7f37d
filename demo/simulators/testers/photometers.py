"""LZ-4000T, TL-310 and TY-16: photometers that measure enzyme inhibition, asked over a serial line."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from demo.simulators.misbehaviour import Misbehaviour
from demo.simulators.testers.results import RESET, Frame, Result, Told, stamp

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

START, END = 0x7E, 0xAA
_OVERHEAD = 6
_MAX_DATA = 64
_NAME_BYTES = 6
NOT_AVAILABLE = 0x7FFE
_GROUP = 8
MODEL_BYTE = 0x10


def crc8(data: bytes) -> int:
    """Return CRC-8, polynomial 0x31, from 0, most significant bit first.

    >>> hex(crc8(bytes.fromhex("0002000000"))), hex(crc8(bytes.fromhex("10 0300 1A0B02")))
    ('0x7', '0xc3')
    """
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def frame(command: int, data: bytes) -> bytes:
    """Return ``7E CMD LEN DATA CRC8 AA``.

    >>> frame(0x12, bytes([26, 11, 2])).hex(" ")
    '7e 12 03 00 1a 0b 02 6d aa'
    """
    body = bytes([command]) + len(data).to_bytes(2, "little") + data
    return bytes([START]) + body + bytes([crc8(body), END])


class _Framed:
    """What the LZ and TL families share: requests in ``7E … AA`` frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return the sound requests, whole; bytes outside a frame are dropped."""
        self._buffer += data
        found: list[bytes] = []
        while (start := self._buffer.find(START)) >= 0:
            self._buffer = self._buffer[start:]
            if len(self._buffer) < 4:
                return found
            size = int.from_bytes(self._buffer[2:4], "little") + _OVERHEAD
            if size > _MAX_DATA + _OVERHEAD:
                self._buffer = self._buffer[1:]
                continue
            if len(self._buffer) < size:
                return found
            request = self._buffer[:size]
            if request[-1] == END and crc8(request[1:-2]) == request[-2]:
                found.append(request)
                self._buffer = self._buffer[size:]
            else:
                self._buffer = self._buffer[1:]
        self._buffer = b""
        return found


def _said(command: int, data: bytes, *told: Told) -> Frame:
    whole = frame(command, data)
    return Frame(whole, told, check_at=len(whole) - 2, starts=True)


def _clock(moment: dt.datetime) -> bytes:
    return bytes([moment.year % 100, moment.month, moment.day, *moment.timetuple()[3:6]])


class LZ4000T(_Framed):
    """Answers by day: count, then every record of the day, again on each request."""

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return the answer to hello, count or read."""
        data = request[4:-2]
        match request[1]:
            case 0x00:
                return [_said(0x01, bytes([1, 0, 0]))]  # assumed: what the three bytes say
            case 0x12 | 0x10 if len(data) == 3:
                of_day = [r for r in results if _clock(r.tested_at)[:3] == data]
                if request[1] == 0x12:
                    return [_said(0x13, data + len(of_day).to_bytes(2, "little"))]
                return [self._record(r, len(of_day), kind) for r in of_day]
            case _:
                return []

    @staticmethod
    def _record(result: Result, count: int, kind: Misbehaviour | None) -> Frame:
        name = result.product.encode("gbk")
        if kind is Misbehaviour.GBK_CUT:
            name = b"A" + name * 3  # an odd byte before: six bytes end inside a character
        name = name[:_NAME_BYTES]
        moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
        value = result.value or 0
        data = struct.pack("<HHH", count, 0, result.number)
        data += name.ljust(_NAME_BYTES, b"\0") + _clock(moment)
        data += struct.pack("<H", int(value * 100) % 0x10000)
        told = Told(
            sample_no=str(result.number),
            product_name=name.decode("gbk", errors="ignore"),
            value=str(value),
            unit="%",
            tested_at=stamp(moment),
        )
        return _said(0x11, data, told)


class TL310(_Framed):
    """Answers with the last batch or with all; no sample name, a channel only."""

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return the answer to hello or read."""
        data = request[4:-2]
        match request[1], data:
            case 0x01, _:
                return [_said(0x02, bytes([0xFF, 0x02, 0x10, 0x10]))]
            case 0x15, b"\xff\xff\xff\xff":
                wanted = list(results)
            case 0x15, b"\xff\x00\x00\x00":
                wanted = list(results[-_GROUP:])
            case _:
                return []
        return [self._record(r, i + 1, len(wanted), kind) for i, r in enumerate(wanted)]

    @staticmethod
    def _record(result: Result, index: int, total: int, kind: Misbehaviour | None) -> Frame:
        moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
        value = result.value or 0
        none = kind is Misbehaviour.SENTINEL
        data = struct.pack("<BHHBB", 0xFF, total, index, result.channel, 0) + _clock(moment)
        data += bytes(2)  # bytes 17 and 18: no source says
        data += struct.pack("<H", int(result.absorbance * 1000))  # assumed: thousandths
        data += struct.pack("<h", NOT_AVAILABLE if none else int(value * 10))
        data += bytes([1 if value >= 50 else 2, 0])
        told = Told(
            channel=str(result.channel),
            value="" if none else str(value),
            unit="%",
            verdict="超标" if value >= 50 else "合格",
            tested_at=stamp(moment),
        )
        return _said(0x16, data, told)  # assumed: the command of a record


class TY16:
    """Eight channels to a group; no check at all. ``1B BF`` hello, ``1B B1`` first group, ``24`` each further one."""

    def __init__(self) -> None:
        self._buffer = b""
        self._next = 0

    def hear(self, data: bytes) -> list[bytes]:
        """Return the commands."""
        self._buffer += data
        found: list[bytes] = []
        while self._buffer:
            if self._buffer[0] == 0x24:
                size = 1
            elif self._buffer[0] == 0x1B:
                if len(self._buffer) < 2:
                    return found
                size = 2
            else:
                self._buffer = self._buffer[1:]
                continue
            found.append(self._buffer[:size])
            self._buffer = self._buffer[size:]
        return found

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return the greeting, a group, or ``1B FE`` when there is none left."""
        groups = [results[i : i + _GROUP] for i in range(0, len(results), _GROUP)]
        match request:
            case b"\x1b\xbf":
                return [Frame(b"\x1b\xcf")]
            case b"\x1b\xb1":
                self._next = 0
            case b"\x24":
                self._next += 1
            case _:
                return []
        if self._next >= len(groups):
            return [Frame(b"\x1b\xfe")]
        head = b"\x1b\xc1" if self._next == 0 else b""
        return [_group(groups[self._next], head, self._next + 1, kind)]


def _group(group: Sequence[Result], head: bytes, sequence: int, kind: Misbehaviour | None) -> Frame:
    """Return one group: the time, the sample type, the year, the map of channels, the sequence, eight channels."""
    moment = RESET if kind is Misbehaviour.CLOCK_RESET else group[0].tested_at
    year, month, day, hour, minute, second = moment.timetuple()[:6]
    channels = sum(0x80 >> i for i in range(len(group)))
    data = bytes([second, minute, hour, day, month, 1, year % 100, channels, sequence & 0xFF])
    told: list[Told] = []
    for i in range(_GROUP):
        if i >= len(group):
            data += bytes(8)
            continue
        value = group[i].value or 0
        data += struct.pack(">ff", float(group[i].absorbance), float(value))
        told.append(Told(channel=str(i + 1), value=str(value), unit="%", tested_at=stamp(moment)))
    return Frame(head + data, tuple(told))
