"""A wake-up that any thread may give and any event loop may wait for."""

from __future__ import annotations

import asyncio
import threading


class EventSignal:
    """Counts notifications; a waiter that names the last count it saw never misses one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def generation(self) -> int:
        """How often ``notify`` was called."""
        with self._lock:
            return self._generation

    def notify(self) -> None:
        """Wake all waiters; callable from any thread, never blocks on them."""
        with self._lock:
            self._generation += 1
            for loop, event in self._waiters:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    async def wait(self, seen: int, timeout_s: float) -> int:
        """Wait until the count differs from ``seen``, at most ``timeout_s`` seconds; return the count."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self._generation != seen:
                return self._generation
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiters.discard(waiter)
        return self.generation
