"""Which bytes of a reply a value was made from, for people who compare (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.errors import DeviceError, FrameError
from drivers.modbus.config import ModbusDevice
from drivers.modbus.frames import mbap_frame, read_reply, read_request, rtu_frame
from drivers.modbus.lines import SerialLine, TcpLine
from drivers.modbus.serial_frames import ascii_frame

if TYPE_CHECKING:
    from drivers.modbus.frames import Frame
    from drivers.modbus.lines import Line
    from drivers.session import DeviceConfig, RawReading


def value_bytes(device: DeviceConfig, raw: RawReading) -> bytes:
    """Return the point's own registers in the reply, as on the wire; b"" for a refusal or a reply that does not fit."""
    if not isinstance(device, ModbusDevice):
        raise TypeError(f"{device.path} is not a Modbus device")
    point = next((p for p in device.points if p.indicator == raw.reading.indicator), None)
    if point is None:
        return b""
    try:
        function, address, count = read_request(_opened(device.line, raw.request).pdu)
        words = read_reply(_opened(device.line, raw.reply).pdu, function, count)
    except (FrameError, DeviceError):
        return b""
    at = point.address - address
    own = words[at : at + point.type.words] if at >= 0 else ()
    return b"".join(word.to_bytes(2, "big") for word in own)


def _opened(line: Line, adu: bytes) -> Frame:
    match line:
        case TcpLine(framing="tcp"):
            return mbap_frame(adu)
        case SerialLine(framing="ascii"):
            return ascii_frame(adu)
        case _:
            return rtu_frame(adu)
