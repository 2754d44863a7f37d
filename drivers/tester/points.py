"""What an instrument said to a test record: labels, values with units, verdict words, times (pure)."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import unicodedata
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from drivers import units
from drivers.errors import FrameError
from drivers.records import Qualifier, ResultKind, ScreenResult, Source, TestRecord
from drivers.tester.reader import MAX_RAW_BYTES
from drivers.tester.text import folded, plain
from drivers.tester.times import BEIJING, read_time
from drivers.tester.words import FIELDS

if TYPE_CHECKING:
    from drivers.tester.config import TesterDevice
    from drivers.tester.reader import RawRecord
    from drivers.tester.words import Parameter, Words

CLOCK_SUSPECT = "clock_suspect"
TIME_MISSING = "time_missing"
RESULT_MISSING = "result_missing"
SAMPLE_MISSING = "sample_missing"
VALUE_UNREADABLE = "value_unreadable"
UNIT_UNKNOWN = "unit_unknown"
VERDICT_UNKNOWN = "verdict_unknown"
PARAMETER_UNKNOWN = "parameter_unknown"
OUT_OF_RANGE = "out_of_range"
TEXT_DAMAGED = "text_damaged"
FLAGS = frozenset(
    {
        CLOCK_SUSPECT,
        TIME_MISSING,
        RESULT_MISSING,
        SAMPLE_MISSING,
        VALUE_UNREADABLE,
        UNIT_UNKNOWN,
        VERDICT_UNKNOWN,
        PARAMETER_UNKNOWN,
        OUT_OF_RANGE,
        TEXT_DAMAGED,
    }
)
"""Every flag of a tester's record, beside those that a device's own table names: screens have words for them."""

RECORD_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:agrigate:test-record")
MAX_KEY_CHARS = 200  # the width that ingest keeps

_FIRST_YEAR = 2020  # a clock that fell back after battery loss says 2000 or 2011
_AHEAD = dt.timedelta(minutes=5)  # rapid_test_record §2
_NEAR = dt.timedelta(hours=1)  # a test at midnight sharp is believed while it is midnight

_NUMBER = re.compile(
    r"(?P<sign><=|>=|[<>≤≥]|小于|低于|大于|高于)?\s*"
    r"(?P<number>[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?)\s*"
    # A unit begins with a letter or %: 1,234.5 and 37,6 and 12-15 and 1.2×10-3 and 3?.2 are not 1, 37, 12, 1.2 and 3.
    r"(?P<unit>(?:(?:(?![xX])[^\W\d_]|[%‰°(\[]).{0,23})?)",
)
_BELOW = frozenset({"<", "<=", "≤", "小于", "低于"})
_NO_VALUE = re.compile(r"[-.]+")
# Inhibition beyond these is no noise of the blank (rapid_test_record §3.4).
_INHIBITION_MIN, _INHIBITION_MAX = Decimal(-20), Decimal(100)


@dataclass(frozen=True, slots=True)
class Value:
    """A printed value: number and unit as they stand, or what stands in their place."""

    text: str = ""
    number: Decimal | None = None
    unit: str = ""
    qualifier: Qualifier | None = None
    readable: bool = True


def read_value(text: str, words: Words) -> Value:
    """Return what a printed value says; never guesses a unit.

    >>> from drivers.tester.words import built_in
    >>> read_value("＜0.05mg/kg", built_in()).qualifier
    <Qualifier.LT: 'lt'>
    """
    said = plain(text)
    word = folded(said)
    if not word or word in words.sentinels or _NO_VALUE.fullmatch(word):
        return Value(text)
    if word in words.not_detected:
        return Value(text, qualifier=Qualifier.NOT_DETECTED)
    found = _NUMBER.fullmatch(said)
    # ², ① and ½ become plain digits in half width: 10² is not 102.
    if found is None or any(unicodedata.category(char) == "No" for char in text):
        return Value(text, readable=False)
    sign = found["sign"]
    qualifier = Qualifier.EQ if not sign else Qualifier.LT if sign in _BELOW else Qualifier.GT
    return Value(text, Decimal(found["number"]), found["unit"].strip(), qualifier)


def _fields(raw: RawRecord, words: Words) -> dict[str, str]:
    """Return field -> value; raise FrameError when the instrument says two things of one field."""
    fields: dict[str, str] = {}
    for label, value in raw.pairs:
        name = words.labels.get(label) or (label if label in FIELDS else None)
        if name is None or not value:
            continue
        if folded(fields.setdefault(name, value)) != folded(value):
            raise FrameError(
                f"{label!r} says {value!r} and {fields[name]!r}: two slips ran together",
                raw=raw.raw,
            )
    return fields


@dataclass(frozen=True, slots=True)
class _Result:
    """What the instrument says of the outcome."""

    kind: ResultKind
    value: Value
    unit: str
    screen: ScreenResult | None
    word: str


def _word(said: str, words: Words) -> str:
    """Return a verdict's word, blank for what stands where there is none (``----``, ``NA``)."""
    word = folded(plain(said))
    if word in words.verdicts:
        return said
    return "" if word in words.sentinels or _NO_VALUE.fullmatch(word) else said


def _result(
    fields: dict[str, str], parameter: Parameter | None, device: TesterDevice, flags: set[str]
) -> _Result:
    words = device.words
    printed = fields.get("result", "")
    verdict = fields.get("verdict", "")
    value_text = fields.get("inhibition") or fields.get("value") or ""
    if not value_text and printed and folded(printed) not in words.verdicts:
        value_text = printed  # 检测结果 holds the number on some testers
        if read_value(printed, words).readable:
            printed = ""
    value = read_value(value_text, words)
    if not value.readable and value_text != printed:
        flags.add(VALUE_UNREADABLE)
    printed, verdict = (_word(said, words) for said in (printed, verdict))
    word = verdict or printed
    screen = words.verdicts.get(folded(printed)) or words.verdicts.get(folded(verdict))
    if word and screen is None:
        flags.add(VERDICT_UNKNOWN)
    if not word and folded(value_text) in words.verdicts:
        word, screen = (
            value_text,
            words.verdicts[folded(value_text)],
        )  # 无效 in the place of a number
    if value.qualifier is None and folded(word) in words.not_detected:
        value = Value(value.text, qualifier=Qualifier.NOT_DETECTED)
    if value.number is None and value.qualifier is None and not word:
        flags.add(RESULT_MISSING)
    is_inhibition = "inhibition" in fields or (
        (value.number is not None or VALUE_UNREADABLE in flags)
        and parameter is not None
        and parameter.kind is ResultKind.INHIBITION
    )
    kind = device.defaults.result_kind or (
        ResultKind.INHIBITION
        if is_inhibition
        else ResultKind.QUALITATIVE
        if value.number is None
        else ResultKind.QUANTITATIVE
    )
    if kind is ResultKind.QUANTITATIVE and screen is not ScreenResult.INVALID:
        screen = None  # the number is the result; the word is kept as device_verdict
    unit = _unit(value, fields, kind, device, flags)
    if (
        kind is ResultKind.INHIBITION
        and value.number is not None
        and unit == "%"
        and not _INHIBITION_MIN <= value.number <= _INHIBITION_MAX
    ):
        flags.add(OUT_OF_RANGE)
    return _Result(kind, value, unit, screen, word)


def _unit(
    value: Value, fields: dict[str, str], kind: ResultKind, device: TesterDevice, flags: set[str]
) -> str:
    if value.number is None:
        return ""
    if value.unit:
        printed = value.unit
    elif units.is_known(fields.get("unit", "")):  # 单位 may also name an organisation
        printed = fields["unit"]
    else:
        printed = "%" if kind is ResultKind.INHIBITION else device.defaults.unit
    try:
        return units.canonical(printed)
    except units.UnitError:
        flags.add(UNIT_UNKNOWN)
        return printed


def _tested_at(fields: dict[str, str], now_ms: int, flags: set[str]) -> dt.datetime:
    """Return the instrument's time, the edge's when it says none; flags what cannot be right."""
    now = dt.datetime.fromtimestamp(now_ms / 1000, BEIJING)
    when = read_time(fields.get("tested_at", ""), fields.get("tested_date", ""))
    if when is None:
        flags.add(TIME_MISSING)
        return now
    reset = when.year < _FIRST_YEAR
    midnight = when.time() == dt.time.min and abs(now - when) > _NEAR
    if reset or midnight or when > now + _AHEAD:
        flags.add(CLOCK_SUSPECT)
    return when


def _dedup_key(
    raw: RawRecord, device: TesterDevice, of: tuple[str, str, str], when: dt.datetime | None
) -> str:
    """Return the same key each time one test is told (rapid_test_record §2), on whatever day.

    ``of`` is (sample, parameter, time); ``when`` the instrument's own time. The edge's clock has no part in it.
    """
    sample_no, parameter, tested_at = of
    identity = f"{device.station}/{device.path}" if device.station else device.path
    parts = [identity, sample_no, parameter]
    if when is not None:
        parts.append(tested_at)
    if not sample_no or when is None or when.year < _FIRST_YEAR:
        # Without a number, or by a clock that begins anew, two tests may look alike: what is printed tells them apart.
        text = "\n".join(f"{label}:{folded(value)}" for label, value in raw.pairs)
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:16])
    key = "|".join(parts)
    if len(key) > MAX_KEY_CHARS:
        key = f"{identity}|{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    return key


def record_of(raw: RawRecord, device: TesterDevice, now_ms: int) -> TestRecord:
    """Return the record of ``raw``; ``now_ms`` is the edge's UTC time.

    What the instrument does not say comes from the device's defaults; what is doubtful is in ``quality_flags``. Raises
    FrameError for a block that says nothing of a test, or two things of one field.
    """
    words, defaults = device.words, device.defaults
    fields = _fields(raw, words)
    if not fields.keys() & {
        "sample_no",
        "parameter",
        "product_name",
        "inhibition",
        "value",
        "result",
        "verdict",
    }:
        raise FrameError("no sample, item or result on it: not a test", raw=raw.raw)
    flags = {*raw.flags, TEXT_DAMAGED} if raw.damaged else set(raw.flags)
    item = fields.get("parameter", "")
    parameter = words.parameters.get(folded(item or defaults.parameter))
    if item and parameter is None:
        flags.add(PARAMETER_UNKNOWN)
    if not fields.keys() & {"sample_no", "product_name", "channel"}:
        flags.add(
            SAMPLE_MISSING
        )  # the rest of a slip cut in two: whose result it is, nobody can say
    result = _result(fields, parameter, device, flags)
    tested = _tested_at(fields, now_ms, flags)
    sampled = read_time(fields.get("sampled_at", ""))
    sample_no = fields.get("sample_no", "")
    code = parameter.code if parameter is not None else item or defaults.parameter
    tested_at = tested.isoformat(timespec="seconds")
    told = read_time(fields.get("tested_at", ""), fields.get("tested_date", ""))
    dedup_key = _dedup_key(raw, device, (sample_no, code, tested_at), told)

    def number(name: str) -> Decimal | None:
        return read_value(fields.get(name, ""), words).number

    def either(name: str, default: str) -> str:
        return fields.get(name) or default

    return TestRecord(
        record_id=str(uuid.uuid5(RECORD_NAMESPACE, dedup_key)),
        dedup_key=dedup_key,
        device_id=device.path,
        tested_at=tested_at,
        sample_no=sample_no,
        parameter=code,
        product_name=either("product_name", defaults.product_name),
        method=defaults.method,
        method_standard=either("method_standard", defaults.method_standard),
        result_kind=result.kind,
        value=result.value.number,
        unit=result.unit,
        value_text=result.value.text,
        qualifier=result.value.qualifier,
        lod=number("lod") if "lod" in fields else device.lod,
        loq=number("loq") if "loq" in fields else device.loq,
        screen_result=result.screen,
        device_verdict=result.word,
        device_model=either("device_model", device.device_model),
        serial_no=either("serial_no", device.serial_no),
        sampled_at="" if sampled is None else sampled.isoformat(timespec="seconds"),
        purpose=defaults.purpose,
        sampling_stage=defaults.sampling_stage,
        subject_id=defaults.subject_id,
        tested_subject_name=either("tested_subject_name", defaults.tested_subject_name),
        base_id=defaults.base_id,
        plot_id=defaults.plot_id,
        sampling_sheet_no=fields.get("sampling_sheet_no", ""),
        product_code=defaults.product_code,
        origin_text=either("origin_text", defaults.origin_text),
        channel=fields.get("channel", ""),
        control_value=number("control_value"),
        absorbance=number("absorbance"),
        c_line=number("c_line"),
        t_line=number("t_line"),
        tester=either("tester", defaults.tester),
        source=Source.DEVICE,
        quality_flags=tuple(sorted(flags)),
        raw=base64.b64encode(raw.raw[:MAX_RAW_BYTES]).decode("ascii"),
    )
