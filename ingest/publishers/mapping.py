"""``[[mapping]]`` of ``server.toml``: vendors' JSON to readings and tests by JMESPath (pure).

Everything is compiled at the start; what a message then holds in the wrong place or type is a fault of its record.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import jmespath
import jmespath.exceptions
import msgspec
from msgspec import Meta

from drivers import indicators, units
from drivers.device_table import read_table
from drivers.records import TestRecord
from ingest.publishers.address import Address, device_path
from ingest.publishers.parsed import WHOLE, Context, Parsed, RecordError, Value
from ingest.publishers.senml import converted
from ingest.publishers.strict_json import NoNumber, kind_of, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_RECORDS = 1000  # of one message
MS_FROM_S = (
    10_000_000_000  # with ``time_unit = "auto"``: a larger number of seconds is the year 2286
)
_ZONE = re.compile(r"([+-])(\d{2}):(\d{2})")
_TEST_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(TestRecord)}
_DERIVED = {"record_id", "dedup_key", "device_id"}
# What a function of JMESPath can raise for values that its author did not think of.
_SEARCH_ERRORS = (
    jmespath.exceptions.JMESPathError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
S = TypeVar("S", bound=msgspec.Struct)


class ValueTable(msgspec.Struct, frozen=True, kw_only=True):
    """``values.<indicator>``: where the number is, what unit it has, ``number × scale + offset`` in that unit.

    ``unit_path`` finds the unit in the message, where ``unit_names`` says what its words mean.
    """

    path: Annotated[str, Meta(min_length=1)]
    unit: str = ""
    unit_path: str = ""
    unit_names: dict[str, str] = {}
    scale: float = 1.0
    offset: float = 0.0
    required: bool = False


class MappingTable(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[mapping]]``: which messages it is for, and where in them what is."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    topic: str = ""  # MQTT filter over the whole topic
    device: str = ""  # glob over the device path
    records: str = "@"
    device_path: str = ""
    device_levels: Annotated[int, Meta(ge=0, le=8)] = 0
    time: str = ""
    time_of: Literal["record", "message"] = "record"
    time_unit: Literal["auto", "s", "ms"] = "auto"
    zone: str = "+08:00"
    values: dict[str, str | ValueTable] = {}
    tests: dict[str, str] = {}
    names: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Path:
    """A compiled expression."""

    text: str
    expression: jmespath.parser.ParsedResult

    def search(self, document: object, field: str) -> object:
        """Return what it finds, None for nothing; raise RecordError when it cannot be evaluated."""
        try:
            found: object = self.expression.search(document)
        except _SEARCH_ERRORS as exc:
            raise RecordError(field, f"{self.text!r}: {' '.join(str(exc).split())[:200]}") from exc
        return found


@dataclass(frozen=True, slots=True)
class _Number:
    """One value of a mapping."""

    indicator: indicators.Indicator
    path: _Path
    unit: str
    unit_path: _Path | None
    unit_names: Mapping[str, str]
    scale: float
    offset: float
    required: bool

    def read(self, record: object) -> float | None:
        """Return the value in the catalogue's unit, None when the record has none; raise RecordError."""
        field = f"values.{self.indicator.code}"
        found = self.path.search(record, field)
        if found is None:
            if self.required:
                raise RecordError(field, f"{self.path.text!r} finds nothing")
            return None
        number = _as_number(found, field) * self.scale + self.offset
        return converted(number, self._unit(record), self.indicator, field)

    def _unit(self, record: object) -> str:
        if self.unit_path is None:
            return self.unit
        field = f"values.{self.indicator.code}.unit_path"
        found = self.unit_path.search(record, field)
        if found is None:
            if self.unit:
                return self.unit
            raise RecordError(field, f"{self.unit_path.text!r} finds nothing")
        if not isinstance(found, str):
            raise RecordError(field, f"{short(found)} is {kind_of(found)}, not text")
        if self.unit_names and found not in self.unit_names:
            raise RecordError(field, f"{short(found)} is not in unit_names")
        return self.unit_names.get(found, found)


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``[[mapping]]``, compiled."""

    name: str
    topic: str
    device: str
    records: _Path
    device_path: _Path | None
    device_levels: int
    time: _Path | None
    time_of: str
    time_unit: str
    zone: timezone
    values: Sequence[_Number]
    tests: Mapping[str, _Path]
    names: Mapping[str, str]

    def is_for(self, topic: str, address: Address) -> bool:
        """Whether a message that came in at ``address`` is to be read by this rule."""
        if self.topic and not topic_matches(self.topic, topic):
            return False
        return not self.device or fnmatchcase(address.levels, self.device)

    def read(self, document: object, address: Address, received_ms: int) -> Parsed:
        """Return what the message says; never raises."""
        parsed = Parsed()
        levels = address.levels.split("/")
        device = "/".join(levels[: self.device_levels] if self.device_levels else levels)
        context = Context(address.station, device, received_ms)
        try:
            records = self.records.search(document, "records")
        except RecordError as exc:
            parsed.refuse(WHOLE, exc)
            return parsed
        if isinstance(records, dict):
            records = [records]
        if not isinstance(records, list):
            said = f"{self.records.text!r} finds {kind_of(records)}, not a list of records"
            parsed.refuse(WHOLE, RecordError("records", said))
            return parsed
        if len(records) > MAX_RECORDS:
            parsed.refuse(WHOLE, RecordError("records", f"are more than {MAX_RECORDS}"))
            return parsed
        for position, record in enumerate(records):
            self._record(parsed, position, record, document, context)
        return parsed

    def _record(
        self, parsed: Parsed, position: int, record: object, document: object, context: Context
    ) -> None:
        try:
            if not isinstance(record, dict | list):
                parsed.refuse(
                    position * max(len(self.values), 1),
                    RecordError("records", f"holds {kind_of(record)}, not an object"),
                )
                return
            device = self._device(record, context)
            source = record if self.time_of == "record" else document
            at = None if self.time is None else self._time(self.time.search(source, "time"))
            if self.tests:
                parsed.tests.append((position, self._test(record, device, at, context)))
                return
        except RecordError as exc:
            parsed.refuse(position * max(len(self.values), 1), exc)
            return
        t_ms = float(context.received_ms) if at is None else at.timestamp() * 1000
        found = 0
        first = position * len(self.values)  # each value has a place of its own
        for place, number in enumerate(self.values, start=first):
            try:
                value = number.read(record)
            except RecordError as exc:
                parsed.refuse(place, exc)
                found += 1
                continue
            if value is not None:
                found += 1
                parsed.values.append(Value(place, device, number.indicator.code, t_ms, value))
        if not found:
            codes = ", ".join(number.indicator.code for number in self.values)
            said = f"mapping {self.name!r} finds none of {codes} in it"
            parsed.refuse(first, RecordError("values", said))

    def _device(self, record: object, context: Context) -> str:
        if self.device_path is None:
            return context.device
        found = self.device_path.search(record, "device_path")
        if not isinstance(found, str):
            said = f"{self.device_path.text!r} finds {kind_of(found)}, not text"
            raise RecordError("device_path", said)
        return device_path(found, "device_path")

    def _time(self, found: object) -> datetime:
        try:
            if isinstance(found, str):
                at = datetime.fromisoformat(found)
                return at if at.tzinfo is not None else at.replace(tzinfo=self.zone)
            number = _as_number(found, "time")
            if self.time_unit == "ms" or (self.time_unit == "auto" and number >= MS_FROM_S):
                number /= 1000
            return datetime.fromtimestamp(number, self.zone)
        except (ValueError, OverflowError, OSError) as exc:
            if isinstance(exc, RecordError):
                raise
            raise RecordError("time", f"{short(found)} is no time") from exc

    def _test(
        self, record: object, device: str, at: datetime | None, context: Context
    ) -> TestRecord:
        fields: dict[str, object] = {"device_id": device}
        for key, path in self.tests.items():
            found = path.search(record, f"tests.{key}")
            if found is not None:
                fields[key] = _test_field(found, f"tests.{key}")
        if at is not None:
            fields.setdefault("tested_at", at.isoformat())
        # Without an id of its own a record is known by what it says: said again, it is the same.
        said = json.dumps([context.station, fields], sort_keys=True, default=str).encode()
        for key in ("record_id", "dedup_key"):
            fields.setdefault(key, hashlib.sha256(said).hexdigest()[:32])
        try:
            return msgspec.convert(fields, TestRecord, strict=False)
        except msgspec.ValidationError as exc:
            raise RecordError("tests", str(exc)) from exc


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether an MQTT filter covers ``topic``.

    >>> (
    ...     topic_matches("agri/v1/+/raw/#", "agri/v1/hl-001/raw/a/SENSOR"),
    ...     topic_matches("a/+", "a/b/c"),
    ... )
    (True, False)
    """
    wanted, given = pattern.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(given) or level not in ("+", given[place]):
            return False
    return len(wanted) == len(given)


def _as_number(found: object, field: str) -> float:
    if isinstance(found, NoNumber):
        raise RecordError(field, found.reason)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise RecordError(field, f"{short(found)} is {kind_of(found)}, not a number")
    number = float(found)
    if not math.isfinite(number):
        raise RecordError(field, f"{short(found)} is no number that can be stored")
    return number


def _test_field(found: object, field: str) -> object:
    """Return one field of a test record as JSON would have it; a number as its shortest text, never a sum of bits."""
    if isinstance(found, bool | NoNumber) or not isinstance(found, str | int | float | list | dict):
        raise RecordError(field, f"{short(found)} is {kind_of(found)}")
    wanted = field.removeprefix("tests.")
    if isinstance(found, int | float) and wanted != "attempt":
        return str(found)
    return found


# ---------------------------------------------------------------- compiling


def compile_rules(tables: object, where: str, faults: list[str]) -> tuple[Rule, ...]:
    """Compile the ``[[mapping]]`` tables of a file; one line per fault, naming table and key, goes to ``faults``."""
    if not isinstance(tables, list):
        faults.append(f"{where}: mapping: is no list; write [[mapping]] on a line of its own")
        return ()
    rules: list[Rule] = []
    names: set[str] = set()
    for number, table in enumerate(tables, start=1):
        place = f"{where}: [[mapping]] {number}"
        if not isinstance(table, dict):
            faults.append(f"{place}: is no table")
            continue
        name = table.get("name")
        if isinstance(name, str) and name:
            place = f"{where}: [[mapping]] {name!r}"
            if name in names:
                faults.append(f"{place}: name: stands twice")
            names.add(name)
        parsed = read_table(MappingTable, table, place, faults)
        if parsed is not None:
            rules.append(_Compiler(place, faults).rule(parsed))
    return tuple(rules)


class _Compiler:
    """Compiles one table; collects what is wrong with it."""

    def __init__(self, where: str, faults: list[str]) -> None:
        self._where = where
        self._faults = faults

    def rule(self, table: MappingTable) -> Rule:
        if not (table.topic or table.device):
            self._say("device", "is missing: name a glob of devices, or a topic filter")
        if table.topic and not _is_filter(table.topic):
            self._say("topic", f"{table.topic!r} is no MQTT filter")
        if bool(table.values) + bool(table.tests) + bool(table.names) > 1:
            self._say("values", "stands beside tests or names: a mapping has one of the three")
        if not (table.values or table.tests or table.names) and table.records != "`[]`":
            self._say("values", "is missing: name indicators, tests, or names")
        for key in table.tests:
            if key not in _TEST_FIELDS:
                self._say(f"tests.{key}", f"no field of a test; known: {', '.join(_TEST_FIELDS)}")
        if table.tests and not (table.time or "tested_at" in table.tests):
            self._say("tests.tested_at", "is missing: name it, or time")
        for name, code in table.names.items():
            self._indicator(f"names.{name}", code)
        values = [self._number(code, given) for code, given in table.values.items()]
        return Rule(
            name=table.name,
            topic=table.topic,
            device=table.device,
            records=self._path("records", table.records),
            device_path=self._path("device_path", table.device_path) if table.device_path else None,
            device_levels=table.device_levels,
            time=self._path("time", table.time) if table.time else None,
            time_of=table.time_of,
            time_unit=table.time_unit,
            zone=self._zone(table.zone),
            values=[value for value in values if value is not None],
            tests={key: self._path(f"tests.{key}", text) for key, text in table.tests.items()},
            names=table.names,
        )

    def _say(self, key: str, text: str) -> None:
        self._faults.append(f"{self._where}: {key}: {text}")

    def _path(self, key: str, text: str) -> _Path:
        try:
            return _Path(text, jmespath.compile(text))
        except (jmespath.exceptions.JMESPathError, ValueError, RecursionError) as exc:
            self._say(key, f"{text!r} is no JMESPath: {' '.join(str(exc).split())[:200]}")
            return _Path("@", jmespath.compile("@"))

    def _indicator(self, key: str, code: str) -> indicators.Indicator | None:
        try:
            return indicators.lookup(code)
        except indicators.UnknownIndicatorError as exc:
            self._say(key, str(exc))
            return None

    def _number(self, code: str, given: str | ValueTable) -> _Number | None:
        key = f"values.{code}"
        table = ValueTable(path=given) if isinstance(given, str) else given
        indicator = self._indicator(key, code)
        path = self._path(key, table.path)
        unit_path = self._path(f"{key}.unit_path", table.unit_path) if table.unit_path else None
        for number in (table.scale, table.offset):
            if not math.isfinite(number) or table.scale == 0:
                self._say(key, "scale must be a finite number other than 0, offset a finite one")
        if table.unit_names and unit_path is None:
            self._say(f"{key}.unit_names", "stands without unit_path")
        if indicator is None:
            return None
        for unit in {table.unit, *table.unit_names.values()} - {""}:
            try:
                indicator.conversion_from(unit)
            except units.UnitError as exc:
                self._say(f"{key}.unit", str(exc)[:300])
        return _Number(
            indicator,
            path,
            table.unit,
            unit_path,
            table.unit_names,
            table.scale,
            table.offset,
            table.required,
        )

    def _zone(self, text: str) -> timezone:
        match = _ZONE.fullmatch(text)
        if match is None or int(match[2]) > 14 or int(match[3]) > 59:
            self._say("zone", f"{text!r} is no offset from UTC; write +08:00")
            return UTC
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)


def _is_filter(text: str) -> bool:
    levels = text.split("/")
    return not any(
        ("#" in level and (level != "#" or place != len(levels) - 1))
        or ("+" in level and level != "+")
        for place, level in enumerate(levels)
    )
