"""The ``[[station.device]]`` table of a Modbus device, checked into points and blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers.device_table import DevicePath, read_table
from drivers.errors import ConfigError
from drivers.modbus import models
from drivers.modbus.build import build_point, read_blocks, read_points
from drivers.modbus.lines import BAUDS, Format, Line, SerialLine, TcpLine
from drivers.modbus.model_tables import BlockTable, Number, PointTable, Registers, UnitId
from drivers.modbus.plan import Block, coalesce
from drivers.modbus.steps import duration_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drivers.modbus.points import Point
    from drivers.modbus.steps import Step

MAX_TIMEOUT_S = 60.0
_INLINE_MAX_READ = 125  # Modbus application protocol V1.1b3 §6.3
_INLINE_TIMEOUT_S = 1.0
_SERIAL_GAP_MS = 20  # USB adapters hold bytes back for up to 16 ms
_PORT = 502
_DEFAULT_BAUD = 9600
_DEFAULT_FORMAT: Format = "8N1"

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table as written; ``README.md`` describes each key."""

    path: DevicePath
    driver: Literal["modbus"] = "modbus"
    station: str = ""
    host: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    serial: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    baud: int | None = None
    format: Format | None = None
    framing: Literal["tcp", "rtu", "ascii"] | None = None
    echo: bool = False
    unit_id: UnitId | None = None
    poll_interval_s: Seconds = 60.0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None
    gap_ms: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    model: str = ""
    variant: str = ""
    address_shift: Literal[-1, 0, 1] = 0
    settings: dict[str, dict[str, object]] = {}
    indicators: list[str] = []
    points: list[dict[str, object]] = []
    order: str = ""
    function: Literal[3, 4] = 3
    sentinels: list[int] = []
    max_read: Registers | None = None
    exact_blocks_only: bool = False
    blocks: list[dict[str, object]] = []


class SettingTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a map leaves open for one metric."""

    order: str | None = None
    scale: Number | None = None
    unit: str | None = None
    indicator: str | None = None


@dataclass(frozen=True, slots=True)
class ModbusDevice:
    """One Modbus device to poll; times in seconds, ``gap_ms`` of quiet between two requests on its bus."""

    path: str
    poll_interval_s: float
    line: Line
    unit_id: int
    timeout_s: float
    gap_ms: int
    points: tuple[Point, ...]
    blocks: tuple[Block, ...]
    max_read: int
    exact_blocks_only: bool
    model: str = ""
    variant: str = ""
    unit_id_of_map: bool = False
    """Whether the map said the unit id: another device on the bus may then not have it."""
    reply_unit: int | None = None
    steps: tuple[Step, ...] = ()
    station: str = ""
    """A bus may serve several stations, and each names its devices as it likes."""

    @property
    def bus(self) -> str:
        """Key of the bus: one TCP connection per host and port, or one serial port."""
        return self.line.bus

    @property
    def framing(self) -> str:
        """What frames its bus carries; one bus has one kind."""
        return self.line.framing


def parse(table: Mapping[str, object], where: str) -> ModbusDevice:
    """Return the device in ``table``; raise ConfigError with every fault, each beginning with ``where``."""
    faults: list[str] = []
    read = read_table(DeviceTable, table, where, faults)
    inline = table.get("points")
    if "host" not in table and "serial" not in table:
        faults.append(f"{where}: host (or serial): is missing")
    if "unit_id" not in table and not table.get("model"):
        faults.append(f"{where}: unit_id: is missing")
    if read is None:
        if isinstance(inline, list):  # look at the points even so: one run names everything
            read_points([p for p in inline if isinstance(p, dict)], where, faults)
        raise ConfigError(faults)
    _check_line(read, where, faults)
    if bool(read.model) == bool(read.points):
        faults.append(f"{where}: model: give either model or points")
        raise ConfigError(faults)
    device = _from_model(read, where, faults) if read.model else _from_points(read, where, faults)
    if device is None or faults:
        raise ConfigError(faults)
    return device


def _check_line(read: DeviceTable, where: str, faults: list[str]) -> None:
    """Refuse a device on two lines, keys of the other line, and what the line cannot do."""
    if read.host is not None and read.serial is not None:
        faults.append(f"{where}: serial: give either host or serial")
        return
    if read.serial is None:
        faults.extend(
            f"{where}: {name}: belongs to serial; a TCP line has none"
            for name in ("baud", "format", "echo")
            if getattr(read, name)
        )
        if read.framing == "ascii":
            faults.append(f"{where}: framing: ascii is for serial; over TCP write tcp or rtu")
        return
    if read.port is not None:
        faults.append(f"{where}: port: belongs to host; a serial line has none")
    if read.framing == "tcp":
        faults.append(f"{where}: framing: tcp is for host; on a serial port write rtu or ascii")
    if read.baud is not None and read.baud not in BAUDS:
        faults.append(f"{where}: baud: {read.baud} is none of {', '.join(map(str, BAUDS))}")
    if (read.format or _DEFAULT_FORMAT)[0] == "7" and read.framing != "ascii":
        faults.append(f"{where}: format: {read.format} has 7 data bits; rtu needs 8")


def _line(read: DeviceTable, baud: int = _DEFAULT_BAUD, form: Format = _DEFAULT_FORMAT) -> Line:
    """Return the line of a checked table; ``baud`` and ``form`` stand for what it leaves out."""
    if read.serial is None:
        return TcpLine(
            read.host or "", read.port or _PORT, "rtu" if read.framing == "rtu" else "tcp"
        )
    return SerialLine(
        path=read.serial,
        baud=read.baud or baud,
        format=read.format or form,
        framing="ascii" if read.framing == "ascii" else "rtu",
        echo=read.echo,
    )


def _gap_ms(read: DeviceTable, gap_ms: int) -> int:
    """Return the pause of the table, else on serial frames ``gap_ms``; a Modbus TCP server needs none."""
    if read.gap_ms is not None:
        return read.gap_ms
    return 0 if read.serial is None and read.framing != "rtu" else gap_ms


def _from_model(read: DeviceTable, where: str, faults: list[str]) -> ModbusDevice | None:
    faults.extend(
        f"{where}: {name}: belongs to inline points; the model says it"
        for name in ("sentinels", "exact_blocks_only", "blocks")
        if getattr(read, name)
    )
    model = _model(read, where, faults)
    if model is None:
        return None
    table = model.table
    if read.max_read is not None and read.max_read > table.max_read:
        faults.append(f"{where}: max_read: {read.model} answers {table.max_read} registers at most")
    model = _shifted(_with_chosen_points(read, model, where, faults), read.address_shift)
    settings = _settings(read, model, where, faults)
    points: list[Point] = []
    for written in model.points:
        settled = msgspec.structs.replace(written, **settings.get(written.key, {}))
        if written.indicator == models.UNKNOWN:
            settled = msgspec.structs.replace(settled, metric="")
        point = build_point(
            settled,
            f"{where}: settings.{written.key}",
            faults,
            order=table.order,
            function=table.function,
            sentinels=table.sentinels,
        )
        if point is not None:
            points.append(point)
    _check_unique(points, where, faults)
    if read.poll_interval_s * 1000 < duration_ms(model.steps):
        faults.append(
            f"{where}: poll_interval_s: one measurement of {read.model} takes "
            f"{duration_ms(model.steps) / 1000:g} s"
        )
    return _device(
        read,
        points,
        where,
        faults,
        blocks=model.blocks,
        function=table.function,
        max_read=min(read.max_read or table.max_read, table.max_read),
        exact=table.exact_blocks_only,
        timeout_s=table.timeout_ms / 1000,
        model=model,
    )


def _model(read: DeviceTable, where: str, faults: list[str]) -> models.Model | None:
    try:
        model = models.load(read.model)
    except ConfigError as exc:
        faults.extend(f"{where}: model: {fault}" for fault in exc.faults)
        return None
    if not read.variant and model.points:
        return model
    if read.variant in model.variants:
        return model.variants[read.variant]
    known = ", ".join(model.variants) or "none"
    said = f"{read.variant!r} is not known" if read.variant else "is missing"
    faults.append(f"{where}: variant: {said}; variants of {read.model}: {known}")
    return None


def _with_chosen_points(
    read: DeviceTable, model: models.Model, where: str, faults: list[str]
) -> models.Model:
    """Return the model with the points that ``indicators`` picks, else all but the optional ones."""
    codes = {point.key: models.code_of(point) for point in model.points}
    for point in model.points:  # an analyser's quantity is what the device's table says
        said = read.settings.get(point.key, {}).get("indicator")
        if point.indicator == models.UNKNOWN and isinstance(said, str):
            codes[point.key] = said
    # What is asked for and not there may be what an open point will be: then the setting is what is missing.
    strange = set(read.indicators) - set(codes.values())
    unsaid = {
        point.key
        for point in model.points
        if strange and point.indicator == models.UNKNOWN and point.key not in read.settings
    }
    if not unsaid:
        _check_chosen(read, list(codes.values()), where, faults)
    chosen = tuple(
        point
        for point in model.points
        if point.key in unsaid
        or (codes[point.key] in read.indicators if read.indicators else not point.optional)
    )
    return msgspec.structs.replace(model, points=chosen)


def _shifted(model: models.Model, by: int) -> models.Model:
    """Return the model ``by`` addresses on: some manuals count registers where others count addresses."""
    if not by:
        return model
    return msgspec.structs.replace(
        model,
        points=tuple(models.shifted(point, by) for point in model.points),
        blocks=tuple(
            msgspec.structs.replace(block, address=block.address + by) for block in model.blocks
        ),
        steps=tuple(
            replace(step, address=step.address + by) if step.asks else step for step in model.steps
        ),
    )


def _settings(
    read: DeviceTable, model: models.Model, where: str, faults: list[str]
) -> dict[str, dict[str, object]]:
    """Return metric -> what the device's table settles; what the map leaves open is required, the rest refused."""
    left_open = model.open_settings()
    any_order = [metric for metric, names in left_open.items() if "order" in names]
    if read.order and not any_order:
        faults.append(f"{where}: order: {read.model} fixes it already; leave it out")
    settled: dict[str, dict[str, object]] = (
        {metric: {"order": read.order} for metric in any_order} if read.order else {}
    )
    for metric, table in read.settings.items():
        if metric not in left_open:
            known = ", ".join(left_open) or "none"
            faults.append(
                f"{where}: settings.{metric}: {read.model} leaves nothing open there; open: {known}"
            )
            continue
        setting = read_table(SettingTable, table, f"{where}: settings.{metric}", faults)
        given = {} if setting is None else msgspec.structs.asdict(setting)
        said = {name: value for name, value in given.items() if value is not None}
        settled[metric] = settled.get(metric, {}) | said
        faults.extend(
            f"{where}: settings.{metric}.{name}: {read.model} fixes it already; leave it out"
            for name in said
            if name not in left_open[metric]
        )
    for metric, names in left_open.items():
        stand_in = {
            "order": "ABCD",
            "scale": 1,
            "unit": models.catalogue_unit(metric),
            "indicator": models.code_of_metric(metric),
        }
        for name in names:
            if name not in settled.get(metric, {}):
                if name not in read.settings.get(metric, {}):
                    faults.append(
                        f"{where}: settings.{metric}.{name}: is missing; "
                        f"the map of {read.model} does not say it"
                    )
                # A stand-in lets the rest be checked; the fault stops the device.
                settled.setdefault(metric, {})[name] = stand_in[name]
    return settled


def _from_points(read: DeviceTable, where: str, faults: list[str]) -> ModbusDevice | None:
    faults.extend(
        f"{where}: {name}: belongs to a model; write it into the points"
        for name in ("settings", "variant", "address_shift")
        if getattr(read, name)
    )
    points: list[Point] = []
    for i, table in enumerate(read.points):
        point_table = read_table(PointTable, table, f"{where}: points[{i}]", faults)
        if point_table is None:
            continue
        point = build_point(
            point_table,
            f"{where}: points[{i}]",
            faults,
            order=read.order,
            function=read.function,
            sentinels=read.sentinels,
        )
        if point is not None:
            points.append(point)
    _check_chosen(read, [point.indicator for point in points], where, faults)
    _check_unique(points, where, faults)
    if read.indicators:
        points = [point for point in points if point.indicator in read.indicators]
    return _device(
        read,
        points,
        where,
        faults,
        blocks=read_blocks(read.blocks, where, faults),
        function=read.function,
        max_read=read.max_read or _INLINE_MAX_READ,
        exact=read.exact_blocks_only,
        timeout_s=_INLINE_TIMEOUT_S,
    )


def _check_chosen(read: DeviceTable, codes: list[str], where: str, faults: list[str]) -> None:
    faults.extend(
        f"{where}: indicators: {code!r} is none of this device's: {', '.join(codes)}"
        for code in read.indicators
        if code not in codes
    )


def _check_unique(points: list[Point], where: str, faults: list[str]) -> None:
    codes = [point.indicator for point in points]
    faults.extend(
        f"{where}: points: {code} is there twice; a reading needs one source"
        for code in sorted({code for code in codes if codes.count(code) > 1})
    )


def _reply_unit(unit_id: int, model: models.Model | None) -> int | None:
    """Return who answers in place of the unit that is asked, None when it answers itself."""
    if model is None:
        return None
    query = model.table.unit_id_query
    if query is not None and query.reply_unit is not None and query.unit_id == unit_id:
        return query.reply_unit
    return model.table.reply_unit


def _device(
    read: DeviceTable,
    points: list[Point],
    where: str,
    faults: list[str],
    *,
    blocks: tuple[BlockTable, ...] | list[BlockTable],
    function: int,
    max_read: int,
    exact: bool,
    timeout_s: float,
    model: models.Model | None = None,
) -> ModbusDevice | None:
    faults.extend(
        f"{where}: {p.indicator}: {p.type} needs {p.end - p.start} registers, max_read is {max_read}"
        for p in points
        if p.end - p.start > max_read
    )
    if exact:
        read_blocks = _exact_blocks(points, blocks, function, where, faults)
    else:
        if blocks:
            faults.append(f"{where}: blocks: only with exact_blocks_only = true")
        read_blocks = coalesce(points, max_read)
    unit_id = read.unit_id
    if unit_id is None:
        unit_id = model.unit_id if model else 0  # without a model its absence is a fault by now
    return ModbusDevice(
        path=read.path,
        poll_interval_s=read.poll_interval_s,
        line=_line(read, model.table.line.baud, model.table.line.format) if model else _line(read),
        unit_id=unit_id,
        unit_id_of_map=read.unit_id is None,
        timeout_s=timeout_s if read.timeout_s is None else read.timeout_s,
        gap_ms=_gap_ms(read, model.table.gap_ms if model else _SERIAL_GAP_MS),
        points=tuple(points),
        blocks=read_blocks,
        max_read=max_read,
        exact_blocks_only=exact,
        model=read.model,
        variant=read.variant,
        reply_unit=_reply_unit(unit_id, model),
        steps=model.steps if model else (),
        station=read.station,
    )


def _exact_blocks(
    points: list[Point],
    tables: tuple[BlockTable, ...] | list[BlockTable],
    function: int,
    where: str,
    faults: list[str],
) -> tuple[Block, ...]:
    """Return the stated blocks that hold points; each point must lie in one."""
    left = list(points)
    blocks: list[Block] = []
    for table in tables:
        asked = table.function or function
        end = table.address + table.count
        inside = tuple(
            p for p in left if p.function == asked and table.address <= p.start and p.end <= end
        )
        left = [point for point in left if point not in inside]
        if inside:
            blocks.append(Block(asked, table.address, table.count, inside))
    faults.extend(
        f"{where}: {point.indicator}: address {point.address} lies in none of the blocks"
        for point in left
    )
    return tuple(blocks)
