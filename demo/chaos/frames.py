"""MQTT packets cut out of a byte stream, and what a bad network may do to a PUBLISH (pure; MQTT 3.1.1 and 5)."""

from __future__ import annotations

PUBLISH, PUBACK, CONNACK = 3, 4, 2
MAX_PACKET = 4 * 1024 * 1024  # beyond what any broker of ours lets pass
_RETAIN, _QOS, _DUP = 0x01, 0x06, 0x08


class NotMqttError(ValueError):
    """The bytes are no MQTT."""


class Splitter:
    """Cuts a stream into whole packets, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that ``data`` completes; raise NotMqttError."""
        self._buffer += data
        packets = []
        while (size := _size(self._buffer)) is not None and size <= len(self._buffer):
            packets.append(bytes(self._buffer[:size]))
            del self._buffer[:size]
        return packets


def kind(packet: bytes) -> int:
    """Return the packet type, such as ``PUBLISH``."""
    return packet[0] >> 4


def packet_id(publish: bytes) -> int | None:
    """Return the packet identifier of a PUBLISH, None at QoS 0."""
    at = _id_at(publish)
    return None if at is None else int.from_bytes(publish[at : at + 2], "big")


def puback(identifier: int) -> bytes:
    """Return the acknowledgement of QoS 1, as both versions write it.

    >>> puback(258).hex()
    '40020102'
    """
    return bytes([PUBACK << 4, 2]) + identifier.to_bytes(2, "big")


def as_qos0(publish: bytes) -> bytes:
    """Return a PUBLISH as one that nobody acknowledges: a copy may go out on any connection.

    >>> as_qos0(bytes.fromhex("32080003612f62000741")).hex()
    '30060003612f6241'
    """
    at = _id_at(publish)
    head = bytes([publish[0] & ~(_QOS | _DUP) & 0xFF])
    start = _header_size(publish)
    rest = publish[start:] if at is None else publish[start:at] + publish[at + 2 :]
    return head + _length(len(rest)) + rest


def _id_at(publish: bytes) -> int | None:
    if not publish[0] & _QOS:
        return None
    start = _header_size(publish)
    return start + 2 + int.from_bytes(publish[start : start + 2], "big")


def _header_size(packet: bytes | bytearray) -> int:
    end = 1
    while packet[end] & 0x80:
        end += 1
    return end + 1


def _size(buffer: bytearray) -> int | None:
    """Return the bytes of the first packet, None while its header is not whole."""
    length = shift = 0
    for at in range(1, min(len(buffer), 5)):
        length |= (buffer[at] & 0x7F) << shift
        shift += 7
        if not buffer[at] & 0x80:
            if length > MAX_PACKET:
                raise NotMqttError(f"a packet of {length} bytes")
            return at + 1 + length
    if len(buffer) >= 5:
        raise NotMqttError("a length of more than four bytes")
    return None


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)
