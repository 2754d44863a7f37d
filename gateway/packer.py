"""Records of one station into packs, packs into the spool.

Each lane has a queue, an open pack and one task, so that a test never waits behind readings. While one commit is being
written to disk the next packs gather, and go together: at rest a pack is committed at once when it closes, under load
one fsync carries many. A full queue makes ``put`` wait, which slows the polls.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from drivers.records import Reading, TestRecord
from gateway import wire
from gateway.wire import ClockTrust, Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.schedule import Clock

LINGER_S = 0.1
QUEUE_BATCHES = 256  # what waits while a commit is on its way; a batch is one poll of one device
CLOCK_SET_AFTER_MS = 1_704_067_200_000  # 2024-01-01: a board without battery starts long before
SYNC_WITHIN_MS = 5_000
LARGEST_RECORD = wire.MAX_BODY_BYTES - 64  # a body of one record has this much around it at most

log = structlog.get_logger()

PackItem = tuple[Lane, bytes, int]
R = TypeVar("R", Reading, TestRecord)


def clock_trust(wall_ms: int, offset_ms: int | None) -> ClockTrust:
    """Say how far the agent's clock can be trusted.

    ``offset_ms`` is the server's clock minus ours from the last receipt. ``unset`` before 2024, ``sync`` when the
    server agrees within 5 s, ``free`` when it does not or has not been heard in this run. The kernel's word on NTP
    is not asked: it differs by daemon, while the server's clock is the one that times are compared with in the end.

    >>> (
    ...     clock_trust(1_763_900_000_000, 120),
    ...     clock_trust(1_763_900_000_000, None),
    ...     clock_trust(86_400_000, 120),
    ... )
    (<ClockTrust.SYNC: 'sync'>, <ClockTrust.FREE: 'free'>, <ClockTrust.UNSET: 'unset'>)
    """
    if wall_ms < CLOCK_SET_AFTER_MS:
        return ClockTrust.UNSET
    if offset_ms is None or abs(offset_ms) > SYNC_WITHIN_MS:
        return ClockTrust.FREE
    return ClockTrust.SYNC


def size_of_reading(reading: Reading) -> int:
    """Upper bound of a reading's bytes in a body: its names, and 90 for keys, numbers and punctuation."""
    # msgspec escapes only quotes, backslashes and control characters; config allows none of them in a path.
    return 90 + len(reading.device) + len(reading.indicator) + 4 * len(reading.quality or "")


def size_of_test(record: TestRecord) -> int:
    """Bytes of a test record in a body, with its comma."""
    return len(msgspec.json.encode(record)) + 1


class OpenPack(Generic[R]):
    """The pack being filled; says when it closes (pure)."""

    def __init__(self, size_of: Callable[[R], int], linger_s: float) -> None:
        self._size_of: Callable[[R], int] = size_of
        self._linger_s = linger_s
        self._records: list[R] = []
        self._bytes = 0
        self._opened = 0.0
        self.full: list[list[R]] = []
        """Record lists of packs that closed because they were full, oldest first."""

    def add(self, record: R, now: float) -> None:
        """Take one record; a pack that it would overfill closes first."""
        size = self._size_of(record)
        if self._records and self._bytes + size > wire.PACK_MAX_BYTES:
            self._close()
        if not self._records:
            self._opened = now
        self._records.append(record)
        self._bytes += size
        if len(self._records) == wire.PACK_MAX_RECORDS:
            self._close()

    def _close(self) -> None:
        self.full.append(self._records)
        self._records, self._bytes = [], 0

    @property
    def closes_at(self) -> float | None:
        """When the open pack closes by age; None when it is empty."""
        return self._opened + self._linger_s if self._records else None

    def take(self, now: float, *, everything: bool = False) -> list[list[R]]:
        """Return the packs that are closed at ``now``; with ``everything`` the open one too."""
        due = self.closes_at
        if due is not None and (everything or due <= now):
            self._close()
        closed, self.full = self.full, []
        return closed


@dataclass(slots=True)
class _Batch(Generic[R]):
    records: Sequence[R]
    on_disk: asyncio.Event | None = None


@dataclass(slots=True)
class Counts:
    """What went through a lane since the start."""

    records: int = 0
    packs: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Waiting:
    """Packs and events that the next commit settles; kept until it has succeeded."""

    packs: list[PackItem] = field(default_factory=list)
    events: list[asyncio.Event] = field(default_factory=list)


class LanePacker(Generic[R]):
    """One lane of one station."""

    def __init__(
        self,
        lane: Lane,
        encode: Callable[[Sequence[R], ClockTrust], bytes],
        size_of: Callable[[R], int],
        *,
        linger_s: float,
        commit: Callable[[Sequence[PackItem]], Awaitable[None]],
        trust: Callable[[], ClockTrust],
        clock: Clock,
    ) -> None:
        self._lane = lane
        self._encode: Callable[[Sequence[R], ClockTrust], bytes] = encode
        self._size_of: Callable[[R], int] = size_of
        self._open: OpenPack[R] = OpenPack(size_of, linger_s)
        self._commit = commit
        self._trust = trust
        self._clock = clock
        self._queue: asyncio.Queue[_Batch[R]] = asyncio.Queue(QUEUE_BATCHES)
        self._arrived = asyncio.Event()
        self._stopping = False
        self._waiting = _Waiting()
        self.counts = Counts()

    async def put(self, records: Sequence[R]) -> None:
        """Hand over ``records``; waits while the queue is full."""
        await self._queue.put(_Batch(records))
        self._arrived.set()

    async def put_durable(self, record: R) -> bool:
        """Hand over ``record`` and return True when it is on disk; False for one that no pack can hold."""
        size = self._size_of(record)
        if size > LARGEST_RECORD:
            self.counts.refused += 1
            log.error(
                "record_too_large",
                lane=self._lane,
                record=getattr(record, "record_id", ""),
                bytes=size,
                limit=LARGEST_RECORD,
            )
            return False
        on_disk = asyncio.Event()
        await self._queue.put(_Batch((record,), on_disk))
        self._arrived.set()
        await on_disk.wait()
        return True

    def stop(self) -> None:
        """Make ``run`` commit all it has and return; nothing may be put after this."""
        self._stopping = True
        self._arrived.set()

    async def run(self) -> None:
        """Pack and commit until stopped. Can be called again after it raised: nothing taken is forgotten."""
        while True:
            await self._wait()
            stopping = self._stopping
            self._fill()
            for records in self._open.take(self._clock.monotonic(), everything=stopping):
                self._close(records)
            if self._waiting.packs:
                await self._write()
            self._release()
            if stopping and self._queue.empty():
                return

    async def _wait(self) -> None:
        """Until a batch arrives, the open pack is due or the end is asked for."""
        if not self._queue.empty() or self._waiting.packs or self._stopping:
            return
        self._arrived.clear()
        due = self._open.closes_at
        wait_s = None if due is None else max(0.0, due - self._clock.monotonic())
        try:
            async with asyncio.timeout(wait_s):
                await self._arrived.wait()
        except TimeoutError:
            pass

    def _fill(self) -> None:
        """Take what is queued now, as much as one queue holds: what comes meanwhile is for the next commit."""
        now = self._clock.monotonic()
        for _ in range(self._queue.qsize()):
            batch = self._queue.get_nowait()
            for record in batch.records:
                self._open.add(record, now)
            if batch.on_disk is not None:
                self._waiting.events.append(batch.on_disk)

    def _close(self, records: list[R]) -> None:
        self._waiting.packs.append((self._lane, self._encode(records, self._trust()), len(records)))

    async def _write(self) -> None:
        packs = self._waiting.packs
        await self._commit(packs)
        self.counts.packs += len(packs)
        self.counts.records += sum(count for _, _, count in packs)
        self._waiting.packs = []

    def _release(self) -> None:
        """Tell those who wait, once no record of theirs is still in the open pack."""
        if self._open.closes_at is None:
            for event in self._waiting.events:
                event.set()
            self._waiting.events = []


class Packer:
    """Both lanes of one station.

    ``commit`` puts packs into the spool and returns when they are on disk; ``trust`` is asked once per pack.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[PackItem]], Awaitable[None]],
        *,
        trust: Callable[[], ClockTrust],
        clock: Clock,
    ) -> None:
        self.readings = LanePacker(
            Lane.READINGS,
            wire.encode_readings,
            size_of_reading,
            linger_s=LINGER_S,
            commit=commit,
            trust=trust,
            clock=clock,
        )
        # A tester waits for its acknowledgement before it sends the next result: no lingering.
        self.tests = LanePacker(
            Lane.TESTS,
            wire.encode_tests,
            size_of_test,
            linger_s=0.0,
            commit=commit,
            trust=trust,
            clock=clock,
        )

    def stop(self) -> None:
        """Make both lanes commit all they have and end."""
        self.readings.stop()
        self.tests.stop()
