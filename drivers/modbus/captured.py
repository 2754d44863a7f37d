"""What a frame of a recording says: request, answer, refusal, and which request it answers (pure)."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

import msgspec

from drivers.modbus.frames import EXCEPTIONS, MAX_PDU_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ADU_BYTES = MAX_PDU_BYTES + 3
MAX_BAD_BYTES = 256
"""A longer stretch of bytes that are no frame is reported in pieces."""
STEP_BYTES = 16 * 1024
"""A recording is searched in pieces of this size."""
BIT_READS = (1, 2)
REGISTER_READS = (3, 4)
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


class Asked:
    """The requests seen, so that a reply is known by what it answers."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int | None, int, int], tuple[int, int, int]] = OrderedDict()

    def add(self, key: tuple[int | None, int, int], offset: int, address: int, count: int) -> None:
        """Remember the request (transaction, unit, function) at ``offset``; the oldest goes when there are too many."""
        self._open[key] = (offset, address, count)
        self._open.move_to_end(key)
        if len(self._open) > _ASKED_AT_MOST:
            self._open.popitem(last=False)

    def take(self, key: tuple[int | None, int, int]) -> tuple[int, int, int] | None:
        """Return (offset, address, count) of the request that is answered now, and forget it."""
        return self._open.pop(key, None)

    def holds(self, key: tuple[int | None, int, int]) -> bool:
        """Whether the request still waits."""
        return key in self._open


def read_frame(
    raw: bytes, offset: int, transaction: int | None, unit: int, pdu: bytes, asked: Asked
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
    reads = function in REGISTER_READS or function in BIT_READS
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
        fits = held == 2 * count if function in REGISTER_READS else held == -(-count // 8)
        if fits:  # else it answers something that was not recorded
            more = {"request_at": at, "address": address}
    if function in BIT_READS:
        return captured("reply", data=pdu[2:].hex(" "), **more)
    return captured("reply", registers=struct.unpack_from(f">{held // 2}H", pdu, 2), **more)
