"""Webhook endpoints as configured: the ``[[webhook]]`` tables of the server's TOML file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from alerts.signing import key_of
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Hosts written to look like something else (decimal, octal or hexadecimal addresses, IPv6 zones): never needed.
_ODD_HOST = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+))*|.*%.*", re.IGNORECASE)
_DOTTED = re.compile(r"(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}")


class WebhookTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[webhook]]`` table, as written.

    ``secret_file`` is relative to the configuration file and holds ``whsec_…``; ``allow_http`` lets this endpoint use
    plain HTTP, for a receiver on the same machine or a closed network.
    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    url: Annotated[str, Meta(max_length=2000)]
    secret_file: str
    name: str = ""
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """One receiver of webhooks, ready for use; ``secret`` never shows in a representation."""

    id: str
    name: str
    url: str
    secret: str = field(repr=False)
    allow_http: bool = False

    def __post_init__(self) -> None:
        if fault := url_fault(self.url, allow_http=self.allow_http):
            raise ValueError(fault)
        key_of(self.secret)


def url_fault(url: str, *, allow_http: bool) -> str:
    """Say what is wrong with an endpoint's URL, or return an empty text.

    >>> url_fault("http://county.example/hook", allow_http=False)
    'url: use https, or set allow_http = true for this endpoint'
    """
    if any(ch.isspace() or not ch.isprintable() or ch == "\\" for ch in url):
        return "url: no spaces, control characters or backslashes"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        return f"url: {exc}"
    if parts.scheme not in {"https", "http"}:
        return "url: start with https://"
    if parts.scheme == "http" and not allow_http:
        return "url: use https, or set allow_http = true for this endpoint"
    if not host or port == 0:
        return "url: name a host"
    if parts.username is not None or parts.password is not None:
        return "url: no user name or password"
    if parts.fragment:
        return "url: no fragment"
    if _ODD_HOST.fullmatch(host) and not _DOTTED.fullmatch(host):
        return "url: write an address as four decimal numbers, without a zone"
    return ""


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
        try:
            secret = (directory / row.secret_file).read_text("ascii").strip()
            key_of(secret)
        except (OSError, ValueError) as exc:
            faults.append(f"{where} secret_file: {exc}")
            continue
        if not fault:
            endpoints.append(
                WebhookEndpoint(row.id, row.name or row.id, row.url, secret, row.allow_http)
            )
    if faults:
        raise ConfigError(faults)
    return endpoints
