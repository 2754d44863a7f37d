"""The registry as a file: TOML with arrays of tables, or a folder of CSV files with the same columns."""

from __future__ import annotations

import base64
import csv
import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import sqlalchemy as sa
import structlog
from msgspec import Meta

from drivers import indicators
from drivers.device_table import DevicePath, read_table
from drivers.errors import ConfigError
from gateway.wire import STATION_CODE
from ingest import tables
from ingest.registry import decisions
from ingest.registry.context import CONDITION_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.operational import Operational

log = structlog.get_logger()

RegionCode = Annotated[str, Meta(pattern=r"^(\d{6}|\d{9}|\d{12})$")]
Id = Annotated[str, Meta(min_length=1, max_length=40)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Positive = Annotated[float, Meta(gt=0)]
YesNo = str | bool
"""``yes`` or ``no``, also written as a TOML boolean."""


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """One administrative division: 6 digits county, 9 township, 12 village."""

    code: RegionCode
    name: Text
    name_en: str = ""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised subject (主体)."""

    id: Id
    name: Text
    type: str
    region: RegionCode
    uscc: str = ""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """One production base of a subject."""

    id: Id
    subject: Id
    name: Text
    region: RegionCode


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One plot with what picks its limits; blank = not registered."""

    id: Id
    base: Id
    name: Text
    land_use: str = ""
    crop: str = ""
    water_use: str = ""
    soil_ph: Annotated[float, Meta(ge=0, le=14)] | None = None
    soil_salinity: str = ""
    fluoride_area: str = ""
    boron_tolerance: str = ""
    water_class: str = ""
    water_body: str = ""
    water: str = ""
    salmonid: YesNo = ""
    shellfish: YesNo = ""
    ice_covered: YesNo = ""
    animal: str = ""
    animal_age: str = ""


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """One station; ``key`` is its gateway's approved public key."""

    code: Annotated[str, Meta(pattern=f"^{STATION_CODE.pattern}$")]
    name: Text
    region: RegionCode
    name_en: str = ""
    type: str = "base"
    base: str = ""
    lon: Annotated[float, Meta(ge=-180, le=180)] | None = None
    lat: Annotated[float, Meta(ge=-90, le=90)] | None = None
    key: str = ""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a station; ``plot`` is where it measures."""

    station: str
    path: DevicePath
    name: Text
    model: str = ""
    serial_no: str = ""
    plot: str = ""


class QualityLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What is possible at one channel, in the indicator's unit; what is left out is learnt from the channel."""

    station: str
    device: DevicePath
    indicator: str
    min: float | None = None
    max: float | None = None
    spike: Positive | None = None
    rate_per_s: Positive | None = None
    flat_s: Positive | None = None
    gap_s: Positive | None = None


Row = Region | Subject | Base | Plot | Station | Device
R = TypeVar("R", bound=msgspec.Struct)
_ALLOWED = {key: {"", *words} for key, words in CONDITION_WORDS.items()}


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """Everything a registry file holds, checked."""

    regions: tuple[Region, ...]
    subjects: tuple[Subject, ...]
    bases: tuple[Base, ...]
    plots: tuple[Plot, ...]
    stations: tuple[Station, ...]
    devices: tuple[Device, ...]
    quality_limits: tuple[QualityLimit, ...] = ()


def load(path: Path) -> RegistryFile:
    """Read a TOML file or a folder of ``region.csv``, ``station.csv`` …; raise ConfigError with every fault."""
    faults: list[str] = []
    rows = _read_folder(path, faults) if path.is_dir() else _read_toml(path, faults)
    file = RegistryFile(
        regions=_rows(Region, rows, "region", faults),
        subjects=_rows(Subject, rows, "subject", faults),
        bases=_rows(Base, rows, "base", faults),
        plots=_rows(Plot, rows, "plot", faults),
        stations=_rows(Station, rows, "station", faults),
        devices=_rows(Device, rows, "device", faults),
        quality_limits=_rows(QualityLimit, rows, "quality_limit", faults),
    )
    _check(file, str(path), faults)
    if faults:
        raise ConfigError(faults)
    return file


_Rows = dict[str, list[tuple[str, dict[str, object]]]]  # kind → (where, table)
_REST = "(beyond the last column)"
_KINDS = ("region", "subject", "base", "plot", "station", "device", "quality_limit")
_NUMBERS = {"lon", "lat", "soil_ph", "min", "max", "spike", "rate_per_s", "flat_s", "gap_s"}


def _read_toml(path: Path, faults: list[str]) -> _Rows:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError([f"{path}: cannot be read: {exc}"]) from exc
    rows: _Rows = {}
    for kind, items in content.items():
        if kind not in _KINDS or not isinstance(items, list):
            faults.append(f"{path}: [{kind}]: unknown; write [[{']], [['.join(_KINDS)}]]")
            continue
        if not all(isinstance(item, dict) for item in items):
            faults.append(f"{path}: {kind}: must be a list of tables; write [[{kind}]]")
            continue
        rows[kind] = [(f"{path}: [[{kind}]] #{n}", item) for n, item in enumerate(items, 1)]
    return rows


def _read_folder(path: Path, faults: list[str]) -> _Rows:
    rows: _Rows = {}
    names = [f"{kind}.csv" for kind in _KINDS]
    if not any((path / name).exists() for name in names):
        faults.append(f"{path}: holds none of {', '.join(names)}")
    for kind in _KINDS:
        file = path / f"{kind}.csv"
        if not file.exists():
            continue
        try:
            with file.open(encoding="utf-8-sig", newline="") as handle:
                table = list(csv.DictReader(handle, restkey=_REST))
        except (OSError, UnicodeDecodeError, csv.Error) as exc:
            faults.append(f"{file}: cannot be read: {exc}")
            continue
        rows[kind] = [
            (f"{file}: line {n}", {key: _cell(key, text) for key, text in row.items() if text})
            for n, row in enumerate(table, 2)
        ]
    return rows


def _cell(key: str, text: str) -> object:
    if key in _NUMBERS:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _rows(kind: type[R], rows: _Rows, name: str, faults: list[str]) -> tuple[R, ...]:
    read = (read_table(kind, table, where, faults) for where, table in rows.get(name, []))
    return tuple(row for row in read if row is not None)


def _check(file: RegistryFile, path: str, faults: list[str]) -> None:
    keyed = {
        "region": [r.code for r in file.regions],
        "subject": [s.id for s in file.subjects],
        "base": [b.id for b in file.bases],
        "plot": [p.id for p in file.plots],
        "station": [s.code for s in file.stations],
        "device": [f"{d.station} {d.path}" for d in file.devices],
        "quality_limit": [f"{q.station} {q.device} {q.indicator}" for q in file.quality_limits],
    }
    for kind, names in keyed.items():
        for name, count in Counter(names).items():
            if count > 1:
                faults.append(f"{path}: [[{kind}]] {name}: stands {count} times")
    _check_references(file, {kind: set(names) for kind, names in keyed.items()}, path, faults)


def _check_references(
    file: RegistryFile, known: dict[str, set[str]], path: str, faults: list[str]
) -> None:
    def refer(where: str, name: str, kind: str, *, optional: bool = False) -> None:
        if name not in known[kind] and not (optional and not name):
            faults.append(f"{path}: {where}: {kind}: {name!r} is not in [[{kind}]]")

    for base in file.bases:
        refer(f"[[base]] {base.id}", base.subject, "subject")
    for plot in file.plots:
        refer(f"[[plot]] {plot.id}", plot.base, "base")
        for field, allowed in _ALLOWED.items():
            if _word(getattr(plot, field)) not in allowed:
                faults.append(
                    f"{path}: [[plot]] {plot.id}: {field}: {getattr(plot, field)!r};"
                    f" known: {', '.join(sorted(allowed - {''}))}"
                )
    for station in file.stations:
        refer(f"[[station]] {station.code}", station.base, "base", optional=True)
        if station.key and not _is_key(station.key):
            faults.append(f"{path}: [[station]] {station.code}: key: not base64 of 32 bytes")
    for device in file.devices:
        refer(f"[[device]] {device.path}", device.station, "station")
        refer(f"[[device]] {device.path}", device.plot, "plot", optional=True)
    _check_quality(file.quality_limits, known["device"], path, faults)


def _check_quality(
    limits: Sequence[QualityLimit], devices: set[str], path: str, faults: list[str]
) -> None:
    for limit in limits:
        where = f"{path}: [[quality_limit]] {limit.device}/{limit.indicator}"
        if f"{limit.station} {limit.device}" not in devices:
            faults.append(f"{where}: device: no such [[device]] at station {limit.station!r}")
        try:
            indicators.lookup(limit.indicator)
        except indicators.UnknownIndicatorError as exc:
            faults.append(f"{where}: indicator: {exc}")
        if limit.min is not None and limit.max is not None and limit.min >= limit.max:
            faults.append(f"{where}: min: {limit.min} is not below max {limit.max}")


def _word(value: object) -> object:
    return ("no", "yes")[value] if isinstance(value, bool) else value


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False


def sync(operational: Operational, file: RegistryFile, now_ms: int) -> None:
    """Bring the registry tables to what ``file`` says, in one transaction; rows it does not name stay."""
    with operational.write() as db:
        _upsert(db, tables.regions, [msgspec.structs.asdict(r) for r in file.regions])
        subjects = [_renamed(s, type="subject_type", region="region_code") for s in file.subjects]
        _upsert(db, tables.subjects, subjects)
        bases = [_renamed(b, subject="subject_id", region="region_code") for b in file.bases]
        _upsert(db, tables.bases, bases)
        plots = [_renamed(p, base="base_id") for p in file.plots]
        _upsert(db, tables.plots, [{k: _word(v) for k, v in plot.items()} for plot in plots])
        stations = [
            _renamed(s, type="station_type", region="region_code", base="base_id")
            for s in file.stations
        ]
        for station in stations:
            del station["key"]
            station["base_id"] = station["base_id"] or None
        _upsert(db, tables.stations, stations)
        devices = [_renamed(d, plot="plot_id") for d in file.devices]
        for device in devices:
            device["plot_id"] = device["plot_id"] or None
        _upsert(db, tables.devices, devices)
        limits = [msgspec.structs.asdict(limit) for limit in file.quality_limits]
        _upsert(db, tables.quality_limits, limits)
        for one in file.stations:
            if one.key:
                _adopt_key(db, one.code, one.key, now_ms)


def _adopt_key(db: sa.Connection, station: str, key: str, now_ms: int) -> None:
    """Approve a key that the file names; what a person decided about keys since then stands."""
    known = decisions.states(db, station)
    approved = [other for other, state in known.items() if state == "approved"]
    if key not in known:
        db.execute(
            sa.insert(tables.gateway_keys).values(
                station=station, key=key, state="pending", first_seen_ms=now_ms
            )
        )
    if key in approved:
        return
    if approved:
        log.warning(
            "registry_key_not_adopted",
            station=station,
            key=key,
            approved=approved[0],
            todo=f"was the gateway swapped? agrigate station replace {station} {key};"
            " if not, take the key out of the registry file",
        )
    elif known.get(key, "pending") != "pending":
        log.warning(
            "registry_key_not_adopted",
            station=station,
            key=key,
            state=known[key],
            todo=f"take it out of the registry file, or agrigate station approve {station} {key}",
        )
    else:
        decisions.approve(db, station, key)


def _renamed(row: msgspec.Struct, **names: str) -> dict[str, object]:
    return {names.get(key, key): value for key, value in msgspec.structs.asdict(row).items()}


def _upsert(db: sa.Connection, table: sa.Table, rows: Sequence[dict[str, object]]) -> None:
    """Insert or update by primary key."""
    names = [column.name for column in table.primary_key]
    keys = [table.c[name] for name in names]
    existing = {tuple(row) for row in db.execute(sa.select(*keys))}
    fresh = [row for row in rows if tuple(row[name] for name in names) not in existing]
    if fresh:
        db.execute(sa.insert(table), fresh)
    for row in rows:
        place = tuple(row[name] for name in names)
        if place in existing:
            values = {k: v for k, v in row.items() if k not in names}
            condition = sa.and_(*(key == value for key, value in zip(keys, place, strict=True)))
            db.execute(sa.update(table).where(condition).values(**values))
