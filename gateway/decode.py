"""Bytes to what they say, line by line of JSON: the work of ``agrigate decode``, without files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from drivers.errors import ConfigError, FrameError
from gateway.decode_input import HexInput, LogInput, NotBytes, RawInput, TextInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from drivers.modbus.captured import Captured
    from drivers.modbus.points import Point
    from drivers.tester.config import TesterDevice
    from drivers.tester.reader import RawRecord
    from gateway.decode_input import Format, Input

MODBUS = ("modbus-rtu", "modbus-tcp")
SLIP = "slip"
_TESTER_STEP_BYTES = 4096
_KEPT_BYTES = 64 * 1024  # of what was fed, to say where a record stands
_SHOWN_BYTES = 256
_LEFT_OUT = frozenset({"raw"})  # the line has the bytes themselves


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line about a rapid tester's bytes, or about input that says no bytes."""

    good: bool
    offset: int | None = None
    bytes: str = ""
    text: str = ""
    error: str = ""
    fault_at: int | None = None
    record: dict[str, object] | None = None


class Decoder(Protocol):
    """Bytes of one protocol to lines."""

    def feed(self, data: bytes) -> Iterator[msgspec.Struct]:
        """Take bytes; yield a line for all that is complete."""
        ...

    def end(self) -> Iterator[msgspec.Struct]:
        """Yield lines for what is left."""
        ...


@dataclass(frozen=True, slots=True)
class Protocols:
    """A protocol's decoder, and the inputs that make sense for it."""

    decoder: Decoder
    charset: str | None = None
    """Character set of an instrument that speaks text; None where text means log lines with bytes."""

    def input(self, form: Format) -> Input:
        """Return the reader of a file in ``form``."""
        if form == "raw":
            return RawInput()
        if form == "hex":
            return HexInput()
        return LogInput() if self.charset is None else TextInput(self.charset)


def names() -> list[str]:
    """Return the protocols that can be decoded."""
    from drivers.tester import profiles  # noqa: PLC0415 - msgspec builds a dozen decoders

    return [*MODBUS, SLIP, *profiles.names()]


def open_protocol(
    name: str, *, model: str = "", settings: Mapping[str, object] | None = None, now_ms: int
) -> Protocols:
    """Return what decodes ``name``; raise ConfigError for one that is not known or cannot be set up so.

    ``model`` names a register map whose values are shown beside the registers; ``settings`` are keys of the tester's
    table (``items``, ``labels``, …); ``now_ms`` is what a tester's clock is measured against.
    """
    if name in MODBUS:
        if settings:
            raise ConfigError([f"settings: belong to a rapid tester, not to {name}"])
        return Protocols(_ModbusDecoder(name, _points_of(model)))
    if model:
        raise ConfigError([f"model: belongs to Modbus, not to {name}"])
    if name != SLIP and not name.endswith(".toml") and name not in names():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names())}"
        raise ConfigError([f"protocol {name!r} is not known; {hint}"])
    device = _tester(name, settings or {})
    charset = "gb18030" if device.charset in ("gbk", "gb18030") else "utf-8"
    return Protocols(
        _TesterDecoder(device, now_ms), "latin-1" if device.charset == "latin-1" else charset
    )


def decode(
    protocol: Protocols, form: Format, chunks: Iterable[bytes]
) -> Iterator[tuple[bool, bytes]]:
    """Yield (whether it is good, one line of JSON) for ``chunks`` of a file; memory is bounded."""
    encoder = msgspec.json.Encoder()
    source = protocol.input(form)

    def said(parts: Iterable[bytes | NotBytes]) -> Iterator[msgspec.Struct]:
        for part in parts:
            if isinstance(part, NotBytes):
                yield Line(
                    good=False,
                    text=part.text,
                    error=f"the input is no bytes: {part.why}",
                    fault_at=part.at,
                )
            else:
                yield from protocol.decoder.feed(part)

    def lines() -> Iterator[msgspec.Struct]:
        for chunk in chunks:
            yield from said(source.feed(chunk))
        yield from said(source.end())
        yield from protocol.decoder.end()

    for line in lines():
        yield bool(getattr(line, "good", False)), encoder.encode(line)


# ---------------------------------------------------------------- Modbus


class _ModbusDecoder:
    def __init__(self, name: str, points: tuple[Point, ...]) -> None:
        from drivers.modbus.rtu_capture import RtuCapture  # noqa: PLC0415 - only one of the protocols
        from drivers.modbus.tcp_capture import TcpCapture  # noqa: PLC0415 - see above

        self._capture = RtuCapture() if name == "modbus-rtu" else TcpCapture()
        self._points = points

    def feed(self, data: bytes) -> Iterator[msgspec.Struct]:
        return map(self._with_values, self._capture.feed(data))

    def end(self) -> Iterator[msgspec.Struct]:
        return map(self._with_values, self._capture.end())

    def _with_values(self, line: Captured) -> Captured:
        if not self._points or line.registers is None or line.address is None:
            return line
        if line.kind != "reply":
            return line
        from drivers.modbus.points import value_of  # noqa: PLC0415 - see above

        values: dict[str, float | str] = {}
        end = line.address + len(line.registers)
        for point in self._points:
            if point.function == line.function and line.address <= point.start and point.end <= end:
                words = line.registers[point.start - line.address : point.end - line.address]
                value, quality = value_of(point, words)
                values[point.indicator] = value if value is not None else quality or ""
        return msgspec.structs.replace(line, values=values)


def _points_of(name: str) -> tuple[Point, ...]:
    """Return the points of a model, of ours or in a file; those with an open setting are left out."""
    if not name:
        return ()
    from pathlib import Path  # noqa: PLC0415 - see above

    from drivers.modbus import models  # noqa: PLC0415 - see above
    from drivers.modbus.build import build_point  # noqa: PLC0415 - see above

    file, _, variant = name.partition(":")
    if file.endswith(".toml"):
        try:
            text = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError([f"model: {file}: {exc}"]) from exc
        model = models.parse(text, file)
    else:
        model = models.load(file)
    if variant:
        if variant not in model.variants:
            raise ConfigError(
                [
                    f"model: {file} has no variant {variant!r}; it has {', '.join(model.variants) or 'none'}"
                ]
            )
        model = model.variants[variant]
    if not model.points:
        raise ConfigError(
            [
                f"model: {file} has variants; choose one: {', '.join(f'{file}:{v}' for v in model.variants)}"
            ]
        )
    left_open = model.open_settings()
    built = (
        build_point(
            point,
            name,
            [],
            order=model.table.order,
            function=model.table.function,
            sentinels=model.table.sentinels,
        )
        for point in model.points
        if point.key not in left_open
    )
    return tuple(point for point in built if point is not None)


# ---------------------------------------------------------------- rapid testers


def _tester(name: str, settings: Mapping[str, object]) -> TesterDevice:
    where = f"decode {name}"
    if name == SLIP:
        from drivers.slip import config as slip  # noqa: PLC0415 - see above

        return slip.parse({"path": "decode", "serial": "none", **settings}, where)
    from drivers.tester import config, profiles  # noqa: PLC0415 - see above

    table: dict[str, object] = {"path": "decode", "profile": name, "transport": {"serial": "none"}}
    if "items" not in settings and not name.endswith(".toml") and profiles.load(name).needs_items:
        # Which number is which test stands in the county's instrument; without it the numbers must do.
        table["items"] = {str(n): {"name": f"item {n}", "kind": "quantitative"} for n in range(256)}
    return config.parse({**table, **settings}, where)


class _TesterDecoder:
    """A tester's bytes to records; says where in the stream each stands, as far as its bytes are found again."""

    def __init__(self, device: TesterDevice, now_ms: int) -> None:
        self._device = device
        self._reader = device.reader()
        self._now_ms = now_ms
        self._kept = bytearray()
        self._base = 0
        self._first = b""
        self._said = 0
        self._last: tuple[bytes, int | None] = (b"", None)

    def feed(self, data: bytes) -> Iterator[msgspec.Struct]:
        if len(self._first) < _SHOWN_BYTES:
            self._first += data[: _SHOWN_BYTES - len(self._first)]
        for start in range(0, len(data), _TESTER_STEP_BYTES):
            piece = data[start : start + _TESTER_STEP_BYTES]
            self._kept += piece
            self._reader.feed(piece)
            yield from self._lines()
            surplus = len(self._kept) - _KEPT_BYTES
            if surplus > 0:
                del self._kept[:surplus]
                self._base += surplus

    def end(self) -> Iterator[msgspec.Struct]:
        self._reader.silence()
        yield from self._lines()
        if self._first and not self._said:
            error = "no record in it, nor the beginning of one"
            yield Line(good=False, offset=0, bytes=self._first.hex(" "), error=error, fault_at=0)

    def _lines(self) -> Iterator[Line]:
        from drivers.tester.points import record_of  # noqa: PLC0415 - see above

        while True:
            while self._reader.next_reply() is not None:
                # A greeting or a count is no record, and nothing bad in a dialogue.
                self._said += self._device.dialogue is not None
            try:
                raw = self._reader.next()
                if raw is None:
                    return
                self._said += 1
                record = record_of(raw, self._device, self._now_ms)
            except FrameError as exc:
                self._said += 1
                yield self._bad(exc)
            else:
                yield self._good(raw, msgspec.to_builtins(record))

    def _good(self, raw: RawRecord, record: dict[str, object]) -> Line:
        said = {
            key: value
            for key, value in record.items()
            if value not in (None, "", []) and key not in _LEFT_OUT
        }
        return Line(good=True, offset=self._place(raw.raw), bytes=raw.raw.hex(" "), record=said)

    def _bad(self, exc: FrameError) -> Line:
        at = self._place(exc.raw)
        fault = None if at is None else at + exc.offset
        return Line(good=False, offset=at, bytes=exc.raw.hex(" "), error=str(exc), fault_at=fault)

    def _place(self, raw: bytes) -> int | None:
        """Return where ``raw`` begins in the stream, None when it is not found; what lies before is done with."""
        at = self._kept.find(raw) if raw else -1
        if at < 0:  # one frame may hold a record for each channel
            return self._last[1] if raw and raw == self._last[0] else None
        place = self._base + at
        done = at + len(raw)
        del self._kept[:done]
        self._base += done
        self._last = (raw, place)
        return place
