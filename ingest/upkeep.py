"""The thread that has the store of readings maintained each minute."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ingest.store.reading_store import Kept, ReadingStore

log = structlog.get_logger()

EVERY_S = 60.0


class StoreUpkeep:
    """Runs ``maintain`` on a thread of its own; after an error of ``transient`` it tries again a minute later."""

    def __init__(
        self,
        store: ReadingStore,
        keep: Callable[[], Sequence[Kept]],
        *,
        now_ms: Callable[[], int],
        transient: tuple[type[Exception], ...],
        on_failure: Callable[[], None],
        every_s: float = EVERY_S,
    ) -> None:
        self._store = store
        self._keep = keep
        self._now_ms = now_ms
        self._transient = transient
        self._on_failure = on_failure
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-upkeep", daemon=True)
        self._stalled = False
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin a while after the start, which has other work to do."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is begun and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._every_s):
                self._once()
        except BaseException as exc:
            self.failure = exc
            log.exception("store_upkeep_failed")
            self._on_failure()
            raise

    def _once(self) -> None:
        try:
            self._store.maintain(self._now_ms(), self._keep())
        except self._transient as exc:
            if not self._stalled:
                log.warning("store_not_maintained", error=str(exc))
            self._stalled = True
            return
        if self._stalled:
            log.info("store_maintained_again")
        self._stalled = False
