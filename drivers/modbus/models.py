"""Register maps of real instruments, read from ``drivers/models/*.toml``; every fault at once."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers import indicators, units
from drivers.device_table import fraction, read_table
from drivers.errors import ConfigError
from drivers.modbus.lines import Format
from drivers.modbus.points import Check, Point, PointType, ScaleFrom
from drivers.modbus.steps import Action, Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

FOLDER = Path(__file__).parent.parent / "models"
UNKNOWN = "unknown"
# What a map may leave open; the device's table must then say it.
OPEN_FIELDS = ("order", "scale", "unit", "indicator")

Number = int | float | str
Confidence = Literal["confirmed", "community", "recalled", "mixed"]
Registers = Annotated[int, msgspec.Meta(ge=1, le=125)]
Address = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
UnitId = Annotated[int, msgspec.Meta(ge=0, le=255)]


class ScaleFromTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register that says the factor of a point: its number -> factor."""

    address: Address
    factors: Annotated[dict[str, Number], msgspec.Meta(min_length=1)]


class CheckTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register that must hold one of ``good`` for the point to be believed."""

    address: Address
    good: Annotated[list[int], msgspec.Meta(min_length=1)]
    quality: str = "bad:device"
    type: PointType = PointType.U16


class PointTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One point as written in a map or in a device's table; ``metric`` or ``indicator`` says what it measures."""

    metric: str = ""
    indicator: str = ""
    address: Address
    type: PointType
    order: str = ""
    scale: Number = 1
    offset: Number = 0
    unit: str
    sentinels: list[int] = []
    valid_min: Number | None = None
    valid_max: Number | None = None
    function: Literal[3, 4] | None = None
    mask: Annotated[int, msgspec.Meta(ge=0)] = 0
    scale_from: ScaleFromTable | None = None
    checks: list[CheckTable] = []
    optional: bool = False
    confidence: Confidence | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """Name of the point in faults and settings."""
        return self.metric or self.indicator


class BlockTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One read that the device answers; it stays silent to any other."""

    address: Address
    count: Registers
    function: Literal[3, 4] | None = None


class SourceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a map was read."""

    where: str
    confidence: Confidence


class LineTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Factory settings of the serial line."""

    baud: Annotated[int, msgspec.Meta(ge=300, le=115_200)]
    format: Format
    unit_id: UnitId
    also_seen_baud: list[int] = []
    note: str = ""


class UnitIdQueryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question that a device answers whose unit id is not known; only one device may be on the bus.

    ``id_in``: the id stands in the register that comes back (or in its upper byte), or the reply's own unit id is
    it. Without an address
    the source names only the unit id to ask. ``reply_unit`` answers when ``unit_id`` was asked (blank: the same).
    """

    unit_id: UnitId
    address: Address | None = None
    count: Annotated[int, msgspec.Meta(ge=0, le=125)] = 1
    function: Literal[3, 4] = 3
    reply_unit: UnitId | None = None
    id_in: Literal["register", "register_high_byte", "reply_unit", "unknown"] = "unknown"
    note: str = ""


class IdentityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers that tell which instrument answers: ``ascii`` text, or the registers in ``hex``."""

    name: str
    address: Address
    count: Registers = 1
    function: Literal[3, 4] | None = None
    encoding: Literal["ascii", "hex"] = "hex"
    equals: int | None = None
    note: str = ""


class StepTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a poll: write, wait, read registers and drop them, or ``points`` where the points are read."""

    do: Action
    function: int = 0
    address: Address = 0
    count: Annotated[int, msgspec.Meta(ge=0, le=125)] = 0
    values: list[Address] = []
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=120_000)] = 0
    optional: bool = False
    note: str = ""


class VariantTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sister instruments of the file that share all but their points."""

    names: Annotated[list[str], msgspec.Meta(min_length=1)]
    unit_id: UnitId | None = None
    points: Annotated[list[dict[str, object]], msgspec.Meta(min_length=1)]
    blocks: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    note: str = ""


class ModelTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of ``drivers/models``."""

    id: str
    vendor: str
    model: str
    kind: Literal["soil", "water", "level", "weather", "air", "flow"]
    confidence: Confidence
    line: LineTable
    reply_unit: UnitId | None = None
    unit_id_query: UnitIdQueryTable | None = None
    unit_id_register: Address | None = None
    identity: list[IdentityTable] = []
    function: Literal[3, 4] = 3
    order: str = ""
    max_read: Registers
    exact_blocks_only: bool = False
    gap_ms: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 20
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)]
    sentinels: list[int] = []
    quirks: list[str] = []
    points: list[dict[str, object]] = []
    blocks: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    variants: list[dict[str, object]] = []
    sources: Annotated[list[SourceTable], msgspec.Meta(min_length=1)]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A checked map: the file's table with its points, blocks and steps read.

    ``variants`` are whole models by name. A file whose points all stand in variants has no points itself: one of
    its variants must be chosen.
    """

    table: ModelTable
    points: tuple[PointTable, ...]
    blocks: tuple[BlockTable, ...]
    steps: tuple[Step, ...] = ()
    unit_id: int
    variant: str = ""
    variants: Mapping[str, Model] = {}

    def open_settings(self) -> dict[str, tuple[str, ...]]:
        """Return what the device's table must settle: metric -> fields among order, scale, unit, indicator."""
        settings: dict[str, tuple[str, ...]] = {}
        for point in self.points:
            order = point.order or self.table.order
            values = {
                "order": order if point.type.element_words > 1 else "",
                "scale": point.scale,
                "unit": point.unit,
                "indicator": point.indicator,
            }
            missing = tuple(name for name in OPEN_FIELDS if values[name] == UNKNOWN)
            if missing:
                settings[point.key] = missing
        return settings


def read_points(
    tables: Sequence[Mapping[str, object]], where: str, faults: list[str]
) -> list[PointTable]:
    """Return the points that could be read; faults name them ``points[i]``."""
    read = (
        read_table(PointTable, t, f"{where}: points[{i}]", faults) for i, t in enumerate(tables)
    )
    return [point for point in read if point is not None]


def read_blocks(
    tables: Sequence[Mapping[str, object]], where: str, faults: list[str]
) -> list[BlockTable]:
    """Return the blocks that could be read; faults name them ``blocks[i]``."""
    read = (
        read_table(BlockTable, t, f"{where}: blocks[{i}]", faults) for i, t in enumerate(tables)
    )
    return [block for block in read if block is not None]


def read_steps(tables: Sequence[Mapping[str, object]], where: str, faults: list[str]) -> list[Step]:
    """Return the steps that could be read; faults name them ``steps[i]``."""
    steps: list[Step] = []
    for i, table in enumerate(tables):
        read = read_table(StepTable, table, f"{where}: steps[{i}]", faults)
        if read is None:
            continue
        try:
            steps.append(
                Step(
                    do=read.do,
                    function=read.function,
                    address=read.address,
                    count=read.count,
                    values=tuple(read.values),
                    wait_ms=read.wait_ms,
                    optional=read.optional,
                )
            )
        except ValueError as exc:
            faults.append(f"{where}: steps[{i}]: {exc}")
    if sum(step.do is Action.POINTS for step in steps) > 1:
        faults.append(f"{where}: steps: the points are read once; leave one do = 'points'")
    return steps


def build_point(
    table: PointTable,
    where: str,
    faults: list[str],
    *,
    order: str = "",
    function: int = 3,
    sentinels: Sequence[int] = (),
) -> Point | None:
    """Return the point, or None after adding its faults; the keywords stand for what the table leaves out."""
    before = len(faults)
    scale_from = _scale_from(table, where, faults)
    numbers: dict[str, Fraction | None] = {}
    for name in ("scale", "offset", "valid_min", "valid_max"):
        written = getattr(table, name)
        try:
            numbers[name] = None if written is None else fraction(written)
        except (ValueError, OverflowError):
            faults.append(f"{where}: {name}: {written!r} is not a number; write a decimal or 'a/b'")
    if bool(table.metric) == bool(table.indicator):
        faults.append(f"{where}: indicator: give either indicator or metric")
        return None
    try:
        if table.metric:
            indicator, conversion = indicators.metric(table.metric, table.unit)
        else:
            indicator = indicators.lookup(table.indicator)
            conversion = indicator.conversion_from(table.unit)
    except indicators.UnknownIndicatorError as exc:
        faults.append(f"{where}: {'metric' if table.metric else 'indicator'}: {exc}")
        return None
    except units.UnitError as exc:
        faults.append(f"{where}: unit: {exc}")
        return None
    if len(faults) != before:
        return None
    bits = 16 * table.type.words
    wide = table.type.element_words > 1
    least = 0 if table.type.words == 1 else 1 << bits // 2
    try:
        return Point(
            indicator=indicator.code,
            address=table.address,
            type=table.type,
            order=table.order or (order if wide else ""),
            scale=numbers["scale"] or fraction(0),
            offset=numbers["offset"] or fraction(0),
            conversion=conversion,
            # A device's sentinel of 16 bits says nothing about its wider points, and the reverse.
            sentinels=frozenset(
                [*table.sentinels, *(s for s in sentinels if least <= s < 1 << bits)]
            ),
            valid_min=numbers["valid_min"],
            valid_max=numbers["valid_max"],
            function=table.function or function,
            mask=table.mask,
            scale_from=scale_from,
            checks=tuple(
                Check(check.address, frozenset(check.good), check.quality, check.type)
                for check in table.checks
            ),
        )
    except ValueError as exc:
        faults.append(f"{where}: {exc}")
        return None


def _scale_from(table: PointTable, where: str, faults: list[str]) -> ScaleFrom | None:
    if table.scale_from is None:
        return None
    try:
        factors = tuple(
            (int(said, 0), fraction(factor)) for said, factor in table.scale_from.factors.items()
        )
    except (ValueError, OverflowError) as exc:
        faults.append(f"{where}: scale_from: factors: {exc}")
        return None
    return ScaleFrom(table.scale_from.address, factors)


def parse(text: str, file: str) -> Model:
    """Return the model in ``text``; raise ConfigError with every fault, each beginning with ``file``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"{file}: {exc}"]) from exc
    faults: list[str] = []
    table = read_table(ModelTable, raw, file, faults)
    # Points are looked at even when the head is at fault, so that one run names everything.
    points = read_points(_tables(raw.get("points")), file, faults)
    blocks = read_blocks(_tables(raw.get("blocks")), file, faults)
    steps = read_steps(_tables(raw.get("steps")), file, faults)
    if table is None:
        raise ConfigError(faults)
    model = Model(
        table=table,
        points=tuple(points),
        blocks=tuple(blocks),
        steps=tuple(steps),
        unit_id=table.line.unit_id,
    )
    variants: dict[str, Model] = {}
    for i, raw_variant in enumerate(table.variants):
        variants |= _variants(model, raw_variant, f"{file}: variants[{i}]", faults)
    if points or not variants:
        _check_points(model, file, faults)
    if faults:
        raise ConfigError(faults)
    return msgspec.structs.replace(model, variants=MappingProxyType(variants))


def _variants(
    base: Model, raw: Mapping[str, object], where: str, faults: list[str]
) -> dict[str, Model]:
    table = read_table(VariantTable, raw, where, faults)
    if table is None:
        return {}
    model = msgspec.structs.replace(
        base,
        points=tuple(read_points(table.points, where, faults)),
        blocks=tuple(read_blocks(table.blocks, where, faults)),
        steps=tuple(read_steps(table.steps, where, faults)),
        unit_id=base.unit_id if table.unit_id is None else table.unit_id,
    )
    _check_points(model, where, faults)
    return {name: msgspec.structs.replace(model, variant=name) for name in table.names}


def _check_points(model: Model, where: str, faults: list[str]) -> None:
    """Build every point with stand-ins for what is open, so that a faulty map is found without a device."""
    table = model.table
    if not model.points:
        faults.append(f"{where}: points: is missing")
    codes: set[str] = set()
    for i, point in enumerate(model.points):
        settled = msgspec.structs.replace(
            point,
            order="ABCD" if (point.order or table.order) == UNKNOWN else point.order,
            scale=1 if point.scale == UNKNOWN else point.scale,
            unit=catalogue_unit(point.key) if point.unit == UNKNOWN else point.unit,
            indicator="" if point.indicator == UNKNOWN else point.indicator,
        )
        name = f"{where}: points[{i}] {point.key}".rstrip()
        built = build_point(settled, name, faults, order=table.order, sentinels=table.sentinels)
        if built is not None and built.indicator in codes:
            faults.append(f"{name}: {built.indicator} is there twice; a reading needs one source")
        if built is not None:
            codes.add(built.indicator)
    if table.exact_blocks_only and not model.blocks:
        faults.append(
            f"{where}: blocks: is missing; exact_blocks_only needs the blocks that it answers"
        )


def _tables(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def catalogue_unit(name: str) -> str:
    """Return the catalogue's unit for a metric string or an indicator, blank when it is unknown."""
    for indicator in indicators.catalogue().values():
        if name == indicator.code or name in indicator.device_metrics:
            return indicator.unit
    return ""


def code_of_metric(metric: str) -> str:
    """Return the indicator of a metric string, the string itself when the catalogue has none."""
    for indicator in indicators.catalogue().values():
        if metric in indicator.device_metrics:
            return indicator.code
    return metric


def code_of(point: PointTable) -> str:
    """Return the indicator that a point means; its metric's own while the map leaves it open."""
    left_open = not point.indicator or point.indicator == UNKNOWN
    return code_of_metric(point.metric) if left_open else point.indicator


def shifted(point: PointTable, by: int) -> PointTable:
    """Return the point with every address ``by`` further on."""
    scale_from = point.scale_from
    if scale_from is not None:
        scale_from = msgspec.structs.replace(scale_from, address=scale_from.address + by)
    checks = [msgspec.structs.replace(c, address=c.address + by) for c in point.checks]
    return msgspec.structs.replace(
        point, address=point.address + by, scale_from=scale_from, checks=checks
    )


@functools.cache
def names() -> tuple[str, ...]:
    """Return the models that are there."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@functools.cache
def load(name: str) -> Model:
    """Return one model; raise ConfigError for an unknown name (with the nearest) or a faulty file."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names())}"
        raise ConfigError([f"model {name!r} is not known; {hint}"])
    path = FOLDER / f"{name}.toml"
    model = parse(path.read_text(encoding="utf-8"), f"models/{path.name}")
    if model.table.id != name:
        raise ConfigError([f"models/{path.name}: id: {model.table.id!r} is not the file's name"])
    return model


def load_all() -> Mapping[str, Model]:
    """Return every model; raise ConfigError listing the faults of all files."""
    found: dict[str, Model] = {}
    faults: list[str] = []
    for name in names():
        try:
            found[name] = load(name)
        except ConfigError as exc:
            faults.extend(exc.faults)
    if faults:
        raise ConfigError(faults)
    return MappingProxyType(found)
