"""The configuration files of every process of the demo county, made from ``places.py``."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.places import (
    AGENTS,
    BASES,
    INSTRUMENTS,
    MODBUS_STATIONS,
    PLOTS,
    REGIONS,
    STATIONS,
    SUBJECTS,
    TESTERS,
    Instrument,
    Table,
    Tester,
)
from gateway import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from demo.places import Scalar

# Generous: on a busy machine a reply that nobody waits for any more would be missing in the balance.
TIMEOUT_S = 3.0
CAP_MB = 512
RETENTION_DAYS = 90


@dataclass(frozen=True, slots=True)
class Script:
    """When the staged events happen, in seconds after the start of the simulators."""

    pollution_s: float = 16.0
    pollution_hold_s: float = 900.0
    inhibition_s: float = 24.0
    banned_s: float = 32.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of a run; ``modbus`` has one per station in ``MODBUS_STATIONS``."""

    http: int
    mqtt: int
    receiver: int
    modbus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker is, and what it speaks; the embedded one knows 3.1.1 only."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password_file: str = ""
    protocol: str = "3.1.1"


@dataclass(frozen=True, slots=True)
class CountyFiles:
    """What ``write_county`` wrote and where the processes will write."""

    server: Path
    simulators: Path
    agents: dict[str, Path]
    registry: Path
    secret: Path
    journal_dir: Path
    receiver_journal: Path
    api_key: Path


def write_county(
    directory: Path, *, ports: Ports, broker: Broker, api_key: Path, script: Script | None = None
) -> CountyFiles:
    """Write every configuration file of the county under ``directory``, with keys and secret; return where they are.

    Each station's agent key is made here and its public half registered, so every station is approved from the start.
    """
    directory = directory.resolve()
    files = CountyFiles(
        server=directory / "server.toml",
        simulators=directory / "sim.toml",
        agents={name: directory / "agents" / name / "edge.toml" for name in AGENTS},
        registry=directory / "registry.toml",
        secret=directory / "webhook.secret",
        journal_dir=directory / "journal",
        receiver_journal=directory / "journal" / "received.jsonl",
        api_key=api_key.resolve(),
    )
    files.journal_dir.mkdir(parents=True, exist_ok=True)
    _write_secret(files.secret)
    public_keys = {
        station: _make_key(files.agents[name].parent / "data" / station)
        for name, stations in AGENTS.items()
        for station in stations
    }
    files.registry.write_text(_registry(public_keys), "utf-8")
    files.server.write_text(_server(directory, files, ports, broker), "utf-8")
    for name, stations in AGENTS.items():
        text = _agent(directory, files.agents[name].parent / "data", stations, ports, broker)
        files.agents[name].write_text(text, "utf-8")
    files.simulators.write_text(
        _simulators(directory, files.journal_dir, ports, script or Script()), "utf-8"
    )
    return files


def pty_link(directory: Path, tester: Tester) -> Path:
    """Return the stable name of a tester's serial port."""
    return directory / "ptys" / f"{tester.station}-{tester.path}"


def _write_secret(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() + "\n", "ascii")


def _make_key(station_dir: Path) -> str:
    station_dir.mkdir(parents=True, exist_ok=True)
    return keys.public_text(keys.load_or_create(station_dir / "agent.key"))


def _registry(public_keys: Mapping[str, str]) -> str:
    devices: list[Table] = [
        {
            "station": item.station,
            "path": item.path,
            "name": item.name,
            "model": item.model,
            "serial_no": item.serial_no,
            "plot": item.plot,
        }
        for item in INSTRUMENTS
    ]
    devices += [
        {
            "station": item.station,
            "path": item.path,
            "name": item.name,
            "model": item.model,
            "serial_no": item.serial_no,
        }
        for item in TESTERS
    ]
    stations = [{**station, "key": public_keys[str(station["code"])]} for station in STATIONS]
    return "\n".join(
        [
            *_tables("region", REGIONS),
            *_tables("subject", SUBJECTS),
            *_tables("base", BASES),
            *_tables("plot", PLOTS),
            *_tables("station", stations),
            *_tables("device", devices),
        ]
    )


def _broker(broker: Broker) -> Table:
    table: dict[str, Scalar] = {
        "host": broker.host,
        "port": broker.port,
        "protocol": broker.protocol,
    }
    if broker.username:
        table |= {"username": broker.username, "password_file": broker.password_file}
        table["allow_plaintext"] = True  # the demo's brokers have no TLS
    return table


def _server(directory: Path, files: CountyFiles, ports: Ports, broker: Broker) -> str:
    server: Table = {
        "data_dir": str(directory / "server"),
        "host": "127.0.0.1",
        "port": ports.http,
        "api_key_file": str(files.api_key),
    }
    webhook: Table = {
        "id": "county",
        "name": "县农业综合执法大队（演示）",
        "url": f"http://127.0.0.1:{ports.receiver}/hook",
        "secret_file": str(files.secret),
        "allow_http": True,
    }
    return "\n".join(
        [
            *_table("server", server),
            *_table("broker", {**_broker(broker), "open": True}),
            *_table("registry", {"file": str(files.registry)}),
            *_table("inbox", {"retention_days": RETENTION_DAYS}),
            *_tables("webhook", [webhook]),
        ]
    )


def _agent(
    directory: Path, data_dir: Path, stations: Iterable[str], ports: Ports, broker: Broker
) -> str:
    lines = [
        *_table("agent", {"data_dir": str(data_dir)}),
        *_table("broker", _broker(broker)),
        *_table("spool", {"cap_mb": CAP_MB}),
    ]
    for code in stations:
        lines += _tables("station", [{"code": code}])
        for item in INSTRUMENTS:
            if item.station == code:
                lines += _tables(
                    "station.device",
                    [
                        {
                            "path": item.path,
                            "driver": "modbus",
                            "host": "127.0.0.1",
                            "port": ports.modbus[MODBUS_STATIONS.index(code)],
                            "unit_id": item.unit_id,
                            "model": item.model,
                            "poll_interval_s": item.poll_interval_s,
                            "timeout_s": TIMEOUT_S,
                        }
                    ],
                )
                lines += _settings("station.device", item)
        for tester in TESTERS:
            if tester.station == code:
                lines += _tables(
                    "station.device",
                    [
                        {
                            "path": tester.path,
                            "driver": "slip",
                            "serial": str(pty_link(directory, tester)),
                            "baud": 9600,
                            "charset": "gbk",
                        }
                    ],
                )
                lines += _table("station.device.defaults", dict(tester.defaults))
    return "\n".join(lines)


def _settings(table: str, item: Instrument) -> list[str]:
    lines: list[str] = []
    for metric, scale, unit in item.settings:
        said: dict[str, str | float] = (
            {"unit": unit} if scale is None else {"scale": scale, "unit": unit}
        )
        lines += _table(f"{table}.settings.{metric}", said)
    for metric, order in item.orders:
        lines += _table(f"{table}.settings.{metric}", {"order": order})
    return lines


def _simulators(directory: Path, journal_dir: Path, ports: Ports, script: Script) -> str:
    lines = [*_pairs({"journal_dir": str(journal_dir), "seed": 640122}), ""]
    for station, port in zip(MODBUS_STATIONS, ports.modbus, strict=True):
        lines += _tables("gateway", [{"port": port}])
        for item in INSTRUMENTS:
            if item.station == station:
                lines += _tables(
                    "gateway.device",
                    [
                        {
                            "station": item.station,
                            "path": item.path,
                            "model": item.model,
                            "unit_id": item.unit_id,
                        }
                    ],
                )
                if item.centre:
                    lines += _table("gateway.device.centre", dict(item.centre))
                lines += _settings("gateway.device", item)
    lines += _tables(
        "printer",
        [
            {
                "station": item.station,
                "path": item.path,
                "link": str(pty_link(directory, item)),
                "kind": item.kind,
                "interval_s": item.interval_s,
                "first_number": item.first_number,
            }
            for item in TESTERS
        ],
    )
    lines += _tables("excursion", _excursions(script))
    lines += _tables("staged_slip", _staged_slips(script))
    return "\n".join(lines)


def _excursions(script: Script) -> list[Table]:
    """Return the pollution of the canal: acid and muddy water at the rice base.

    GB 5084-2021 Table 1: pH 5.5 to 8.5 for all crops, suspended solids at most 80 mg/L for paddy.
    """
    wave: Table = {
        "name": "pollution",
        "station": "hl-001",
        "start_s": script.pollution_s,
        "ramp_s": 5.0,
        "hold_s": script.pollution_hold_s,
    }
    acid: Table = {"device": "canal/ph", "indicator": "water_ph", "target": 5.08}
    mud: Table = {"device": "canal/ss", "indicator": "water_suspended_solids", "target": 146.0}
    return [
        {**wave, **acid, "comparator": "<", "limit": "5.5"},
        {**wave, **mud, "comparator": ">", "limit": "80"},
    ]


def _staged_slips(script: Script) -> list[Table]:
    """Return a leek that inhibits (it may be a false positive) and a banned drug in pork."""
    return [
        {
            "name": "inhibition",
            "station": "hl-003",
            "device": "tester1",
            "after_s": script.inhibition_s,
            "product_name": "韭菜",
            "item": "农药残留(酶抑制率)",
            "value": "63.2",
            "result": "不合格",
        },
        {
            "name": "banned",
            "station": "hl-006",
            "device": "tester2",
            "after_s": script.banned_s,
            "product_name": "猪肉",
            "item": "克伦特罗",
            "result": "阳性",
            "severity": "critical",
        },
    ]


def _pairs(table: Table) -> list[str]:
    # A JSON string is a TOML basic string; JSON numbers and booleans are TOML's.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]


def _table(name: str, table: Table) -> list[str]:
    return [f"[{name}]", *_pairs(table), ""]


def _tables(name: str, tables: Iterable[Table]) -> list[str]:
    return [line for table in tables for line in (f"[[{name}]]", *_pairs(table), "")]
