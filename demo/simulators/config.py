"""What the simulators are told: instruments on ports, buses and lines, and the script of staged events (sim.toml)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec

from demo.simulators.lines import SPEEDS
from demo.simulators.misbehaviour import MODBUS_SERIAL, MODBUS_TCP, Misbehaviour
from demo.simulators.models import load_model
from demo.simulators.testers.profiles import PROFILES
from drivers import indicators, units
from drivers.device_table import read_table
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)
UnitId = Annotated[int, msgspec.Meta(ge=0, le=255)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class FaultTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One misbehaviour: of each request with ``probability``, after ``after`` requests, at most ``count`` times."""

    kind: Misbehaviour
    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    after: Annotated[int, msgspec.Meta(ge=0)] = 0


class DeviceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Modbus instrument; ``centre`` moves the middle of an indicator for this place.

    ``settings`` says what the model's map leaves open: metric -> order, scale, unit. ``baud`` is of a serial bus only;
    the model's own when left out. ``refused`` are registers that it answers with exception 2.
    """

    station: str
    path: str
    model: str
    variant: str = ""
    unit_id: UnitId | None = None
    baud: int | None = None
    centre: dict[str, float] = {}
    settings: dict[str, dict[str, str | float]] = {}
    refused: list[Annotated[int, msgspec.Meta(ge=0, le=65_535)]] = []
    late_s: Seconds = 1.5
    fault: list[FaultTable] = []


class GatewayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TCP port and the instruments behind it; ``rtu`` and ``ascii`` are serial frames inside TCP."""

    host: str = "127.0.0.1"
    port: PortNumber
    framing: Literal["tcp", "rtu", "ascii"] = "tcp"
    device: list[DeviceTable]


class BusTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One serial bus: a pty linked at ``link``, or a port that exists at ``serial``.

    With ``timed`` each instrument takes the time that its bytes take, and hears only its own baud and stop bits.
    """

    link: Path | None = None
    serial: Path | None = None
    framing: Literal["rtu", "ascii"] = "rtu"
    baud: int = 9600
    timed: bool = True
    device: list[DeviceTable]


class TesterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rapid tester of ``profile`` on one of: ``link`` (a pty), ``serial``, ``listen``, ``connect``, ``folder``.

    ``listen`` and ``connect`` are host:port. ``results`` are held from the start, one each minute up to the present;
    with ``interval_s`` one more comes so often. Testers that print send each at once; the others wait to be asked.
    """

    __test__ = False  # not a pytest class

    station: str
    path: str
    profile: str
    link: Path | None = None
    serial: Path | None = None
    listen: str = ""
    connect: str = ""
    folder: Path | None = None
    baud: int = 9600
    results: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 8
    interval_s: Seconds = 0.0
    late_s: Seconds = 1.5
    fault: list[FaultTable] = []


class PrinterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rapid tester on a pty; ``kind`` is ``inhibition`` or ``strip``."""

    station: str
    path: str
    link: Path
    kind: str
    interval_s: float
    first_number: int


class ExcursionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A staged breach of a limit by a reading; times count from the start of the simulators."""

    name: str
    station: str
    device: str
    indicator: str
    target: float
    start_s: float
    ramp_s: float
    hold_s: float
    comparator: str
    limit: str
    severity: str = ""


class StagedSlipTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A staged positive."""

    name: str
    station: str
    device: str
    after_s: float
    product_name: str
    item: str
    value: str = ""
    result: str
    severity: str = ""


class SimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the simulator process needs."""

    journal_dir: Path
    seed: int = 1
    gateway: list[GatewayTable] = []
    bus: list[BusTable] = []
    tester: list[TesterTable] = []
    printer: list[PrinterTable] = []
    excursion: list[ExcursionTable] = []
    staged_slip: list[StagedSlipTable] = []


_LISTS: dict[str, type[msgspec.Struct]] = {
    "gateway": GatewayTable,
    "bus": BusTable,
    "tester": TesterTable,
    "printer": PrinterTable,
    "excursion": ExcursionTable,
    "staged_slip": StagedSlipTable,
}


def load(path: Path) -> SimConfig:
    """Return the configuration in ``path``; raise ConfigError listing every fault, each beginning with the file."""
    return parse(path.read_text("utf-8"), path.name)


def parse(text: str, file: str) -> SimConfig:
    """Return the configuration in ``text``; raise ConfigError listing every fault."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([f"{file}: {exc}"]) from exc
    faults: list[str] = []
    for name, kind in _LISTS.items():
        for i, table in enumerate(_tables(raw.get(name))):
            _check_table(kind, table, f"{file}: [[{name}]] {i + 1}", faults)
    # The lists were looked at table by table, with a place for each fault; here only the head can be wrong.
    head = {key: value for key, value in raw.items() if key not in _LISTS}
    faults.extend(
        f"{file}: {key}: write [[{key}]]"
        for key in _LISTS
        if key in raw and not isinstance(raw[key], list)
    )
    _read(SimConfig, head, file, faults)
    if faults:
        raise ConfigError(faults)
    config = msgspec.convert(raw, SimConfig, dec_hook=_path)
    _check_places(config, file, faults)
    if faults:
        raise ConfigError(faults)
    return config


def _check_table(
    kind: type[msgspec.Struct], table: Mapping[str, object], where: str, faults: list[str]
) -> None:
    """Add every fault of one table of a list, its devices and their faults with it."""
    inner: dict[str, type[msgspec.Struct]] = {"device": DeviceTable, "fault": FaultTable}
    flat: dict[str, object] = dict(table)
    for name, inside in inner.items():
        if name in {field.encode_name for field in msgspec.structs.fields(kind)}:
            for i, sub in enumerate(_tables(table.get(name))):
                _check_table(inside, sub, f"{where}: [[{name}]] {i + 1}", faults)
            if isinstance(table.get(name), list):
                flat[name] = []
    read = _read(kind, flat, where, faults)
    match read:
        case DeviceTable():
            _check_device(read, where, faults)
        case BusTable():
            if (read.link is None) == (read.serial is None):
                faults.append(f"{where}: link: give either link (a pty) or serial (a port)")
            _check_baud(read.baud, where, faults)
            _check_members(table, MODBUS_SERIAL, read.framing, where, faults)
        case GatewayTable():
            able = MODBUS_TCP if read.framing == "tcp" else MODBUS_SERIAL
            _check_members(table, able, read.framing, where, faults)
        case TesterTable():
            _check_tester(read, table, where, faults)
        case _:
            pass


def _check_device(read: DeviceTable, where: str, faults: list[str]) -> None:
    if read.baud is not None:
        _check_baud(read.baud, where, faults)
    try:
        model = load_model(read.model, read.settings, read.variant)
    except ConfigError as exc:
        faults.extend(f"{where}: {fault}" for fault in exc.faults)
        return
    except (
        KeyError,
        ValueError,
        indicators.UnknownIndicatorError,
        units.UnitError,
    ) as exc:
        faults.append(f"{where}: settings: {exc}")
        return
    known = {point.indicator for point in model.points}
    faults.extend(
        f"{where}: centre: {read.model} has no {code}; known: {', '.join(sorted(known))}"
        for code in read.centre
        if code not in known
    )


def _check_members(
    table: Mapping[str, object],
    able: frozenset[Misbehaviour],
    framing: str,
    where: str,
    faults: list[str],
) -> None:
    """Refuse two instruments with one id, and what an instrument on such a line cannot do."""
    used: dict[object, int] = {}
    for i, device in enumerate(_tables(table.get("device"))):
        unit = device.get("unit_id")
        if unit is not None and unit in used:
            faults.append(
                f"{where}: [[device]] {i + 1}: unit_id: {unit} is taken by device {used[unit]}"
            )
        used.setdefault(unit, i + 1)
        for fault in _tables(device.get("fault")):
            kind = fault.get("kind")
            if kind in set(Misbehaviour) and kind not in able:
                faults.append(
                    f"{where}: [[device]] {i + 1}: fault: {kind} cannot happen with framing {framing}"
                )


def _check_tester(
    read: TesterTable, table: Mapping[str, object], where: str, faults: list[str]
) -> None:
    _check_baud(read.baud, where, faults)
    places = ("link", "serial", "listen", "connect", "folder")
    said = [name for name in places if getattr(read, name)]
    if len(said) != 1:
        faults.append(f"{where}: link: give one of {', '.join(places)}, not {len(said)}")
    for name in ("listen", "connect"):
        value = getattr(read, name)
        if value and not _is_address(value):
            faults.append(f"{where}: {name}: {value!r} is not host:port")
    profile = PROFILES.get(read.profile)
    if profile is None:
        faults.append(
            f"{where}: profile: {read.profile!r} is not known; known: {', '.join(PROFILES)}"
        )
        return
    if not profile.prints and (read.connect or read.folder):
        faults.append(f"{where}: {said[0]}: {read.profile} waits to be asked; use link or listen")
    for fault in _tables(table.get("fault")):
        kind = fault.get("kind")
        if kind in set(Misbehaviour) and kind not in profile.faults:
            faults.append(f"{where}: fault: {kind} cannot happen with {read.profile}")


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and int(port) <= 65_535


def _check_baud(baud: int, where: str, faults: list[str]) -> None:
    if baud not in SPEEDS:
        faults.append(f"{where}: baud: {baud} is none of {', '.join(map(str, SPEEDS))}")


def _check_places(config: SimConfig, file: str, faults: list[str]) -> None:
    """Refuse two instruments with one name, and two lines in one place."""
    names: set[tuple[str, str]] = set()
    tables: list[DeviceTable | TesterTable | PrinterTable] = [
        *(device for gateway in config.gateway for device in gateway.device),
        *(device for bus in config.bus for device in bus.device),
        *config.tester,
        *config.printer,
    ]
    for table in tables:
        name = (table.station, table.path)
        if name in names:
            faults.append(f"{file}: path: {table.station}/{table.path} is there twice")
        names.add(name)
    for devices in (*(g.device for g in config.gateway), *(b.device for b in config.bus)):
        _check_units(devices, file, faults)
    places = [
        *(f"{gateway.host}:{gateway.port}" for gateway in config.gateway if gateway.port),
        *(str(bus.link or bus.serial) for bus in config.bus),
        *(str(t.link or t.serial or t.listen) for t in config.tester if t.link or t.listen),
        *(str(printer.link) for printer in config.printer),
    ]
    faults.extend(
        f"{file}: {place}: two lines are there"
        for place in sorted({p for p in places if places.count(p) > 1 and not p.endswith(":0")})
    )


def _check_units(devices: list[DeviceTable], file: str, faults: list[str]) -> None:
    """Refuse two instruments of one line that have the same unit id by their models."""
    used: dict[int, DeviceTable] = {}
    for device in devices:
        unit = device.unit_id
        if unit is None:
            unit = load_model(device.model, device.settings, device.variant).unit_id
        if unit in used:
            names = " and ".join(f"{d.station}/{d.path}" for d in (used[unit], device))
            faults.append(f"{file}: unit_id: {names} are both {unit} on one line")
        used.setdefault(unit, device)


def _read(kind: type[T], table: Mapping[str, object], where: str, faults: list[str]) -> T | None:
    """Read a table as ``read_table`` does; paths are text in TOML."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    texts = {
        key: value
        for key, value in table.items()
        if fields.get(key) in (Path, Path | None) and isinstance(value, str)
    }
    plain = {key: value for key, value in table.items() if key not in texts}
    stand_in = {key: Path(value) for key, value in texts.items()}
    return read_table(kind, plain | stand_in, where, faults)


def _tables(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _path(kind: type, text: object) -> Path:
    if kind is Path and isinstance(text, str):
        return Path(text)
    raise TypeError(f"expected a path, got {text!r}")
