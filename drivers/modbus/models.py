"""Register maps of real instruments, read from ``drivers/models/*.toml``; every fault at once."""

from __future__ import annotations

import difflib
import functools
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from drivers import indicators, units
from drivers.device_table import fraction, read_table
from drivers.errors import ConfigError
from drivers.modbus.points import Point, PointType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

FOLDER = Path(__file__).parent.parent / "models"
UNKNOWN = "unknown"
# What a map may leave open; the device's table must then say it.
OPEN_FIELDS = ("order", "scale", "unit")

Number = int | float | str
Confidence = Literal["confirmed", "community", "recalled", "mixed"]
Registers = Annotated[int, msgspec.Meta(ge=1, le=125)]
Address = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


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
    confidence: Confidence | None = None
    note: str = ""


class BlockTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One read that the device answers; it stays silent to any other."""

    address: Address
    count: Registers
    function: Literal[3, 4] | None = None


class SourceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a map was read."""

    where: str
    confidence: Confidence


class ModelTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of ``drivers/models``."""

    id: str
    vendor: str
    model: str
    kind: Literal["soil", "water", "level", "weather"]
    confidence: Confidence
    serial_line: str
    function: Literal[3, 4] = 3
    order: str = ""
    max_read: Registers
    exact_blocks_only: bool = False
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)]
    sentinels: list[int] = []
    quirks: list[str] = []
    points: Annotated[list[dict[str, object]], msgspec.Meta(min_length=1)]
    blocks: list[dict[str, object]] = []
    sources: Annotated[list[SourceTable], msgspec.Meta(min_length=1)]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A checked map: the file's table with its points and blocks read."""

    table: ModelTable
    points: tuple[PointTable, ...]
    blocks: tuple[BlockTable, ...]

    def open_settings(self) -> dict[str, tuple[str, ...]]:
        """Return what the device's table must settle: metric -> fields among order, scale, unit."""
        settings: dict[str, tuple[str, ...]] = {}
        for point in self.points:
            order = point.order or self.table.order
            values = {"order": order, "scale": point.scale, "unit": point.unit}
            missing = tuple(name for name in OPEN_FIELDS if values[name] == UNKNOWN)
            if missing:
                settings[point.metric] = missing
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
    least = 0 if table.type.words == 1 else 1 << bits // 2
    try:
        return Point(
            indicator=indicator.code,
            address=table.address,
            type=table.type,
            order=table.order or (order if table.type.words > 1 else ""),
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
        )
    except ValueError as exc:
        faults.append(f"{where}: {exc}")
        return None


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
    if table is None:
        raise ConfigError(faults)
    for i, point in enumerate(points):
        if not point.metric:
            faults.append(f"{file}: points[{i}]: metric: is missing; a map names the metric")
            continue
        settled = msgspec.structs.replace(
            point,
            order="ABCD" if (point.order or table.order) == UNKNOWN else point.order,
            scale=1 if point.scale == UNKNOWN else point.scale,
            unit=catalogue_unit(point.metric) if point.unit == UNKNOWN else point.unit,
        )
        build_point(
            settled,
            f"{file}: points[{i}] {point.metric}",
            faults,
            order=table.order,
            sentinels=table.sentinels,
        )
    if table.exact_blocks_only and not blocks:
        faults.append(
            f"{file}: blocks: is missing; exact_blocks_only needs the blocks that it answers"
        )
    if faults:
        raise ConfigError(faults)
    return Model(table=table, points=tuple(points), blocks=tuple(blocks))


def _tables(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def catalogue_unit(metric: str) -> str:
    """Return the catalogue's unit for a metric string, blank when it is unknown."""
    for indicator in indicators.catalogue().values():
        if metric in indicator.device_metrics:
            return indicator.unit
    return ""


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
