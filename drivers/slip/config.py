"""The ``[[station.device]]`` table of a rapid tester that prints on a serial port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers.device_table import DevicePath, read_table
from drivers.errors import ConfigError
from drivers.records import ScreenResult
from drivers.tester.config import (
    TesterDevice,
    defaults_limits,
    device_words,
    read_defaults,
)
from drivers.tester.key_value import KeyValueTable
from drivers.tester.printer import BlockEnd
from drivers.tester.transport import BAUDS, SerialPort

if TYPE_CHECKING:
    from collections.abc import Mapping


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


def parse(table: Mapping[str, object], where: str) -> TesterDevice:
    """Return the device in ``table``; raise ConfigError with every fault, each beginning with ``where``."""
    faults: list[str] = []
    read = read_table(DeviceTable, table, where, faults)
    said = table.get("defaults", {})
    defaults = read_defaults(said if isinstance(said, dict) else {}, where, faults)
    limits = (None, None) if defaults is None else defaults_limits(defaults, where, faults)
    if read is None or defaults is None:
        raise ConfigError(faults)
    if read.baud not in BAUDS:
        faults.append(f"{where}: baud: {read.baud} is none of {', '.join(map(str, BAUDS))}")
    words = device_words(read.labels, read.verdicts, read.parameters, where, faults)
    if faults:
        raise ConfigError(faults)
    return TesterDevice(
        path=read.path,
        station=read.station,
        transport=SerialPort(read.serial, read.baud, read.format),
        options=KeyValueTable(
            block_end=read.block_end, start_label=read.start_label, end_label=read.end_label
        ),
        charset=read.charset,
        idle_s=read.idle_s,
        serial_no=read.serial_no,
        device_model=read.device_model,
        defaults=defaults,
        lod=limits[0],
        loq=limits[1],
        words=words,
    )
