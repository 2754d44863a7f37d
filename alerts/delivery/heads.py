"""What the sender must know of every endpoint at each turn: few columns of few rows, to notice a change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.tables import endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Head:
    """One endpoint; ``sends`` is False while it is switched off, suspended, or has not answered its challenge."""

    id: str
    version: int
    sends: bool
    failing_since_ms: int | None


def heads_of(connection: sa.Connection) -> tuple[Head, ...]:
    """Return every endpoint's head."""
    c = endpoints.c
    query = sa.select(
        c.id, c.version, c.active, c.suspended_ms, c.source, c.verified_ms, c.failing_since_ms
    ).order_by(c.id)
    return tuple(
        Head(
            row.id,
            row.version,
            row.active
            and row.suspended_ms is None
            and (row.source == "config" or row.verified_ms is not None),
            row.failing_since_ms,
        )
        for row in connection.execute(query)
    )


def to_load(heads: Sequence[Head]) -> dict[str, int]:
    """Return the versions of the endpoints that get events: another answer than before means that something changed."""
    return {head.id: head.version for head in heads if head.sends}
