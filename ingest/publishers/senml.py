"""SenML in JSON (RFC 8428) resolved to readings (pure).

A name is ``bn`` + ``n``; what follows its last ``/``, ``:`` or ``.`` is a code of the catalogue. What precedes it is a
part of the topic's device, or, where a message has no device of its own, the device.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from drivers import indicators, units
from ingest.publishers.address import device_path
from ingest.publishers.parsed import WHOLE, Context, Parsed, RecordError, Value
from ingest.publishers.strict_json import Twice, not_a, short

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 10  # of RFC 8428
MAX_RECORDS = 5000  # a full body of the shortest records
RELATIVE_S = 2**28  # below it a time is relative to now (RFC 8428 §4.5.3)
TIME_BOUND_S = 2**47 / 1000
_NAME = re.compile(r"[A-Za-z0-9][-:./_A-Za-z0-9]*")  # §4.5.1
_CUT = re.compile(r"[/:.](?=[^/:.]*$)")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")
_NUMBERS = ("bt", "bv", "bs", "v", "s", "t", "ut")
_KNOWN = {*_TEXTS, *_NUMBERS, "bver", "vb"}
_NOT_STORED = {"vs": "text", "vb": "a boolean", "vd": "data"}


@dataclass(slots=True)
class _Bases:
    name: str = ""
    time_s: float = 0.0
    unit: str = ""
    value: float = 0.0
    has_value: bool = False


def read(document: object, context: Context, names: Mapping[str, str]) -> Parsed:
    """Resolve a SenML pack; ``names`` map the last part of a name to a catalogue code. Never raises."""
    parsed = Parsed()
    if not isinstance(document, list):
        parsed.refuse(WHOLE, RecordError("body", not_a(document, "a list of records")))
        return parsed
    if len(document) > MAX_RECORDS:
        parsed.refuse(WHOLE, RecordError("body", f"has more than {MAX_RECORDS} records"))
        return parsed
    try:
        _check_version(document)
    except RecordError as exc:
        parsed.refuse(WHOLE, exc)
        return parsed
    bases = _Bases()
    for position, record in enumerate(document):
        try:
            fields = _checked(record)
            _rebase(bases, fields)
            value = _value(fields, bases, context, names, position)
        except RecordError as exc:
            parsed.refuse(position, exc)
            if _moves_bases(record):
                # What follows may lean on a base that cannot be read: nothing is guessed.
                for later in range(position + 1, len(document)):
                    parsed.refuse(later, RecordError("bn", f"leans on record {position}"))
                break
            continue
        if value is not None:
            parsed.values.append(value)
    return parsed


def _check_version(document: list[object]) -> None:
    found = {
        short(record["bver"])
        for record in document
        if isinstance(record, dict) and "bver" in record
    }
    if len(found) > 1:
        raise RecordError(
            "bver", f"must be one for the whole message, is {', '.join(sorted(found))}"
        )
    for record in document:
        if not isinstance(record, dict) or "bver" not in record:
            continue
        version = record["bver"]
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise RecordError("bver", f"{short(version)} is no positive integer")
        if version > VERSION:
            raise RecordError("bver", f"{version} is newer than {VERSION}, which is known here")


def _checked(record: object) -> dict[str, object]:
    """Return the record when each field it has is of its type; raise RecordError."""
    if not isinstance(record, dict):
        raise RecordError("record", not_a(record, "an object"))
    for key, value in record.items():
        if key in _TEXTS and not isinstance(value, str):
            raise RecordError(key, not_a(value, "text"))
        if key in _NUMBERS:
            _number(key, value)
        if key == "vb" and not isinstance(value, bool):
            raise RecordError(key, not_a(value, "a boolean"))
        if key not in _KNOWN and key.endswith("_"):
            raise RecordError(short(key), "must be understood (it ends in '_'), and is not")
    return record


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(key, not_a(value, "a number"))
    return float(value)


def _rebase(bases: _Bases, record: dict[str, object]) -> None:
    if "bn" in record:
        bases.name = str(record["bn"])
    if "bt" in record:
        bases.time_s = _number("bt", record["bt"])
    if "bu" in record:
        bases.unit = str(record["bu"])
    if "bv" in record:
        bases.value, bases.has_value = _number("bv", record["bv"]), True


def _moves_bases(record: object) -> bool:
    """Whether a record that cannot be used sets a base, or a field that we do not know and that may be one."""
    if isinstance(record, dict):
        keys = frozenset(record)
        whole = all(
            isinstance(record[key], str if key in _TEXTS else int | float)
            and not isinstance(record[key], bool)
            for key in keys & {"bn", "bt", "bu", "bv", "bs"}
        )
        return not whole or any(
            key.startswith("b") and key.endswith("_") and key not in _KNOWN for key in keys
        )
    return isinstance(record, Twice) and any(key.startswith("b") for key in record.keys)


def _value(
    record: dict[str, object],
    bases: _Bases,
    context: Context,
    names: Mapping[str, str],
    position: int,
) -> Value | None:
    """Return the reading of a record; None for one that has nothing but bases."""
    held = [key for key in ("v", *_NOT_STORED) if key in record]
    if not held and "s" not in record and not (bases.has_value and "n" in record):
        if any(key in record for key in ("n", "u", "t", "ut")):
            raise RecordError("v", "is missing: a record has v, vs, vb, vd or s")
        return None
    if len(held) > 1:
        raise RecordError(held[1], f"stands beside {held[0]}: a record has one value")
    if held and held[0] in _NOT_STORED:
        raise RecordError(held[0], f"{_NOT_STORED[held[0]]} is not stored, only numbers are")
    if "s" in record and "v" not in record:
        raise RecordError("s", "a sum is not stored, only values are")
    device, indicator = _name(bases.name + str(record.get("n", "")), context, names)
    unit = str(record.get("u", bases.unit))
    value = bases.value + _number("v", record.get("v", 0.0))
    return Value(
        position,
        device,
        indicator.code,
        _time_ms(bases.time_s + _number("t", record.get("t", 0.0)), context.received_ms),
        converted(value, unit, indicator, "u"),
    )


def _time_ms(seconds: float, now_ms: int) -> float:
    if seconds < RELATIVE_S:
        seconds += now_ms / 1000
    if not -TIME_BOUND_S < seconds < TIME_BOUND_S:
        raise RecordError("t", f"{seconds} s is no time")
    return seconds * 1000


def converted(value: float, unit: str, indicator: indicators.Indicator, field: str) -> float:
    """Return ``value`` of ``unit`` in the catalogue's unit, which a blank one is; raise RecordError."""
    if not math.isfinite(value):
        raise RecordError("v", f"{value} is no number that can be stored")
    if not unit or unit == indicator.unit:
        return value
    try:
        exact = indicator.conversion_from(unit).apply(Fraction(repr(value)))
    except units.UnitError as exc:
        raise RecordError(field, str(exc)[:300]) from exc
    try:
        return float(exact)
    except OverflowError as exc:
        raise RecordError("v", f"{value} {unit} is no number that can be stored") from exc


def _name(
    name: str, context: Context, names: Mapping[str, str]
) -> tuple[str, indicators.Indicator]:
    """Return device path and indicator of a name; raise RecordError."""
    if not _NAME.fullmatch(name):
        raise RecordError(
            "n", f"{short(name)} is no SenML name: letters, digits and - : . / _, begun with one"
        )
    cut = _CUT.search(name)
    prefix, last = (name[: cut.start()], name[cut.end() :]) if cut else ("", name)
    code = names.get(last, last)
    try:
        indicator = indicators.lookup(code)
    except indicators.UnknownIndicatorError as exc:
        raise RecordError("n", str(exc)) from exc
    return _device(prefix, context), indicator


def _device(prefix: str, context: Context) -> str:
    part = prefix.replace(":", "/")  # a URN names a device as well as a path does
    if not context.device:
        return device_path(part, "n")
    if not part or part == context.device or part.startswith(f"{context.device}/"):
        return part or context.device
    return device_path(f"{context.device}/{part}", "n")
