"""Numbers and times as instruments pack them into bytes (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import datetime as dt

INTEGERS: dict[str, tuple[int, Literal["little", "big"], bool]] = {
    "u8": (1, "little", False),
    "i8": (1, "little", True),
    "u16le": (2, "little", False),
    "u16be": (2, "big", False),
    "i16le": (2, "little", True),
    "i16be": (2, "big", True),
    "u32le": (4, "little", False),
    "u32be": (4, "big", False),
    "i32le": (4, "little", True),
    "i32be": (4, "big", True),
}
FLOATS = {"f32le": "<f", "f32be": ">f"}


def packed_time(when: dt.datetime) -> bytes:
    """Return a time in 32 bits, little-endian: like a DOS stamp, but with the two-digit year (DY-3000).

    >>> from datetime import datetime
    >>> packed_time(datetime(2026, 11, 2)).hex(" ")
    '00 00 62 35'
    """
    word = (
        (when.year % 100) << 25
        | when.month << 21
        | when.day << 16
        | when.hour << 11
        | when.minute << 5
        | when.second >> 1
    )
    return word.to_bytes(4, "little")


def unpacked_time(data: bytes) -> tuple[int, int, int, int, int, int]:
    """Return (two-digit year, month, day, hour, minute, second) of ``packed_time``'s 32 bits.

    >>> unpacked_time(bytes.fromhex("FF FF 62 35"))
    (26, 11, 2, 31, 63, 62)
    """
    word = int.from_bytes(data[:4], "little")
    return (
        word >> 25,
        word >> 21 & 15,
        word >> 16 & 31,
        word >> 11 & 31,
        word >> 5 & 63,
        (word & 31) * 2,
    )
