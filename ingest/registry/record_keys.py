"""Keys of devices that send records over HTTP: ``agd_<id>_<secret>``; only the SHA-256 of a key is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from ingest.tables import record_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = re.compile(r"agd_([0-9A-HJKMNP-TV-Z]{26})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordKey:
    """Who may send records of one station, or of one of its devices (blank: of any)."""

    id: str
    station: str
    device: str
    name: str
    hash: str
    created_ms: int
    revoked_ms: int | None = None


def create(
    db: sa.Connection, *, station: str, device: str, name: str, now_ms: int
) -> tuple[RecordKey, str]:
    """Make a key; return its row and the key, which cannot be shown again."""
    key_id = str(ULID())
    key = f"agd_{key_id}_{secrets.token_urlsafe(32)}"
    row = RecordKey(
        id=key_id,
        station=station,
        device=device,
        name=name,
        hash=_digest(key),
        created_ms=now_ms,
    )
    db.execute(sa.insert(record_keys).values(asdict(row)))
    return row, key


def check(db: sa.Connection, key: str) -> RecordKey | None:
    """Return the row of a key that stands, None for any other; hashes are compared in constant time."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    query = sa.select(record_keys).where(record_keys.c.id == match[1])
    row = db.execute(query).mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["hash"], _digest(key)):
        return None
    found = RecordKey(**row)
    return found if found.revoked_ms is None else None


def of_station(db: sa.Connection, station: str) -> Sequence[RecordKey]:
    """Return every key of a station, oldest first, revoked ones too."""
    query = sa.select(record_keys).where(record_keys.c.station == station)
    return [RecordKey(**row) for row in db.execute(query.order_by(record_keys.c.id)).mappings()]


def revoke(db: sa.Connection, station: str, key_id: str, now_ms: int) -> bool:
    """Let a key in no more; False when the station has no such key that stands."""
    done = db.execute(
        sa.update(record_keys)
        .where(record_keys.c.id == key_id, record_keys.c.station == station)
        .where(record_keys.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms)
    )
    return done.rowcount == 1


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
