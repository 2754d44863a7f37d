"""When the next message to a target may go: its rate, its digest, its quiet hours, its failures. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alerts.people.quiet import Quiet

WINDOW_MS = 61_000  # a minute of theirs, by our clock
BACK_OFF_S = (30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800)  # ≈ 16 h in all
MAX_ATTEMPTS = len(BACK_OFF_S) + 1
MAX_WAIT_S = 86_400


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a target: how many notices, how many of them critical (those are due at once)."""

    notices: int
    critical: int


@dataclass(frozen=True, slots=True)
class Go:
    """What may be sent now: how many messages, and whether of critical alerts only."""

    messages: int
    critical_only: bool


@dataclass(slots=True)
class Pace:
    """The pace of one target; ``sent`` holds when its newest messages were sent, whatever was answered (UTC ms)."""

    rate_per_min: int
    digest_s: int
    quiet: Quiet | None = None
    sent: deque[int] = field(default_factory=deque)
    failures: int = 0  # in a row
    not_before_ms: int = 0

    def __post_init__(self) -> None:
        """Keep no more than the rate needs."""
        self.sent = deque(self.sent, maxlen=self.rate_per_min)

    def next(self, waiting: Waiting, now_ms: int) -> Go | int | None:
        """Return what may go now, when to look again (UTC ms), or None when nothing waits."""
        if not waiting.notices:
            return None
        quiet_until = self.quiet.until_ms(now_ms) if self.quiet else None
        if quiet_until is not None and not waiting.critical:
            return quiet_until
        ready = max(self._free_ms(now_ms), self._collected_ms(now_ms, urgent=waiting.critical > 0))
        if self.not_before_ms > now_ms + MAX_WAIT_S * 1000:
            self.not_before_ms = 0  # the clock was set back
        ready = max(ready, self.not_before_ms)
        if ready > now_ms:
            return ready
        return Go(self.rate_per_min - self._recent(now_ms), quiet_until is not None)

    def told(self, at_ms: int, *, delivered: bool, retry_after_s: float | None = None) -> int:
        """Note a message and how it ended; return when what it said may be tried again, if it failed (UTC ms)."""
        self.sent.append(at_ms)
        if delivered:
            self.failures, self.not_before_ms = 0, 0
            return at_ms
        wait_s: float = BACK_OFF_S[min(self.failures, len(BACK_OFF_S) - 1)]
        if retry_after_s is not None:
            wait_s = min(max(wait_s, retry_after_s), MAX_WAIT_S)
        self.failures += 1
        self.not_before_ms = at_ms + round(wait_s * 1000)
        return self.not_before_ms

    def _recent(self, now_ms: int) -> int:
        return sum(now_ms - WINDOW_MS < min(at, now_ms) for at in self.sent)

    def _free_ms(self, now_ms: int) -> int:
        """Return when one more message is within the rate."""
        if self._recent(now_ms) < self.rate_per_min:
            return now_ms
        return min(self.sent[0], now_ms) + WINDOW_MS

    def _collected_ms(self, now_ms: int, *, urgent: bool) -> int:
        """Return until when notices are collected: the first after a quiet time goes at once, a critical one soon."""
        if not self.sent:
            return now_ms
        evenly_ms = WINDOW_MS // self.rate_per_min
        wait_ms = self.digest_s * 1000
        return min(self.sent[-1], now_ms) + (min(wait_ms, evenly_ms) if urgent else wait_ms)


def resumed(pace: Pace, history: Iterable[tuple[int, bool]]) -> Pace:
    """Return the pace after ``history``: when messages were sent and whether they were delivered, oldest first."""
    for at_ms, delivered in history:
        pace.told(at_ms, delivered=delivered)
    return pace
