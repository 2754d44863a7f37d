from __future__ import annotations

import asyncio
import threading

from dashboards.signal import EventSignal


async def test_notice_from_another_thread_wakes_every_waiter():
    signal = EventSignal()
    seen = signal.generation
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(signal.wait(seen, 60)) for _ in range(3)]
        await asyncio.sleep(0)  # each task runs up to its wait
        assert len(signal._waiters) == 3
        await asyncio.to_thread(signal.notify)
    assert [task.result() for task in waiting] == [seen + 1] * 3
    assert not signal._waiters


async def test_notice_before_the_wait_is_not_missed():
    signal = EventSignal()
    seen = signal.generation
    signal.notify()
    assert await signal.wait(seen, 60) == seen + 1


async def test_wait_ends_with_its_time():
    signal = EventSignal()
    assert await signal.wait(signal.generation, 0.001) == 0
    assert not signal._waiters


def test_waiter_of_a_closed_loop_does_not_hurt_notify():
    signal = EventSignal()
    loop = asyncio.new_event_loop()
    signal._waiters.add((loop, asyncio.Event()))
    loop.close()
    thread = threading.Thread(target=signal.notify)
    thread.start()
    thread.join()
    assert signal.generation == 1
