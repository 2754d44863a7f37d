"""A run: start the county, let the faults strike, heal, wait until nothing is on its way, take the account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from demo.chaos import account, load, stored
from demo.chaos.faults import Faults
from demo.chaos.plan import BROKER, SERVER, Kind, plan
from demo.chaos.scene import PROXY, RECEIVER, prepare, simulator
from demo.processes import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo.chaos.account import Account
    from demo.chaos.scene import Scene

AGENTS = 6
CAPPED = 2
READINGS_PER_S = 2_200
LOOK_EVERY_S = 1.0
DRAIN_S = 420.0  # a lane that probed in vain waits up to five minutes
END_TRIES = 5


@dataclass(slots=True)
class Result:
    """What a run gives: the numbers and whether all is well."""

    seed: int
    seconds: float
    injected: dict[str, int]
    frames: dict[str, int]
    account: Account
    drain_s: float
    peak_mb: dict[str, float]
    ended: dict[str, list[int]]
    skipped: list[str]
    gave_up: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether the account is even and everything that had to happen did."""
        every_kind = all(self.injected.get(kind.value, 0) for kind in Kind)
        return self.account.even and not self.wrong and not self.ended and every_kind


async def run(
    directory: Path, *, seconds: float, seed: int, readings: int, say: Callable[[str], None]
) -> Result:
    """Run ``seconds`` of faults under a load of at least ``readings`` in all; raise DemoError when it cannot go on."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    per_s = max(1.0, readings / seconds)
    devices = max(1, round(per_s / (AGENTS * load.LOAD_WIDTH / load.POLL_S)) or 1)
    agents = load.agents(AGENTS, devices, seconds, rng)
    names = [agent.name for agent in agents]
    capped = [agent.name for agent in agents if agent.capped]
    faults_planned = plan(rng, seconds=seconds, agents=names, capped=capped)
    scene = prepare(directory, seed=seed, agents=agents, start_in_s=12.0)
    try:
        await scene.start()
        say(f"{AGENTS} agents, {devices} counting devices each; {len(faults_planned)} faults")
        faults = Faults(scene, rng, max(8.0, seconds / 15), say)
        scene.crew.on_end = faults.ended
        async with asyncio.TaskGroup() as tasks:
            watching = [
                tasks.create_task(scene.crew.watch(), name="watch processes"),
                tasks.create_task(_watch_spools(scene), name="watch spools"),
            ]
            keeping = [
                tasks.create_task(faults.keep_copies(), name="copies"),
                tasks.create_task(faults.keep_backups(), name="backups"),
            ]
            await faults.run(faults_planned)
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)
            drain_s = await _drain(scene, say)
            for task in watching:
                task.cancel()
        await _end(scene)
        say("taking the account")
        taken = await asyncio.to_thread(_account, scene)
        return Result(
            seed=seed,
            seconds=seconds,
            injected={kind.value: count for kind, count in scene.injected.items()},
            frames=_frames(directory),
            account=taken,
            drain_s=round(drain_s, 1),
            peak_mb=dict(scene.crew.peak_mb),
            ended=dict(scene.crew.ended),
            skipped=scene.skipped,
            gave_up=dict(scene.crew.gave_up),
            wrong=scene.wrong,
        )
    finally:
        scene.crew.kill_all()


async def _watch_spools(scene: Scene) -> None:
    while True:
        await asyncio.to_thread(scene.watch_spools)
        await asyncio.sleep(LOOK_EVERY_S)


async def _drain(scene: Scene, say: Callable[[str], None]) -> float:
    """Heal everything and wait until nothing is on its way; return how long that took, s."""
    say("healing")
    await scene.heal()
    begun = time.monotonic()
    scene.hush()
    for _ in range(END_TRIES):
        await _until_drained(scene, begun)
        drain_s = time.monotonic() - begun
        # An agent's last word, that its polls fail, may come between the last look and its end.
        await scene.crew.stop(*(agent.name for agent in scene.agents))
        await asyncio.sleep(1.0)
        if await asyncio.to_thread(scene.drained):
            return drain_s
        for agent in scene.agents:
            await scene.crew.restart(agent.name)
    raise DemoError("the agents always leave something behind")


async def _until_drained(scene: Scene, begun: float) -> None:
    while not await asyncio.to_thread(scene.drained):
        if time.monotonic() - begun > DRAIN_S:
            scene.wrong.append(f"not drained after {DRAIN_S:.0f} s: {scene.why_not_drained()}")
            return
        await asyncio.sleep(0.5)


async def _end(scene: Scene) -> None:
    await scene.crew.stop(*(simulator(agent.name) for agent in scene.agents))
    for name in (SERVER, RECEIVER, PROXY, BROKER):
        await scene.crew.stop(name)


def _account(scene: Scene) -> Account:
    journal_dir = scene.directory / "journal"
    stored.fill(scene.inbox, scene.accepted)
    return account.take(
        stored.replies(journal_dir, scene.agents),
        scene.accepted,
        stored.store(scene.data_dir / "readings.duckdb"),
        stored.taken(scene.inbox),
        stored.booked(scene.inbox),
        scene.watermarks(),
        scene.windows,
        stored.told(journal_dir / "received.jsonl"),
    )


def _frames(directory: Path) -> dict[str, int]:
    path = directory / "frames.json"
    if not path.exists():
        return {}
    return dict(Counter(msgspec.json.decode(path.read_bytes(), type=dict[str, int])))
