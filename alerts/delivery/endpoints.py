"""The endpoints table as the sender uses it: opened secrets, keys that sign, limits of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from alerts.delivery import keys
from alerts.delivery.guard import place_of
from alerts.delivery.posting import ClientTls
from alerts.tables import endpoints

if TYPE_CHECKING:
    from collections.abc import Collection

    from alerts.delivery.guard import Place
    from alerts.delivery.signing import Signer
    from alerts.vault import Vault


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One receiver, ready for use; nothing secret shows in a representation."""

    id: str
    name: str
    place: Place
    version: int
    trusted: bool  # it stands in the server's own file
    concurrency: int
    rate_per_min: int | None
    signers: tuple[Signer, ...] = field(repr=False)
    bearer: str = field(repr=False, default="")
    tls: ClientTls | None = field(repr=False, default=None)

    def signers_at(self, now_ms: int) -> tuple[Signer, ...]:
        """Return the keys that sign now; several while one takes another's place."""
        return tuple(signer for signer in self.signers if signer.lives(now_ms))


def load(
    connection: sa.Connection, vault: Vault, ids: Collection[str], now_ms: int
) -> dict[str, Endpoint]:
    """Return these endpoints with their keys; raise VaultError when a secret cannot be opened."""
    signers = keys.signers(connection, vault, list(ids), now_ms)
    query = sa.select(endpoints).where(endpoints.c.id.in_(list(ids)))
    return {
        row.id: Endpoint(
            row.id,
            row.name,
            place_of(row.url, allow_http=row.allow_http),
            row.version,
            row.source == "config",
            row.concurrency,
            row.rate_per_min,
            signers.get(row.id, ()),
            vault.unseal(row.bearer) if row.bearer else "",
            unsealed_tls(vault, row.client_certificate),
        )
        for row in connection.execute(query)
    }


def sealed_tls(vault: Vault, tls: ClientTls | None) -> str:
    """Return certificate, key and authority for the table."""
    return "" if tls is None else vault.seal(msgspec.json.encode(tls).decode())


def unsealed_tls(vault: Vault, sealed: str) -> ClientTls | None:
    """Return what was sealed."""
    return msgspec.json.decode(vault.unseal(sealed), type=ClientTls) if sealed else None
