"""Register maps of real instruments, read from ``drivers/models/*.toml``; every fault at once."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from drivers import indicators
from drivers.device_table import read_table
from drivers.errors import ConfigError
from drivers.modbus.build import build_point, read_blocks, read_points, read_steps
from drivers.modbus.model_tables import BlockTable, ModelTable, PointTable, VariantTable
from drivers.modbus.steps import Step

FOLDER = Path(__file__).parent.parent / "models"
UNKNOWN = "unknown"
# What a map may leave open; the device's table must then say it.
OPEN_FIELDS = ("order", "scale", "unit", "indicator")


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
