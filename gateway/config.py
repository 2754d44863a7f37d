"""``edge.toml``, read once into frozen models; every fault of the file is reported in one go.

Paths in the file are relative to the file's own directory.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from drivers.device_table import read_table
from drivers.errors import ConfigError
from drivers.registry import DRIVERS
from gateway.broker import BrokerLogin, LoginReader, LoginTable, read_enrolment
from gateway.wire import STATION_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from drivers.session import DeviceConfig, Driver

TABLES = ("agent", "broker", "spool", "station")
STATION_KEYS = ("code", "enrolment", "device")
# Settings that all devices of one line must share: it speaks at one speed, in one framing at a time.
LINE_SETTINGS = ("framing", "baud", "format")

# What names a file, a folder or a port in a device's table and in its ``transport``.
PATH_KEYS = ("serial", "folder", "key_file")

S = TypeVar("S", bound=msgspec.Struct)


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """``[agent]``: where the agent keeps what it must not lose, where its metrics are read and its own page is."""

    data_dir: Annotated[str, Meta(min_length=1)]
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    local_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class SpoolSize(msgspec.Struct, frozen=True, kw_only=True):
    """``[spool]``: how much disk one station's spool may take."""

    cap_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 512


@dataclass(frozen=True, slots=True)
class Device:
    """One configured device and the driver that reads it."""

    driver: Driver
    config: DeviceConfig


@dataclass(frozen=True, slots=True)
class Station:
    """One station of the agent, and how it reaches the broker."""

    code: str
    devices: tuple[Device, ...]
    broker: BrokerLogin


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """The whole of an ``edge.toml``; ``warnings`` are lines for a person that keep nothing from starting."""

    data_dir: Path
    spool_cap_bytes: int
    stations: tuple[Station, ...]
    warnings: tuple[str, ...] = ()
    metrics_port: int = 0
    local_port: int = 0


def load(path: Path) -> EdgeConfig:
    """Read ``path``; raise ConfigError with every fault: file, table, field, what to do."""
    return _Reader(path).read()


def data_dir(path: Path) -> Path:
    """Return the data directory that ``path`` names, whatever else is wrong in it; raise ConfigError."""
    reader = _Reader(path)
    agent = reader.table(reader.toml(), "agent", Agent)
    if agent is None:
        raise ConfigError(reader.faults)
    return reader.beside(agent.data_dir)


class _Reader:
    """Collects faults while it reads one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.faults: list[str] = []
        self.warnings: list[str] = []

    def beside(self, name: str) -> Path:
        """Return the path that ``name`` means in this file."""
        return self._path.parent / Path(name).expanduser()

    def _where(self, table: str) -> str:
        return f"{self._path}: [{table}]"

    def _fault(self, table: str, name: str, what: str) -> None:
        self.faults.append(f"{self._where(table)}: {name}: {what}")

    def toml(self) -> dict[str, object]:
        """Return the file's content; raise ConfigError when there is nothing to read faults from."""
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            fault = "no such file; name the configuration with -c"
        except OSError as exc:
            fault = f"cannot be read: {exc.strerror}"
        except UnicodeDecodeError as exc:
            fault = f"not UTF-8 at byte {exc.start}; save it as UTF-8"
        except tomllib.TOMLDecodeError as exc:
            fault = f"not TOML: {exc}"
        raise ConfigError([f"{self._path}: {fault}"])

    def read(self) -> EdgeConfig:
        """Read everything; raise ConfigError."""
        root = self.toml()
        for key in root.keys() - set(TABLES):
            self.faults.append(f"{self._path}: [{key}]: unknown table; {_advice(key, TABLES)}")
        agent = self.table(root, "agent", Agent)
        login = self._login(root)
        spool = self.table(root, "spool", SpoolSize)
        stations = self._stations(root.get("station"), login)
        if self.faults or agent is None or spool is None:
            raise ConfigError(self.faults)
        return EdgeConfig(
            data_dir=self.beside(agent.data_dir),
            spool_cap_bytes=spool.cap_mb * 1024 * 1024,
            stations=stations,
            warnings=tuple(self.warnings),
            metrics_port=agent.metrics_port,
            local_port=agent.local_port,
        )

    def table(self, root: Mapping[str, object], name: str, kind: type[S]) -> S | None:
        """Read ``[name]``; an absent one is read as empty, so that each missing field is named."""
        table = root.get(name, {})
        if not isinstance(table, dict):
            self.faults.append(
                f"{self._path}: {name}: is no table; write [{name}] on a line of its own"
            )
            return None
        return read_table(kind, table, self._where(name), self.faults)

    def _login(self, root: Mapping[str, object]) -> BrokerLogin | None:
        """Read ``[broker]``; it may be left out when every station has an enrolment file."""
        tables = root.get("station")
        if (
            "broker" not in root
            and isinstance(tables, list)
            and tables
            and all(isinstance(table, dict) and "enrolment" in table for table in tables)
        ):
            return None
        broker = self.table(root, "broker", LoginTable)
        if broker is None:
            return None
        reader = LoginReader(self._path.parent, self.faults, self.warnings)
        return reader.login(broker, self._where("broker"))

    def _enrolled(self, where: str, code: object, name: object) -> BrokerLogin | None:
        if not isinstance(name, str) or not name:
            self._fault(where, "enrolment", "must name the enrolment file of this station")
            return None
        file = self.beside(name)
        enrolment = read_enrolment(file, self.faults)
        if enrolment is None:
            return None
        if enrolment.role != "station":
            self._fault(where, "enrolment", f"{file} is for {enrolment.role}, not for a station")
        elif enrolment.code != code:
            self._fault(
                where,
                "enrolment",
                f"{file} is of station {enrolment.code}; name the file of {code}",
            )
        self.warnings.extend(enrolment.warnings)
        return enrolment.login

    # ---- stations

    def _stations(self, tables: object, login: BrokerLogin | None) -> tuple[Station, ...]:
        if not tables:
            self._fault("station", "code", "there is no station; write [[station]] and its code")
        stations = [
            self._station(f"station #{number}", table, login)
            for number, table in enumerate(self._tables("station", tables or []), 1)
        ]
        for code, count in Counter(s.code for s in stations if s.code).items():
            if count > 1:
                self._fault(
                    f"station {code}", "code", f"stands {count} times; one [[station]] per station"
                )
        self._check_buses(stations)
        return tuple(stations)

    def _tables(self, name: str, tables: object) -> Iterable[dict[str, object]]:
        if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
            return tables
        self.faults.append(f"{self._path}: {name}: must be a list of tables; write [[{name}]]")
        return []

    def _station(
        self, where: str, table: Mapping[str, object], login: BrokerLogin | None
    ) -> Station:
        code = table.get("code")
        if isinstance(code, str) and code:
            where = f"station {code}"
        for key in table.keys() - set(STATION_KEYS):
            self._fault(where, key, f"unknown key; {_advice(key, STATION_KEYS)}")
        if code is None:
            self._fault(where, "code", "is missing")
        elif not isinstance(code, str) or not STATION_CODE.fullmatch(code):
            self._fault(
                where,
                "code",
                f"{code!r} is no station code: 3 to 40 of a-z, 0-9 and '-', not beginning with '-'",
            )
        tables = list(self._tables("station.device", table.get("device", [])))
        for path, count in Counter(str(t["path"]) for t in tables if "path" in t).items():
            if count > 1:
                self._fault(
                    f"{where}, device {path}",
                    "path",
                    f"stands {count} times; give each device its own",
                )
        code = code if isinstance(code, str) else ""
        devices = [self._device(where, code, n, device) for n, device in enumerate(tables, 1)]
        if "enrolment" in table:
            login = self._enrolled(where, code, table["enrolment"])
        # Without a login there is a fault, and this station goes nowhere.
        login = login or BrokerLogin("", 0)
        return Station(code, tuple(device for device in devices if device is not None), login)

    def _device(
        self, station: str, code: str, number: int, table: Mapping[str, object]
    ) -> Device | None:
        where = f"{station}, device {table.get('path') or f'#{number}'}"
        name = table.get("driver")
        if name is None:
            self._fault(where, "driver", f"is missing; one of {', '.join(sorted(DRIVERS))}")
            return None
        driver = DRIVERS.get(str(name))
        if driver is None:
            self._fault(
                where, "driver", f"there is no driver {name!r}; {_advice(str(name), DRIVERS)}"
            )
            return None
        if "station" in table:
            self._fault(
                where, "station", "the device stands under its station already; leave it out"
            )
        rest = self._placed({key: value for key, value in table.items() if key != "driver"})
        transport = rest.get("transport")
        if isinstance(transport, dict):
            rest["transport"] = self._placed(transport)
        try:
            return Device(driver, driver.parse({**rest, "station": code}, self._where(where)))
        except ConfigError as exc:
            self.faults.extend(exc.faults)
            return None

    def _placed(self, table: Mapping[str, object]) -> dict[str, object]:
        return {
            key: str(self.beside(value))
            if key in PATH_KEYS and isinstance(value, str) and value
            else value
            for key, value in table.items()
        }

    def _check_buses(self, stations: list[Station]) -> None:
        """Devices on one bus must agree on driver and line settings, over all stations."""
        first: dict[str, tuple[str, Device]] = {}
        for station in stations:
            for device in station.devices:
                where = f"station {station.code}, device {device.config.path}"
                other_where, other = first.setdefault(device.config.bus, (where, device))
                if other is not device:
                    self._check_pair(where, device, other_where, other)
        self._check_unit_ids(stations)

    def _check_unit_ids(self, stations: list[Station]) -> None:
        """A unit id that only the map says must be one device's: else two would be read as one."""
        on_bus: dict[tuple[str, int], list[tuple[str, Device]]] = {}
        for station in stations:
            for device in station.devices:
                unit_id = getattr(device.config, "unit_id", None)
                if unit_id is not None:
                    where = f"station {station.code}, device {device.config.path}"
                    on_bus.setdefault((device.config.bus, unit_id), []).append((where, device))
        for (bus, unit_id), members in on_bus.items():
            for where, device in members:
                if len(members) > 1 and getattr(device.config, "unit_id_of_map", False):
                    others = ", ".join(f"[{other}]" for other, _ in members if other != where)
                    self._fault(
                        where,
                        "unit_id",
                        f"is missing; the map says {unit_id}, which on {bus} {others} has too",
                    )

    def _check_pair(self, where: str, device: Device, other_where: str, other: Device) -> None:
        bus = device.config.bus
        if device.driver is not other.driver:
            self._fault(
                where,
                "driver",
                f"{device.driver.name} on {bus}, where [{other_where}] has {other.driver.name};"
                " one line has one protocol",
            )
        elif device.driver.polled is None:
            self._fault(where, "path", f"{bus} belongs to [{other_where}]; one instrument per port")
        else:
            for name in LINE_SETTINGS:
                mine, theirs = getattr(device.config, name, None), getattr(other.config, name, None)
                if mine != theirs:
                    self._fault(
                        where,
                        name,
                        f"{mine!r} on {bus}, where [{other_where}] has {theirs!r}; make them the same",
                    )


def _advice(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
