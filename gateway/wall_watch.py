"""Steps of the wall clock, noticed at each look by comparing it with the monotonic one."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING

import structlog

from gateway.clock import STEP_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.schedule import Clock

# How long after a step a pack may still hold readings from before it: a poll takes at most two minutes, its reading
# waits for the commit before it, and a pack is open for 100 ms.
STEP_DOUBT_S = 150.0
TORN_LOOK_S = (
    0.1  # two clocks read this far apart cannot be compared: the thread was put aside in between
)

log = structlog.get_logger()


class WallWatch:
    """Notices when the wall clock is set, by comparing it with the monotonic one at each look; says so once.

    Thread-safe. A machine that slept counts as set: the monotonic clock stood still meanwhile.
    """

    def __init__(self, clock: Clock, on_step: Callable[[], None] = lambda: None) -> None:
        """``on_step`` is called by the thread that noticed."""
        self._clock = clock
        self._on_step = on_step
        self._lock = threading.Lock()
        self._ahead_ms: float | None = None
        self._stepped_at: float | None = None
        self.steps = 0

    def watched(self) -> Clock:
        """Return the clock whose every reading of the wall time is a look."""
        return dataclasses.replace(self._clock, wall_ms=self.wall_ms)

    def wall_ms(self) -> int:
        """Return the wall clock, UTC milliseconds, after comparing it."""
        with self._lock:
            before = self._clock.monotonic()
            wall_ms = self._clock.wall_ms()
            if self._clock.monotonic() - before <= TORN_LOOK_S:
                self._compare(wall_ms, before)
        return wall_ms

    def _compare(self, wall_ms: int, monotonic: float) -> None:
        ahead_ms = wall_ms - monotonic * 1000
        known, self._ahead_ms = self._ahead_ms, ahead_ms
        if known is not None and abs(ahead_ms - known) > STEP_MS:
            self._stepped_at = monotonic
            self.steps += 1
            log.warning("clock_stepped", by_s=round((ahead_ms - known) / 1000, 1), wall_ms=wall_ms)
            self._on_step()

    def just_stepped(self) -> bool:
        """Whether a pack that closes now may hold readings from before a step."""
        self.wall_ms()
        at = self._stepped_at
        return at is not None and self._clock.monotonic() - at <= STEP_DOUBT_S
