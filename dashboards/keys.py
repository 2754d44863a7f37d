"""API keys: ``agk_<id>_<secret>``; only the SHA-256 of a key is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
import ulid

from alerts.tables import api_keys

if TYPE_CHECKING:
    from ingest.operational import Operational

MAX_NAME = 60  # stands in the alert's log, with the key's id behind it

_KEY = re.compile(r"agk_([0-9A-HJKMNP-TV-Z]{26})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who calls."""

    id: str
    name: str


def create_key(operational: Operational, name: str) -> str:
    """Make a key for ``name`` and return it; it cannot be shown again.

    Raises ValueError for a name that is blank or longer than ``MAX_NAME``.
    """
    if not name.strip() or len(name) > MAX_NAME:
        raise ValueError(f"name: 1 to {MAX_NAME} characters, got {len(name)}")
    key_id = str(ulid.ULID())
    key = f"agk_{key_id}_{secrets.token_urlsafe(32)}"
    row = {
        "id": key_id,
        "name": name,
        "hash": _digest(key),
        "created_ms": time.time_ns() // 1_000_000,
    }
    with operational.write() as connection:
        connection.execute(sa.insert(api_keys).values(row))
    return key


def check_key(operational: Operational, key: str) -> ApiKey | None:
    """Return whose key this is, None when it is nobody's; hashes are compared in constant time."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    with operational.read() as connection:
        row = connection.execute(sa.select(api_keys).where(api_keys.c.id == match[1])).first()
    if row is None or not hmac.compare_digest(row.hash, _digest(key)):
        return None
    return ApiKey(row.id, row.name)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
