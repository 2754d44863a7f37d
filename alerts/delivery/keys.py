"""The keys of an endpoint: those that sign its webhooks, and those that its receipts come with.

Signing keys are sealed with the master key (``alerts/vault.py``), for they must be recoverable; of a receipt key only
the SHA-256 is kept. Rows stay after a key has ended: its public half verifies old evidence (specs/alerting.md §5).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.delivery.errors import EndpointError
from alerts.delivery.signing import Signer, new_private_key, new_secret, public_of
from alerts.tables import endpoint_keys, endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.vault import Vault

HMAC, ED25519, RECEIPT = "hmac", "ed25519", "receipt"
SIGNING = (HMAC, ED25519)
MAX_LIVE = 5  # that sign at once
HOUR_MS = 3_600_000
OVERLAP_MS = 24 * HOUR_MS
SHORTEST_OVERLAP_MS, LONGEST_OVERLAP_MS = HOUR_MS, 30 * 24 * HOUR_MS

_RECEIPT_KEY = re.compile(r"whrk_([0-7][0-9A-HJKMNP-TV-Z]{25})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; ``secret`` is shown this once and never shows in a representation."""

    id: str
    kind: str
    secret: str = field(repr=False)
    public: str = ""


def add(
    connection: sa.Connection, vault: Vault, endpoint_id: str, kind: str, now_ms: int
) -> NewKey:
    """Make a key of ``kind`` for the endpoint."""
    key_id = str(ULID())
    if kind == RECEIPT:
        secret = f"whrk_{key_id}_{secrets.token_urlsafe(32)}"
    else:
        secret = new_secret() if kind == HMAC else new_private_key()
    return keep(connection, vault, endpoint_id, secret, now_ms, key_id=key_id)


def keep(
    connection: sa.Connection,
    vault: Vault,
    endpoint_id: str,
    secret: str,
    now_ms: int,
    *,
    key_id: str = "",
) -> NewKey:
    """Keep ``secret`` (``whsec_``, ``whsk_`` or ``whrk_``) as a key of the endpoint, sealed or as its SHA-256."""
    kind = {"whsec": HMAC, "whsk": ED25519, "whrk": RECEIPT}[secret.partition("_")[0]]
    new = NewKey(key_id or str(ULID()), kind, secret, public_of(secret))
    connection.execute(
        sa.insert(endpoint_keys).values(
            id=new.id,
            endpoint_id=endpoint_id,
            kind=kind,
            secret=_digest(secret) if kind == RECEIPT else vault.seal(secret),
            public=new.public,
            created_ms=now_ms,
        )
    )
    _touch(connection, endpoint_id)
    return new


def rotate(
    connection: sa.Connection,
    vault: Vault,
    endpoint_id: str,
    kind: str,
    now_ms: int,
    *,
    overlap_ms: int = OVERLAP_MS,
    revoke_old_now: bool = False,
) -> NewKey:
    """Make a new key; those before it go on for ``overlap_ms``, or end now.

    A receipt key takes the place of receipt keys, a signing key of either kind that of all signing keys. Raises
    EndpointError for an overlap out of bounds and when more than ``MAX_LIVE`` would sign.
    """
    if not SHORTEST_OVERLAP_MS <= overlap_ms <= LONGEST_OVERLAP_MS:
        raise EndpointError(422, "overlap_h: 1 to 720 hours (30 days)")
    kinds = (RECEIPT,) if kind == RECEIPT else SIGNING
    ends = now_ms if revoke_old_now else now_ms + overlap_ms
    k = endpoint_keys.c
    later = sa.or_(k.ends_ms.is_(None), k.ends_ms > ends)
    connection.execute(
        sa.update(endpoint_keys)
        .where(k.endpoint_id == endpoint_id, k.kind.in_(kinds), later)
        .values(ends_ms=ends)
    )
    live = _live(connection, endpoint_id, kinds, now_ms)
    if len(live) >= MAX_LIVE:
        raise EndpointError(
            409, f"{MAX_LIVE} keys sign already; revoke one, or rotate with revoke_old_now"
        )
    return add(connection, vault, endpoint_id, kind, now_ms)


def revoke(connection: sa.Connection, endpoint_id: str, key_id: str, now_ms: int) -> str:
    """End one key now and return its kind; raise EndpointError when it is unknown, ended, or the last that signs."""
    k = endpoint_keys.c
    row = connection.execute(
        sa.select(k.kind, k.ends_ms).where(k.id == key_id, k.endpoint_id == endpoint_id)
    ).one_or_none()
    if row is None:
        raise EndpointError(404, f"no key {key_id!r} of endpoint {endpoint_id!r}")
    if row.ends_ms is not None and row.ends_ms <= now_ms:
        raise EndpointError(409, "the key has ended already")
    if row.kind != RECEIPT and _live(connection, endpoint_id, SIGNING, now_ms) == [key_id]:
        raise EndpointError(409, "it is the only key that signs; rotate with revoke_old_now")
    connection.execute(sa.update(endpoint_keys).where(k.id == key_id).values(ends_ms=now_ms))
    _touch(connection, endpoint_id)
    return str(row.kind)


def signers(
    connection: sa.Connection, vault: Vault, endpoint_ids: Sequence[str], now_ms: int
) -> dict[str, tuple[Signer, ...]]:
    """Return the keys that sign now, oldest first, by endpoint; raise VaultError when one cannot be opened."""
    k = endpoint_keys.c
    query = (
        sa.select(endpoint_keys)
        .where(
            k.endpoint_id.in_(endpoint_ids),
            k.kind.in_(SIGNING),
            sa.or_(k.ends_ms.is_(None), k.ends_ms > now_ms),
        )
        .order_by(k.id)
    )
    found: dict[str, tuple[Signer, ...]] = {}
    for row in connection.execute(query):
        signer = Signer.of(vault.unseal(row.secret), row.id, row.created_ms, row.ends_ms)
        found[row.endpoint_id] = (*found.get(row.endpoint_id, ()), signer)
    return found


def receipt_key(connection: sa.Connection, text: str, now_ms: int) -> tuple[str, str] | None:
    """Return endpoint and id of the key that ``text`` is, None when it is nobody's; compared in constant time."""
    match = _RECEIPT_KEY.fullmatch(text)
    if match is None:
        return None
    k = endpoint_keys.c
    row = connection.execute(
        sa.select(endpoint_keys).where(k.id == match[1], k.kind == RECEIPT)
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.secret, _digest(text)):
        return None
    if row.ends_ms is not None and row.ends_ms <= now_ms:
        return None
    return row.endpoint_id, row.id


def _live(
    connection: sa.Connection, endpoint_id: str, kinds: Sequence[str], now_ms: int
) -> list[str]:
    k = endpoint_keys.c
    query = sa.select(k.id).where(
        k.endpoint_id == endpoint_id,
        k.kind.in_(kinds),
        sa.or_(k.ends_ms.is_(None), k.ends_ms > now_ms),
    )
    return list(connection.scalars(query))


def _touch(connection: sa.Connection, endpoint_id: str) -> None:
    connection.execute(
        sa.update(endpoints)
        .where(endpoints.c.id == endpoint_id)
        .values(version=endpoints.c.version + 1)
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
