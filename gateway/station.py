"""One station's spool, link and key, used from one thread of their own."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog
from ulid import ULID

from gateway import keys
from gateway.agent_status import LaneBalance
from gateway.link import Facts, Link
from gateway.reserve import free_bytes
from gateway.spool import Spool, SpoolBlockedError, SpoolGoneError
from gateway.wire import Lane, decode_body

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from drivers.records import TestRecord
    from gateway.link import Send
    from gateway.packer import PackItem, Tally
    from gateway.schedule import Clock
    from gateway.wire import DeviceSeen, Receipt

log = structlog.get_logger()

ASK_AGAIN_S = 1.0
PACKS_AT_ONCE = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StationState:
    """What a station's spool and link say of themselves; times are UTC milliseconds."""

    queue: int
    oldest_unreceipted_ms: int | None
    last_receipt_ms: int | None
    clock_offset_ms: int | None
    alarms: tuple[str, ...]
    receipts: int = 0
    server_says: str | None = None


@dataclass(frozen=True, slots=True)
class RecentTest:
    """A test in the spool, and whether the server has it."""

    record: TestRecord
    receipted: bool


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
        self.public_key = link.public_key
        self.wake = asyncio.Event()
        self.receipted = asyncio.Event()
        self.server_clock = link.server_clock
        self.more_alarms: Callable[[], Iterable[str]] = tuple
        self.gone: SpoolGoneError | None = None
        """Why the spool will never be written again; nothing more is taken or sent."""
        self.on_gone: Callable[[], None] = _nothing
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
        """Put packs into the spool in one commit; they are on disk on return.

        Raises SpoolBlockedError when they are not, and all must be handed over again.
        """
        try:
            await self._run(self._spool.append_many, items, self._clock.wall_ms())
        except SpoolGoneError as exc:
            self._end(exc)
            raise SpoolBlockedError(str(exc)) from exc
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
        try:
            await self._run(self._link.receipt, receipt, now, wall_ms)
        except SpoolBlockedError as exc:  # the server says it again
            log.debug("receipt_not_noted", station=self.code, error=str(exc))
        except SpoolGoneError as exc:
            self._end(exc)
        for remark in self._link.take_remarks():
            say = log.warning if remark.warning else log.info
            say(remark.event, station=self.code, **remark.fields)
        self.receipted.set()
        self.wake.set()

    @property
    def clock_offset_ms(self) -> int | None:
        """The server's clock minus ours at this moment; None before the first receipt."""
        return self.server_clock.offset_ms(self._clock.wall_ms(), self._clock.monotonic())

    async def outgoing(self) -> tuple[list[Send], float | None]:
        """Return what to publish now, and the seconds after which to ask again without a ``wake``."""
        seen = self._seen()

        def ask() -> tuple[list[Send], float | None]:
            now = self._clock.monotonic()
            sends = self._link.outgoing(now, self._clock.wall_ms(), self._facts(seen))
            return sends, self._link.next_wakeup(now)

        try:
            return await self._run(ask)
        except SpoolBlockedError as exc:
            log.debug("nothing_to_send_now", station=self.code, error=str(exc))
            return [], ASK_AGAIN_S
        except SpoolGoneError as exc:
            self._end(exc)
            return [], None

    async def goodbye(self) -> Send:
        """Return the status that ends a session in an orderly way."""
        seen = self._seen()

        def ask() -> Send:
            now = self._clock.monotonic()
            return self._link.goodbye(now, self._clock.wall_ms(), self._facts(seen))

        return await self._run(ask)

    async def state(self) -> StationState:
        """Return queue, receipts and alarms as they are now."""
        more = tuple(self.more_alarms())

        def ask() -> StationState:
            now = self._clock.monotonic()
            return StationState(
                queue=self._spool.queue_length(),
                oldest_unreceipted_ms=self._spool.oldest_unreceipted_ms(),
                last_receipt_ms=self._link.last_receipt_ms,
                clock_offset_ms=self.clock_offset_ms,
                alarms=tuple(sorted(self._link.alarms(now, self._clock.wall_ms()).union(more))),
                receipts=self._link.receipts,
                server_says=self._link.server_says,
            )

        return await self._run(ask)

    async def counts(self, handed_over: Callable[[], dict[Lane, Tally]]) -> dict[Lane, LaneBalance]:
        """Return where every record since the start is, by lane, all at one moment.

        ``handed_over`` is asked on the spool's thread, where no commit is half done.
        """

        def ask() -> dict[Lane, LaneBalance]:
            tallies, lanes = handed_over(), {}
            for lane, held in self._spool.counts().items():
                tally = tallies[lane]
                lost = {reason.value: records for reason, records in held.lost.items()}
                lanes[lane] = LaneBalance(
                    taken=tally.taken,
                    queued_at_start=held.queued_at_start,
                    receipted=held.receipted,
                    reopened=held.reopened,
                    lost={"cap": 0, "corrupt": 0, **lost, "memory": tally.dropped},
                    queued=held.queued,
                    packing=tally.taken - tally.dropped - held.taken,
                )
            return lanes

        return await self._run(ask)

    async def recent_tests(self, most: int) -> list[RecentTest]:
        """Return the last tests that the spool holds, newest first."""
        return await self._run(self._recent_tests, most)

    def _recent_tests(self, most: int) -> list[RecentTest]:
        found: list[RecentTest] = []
        epochs = [epoch for epoch in self._spool.epochs.values() if epoch.lane is Lane.TESTS]
        for epoch in sorted(epochs, key=lambda e: e.ord, reverse=True):
            end = epoch.last
            while end >= 1 and len(found) < most:
                first = max(1, end - PACKS_AT_ONCE + 1)
                packs = self._spool.packs_from(epoch.epoch, first, PACKS_AT_ONCE)
                for pack in reversed([pack for pack in packs if pack.seq <= end]):
                    tests = decode_body(pack.body).tests or []
                    found += [RecentTest(t, pack.seq <= epoch.acked) for t in reversed(tests)]
                if not packs or first == 1:
                    break
                end = first - 1
        return found[:most]

    def _end(self, exc: SpoolGoneError) -> None:
        if self.gone is None:
            self.gone = exc
            log.error("spool_gone", station=self.code, error=str(exc))
            self.on_gone()

    async def close(self) -> None:
        """Close the spool and end the thread."""
        try:
            await self._run(self._spool.close)
        finally:
            self._worker.shutdown(wait=False)

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call, *args)

    def _facts(self, seen: list[DeviceSeen]) -> Facts:
        return Facts(
            devices=seen, disk_free=free_bytes(self._directory), alarms=list(self.more_alarms())
        )


def _nothing() -> None:
    """Do nothing."""


def _new_id() -> str:
    return str(ULID())
