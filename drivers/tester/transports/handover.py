"""Records of several connections, stored one at a time; each sender hears what became of its own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from drivers.records import TestRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drivers.session import Refused

WAITING = 64
REMEMBERED = 4096


class Outcome(StrEnum):
    """What became of one item."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Recent:
    """The last records that were stored, so that a re-sent one is known; at most ``most``."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._seen: OrderedDict[str, bytes] = OrderedDict()

    def knows(self, record: TestRecord) -> bool:
        """Whether this very record was stored; one that says something else under the same key was not."""
        return self._seen.get(record.dedup_key) == digest(record)

    def stored(self, record: TestRecord) -> None:
        """Remember ``record``, which is on disk."""
        self._seen[record.dedup_key] = digest(record)
        self._seen.move_to_end(record.dedup_key)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)


def digest(record: TestRecord) -> bytes:
    """Return what tells records with one key apart: all they say, not the bytes they were read from."""
    said = msgspec.structs.replace(record, raw="")
    return blake2b(msgspec.json.encode(said), digest_size=16).digest()


@dataclass(slots=True, eq=False)
class _Offer:
    item: TestRecord | Refused
    done: asyncio.Future[Outcome]


class HandoverClosedError(Exception):
    """The session ends; what was not stored must be sent again."""


class Handover:
    """What connections offer, given out to the one who stores it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[_Offer] = asyncio.Queue(WAITING)
        self._given: _Offer | None = None
        self._closed = False
        self._recent = Recent()

    async def offer(self, item: TestRecord | Refused) -> Outcome:
        """Hand ``item`` over and return when it is on disk; raise HandoverClosedError when nobody takes it any more."""
        if self._closed:
            raise HandoverClosedError
        offer = _Offer(item, asyncio.get_running_loop().create_future())
        await self._queue.put(offer)
        if self._closed:
            raise HandoverClosedError
        return await offer.done

    async def items(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield each item; whoever asks for the next has kept it, or (a record not acknowledged) could not."""
        while True:
            self._given = offer = await self._queue.get()
            if isinstance(offer.item, TestRecord) and self._recent.knows(offer.item):
                self._settle(Outcome.DUPLICATE)
                continue
            yield offer.item
            self._settle(Outcome.REFUSED)

    def acknowledge(self, record: TestRecord) -> None:
        """``record``, the item given out last, is on disk."""
        if self._given is not None and self._given.item is record:
            self._recent.stored(record)
            self._settle(Outcome.ACCEPTED)

    def close(self) -> None:
        """Tell everyone who waits that nothing more is stored."""
        self._closed = True
        waiting = [] if self._given is None else [self._given]
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        self._given = None
        for offer in waiting:
            if not offer.done.done():
                offer.done.set_exception(HandoverClosedError())
                offer.done.exception()  # its sender may have hung up: then nobody asks

    def _settle(self, outcome: Outcome) -> None:
        if self._given is not None and not self._given.done.done():
            self._given.done.set_result(outcome)
        self._given = None
