"""The county under fire: who is in it, what its devices count, and the configuration files of every process.

Every served value is ``raw`` × 10⁻⁹, where ``raw`` is the count of the device's replies, so that each value of a series
is its own name. In an episode of a watched series it is ``BREACH`` + count, which is over every limit there is.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from drivers.indicators import catalogue
from gateway import keys

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from random import Random

SCALE = 10**9  # raw numbers in one unit
BREACH = 2 * SCALE
POLL_S = 0.5
TIMEOUT_S = 3.0
LOAD_WIDTH = 50  # indicators of a device that only counts; two registers each, 125 fit a request
EPISODE_S = 8.0
CAP_BYTES = 160 * 1024  # of the agents that are to lose: about twelve seconds of theirs
CLEAN_CAP_MB = 512
# One limit each, below 2 (GB 5084-2021, paddy), none of a process parameter: an alert is raised once and latches.
WATCHED = (
    "water_sulfide",
    "water_cyanide",
    "water_hg",
    "water_cd",
    "water_cr6",
    "water_as",
    "water_pb",
    "water_cu",
    "water_ni",
    "water_se",
    "water_volatile_phenol",
    "water_toluene",
    "water_xylene",
    "water_cumene",
    "water_aniline",
    "water_chlorobenzene",
    "water_1_2_dichlorobenzene",
    "water_1_4_dichlorobenzene",
    "water_chloral",
    "water_acrolein",
)


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """When a watched indicator is over its limit: seconds after the start of the run."""

    indicator: str
    start_s: float
    end_s: float


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated instrument: ``indicators`` in register order, two registers each."""

    path: str
    unit_id: int
    indicators: tuple[str, ...]
    episodes: tuple[Episode, ...] = ()


class Simulator(msgspec.Struct, frozen=True, kw_only=True):
    """What ``demo.chaos.counting`` is told."""

    port: int
    start_ms: int
    journal: str
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent with its one station; ``capped`` has a spool that overflows in an outage, and no watched series."""

    name: str
    station: str
    capped: bool
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports; ``links`` and ``modbus`` by agent, ``links`` also for the server."""

    http: int
    mqtt: int
    receiver: int
    links: dict[str, int]
    modbus: dict[str, int]


def agents(count: int, load_devices: int, seconds: float, rng: Random) -> tuple[Agent, ...]:
    """Return ``count`` agents, two of them capped; the others have a watched device each for every half of the run."""
    found = []
    for n in range(1, count + 1):
        capped = n > count - 2
        devices = [
            Device(path=f"load/{k}", unit_id=k, indicators=_plain())
            for k in range(1, load_devices + 1)
        ]
        if not capped:
            devices += [
                Device(
                    path=f"watch/{k}",
                    unit_id=100 + k,
                    indicators=WATCHED,
                    episodes=tuple(_episodes(seconds, rng)),
                )
                for k in (1, 2)
            ]
        found.append(Agent(f"edge-{n}", f"ch-{n:03}", capped, tuple(devices)))
    return tuple(found)


def _plain() -> tuple[str, ...]:
    """Return indicators that may be any small number without meaning anything."""
    fits = [
        code
        for code, known in catalogue().items()
        if known.medium in {"water", "air"}
        and (known.physical_min or 0.0) <= 0.0
        and (known.physical_max or 1.0) >= 1.0
    ]
    return tuple(fits[:LOAD_WIDTH])


def _episodes(seconds: float, rng: Random) -> Iterable[Episode]:
    latest = max(1.0, seconds - EPISODE_S - 2)
    for indicator in WATCHED:
        start_s = rng.uniform(1.0, latest)
        yield Episode(indicator=indicator, start_s=start_s, end_s=start_s + EPISODE_S)


def write(directory: Path, crew: Iterable[Agent], ports: Ports, start_ms: int) -> None:
    """Write the configuration of every process under ``directory``."""
    crew = tuple(crew)
    (directory / "journal").mkdir(parents=True)
    (directory / "webhook.secret").touch(mode=0o600)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    (directory / "webhook.secret").write_text(secret + "\n", "ascii")
    public = {}
    for agent in crew:
        home = directory / agent.name
        station_dir = home / "data" / agent.station
        station_dir.mkdir(parents=True)
        public[agent.station] = keys.public_text(keys.load_or_create(station_dir / "agent.key"))
        (home / "edge.toml").write_text(_edge(agent, ports), "utf-8")
        simulator = Simulator(
            port=ports.modbus[agent.name],
            start_ms=start_ms,
            journal=str(directory / "journal" / f"{agent.name}.jsonl"),
            devices=agent.devices,
        )
        (home / "sim.json").write_bytes(msgspec.json.encode(simulator))
    (directory / "registry.toml").write_text(_registry(crew, public), "utf-8")
    (directory / "server.toml").write_text(_server(directory, ports), "utf-8")
    (directory / "mosquitto.conf").write_text(
        f"listener {ports.mqtt} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        "max_queued_messages 10000\nlog_dest stdout\n",
        "ascii",
    )


def _edge(agent: Agent, ports: Ports) -> str:
    lines = [
        *_table("[agent]", data_dir="data"),
        *_table("[broker]", host="127.0.0.1", port=ports.links[agent.name], protocol="5"),
        *_table("[spool]", cap_mb=CLEAN_CAP_MB),
        *_table("[[station]]", code=agent.station),
    ]
    for device in agent.devices:
        lines += _table(
            "[[station.device]]",
            driver="modbus",
            path=device.path,
            host="127.0.0.1",
            port=ports.modbus[agent.name],
            unit_id=device.unit_id,
            poll_interval_s=POLL_S,
            timeout_s=TIMEOUT_S,
            order="ABCD",
        )
        for n, code in enumerate(device.indicators):
            lines += _table(
                "[[station.device.points]]",
                indicator=code,
                address=2 * n,
                type="u32",
                scale=f"1/{SCALE}",
                unit=catalogue()[code].unit,
            )
    return "\n".join(lines)


def _registry(crew: Iterable[Agent], public: dict[str, str]) -> str:
    lines = [
        *_table("[[region]]", code="640122", name="贺兰县"),
        *_table("[[subject]]", id="s1", name="示例合作社", type="cooperative", region="640122"),
        *_table("[[base]]", id="b1", subject="s1", name="示例基地", region="640122"),
    ]
    for agent in crew:
        lines += _table(
            "[[station]]",
            code=agent.station,
            name=agent.station,
            region="640122",
            base="b1",
            key=public[agent.station],
        )
        for device in agent.devices:
            if device.episodes:
                plot = f"{agent.station}-{device.unit_id}"
                lines += _table(
                    "[[plot]]",
                    id=plot,
                    base="b1",
                    name=plot,
                    land_use="paddy",
                    crop="paddy",
                    water_use="irrigation",
                )
                lines += _table(
                    "[[device]]",
                    station=agent.station,
                    path=device.path,
                    name=device.path,
                    plot=plot,
                )
            else:
                lines += _table(
                    "[[device]]", station=agent.station, path=device.path, name=device.path
                )
    return "\n".join(lines)


def _server(directory: Path, ports: Ports) -> str:
    return "\n".join(
        [
            *_table(
                "[server]",
                data_dir=str(directory / "server"),
                host="127.0.0.1",
                port=ports.http,
                api_key_file=str(directory / "api-key"),
                backup_dir=str(directory / "backups"),
            ),
            *_table("[broker]", host="127.0.0.1", port=ports.links["server"], open=True),
            *_table("[registry]", file=str(directory / "registry.toml")),
            *_table(
                "[[webhook]]",
                id="county",
                name="县农业综合执法大队",
                url=f"http://127.0.0.1:{ports.receiver}/hook",
                secret_file=str(directory / "webhook.secret"),
                allow_http=True,
            ),
        ]
    )


def _table(head: str, **keys_: str | float | bool) -> list[str]:
    # A JSON string is a TOML basic string; JSON numbers and booleans are TOML's.
    return [head, *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in keys_.items()), ""]
