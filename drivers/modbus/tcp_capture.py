"""Modbus TCP frames in a recording, found by their header; the rest is reported with its bytes (pure)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from drivers.modbus.capture_search import CaptureSearch
from drivers.modbus.captured import REGISTER_READS, Captured, read_frame
from drivers.modbus.frames import MAX_PDU_BYTES
from drivers.modbus.pdu_shapes import SHAPES, lengths_of, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_MBAP_BYTES = 7


def _why(run: bytes, *, ended: bool) -> tuple[str, int]:
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


class TcpCapture(CaptureSearch):
    """Modbus TCP frames in a recording."""

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
        return length in (shapes_of(pdu, ended=True) or ()) or length in (lengths_of(pdu) or ())

    def _opened(self, raw: bytes, offset: int) -> Captured:
        transaction, unit = int.from_bytes(raw[:2], "big"), raw[6]
        pdu = raw[_MBAP_BYTES:]
        if self._shaped(pdu, len(pdu)):
            return read_frame(raw, offset, transaction, unit, pdu, self._asked)
        function = pdu[0] & 0x7F
        if function not in SHAPES:
            error, fault = f"function {pdu[0]:02X} is not known", _MBAP_BYTES
        elif pdu[0] & 0x80:
            error, fault = f"a refusal of {len(pdu)} bytes: {pdu.hex(' ')}", _MBAP_BYTES + 1
        elif pdu[0] in REGISTER_READS and len(pdu) > 1:
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

    def _refused(self, run: bytes, *, ended: bool) -> Iterator[tuple[int, str, int]]:
        yield len(run), *_why(run, ended=ended)
