"""Sends the outbox: one lane per endpoint, so that none delays another; one transaction books and leases for all."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from alerts.delivery.endpoints import Endpoint, load
from alerts.delivery.guard import Guard
from alerts.delivery.heads import Head, heads_of, to_load
from alerts.delivery.lane import Lane
from alerts.delivery.outbox import Turn, take_turn
from alerts.delivery.posting import Poster, PostLimits
from alerts.vault import VaultError
from ingest.disk import passes
from ingest.operational import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.delivery.booking import Job, Settled
    from alerts.vault import Vault
    from ingest.operational import Operational

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0  # a clock that is set moves what is due; nothing else would wake us
TRY_AGAIN_S = 1.0  # after the database could not be reached
GATHER_S = (
    0.03  # between two transactions while requests are under way: many attempts are booked at once
)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _any_jitter() -> float:
    return random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, no secret


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """How long: seconds to connect, seconds for one attempt as a whole."""

    connect_s: float = 5.0
    total_s: float = 15.0


class Sender:
    """Delivers what the outbox holds to the endpoints of the table, which may change while it runs.

    ``wake()`` says that something was committed, to the outbox or to the endpoints. ``now_ms`` is the clock of the
    schedule and of the signatures (UTC ms), ``jitter`` gives numbers in −1…1.
    """

    def __init__(
        self,
        operational: Operational,
        vault: Vault,
        *,
        guard: Guard | None = None,
        now_ms: Callable[[], int] = _wall_clock_ms,
        jitter: Callable[[], float] = _any_jitter,
        limits: SenderLimits | None = None,
    ) -> None:
        self._operational = operational
        self._vault = vault
        self._guard = guard or Guard()
        self._now_ms = now_ms
        self._jitter = jitter
        self._limits = limits or SenderLimits()
        self._lanes: dict[str, Lane] = {}
        self._ending: list[Lane] = []
        self._loaded: dict[str, int] | None = None
        self._settled: list[Settled] = []
        self._returned: list[int] = []
        self._news = asyncio.Event()
        self._look = True  # the table of endpoints may have changed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blind = False  # the outbox cannot be reached

    def wake(self) -> None:
        """Look at the outbox now; callable from any thread, before, while and after the sender runs."""
        loop = self._loop
        if loop is None:
            return  # every lane looks when it starts
        try:
            loop.call_soon_threadsafe(self._wake_lanes)
        except RuntimeError:
            return  # the loop has just closed; the rows are looked at after the next start

    async def run(self) -> None:
        """Send until cancelled. What is in flight then is sent again after its lease, with the same id and bytes."""
        # An own thread: DNS look-ups fill the loop's default executor.
        with ThreadPoolExecutor(1, "outbox") as executor:
            self._loop = asyncio.get_running_loop()
            try:
                async with asyncio.TaskGroup() as attempts:
                    await self._work(executor, attempts)
            finally:
                self._loop = None
                for lane in (*self._lanes.values(), *self._ending):
                    await lane.poster.close()
                self._lanes, self._ending, self._loaded, self._look = {}, [], None, True
                self._settled, self._returned = [], []

    async def _work(self, executor: ThreadPoolExecutor, attempts: asyncio.TaskGroup) -> None:
        while True:
            self._news.clear()
            begun = self._loop_time()
            delay_s = LOOK_AGAIN_S
            try:
                await self._turn(executor)
            except TRANSIENT as exc:
                if not passes(exc):
                    raise
                self._say_blind(str(exc))
                delay_s = TRY_AGAIN_S
            else:
                self._blind = False
                for lane in self._lanes.values():
                    self._pump(lane, attempts)
                await self._close_ended()
                delay_s = self._delay_s()
            await self._wait(delay_s)
            if any(lane.flying for lane in self._lanes.values()):
                await asyncio.sleep(begun + GATHER_S - self._loop_time())

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

    async def _turn(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        now = self._now_ms()
        for lane in self._lanes.values():
            self._returned += lane.give_back(now)
        asks = {id_: slots for id_, lane in self._lanes.items() if (slots := lane.ask(now))}
        if not (asks or self._settled or self._returned or self._look):
            return
        self._look = False
        for id_ in asks:
            self._lanes[id_].more = False
        settled, self._settled = self._settled, []
        returned, self._returned = self._returned, []
        try:
            turn = await loop.run_in_executor(
                executor, take_turn, self._operational, settled, returned, asks, self._now_ms
            )
        except TRANSIENT:
            self._settled = [*settled, *self._settled]
            self._returned = [*returned, *self._returned]
            for id_ in asks:
                self._lanes[id_].more = True
            raise
        self._hand_out(turn, asks)
        await self._follow(turn.heads, executor)

    def _hand_out(self, turn: Turn, asks: dict[str, int]) -> None:
        for id_, slots in asks.items():
            self._lanes[id_].lease(turn.jobs.get(id_, ()), slots, turn.due_ms.get(id_))

    async def _follow(self, heads: Sequence[Head], executor: ThreadPoolExecutor) -> None:
        """Begin, change and end lanes as the table of endpoints says."""
        if to_load(heads) == self._loaded:
            return
        loop = asyncio.get_running_loop()
        self._loaded, found = await loop.run_in_executor(executor, self._load)
        now = self._now_ms()
        ended: dict[str, Lane] = {}
        for id_, lane in list(self._lanes.items()):
            endpoint = found.get(id_)
            if endpoint is None or endpoint.version != lane.endpoint.version:
                lane.closing = True
                self._returned += lane.give_back(now)
                ended[id_] = self._lanes.pop(id_)
        for id_, endpoint in found.items():
            if id_ not in self._lanes:
                self._begin(endpoint, ended.get(id_))
        self._ending += ended.values()
        self._news.set()

    def _load(self) -> tuple[dict[str, int], dict[str, Endpoint]]:
        found: dict[str, Endpoint] = {}
        with self._operational.read() as connection:
            wanted = to_load(heads_of(connection))
            for id_ in wanted:
                try:
                    found |= load(connection, self._vault, [id_], self._now_ms())
                except (VaultError, ValueError) as exc:
                    log.error("endpoint_unusable", endpoint=id_, error=str(exc))  # noqa: TRY400
        unsigned = [id_ for id_, endpoint in found.items() if not endpoint.signers]
        for id_ in unsigned:
            log.error("endpoint_unusable", endpoint=id_, error="it has no key that signs")
            del found[id_]
        return wanted, found

    def _begin(self, endpoint: Endpoint, before: Lane | None) -> None:
        limits = self._limits
        try:
            poster = Poster(
                endpoint.place,
                self._guard,
                trusted=endpoint.trusted,
                connections=endpoint.concurrency,
                limits=PostLimits(limits.connect_s, limits.total_s),
                tls=endpoint.tls,
                bearer=endpoint.bearer,
            )
        except ValueError as exc:
            log.error("endpoint_unusable", endpoint=endpoint.id, error=str(exc))  # noqa: TRY400
            return
        total_ms = round(limits.total_s * 1000)
        lane = Lane(endpoint, poster, self._now_ms, self._jitter, total_ms)
        if before is not None:
            lane.take_over(before)
        self._lanes[endpoint.id] = lane

    async def _close_ended(self) -> None:
        for lane in [lane for lane in self._ending if not lane.flying]:
            self._ending.remove(lane)
            await lane.poster.close()

    def _pump(self, lane: Lane, attempts: asyncio.TaskGroup) -> None:
        now = self._now_ms()
        while (job := lane.next_job(now)) is not None:
            attempts.create_task(self._attempt(lane, job, attempts), name=job.webhook_id)

    async def _attempt(self, lane: Lane, first: Job, attempts: asyncio.TaskGroup) -> None:
        job: Job | None = first
        while job is not None:
            settled = await lane.send(job)
            self._settled.append(settled)  # the list of now: a turn may have taken the one before
            self._news.set()
            job = lane.next_job(self._now_ms())
            self._pump(lane, attempts)

    def _delay_s(self) -> float:
        if self._settled or self._returned:
            return 0.0
        now = self._now_ms()
        times = [at for lane in self._lanes.values() if (at := lane.wake_ms(now)) is not None]
        until_s = (min(times) - now) / 1000 if times else LOOK_AGAIN_S
        return min(max(0.0, until_s), LOOK_AGAIN_S)

    async def _wait(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._news.wait()
        except TimeoutError:
            if delay_s >= LOOK_AGAIN_S:
                self._wake_lanes()

    def _wake_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.more = True
        self._look = True
        self._news.set()

    def _say_blind(self, error: str) -> None:
        if not self._blind:
            log.warning("outbox_unreachable", error=error)
        self._blind = True
