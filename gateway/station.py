"""One station's spool, link and key, used from one thread of their own."""

from __future__ import annotations

import asyncio
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ulid import ULID

from gateway import keys
from gateway.link import Facts, Link
from gateway.spool import Spool

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.link import Send
    from gateway.packer import PackItem
    from gateway.schedule import Clock
    from gateway.wire import DeviceSeen, Receipt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StationState:
    """What a station's spool and link say of themselves; times are UTC milliseconds."""

    queue: int
    oldest_unreceipted_ms: int | None
    last_receipt_ms: int | None
    clock_offset_ms: int | None
    alarms: tuple[str, ...]


class StationAgent:
    """A station on the edge side. Every call runs on the station's own thread, one after the other.

    ``wake`` is set whenever there may be something to publish; ``receipted`` after each receipt.
    """

    def __init__(
        self,
        code: str,
        spool: Spool,
        link: Link,
        worker: ThreadPoolExecutor,
        directory: Path,
        seen: Callable[[], list[DeviceSeen]],
        clock: Clock,
    ) -> None:
        self.code = code
        self.will = link.will
        self.wake = asyncio.Event()
        self.receipted = asyncio.Event()
        self.clock_offset_ms: int | None = None
        self._spool = spool
        self._link = link
        self._worker = worker
        self._directory = directory
        self._seen = seen
        self._clock = clock

    @classmethod
    async def open(
        cls,
        code: str,
        directory: Path,
        *,
        cap_bytes: int,
        version: str,
        seen: Callable[[], list[DeviceSeen]],
        clock: Clock,
        rng: random.Random,
    ) -> StationAgent:
        """Open ``directory``/spool.db and agent.key, making them at the first start; raise SpoolError.

        ``seen`` is asked for the devices at each status.
        """
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"station-{code}")

        def parts() -> tuple[Spool, Link]:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = keys.load_or_create(directory / "agent.key")
            spool = Spool.open(directory / "spool.db", cap_bytes=cap_bytes, new_id=_new_id)
            link = Link(
                code,
                spool,
                session=_new_id(),
                public_key=keys.public_text(key),
                sign=functools.partial(keys.sign, key),
                version=version,
                rng=rng,
            )
            return spool, link

        try:
            spool, link = await asyncio.get_running_loop().run_in_executor(worker, parts)
        except BaseException:
            worker.shutdown(wait=True)
            raise
        return cls(code, spool, link, worker, directory, seen, clock)

    async def append(self, items: Sequence[PackItem]) -> None:
        """Put packs into the spool in one commit; they are on disk on return."""
        await self._run(self._spool.append_many, items, self._clock.wall_ms())
        self.wake.set()

    async def connected(self) -> None:
        """There is a new connection."""
        await self._run(self._link.connected, self._clock.monotonic())
        self.wake.set()

    async def disconnected(self) -> None:
        """The connection is gone."""
        await self._run(self._link.disconnected)

    async def receipt(self, receipt: Receipt) -> None:
        """Take one receipt."""
        now, wall_ms = self._clock.monotonic(), self._clock.wall_ms()
        await self._run(self._link.receipt, receipt, now, wall_ms)
        self.clock_offset_ms = self._link.clock_offset_ms
        self.receipted.set()
        self.wake.set()

    async def outgoing(self) -> tuple[list[Send], float | None]:
        """Return what to publish now, and the seconds after which to ask again without a ``wake``."""
        seen = self._seen()

        def ask() -> tuple[list[Send], float | None]:
            now = self._clock.monotonic()
            sends = self._link.outgoing(now, self._clock.wall_ms(), self._facts(seen))
            return sends, self._link.next_wakeup(now)

        return await self._run(ask)

    async def goodbye(self) -> Send:
        """Return the status that ends a session in an orderly way."""
        seen = self._seen()

        def ask() -> Send:
            return self._link.goodbye(self._clock.wall_ms(), self._facts(seen))

        return await self._run(ask)

    async def state(self) -> StationState:
        """Return queue, receipts and alarms as they are now."""

        def ask() -> StationState:
            return StationState(
                queue=self._spool.queue_length(),
                oldest_unreceipted_ms=self._spool.oldest_unreceipted_ms(),
                last_receipt_ms=self._link.last_receipt_ms,
                clock_offset_ms=self._link.clock_offset_ms,
                alarms=tuple(sorted(self._spool.alarms)),
            )

        return await self._run(ask)

    async def close(self) -> None:
        """Close the spool and end the thread."""
        try:
            await self._run(self._spool.close)
        finally:
            self._worker.shutdown(wait=False)

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call, *args)

    def _facts(self, seen: list[DeviceSeen]) -> Facts:
        return Facts(devices=seen, disk_free=_disk_free(self._directory))


def _disk_free(directory: Path) -> int | None:
    """Bytes that an ordinary user may still write beside ``directory``; None when the system does not say."""
    try:
        answer = os.statvfs(directory)
    except OSError:
        return None
    return answer.f_bavail * answer.f_frsize


def _new_id() -> str:
    return str(ULID())
