"""Sends the outbox: one lane per endpoint with its own client and concurrency, so that none delays another."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, cast

import httpx
import structlog

from alerts.outbox import LONGEST_WAIT_MS, Job, Settled, Turn, take_turn
from alerts.payload import CONTENT_TYPE
from alerts.schedule import DELIVERED, UNDELIVERED, Answer, decide
from alerts.signing import sign
from ingest.disk import passes
from ingest.operational import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from alerts.config import WebhookEndpoint
    from ingest.operational import Operational

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 60.0  # a clock that is set moves what is due; nothing else would wake us
TRY_AGAIN_MS = 1000  # after the database could not be reached
MAX_RESPONSE = 4096  # bytes kept of an answer; whatever follows is not read


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _any_jitter() -> float:
    return random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, no secret


@functools.cache
def _user_agent() -> str:
    try:
        return f"agrigate/{metadata.version('agrigate')}"
    except metadata.PackageNotFoundError:
        return "agrigate"


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """How long and how much: seconds for one attempt, attempts at once to one endpoint."""

    connect_s: float = 5.0
    total_s: float = 15.0
    concurrency: int = 4


class Sender:
    """Delivers what the outbox holds; ``wake()`` says that something was committed to it.

    ``now_ms`` is the clock of the schedule and of the signatures (UTC ms), ``jitter`` gives numbers in −1…1.
    """

    def __init__(
        self,
        operational: Operational,
        endpoints: Sequence[WebhookEndpoint],
        *,
        now_ms: Callable[[], int] = _wall_clock_ms,
        jitter: Callable[[], float] = _any_jitter,
        limits: SenderLimits | None = None,
    ) -> None:
        self._lanes = [
            _Lane(operational, endpoint, now_ms, jitter, limits or SenderLimits())
            for endpoint in endpoints
        ]
        self._loop: asyncio.AbstractEventLoop | None = None

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
        # An own thread: DNS look-ups for a dead endpoint fill the loop's default executor.
        with ThreadPoolExecutor(1, "outbox") as executor:
            self._loop = asyncio.get_running_loop()
            try:
                async with asyncio.TaskGroup() as lanes:
                    for lane in self._lanes:
                        lanes.create_task(lane.run(executor), name=f"webhook {lane.endpoint.id}")
            finally:
                self._loop = None

    def _wake_lanes(self) -> None:
        for lane in self._lanes:
            lane.news.set()


@dataclass(slots=True)
class _Lane:
    """Everything that concerns one endpoint."""

    operational: Operational
    endpoint: WebhookEndpoint
    now_ms: Callable[[], int]
    jitter: Callable[[], float]
    limits: SenderLimits
    news: asyncio.Event = field(default_factory=asyncio.Event)
    flying: int = 0
    settled: list[Settled] = field(default_factory=list)
    quiet_until_ms: int = 0
    failing: bool = False
    blind: bool = False  # the outbox cannot be reached

    async def run(self, executor: ThreadPoolExecutor) -> None:
        timeout = httpx.Timeout(self.limits.total_s, connect=self.limits.connect_s)
        async with (
            httpx.AsyncClient(
                timeout=timeout,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=self.limits.concurrency),
            ) as client,
            asyncio.TaskGroup() as attempts,
        ):
            while True:
                self.news.clear()
                turn = await self._turn(executor)
                for job in turn.jobs:
                    self.flying += 1
                    attempts.create_task(self._attempt(client, job), name=job.webhook_id)
                await self._wait_until(turn.due_ms)

    async def _turn(self, executor: ThreadPoolExecutor) -> Turn:
        settled, self.settled = self.settled, []
        quiet = 0 < self.quiet_until_ms - self.now_ms() <= LONGEST_WAIT_MS
        slots = 0 if quiet else self.limits.concurrency - self.flying
        try:
            turn = await asyncio.get_running_loop().run_in_executor(
                executor, take_turn, self.operational, self.endpoint.id, settled, slots, self.now_ms
            )
        except TRANSIENT as exc:
            if not passes(exc):
                raise
            # What ended is booked later; a lease that runs out meanwhile sends the same id and bytes again.
            self.settled = settled + self.settled
            if not self.blind:
                log.warning("outbox_not_reached", endpoint=self.endpoint.id, error=str(exc))
            self.blind = True
            return Turn((), self.now_ms() + TRY_AGAIN_MS)
        if self.blind:
            log.info("outbox_reached", endpoint=self.endpoint.id)
        self.blind = False
        return Turn((), self.quiet_until_ms) if quiet else turn

    async def _wait_until(self, due_ms: int | None) -> None:
        until_due_s = LOOK_AGAIN_S if due_ms is None else (due_ms - self.now_ms()) / 1000
        delay_s = min(max(0.0, until_due_s), LOOK_AGAIN_S)
        try:
            async with asyncio.timeout(delay_s):
                await self.news.wait()
        except TimeoutError:
            return  # a row is due

    async def _attempt(self, client: httpx.AsyncClient, job: Job) -> None:
        answer = await self._post(client, job)
        decision = decide(answer, job.attempt, critical=job.critical, jitter=self.jitter())
        self.quiet_until_ms = max(self.quiet_until_ms, decision.quiet_until_ms)
        self.settled.append(Settled(job, answer, decision))
        self.flying -= 1
        self.news.set()
        self._log(job, answer, delivered=decision.state == DELIVERED)
        if decision.suspend:
            log.error("endpoint_suspended", endpoint=self.endpoint.id, webhook_id=job.webhook_id)
        elif decision.state == UNDELIVERED:
            log.error("event_undelivered", endpoint=self.endpoint.id, webhook_id=job.webhook_id)

    async def _post(self, client: httpx.AsyncClient, job: Job) -> Answer:
        started = self.now_ms()
        status: int | None = None
        error, retry_after = "", ""
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self.limits.total_s),
                client.stream(
                    "POST", self.endpoint.url, content=job.body, headers=self._headers(job, started)
                ) as response,
            ):
                status = response.status_code
                retry_after = response.headers.get("retry-after", "")
                await _read_beginning(response, content)
        except TimeoutError:
            error = f"cut after {self.limits.total_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            error = f"{type(exc).__name__}: {exc}"[:500]
        ended = max(started, self.now_ms())
        return Answer(started, ended, status, error, _as_text(content[:MAX_RESPONSE]), retry_after)

    def _headers(self, job: Job, at_ms: int) -> dict[str, str]:
        stamp = at_ms // 1000
        return {
            "content-type": CONTENT_TYPE,
            "user-agent": _user_agent(),
            "accept-encoding": "identity",
            "webhook-id": job.webhook_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(self.endpoint.secret, job.webhook_id, stamp, job.body),
            "x-attempt": str(job.attempt),
            "x-replay": "0",
        }

    def _log(self, job: Job, answer: Answer, *, delivered: bool) -> None:
        if delivered and self.failing:
            log.info("endpoint_recovered", endpoint=self.endpoint.id, webhook_id=job.webhook_id)
        elif not delivered and not self.failing:
            log.warning(
                "endpoint_failing",
                endpoint=self.endpoint.id,
                webhook_id=job.webhook_id,
                status_code=answer.status_code,
                error=answer.error,
            )
        self.failing = not delivered


async def _read_beginning(response: httpx.Response, content: bytearray) -> None:
    # httpx types its generator as an iterator; left open it would outlive the response.
    body = cast("AsyncGenerator[bytes, None]", response.aiter_raw())
    async with aclosing(body) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) >= MAX_RESPONSE:
                return


def _as_text(content: bytearray) -> str:
    """Return what a receiver sent as harmless text: undecodable bytes and control characters become escapes."""
    text = content.decode("utf-8", "backslashreplace")
    return "".join(ch if ch.isprintable() or ch == "\n" else f"\\x{ord(ch):02x}" for ch in text)
