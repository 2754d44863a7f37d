"""How an agent process is wired: stations, buses and uplinks, and how they end."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import importlib.metadata
import os
import random
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gateway import agent_status
from gateway.agent_status import AgentStatus, PollCounts, StationStatus
from gateway.bus import DeviceBook, Member, group_by_bus, listen_bus, poll_bus
from gateway.clock import clock_trust
from gateway.errors import DataDirBusyError
from gateway.packer import Packer
from gateway.quarantine import Quarantine
from gateway.schedule import Clock
from gateway.station import StationAgent
from gateway.supervise import Crashes, supervise
from gateway.uplink import Uplink
from gateway.wall_watch import WallWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from gateway import config
    from gateway.wire import ClockTrust

LOCK_FILE = "agent.lock"
# Whose line in the log has more to say; the uplink's alarms have lines of their own as well.
SAID_BY_THE_SPOOL = {"disk_full", "spool_corrupt"}
# The end takes less than 10 s in all: what is not done in its time is cancelled, the spool has the rest.
CANCEL_AGAIN_S = 0.5
STOP_PACKERS_S = 2.0
STOP_UPLINKS_S = 4.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Station:
    """One station's parts."""

    agent: StationAgent
    book: DeviceBook
    packer: Packer
    uplink: Uplink
    devices: tuple[config.Device, ...]
    alarms: _Alarms
    directory: Path
    quarantine: Quarantine

    def members(self) -> list[Member]:
        return [
            Member(d.driver, d.config, self.packer, self.book, self.quarantine, self.directory)
            for d in self.devices
        ]

    async def status(self) -> StationStatus:
        state = await self.agent.state()
        balances = await self.agent.counts(self.packer.tallies)
        lanes = (self.packer.readings, self.packer.tests)
        self.alarms.now(set(state.alarms) - self.uplink.alarms - SAID_BY_THE_SPOOL)
        return StationStatus(
            code=self.agent.code,
            connected=self.uplink.connected,
            queue=state.queue,
            oldest_unreceipted_ms=state.oldest_unreceipted_ms,
            last_receipt_ms=state.last_receipt_ms,
            clock_offset_ms=state.clock_offset_ms,
            alarms=list(state.alarms),
            devices=self.book.seen(),
            records=sum(lane.counts.records for lane in lanes),
            receipts=state.receipts,
            garbage_receipts=self.uplink.garbage_receipts,
            connections=self.uplink.connections,
            server_says=state.server_says,
            certificates=self.uplink.certificates,
            lanes={lane.value: balance for lane, balance in balances.items()},
            polls={
                path: PollCounts(answered=p.answered, failed=p.failed, missed=p.missed)
                for path, p in self.book.polls.items()
            },
            refused=dict(self.book.refused),
        )


class _Alarms:
    """The alarms of one station; says in the log when one comes and when it goes."""

    def __init__(self, station: str) -> None:
        self._station = station
        self._standing: frozenset[str] = frozenset()

    def now(self, alarms: Iterable[str]) -> None:
        """Take the alarms that stand at this moment."""
        before, self._standing = self._standing, frozenset(alarms)
        for alarm in sorted(self._standing - before):
            log.warning("alarm_raised", station=self._station, alarm=alarm)
        for alarm in sorted(before - self._standing):
            log.info("alarm_cleared", station=self._station, alarm=alarm)


def version() -> str:
    """Return the installed version; a source tree that is not installed says so."""
    try:
        return importlib.metadata.version("agrigate")
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _alarms_of(uplink: Uplink) -> Iterable[str]:
    return uplink.alarms


@contextmanager
def only_agent(data_dir: Path) -> Iterator[None]:
    """Hold the lock of ``data_dir``, which is made when missing; raise DataDirBusyError."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DataDirBusyError(
                f"{data_dir}: another agent works here (process {holder}); stop it, or use another data_dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


async def run(
    edge: config.EdgeConfig,
    *,
    stop: asyncio.Event,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> None:
    """Run the agent until ``stop`` is set, then end in less than 10 s.

    Raises DataDirBusyError, MetricsPortError, LocalPortError and spool.SpoolError at the start; what goes wrong later
    is restarted.
    """
    agent = _Agent(edge, clock or Clock(), rng or random.Random())  # noqa: S311 - jitter, no secret
    with only_agent(edge.data_dir):
        async with AsyncExitStack() as opened:
            await agent.open(opened)
            await agent.serve_metrics(opened)
            await agent.serve_page(opened)
            await agent.run(stop)


class _Agent:
    """One process: its stations and the tasks that serve them."""

    def __init__(self, edge: config.EdgeConfig, clock: Clock, rng: random.Random) -> None:
        self._edge = edge
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._watch = WallWatch(clock, self._clock_stepped)
        self._clock = self._watch.watched()
        self._rng = rng
        self._version = version()
        self._crashes = Crashes()
        self._stations: list[_Station] = []
        self._running = True
        self._page = AsyncExitStack()

    async def open(self, opened: AsyncExitStack) -> None:
        """Open every station's spool; ``opened`` closes them."""
        for configured in self._edge.stations:
            directory = self._edge.data_dir / configured.code
            book = DeviceBook(
                configured.code, [d.config.path for d in configured.devices], self._changed.set
            )
            agent = await StationAgent.open(
                configured.code,
                directory,
                cap_bytes=self._edge.spool_cap_bytes,
                version=self._version,
                seen=book.seen,
                clock=self._clock,
                rng=self._rng,
            )
            opened.push_async_callback(agent.close)
            packer = Packer(
                agent.append,
                trust=functools.partial(self._trust, agent),
                clock=self._clock,
            )
            uplink = Uplink(
                agent,
                configured.broker,
                clock=self._clock,
                rng=self._rng,
                on_change=self._changed.set,
            )
            agent.more_alarms = functools.partial(_alarms_of, uplink)
            self._stations.append(
                _Station(
                    agent,
                    book,
                    packer,
                    uplink,
                    configured.devices,
                    _Alarms(configured.code),
                    directory,
                    Quarantine(directory / "refused"),
                )
            )

    def _clock_stepped(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    async def serve_metrics(self, opened: AsyncExitStack) -> None:
        """Open the metrics port when one is configured; ``opened`` closes it."""
        if self._edge.metrics_port:
            from gateway import edge_metrics  # noqa: PLC0415 - memory that most agents never need

            await opened.enter_async_context(
                edge_metrics.served(self._edge.metrics_port, self._status)
            )

    async def serve_page(self, opened: AsyncExitStack) -> None:
        """Open the local page when one is configured; it closes before the packers stop."""
        opened.push_async_exit(self._page)
        if self._edge.local_port:
            # Loaded here: memory that most agents never need.
            from gateway.local_page.sample_numbers import SampleNumbers  # noqa: PLC0415
            from gateway.local_page.server import PageStation, served  # noqa: PLC0415

            stations = [
                PageStation(
                    s.agent,
                    s.packer.tests,
                    s.quarantine,
                    SampleNumbers(s.agent.code, s.directory),
                )
                for s in self._stations
            ]
            await self._page.enter_async_context(
                served(self._edge.local_port, stations, self._status, self._clock)
            )

    def _trust(self, agent: StationAgent) -> ClockTrust:
        # The step first: a step after the offset was taken must not pass for an old agreement.
        offset_ms = agent.clock_offset_ms
        stepped = self._watch.just_stepped()
        return clock_trust(self._clock.wall_ms(), offset_ms, stepped=stepped)

    async def run(self, stop: asyncio.Event) -> None:
        """Run all tasks; end them in the order in which records flow. A spool that is gone ends it, and is raised."""
        for station in self._stations:
            station.agent.on_gone = stop.set
        async with asyncio.TaskGroup() as group:
            writer = self._start(group, "status", self._keep_status)
            uplinks = [
                self._start(group, f"uplink {s.agent.code}", s.uplink.run) for s in self._stations
            ]
            packers = [
                self._start(group, f"{lane} of {s.agent.code}", work)
                for s in self._stations
                for lane, work in (
                    ("readings", s.packer.readings.run),
                    ("tests", s.packer.tests.run),
                )
            ]
            buses = [self._start(group, f"bus {key}", work) for key, work in self._buses()]
            log.info(
                "agent_started", version=self._version, stations=len(uplinks), buses=len(buses)
            )
            await stop.wait()
            log.info("agent_stopping")
            await self._page.aclose()
            await _end(buses, 0.0)
            for station in self._stations:
                station.packer.stop()
            await _end(packers, STOP_PACKERS_S)
            for station in self._stations:
                station.uplink.stop()
            await _end(uplinks, STOP_UPLINKS_S)
            await _end([writer], 0.0)
        self._running = False
        agent_status.write_or_say(self._edge.data_dir, await self._status())
        log.info("agent_stopped")
        for station in self._stations:
            if station.agent.gone is not None:
                raise station.agent.gone

    def _start(
        self, group: asyncio.TaskGroup, name: str, work: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None]:
        return group.create_task(
            supervise(name, work, clock=self._clock, rng=self._rng, crashes=self._crashes),
            name=name,
        )

    def _buses(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """One piece of work per bus, over all stations."""
        members = [member for station in self._stations for member in station.members()]
        return [
            (key, functools.partial(poll_bus, on_bus, clock=self._clock, rng=self._rng))
            if on_bus[0].driver.polled is not None
            else (key, functools.partial(listen_bus, on_bus[0], clock=self._clock, rng=self._rng))
            for key, on_bus in group_by_bus(members).items()
        ]

    async def _keep_status(self) -> None:
        await agent_status.keep_written(
            self._edge.data_dir, self._status, self._changed, clock=self._clock
        )

    async def _status(self) -> AgentStatus:
        return AgentStatus(
            pid=os.getpid(),
            at_ms=self._clock.wall_ms(),
            at_up_ms=round(self._clock.monotonic() * 1000),
            boot=agent_status.boot_id(),
            running=self._running,
            version=self._version,
            stations=[await station.status() for station in self._stations],
            crashes=dict(self._crashes),
        )


async def _end(tasks: list[asyncio.Task[None]], patience_s: float) -> None:
    """Wait ``patience_s`` for ``tasks`` to return, then cancel those that did not until they end."""
    left = set(tasks)
    if left and patience_s:
        _, left = await asyncio.wait(left, timeout=patience_s)
    while left:
        for task in left:
            task.cancel()
        # Once may not do: up to Python 3.11 ``asyncio.wait_for`` (pymodbus, aiomqtt) loses a cancellation that comes
        # in the same turn as its result.
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in left:
            log.debug("cancelled_again", task=task.get_name())
