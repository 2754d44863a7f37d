"""Restart of a task that crashed: the one place that catches everything."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import structlog

from gateway.schedule import BackOff

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from gateway.schedule import Clock

FIRST_RESTART_S = 1.0
MAX_RESTART_S = 60.0
STEADY_AFTER_S = 120.0  # a task that ran this long starts its back-off anew

log = structlog.get_logger()


class Crashes(collections.Counter[str]):
    """How often each task crashed, by its name."""


async def supervise(
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    clock: Clock,
    rng: random.Random,
    crashes: Crashes,
) -> None:
    """Run ``work`` until it returns; when it raises, say so with traceback, count, wait, run it again."""
    back_off = BackOff(FIRST_RESTART_S, MAX_RESTART_S, rng)
    while True:
        started = clock.monotonic()
        try:
            await work()
        except Exception:
            crashes[name] += 1
            if clock.monotonic() - started >= STEADY_AFTER_S:
                back_off.reset()
            delay = back_off.next_delay()
            log.exception(
                "task_crashed", task=name, crashes=crashes[name], restart_in_s=round(delay, 1)
            )
            await clock.sleep(delay)
        else:
            return
