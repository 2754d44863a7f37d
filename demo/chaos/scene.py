"""The running county: its processes, its bad network, and what is true of it at any moment."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import msgspec

from demo.chaos import load, spools, stored
from demo.chaos.crew import Crew
from demo.chaos.plan import BROKER, SERVER, Kind
from demo.processes import PYTHON, DemoError, accepts, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from demo.chaos.account import Window
    from demo.chaos.load import Agent, Ports

PROXY, RECEIVER = "proxy", "receiver"
START_S = 90.0
MOSQUITTO = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


class _Station(msgspec.Struct):
    alarms: list[str]


class _Status(msgspec.Struct):
    pid: int
    stations: list[_Station]


@dataclass(slots=True)
class Scene:
    """Everything that faults act upon, and the notes they leave for the account."""

    directory: Path
    agents: tuple[Agent, ...]
    ports: Ports
    start_ms: int
    seed: int
    crew: Crew = field(init=False)
    accepted: spools.Accepted = field(default_factory=spools.Accepted)
    windows: list[Window] = field(default_factory=list)
    injected: Counter[Kind] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What should have happened after a fault and did not."""

    def __post_init__(self) -> None:
        self.crew = Crew(self.directory / "logs")

    # ---- where things are

    def agent(self, name: str) -> Agent:
        """Return an agent by name."""
        return next(agent for agent in self.agents if agent.name == name)

    def spool(self, agent: Agent) -> Path:
        """Return the spool file of an agent."""
        return self.directory / agent.name / "data" / agent.station / "spool.db"

    @property
    def data_dir(self) -> Path:
        """Return the server's data directory."""
        return self.directory / "server"

    @property
    def inbox(self) -> Path:
        """Return the server's inbox file."""
        return self.data_dir / "inbox.db"

    @property
    def server_toml(self) -> str:
        """Return the server's configuration file."""
        return str(self.directory / "server.toml")

    # ---- starting

    async def start(self) -> None:
        """Start every process, each when what it needs is there."""
        crew, ports = self.crew, self.ports
        await crew.start(BROKER, [broker_program(), "-c", str(self.directory / "mosquitto.conf")])
        links = [part for name, port in ports.links.items() for part in ("--link", name, str(port))]
        await crew.start(
            PROXY,
            [
                *(*PYTHON, "demo.chaos.proxy", "--upstream", str(ports.mqtt), *links),
                *("--counts", str(self.directory / "frames.json"), "--seed", str(self.seed)),
            ],
            stdin=True,
        )
        await crew.start(
            RECEIVER,
            [
                *(*PYTHON, "demo.receiver", "--port", str(ports.receiver)),
                *("--secret-file", str(self.directory / "webhook.secret")),
                *("--journal", str(self.directory / "journal" / "received.jsonl")),
            ],
        )
        await self._listening(BROKER, ports.mqtt)
        await self._listening(RECEIVER, ports.receiver)
        await self._listening(PROXY, *ports.links.values())
        await crew.start(SERVER, [*PYTHON, "agrigate", "serve", "-c", self.server_toml])
        await self.server_ready()
        for agent in self.agents:
            home = self.directory / agent.name
            sim = simulator(agent.name)
            await crew.start(sim, [*PYTHON, "demo.chaos.counting", str(home / "sim.json")])
            await self._listening(sim, ports.modbus[agent.name])
            cap = ("--cap-bytes", str(load.CAP_BYTES)) if agent.capped else ()
            await crew.start(
                agent.name,
                [
                    *(*PYTHON, "demo.chaos.agent", "-c", str(home / "edge.toml")),
                    *("--wall-offset", str(home / "wall-offset"), *cap),
                ],
            )
        await crew.wait_until("the first packs of all", self._all_begun, within_s=START_S)

    def _all_begun(self) -> bool:
        begun = {station for station, _ in self.watermarks()}
        return len(begun) == len(self.agents)

    async def _listening(self, what: str, *ports: int) -> None:
        await self.crew.wait_until(what, lambda: all(map(accepts, ports)), within_s=START_S)

    async def server_ready(self) -> None:
        """Return when the server answers and is connected."""
        await self.crew.wait_until("the server is ready", self._server_answers, within_s=START_S)

    def _server_answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.ports.http}/readyz"
            return httpx.get(url, timeout=3, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    # ---- acting

    async def suffer(self, link: str, **changes: bool | float) -> None:
        """Change what a link suffers."""
        line = json.dumps({"link": link, "set": changes}).encode() + b"\n"
        stdin = self.crew.members[PROXY].process.stdin
        if stdin is None:
            raise DemoError("the proxy takes no orders")
        stdin.write(line)
        await stdin.drain()

    def set_clock(self, agent: str, offset_ms: int) -> None:
        """Set an agent's wall clock off by ``offset_ms``."""
        path = self.directory / agent / "wall-offset"
        fresh = path.with_suffix(".new")
        fresh.write_text(str(offset_ms), "ascii")
        fresh.replace(path)

    async def heal(self) -> None:
        """Take every fault away and start what does not run."""
        for name in self.ports.links:
            await self.suffer(
                name,
                down=False,
                stalled=False,
                bytes_per_s=0.0,
                latency_s=0.0,
                drop=0.0,
                duplicate=0.0,
                reorder=0.0,
                delay=0.0,
            )
        for agent in self.agents:
            self.set_clock(agent.name, 0)
            self.crew.limit_files(agent.name, None)
        self.crew.limit_files(SERVER, None)
        await self.server_ready()

    def hush(self) -> None:
        """Make the simulators silent for good."""
        for agent in self.agents:
            self.crew.signal(simulator(agent.name), signal.SIGUSR1)

    # ---- looking

    def watch_spools(self) -> None:
        """Note what the living spools have taken since the last look."""
        for agent in self.agents:
            spools.watch(self.spool(agent), agent.station, self.accepted)

    def watch_dead_spool(self, agent: Agent) -> None:
        """Note what the spool of an agent that was killed holds, from a copy: reading it may mean repairing it."""
        copy = self.directory / "dead" / agent.name
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for part in spool_files(self.spool(agent)):
            if part.exists():
                shutil.copy2(part, copy / part.name)
        repaired = sqlite3.connect(copy / "spool.db")
        repaired.execute("SELECT count(*) FROM epochs").fetchone()
        if not spools.watch(copy / "spool.db", agent.station, self.accepted):
            self.wrong.append(f"the spool of {agent.name} could not be read")
        repaired.close()

    def watermarks(self) -> dict[tuple[str, str], int]:
        """Return the server's watermarks; none while they cannot be read."""
        try:
            return spools.watermarks(self.inbox)
        except sqlite3.OperationalError:
            return {}

    def all_receipted(self, station: str | None = None) -> bool:
        """Tell whether the server has every pack that was accepted, of one station or of all."""
        marks = self.watermarks()
        return all(
            marks.get(place, 0) >= last
            for place, last in self.accepted.last.items()
            if station in {None, place[0]}
        )

    def alarms(self, agent: str) -> frozenset[str]:
        """Return the alarms that the running agent shows."""
        path = self.directory / agent / "data" / "status.json"
        try:
            status = msgspec.json.decode(path.read_bytes(), type=_Status)
        except (FileNotFoundError, msgspec.DecodeError):
            return frozenset()
        if status.pid != self.crew.pid(agent):
            return frozenset()
        return frozenset(alarm for station in status.stations for alarm in station.alarms)

    def drained(self) -> bool:
        """Tell whether nothing is on its way any more: spools, consumers, webhooks."""
        self.watch_spools()
        if not self.all_receipted():
            return False
        try:
            behind = _behind(self.ports.http)
            return behind == 0 and stored.pending(self.data_dir / "operational.db") == 0
        except (httpx.HTTPError, sqlite3.OperationalError):
            return False

    def why_not_drained(self) -> str:
        """Return one line for a person."""
        marks = self.watermarks()
        waiting = {
            place[0]: last - marks.get(place, 0)
            for place, last in self.accepted.last.items()
            if marks.get(place, 0) < last
        }
        return f"packs that the server does not have: {waiting}"


def prepare(
    directory: Path, *, seed: int, agents: tuple[Agent, ...], start_in_s: float = 0.0
) -> Scene:
    """Write the county into ``directory`` on free ports."""
    names = [agent.name for agent in agents]
    http, mqtt, receiver, *rest = free_ports(4 + 2 * len(agents))
    ports = load.Ports(
        http,
        mqtt,
        receiver,
        dict(zip([SERVER, *names], rest[: len(names) + 1], strict=True)),
        dict(zip(names, rest[len(names) + 1 :], strict=True)),
    )
    start_ms = time.time_ns() // 1_000_000 + round(start_in_s * 1000)
    load.write(directory, agents, ports, start_ms)
    return Scene(directory, agents, ports, start_ms, seed)


def simulator(agent: str) -> str:
    """Return the name of the process that is an agent's instruments."""
    return f"sim-{agent}"


def spool_files(spool: Path) -> tuple[Path, ...]:
    """Return the files that are one SQLite database."""
    return (spool, spool.with_name("spool.db-wal"), spool.with_name("spool.db-shm"))


def broker_program() -> str:
    """Return where mosquitto is; raise DemoError."""
    found = shutil.which("mosquitto") or next(filter(shutil.which, MOSQUITTO), None)
    if found is None:
        raise DemoError("mosquitto is not installed: apt install mosquitto")
    return found


def _behind(port: int) -> float:
    """Return how many packs the slowest consumer has not had."""
    reply = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False)
    reply.raise_for_status()
    numbers = [
        float(line.rpartition(" ")[2])
        for line in reply.text.splitlines()
        if line.startswith("ingest_consumer_behind_packs{")
    ]
    return max(numbers)
