"""DY-3000, DY-3500, DY-6600: a photometer, a strip reader and dry chemistry in one, asked record by record."""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING

from demo.simulators.misbehaviour import Misbehaviour
from demo.simulators.testers.results import (
    QUANTITATIVE_ITEM,
    RESET,
    STRIP_ITEMS,
    Frame,
    Result,
    Told,
    stamp,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

_HEADER = 12
_MAX_DATA = 256
INHIBITION_ITEM, NITRITE_ITEM, FIRST_STRIP_ITEM = 1, 2, 11
_VALID, _SUSPICIOUS = 128, 192


def packed(moment: dt.datetime) -> int:
    """Return a time in 32 bits; the year is the two-digit one.

    >>> import datetime as dt
    >>> packed(dt.datetime(2026, 11, 2)).to_bytes(4, "little").hex()
    '00006235'
    """
    return (
        moment.year % 100 << 25
        | moment.month << 21
        | moment.day << 16
        | moment.hour << 11
        | moment.minute << 5
        | moment.second >> 1
    )


def message(start: bytes, command: int, parameter: bytes, data: bytes = b"") -> bytes:
    """Return a message with its two checks.

    >>> message(bytes([3, 255]), 0x20, bytes(4), b"DEVICE??").hex()
    '03ff2000000000000800d4184445564943453f3f'
    """
    head = start + bytes([command, 0]) + parameter + len(data).to_bytes(2, "little")
    return head + bytes([reduce(xor, head), reduce(xor, data, 0)]) + data


def item_of(result: Result) -> int:
    """Return the number under which the instrument files the item of ``result``."""
    match result.kind:
        case "inhibition":
            return INHIBITION_ITEM
        case "quantitative":
            return NITRITE_ITEM
        case "strip":
            return FIRST_STRIP_ITEM + STRIP_ITEMS.index(result.item)


class DY3000:
    """Commands 4x for the photometer, 6x for strips; 7x (dry chemistry) has no records here."""

    def __init__(self) -> None:
        self._buffer = b""

    def hear(self, data: bytes) -> list[bytes]:
        """Return the sound requests, whole."""
        self._buffer += data
        found: list[bytes] = []
        while (start := self._buffer.find(b"\x03\xff")) >= 0:
            self._buffer = self._buffer[start:]
            if len(self._buffer) < _HEADER:
                return found
            size = _HEADER + int.from_bytes(self._buffer[8:10], "little")
            if reduce(xor, self._buffer[:10]) != self._buffer[10] or size > _MAX_DATA:
                self._buffer = self._buffer[2:]
                continue
            if len(self._buffer) < size:
                return found
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            if reduce(xor, request[_HEADER:], 0) == request[11]:
                found.append(request)
        self._buffer = self._buffer[-1:]
        return found

    def answer(
        self, request: bytes, results: Sequence[Result], kind: Misbehaviour | None
    ) -> list[Frame]:
        """Return the answer to hello, item, range or record."""
        command, parameter, data = request[2], request[4:8], request[_HEADER:]
        number = int.from_bytes(parameter, "little")
        strip = command >> 4 == 6
        mine = [r for r in results if (r.kind == "strip") == strip and command >> 4 in (4, 6)]
        match command:
            case 0x20:
                return [_said(command, parameter, b"PRN 2301")]
            case 0x42 | 0x62 | 0x72:
                return [_said(command, parameter, _item(number))]
            case 0x43 | 0x63 | 0x73 if len(data) == 8:
                first, last = struct.unpack("<II", data)
                numbers = [r.number for r in mine if first <= packed(r.tested_at) <= last]
                span = (min(numbers), max(numbers)) if numbers else (0, 0)
                return [_said(command, parameter, data + struct.pack("<HH", *span))]
            case 0x45 | 0x65 | 0x75:
                found = next((r for r in mine if r.number == number), None)
                if found is None:
                    return [_said(command, parameter, bytes(16))]  # byte 12: not valid
                if strip:
                    return [_strip(command, parameter, found, kind)]
                return [_photometer(command, parameter, found, kind)]
            case _:
                return []


def _said(command: int, parameter: bytes, data: bytes, *told: Told) -> Frame:
    return Frame(message(b"\x03\xfe", command, parameter, data), told, check_at=11)


def _item(number: int) -> bytes:
    name, unit, method = {
        INHIBITION_ITEM: ("农药残留", "%", 1),
        NITRITE_ITEM: (QUANTITATIVE_ITEM, "mg/kg", 2),
    }.get(number, ("", "", 0))
    if FIRST_STRIP_ITEM <= number < FIRST_STRIP_ITEM + len(STRIP_ITEMS):
        name, unit, method = STRIP_ITEMS[number - FIRST_STRIP_ITEM], "", 3
    return name.encode("gb2312").ljust(16, b"\0") + unit.encode().ljust(8, b"\0") + bytes([method])


def _photometer(command: int, parameter: bytes, result: Result, kind: Misbehaviour | None) -> Frame:
    moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
    value = result.value or 0
    none = kind is Misbehaviour.SENTINEL
    suspicious = result.kind == "inhibition" and value >= 50
    data = bytes([1, item_of(result), 0, 0]) + packed(moment).to_bytes(4, "little")
    data += bytes([0, _VALID, 0, 0]) + struct.pack("<i", 0)  # channel 0 is the control
    data += bytes([result.channel, _SUSPICIOUS if suspicious else _VALID, 0, 0])
    if result.kind == "inhibition":
        data += bytes.fromhex("FF7F") if none else struct.pack("<h", int(value * 10))
        data += bytes(2)
    else:
        data += bytes.fromhex("FFFFFF7F") if none else struct.pack("<i", int(value * 1000))
    told = Told(
        channel=str(result.channel),
        item=str(item_of(result)),
        value="" if none else str(value),
        unit=result.unit,
        verdict="可疑" if suspicious else "",
        tested_at=stamp(_even(moment)),
    )
    return _said(command, parameter, data, told)


def _strip(command: int, parameter: bytes, result: Result, kind: Misbehaviour | None) -> Frame:
    moment = RESET if kind is Misbehaviour.CLOCK_RESET else result.tested_at
    none = kind is Misbehaviour.SENTINEL
    outcome = 3 if none else 1 if result.verdict == "阳性" else 2
    data = bytes([1, item_of(result)]) + packed(moment).to_bytes(4, "little")
    data += struct.pack("<H", result.number) + bytes([outcome, 0, 0, 0])
    told = Told(
        sample_no=str(result.number),
        item=str(item_of(result)),
        verdict="" if none else result.verdict,
        tested_at=stamp(_even(moment)),
    )
    return _said(command, parameter, data, told)


def _even(moment: dt.datetime) -> dt.datetime:
    return moment.replace(second=moment.second & ~1)
