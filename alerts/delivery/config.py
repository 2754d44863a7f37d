"""Webhook endpoints as configured: the ``[[webhook]]`` tables of the server's TOML file."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from alerts.delivery.guard import PORTS, Allowance, url_fault
from alerts.delivery.posting import ClientTls, tls_context
from alerts.delivery.signing import Signer
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class WebhookTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[webhook]]`` table, as written.

    Files are relative to the configuration file. ``secret_file`` holds ``whsec_…`` or ``whsk_…``; ``allow_http`` lets
    this endpoint use plain HTTP, for a receiver on the same machine or a closed network. ``certificate_file`` and
    ``key_file`` are shown to a receiver that asks for them, ``ca_file`` is trusted instead of the system's authorities,
    ``bearer_file`` holds a token that goes along.
    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    url: Annotated[str, Meta(max_length=2000)]
    secret_file: str
    name: str = ""
    allow_http: bool = False
    concurrency: Annotated[int, Meta(ge=1, le=32)] = 4
    rate_per_min: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    bearer_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""


class EgressTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[egress]]`` table: endpoints made over the API may reach ``host`` in ``network`` (CIDR) on ``ports``."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    network: str
    ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = PORTS


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """One receiver of webhooks, ready for use; ``secret`` never shows in a representation."""

    id: str
    name: str
    url: str
    secret: str = field(repr=False)
    allow_http: bool = False
    concurrency: int = 4
    rate_per_min: int | None = None
    bearer: str = field(default="", repr=False)
    tls: ClientTls | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if fault := url_fault(self.url, allow_http=self.allow_http):
            raise ValueError(fault)
        Signer.of(self.secret)


def load_endpoints(
    tables: Iterable[Mapping[str, object]], file: str, directory: Path
) -> list[WebhookEndpoint]:
    """Return the endpoints of the ``[[webhook]]`` tables; raise ConfigError listing every fault of ``file``."""
    endpoints: list[WebhookEndpoint] = []
    faults: list[str] = []
    for number, table in enumerate(tables, 1):
        where = f"{file}: [[webhook]] {table.get('id', number)}:"
        try:
            row = msgspec.convert(table, WebhookTable)
        except msgspec.ValidationError as exc:
            faults.append(f"{where} {exc}")
            continue
        if row.id in {endpoint.id for endpoint in endpoints}:
            faults.append(f"{where} id: used twice")
        if fault := url_fault(row.url, allow_http=row.allow_http):
            faults.append(f"{where} {fault}")
        opened = _opened(row, directory, where, faults)
        if opened is not None and not fault:
            endpoints.append(opened)
    if faults:
        raise ConfigError(faults)
    return endpoints


def load_egress(tables: Iterable[Mapping[str, object]], file: str) -> tuple[Allowance, ...]:
    """Return what the ``[[egress]]`` tables allow; raise ConfigError listing every fault of ``file``."""
    found: list[Allowance] = []
    faults: list[str] = []
    for number, table in enumerate(tables, 1):
        try:
            row = msgspec.convert(table, EgressTable)
            network = ipaddress.ip_network(row.network)
        except (msgspec.ValidationError, ValueError) as exc:
            faults.append(f"{file}: [[egress]] {number}: {exc}")
            continue
        found.append(Allowance(row.host.lower(), network, row.ports))
    if faults:
        raise ConfigError(faults)
    return tuple(found)


def _opened(
    row: WebhookTable, directory: Path, where: str, faults: list[str]
) -> WebhookEndpoint | None:
    def read(name: str) -> str:
        return (directory / name).read_text("ascii").strip() if name else ""

    field_now = "secret_file"
    try:
        secret = read(row.secret_file)
        Signer.of(secret)
        field_now = "bearer_file"
        bearer = read(row.bearer_file)
        field_now = "certificate_file, key_file, ca_file"
        tls = None
        if row.certificate_file or row.key_file or row.ca_file:
            tls = ClientTls(read(row.certificate_file), read(row.key_file), read(row.ca_file))
            tls_context(tls)
    except (OSError, ValueError) as exc:
        faults.append(f"{where} {field_now}: {exc}")
        return None
    if url_fault(row.url, allow_http=row.allow_http):
        return None
    return WebhookEndpoint(
        row.id,
        row.name or row.id,
        row.url,
        secret,
        row.allow_http,
        row.concurrency,
        row.rate_per_min or None,
        bearer,
        tls,
    )
