"""What concerns one endpoint while the sender runs: its queue, how fast it may be asked, what is under way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from alerts.delivery.booking import Settled
from alerts.delivery.breaker import Breaker
from alerts.delivery.outbox import LONGEST_WAIT_MS
from alerts.delivery.payload import CONTENT_TYPE
from alerts.delivery.schedule import DELIVERED, UNDELIVERED, decide
from alerts.delivery.signing import sign_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts.delivery.booking import Job
    from alerts.delivery.endpoints import Endpoint
    from alerts.delivery.posting import Poster
    from alerts.delivery.schedule import Answer

log = structlog.get_logger(__name__)

AHEAD = 16  # rows leased beyond those under way, for each connection, while the receiver takes everything
MINUTE_MS = 60_000
_OVERLOADED = {
    429,
    *range(500, 600),
}  # another refusal is of one event, and comes from a receiver that lives


@dataclass(slots=True)
class Lane:
    """One endpoint; all methods run on the sender's loop. ``now_ms``: UTC ms; ``total_ms``: the longest attempt."""

    endpoint: Endpoint
    poster: Poster
    now_ms: Callable[[], int]
    jitter: Callable[[], float]
    total_ms: int
    queue: deque[Job] = field(default_factory=deque)
    flying: int = 0
    replaying: int = 0
    window: int = 1
    more: bool = True  # rows may be due that were not asked for
    due_ms: int | None = None
    quiet_until_ms: int = 0
    allowed_ms: int = 0  # by rate_per_min
    breaker: Breaker = field(default_factory=Breaker)
    failing: bool = False
    closing: bool = False

    def __post_init__(self) -> None:
        self.window = self.endpoint.concurrency

    def ask(self, now: int) -> int:
        """Return how many rows to lease now; 0 while nothing is due, nothing may be sent, or enough is at hand."""
        if self.closing or not (self.more or self._is_due(now)) or self.held_until(now) > now:
            return 0
        most = self._most()
        room = most - len(self.queue) - self.flying
        if most > self.endpoint.concurrency and room * 2 < most:
            return 0  # many at a time
        return max(room, 0)

    def lease(self, jobs: tuple[Job, ...], asked: int, due_ms: int | None) -> None:
        """Take what was leased; fewer rows than asked for means that no more are due before ``due_ms``."""
        self.queue += jobs
        self.due_ms = due_ms
        if len(jobs) >= asked:
            self.more = True

    def next_job(self, now: int) -> Job | None:
        """Return the next row that may be sent now and count it as under way."""
        if not self.queue or self.closing or self.held_until(now) > now:
            return None
        most = 1 if self.breaker.is_probing else self.endpoint.concurrency
        job = self.queue[0]
        if self.flying >= most or (job.replay and self.replaying):
            return None  # replays go one after the other: they arrive in their order
        self.queue.popleft()
        self.flying += 1
        self.replaying += job.replay
        if self.endpoint.rate_per_min:
            step = MINUTE_MS // self.endpoint.rate_per_min
            self.allowed_ms = max(self.allowed_ms, now) + step
        return job

    def give_back(self, now: int) -> list[int]:
        """Return the ids of rows that cannot be sent before their lease ends, and let go of them."""
        held = self.closing or self.held_until(now) > now
        kept: deque[Job] = deque()
        back: list[int] = []
        for job in self.queue:
            if held or now + self.total_ms > job.leased_until_ms:
                back.append(job.outbox_id)
            else:
                kept.append(job)
        self.queue = kept
        self.more = self.more or bool(back)
        return back

    def held_until(self, now: int) -> int:
        """Return until when nothing may be sent: it asked for quiet, the breaker is open, or its rate is used up."""
        quiet = self.quiet_until_ms if self.quiet_until_ms - now <= LONGEST_WAIT_MS else 0
        rate = self.allowed_ms if self.allowed_ms - now <= MINUTE_MS else 0
        return max(quiet, self.breaker.open_until(now), rate)

    def wake_ms(self, now: int) -> int | None:
        """Return when there may be something to do, None when only news can bring it."""
        if self.closing:
            return None
        held = self.held_until(now)
        if held > now:
            return held
        return self.due_ms

    def take_over(self, before: Lane) -> None:
        """Go on as the lane before, whose endpoint was changed: quiet, rate and breaker are of the receiver."""
        self.quiet_until_ms, self.allowed_ms = before.quiet_until_ms, before.allowed_ms
        self.breaker, self.failing = before.breaker, before.failing

    async def send(self, job: Job) -> Settled:
        """Make one attempt and note what it says about the receiver."""
        signed: list[str] = []
        answer = await self.poster.post(job.body, self._headers(job, signed), self.now_ms)
        decision = decide(answer, job.attempt, critical=job.critical, jitter=self.jitter())
        self.flying -= 1
        self.replaying -= job.replay
        self.quiet_until_ms = max(self.quiet_until_ms, decision.quiet_until_ms)
        delivered = decision.state == DELIVERED
        if delivered:
            self.breaker.succeeded()
            self.window = min(self.window * 2, self.endpoint.concurrency * (AHEAD + 1))
        else:
            if answer.status_code is None or answer.status_code in _OVERLOADED:
                self.breaker.failed(answer.ended_ms)
            self.window = self.endpoint.concurrency
            self.more = True  # when it is due again is known only now
        self.closing = self.closing or decision.suspend
        self._log(job, answer, delivered=delivered)
        if decision.state == UNDELIVERED and not decision.suspend:
            log.error("event_undelivered", endpoint=self.endpoint.id, webhook_id=job.webhook_id)
        return Settled(job, answer, decision, tuple(signed))

    def _most(self) -> int:
        if self.breaker.is_probing or self.endpoint.rate_per_min:
            return 1
        return self.window

    def _is_due(self, now: int) -> bool:
        return self.due_ms is not None and self.due_ms <= now

    def _headers(self, job: Job, signed: list[str]) -> dict[str, str]:
        now = self.now_ms()
        signers = self.endpoint.signers_at(now)
        signed += [signer.key_id for signer in signers]
        stamp = now // 1000
        return {
            "content-type": CONTENT_TYPE,
            "webhook-id": job.webhook_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign_all(signers, job.webhook_id, stamp, job.body),
            "x-attempt": str(job.attempt),
            "x-replay": "1" if job.replay else "0",
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
