"""Makes the endpoints table follow the ``[[webhook]]`` tables of the server's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.administration import note
from alerts.delivery import keys
from alerts.delivery.endpoints import sealed_tls
from alerts.delivery.suspension import resume
from alerts.states import SYSTEM
from alerts.tables import endpoint_keys, endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.delivery.config import WebhookEndpoint
    from alerts.vault import Vault
    from ingest.operational import Operational


def sync_endpoints(
    operational: Operational,
    configured: Sequence[WebhookEndpoint],
    now_ms: int,
    vault: Vault | None = None,
) -> None:
    """Make the table follow the configuration; a suspended endpoint of it is given another chance.

    Endpoints that are no longer configured stay for their history and get no more events; those of the API are left
    alone, but for one whose id the file now takes. Another secret in an endpoint's file is a rotation: the key before
    it goes on for 24 h. Without ``vault`` no secret is kept, and the sender skips the endpoint.
    """
    with operational.write() as connection:
        known = {row.id: row for row in connection.execute(sa.select(endpoints))}
        gone = {row.id for row in known.values() if row.source == "config" and row.active} - {
            endpoint.id for endpoint in configured
        }
        if gone:
            connection.execute(
                sa.update(endpoints)
                .where(endpoints.c.id.in_(gone))
                .values(active=False, version=endpoints.c.version + 1)
            )
        for endpoint in configured:
            values = _values(endpoint, vault)
            row = known.get(endpoint.id)
            if row is None:
                connection.execute(sa.insert(endpoints).values(id=endpoint.id, **values))
            else:
                connection.execute(
                    sa.update(endpoints)
                    .where(endpoints.c.id == endpoint.id)
                    .values(version=endpoints.c.version + 1, **values)
                )
                if row.suspended_ms is not None:
                    resume(connection, endpoint.id, now_ms)
            if vault is not None:
                _keep_key(connection, vault, endpoint, now_ms)


def _values(endpoint: WebhookEndpoint, vault: Vault | None) -> dict[str, object]:
    values: dict[str, object] = {
        "name": endpoint.name,
        "url": endpoint.url,
        "active": True,
        "source": "config",
        "allow_http": endpoint.allow_http,
        "concurrency": endpoint.concurrency,
        "rate_per_min": endpoint.rate_per_min,
    }
    if vault is not None:
        values["bearer"] = vault.seal(endpoint.bearer) if endpoint.bearer else ""
        values["client_certificate"] = sealed_tls(vault, endpoint.tls)
    return values


def _keep_key(
    connection: sa.Connection, vault: Vault, endpoint: WebhookEndpoint, now_ms: int
) -> None:
    k = endpoint_keys.c
    live = connection.execute(
        sa.select(k.id, k.secret)
        .where(
            k.endpoint_id == endpoint.id,
            k.kind.in_(keys.SIGNING),
            sa.or_(k.ends_ms.is_(None), k.ends_ms > now_ms),
        )
        .order_by(k.id)
    ).all()
    if any(vault.unseal(row.secret) == endpoint.secret for row in live):
        return
    if live:
        connection.execute(
            sa.update(endpoint_keys)
            .where(k.id.in_([row.id for row in live]), k.ends_ms.is_(None))
            .values(ends_ms=now_ms + keys.OVERLAP_MS)
        )
    new = keys.keep(connection, vault, endpoint.id, endpoint.secret, now_ms)
    note(
        connection,
        actor=SYSTEM,
        action="key.rotated" if live else "key.created",
        subject=endpoint.id,
        data={"key_id": new.id, "kind": new.kind, "from": "secret_file"},
        at_ms=now_ms,
    )
