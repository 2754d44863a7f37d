"""Check values of frames (pure)."""

from __future__ import annotations

from functools import reduce
from operator import xor as _xor


def crc8(data: bytes, poly: int = 0x31, init: int = 0) -> int:
    """Return the CRC-8 of ``data``, most significant bit first, no final XOR (LZ-4000: polynomial 0x31).

    >>> hex(crc8(bytes.fromhex("12 03 00 1A 0B 02")))
    '0x6d'
    """
    crc = init
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ poly) & 0xFF if crc & 0x80 else crc << 1
    return crc


def xor(data: bytes) -> int:
    """Return the XOR of all bytes."""
    return reduce(_xor, data, 0)


def byte_sum(data: bytes) -> int:
    """Return the sum of all bytes, modulo 256."""
    return sum(data) & 0xFF


def crc16(data: bytes) -> int:
    """Return the CRC-16 of Modbus (0xA001, initial 0xFFFF)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc
