"""How each fault is done to the running county, and what each leaves in the notes."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from demo.chaos import spools
from demo.chaos.account import Window
from demo.chaos.crew import run_command
from demo.chaos.plan import SERVER, Kind
from demo.chaos.scene import simulator, spool_files
from demo.processes import PYTHON, DemoError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from demo.chaos.load import Agent
    from demo.chaos.plan import Fault
    from demo.chaos.scene import Scene

# What a killed agent was about to commit: a poll under way, a pack that is open for 100 ms, a commit on a busy disk.
BEFORE_KILL_MS = 3_000
AFTER_KILL_MS = 1_000
FULL_AT_BYTES = 1024
AFTER_FULL_S = 4.0  # what waited in memory is committed by then
COPY_EVERY_S = 6.0
COPIES_KEPT = 4
BACKUPS_KEPT = 4
RECEIPTED_TRIES = 40
ALARM_WITHIN_S = 120.0
BACKUP_WITHIN_S = 90.0  # an older spool that was restored made those from before useless
HISTORY = "history"
_FIELDS = {
    Kind.CUT: "down",
    Kind.OUTAGE: "down",
    Kind.STALL: "stalled",
    Kind.BANDWIDTH: "bytes_per_s",
    Kind.LATENCY: "latency_s",
    Kind.DUPLICATE: "duplicate",
    Kind.REORDER: "reorder",
    Kind.DELAY: "delay",
    Kind.DROP: "drop",
}


@dataclass(slots=True)
class Faults:
    """Carries out a plan; ``backup_every_s`` is how often the server is asked for one."""

    scene: Scene
    rng: Random
    backup_every_s: float
    say: Callable[[str], None]
    _backups: list[Path] = field(default_factory=list)
    _copies: dict[str, list[Path]] = field(default_factory=dict)
    _full_since: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    def ended(self, name: str, at_ms: int) -> None:
        """Take note that a process ended by itself: an agent's last moment is as after a kill."""
        if any(agent.name == name for agent in self.scene.agents):
            self._excuse(name, at_ms)

    async def run(self, plan: list[Fault]) -> None:
        """Inject every fault at its time; returns when the last one is over."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as striking:
            for fault in plan:
                await asyncio.sleep(max(0.0, begun + fault.at_s - time.monotonic()))
                striking.create_task(self._strike(fault), name=f"{fault.kind} {fault.target}")

    async def _strike(self, fault: Fault) -> None:
        done = await self._inject(fault)
        if done:
            self.scene.injected[fault.kind] += 1
            self.say(f"{fault.kind} {fault.target} {fault.duration_s:.1f} s")
        else:
            self.scene.skipped.append(f"{fault.kind} {fault.target} at {fault.at_s:.0f} s")

    async def _inject(self, fault: Fault) -> bool:
        kind = fault.kind
        if kind in _FIELDS:
            await self._on_link(fault, _FIELDS[kind])
        elif kind in {Kind.CLOCK_BACK, Kind.CLOCK_FORWARD, Kind.CLOCK_YEAR}:
            await self._on_clock(fault)
        elif kind in {Kind.DISK_AGENT, Kind.DISK_SERVER}:
            await self._on_disk(fault)
        elif kind is Kind.RESTORE_SPOOL:
            return await self._restore_spool(fault)
        elif kind is Kind.RESTORE_SERVER:
            return await self._restore_server(fault)
        else:
            await self._kill(fault)
        return True

    async def _on_link(self, fault: Fault, name: str) -> None:
        value = True if name in {"down", "stalled"} else fault.amount
        async with self.scene.crew.lock(f"link {fault.target} {name}"):
            await self.scene.suffer(fault.target, **{name: value})
            await asyncio.sleep(fault.duration_s)
            await self.scene.suffer(fault.target, **{name: type(value)(0)})

    async def _on_clock(self, fault: Fault) -> None:
        async with self.scene.crew.lock(f"clock {fault.target}"):
            self.scene.set_clock(fault.target, int(fault.amount))
            await asyncio.sleep(fault.duration_s)
            self.scene.set_clock(fault.target, 0)

    async def _on_disk(self, fault: Fault) -> None:
        """Let no file grow; a process that is killed meanwhile starts anew without the limit."""
        crew, name = self.scene.crew, fault.target
        async with crew.lock(f"disk {name}"):
            pid = crew.pid(name)
            self._full_since[name] = _now_ms()
            crew.limit_files(name, self._room(fault))
            await asyncio.sleep(fault.duration_s)
            if crew.pid(name) == pid:
                crew.limit_files(name, None)
            await asyncio.sleep(AFTER_FULL_S)
            since_ms = self._full_since.pop(name)
            if name != SERVER:
                station = self.scene.agent(name).station
                self.scene.windows.append(
                    Window(since_ms - BEFORE_KILL_MS, _now_ms(), station, full=True)
                )

    def _room(self, fault: Fault) -> int:
        """Return what a file may have: hardly anything, or what the largest one has now."""
        if not fault.amount:
            return FULL_AT_BYTES
        home = (
            self.scene.data_dir if fault.target == SERVER else self.scene.directory / fault.target
        )
        return max(file.stat().st_size for file in home.rglob("*.db*") if file.is_file())

    async def _kill(self, fault: Fault) -> None:
        name = simulator(fault.target) if fault.kind is Kind.KILL_SIMULATOR else fault.target
        async with self.scene.crew.lock(name):
            at_ms = await self.scene.crew.kill(name)
            if fault.kind in {Kind.KILL_AGENT, Kind.KILL_SIMULATOR}:
                self._excuse(fault.target, at_ms)
            await asyncio.sleep(fault.duration_s)
            await self.scene.crew.restart(name)

    def _excuse(self, agent: str, at_ms: int) -> None:
        """Note when an agent or its simulator died: what was served just then may never have been spooled."""
        since = min(at_ms, self._full_since.get(agent, at_ms))
        station = self.scene.agent(agent).station
        self.scene.windows.append(Window(since - BEFORE_KILL_MS, at_ms + AFTER_KILL_MS, station))

    # ---- older copies

    async def keep_copies(self) -> None:
        """Copy every spool now and then, until cancelled."""
        while True:
            for agent in self.scene.agents:
                await asyncio.sleep(COPY_EVERY_S / len(self.scene.agents))
                self._made += 1
                copy = self.scene.directory / "copies" / f"{agent.name}-{self._made}.db"
                copy.parent.mkdir(exist_ok=True)
                try:
                    await asyncio.to_thread(spools.copy_live, self.scene.spool(agent), copy)
                except sqlite3.OperationalError:
                    continue  # it was killed, or its disk is full
                kept = self._copies.setdefault(agent.name, [])
                kept.append(copy)
                while len(kept) > COPIES_KEPT:
                    kept.pop(0).unlink()

    async def keep_backups(self) -> None:
        """Ask the server for a backup now and then, until cancelled."""
        while True:
            await asyncio.sleep(self.backup_every_s)
            async with self.scene.crew.lock(HISTORY):
                self._made += 1
                target = self.scene.directory / "backups" / f"b{self._made}"
                argv = [*PYTHON, "agrigate", "backup", "-c", self.scene.server_toml, str(target)]
                try:
                    await asyncio.to_thread(run_command, argv)
                except DemoError as exc:  # it was killed meanwhile, or its disk is full
                    self.say(f"no backup: {str(exc).strip()[-300:]}")
                    shutil.rmtree(target, ignore_errors=True)
                    continue
                self._backups.append(target)
                while len(self._backups) > BACKUPS_KEPT:
                    shutil.rmtree(self._backups.pop(0))

    async def _restore_server(self, fault: Fault) -> bool:
        """Put an older backup in the place of what the server has; the edges send again what is newer."""
        crew = self.scene.crew
        deadline = time.monotonic() + BACKUP_WITHIN_S
        while not self._backups and time.monotonic() < deadline:  # noqa: ASYNC110 - seldom, and soon over
            await asyncio.sleep(1.0)
        async with crew.lock(HISTORY), crew.lock(SERVER):
            if not self._backups:
                return False
            chosen = self.rng.choice(self._backups)
            await crew.kill(SERVER)
            argv = [*PYTHON, "agrigate", "restore", "-c", self.scene.server_toml, "--replace"]
            try:
                said = await asyncio.to_thread(run_command, [*argv, str(chosen)])
                self.say(f"restored {chosen.name}: {said.strip()}")
            except DemoError as exc:
                self.scene.wrong.append(f"restore of {chosen.name}: {exc}")
            await asyncio.sleep(fault.duration_s)
            await crew.restart(SERVER)
        return True

    async def _restore_spool(self, fault: Fault) -> bool:
        """Put an older spool in the place of an agent's, when the server has all of it: nothing is truly lost."""
        crew, agent = self.scene.crew, self.scene.agent(fault.target)
        async with crew.lock(HISTORY), crew.lock(agent.name):
            for _ in range(RECEIPTED_TRIES):
                at_ms = await crew.kill(agent.name)
                self._excuse(agent.name, at_ms)
                await asyncio.to_thread(self.scene.watch_dead_spool, agent)
                chosen = self._older_copy(agent)
                if chosen is not None and self.scene.all_receipted(agent.station):
                    break
                await crew.restart(agent.name)
                await asyncio.sleep(self.rng.uniform(2.0, 4.0))
            else:
                return False
            for part in spool_files(self.scene.spool(agent)):
                part.unlink(missing_ok=True)
            shutil.copy2(chosen, self.scene.spool(agent))
            # A backup from before would lack packs that this spool lacks too: nobody would have them.
            for backup in self._backups:
                shutil.rmtree(backup)
            self._backups.clear()
            await crew.restart(agent.name)
            await self._expect_alarm(agent)
        return True

    def _older_copy(self, agent: Agent) -> Path | None:
        """Return the oldest copy of a spool that lacks packs of an epoch it has, None when there is none."""
        for copy in self._copies.get(agent.name, []):
            try:
                held = spools.epochs(copy)
            except sqlite3.OperationalError:
                continue
            last = self.scene.accepted.last
            if any(row.last < last.get((agent.station, row.epoch), 0) for row in held):
                return copy
        return None

    async def _expect_alarm(self, agent: Agent) -> None:
        deadline = time.monotonic() + ALARM_WITHIN_S
        while "spool_restored" not in self.scene.alarms(agent.name):
            if time.monotonic() > deadline:
                self.scene.wrong.append(
                    f"{agent.name}: an older spool was restored and no alarm spool_restored came"
                )
                return
            await asyncio.sleep(0.25)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
