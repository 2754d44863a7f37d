"""A circuit breaker: after a run of failures one attempt at a time finds out whether they are over. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 100
CLOSE_TOGETHER_MS = 60_000
OPEN_MS = 30_000


@dataclass(slots=True)
class Breaker:
    """Of one endpoint; times are UTC milliseconds.

    It opens after ``FAILURES`` straight failures, none more than a minute after the one before: a long queue at a dead
    receiver. Up to half as many waiting events never open it, so their schedule is exact. What waits behind it is late,
    not lost: an attempt that was not made is not counted.
    """

    failures: int = 0
    last_ms: int = 0
    opened_ms: int | None = None

    def open_until(self, now_ms: int) -> int:
        """Return until when nothing may be sent; ``now_ms`` or before when a probe may go."""
        if self.opened_ms is None or not 0 <= now_ms - self.opened_ms < OPEN_MS:
            return 0  # a clock that was set back holds nothing up
        return self.opened_ms + OPEN_MS

    @property
    def is_probing(self) -> bool:
        """Whether one attempt at a time may go, and no more."""
        return self.opened_ms is not None

    def succeeded(self) -> None:
        """Close it."""
        self.failures, self.opened_ms = 0, None

    def failed(self, now_ms: int) -> None:
        """Count a failure; open at the last of a run, and again after a probe that failed."""
        if not 0 <= now_ms - self.last_ms <= CLOSE_TOGETHER_MS:
            self.failures = 0
        self.failures += 1
        self.last_ms = now_ms
        if self.opened_ms is not None or self.failures >= FAILURES:
            self.opened_ms = now_ms
