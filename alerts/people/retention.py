"""Lets go of what people were told long ago; messages stay, they say it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.people.notices import PENDING
from alerts.tables import notices

if TYPE_CHECKING:
    from ingest.operational import Operational

KEEP_MS = 90 * 86_400_000
EVERY_MS = 3_600_000
BATCH = 5_000  # rows of one transaction: others wait for the writer


class NoticeRetention:
    """A duty of the clockwork: deletes settled notices that are older than 90 days, a batch at a time."""

    def __init__(self, operational: Operational) -> None:
        self._operational = operational
        self._next_ms = 0

    def look(self, now_ms: int) -> bool:
        """Delete a batch once an hour, and go on while batches are full; nothing is to be sent for it."""
        if self._next_ms - EVERY_MS <= now_ms < self._next_ms:
            return False
        n = notices.c
        old = (
            sa.select(n.id)
            .where(n.state != PENDING, n.created_ms < now_ms - KEEP_MS)
            .order_by(n.id)
            .limit(BATCH)
        )
        with self._operational.read() as connection:
            ids = connection.scalars(old).all()
        if ids:
            with self._operational.write() as connection:
                connection.execute(
                    sa.delete(notices).where(n.id.between(ids[0], ids[-1]), n.id.in_(old))
                )
        self._next_ms = now_ms + (EVERY_MS if len(ids) < BATCH else 0)
        return False
