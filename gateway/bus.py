"""One task per bus: polls its devices in turn, or listens to its instrument.

A bus never waits for another. What a device did is written in its station's ``DeviceBook``; a link that fails is logged
once when it goes and once when it is back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from drivers.errors import DeviceError, FrameError, LinkError
from drivers.session import KeepsState, Refused
from gateway.schedule import BACK_OFF_MAX_S, BackOff, BusSchedule
from gateway.wire import DeviceSeen

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from drivers.session import DeviceConfig, Driver, ListeningSession, PolledSession
    from gateway.packer import Packer
    from gateway.quarantine import Quarantine
    from gateway.schedule import Clock, Slot

POLL_AT_MOST_S = 120.0  # drivers have their own timeouts; this ends a poll that lost its way
CLOSE_AT_MOST_S = 1.0
REOPEN_FIRST_S = 1.0
OPEN_AFTER_S = (
    2.0  # a listening link that has held this long counts as answering, though nothing was sent yet
)

log = structlog.get_logger()


@dataclass(slots=True)
class Polls:
    """What became of a device's polls since the start; ``missed`` were due while the bus was busy."""

    answered: int = 0
    failed: int = 0
    missed: int = 0


class DeviceBook:
    """When each device of a station last answered, whether it answers now, and its polls."""

    def __init__(self, station: str, paths: Iterable[str], on_change: Callable[[], None]) -> None:
        self._station = station
        self._on_change = on_change
        self._seen = {path: DeviceSeen(path, None, ok=False) for path in paths}
        self._failing: set[str] = set()
        self.polls: dict[str, Polls] = {}
        """By path, for the devices that are polled."""
        self.refused: Counter[str] = Counter()
        """By path: what an instrument sent and nobody could read, since the start."""

    def seen(self) -> list[DeviceSeen]:
        """Return every device in the order of the configuration."""
        return list(self._seen.values())

    def answered(self, path: str, seen_ms: int | None) -> None:
        """The device answers; ``seen_ms`` None keeps the time of its last record (a link that was only opened)."""
        before = self._seen[path]
        self._seen[path] = DeviceSeen(path, before.seen_ms if seen_ms is None else seen_ms, ok=True)
        if not before.ok:
            self._failing.discard(path)
            log.info("device_online", station=self._station, device=path)
            self._on_change()

    def failed(self, path: str, reason: str) -> None:
        """The device does not answer."""
        before = self._seen[path]
        if before.ok:
            self._seen[path] = DeviceSeen(path, before.seen_ms, ok=False)
        if path not in self._failing:
            self._failing.add(path)
            log.warning("device_offline", station=self._station, device=path, reason=reason)
            self._on_change()


@dataclass(frozen=True, slots=True)
class Member:
    """One device on a bus, with where its records go."""

    driver: Driver
    device: DeviceConfig
    packer: Packer
    book: DeviceBook
    quarantine: Quarantine | None = None
    state_dir: Path | None = None
    """What a listening session remembers over restarts; None keeps nothing, as a test may like."""


def group_by_bus(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Group devices that share a link; one bus may serve several stations."""
    buses: defaultdict[str, list[Member]] = defaultdict(list)
    for member in members:
        buses[member.device.bus].append(member)
    return dict(buses)


async def poll_bus(members: Sequence[Member], *, clock: Clock, rng: random.Random) -> None:
    """Poll ``members`` on their schedules until cancelled; their driver polls."""
    first = members[0]
    if first.driver.polled is None:
        raise TypeError(f"driver {first.driver.name} does not poll")
    session = first.driver.polled(first.device, clock.wall_ms)
    schedule = BusSchedule(
        [(member, member.device.poll_interval_s) for member in members], clock.monotonic(), rng
    )
    for member in members:
        member.book.polls.setdefault(member.device.path, Polls())
    try:
        while True:
            slot = schedule.next(clock.monotonic())
            wait_s = slot.due - clock.monotonic()
            if wait_s > 0:
                await clock.sleep(wait_s)
            await _poll(session, schedule, slot, clock)
    finally:
        log.debug("bus_closed", bus=first.device.bus, missed_polls=schedule.missed)
        await _close(session)


async def _poll(
    session: PolledSession, schedule: BusSchedule[Member], slot: Slot[Member], clock: Clock
) -> None:
    member = slot.device
    polls = member.book.polls[member.device.path]
    began = clock.monotonic()
    try:
        async with asyncio.timeout(POLL_AT_MOST_S):
            raws = await session.poll(member.device)
    except (LinkError, FrameError, DeviceError, TimeoutError) as exc:
        polls.failed += 1
        now = clock.monotonic()
        schedule.failed(slot, now, silent_s=now - began)
        member.book.failed(member.device.path, str(exc) or type(exc).__name__)
        return
    member.book.answered(member.device.path, clock.wall_ms())
    if raws:
        await member.packer.readings.put([raw.reading for raw in raws])
    polls.answered += 1
    missed_before = slot.ticks.missed
    schedule.answered(slot, clock.monotonic())
    polls.missed += slot.ticks.missed - missed_before


async def listen_bus(member: Member, *, clock: Clock, rng: random.Random) -> None:
    """Take what the instrument of ``member`` sends until cancelled; acknowledge what is on disk; reopen a lost link."""
    open_session = member.driver.listening
    if open_session is None:
        raise TypeError(f"driver {member.driver.name} does not listen")
    back_off = BackOff(REOPEN_FIRST_S, BACK_OFF_MAX_S, rng)
    loop = asyncio.get_running_loop()

    def held() -> None:
        back_off.reset()
        member.book.answered(member.device.path, None)

    while True:
        session = open_session(member.device, clock.wall_ms)
        if member.state_dir is not None and isinstance(session, KeepsState):
            session.keep_in(member.state_dir)
        held_timer = loop.call_later(OPEN_AFTER_S, held)
        try:
            await _take_records(session, member, clock)
        except LinkError as exc:
            member.book.failed(member.device.path, str(exc) or "link lost")
        else:
            member.book.failed(member.device.path, "the link ended")
        finally:
            held_timer.cancel()
            await _close(session)
        await clock.sleep(back_off.next_delay())


async def _take_records(session: ListeningSession, member: Member, clock: Clock) -> None:
    async for record in session.records():
        member.book.answered(member.device.path, clock.wall_ms())
        if isinstance(record, Refused):
            await _keep_refused(record, member, clock)
        elif await member.packer.tests.put_durable(record):
            await session.acknowledge(record)


async def _keep_refused(refused: Refused, member: Member, clock: Clock) -> None:
    path = member.device.path
    member.book.refused[path] += 1
    log.warning("device_bytes_refused", device=path, reason=refused.reason, origin=refused.origin)
    if member.quarantine is not None:
        await asyncio.to_thread(member.quarantine.keep, path, refused, clock.wall_ms())


async def _close(session: PolledSession | ListeningSession) -> None:
    """Close ``session``, in a bounded time also while this task is being cancelled."""
    try:
        async with asyncio.timeout(CLOSE_AT_MOST_S):
            await session.close()
    except TimeoutError:
        log.warning("session_not_closed", after_s=CLOSE_AT_MOST_S)
