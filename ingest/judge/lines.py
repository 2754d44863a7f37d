"""``agrigate judge``: JSON lines of readings and tests with their context in, verdicts with citations out."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from drivers import indicators, units
from drivers.records import Severity, TestRecord, Verdict
from ingest.judge.catalogue.catalogue import standard_catalogue
from ingest.judge.findings import Citation, Judgement
from ingest.judge.readings import conditions
from ingest.judge.readings.readings import judge_reading
from ingest.judge.records.rapid import judge_test, time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ingest.judge.catalogue.catalogue import Catalogue

_BOM = b"\xef\xbb\xbf"
_WINDOW = "do_window"
_NULL = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """What every line has; the id goes back byte for byte."""

    id: msgspec.Raw = _NULL
    kind: str = ""


class ReadingLine(msgspec.Struct):
    """One reading to judge; ``at`` is an RFC 3339 time or date, a blank ``unit`` the catalogue's.

    ``context.do_window`` may hold the readings of the 24 h before as ``[time, value]``, in the unit of the line.
    """

    indicator: str
    value: float
    unit: str = ""
    at: str = ""
    context: dict[str, str | float | bool | list[tuple[str, float]] | None] = {}


class Reply(msgspec.Struct, kw_only=True):
    """The verdict on one line; ``findings`` lists every limit compared, ``reason`` is ``中文 | English``."""

    id: msgspec.Raw
    verdict: Verdict
    severity: Severity
    findings: tuple[Citation, ...]
    reason: str
    flags: tuple[str, ...] = ()


_head = msgspec.json.Decoder(_Head)
_reading = msgspec.json.Decoder(ReadingLine)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_test = msgspec.json.Decoder(TestRecord)
_encoder = msgspec.json.Encoder()
# An edge always sends these; a line asked for by hand may leave them out.
_REQUIRED = {
    name: msgspec.Raw(b'""') for name in ("record_id", "dedup_key", "tested_at", "device_id")
}


def judge_lines(lines: Iterable[bytes], *, catalogue: Catalogue | None = None) -> Iterator[bytes]:
    """Yield one JSON line (with LF) for each line that is not blank, in order.

    A line that cannot be read gives verdict ``invalid`` with its number in the reason.
    """
    known = standard_catalogue() if catalogue is None else catalogue
    for number, line in enumerate(lines, 1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if text:
            yield _encoder.encode(_answer(known, number, text)) + b"\n"


def _answer(catalogue: Catalogue, number: int, text: bytes) -> Reply:
    answer_id = _NULL
    try:
        head = _head.decode(text)
        answer_id = _sound(head.id)
        match head.kind:
            case "reading":
                judgement = _judge_reading(catalogue, _reading.decode(text))
            case "test":
                judgement = _judge_test(catalogue, text)
            case _:
                judgement = _invalid(f"kind must be reading or test, not {head.kind[:40]!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        judgement = _invalid(str(exc))
    reason = judgement.reason
    if judgement.verdict is Verdict.INVALID:
        zh, _, en = reason.partition(" | ")
        reason = f"第 {number} 行：{zh} | line {number}: {en or zh}"
    return Reply(
        id=answer_id,
        verdict=judgement.verdict,
        severity=judgement.severity,
        findings=judgement.citations,
        reason=reason,
        flags=judgement.flags,
    )


def _sound(raw: msgspec.Raw) -> msgspec.Raw:
    """Return an id that can stand in a reply; raise DecodeError for one that is not JSON (numbers go as they are)."""
    if bytes(raw)[:1] in (b'"', b"{", b"["):
        msgspec.json.decode(raw)
    return raw


def _invalid(why: str) -> Judgement:
    return Judgement(Verdict.INVALID, reason=f"无法读取 | {why}")


def _judge_reading(catalogue: Catalogue, line: ReadingLine) -> Judgement:
    try:
        at_ms = time_ms(line.at) if line.at else None
    except (ValueError, OverflowError):
        return _invalid(f"at: {line.at[:40]!r} is no RFC 3339 time or date")
    try:
        indicator = indicators.lookup(line.indicator)
        conversion = indicator.conversion_from(line.unit) if line.unit else units.IDENTITY
    except indicators.UnknownIndicatorError as exc:
        near = "、".join(exc.near)
        zh = f"未知指标“{line.indicator[:40]}”" + (f"，相近的有：{near}" if near else "")
        return Judgement(Verdict.UNDETERMINED, reason=f"{zh} | {exc}")
    except units.UnitError as exc:
        zh = f"单位“{line.unit[:24]}”无法识别或不适用"
        return Judgement(Verdict.UNDETERMINED, reason=f"{zh} | {exc}", flags=("unit_unknown",))
    value = _converted(line.value, conversion)
    low, high = indicator.physical_min, indicator.physical_max
    if (low is not None and value < low) or (high is not None and value > high):
        return Judgement(
            Verdict.INVALID,
            reason=f"数值超出物理范围 {low}～{high} {indicator.unit}"
            f" | the value is outside the physical range {low} … {high} {indicator.unit}",
            flags=("out_of_range",),
        )
    context: dict[str, str | float | bool | None] = {}
    window: list[tuple[int, float]] = []
    for key, given in line.context.items():
        if key == _WINDOW and isinstance(given, list):
            try:
                window = [(time_ms(at), _converted(v, conversion)) for at, v in given]
            except (ValueError, OverflowError) as exc:
                return _invalid(f"context.{_WINDOW}: {exc}")
        elif isinstance(given, list) or (key == _WINDOW and given not in {None, ""}):
            kind = "a list of [time, value]" if key == _WINDOW else "one value"
            return _invalid(f"context.{key[:40]} must be {kind}")
        elif key != _WINDOW:
            context[key] = given
    return judge_reading(catalogue, indicator.code, value, conditions.check(context), at_ms, window)


def _converted(value: float, conversion: units.Conversion) -> float:
    """Return ``value`` in the catalogue's unit, from the digits that were written: ug/L × 0.001 must not blur it."""
    if conversion.is_identity:
        return value
    return float(conversion.apply(Fraction(Decimal(repr(value)))))


def _judge_test(catalogue: Catalogue, text: bytes) -> Judgement:
    fields = _fields.decode(text)
    named = {name: value for name, value in fields.items() if bytes(value) != b"null"}
    return judge_test(catalogue, _test.decode(_encoder.encode({**_REQUIRED, **named})))
