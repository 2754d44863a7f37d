"""Records of one station into packs, packs into the spool.

Each lane has a queue, an open pack and one task, so that a test never waits behind readings. While one commit is being
written to disk the next packs gather, and go together: at rest a pack is committed at once when it closes, under load
one fsync carries many. A full queue makes ``put`` wait, which slows the polls.

While the spool cannot be written at all, polling goes on: packs wait in memory, and beyond ``MEMORY_BYTES`` the oldest
packs of readings are dropped. The first commit that succeeds again begins with a ``lost`` pack for them. A test is
never dropped: its instrument has no acknowledgement yet.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from drivers.records import Reading, TestRecord
from gateway import wire
from gateway.spool_file import SpoolBlockedError
from gateway.wire import ClockTrust, Lane, Lost, LostReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gateway.schedule import Clock

LINGER_S = 0.1
QUEUE_BATCHES = 256  # what waits while a commit is on its way; a batch is one poll of one device
COMMIT_BYTES = 1024 * 1024  # of bodies in one commit: what the spool's log must have room for
MEMORY_BYTES = 2 * 1024 * 1024  # of bodies that wait while the spool cannot be written
TRY_AGAIN_S = 1.0
LARGEST_RECORD = wire.MAX_BODY_BYTES - 64  # a body of one record has this much around it at most

log = structlog.get_logger()

PackItem = tuple[Lane, bytes, int]
R = TypeVar("R", Reading, TestRecord)


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


@dataclass(frozen=True, slots=True)
class Tally:
    """Records handed over since the start, and those of them dropped before the spool had them.

    One object, replaced as a whole, so that another thread reads both numbers of one moment.
    """

    taken: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Waiting:
    """Packs and events that the next commit settles; kept until it has succeeded."""

    packs: list[PackItem] = field(default_factory=list)
    bytes: int = 0
    dropped: int = 0
    """Records that no ``lost`` pack stands for yet."""
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
        self._try_at: float | None = None  # when to commit again after the spool was blocked
        self.counts = Counts()
        self.tally = Tally()

    async def put(self, records: Sequence[R]) -> None:
        """Hand over ``records``; waits while the queue is full."""
        await self._hand_over(_Batch(records))

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
        await self._hand_over(_Batch((record,), on_disk))
        await on_disk.wait()
        return True

    async def _hand_over(self, batch: _Batch[R]) -> None:
        await self._queue.put(batch)
        # No turn of the loop in between: nobody sees the batch before it is counted.
        self.tally = replace(self.tally, taken=self.tally.taken + len(batch.records))
        self._arrived.set()

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
            if stopping or self._try_at is None or self._try_at <= self._clock.monotonic():
                await self._write()
            if not self._waiting.packs:
                self._release()
            if stopping and self._queue.empty():
                if self._waiting.packs:
                    lost = sum(count for _, _, count in self._waiting.packs)
                    log.error("records_lost_at_the_end", lane=self._lane, records=lost)
                return

    async def _wait(self) -> None:
        """Until a batch arrives, the open pack is due, a commit is to be tried again or the end is asked for."""
        blocked = self._try_at is not None
        if not self._queue.empty() or self._stopping or (self._waiting.packs and not blocked):
            return
        self._arrived.clear()
        due = [at for at in (self._open.closes_at, self._try_at) if at is not None]
        wait_s = max(0.0, min(due) - self._clock.monotonic()) if due else None
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
        body = self._encode(records, self._trust())
        self._waiting.packs.append((self._lane, body, len(records)))
        self._waiting.bytes += len(body)

    async def _write(self) -> None:
        """Commit what waits, a megabyte at a time; keep it when the spool is blocked."""
        while self._waiting.packs:
            packs: list[PackItem] = self._next_commit()
            try:
                await self._commit([*self._lost_pack(), *packs])
            except SpoolBlockedError as exc:
                self._blocked(exc)
                return
            self.counts.packs += len(packs)
            self.counts.records += sum(count for _, _, count in packs)
            del self._waiting.packs[: len(packs)]
            self._waiting.bytes -= sum(len(body) for _, body, _ in packs)
            self._waiting.dropped = 0
            if self._try_at is not None:
                self._try_at = None
                log.info("spool_written_again", lane=self._lane)

    def _next_commit(self) -> list[PackItem]:
        size = 0
        for number, (_, body, _) in enumerate(self._waiting.packs):
            size += len(body)
            if number and size > COMMIT_BYTES:
                return self._waiting.packs[:number]
        return list(self._waiting.packs)

    def _lost_pack(self) -> list[PackItem]:
        """What stands for the records that were dropped; the spool gives it its number."""
        dropped = self._waiting.dropped
        if not dropped:
            return []
        return [(self._lane, wire.encode_lost(Lost(1, 1, dropped, LostReason.CAP)), dropped)]

    def _blocked(self, exc: SpoolBlockedError) -> None:
        if self._try_at is None:
            log.error("spool_blocked", lane=self._lane, error=str(exc))
        self._try_at = self._clock.monotonic() + TRY_AGAIN_S
        # Tests wait as long as it takes: their instruments do not go on without an acknowledgement.
        while self._lane is Lane.READINGS and self._waiting.bytes > MEMORY_BYTES:
            _, body, records = self._waiting.packs.pop(0)
            self._waiting.bytes -= len(body)
            self._waiting.dropped += records
            self.tally = replace(self.tally, dropped=self.tally.dropped + records)

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

    def tallies(self) -> dict[Lane, Tally]:
        """Return what each lane was handed and dropped; any thread may ask."""
        return {Lane.READINGS: self.readings.tally, Lane.TESTS: self.tests.tally}

    def stop(self) -> None:
        """Make both lanes commit all they have and end."""
        self.readings.stop()
        self.tests.stop()
