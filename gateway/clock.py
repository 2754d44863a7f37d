"""How far the agent's clock can be trusted: the server's time, and what follows from it (pure).

The server's time is kept as a difference to the *monotonic* clock, so the offset is right the moment somebody sets the
wall clock, long before the next receipt.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.wire import ClockTrust

CLOCK_SET_AFTER_MS = 1_704_067_200_000  # 2024-01-01: a board without battery starts long before
SYNC_WITHIN_MS = 5_000
CLOCK_OFF_MS = 300_000
STEP_MS = 2_000  # more than a leap second, and than any slewing between two looks
KEEP_SAMPLE_S = 300.0
DRIFT = 100e-6  # of a cheap crystal: how fast a sample loses its worth
CLOCK_OFF, CLOCK_UNSET = "clock_off", "clock_unset"


def clock_trust(wall_ms: int, offset_ms: int | None, *, stepped: bool = False) -> ClockTrust:
    """Say how far the agent's clock can be trusted.

    ``offset_ms`` is the server's clock minus ours. ``unset`` before 2024, ``sync`` when the server agrees within 5 s,
    ``free`` when it does not, has not been heard in this run, or ``stepped``: our clock was just set. The kernel's word
    on NTP is not asked: it differs by daemon, while the server's clock is the one that times are compared with in the
    end.

    >>> (
    ...     clock_trust(1_763_900_000_000, 120),
    ...     clock_trust(1_763_900_000_000, None),
    ...     clock_trust(86_400_000, 120),
    ... )
    (<ClockTrust.SYNC: 'sync'>, <ClockTrust.FREE: 'free'>, <ClockTrust.UNSET: 'unset'>)
    """
    if wall_ms < CLOCK_SET_AFTER_MS:
        return ClockTrust.UNSET
    if stepped or offset_ms is None or abs(offset_ms) > SYNC_WITHIN_MS:
        return ClockTrust.FREE
    return ClockTrust.SYNC


def clock_alarms(wall_ms: int, offset_ms: int | None) -> frozenset[str]:
    """Return the alarm of a clock that was never set, or is more than 5 minutes off.

    >>> sorted(clock_alarms(86_400_000, None)), sorted(clock_alarms(1_763_900_000_000, -300_001))
    (['clock_unset'], ['clock_off'])
    """
    if wall_ms < CLOCK_SET_AFTER_MS:
        return frozenset({CLOCK_UNSET})
    if offset_ms is not None and abs(offset_ms) > CLOCK_OFF_MS:
        return frozenset({CLOCK_OFF})
    return frozenset()


@dataclass(frozen=True, slots=True)
class _Sample:
    """The server's UTC minus the monotonic clock lay between ``low_ms`` and ``high_ms`` at ``taken``."""

    low_ms: float
    high_ms: float | None  # None: nobody knows how long the receipt was on its way
    taken: float

    @property
    def ahead_ms(self) -> float:
        return self.low_ms if self.high_ms is None else (self.low_ms + self.high_ms) / 2

    def error_ms(self, now: float) -> float:
        """How far off it may be at ``now``; infinite when not known."""
        if self.high_ms is None:
            return float("inf")
        return (self.high_ms - self.low_ms) / 2 + (now - self.taken) * DRIFT * 1000

    def contradicts(self, older: _Sample) -> bool:
        """Whether both can only be true when the server's clock was set in between."""
        later = older.high_ms is not None and self.low_ms > older.high_ms + STEP_MS
        return later or (self.high_ms is not None and self.high_ms < older.low_ms - STEP_MS)


class ServerClock:
    """The server's time from its receipts: the best sample of the last minutes, carried on by the monotonic clock.

    ``heard`` is called by one thread; ``offset_ms`` by any.
    """

    def __init__(self) -> None:
        self._best: _Sample | None = None

    def heard(self, server_ms: int, monotonic: float, round_trip_s: float | None) -> int:
        """Take the time of a receipt that came at ``monotonic``; return by how many ms the server's clock was set.

        ``round_trip_s`` is the time since the question, None when it is not known which question it was.
        """
        low = server_ms - monotonic * 1000
        high = None if round_trip_s is None else low + round_trip_s * 1000
        new, best = _Sample(low, high, monotonic), self._best
        if best is None:
            self._best = new
            return 0
        if new.contradicts(best):
            self._best = new
            return round(new.ahead_ms - best.ahead_ms)
        aged = monotonic - best.taken > KEEP_SAMPLE_S
        if aged or new.error_ms(monotonic) <= best.error_ms(monotonic):
            self._best = new
        return 0

    def offset_ms(self, wall_ms: int, monotonic: float) -> int | None:
        """Return the server's clock minus ours; None before the first receipt of this run."""
        best = self._best
        return None if best is None else round(best.ahead_ms + monotonic * 1000 - wall_ms)
