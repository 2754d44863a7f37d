"""When each device of a bus is polled next (pure: every method is given the time)."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

FIRST_POLL_WITHIN_S = 1.0  # buses start spread over this, so that a thousand do not begin at once
BACK_OFF_MAX_S = 60.0
JITTER = 0.25

T = TypeVar("T")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks of a process; tests hand in their own."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds; all waiting is measured with it."""
    wall_ms: Callable[[], int] = _wall_ms
    """UTC milliseconds; only written into records, never waited for."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class BackOff:
    """Delays that double from ``first_s`` to ``max_s``, each shortened by up to a quarter at random."""

    def __init__(self, first_s: float, max_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self.failures = 0

    def next_delay(self) -> float:
        """Count one more failure; return the seconds to wait after it."""
        doublings = min(self.failures, 32)
        self.failures += 1
        delay = min(self._max_s, self._first_s * 2.0**doublings)
        return delay * self._rng.uniform(1 - JITTER, 1)

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0


class Ticks:
    """Times ``start + n × interval_s``: no drift, and those that pass unused are skipped and counted."""

    def __init__(self, interval_s: float, start: float) -> None:
        self._interval_s = interval_s
        self._start = start
        self._number = 0
        self.missed = 0

    @property
    def due(self) -> float:
        """When the next tick is."""
        return self._start + self._number * self._interval_s

    def used(self, now: float) -> None:
        """The tick that was due is done; ticks that passed meanwhile are missed."""
        self.missed += self._move_beyond(now)

    def resume(self, now: float) -> None:
        """Go on with the first tick after ``now``; those in between were left out on purpose."""
        self._move_beyond(now)

    def _move_beyond(self, now: float) -> int:
        """Advance to the first tick after ``now``, at least by one; return how many were passed over."""
        following = self._number + 1
        latest = math.floor((now - self._start) / self._interval_s)
        self._number = max(following, latest + 1)
        return self._number - following


@dataclass(slots=True)
class Slot(Generic[T]):
    """One device's place in the schedule."""

    device: T
    interval_s: float
    ticks: Ticks
    back_off: BackOff
    retry_at: float | None = field(default=None)
    silent_s: float = 0.0
    """How long its last failed poll held the bus."""

    @property
    def due(self) -> float:
        """When the device is to be polled next."""
        return self.ticks.due if self.retry_at is None else self.retry_at


def _due(slot: Slot[T]) -> float:
    return slot.due


class BusSchedule(Generic[T]):
    """The devices of one bus in turn, the one that has waited longest first.

    A device that fails is left alone for its back-off; one poll ends it. The probe of such a device is put off, by one
    of its intervals at most, until it fits between the polls of the others. To leave room for it, the devices of a bus
    are due together and polled one after the other.
    """

    def __init__(
        self,
        devices: Sequence[tuple[T, float]],
        now: float,
        rng: random.Random,
        *,
        back_off_max_s: float = BACK_OFF_MAX_S,
    ) -> None:
        """Each device comes with its poll interval in seconds."""
        start = now + rng.uniform(0, min(FIRST_POLL_WITHIN_S, *(each for _, each in devices)))
        self.slots = [
            Slot(
                device,
                interval_s,
                Ticks(interval_s, start),
                BackOff(2 * interval_s, max(back_off_max_s, interval_s), rng),
            )
            for device, interval_s in devices
        ]

    def next(self, now: float) -> Slot[T]:
        """Return the slot to be polled next; its ``due`` may lie in the past."""
        first = min(self.slots, key=_due)
        if first.retry_at is None:
            return first
        answering = [slot for slot in self.slots if slot.retry_at is None]
        following = min(answering, key=_due, default=first)
        disturbs = following.due < max(now, first.due) + first.silent_s
        may_wait = max(now, following.due) < first.due + first.interval_s
        return following if disturbs and may_wait else first

    def answered(self, slot: Slot[T], now: float) -> None:
        """The device of ``slot`` was polled and answered."""
        if slot.retry_at is None:
            slot.ticks.used(now)
        else:
            slot.ticks.resume(now)
            slot.retry_at = None
        slot.back_off.reset()

    def failed(self, slot: Slot[T], now: float, *, silent_s: float = 0.0) -> None:
        """The device of ``slot`` did not answer, and held the bus for ``silent_s``."""
        slot.silent_s = silent_s
        slot.retry_at = now + slot.back_off.next_delay()

    @property
    def missed(self) -> int:
        """Polls that could not be made in time, over all devices."""
        return sum(slot.ticks.missed for slot in self.slots)
