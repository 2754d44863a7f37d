"""Sends what people are to be told: one message at a time to each target, and none delays another."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from ulid import ULID

from alerts.delivery.guard import Guard
from alerts.people import digest, words
from alerts.people.channels import Channels
from alerts.people.document import fitted
from alerts.people.errors import TargetError
from alerts.people.operators import enqueue_operator
from alerts.people.pace import Go, Pace, resumed
from alerts.people.quiet import Quiet
from alerts.people.targets import drop_waiting, opened
from alerts.tables import targets
from alerts.vault import VaultError
from ingest.disk import passes
from ingest.operational import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alerts.people.digest import Contents, Result
    from alerts.people.document import Document
    from alerts.people.robots import Outcome
    from alerts.people.targets import Target
    from alerts.vault import Vault
    from ingest.operational import Operational

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 30.0  # a clock that is set moves what is due; nothing else would wake us
TRY_AGAIN_S = 1.0  # after the database could not be reached
BREATH_S = 0.2  # between two looks: a storm of commits is looked at together
BREATHS = 9  # times as long as a look took: a long queue costs a tenth of one core
LONG_BREATH_S = 1.0
FAILING = 3  # failures in a row after which the operators are told
_MIN_HISTORY = 12
_THREADS = 4  # for mail and Apprise


@dataclass(slots=True)
class _Lane:
    """One target as it is sent to."""

    target: Target
    pace: Pace
    busy: bool = False
    told: bool = False  # the operators know that it fails


@dataclass(frozen=True, slots=True)
class _Job:
    """One message to be sent."""

    target: Target
    message_id: str
    document: Document


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one look found: messages to send now, and when to look again (UTC ms)."""

    jobs: list[list[_Job]]
    next_ms: int | None


class PeopleSender:
    """Turns notices into messages and sends them; targets may change while it runs.

    ``wake()`` says that something was committed. ``public_url`` is how people reach the pages, blank for no links;
    ``now_ms`` is the clock (UTC ms).
    """

    def __init__(
        self,
        operational: Operational,
        vault: Vault,
        *,
        public_url: str = "",
        guard: Guard | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._operational = operational
        self._vault = vault
        self._public_url = public_url
        self._guard = guard or Guard()
        self._now_ms = now_ms
        self._lanes: dict[str, _Lane] = {}
        self._results: list[Result] = []
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blind = False
        self._unsure = True  # notices may be claimed for messages that nobody sends
        self._breath_s = BREATH_S
        self._unusable: dict[str, int] = {}

    def wake(self) -> None:
        """Look now; callable from any thread, before, while and after the sender runs."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:
            return  # the loop has just closed; the notices are looked at after the next start

    async def run(self) -> None:
        """Send until cancelled. What is under way then is told again after the next start."""
        database = ThreadPoolExecutor(1, "notices")
        blocking = ThreadPoolExecutor(_THREADS, "people")
        channels = Channels(self._guard, self._now_ms, blocking)
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as sending:
                while True:
                    await self._wait(await self._turn(database, channels, sending))
        finally:
            self._loop = None
            self._lanes, self._results, self._unsure = {}, [], True
            database.shutdown(wait=True)
            blocking.shutdown(wait=False, cancel_futures=True)

    async def _turn(
        self, database: ThreadPoolExecutor, channels: Channels, sending: asyncio.TaskGroup
    ) -> float:
        """Look once; return for how long to wait (s)."""
        self._news.clear()
        loop = asyncio.get_running_loop()
        try:
            if settling := tuple(self._results):
                await loop.run_in_executor(database, self._settle, settling)
                del self._results[: len(settling)]
            began_s = time.monotonic()
            turn = await loop.run_in_executor(database, self._look)
            took_s = time.monotonic() - began_s
            self._breath_s = max(BREATH_S, min(BREATHS * took_s, LONG_BREATH_S))
        except TRANSIENT as exc:
            self._unsure = True
            self._say_blind(exc)
            return TRY_AGAIN_S
        self._blind = False
        for jobs in turn.jobs:
            sending.create_task(self._send(channels, jobs), name=f"people-{jobs[0].target.id}")
        if turn.next_ms is None:
            return LOOK_AGAIN_S
        return min(max(0.0, (turn.next_ms - self._now_ms()) / 1000), LOOK_AGAIN_S)

    async def _wait(self, delay_s: float) -> None:
        await asyncio.sleep(self._breath_s)
        try:
            async with asyncio.timeout(delay_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _send(self, channels: Channels, jobs: list[_Job]) -> None:
        """Send the messages of one target, one after the other; a failure puts those behind it off, untried."""
        lane = self._lanes[jobs[0].target.id]
        outcome: Outcome | None = None
        for job in jobs:
            at_ms = self._now_ms()
            tried = outcome is None or outcome.delivered
            if tried:
                outcome = await channels.send(job.target, job.document, job.message_id)
                lane.pace.told(
                    at_ms, delivered=outcome.delivered, retry_after_s=outcome.retry_after_s
                )
            retry_ms = lane.pace.not_before_ms
            self._results.append(
                digest.Result(
                    job.message_id,
                    job.target.id,
                    at_ms,
                    job.document,
                    outcome if tried else None,
                    retry_ms,
                )
            )
        lane.busy = False
        self._news.set()

    # ------------------------------------------------------------ on the database's thread

    def _look(self) -> _Turn:
        busy = any(lane.busy for lane in self._lanes.values())
        if self._unsure and not busy and not self._results:
            with self._operational.write() as connection:
                digest.release(connection)
            self._unsure = False
        with self._operational.read() as connection:
            self._follow(connection)
            now_ms = self._now_ms()
            found = digest.waiting(connection, now_ms)
        ready: list[tuple[_Lane, Go]] = []
        times: list[int] = []
        for id_, (waiting, later_ms) in found.items():
            lane = self._lanes.get(id_)
            if lane is None or lane.busy:
                continue
            step = lane.pace.next(waiting, now_ms)
            if isinstance(step, Go):
                ready.append((lane, step))
            elif step is not None:
                times.append(step)
            if later_ms is not None:
                times.append(later_ms)
        idle = [id_ for id_ in found if id_ not in self._lanes and id_ not in self._unusable]
        jobs = []
        if ready or idle:
            with self._operational.write() as connection:
                drop_waiting(connection, idle)
                jobs = [self._claimed(connection, lane, go, now_ms) for lane, go in ready]
        for some in filter(None, jobs):
            self._lanes[some[0].target.id].busy = True
        return _Turn([some for some in jobs if some], min(times, default=None))

    def _settle(self, results: Sequence[Result]) -> None:
        with self._operational.write() as connection:
            given_up = digest.settle(connection, results)
            self._tell_operators(connection, results, given_up)

    def _tell_operators(
        self, connection: sa.Connection, results: Sequence[Result], given_up: Sequence[str]
    ) -> None:
        for result in results:
            lane, outcome = self._lanes.get(result.target_id), result.outcome
            if lane is None or outcome is None:
                continue
            if outcome.delivered:
                lane.told = False
            elif not lane.told and (lane.pace.failures >= FAILING or result.target_id in given_up):
                lane.told = True
                error = outcome.error
                log.error("target_failing", target=result.target_id, error=error)
                data = {"subject": result.target_id, "reason": error}
                enqueue_operator(connection, None, "target.failing", data, result.at_ms)

    def _follow(self, connection: sa.Connection) -> None:
        """Begin, change and end lanes as the table says."""
        t = targets.c
        heads = {
            row.id: row.version
            for row in connection.execute(sa.select(t.id, t.version).where(t.active))
        }
        known = {id_: lane.target.version for id_, lane in self._lanes.items()} | self._unusable
        if heads == known:
            return
        self._unusable = {
            id_: version for id_, version in self._unusable.items() if heads.get(id_) == version
        }
        busy = {
            id_ for id_, lane in self._lanes.items() if lane.busy
        }  # they follow when they are done
        changed = {id_ for id_, version in heads.items() if known.get(id_) != version} - busy
        for id_ in self._lanes.keys() - heads.keys() - busy:
            del self._lanes[id_]
        query = sa.select(targets).where(t.id.in_(changed))
        for row in connection.execute(query).mappings().all():
            self._begin(connection, row)

    def _begin(self, connection: sa.Connection, row: sa.RowMapping) -> None:
        id_ = row["id"]
        try:
            target = opened(row, self._vault)
        except (VaultError, TargetError) as exc:
            self._lanes.pop(id_, None)
            self._unusable[id_] = row["version"]
            log.error("target_unusable", target=id_, error=str(exc))  # noqa: TRY400
            return
        quiet = Quiet.parse(target.quiet)
        pace = Pace(target.rate_per_min, target.digest_s, quiet)
        count = max(target.rate_per_min, _MIN_HISTORY)
        resumed(pace, digest.history(connection, id_, count))
        self._lanes[id_] = _Lane(target, pace)

    def _claimed(self, connection: sa.Connection, lane: _Lane, go: Go, now_ms: int) -> list[_Job]:
        target = lane.target
        found = digest.groups(
            connection, target.id, now_ms, most=go.messages, critical_only=go.critical_only
        )
        jobs = []
        for group_key in found:
            message_id = str(ULID())
            digest.claim(
                connection, target.id, group_key, message_id, now_ms, critical_only=go.critical_only
            )
            told = digest.contents(connection, target.id, message_id)
            jobs.append(_Job(target, message_id, written(target, told, self._public_url)))
        return jobs

    def _say_blind(self, exc: BaseException) -> None:
        if not passes(exc):
            raise exc
        if not self._blind:
            log.warning("notices_unreachable", error=str(exc))
        self._blind = True


def written(target: Target, contents: Contents, public_url: str) -> Document:
    """Return the message that tells ``contents`` to a target, within its size."""
    language = target.language
    blocks = [words.block(one, language, public_url) for one in contents.told]
    return fitted(
        words.title(contents.severities, language, contents.operator),
        blocks,
        contents.total,
        target.size,
        lambda more: words.rest(more, language, public_url),
    )
