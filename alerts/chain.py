"""The hash chain over the transition log: each row's hash covers the row and the hash of the row before it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS = "0" * 64  # what the first row of the log points to


@dataclass(frozen=True, slots=True)
class LogRow:
    """One transition as the log keeps it."""

    alert_id: str
    seq: int
    from_state: str
    to_state: str
    actor: str
    reason: str
    at_ms: int
    prev_hash: str
    hash: str = ""
    event: str = ""
    data: dict[str, object] = field(default_factory=dict)

    def computed_hash(self) -> str:
        """Return the SHA-256 (hex) over the canonical form: a compact JSON array of all columns but the hash itself.

        Rows written before there were events are hashed without ``event`` and ``data``; keys of ``data`` are sorted.
        """
        columns: list[object] = [
            self.alert_id,
            self.seq,
            self.from_state,
            self.to_state,
            self.actor,
            self.reason,
            self.at_ms,
            self.prev_hash,
        ]
        if self.event:
            columns += [self.event, self.data]
        return hashlib.sha256(msgspec.json.encode(columns, order="sorted")).hexdigest()


def first_break(rows: Iterable[LogRow]) -> LogRow | None:
    """Return the first row of the whole log, in order, that was changed or does not follow the one before it."""
    previous = GENESIS
    for row in rows:
        if row.prev_hash != previous or row.hash != row.computed_hash():
            return row
        previous = row.hash
    return None
