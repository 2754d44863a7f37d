"""The thread of what happens because time passes: deadlines, silences that end, repeats, data that stays away."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ingest.disk import passes
from ingest.operational import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = structlog.get_logger()

EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to look at again and again; ``look`` gets UTC ms and returns whether it wrote something to be sent."""

    name: str
    look: Callable[[int], bool]


class Clockwork:
    """Looks after each duty in turn, on a thread of its own; ``wake`` is called when something was written.

    An error that passes (a database that is locked or away) costs one duty one turn; any other ends the process.
    """

    def __init__(
        self,
        duties: Sequence[Duty],
        *,
        now_ms: Callable[[], int],
        wake: Callable[[], None],
        on_failure: Callable[[], None],
        every_s: float = EVERY_S,
    ) -> None:
        self._duties = duties
        self._now_ms = now_ms
        self._wake = wake
        self._on_failure = on_failure
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alert-clockwork", daemon=True)
        self._stalled: set[str] = set()
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin at once: what fell due while the server was down is noticed now."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is begun and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look after every duty once."""
        wrote = [self._one(duty) for duty in self._duties]
        if any(wrote):
            self._wake()

    def _run(self) -> None:
        try:
            self.look()
            while not self._stopping.wait(self._every_s):
                self.look()
        except BaseException as exc:
            self.failure = exc
            log.exception("alert_clockwork_failed")
            self._on_failure()
            raise

    def _one(self, duty: Duty) -> bool:
        try:
            wrote = duty.look(self._now_ms())
        except TRANSIENT as exc:
            if not passes(exc):
                raise
            if duty.name not in self._stalled:
                log.warning("duty_not_done", duty=duty.name, error=str(exc))
            self._stalled.add(duty.name)
            return False
        self._stalled.discard(duty.name)
        return wrote
