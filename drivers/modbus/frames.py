"""Modbus frames: MBAP and RTU envelopes, read requests and replies as bytes (pure)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from drivers.errors import DeviceError, FrameError

MAX_PDU_BYTES = 253  # Modbus application protocol V1.1b3 §4.1
_MBAP = struct.Struct(">HHHB")

EXCEPTIONS = {
    1: "illegal_function",
    2: "illegal_address",
    3: "illegal_value",
    4: "device_failure",
    5: "acknowledge",
    6: "device_busy",
    8: "memory_parity",
    10: "gateway_path_unavailable",
    11: "gateway_no_answer",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: unit id and PDU; ``transaction`` is None on a serial line."""

    unit: int
    pdu: bytes
    transaction: int | None = None


def _crc_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """Return CRC-16/MODBUS (MODBUS over serial line V1.02 §6.2.2).

    >>> hex(crc16(b"123456789"))
    '0x4b37'
    """
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def rtu_frame(adu: bytes) -> Frame:
    """Check and open a serial frame; raise FrameError."""
    if not 4 <= len(adu) <= MAX_PDU_BYTES + 3:
        raise FrameError(f"{len(adu)} bytes are no RTU frame", raw=adu)
    body, sent = adu[:-2], int.from_bytes(adu[-2:], "little")
    if (right := crc16(body)) != sent:
        raise FrameError(
            f"CRC is {sent:04X}, the bytes give {right:04X}", raw=adu, offset=len(body)
        )
    return Frame(body[0], body[1:])


def mbap_frame(adu: bytes) -> Frame:
    """Check and open a TCP frame; raise FrameError."""
    if len(adu) < _MBAP.size + 1:
        raise FrameError(f"{len(adu)} bytes are no MBAP frame", raw=adu)
    transaction, protocol, length, unit = _MBAP.unpack_from(adu)
    if protocol != 0:
        raise FrameError(f"protocol id {protocol} is not 0", raw=adu, offset=2)
    if length != len(adu) - 6 or length > MAX_PDU_BYTES + 1:
        raise FrameError(f"length says {length}, {len(adu) - 6} bytes follow", raw=adu, offset=4)
    return Frame(unit, adu[_MBAP.size :], transaction)


def mbap(frame: Frame) -> bytes:
    """Return the frame as it goes over TCP."""
    return _MBAP.pack(frame.transaction or 0, 0, len(frame.pdu) + 1, frame.unit) + frame.pdu


def read_request(pdu: bytes) -> tuple[int, int, int]:
    """Return (function, address, count) of a register read; raise FrameError."""
    if len(pdu) != 5 or pdu[0] not in (3, 4):
        raise FrameError("not a request to read registers", raw=pdu)
    function, address, count = struct.unpack(">BHH", pdu)
    return function, address, count


def read_reply(pdu: bytes, function: int, count: int) -> tuple[int, ...]:
    """Return the ``count`` registers of a reply to ``function``.

    Raises DeviceError with the exception code when the device refused, FrameError when the reply does not fit.
    """
    if len(pdu) == 2 and pdu[0] == function | 0x80:
        name = EXCEPTIONS.get(pdu[1], f"exception_{pdu[1]}")
        raise DeviceError(f"the device refused: {name} (exception {pdu[1]})", code=pdu[1])
    if not pdu or pdu[0] != function:
        raise FrameError(f"the reply is not to function {function}", raw=pdu)
    held = len(pdu) - 2
    if held < 0 or pdu[1] != held:
        said = pdu[1] if held >= 0 else "no"
        raise FrameError(f"byte count says {said}, {max(held, 0)} bytes follow", raw=pdu, offset=1)
    if held != 2 * count:
        raise FrameError(f"{held} data bytes answer a read of {count} registers", raw=pdu, offset=1)
    return struct.unpack(f">{count}H", pdu[2:])
