"""Binary frames by description: start, length, checks, fields (sans-IO).

A frame that fails is left byte by byte until one fits, so noise, a doubled start byte or a wrong length costs no more
than itself. What was left is refused with its bytes when the next frame fits, or the line falls silent.
"""

from __future__ import annotations

import struct
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers.tester.checks import byte_sum, crc8, crc16, xor
from drivers.tester.numbers import FLOATS, INTEGERS, unpacked_time
from drivers.tester.reader import MAX_RAW_BYTES, Found, RawRecord
from drivers.tester.text import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drivers.tester.items import ItemTable

MAX_FRAME_BYTES = 4096
_CENTURY = 2000
_FIELD_TYPES = Literal[
    "u8",
    "i8",
    "u16le",
    "u16be",
    "i16le",
    "i16be",
    "u32le",
    "u32be",
    "i32le",
    "i32be",
    "f32le",
    "f32be",
    "text",
    "clock",
    "packed_time",
    "item",
]
_Offset = Annotated[int, msgspec.Meta(ge=0, le=MAX_FRAME_BYTES)]


class LengthTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a frame says its length; the frame has ``overhead`` bytes more than that."""

    offset: _Offset
    type: Literal["u8", "u16le", "u16be"] = "u16le"
    overhead: Annotated[int, msgspec.Meta(ge=0, le=64)]


class CheckTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A check value at ``at`` over the bytes from ``start`` to before ``stop``; negative counts from the end."""

    kind: Literal["crc8", "xor", "sum", "crc16"]
    at: int
    start: int = 0
    stop: int
    poly: int = 0x31
    init: int = 0

    def holds(self, frame: bytes) -> bool:
        """Whether ``frame`` has the value."""
        at = self.at if self.at >= 0 else len(frame) + self.at
        part = frame[self.start : self.stop or len(frame)]
        if not 0 <= at < len(frame):
            return False
        match self.kind:
            case "crc8":
                return frame[at] == crc8(part, self.poly, self.init)
            case "xor":
                return frame[at] == xor(part)
            case "sum":
                return frame[at] == byte_sum(part)
            case _:
                return frame[at : at + 2] == crc16(part).to_bytes(2, "little")


class ConditionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A byte that must be in a range, after ``mask``."""

    offset: _Offset
    mask: int = 0xFF
    low: int = 0
    high: int = 0xFF

    def holds(self, data: bytes) -> bool:
        """Whether the byte is there and in range."""
        return self.offset < len(data) and self.low <= data[self.offset] & self.mask <= self.high


class FieldTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field; ``README.md`` describes each key."""

    name: str
    offset: _Offset
    type: _FIELD_TYPES = "u8"
    bytes: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    scale: str = "1"
    signed_from: int = 0
    mask: int = 0
    words: dict[str, str] = {}
    sentinels: dict[str, str] = {}
    layout: str = "yMdhms"
    when: list[ConditionTable] = []
    of: Literal["", "inhibition", "quantitative"] = ""


class GroupTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame with a record per channel: groups of ``size`` bytes from ``offset`` to the frame's end."""

    offset: _Offset
    size: Annotated[int, msgspec.Meta(ge=1, le=256)]
    channel_bits: _Offset | None = None
    when: list[ConditionTable] = []
    fields: list[FieldTable] = []


class FrameTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of frame; the first that fits is it."""

    name: str
    start: str = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FRAME_BYTES)] = 0
    length: LengthTable | None = None
    max_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAME_BYTES)] = 256
    end: str = ""
    checks: list[CheckTable] = []
    follows: list[str] = []
    dated: bool = False
    when: list[ConditionTable] = []
    record: bool = False
    shift: int = 0
    fields: list[FieldTable] = []
    group: GroupTable | None = None
    flags: list[str] = []


class BinaryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``binary_record``."""

    frames: list[FrameTable] = []

    def faults(self) -> list[str]:
        """Return what is wrong with the table, one line each."""
        if not self.frames:
            return ["needs frames"]
        wrong = []
        for frame in self.frames:
            where = f"frames: {frame.name}"
            if bool(frame.size) == (frame.length is not None):
                wrong.append(f"{where}: needs either size or length")
            if not frame.start and not frame.follows:
                wrong.append(f"{where}: needs a start, or the frame that it follows")
            for text in (frame.start, frame.end):
                try:
                    bytes.fromhex(text)
                except ValueError:
                    wrong.append(f"{where}: {text!r} is not hexadecimal")
            fields = [*frame.fields, *(frame.group.fields if frame.group else ())]
            wrong += [f"{where}: {fault}" for field in fields for fault in _field_faults(field)]
        return wrong


def _field_faults(field: FieldTable) -> list[str]:
    wrong = []
    try:
        Decimal(field.scale)
    except InvalidOperation:
        wrong.append(f"{field.name}: scale: {field.scale!r} is not a decimal")
    if field.type == "text" and not field.bytes:
        wrong.append(f"{field.name}: bytes: is missing")
    if set(field.layout) - set("yMdhms."):
        wrong.append(f"{field.name}: layout: {field.layout!r} has more than yMdhms and points")
    return wrong


class _Fit(Enum):
    NO = 0
    WAIT = 1


class BinaryReader:
    """Frames to records; every frame that fits is also a reply for a dialogue."""

    def __init__(
        self, options: BinaryTable, *, items: Mapping[int, ItemTable], charset: str = "gbk"
    ) -> None:
        self._frames = [(frame, bytes.fromhex(frame.start)) for frame in options.frames]
        self._quiet = {start[:1] for _, start in self._frames if start}  # a doubled start byte
        self._items = items
        self._charset = charset
        self._found = Found()
        self._buffer = bytearray()
        self._noise = bytearray()
        self._reason = ""
        self._last = ""

    @property
    def is_open(self) -> bool:
        """Whether a frame has begun, or something was left."""
        return bool(self._buffer or self._noise)

    def feed(self, data: bytes) -> None:
        """Take what the line sent."""
        self._buffer += data
        self._scan(whole=False)

    def silence(self) -> None:
        """The line fell silent: a frame that waits for more is none."""
        self._scan(whole=True)
        self._end_noise()
        self._last = ""

    def next(self) -> RawRecord | None:
        """Return the next record; raise FrameError for bytes that are no frame."""
        return self._found.next()

    def next_reply(self) -> bytes | None:
        """Return the next whole frame."""
        return self._found.next_reply()

    def _scan(self, *, whole: bool) -> None:
        at = 0
        while at < len(self._buffer):
            fit = self._fit(at)
            if fit is _Fit.WAIT and not whole:
                break
            if isinstance(fit, tuple):
                frame, size = fit
                self._end_noise()
                data = bytes(self._buffer[at : at + size])
                self._last = frame.name
                self._found.reply(data)
                if frame.record:
                    self._records(frame, data)
                at += size
                continue
            if fit is _Fit.WAIT:
                self._reason = self._reason or "a frame cut short"
            self._last = ""
            self._noise.append(self._buffer[at])
            if len(self._noise) >= MAX_RAW_BYTES:
                self._end_noise()
            at += 1
        del self._buffer[:at]

    def _end_noise(self) -> None:
        noise, reason = bytes(self._noise), self._reason
        self._noise.clear()
        self._reason = ""
        if noise and noise not in self._quiet:
            self._found.refuse(reason or "not a frame", noise)

    def _fit(self, at: int) -> tuple[FrameTable, int] | _Fit:
        """Return the first kind of frame that fits at ``at`` and its size, or whether more bytes may tell."""
        for frame, start in self._frames:
            fit = self._fits(frame, start, at)
            if fit is _Fit.WAIT:
                return fit
            if not isinstance(fit, _Fit):
                return frame, fit
        return _Fit.NO

    def _fits(self, frame: FrameTable, start: bytes, at: int) -> int | _Fit:
        buffer = self._buffer
        left = len(buffer) - at
        head = bytes(buffer[at : at + len(start)])
        if (frame.follows and self._last not in frame.follows) or not start.startswith(head):
            return _Fit.NO
        if len(head) < len(start):
            return _Fit.WAIT
        size = self._size(frame, at)
        if size is _Fit.WAIT or (isinstance(size, int) and size <= 0):
            return _Fit.WAIT if size is _Fit.WAIT else _Fit.NO
        if not isinstance(size, int) or size > frame.max_size:
            self._reason = self._reason or f"a length of {size}"
            return _Fit.NO
        if left < size:
            return _Fit.WAIT
        data = bytes(buffer[at : at + size])
        if not data.endswith(bytes.fromhex(frame.end)):
            self._reason = self._reason or f"{frame.name}: no end where its length says"
            return _Fit.NO
        for check in frame.checks:
            if not check.holds(data):
                self._reason = self._reason or f"{frame.name}: wrong {check.kind}"
                return _Fit.NO
        if not all(condition.holds(data) for condition in frame.when):
            return _Fit.NO
        if frame.dated and not _is_clock(frame, data):
            self._reason = self._reason or f"{frame.name}: no date in it"
            return _Fit.NO
        return size

    def _size(self, frame: FrameTable, at: int) -> int | _Fit:
        length = frame.length
        if length is None:
            return frame.size
        size, order, _ = INTEGERS[length.type]
        start = at + length.offset
        said = bytes(self._buffer[start : start + size])
        if len(said) < size:
            return _Fit.WAIT
        return int.from_bytes(said, order) + length.overhead

    # ------------------------------------------------------------ fields

    def _records(self, frame: FrameTable, raw: bytes) -> None:
        data = raw[frame.shift :]
        maker = _Pairs(data, self._items, self._charset)
        maker.add(frame.fields, data)
        group = frame.group
        if group is None:
            self._found.record(maker.record(raw, frame.flags))
            return
        bits = None
        if group.channel_bits is not None and group.channel_bits < len(data):
            bits = data[group.channel_bits]
        for number, start in enumerate(
            range(group.offset, len(data) - group.size + 1, group.size), start=1
        ):
            part = data[start : start + group.size]
            if bits is not None and not bits >> (8 - number) & 1:
                continue
            if not all(condition.holds(part) for condition in group.when):
                continue
            one = maker.copy()
            if bits is not None:
                one.pairs.append(("channel", str(number)))
            one.add(group.fields, part)
            self._found.record(one.record(raw, frame.flags))


def _is_clock(frame: FrameTable, data: bytes) -> bool:
    """Whether a frame without a check has a possible time: the field of type ``clock``."""
    data = data[frame.shift :]
    for field in frame.fields:
        if field.type == "clock":
            parts = _clock(field, data)
            return parts is not None and (
                1 <= parts["M"] <= 12
                and 1 <= parts["d"] <= 31
                and parts["h"] < 24
                and parts["m"] < 60
                and parts["s"] < 60
                and parts["y"] < 100
            )
    return True


def _clock(field: FieldTable, data: bytes) -> dict[str, int] | None:
    part = data[field.offset : field.offset + len(field.layout)]
    if len(part) < len(field.layout):
        return None
    return dict.fromkeys("yMdhms", 0) | dict(zip(field.layout, part, strict=True))


class _Pairs:
    """The pairs of one record in the making."""

    def __init__(self, data: bytes, items: Mapping[int, ItemTable], charset: str) -> None:
        self._data = data
        self._items = items
        self._charset = charset
        self.pairs: list[tuple[str, str]] = []
        self.damaged = False
        self.flags: set[str] = set()
        self._item: ItemTable | None = None

    def copy(self) -> _Pairs:
        """Return a copy to which a channel's own are added."""
        twin = _Pairs(self._data, self._items, self._charset)
        twin.pairs, twin.damaged = list(self.pairs), self.damaged
        twin.flags, twin._item = set(self.flags), self._item
        return twin

    def record(self, raw: bytes, flags: Sequence[str]) -> RawRecord:
        """Return the record."""
        text = "\n".join(f"{name}={value}" for name, value in self.pairs)
        said = tuple(sorted({*flags, *self.flags}))
        return RawRecord(tuple(self.pairs), raw, text, self.damaged, said)

    def add(self, fields: Sequence[FieldTable], data: bytes) -> None:
        """Add ``fields`` of ``data``; a field beyond its end is not there."""
        for field in fields:
            if not all(condition.holds(data) for condition in field.when):
                continue
            if field.type == "item":
                self._add_item(field, data)
                continue
            if field.of and (self._item is None or self._item.kind != field.of):
                continue
            said = self._said(field, data)
            if said:
                self.pairs.append((field.name, said))

    def _add_item(self, field: FieldTable, data: bytes) -> None:
        if field.offset >= len(data):
            return
        number = data[field.offset]
        self._item = self._items.get(number)
        if self._item is None:
            self.pairs.append((field.name, f"item {number}"))
            self.flags.add("value_unreadable")  # how its value is packed, nobody has said
            return
        self.pairs.append((field.name, self._item.name))
        unit = "%" if self._item.kind == "inhibition" else self._item.unit
        if unit:
            self.pairs.append(("unit", unit))

    def _said(self, field: FieldTable, data: bytes) -> str:
        match field.type:
            case "text":
                part = data[field.offset : field.offset + field.bytes].split(b"\x00")[0]
                text, damaged = decoded(part, self._charset)
                self.damaged = self.damaged or damaged
                return text.strip()
            case "clock":
                parts = _clock(field, data)
                return "" if parts is None else _time_text(*(parts[key] for key in "yMdhms"))
            case "packed_time":
                part = data[field.offset : field.offset + 4]
                return _time_text(*unpacked_time(part)) if len(part) == 4 else ""
            case "f32le" | "f32be":
                part = data[field.offset : field.offset + 4]
                if len(part) < 4:
                    return ""
                return field.sentinels.get(part.hex().upper()) or _shortest(
                    part, FLOATS[field.type]
                )
            case _:
                return _integer(field, data)


def _integer(field: FieldTable, data: bytes) -> str:
    size, order, signed = INTEGERS[field.type]
    part = data[field.offset : field.offset + size]
    if len(part) < size:
        return ""
    sentinel = field.sentinels.get(part.hex().upper())
    if sentinel is not None:
        return sentinel
    number = int.from_bytes(part, order, signed=signed)
    if field.mask:
        number &= field.mask
    if field.signed_from and number >= field.signed_from:
        number -= 1 << (8 * size)
    if field.words:
        return field.words.get(str(number), f"code {number}")
    return format(Decimal(number) * Decimal(field.scale), "f")


def _time_text(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str:
    return f"{_CENTURY + year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}"


def _shortest(part: bytes, kind: str) -> str:
    """Return the shortest decimal that is this single-precision number again."""
    (number,) = struct.unpack(kind, part)
    for digits in range(6, 10):
        text = f"{number:.{digits}g}"
        try:
            if struct.pack(kind, float(text)) == part:
                return format(Decimal(text), "f") if "e" in text else text
        except OverflowError:
            continue  # rounded up beyond the largest
    return f"{number:.9g}"
