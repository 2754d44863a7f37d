"""The ``[[station.device]]`` table of a rapid tester that prints on a serial port."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers import units
from drivers.device_table import DevicePath, read_table
from drivers.errors import ConfigError
from drivers.records import Purpose, ResultKind, SamplingStage, ScreenResult
from drivers.slip import words as slip_words
from drivers.slip.codec import BlockEnd, SlipReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.slip.words import Words

BAUDS = (1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200)


class DefaultsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the instrument cannot know; a value on the slip goes before it."""

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
    driver: Literal["slip"] = "slip"
    station: str = ""
    serial: Annotated[str, msgspec.Meta(min_length=1)]
    baud: int = 9600
    format: Literal["8N1", "8E1", "8O1", "8N2", "7E1"] = "8N1"
    charset: Literal["auto", "gbk", "gb18030", "utf-8", "latin-1"] = "auto"
    block_end: list[BlockEnd] = msgspec.field(default_factory=lambda: list(BlockEnd))
    start_label: str = "样品编号"
    end_label: str = ""
    idle_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    serial_no: str = ""
    device_model: str = ""
    defaults: dict[str, object] = {}
    labels: dict[str, str] = {}
    verdicts: dict[str, ScreenResult] = {}
    parameters: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class SlipDevice:
    """One rapid tester; ``idle_s`` of silence end a slip that has no other end."""

    path: str
    station: str
    serial: str
    baud: int
    format: str
    charset: str
    ends: frozenset[BlockEnd]
    start_label: str
    end_label: str
    idle_s: float
    serial_no: str
    device_model: str
    defaults: DefaultsTable
    lod: Decimal | None
    loq: Decimal | None
    words: Words

    @property
    def poll_interval_s(self) -> float:
        """0: the instrument speaks by itself."""
        return 0.0

    @property
    def bus(self) -> str:
        """Key of the bus: the serial port."""
        return f"serial:{self.serial}"

    def reader(self) -> SlipReader:
        """Return a fresh reader for this instrument's stream."""
        return SlipReader(
            charset=self.charset,
            ends=self.ends,
            start_label=self.start_label,
            end_label=self.end_label,
        )


def parse(table: Mapping[str, object], where: str) -> SlipDevice:
    """Return the device in ``table``; raise ConfigError with every fault, each beginning with ``where``."""
    faults: list[str] = []
    read = read_table(DeviceTable, table, where, faults)
    raw_defaults = table.get("defaults", {})
    defaults = read_table(
        DefaultsTable,
        raw_defaults if isinstance(raw_defaults, dict) else {},
        f"{where}: defaults",
        faults,
    )
    if defaults is not None and defaults.unit:
        try:
            units.canonical(defaults.unit)
        except units.UnitError as exc:
            faults.append(f"{where}: defaults: unit: {exc}")
    limits = {} if defaults is None else {"lod": defaults.lod, "loq": defaults.loq}
    numbers = {
        name: _decimal(text, f"{where}: defaults: {name}", faults) for name, text in limits.items()
    }
    if read is not None:
        if read.baud not in BAUDS:
            faults.append(f"{where}: baud: {read.baud} is none of {', '.join(map(str, BAUDS))}")
        faults.extend(
            f"{where}: labels: {label!r}: {name!r} is no field; known: {', '.join(sorted(slip_words.FIELDS))}"
            for label, name in read.labels.items()
            if name not in slip_words.FIELDS
        )
    if read is None or defaults is None or faults:
        raise ConfigError(faults)
    return SlipDevice(
        path=read.path,
        station=read.station,
        serial=read.serial,
        baud=read.baud,
        format=read.format,
        charset=read.charset,
        ends=frozenset(read.block_end),
        start_label=read.start_label,
        end_label=read.end_label,
        idle_s=read.idle_s,
        serial_no=read.serial_no,
        device_model=read.device_model,
        defaults=defaults,
        lod=numbers["lod"],
        loq=numbers["loq"],
        words=slip_words.built_in().extended(
            labels=read.labels, verdicts=read.verdicts, parameters=read.parameters
        ),
    )


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
