"""The counts of ingest, each made at its own event, read as one picture in which they balance.

One lock, held for a few additions, is what makes a scrape exact: ``received = outcomes + waiting`` for messages,
``taken + behind_at_start = done + quarantined + behind`` for the packs of each consumer.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.intake import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class ConsumerCounts:
    """Packs of one consumer; ``behind_at_start`` is what the inbox held for it when it started."""

    behind_at_start: int = 0
    done: int = 0
    quarantined: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted up to one moment; ``commits`` are per bucket of ``COMMIT_BOUNDS_S`` and one above."""

    received: int
    waiting: int
    outcomes: dict[Outcome, int]
    consumers: dict[str, ConsumerCounts]
    commits: tuple[int, ...]
    commit_s: float


class Tally:
    """Counts packs from their arrival to each consumer; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._waiting = 0
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._consumers: dict[str, ConsumerCounts] = {}
        self._commits = [0] * (len(COMMIT_BOUNDS_S) + 1)
        self._commit_s = 0.0
        self.settled_pos = 0
        """Place of the last pack that is counted as taken."""

    def received(self) -> None:
        """Count a message that arrived on an ``up`` topic; it waits until its group is settled."""
        with self._lock:
            self._received += 1
            self._waiting += 1

    def settled(self, outcomes: Mapping[Outcome, int], offered: int, last_pos: int) -> None:
        """Book a group of ``offered`` messages: ``outcomes`` are all since the start, ``last_pos`` the inbox' last."""
        with self._lock:
            fresh = outcomes[Outcome.TAKEN] - self._outcomes[Outcome.TAKEN]
            self._outcomes = dict(outcomes)
            self._waiting -= offered
            self.settled_pos = last_pos
            if fresh:
                for name, c in self._consumers.items():
                    self._consumers[name] = ConsumerCounts(
                        c.behind_at_start, c.done, c.quarantined, c.behind + fresh
                    )

    def committed(self, seconds: float) -> None:
        """Count a commit of the inbox and how long it took."""
        with self._lock:
            self._commits[bisect_left(COMMIT_BOUNDS_S, seconds)] += 1
            self._commit_s += seconds

    def starts(self, consumer: str, behind: int, last_pos: int) -> None:
        """Begin to count for a consumer that has ``behind`` packs of the inbox to catch up with."""
        with self._lock:
            self._consumers[consumer] = ConsumerCounts(behind, 0, 0, behind)
            self.settled_pos = max(self.settled_pos, last_pos)

    def moved(self, consumer: str, packs: int) -> None:
        """Book that a consumer turned out to have ``packs`` more to do (fewer when negative) than when it started."""
        with self._lock:
            c = self._consumers[consumer]
            self._consumers[consumer] = ConsumerCounts(
                c.behind_at_start + packs, c.done, c.quarantined, c.behind + packs
            )

    def handled(self, consumer: str, packs: int, quarantined: int) -> None:
        """Book ``packs`` that a consumer has done with, ``quarantined`` of them unreadable."""
        with self._lock:
            c = self._consumers.get(consumer, ConsumerCounts())
            self._consumers[consumer] = ConsumerCounts(
                c.behind_at_start,
                c.done + packs - quarantined,
                c.quarantined + quarantined,
                c.behind - packs,
            )

    def counts(self) -> Counts:
        """Return all counts of one moment."""
        with self._lock:
            return Counts(
                self._received,
                self._waiting,
                dict(self._outcomes),
                dict(self._consumers),
                tuple(self._commits),
                self._commit_s,
            )
