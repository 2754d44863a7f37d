"""Who changed what is told to whom: endpoints, keys, people, policies, silences; an append-only, hash-chained log."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from alerts.chain import GENESIS
from alerts.tables import administration_log

if TYPE_CHECKING:
    from collections.abc import Mapping


def note(
    connection: sa.Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    data: Mapping[str, object],
    at_ms: int,
) -> None:
    """Append one row in the transaction that makes the change; ``data`` holds no secret.

    ``action`` is like ``endpoint.created``, ``key.rotated``, ``event.replayed``; ``subject`` what was changed.
    """
    log = administration_log
    newest = connection.scalar(sa.select(log.c.hash).order_by(log.c.id.desc()).limit(1))
    row = {
        "at_ms": at_ms,
        "actor": actor,
        "action": action,
        "subject": subject,
        "data": dict(data),
        "prev_hash": newest or GENESIS,
    }
    connection.execute(sa.insert(log).values(**row, hash=row_hash(row)))


def row_hash(row: Mapping[str, object]) -> str:
    """Return the SHA-256 (hex) over a compact JSON array of the row's columns but id and hash; keys of data sorted."""
    columns = [row[name] for name in ("at_ms", "actor", "action", "subject", "data", "prev_hash")]
    return hashlib.sha256(msgspec.json.encode(columns, order="sorted")).hexdigest()
