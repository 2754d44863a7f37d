"""How long a PDU may be that begins so, whether it is a request or an answer (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.modbus.frames import EXCEPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REGISTERS = 125  # Modbus application protocol V1.1b3 §6.3
_MAX_BITS = 2000


def lengths_of(pdu: bytes | bytearray) -> tuple[int, ...] | None:
    """Return the lengths that a PDU beginning so may have, shortest first; None when more bytes are needed.

    ``()``: no known function begins so.
    """
    if not pdu:
        return None
    function = pdu[0]
    if function & 0x80:
        known = function & 0x7F in SHAPES
        if not known or len(pdu) < 2:
            return None if known else ()
        return (2,) if pdu[1] in EXCEPTIONS else ()
    shape = SHAPES.get(function)
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
SHAPES: dict[int, tuple[int, Callable[[bytes | bytearray], tuple[int, ...]]]] = {
    1: (5, _read_shape(_MAX_BITS, even=False)),
    2: (5, _read_shape(_MAX_BITS, even=False)),
    3: (5, _read_shape(_MAX_REGISTERS, even=True)),
    4: (5, _read_shape(_MAX_REGISTERS, even=True)),
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
SHORT = {1: 3, 2: 3, 3: 2, 4: 2, 15: 5, 16: 5, 6: 4, 17: 1, 23: 2}


def shapes_of(pdu: bytes | bytearray, *, ended: bool) -> tuple[int, ...] | None:
    """As ``lengths_of``; at the end of the recording what is there must do."""
    lengths = lengths_of(pdu)
    if lengths is None and ended and pdu and pdu[0] in SHORT:
        held = pdu[1] if len(pdu) > 1 else None
        function = pdu[0]
        if function in (15, 16):
            return (5,)
        if function == 17:
            return (1,) if held is None else (1, 2 + held)
        return () if held is None else (2 + held,)
    return () if lengths is None and ended else lengths
