"""What a person changes about endpoints, each change in one transaction with a row of the administration log."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.administration import note
from alerts.delivery import keys, suspension
from alerts.delivery.endpoints import Endpoint, load, sealed_tls
from alerts.delivery.errors import EndpointError
from alerts.delivery.guard import Blocked, Guard, place_of
from alerts.delivery.posting import ClientTls, tls_context
from alerts.tables import endpoint_keys, endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alerts.delivery.keys import NewKey
    from alerts.vault import Vault
    from ingest.operational import Operational


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an endpoint is to be; None leaves as it is what may be left."""

    name: str | None = None
    url: str | None = None
    allow_http: bool | None = None
    active: bool | None = None
    concurrency: int | None = None
    rate_per_min: int | None = None  # 0: no limit
    bearer: str | None = field(default=None, repr=False)  # blank: none
    tls: ClientTls | None = field(default=None, repr=False)  # all blank: none


@dataclass(frozen=True, slots=True)
class Administration:
    """Changes endpoints; ``guard`` looks at every address that is registered.

    Raises EndpointError; then nothing was changed.
    """

    operational: Operational
    vault: Vault
    guard: Guard

    def create(
        self, endpoint_id: str, wanted: Wanted, kind: str, *, actor: str, now_ms: int
    ) -> tuple[NewKey, NewKey]:
        """Make an endpoint and return its signing key and its receipt key; it gets nothing before it is verified."""
        url, allow_http = wanted.url or "", bool(wanted.allow_http)
        self._look_at(url, allow_http=allow_http)
        values = self._values(wanted)
        with self.operational.write() as connection:
            if connection.scalar(sa.select(endpoints.c.id).where(endpoints.c.id == endpoint_id)):
                raise EndpointError(409, f"endpoint {endpoint_id!r} exists")
            row = {"id": endpoint_id, "name": endpoint_id, "active": True, "source": "api"}
            connection.execute(sa.insert(endpoints).values(**{**row, **values, "version": 1}))
            signing = keys.add(connection, self.vault, endpoint_id, kind, now_ms)
            receipt = keys.add(connection, self.vault, endpoint_id, keys.RECEIPT, now_ms)
            data = {**_shown(values), "key_id": signing.id, "receipt_key_id": receipt.id}
            _note(connection, actor, "endpoint.created", endpoint_id, data, now_ms)
        return signing, receipt

    def change(
        self, endpoint_id: str, wanted: Wanted, version: int, *, actor: str, now_ms: int
    ) -> None:
        """Change an endpoint of the API that is still at ``version``; another URL must be verified anew."""
        with self.operational.read() as connection:
            row = _row(connection, endpoint_id)
        _of_api(row)
        _fresh(row, version)
        if wanted.url is not None or wanted.allow_http is not None:
            allow_http = row["allow_http"] if wanted.allow_http is None else wanted.allow_http
            self._look_at(wanted.url or row["url"], allow_http=allow_http)
        values = self._values(wanted)
        if wanted.url is not None and wanted.url != row["url"]:
            values["verified_ms"] = None
        with self._changing(endpoint_id, version) as connection:
            connection.execute(
                sa.update(endpoints)
                .where(endpoints.c.id == endpoint_id)
                .values(**values, version=version + 1)
            )
            if wanted.active is False:
                suspension.given_up(connection, endpoint_id)
            _note(connection, actor, "endpoint.changed", endpoint_id, _shown(values), now_ms)

    def remove(self, endpoint_id: str, version: int, *, actor: str, now_ms: int) -> None:
        """Switch an endpoint of the API off for good: its keys end, its history stays."""
        with self._changing(endpoint_id, version) as connection:
            _of_api(_row(connection, endpoint_id))
            k = endpoint_keys.c
            connection.execute(
                sa.update(endpoint_keys)
                .where(
                    k.endpoint_id == endpoint_id,
                    sa.or_(k.ends_ms.is_(None), k.ends_ms > now_ms),
                )
                .values(ends_ms=now_ms)
            )
            connection.execute(
                sa.update(endpoints)
                .where(endpoints.c.id == endpoint_id)
                .values(active=False, verified_ms=None, version=version + 1)
            )
            suspension.given_up(connection, endpoint_id)
            _note(connection, actor, "endpoint.removed", endpoint_id, {}, now_ms)

    def opened(self, endpoint_id: str, now_ms: int) -> Endpoint:
        """Return the endpoint with its keys, to send it something at once."""
        with self.operational.read() as connection:
            row = _row(connection, endpoint_id)
            if not row["active"]:
                raise EndpointError(409, "the endpoint is switched off")
            found = load(connection, self.vault, [endpoint_id], now_ms)[endpoint_id]
        if not found.signers:
            raise EndpointError(409, "no key signs; rotate")
        return found

    def verified(self, endpoint: Endpoint, *, actor: str, now_ms: int) -> None:
        """Note that the endpoint answered its challenge, unless it was changed meanwhile."""
        with self._changing(endpoint.id, endpoint.version) as connection:
            connection.execute(
                sa.update(endpoints)
                .where(endpoints.c.id == endpoint.id)
                .values(verified_ms=now_ms, version=endpoint.version + 1)
            )
            _note(connection, actor, "endpoint.verified", endpoint.id, {}, now_ms)

    def rotate(
        self,
        endpoint_id: str,
        kind: str,
        *,
        overlap_ms: int,
        revoke_old_now: bool,
        actor: str,
        now_ms: int,
    ) -> NewKey:
        """Make a new key; see ``keys.rotate``."""
        with self.operational.write() as connection:
            row = _row(connection, endpoint_id)
            if kind != keys.RECEIPT and row["source"] == "config":
                raise EndpointError(
                    409, "its secret stands in the server's file; write another into secret_file"
                )
            new = keys.rotate(
                connection,
                self.vault,
                endpoint_id,
                kind,
                now_ms,
                overlap_ms=overlap_ms,
                revoke_old_now=revoke_old_now,
            )
            data = {"key_id": new.id, "kind": new.kind, "overlap_ms": overlap_ms}
            data["revoke_old_now"] = revoke_old_now
            _note(connection, actor, "key.rotated", endpoint_id, data, now_ms)
        return new

    def revoke(self, endpoint_id: str, key_id: str, *, actor: str, now_ms: int) -> None:
        """End one key now."""
        with self.operational.write() as connection:
            _row(connection, endpoint_id)
            kind = keys.revoke(connection, endpoint_id, key_id, now_ms)
            data = {"key_id": key_id, "kind": kind}
            _note(connection, actor, "key.revoked", endpoint_id, data, now_ms)

    def suspend(self, endpoint_id: str, reason: str, *, actor: str, now_ms: int) -> None:
        """Send nothing until it is resumed; its events wait as undelivered."""
        with self.operational.write() as connection:
            _row(connection, endpoint_id)
            if not suspension.suspend(connection, endpoint_id, reason, now_ms, actor):
                raise EndpointError(409, "the endpoint is suspended already")

    def resume(self, endpoint_id: str, *, actor: str, now_ms: int) -> int:
        """Send again; return how many events that waited go out now."""
        with self.operational.write() as connection:
            if _row(connection, endpoint_id)["suspended_ms"] is None:
                raise EndpointError(409, "the endpoint is not suspended")
            sent = suspension.resume(connection, endpoint_id, now_ms)
            _note(connection, actor, "endpoint.resumed", endpoint_id, {"events": sent}, now_ms)
        return sent

    @contextmanager
    def _changing(self, endpoint_id: str, version: int) -> Iterator[sa.Connection]:
        with self.operational.write() as connection:
            _fresh(_row(connection, endpoint_id), version)
            yield connection

    def _look_at(self, url: str, *, allow_http: bool) -> None:
        try:
            self.guard.check(place_of(url, allow_http=allow_http), trusted=False)
        except Blocked as exc:
            raise EndpointError(422, f"url: {exc}", field="url") from exc
        except ValueError as exc:
            raise EndpointError(422, str(exc), field="url") from exc
        except OSError as exc:
            raise EndpointError(422, f"url: the name does not resolve: {exc}", field="url") from exc

    def _values(self, wanted: Wanted) -> dict[str, object]:
        plain = ("name", "url", "allow_http", "active", "concurrency")
        values = {name: getattr(wanted, name) for name in plain}
        found = {name: value for name, value in values.items() if value is not None}
        if wanted.rate_per_min is not None:
            found["rate_per_min"] = wanted.rate_per_min or None
        if wanted.bearer is not None:
            found["bearer"] = self.vault.seal(wanted.bearer) if wanted.bearer else ""
        if wanted.tls is not None:
            none = wanted.tls == ClientTls()
            if not none:
                try:
                    tls_context(wanted.tls)
                except ValueError as exc:
                    raise EndpointError(422, str(exc), field="certificate") from exc
            found["client_certificate"] = "" if none else sealed_tls(self.vault, wanted.tls)
        return found


def _row(connection: sa.Connection, endpoint_id: str) -> sa.RowMapping:
    query = sa.select(endpoints).where(endpoints.c.id == endpoint_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise EndpointError(404, f"no endpoint {endpoint_id!r}")
    return row


def _of_api(row: sa.RowMapping) -> None:
    if row["source"] != "api":
        raise EndpointError(409, "it stands in the server's file, [[webhook]]; change it there")


def _fresh(row: sa.RowMapping, version: int) -> None:
    if row["version"] != version:
        raise EndpointError(
            409,
            f"the endpoint is at version {row['version']}, not {version}; read it again",
            version=row["version"],
        )


def _shown(values: Mapping[str, object]) -> dict[str, object]:
    """Return what the log may say: of a secret only that there is one."""
    secret = ("bearer", "client_certificate")
    return {name: bool(value) if name in secret else value for name, value in values.items()}


def _note(
    connection: sa.Connection,
    actor: str,
    action: str,
    subject: str,
    data: Mapping[str, object],
    at_ms: int,
) -> None:
    note(connection, actor=actor, action=action, subject=subject, data=data, at_ms=at_ms)
