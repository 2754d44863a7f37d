from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.supervise import Crashes, supervise

if TYPE_CHECKING:
    import random

    from tests.gateway.conftest import FakeTime


async def test_a_crash_is_logged_counted_and_restarted_with_growing_waits(
    fake_time: FakeTime, rng: random.Random
) -> None:
    crashes = Crashes()
    left = [ValueError("bug"), KeyError("bug"), ExceptionGroup("two", [OSError("a"), OSError("b")])]

    async def work() -> None:
        if left:
            raise left.pop(0)

    with capture_logs() as logs:
        await supervise("bus x", work, clock=fake_time.clock(), rng=rng, crashes=crashes)
    assert crashes == {"bus x": 3}
    assert [entry["event"] for entry in logs] == ["task_crashed"] * 3
    assert all(entry["exc_info"] for entry in logs)
    assert len(fake_time.slept) == 3
    for nominal, slept in zip([1, 2, 4], fake_time.slept, strict=True):
        assert 0.75 * nominal <= slept <= nominal


async def test_a_task_that_ran_long_starts_its_back_off_anew(
    fake_time: FakeTime, rng: random.Random
) -> None:
    left = 5

    async def work() -> None:
        nonlocal left
        if left:
            left -= 1
            fake_time.now += 300.0
            raise ValueError("bug")

    await supervise("x", work, clock=fake_time.clock(), rng=rng, crashes=Crashes())
    assert max(fake_time.slept) <= 1.0


async def test_cancellation_is_no_crash(fake_time: FakeTime, rng: random.Random) -> None:
    crashes = Crashes()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            supervise("x", work, clock=fake_time.clock(), rng=rng, crashes=crashes)
        )
        await started.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        task.result()
    assert not crashes
