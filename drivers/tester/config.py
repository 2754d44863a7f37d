"""The ``[[station.device]]`` table of a rapid tester, whatever its line and its words."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, assert_never

import msgspec

from drivers import units
from drivers.device_table import DevicePath, read_table
from drivers.errors import ConfigError
from drivers.records import Purpose, ResultKind, SamplingStage, ScreenResult
from drivers.tester import profiles
from drivers.tester import words as tester_words
from drivers.tester.anhui import AnhuiReader, AnhuiTable
from drivers.tester.binary_record import BinaryReader, BinaryTable
from drivers.tester.delimited import DelimitedReader, DelimitedTable
from drivers.tester.dialogue import Dialogue, message
from drivers.tester.fixed_width import FixedWidthReader, FixedWidthTable
from drivers.tester.items import ItemTable
from drivers.tester.json_records import JsonReader, JsonTable
from drivers.tester.key_value import KeyValueReader, KeyValueTable
from drivers.tester.transport import read_transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.tester.dialogue import StepTable
    from drivers.tester.profiles import Profile, ReaderName
    from drivers.tester.reader import Reader
    from drivers.tester.transport import Transport
    from drivers.tester.words import Words

ReaderOptions = (
    KeyValueTable | DelimitedTable | FixedWidthTable | JsonTable | BinaryTable | AnhuiTable
)
_Options = TypeVar("_Options", bound=msgspec.Struct)
_T = TypeVar("_T")


class DefaultsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the instrument cannot know; a value that it says goes before it."""

    parameter: str = ""
    method: str = ""
    method_standard: str = ""
    result_kind: ResultKind | None = None
    unit: str = ""
    lod: str = ""
    loq: str = ""
    purpose: Purpose | None = None
    sampling_stage: SamplingStage | None = None
    subject_id: str = ""
    tested_subject_name: str = ""
    base_id: str = ""
    plot_id: str = ""
    product_name: str = ""
    product_code: str = ""
    origin_text: str = ""
    tester: str = ""


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table as written; ``README.md`` describes each key."""

    path: DevicePath
    driver: Literal["tester"] = "tester"
    station: str = ""
    transport: dict[str, object]
    profile: str = ""
    reader: Literal[
        "", "key_value", "delimited", "fixed_width", "json", "binary_record", "anhui"
    ] = ""
    charset: Literal["", "auto", "gbk", "gb18030", "utf-8", "latin-1"] = ""
    idle_s: Annotated[float, msgspec.Meta(gt=0, le=60)] | None = None
    ask_every_s: Annotated[float, msgspec.Meta(ge=5, le=86_400)] = 600.0
    days_back: Annotated[int, msgspec.Meta(ge=1, le=31)] = 1
    serial_no: str = ""
    device_model: str = ""
    key_value: dict[str, object] = {}
    delimited: dict[str, object] = {}
    fixed_width: dict[str, object] = {}
    json: dict[str, object] = {}
    binary_record: dict[str, object] = {}
    items: dict[str, ItemTable] = {}
    defaults: dict[str, object] = {}
    labels: dict[str, str] = {}
    verdicts: dict[str, ScreenResult] = {}
    parameters: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class TesterDevice:
    """One rapid tester.

    ``idle_s`` of silence end what has no other end; an instrument that must be asked is asked each ``ask_every_s``.
    """

    path: str
    transport: Transport
    options: ReaderOptions
    charset: str
    defaults: DefaultsTable
    words: Words
    station: str = ""
    profile: str = ""
    idle_s: float = 2.0
    ask_every_s: float = 600.0
    serial_no: str = ""
    device_model: str = ""
    lod: Decimal | None = None
    loq: Decimal | None = None
    items: Mapping[int, ItemTable] = field(default_factory=dict)
    dialogue: Dialogue | None = None

    @property
    def poll_interval_s(self) -> float:
        """0: the session itself asks where it must."""
        return 0.0

    @property
    def bus(self) -> str:
        """Key of the bus: the port, address, folder or path."""
        return self.transport.bus

    def reader(self) -> Reader:
        """Return a fresh reader for this instrument's stream."""
        options, charset = self.options, self.charset
        match options:
            case KeyValueTable():
                return KeyValueReader(options, charset=charset)
            case DelimitedTable():
                return DelimitedReader(options, labels=self.words.labels, charset=charset)
            case FixedWidthTable():
                return FixedWidthReader(options, labels=self.words.labels, charset=charset)
            case JsonTable():
                return JsonReader(options, charset=charset)
            case BinaryTable():
                return BinaryReader(options, items=self.items, charset=charset)
            case AnhuiTable():
                return AnhuiReader()
            case _:
                assert_never(options)


def parse(table: Mapping[str, object], where: str) -> TesterDevice:
    """Return the device in ``table``; raise ConfigError with every fault, each beginning with ``where``."""
    faults: list[str] = []
    read = read_table(DeviceTable, table, where, faults)
    profile = _profile(table, where, faults)
    said = table.get("defaults")
    known = {} if profile is None else profile.defaults
    defaults = read_defaults({**known, **said} if isinstance(said, dict) else known, where, faults)
    raw_transport = table.get("transport")
    line = profiles.LineTable() if profile is None else profile.line
    transport = (
        read_transport(
            raw_transport,
            f"{where}: transport",
            faults,
            baud=line.baud,
            line_format=line.format,
        )
        if isinstance(raw_transport, dict)
        else None
    )
    if read is None:
        raise ConfigError(faults)
    options = _options(read, profile, where, faults)
    words = device_words(
        _joined(profile.labels if profile else {}, read.labels),
        _joined(profile.verdicts if profile else {}, read.verdicts),
        _joined(profile.parameters if profile else {}, read.parameters),
        where,
        faults,
    )
    items = _items(read, profile, where, faults)
    limits = None if defaults is None else defaults_limits(defaults, where, faults)
    if faults or defaults is None or transport is None or options is None or limits is None:
        raise ConfigError(faults)
    idle_s = read.idle_s or (2.0 if profile is None else profile.idle_s)
    return TesterDevice(
        path=read.path,
        station=read.station,
        transport=transport,
        profile=read.profile,
        options=options,
        charset=read.charset or ("auto" if profile is None else profile.charset),
        idle_s=idle_s,
        ask_every_s=read.ask_every_s,
        serial_no=read.serial_no,
        device_model=read.device_model or ("" if profile is None else profile.models[0]),
        defaults=defaults,
        lod=limits[0],
        loq=limits[1],
        words=words,
        items=items,
        dialogue=(
            Dialogue(profile.steps, days_back=read.days_back)
            if profile is not None and profile.steps
            else None
        ),
    )


def _joined(ours: Mapping[str, _T], more: Mapping[str, _T]) -> dict[str, _T]:
    return {**ours, **more}


def _profile(table: Mapping[str, object], where: str, faults: list[str]) -> Profile | None:
    """Return the profile that the table names: one of ours, or a file (a path that ends in .toml)."""
    name = table.get("profile")
    if not isinstance(name, str) or not name:
        return None
    try:
        profile = profiles.of_file(name) if name.endswith(".toml") else profiles.load(name)
    except ConfigError as exc:
        faults.extend(f"{where}: {fault}" for fault in exc.faults)
        return None
    wrong = step_faults(profile.steps)
    faults.extend(f"{where}: {fault}" for fault in wrong)
    return None if wrong else profile


def step_faults(steps: list[StepTable]) -> list[str]:
    """Return what is wrong with the steps of a profile, one line each."""
    day = dt.date(2026, 1, 1)
    wrong: list[str] = []
    known: set[str] = set()
    for step in steps:
        try:
            message(step, (day, day))
            bytes.fromhex(step.expect + step.more + step.end)
        except ValueError as exc:
            wrong.append(f"steps: {step.name}: {exc}")
        if bool(step.send) == bool(step.send_text):
            wrong.append(f"steps: {step.name}: needs either send or send_text")
        if step.after and step.after not in known:
            wrong.append(f"steps: {step.name}: after: no step before it is called {step.after!r}")
        if step.each == "index" and not step.after:
            wrong.append(f"steps: {step.name}: each: an index comes after the step that tells it")
        known.add(step.name)
    return wrong


def _options(
    read: DeviceTable, profile: Profile | None, where: str, faults: list[str]
) -> ReaderOptions | None:
    name: ReaderName | Literal[""] = read.reader or ("" if profile is None else profile.reader)
    tables: dict[str, dict[str, object]] = {
        "key_value": read.key_value,
        "delimited": read.delimited,
        "fixed_width": read.fixed_width,
        "json": read.json,
        "binary_record": read.binary_record,
    }
    faults.extend(
        f"{where}: {other}: the reader is {name or 'not named'}"
        for other, table in tables.items()
        if table and other != name
    )
    own = tables.get(name, {})
    place = f"{where}: {name}"
    match name:
        case "key_value":
            key_value = None if profile is None else profile.key_value
            return _overlaid(KeyValueTable, key_value, own, place, faults)
        case "delimited":
            delimited = None if profile is None else profile.delimited
            lines = _overlaid(DelimitedTable, delimited, own, place, faults)
            return _checked(lines, place, faults)
        case "fixed_width":
            fixed_width = None if profile is None else profile.fixed_width
            rows = _overlaid(FixedWidthTable, fixed_width, own, place, faults)
            return _checked(rows, place, faults)
        case "json":
            json = None if profile is None else profile.json
            return _overlaid(JsonTable, json, own, place, faults)
        case "binary_record":
            binary_record = None if profile is None else profile.binary_record
            frames = _overlaid(BinaryTable, binary_record, own, place, faults)
            return _checked(frames, place, faults)
        case "anhui":
            return AnhuiTable()
        case "":
            faults.append(f"{where}: needs a profile or a reader")
            return None
        case _:
            assert_never(name)


_Checked = TypeVar("_Checked", DelimitedTable, FixedWidthTable, BinaryTable)


def _checked(table: _Checked | None, where: str, faults: list[str]) -> _Checked | None:
    if table is not None:
        faults.extend(f"{where}: {fault}" for fault in table.faults())
    return table


def _overlaid(
    kind: type[_Options],
    base: _Options | None,
    own: Mapping[str, object],
    where: str,
    faults: list[str],
) -> _Options | None:
    """Return the profile's options with the device's own keys over them."""
    given = {} if base is None else {key: getattr(base, key) for key in kind.__struct_fields__}
    read = read_table(kind, own, where, faults)
    if read is None:
        return None
    return kind(**{**given, **{key: getattr(read, key) for key in own}})


def _items(
    read: DeviceTable, profile: Profile | None, where: str, faults: list[str]
) -> dict[int, ItemTable]:
    items: dict[int, ItemTable] = {}
    for key, item in read.items.items():
        if not key.isdecimal() or not 0 <= int(key) <= 255:
            faults.append(f"{where}: items: {key!r} is no number of an item, 0 to 255")
            continue
        if item.unit and not units.is_known(item.unit):
            faults.append(f"{where}: items: {key}: unit: {item.unit!r} is not known")
        items[int(key)] = item
    if profile is not None and profile.needs_items and not read.items:
        faults.append(
            f"{where}: items: is missing; {read.profile} tells items by number: write what each is on this instrument"
        )
    return items


def read_defaults(
    table: Mapping[str, object], where: str, faults: list[str]
) -> DefaultsTable | None:
    """Return the ``defaults`` of a device, or None after adding to ``faults``."""
    defaults = read_table(DefaultsTable, table, f"{where}: defaults", faults)
    if defaults is not None and defaults.unit:
        try:
            units.canonical(defaults.unit)
        except units.UnitError as exc:
            faults.append(f"{where}: defaults: unit: {exc}")
    return defaults


def defaults_limits(
    defaults: DefaultsTable, where: str, faults: list[str]
) -> tuple[Decimal | None, Decimal | None]:
    """Return (lod, loq) of the defaults as decimals."""
    return (
        _decimal(defaults.lod, f"{where}: defaults: lod", faults),
        _decimal(defaults.loq, f"{where}: defaults: loq", faults),
    )


def device_words(
    labels: Mapping[str, str],
    verdicts: Mapping[str, ScreenResult],
    parameters: Mapping[str, str],
    where: str,
    faults: list[str],
) -> Words:
    """Return the words of ``words.toml`` with an instrument's own before them."""
    faults.extend(
        f"{where}: labels: {label!r}: {name!r} is no field; known: {', '.join(sorted(tester_words.FIELDS))}"
        for label, name in labels.items()
        if name not in tester_words.FIELDS
    )
    return tester_words.built_in().extended(labels=labels, verdicts=verdicts, parameters=parameters)


def _decimal(text: str, where: str, faults: list[str]) -> Decimal | None:
    """Return the number in ``text`` (text, so that it stays decimal), None when blank or at fault."""
    if not text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        faults.append(f"{where}: {text!r} is not a decimal number")
        return None
    return number
