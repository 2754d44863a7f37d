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
from gateway.broker import BrokerLogin, LoginReader, LoginTable, Tls, read_enrolment

TABLES = ("server", "broker", "deploy", "registry", "judge", "inbox", "webhook")
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

S = TypeVar("S", bound=msgspec.Struct)


class ServerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[server]``: where data is kept, where pages are served; ``api_key_file`` gets a key when it is absent.

    Backups are written below ``backup_dir`` only; packs are not taken while less than ``disk_reserve_mb`` are free.
    """

    data_dir: Annotated[str, Meta(min_length=1)]
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    api_key_file: str = ""
    backup_dir: str = ""
    disk_reserve_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 256


class BrokerTable(LoginTable, frozen=True, kw_only=True):
    """``[broker]``: the MQTT broker; secrets stand in files of their own.

    The probe proves at the start that the broker keeps stations apart; ``open`` says that it need not.
    """

    probe_username: str = ""
    probe_password_file: str = ""
    open: bool = False


class EnrolledTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[broker]`` with the enrolment file that the server wrote for itself."""

    enrolment: Annotated[str, Meta(min_length=1)]
    open: bool = False


class DeployTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[deploy]``: by which name stations reach the broker; without it none can be enrolled."""

    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883


class RegistryTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[registry]``: the registry's TOML file or folder of CSV files."""

    file: Annotated[str, Meta(min_length=1)]


class JudgeTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[judge]``: the county's own limit tables, laid over the shipped ones."""

    standards: str = ""


class InboxTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[inbox]``: how long packs are kept."""

    retention_days: Annotated[int, Meta(ge=1, le=3650)] = 90


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole of a ``server.toml``; ``warnings`` are lines for a person that keep nothing from starting.

    ``probe`` is the login of the access probe; with ``open_broker`` there is none and need be none.
    """

    data_dir: Path
    host: str
    port: int
    api_key_file: Path | None
    broker: BrokerLogin
    registry: Path
    retention_days: int
    webhooks: tuple[WebhookEndpoint, ...]
    deploy: DeployTable | None = None
    probe: BrokerLogin | None = None
    open_broker: bool = False
    warnings: tuple[str, ...] = ()
    backup_dir: Path | None = None
    disk_reserve_mb: int = 256
    standards: Path | None = None

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
    login = _login(root, path, faults)
    deploy = _table(root, "deploy", DeployTable, path, faults) if "deploy" in root else None
    registry = _table(root, "registry", RegistryTable, path, faults)
    judge = _table(root, "judge", JudgeTable, path, faults)
    inbox = _table(root, "inbox", InboxTable, path, faults)
    webhooks: list[WebhookEndpoint] = []
    try:
        webhooks = load_endpoints(root.get("webhook", []), str(path), path.parent)
    except ConfigError as exc:
        faults += exc.faults
    if faults or server is None or login is None or registry is None:
        raise ConfigError(faults)
    if judge is None or inbox is None:
        raise ConfigError(faults)
    return ServerConfig(
        data_dir=path.parent / server.data_dir,
        host=server.host,
        port=server.port,
        api_key_file=path.parent / server.api_key_file if server.api_key_file else None,
        broker=login.login,
        registry=path.parent / registry.file,
        retention_days=inbox.retention_days,
        webhooks=tuple(webhooks),
        deploy=deploy,
        probe=login.probe,
        open_broker=login.open,
        warnings=login.warnings,
        backup_dir=path.parent / server.backup_dir if server.backup_dir else None,
        disk_reserve_mb=server.disk_reserve_mb,
        standards=path.parent / judge.standards if judge.standards else None,
    )


def _table(
    root: dict[str, object], name: str, kind: type[S], path: Path, faults: list[str]
) -> S | None:
    table = root.get(name, {})
    if not isinstance(table, dict):
        faults.append(f"{path}: {name}: is no table; write [{name}] on a line of its own")
        return None
    return read_table(kind, table, f"{path}: [{name}]", faults)


@dataclass(frozen=True, slots=True)
class _Broker:
    """What ``[broker]`` says."""

    login: BrokerLogin
    probe: BrokerLogin | None
    open: bool
    warnings: tuple[str, ...]


def _login(root: dict[str, object], path: Path, faults: list[str]) -> _Broker | None:
    table = root.get("broker")
    if isinstance(table, dict) and "enrolment" in table:
        return _enrolled(root, path, faults)
    broker = _table(root, "broker", BrokerTable, path, faults)
    if broker is None:
        return None
    where = f"{path}: [broker]"
    warnings: list[str] = []
    reader = LoginReader(path.parent, faults, warnings)
    login = reader.login(broker, where)
    probe_password = reader.secret(broker.probe_password_file, f"{where}: probe_password_file")
    if broker.probe_password_file and not broker.probe_username:
        faults.append(f"{where}: probe_username: is missing; a password needs one")
    if (broker.username or broker.certificate_file) and not (broker.probe_username or broker.open):
        faults.append(_needs_probe(where))
    if login is None:
        return None
    probe = None
    if broker.probe_username:
        # The probe comes as a station would, and a certificate of ours would make it ingest.
        tls = login.tls and Tls(login.tls.ca_pem)
        probe = BrokerLogin(
            login.host, login.port, broker.probe_username, probe_password, tls, login.protocol
        )
    return _Broker(login, probe, broker.open, tuple(warnings))


def _enrolled(root: dict[str, object], path: Path, faults: list[str]) -> _Broker | None:
    table = _table(root, "broker", EnrolledTable, path, faults)
    if table is None:
        return None
    file = path.parent / table.enrolment
    enrolment = read_enrolment(file, faults)
    if enrolment is None:
        return None
    where = f"{path}: [broker]"
    if enrolment.role != "ingest":
        faults.append(
            f"{where}: enrolment: {file} is of station {enrolment.code}; name the file of ingest"
        )
    elif enrolment.probe is None and not table.open:
        faults.append(_needs_probe(where))
    return _Broker(enrolment.login, enrolment.probe, table.open, enrolment.warnings)


def _needs_probe(where: str) -> str:
    return (
        f"{where}: probe_username: is missing; the start proves with it that stations cannot write"
        " each other's topics. Name it, or set open = true for a broker without access control"
    )
