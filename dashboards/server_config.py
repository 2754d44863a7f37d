"""``server.toml``, read once into frozen models; every fault of the file is reported in one go.

Paths in the file are relative to the file's own directory.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - dataclass field
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from alerts.config import WebhookEndpoint, load_endpoints
from drivers.device_table import read_table
from drivers.errors import ConfigError
from ingest.subscriber import BrokerLogin

TABLES = ("server", "broker", "registry", "inbox", "webhook")
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

S = TypeVar("S", bound=msgspec.Struct)


class ServerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[server]``: where data is kept, where pages are served; ``api_key_file`` gets a key when it is absent."""

    data_dir: Annotated[str, Meta(min_length=1)]
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    api_key_file: str = ""


class BrokerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[broker]``: the MQTT broker; the password stands in a file of its own."""

    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    username: str = ""
    password_file: str = ""


class RegistryTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[registry]``: the registry's TOML file or folder of CSV files."""

    file: Annotated[str, Meta(min_length=1)]


class InboxTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[inbox]``: how long packs are kept."""

    retention_days: Annotated[int, Meta(ge=1, le=3650)] = 90


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole of a ``server.toml``."""

    data_dir: Path
    host: str
    port: int
    api_key_file: Path | None
    broker: BrokerLogin
    registry: Path
    retention_days: int
    webhooks: tuple[WebhookEndpoint, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether the pages are served to this machine only."""
        return self.host in LOOPBACK


def load(path: Path) -> ServerConfig:
    """Read ``path``; raise ConfigError with every fault: file, table, field, what to do."""
    try:
        root = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError([f"{path}: cannot be read: {exc}"]) from exc
    faults = [
        f"{path}: [{key}]: unknown table; known: {', '.join(TABLES)}"
        for key in root
        if key not in TABLES
    ]
    server = _table(root, "server", ServerTable, path, faults)
    broker = _table(root, "broker", BrokerTable, path, faults)
    registry = _table(root, "registry", RegistryTable, path, faults)
    inbox = _table(root, "inbox", InboxTable, path, faults)
    webhooks: list[WebhookEndpoint] = []
    try:
        webhooks = load_endpoints(root.get("webhook", []), str(path), path.parent)
    except ConfigError as exc:
        faults += exc.faults
    login = None if broker is None else _login(broker, path, faults)
    if faults or server is None or login is None or registry is None or inbox is None:
        raise ConfigError(faults)
    return ServerConfig(
        data_dir=path.parent / server.data_dir,
        host=server.host,
        port=server.port,
        api_key_file=path.parent / server.api_key_file if server.api_key_file else None,
        broker=login,
        registry=path.parent / registry.file,
        retention_days=inbox.retention_days,
        webhooks=tuple(webhooks),
    )


def _table(
    root: dict[str, object], name: str, kind: type[S], path: Path, faults: list[str]
) -> S | None:
    table = root.get(name, {})
    if not isinstance(table, dict):
        faults.append(f"{path}: {name}: is no table; write [{name}] on a line of its own")
        return None
    return read_table(kind, table, f"{path}: [{name}]", faults)


def _login(broker: BrokerTable, path: Path, faults: list[str]) -> BrokerLogin | None:
    if not broker.password_file:
        return BrokerLogin(broker.host, broker.port, broker.username or None)
    if not broker.username:
        faults.append(f"{path}: [broker]: username: is missing; a password needs one")
    file = path.parent / broker.password_file
    try:
        password = file.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path}: [broker]: password_file: {file} cannot be read: {exc}")
        return None
    if not password:
        faults.append(
            f"{path}: [broker]: password_file: {file} is empty; write the password into it"
        )
    return BrokerLogin(broker.host, broker.port, broker.username or None, password)
