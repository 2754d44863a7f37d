"""Ingest as a whole: subscriber → intake → inbox → receipts and consumers.

One thread offers messages to the intake and commits in groups; receipts leave only after the commit.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import structlog

from ingest.consumers import Consumer, Handed
from ingest.decode import Decoder, SeriesIndex
from ingest.disk import passes
from ingest.inbox import GIVE_BACK_PAGES
from ingest.intake import Committed, Hold, Intake, Outcome
from ingest.operational import TRANSIENT
from ingest.publishers.arrival import Arrival, SessionBegins

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ingest.disk import Room
    from ingest.inbox import Inbox
    from ingest.registry.live import Registry
    from ingest.stations import StationWatch
    from ingest.subscriber import Message, Subscriber
    from ingest.upkeep import StoreUpkeep

log = structlog.get_logger()

GROUP_MESSAGES = 500
PACE_PACKS = 2000  # about half a second of work for the judge
PACE_AT_MOST_S = 0.25  # each group; then the inbox takes what comes all the same
PACE_LOOK_S = 0.01
GROUP_S = 0.02  # a commit's fsync is shared by what arrives in this time
KEYS_EVERY_S = 1.0
HOLD_AFTER_FAULT_S = 10.0
ROOM_EVERY_S = 1.0
CROWDED, CALM = 0.8, 0.2  # of the subscriber's queue
CROWDED_S = 3.0  # a burst is shorter
PRUNE_EVERY_S = 60.0
PRUNE_PACKS = 1000  # at a time: taking packs must not wait for it
DAY_MS = 24 * 3600 * 1000
_PRUNE_FAULTS: tuple[type[Exception], ...] = (sqlite3.OperationalError, *TRANSIENT)


class IngestService:
    """Owns the intake thread; consumers are started and stopped with it."""

    def __init__(
        self,
        *,
        subscriber: Subscriber,
        inbox: Inbox,
        registry: Registry,
        consumers: Sequence[Consumer],
        watch: StationWatch,
        index: SeriesIndex,
        store: str,
        retention_days: int,
        now_ms: Callable[[], int],
        on_failure: Callable[[], None],
        room: Room | None = None,
        publishers: Subscriber | None = None,
        evidence: Callable[[], Collection[int]] = frozenset,
        upkeep: StoreUpkeep | None = None,
    ) -> None:
        self._subscriber = subscriber
        self._publishers = publishers  # feeds the same queue
        self._inbox = inbox
        self._registry = registry
        self._consumers = consumers
        self._watch = watch
        self._decoder = Decoder(index)
        self._retention_ms = retention_days * DAY_MS
        self._now_ms = now_ms
        self._on_failure = on_failure
        self.intake = Intake(inbox, registry, store=store)
        self.tally = subscriber.tally
        for consumer in consumers:
            consumer.count_into(self.tally)
        self._offered = 0  # packs in the group that is not yet committed
        self._arrivals: list[tuple[Arrival, Outcome]] = []  # of that group
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._room = room
        self._evidence = evidence  # places of packs that stay, however old
        self._upkeep = upkeep
        self._keys_due = self._prune_due = self._room_due = 0.0
        self._fault_until = 0.0  # the inbox could not be written; tried again then
        self._crowded_since: float | None = None
        self._overloaded = False
        self._registry_lost = False
        self.failure: BaseException | None = None

    @property
    def consumers(self) -> Sequence[Consumer]:
        """The consumers, for metrics."""
        return self._consumers

    @property
    def last_pos(self) -> int:
        """Place of the last pack taken."""
        return self._inbox.last_pos

    def holding(self) -> str:
        """Why packs are not taken now; empty while they are."""
        if self._room is not None and self._room.low:
            return "disk: nearly full; free space on it"
        if self.intake.hold is Hold.ALL:
            return "inbox: not written, disk full?"
        if self.intake.hold is Hold.READINGS:
            return "overloaded: packs of readings wait at the stations"
        return ""

    def first_failure(self) -> BaseException | None:
        """What ended a thread of ours, None while all is well."""
        failures = [
            self.failure,
            self._watch.failure,
            None if self._upkeep is None else self._upkeep.failure,
            *(consumer.failure for consumer in self._consumers),
        ]
        return next((failure for failure in failures if failure is not None), None)

    def start(self) -> None:
        """Start consumers first: they catch up from the inbox; then take messages."""
        for consumer in self._consumers:
            consumer.start()
        self._watch.start()
        if self._upkeep is not None:
            self._upkeep.start()
        self._thread.start()
        self._subscriber.start()
        if self._publishers is not None:
            self._publishers.start()

    def stop(self) -> None:
        """Stop taking, then let the consumers finish what they hold."""
        if self._publishers is not None:
            self._publishers.stop()
        self._subscriber.stop()
        # A thread that failed takes nothing from a queue that is full.
        while self._thread.is_alive():
            try:
                self._subscriber.messages.put(None, timeout=0.1)
            except queue.Full:
                continue
            self._thread.join()
        for consumer in self._consumers:
            consumer.stop()
        self._watch.stop()
        if self._upkeep is not None:
            self._upkeep.stop()

    def _run(self) -> None:
        try:
            while self._group():
                self._housekeeping()
                self._pace()
        except BaseException as exc:
            self.failure = exc
            log.exception("intake_failed")
            self._on_failure()
            raise

    def _group(self) -> bool:
        """Offer one group of messages and commit it; False when it is time to end."""
        messages = self._subscriber.messages
        try:
            message = messages.get(timeout=KEYS_EVERY_S)
        except queue.Empty:
            self._commit()  # answers that housekeeping asked for
            return True
        until = time.monotonic() + GROUP_S
        offered = 0
        while message is not None:
            self._offer(message)
            offered += 1
            left_s = until - time.monotonic()
            if offered == GROUP_MESSAGES or left_s <= 0:
                break
            try:
                message = messages.get(timeout=left_s)
            except queue.Empty:
                break
        self._commit()
        return message is not None

    def offer(self, arrival: Arrival, *, within_s: float) -> bool:
        """Give a message of a publisher to the intake thread; False when it did not get to it in time."""
        try:
            self._subscriber.messages.put(arrival, timeout=within_s)
        except queue.Full:
            return False
        self.tally.received()
        return True

    def _offer(self, message: Message | Arrival | SessionBegins) -> None:
        if isinstance(message, SessionBegins):
            self.intake.session_begins(message.source)
        elif isinstance(message, Arrival):
            self._offered += 1
            self._arrivals.append((message, self.intake.arrival(message)))
        elif message.topic.endswith("/up"):
            self._offered += 1
            self.intake.pack(message.topic, message.payload, message.received_ms)
        else:
            self.intake.status(
                message.topic, message.payload, message.received_ms, retained=message.retained
            )

    def _commit(self) -> None:
        begun = time.perf_counter()
        try:
            committed = self.intake.commit(self._now_ms())
        except sqlite3.OperationalError as exc:
            if not passes(exc):  # read-only: nobody will be told that it was taken
                raise
            # Disk full or slow: nothing of the group counts, the edges keep it and probe slowly.
            if not self.intake.hold:
                log.warning("inbox_not_written", error=str(exc), todo="free disk space")
            self._fault_until = time.monotonic() + HOLD_AFTER_FAULT_S
            self.intake.hold = Hold.ALL
            self._settle(written=False)
            return
        if committed.packs:
            self.tally.committed(time.perf_counter() - begun)
        self._settle(written=True)
        self._hand_over(committed)

    def _settle(self, *, written: bool) -> None:
        self.tally.settled(self.intake.counts, self._offered, self._inbox.last_pos)
        self._offered = 0
        arrivals, self._arrivals = self._arrivals, []
        for arrival, outcome in arrivals:
            arrival.done(outcome if written else Outcome.HELD)

    def _hand_over(self, committed: Committed) -> None:
        for station, receipt in committed.receipts:
            self._subscriber.publish_receipt(station, receipt)
        if committed.packs:
            handed = Handed(committed.packs, self._decoder)
            for consumer in self._consumers:
                consumer.offer(handed)
        for loss in committed.losses:
            log.error(
                "packs_lost",
                station=loss.station,
                epoch=loss.epoch,
                packs=loss.through_seq - loss.from_seq + 1,
                reason=loss.reason,
            )
        self._watch.offer(committed.statuses)

    def _pace(self) -> None:
        """Take no more than the judge can follow, within bounds: a breach must not wait behind a backlog.

        The edges keep what is not taken. A judge that stands still paces nothing: then the inbox holds.
        """
        until = time.monotonic() + PACE_AT_MOST_S
        while any(
            c.paces and not c.failing and self.last_pos - c.position > PACE_PACKS
            for c in self._consumers
        ):
            if time.monotonic() >= until:
                return
            time.sleep(PACE_LOOK_S)

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if self._room is not None and now >= self._room_due:
            self._room_due = now + ROOM_EVERY_S
            self._room.look()
        self.intake.hold = self._wanted_hold(now)
        if now >= self._keys_due:
            self._keys_due = now + KEYS_EVERY_S
            self._refresh()
        if now >= self._prune_due:
            self._prune_due = now + PRUNE_EVERY_S
            self._prune(now)

    def _refresh(self) -> None:
        """Look what was decided meanwhile; while the database cannot be asked, what was known last holds."""
        try:
            for station in self._registry.refresh_keys():
                self.intake.answer_again(station)
            self._registry.quality.refresh()
        except TRANSIENT as exc:
            if not passes(exc):
                raise
            if not self._registry_lost:
                log.warning("registry_not_read", error=str(exc))
            self._registry_lost = True
            return
        self._registry_lost = False

    def _wanted_hold(self, now: float) -> Hold:
        self._watch_queue(now)
        if now < self._fault_until or (self._room is not None and self._room.low):
            return Hold.ALL
        return Hold.READINGS if self._overloaded else Hold.NONE

    def _watch_queue(self, now: float) -> None:
        """Note when more comes than is taken for some seconds, and when it is over."""
        messages = self._subscriber.messages
        filled = messages.qsize() / messages.maxsize
        if self._overloaded:
            if filled < CALM:
                self._overloaded = False
                self._crowded_since = None
                log.info("overload_over")
            return
        if filled <= CROWDED:
            self._crowded_since = None
        elif self._crowded_since is None:
            self._crowded_since = now
        elif now - self._crowded_since >= CROWDED_S:
            self._overloaded = True
            log.warning(
                "overloaded", waiting=messages.qsize(), todo="readings wait at the stations"
            )

    def _prune(self, now: float) -> None:
        done = min((c.position for c in self._consumers), default=0)
        try:
            before_ms = self._now_ms() - self._retention_ms
            gone = self._inbox.prune(before_ms, done, PRUNE_PACKS, self._evidence())
            gone_pages = self._inbox.give_back()
        except _PRUNE_FAULTS as exc:  # deleting needs disk space too
            if not passes(exc):
                raise
            log.warning("inbox_not_pruned", error=str(exc), todo="free disk space")
            return
        if gone == PRUNE_PACKS or gone_pages == GIVE_BACK_PAGES:
            self._prune_due = now  # there is more: go on after the next group
