"""The way into the inbox for whoever waits for the answer: records over HTTP."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Protocol

from ingest.intake import Outcome
from ingest.publishers.arrival import Arrival

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.publishers.arrival import Delivery
    from ingest.publishers.parsed import Parsed
    from ingest.publishers.reader import MessageReader

OFFER_S = 2.0  # for room in the queue
COMMIT_S = 15.0  # a group and a slow disk


class Intake(Protocol):
    """The intake thread (``service.IngestService``)."""

    def offer(self, arrival: Arrival, *, within_s: float) -> bool:
        """Give a message to it; False when it did not get there in time."""
        ...

    def holding(self) -> str:
        """Why nothing is taken now; empty while it is."""
        ...


class Door:
    """Safe to call from several threads."""

    def __init__(self, intake: Intake, reader: MessageReader, now_ms: Callable[[], int]) -> None:
        self._intake = intake
        self._reader = reader
        self.now_ms = now_ms

    def holding(self) -> str:
        """Why nothing is taken now; empty while it is."""
        return self._intake.holding()

    def read(self, topic: str, body: bytes, received_ms: int) -> Parsed:
        """Return what a body says; never raises for what is in it."""
        return self._reader.read(topic, body, received_ms)

    def deliver(self, topic: str, body: bytes, header: str, delivery: Delivery) -> Outcome:
        """Return what became of a body, after the inbox's commit; HELD also when that was not waited for."""
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        arrival = Arrival(
            topic,
            body,
            header,
            delivery.received_ms,
            answer.put,
            delivery,
            may_be_repeated=True,
        )
        if not self._intake.offer(arrival, within_s=OFFER_S):
            return Outcome.HELD
        try:
            return Outcome(answer.get(timeout=COMMIT_S))
        except queue.Empty:  # perhaps it is taken later: sent again it is known
            return Outcome.HELD
