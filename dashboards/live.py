"""The tail of the events table, read once for all clients of the live stream."""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from ingest.tables import events

if TYPE_CHECKING:
    from dashboards.signal import EventSignal
    from ingest.operational import Operational

PAGE = 200  # events a client holds at most; a slow one reads its next page from the table, later
POLL_S = 1.0  # writes by another process carry no wake-up

log = structlog.get_logger()
_by_id = attrgetter("id")


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the events table; ``data`` is the JSON text that clients get."""

    id: int
    type: str
    data: str


class EventTail:
    """The newest events in memory, older ones from the table; one query per wake-up, however many clients.

    Ids are taken by one writer at a time (``ingest/operational.py``), so they appear in order: after ``last`` there is
    never a smaller id to come.
    """

    def __init__(self, operational: Operational, wake: EventSignal) -> None:
        self._operational = operational
        self._wake = wake
        self._ring: list[Event] = []
        self._floor = (
            sys.maxsize
        )  # the ring holds every event above it; until run() has begun, none
        self._newest = 0
        self._changed = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Follow the table until ``close``."""
        seen = self._wake.generation
        failing = False
        while not self._closed:
            try:
                await self._read_new()
            except sa.exc.SQLAlchemyError as exc:
                if not failing:
                    log.warning("events_unreadable", error=str(exc))
                failing = True
            else:
                if failing:
                    log.info("events_readable")
                failing = False
            seen = await self._wake.wait(seen, POLL_S)

    def close(self) -> None:
        """End all streams (on the loop's thread): an open stream would hold up the server's stop."""
        self._closed = True
        self._announce()

    async def newest(self) -> int:
        """Id of the newest event, 0 when there is none."""
        return await asyncio.to_thread(self._select_newest)

    async def after(self, last: int) -> list[Event]:
        """Return the next events after ``last``, at most ``PAGE``; wait for one; empty only after ``close``."""
        while True:
            changed = (
                self._changed
            )  # taken first: an event between the read and the wait still wakes us
            if last >= self._floor:
                start = bisect.bisect_right(self._ring, last, key=_by_id)
                page = self._ring[start : start + PAGE]
            else:
                page = await asyncio.to_thread(self._select_after, last)
            if page or self._closed:
                return page
            await changed.wait()

    async def _read_new(self) -> None:
        if self._floor == sys.maxsize:
            self._newest = self._floor = await asyncio.to_thread(self._select_newest)
            self._announce()
        while page := await asyncio.to_thread(self._select_after, self._newest):
            self._ring.extend(page)
            self._newest = page[-1].id
            surplus = len(self._ring) - PAGE
            if surplus > 0:
                self._floor = self._ring[surplus - 1].id
                del self._ring[:surplus]
            self._announce()
            if len(page) < PAGE:
                break

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _select_newest(self) -> int:
        with self._operational.read() as connection:
            return connection.scalar(sa.select(sa.func.max(events.c.id))) or 0

    def _select_after(self, last: int) -> list[Event]:
        query = sa.select(events).where(events.c.id > last).order_by(events.c.id).limit(PAGE)
        with self._operational.read() as connection:
            return [_event(row) for row in connection.execute(query)]


def _event(row: sa.Row[tuple[object, ...]]) -> Event:
    data = row.data if isinstance(row.data, dict) else {}
    fields = {
        **data,
        "at_ms": row.at_ms,
        "type": row.type,
        "station": row.station,
        "alert_id": row.alert_id,
    }
    return Event(row.id, row.type, _json(fields))


def _json(fields: dict[str, object]) -> str:
    try:
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN in one row must not end the stream for everybody
        return _json(json.loads(json.dumps(fields), parse_constant=lambda _: None))
