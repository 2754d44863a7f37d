"""Consumers of the inbox: each with its own cursor, thread and pace.

A consumer is handed what was just committed; when that does not join on to its cursor – it fell behind, or the process
has just started – it reads the inbox instead. What is handed over is never the only copy.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Protocol

import structlog

from ingest.decode import ArrivalOrder, Decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.batch import Batch, TakenPack
    from ingest.decode import SeriesIndex
    from ingest.inbox import Inbox

log = structlog.get_logger()

HANDED_MAX = 64  # commits; beyond it the consumer catches up from the inbox
CATCH_UP_PACKS = 500
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
    """Packs just committed, decoded once for all consumers (not yet flagged for order)."""

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


class Consumer:
    """Runs one stage on its own thread.

    ``transient`` are the errors after which the same batch is tried again; any other ends the thread and is reported by
    ``failure`` (the process then ends: what is wrong is ours).
    """

    def __init__(
        self,
        name: str,
        stage: Stage,
        inbox: Inbox,
        index: SeriesIndex,
        *,
        transient: tuple[type[Exception], ...],
        after: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._stage = stage
        self._inbox = inbox
        self._index = index
        self._transient = transient
        self._after = after
        self._on_failure = on_failure
        self._queue: queue.Queue[Handed | None] = queue.Queue(HANDED_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer-{name}", daemon=True)
        self._decoder = Decoder(index)
        self._order = ArrivalOrder()
        self.position = 0
        self.failing = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin at the stage's cursor.

        Places behind it that the inbox no longer knows (it was moved away, or restored) are never given out again:
        packs taken now would look as if they had been handled.
        """
        self.position = self._stage.cursor()
        self._inbox.skip_to(self.position)
        self._thread.start()

    def offer(self, handed: Handed) -> None:
        """Hand over a commit; dropped when the consumer is behind, it will read the inbox."""
        try:
            self._queue.put_nowait(handed)
        except queue.Full:
            return

    def stop(self) -> None:
        """Finish what is begun and end the thread."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._catch_up()
            while not self._stopping.is_set():
                handed = self._queue.get()
                if handed is None:
                    continue
                if handed.packs[0].pos > self.position + 1:
                    self._catch_up()
                if handed.packs[-1].pos > self.position:
                    self._handle(handed.batch())
        except BaseException as exc:
            self.failure = exc
            log.exception("consumer_failed", consumer=self.name)
            self._on_failure()
            raise

    def _catch_up(self) -> None:
        """Read the inbox up to its end."""
        while not self._stopping.is_set():
            packs = self._inbox.read_after(self.position, CATCH_UP_PACKS)
            if not packs:
                return
            self._handle(self._decoder.decode(packs))

    def _handle(self, batch: Batch) -> None:
        batch = self._order.flag(batch)
        wait_s = RETRY_FIRST_S
        while True:
            try:
                self._stage.handle(batch)
            except self._transient as exc:
                if not self.failing:
                    log.warning("consumer_stalled", consumer=self.name, error=str(exc))
                self.failing = True
                if self._stopping.wait(wait_s):
                    return
                wait_s = min(wait_s * 2, RETRY_MAX_S)
                continue
            if self.failing:
                log.info("consumer_recovered", consumer=self.name)
            self.failing = False
            self.position = batch.cursor
            self._after()
            return
