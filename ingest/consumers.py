"""Consumers of the inbox: each with its own cursor, thread and pace.

A consumer is handed what was just committed; when that does not join on to its cursor – it fell behind, or the process
has just started – it reads the inbox instead. What is handed over is never the only copy. Order and flags are state of
the process: at the start they are rolled forward over packs that were handled before.
"""

from __future__ import annotations

import bisect
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from ingest.decode import ArrivalOrder, Decoder
from ingest.detect.flags import QualityFlags
from ingest.detect.thresholds import NoThresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.batch import Batch, TakenPack
    from ingest.decode import SeriesIndex
    from ingest.detect.thresholds import Thresholds
    from ingest.inbox import Inbox
    from ingest.tally import Tally

log = structlog.get_logger()

HANDED_MAX = 64  # commits; beyond it the consumer catches up from the inbox
CATCH_UP_PACKS = 500
# How far behind its cursor a consumer that starts looks for what order and flags had learnt. Seven epochs of a channel
# that is read every 15 minutes are five days; two million readings take a few seconds.
ROLL_MS = 7 * 24 * 3_600_000
ROLL_READINGS = 2_000_000
ROLL_PACKS = 100_000
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0


class Stage(Protocol):
    """What a consumer does with batches; ``handle`` commits its cursor with its work."""

    def cursor(self) -> int:
        """Inbox position of the last pack handled."""
        ...

    def handle(self, batch: Batch) -> None:
        """Do the work of ``batch`` and move the cursor, or raise and change nothing."""
        ...


class Handed:
    """Packs just committed, decoded once for all consumers (not yet flagged for order or behaviour)."""

    def __init__(self, packs: list[TakenPack], decoder: Decoder) -> None:
        self.packs = packs
        self._decoder = decoder
        self._lock = threading.Lock()
        self._batch: Batch | None = None

    def batch(self) -> Batch:
        """Return the columns, decoding at the first call."""
        with self._lock:
            if self._batch is None:
                self._batch = self._decoder.decode(self.packs)
            return self._batch


class _WentBackError(Exception):
    """The stage's cursor stands before ours: what it was handed it no longer has."""

    def __init__(self, cursor: int) -> None:
        super().__init__(cursor)
        self.cursor = cursor


class Consumer:
    """Runs one stage on its own thread.

    ``transient`` are the errors after which the same batch is tried again, unless ``passes`` says that trying cannot
    help; any other ends the thread and is reported by ``failure`` (the process then ends: what is wrong is ours).
    ``relieve`` is told of each error before the next try, ``pause_s`` says how long to wait at least. After it a stage
    whose cursor went back (its store was emptied) is fed from the inbox again. One that ``paces`` has ingest take no
    more than it follows. ``thresholds`` are what is registered for the quality flags.
    """

    def __init__(
        self,
        name: str,
        stage: Stage,
        inbox: Inbox,
        index: SeriesIndex,
        *,
        transient: tuple[type[Exception], ...],
        passes: Callable[[Exception], bool] = lambda _: True,
        relieve: Callable[[Exception], None] = lambda _: None,
        pause_s: Callable[[Exception], float] = lambda _: 0.0,
        after: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
        paces: bool = False,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.name = name
        self.paces = paces
        self._stage = stage
        self._inbox = inbox
        self._index = index
        self._transient = transient
        self._passes = passes
        self._relieve = relieve
        self._pause_s = pause_s
        self._after = after
        self._on_failure = on_failure
        self._queue: queue.Queue[Handed | None] = queue.Queue(HANDED_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer-{name}", daemon=True)
        self._decoder = Decoder(index)
        self._order = ArrivalOrder()
        self._thresholds = thresholds or NoThresholds()
        self._quality = QualityFlags(self._thresholds)
        self._located = False
        self._tally: Tally | None = None
        self._dropped = threading.Event()  # a commit found the queue full
        self.position = 0
        self.failing = False
        self.reason = ""  # why it failed last
        self.failure: BaseException | None = None

    def count_into(self, tally: Tally) -> None:
        """Count what is handled into ``tally``; call it before ``start``."""
        self._tally = tally

    def start(self) -> None:
        """Begin at the stage's cursor.

        Places behind it that the inbox no longer knows (it was moved away, or restored) are never given out again:
        packs taken now would look as if they had been handled. A stage that cannot say where it stands is asked again
        by the thread: the others do not wait for it.
        """
        try:
            self.position = self._stage.cursor()
        except self._transient as exc:
            if not self._passes(exc):
                raise
            self._stalled(exc)
        else:
            self._located = True
            self._inbox.skip_to(self.position)
        if self._tally is not None:
            behind = self._inbox.count_after(self.position)
            self._tally.starts(self.name, behind, self._inbox.last_pos)
        self._thread.start()

    def offer(self, handed: Handed) -> None:
        """Hand over a commit; dropped when the consumer is behind, it will read the inbox."""
        try:
            self._queue.put_nowait(handed)
        except queue.Full:
            self._dropped.set()

    def stop(self) -> None:
        """Finish what is begun and end the thread."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._locate()
            while not self._stopping.is_set():
                try:
                    self._follow()
                except _WentBackError as exc:
                    self._go_to(exc.cursor)
        except BaseException as exc:
            self.failure = exc
            log.exception("consumer_failed", consumer=self.name)
            self._on_failure()
            raise

    def _locate(self) -> None:
        """Ask the stage where it stands until it can say so."""
        wait_s = RETRY_FIRST_S
        while not self._located and not self._stopping.is_set():
            try:
                cursor = self._stage.cursor()
            except self._transient as exc:
                wait_s = self._wait(exc, wait_s)
                continue
            self._located = True
            if cursor > self._inbox.last_pos:
                log.error(
                    "consumer_ahead", consumer=self.name, at=cursor, inbox=self._inbox.last_pos
                )
            self._go_to(cursor)

    def _go_to(self, cursor: int) -> None:
        """Go on at another place than was thought; order and flags begin anew there."""
        if self._tally is not None:
            again = self._inbox.count_after(cursor, self.position)
            skipped = self._inbox.count_after(self.position, cursor)
            self._tally.moved(self.name, again - skipped)
        self.position = cursor
        self._order = ArrivalOrder()
        self._quality = QualityFlags(self._thresholds)

    def _follow(self) -> None:
        self._roll_forward()
        self._catch_up()
        while not self._stopping.is_set():
            handed = self._queue.get()
            if handed is None:
                continue
            if handed.packs[0].pos > self.position + 1:
                self._catch_up()
            if handed.packs[-1].pos > self.position:
                self._handle(handed.batch())
            if self._queue.empty() and self._dropped.is_set():
                self._dropped.clear()
                self._catch_up()

    def _roll_forward(self) -> None:
        """Bring order and flags to where they were at the cursor: what they learn is not kept, but the packs are."""
        started = time.monotonic()
        newest = self._handled_after(self.position - CATCH_UP_PACKS)
        if not newest:
            return
        per_pack = len(self._decoder.decode(newest).t_ms) / len(newest)
        begin = max(
            self.position - int(ROLL_READINGS / max(per_pack, ROLL_READINGS / ROLL_PACKS)),
            bisect.bisect_left(
                range(newest[-1].pos),
                newest[-1].received_ms - ROLL_MS,
                key=lambda pos: self._inbox.received_after(pos) or 0,
            ),
        )
        count = 0
        while not self._stopping.is_set() and (packs := self._handled_after(begin)):
            count += len(self._flagged(self._decoder.decode(packs)).t_ms)
            begin = packs[-1].pos
        took_s = round(time.monotonic() - started, 1)
        log.info("consumer_rolled_forward", consumer=self.name, readings=count, took_s=took_s)

    def _handled_after(self, pos: int) -> list[TakenPack]:
        """Return some of the packs after ``pos`` that are not behind the cursor any more."""
        packs = self._inbox.read_after(max(pos, 0), CATCH_UP_PACKS)
        return [pack for pack in packs if pack.pos <= self.position]

    def _flagged(self, batch: Batch) -> Batch:
        batch = self._order.flag(batch)
        return self._quality.flag(batch, self._order.by_series)

    def _catch_up(self) -> None:
        """Read the inbox up to its end."""
        while not self._stopping.is_set():
            packs = self._inbox.read_after(self.position, CATCH_UP_PACKS)
            if self._tally is not None:  # what is not yet counted will be handed over in a moment
                packs = [pack for pack in packs if pack.pos <= self._tally.settled_pos]
            if not packs:
                return
            self._handle(self._decoder.decode(packs))

    def _handle(self, batch: Batch) -> None:
        batch = self._flagged(batch)
        wait_s = RETRY_FIRST_S
        while True:
            try:
                self._stage.handle(batch)
            except self._transient as exc:
                wait_s = self._wait(exc, wait_s)
                if self._stopping.is_set():
                    return
                self._check_place()
                continue
            if self.failing:
                log.info("consumer_recovered", consumer=self.name)
            self.failing = False
            self.position = batch.cursor
            if self._tally is not None:
                unreadable = {fault.pack.pos for fault in batch.faults if fault.position < 0}
                self._tally.handled(self.name, len(batch.packs), len(unreadable))
            self._after()
            return

    def _wait(self, exc: Exception, wait_s: float) -> float:
        """Wait before the next try, or raise ``exc`` when none can help; return how long to wait after that one."""
        if not self._passes(exc):
            raise exc
        self._relieve(exc)
        self._stalled(exc)
        self._stopping.wait(max(wait_s, self._pause_s(exc)))
        return min(wait_s * 2, RETRY_MAX_S)

    def _stalled(self, exc: Exception) -> None:
        if not self.failing or str(exc) != self.reason:
            log.warning("consumer_stalled", consumer=self.name, error=str(exc))
        self.failing = True
        self.reason = str(exc)

    def _check_place(self) -> None:
        """Raise when the stage has less than it was handed."""
        try:
            cursor = self._stage.cursor()
        except self._transient:
            return
        if cursor < self.position:
            raise _WentBackError(cursor)
