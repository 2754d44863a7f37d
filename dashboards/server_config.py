"""``server.toml``, read once into frozen models; every fault of the file is reported in one go.

Paths in the file are relative to the file's own directory.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - dataclass field
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from alerts.cases.rules import Rules, parse_lengths, parse_supplement
from alerts.clusters import ClusterRules
from alerts.delivery.config import WebhookEndpoint, load_egress, load_endpoints
from alerts.delivery.guard import Allowance  # noqa: TC001 - dataclass field
from alerts.people.config import load_targets
from alerts.people.targets import Target  # noqa: TC001 - dataclass field
from alerts.policies.config import load_policies
from alerts.policies.policy import Policy  # noqa: TC001 - dataclass field
from alerts.technical.conditions import Patience
from dashboards.store_config import StoreTable, influx_login
from drivers.device_table import read_table
from drivers.errors import ConfigError
from gateway.broker import BrokerLogin, LoginReader, LoginTable, Tls, read_enrolment
from ingest.publishers.mapping import Rule, compile_rules
from ingest.store.influx.login import InfluxLogin  # noqa: TC001 - dataclass field
from ingest.store.levels import Retention

TABLES = (
    "server",
    "broker",
    "deploy",
    "registry",
    "judge",
    "inbox",
    "retention",
    "operational",
    "store",
    "webhook",
    "egress",
    "target",
    "policy",
    "publishers",
    "mapping",
    "deadlines",
    "alerts",
    "technical",
)
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

S = TypeVar("S", bound=msgspec.Struct)


class ServerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[server]``: where data is kept, where pages are served; ``api_key_file`` gets a key when it is absent.

    Backups are written below ``backup_dir`` only; packs are not taken while less than ``disk_reserve_mb`` are free.
    ``ingest_port`` and ``alerts_port`` are where those roles answer when each is a process of its own.
    ``public_url`` is how people reach the pages: links in messages begin with it.
    """

    data_dir: Annotated[str, Meta(min_length=1)]
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    ingest_port: Annotated[int, Meta(ge=1, le=65535)] = 8081
    alerts_port: Annotated[int, Meta(ge=1, le=65535)] = 8082
    api_key_file: str = ""
    public_url: Annotated[str, Meta(pattern=r"^(https?://[^\s?#()<>]{1,200})?$")] = ""
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


class RetentionTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[retention]``: days that readings and their roll-ups are kept, 0 for ever; DuckDB drops whole months."""

    readings_days: Annotated[int, Meta(ge=0, le=36500)] = 400
    minute_days: Annotated[int, Meta(ge=0, le=36500)] = 100
    hour_days: Annotated[int, Meta(ge=0, le=36500)] = 1100
    day_days: Annotated[int, Meta(ge=0, le=36500)] = 0


class PublishersTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[publishers]``: whether to listen to devices that publish SenML or their own JSON over MQTT."""

    mqtt: bool = False


class OperationalTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[operational]``: the database of everything but readings and packs; without ``url`` a file in ``data_dir``."""

    url: str = ""
    password_file: str = ""


class DeadlinesTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[deadlines]``: a supplement to the calendar of working days, and lengths of clocks of one's own."""

    calendar: str = ""
    lengths: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class OperationalLogin:
    """Where the operational database is; a blank ``url`` is a file in the data directory."""

    url: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole of a ``server.toml``; ``warnings`` are lines for a person that keep nothing from starting.

    Without ``store`` readings are kept by DuckDB in the data directory.
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
    operational: OperationalLogin = OperationalLogin()
    store: InfluxLogin | None = None
    mappings: tuple[Rule, ...] = ()
    publishers_mqtt: bool = False
    ingest_port: int = 8081
    alerts_port: int = 8082
    retention: Retention = field(default_factory=Retention)
    deadlines: Rules = field(default_factory=Rules)
    clusters: ClusterRules = field(default_factory=ClusterRules)
    patience: Patience = field(default_factory=Patience)
    egress: tuple[Allowance, ...] = ()
    targets: tuple[Target, ...] = ()
    policies: tuple[Policy, ...] = ()
    public_url: str = ""

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
    retention = _table(root, "retention", RetentionTable, path, faults)
    operational = read_operational(root, path, faults)
    publishers = _table(root, "publishers", PublishersTable, path, faults)
    clusters = _table(root, "alerts", ClusterRules, path, faults)
    patience = _table(root, "technical", Patience, path, faults)
    warnings: list[str] = []
    table = _table(root, "store", StoreTable, path, faults)
    store = None
    if table is not None:
        store = influx_login(table, path.parent, f"{path}: [store]", faults, warnings)
    mappings = compile_rules(root.get("mapping", []), str(path), faults)
    webhooks: list[WebhookEndpoint] = []
    egress: tuple[Allowance, ...] = ()
    try:
        webhooks = load_endpoints(root.get("webhook", []), str(path), path.parent)
    except ConfigError as exc:
        faults += exc.faults
    try:
        egress = load_egress(root.get("egress", []), str(path))
    except ConfigError as exc:
        faults += exc.faults
    targets = read_targets(root, path, faults)
    policies = read_policies(root, path, faults)
    deadlines = read_deadlines(root, path, faults)
    if faults or server is None or login is None or registry is None:
        raise ConfigError(faults)
    if judge is None or inbox is None or publishers is None or retention is None:
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
        warnings=(*login.warnings, *warnings),
        backup_dir=path.parent / server.backup_dir if server.backup_dir else None,
        disk_reserve_mb=server.disk_reserve_mb,
        standards=path.parent / judge.standards if judge.standards else None,
        operational=operational,
        store=store,
        mappings=mappings,
        publishers_mqtt=publishers.mqtt,
        ingest_port=server.ingest_port,
        alerts_port=server.alerts_port,
        retention=Retention(**msgspec.structs.asdict(retention)),
        deadlines=deadlines,
        clusters=clusters or ClusterRules(),
        patience=patience or Patience(),
        egress=egress,
        policies=policies,
        targets=targets,
        public_url=server.public_url,
    )


def _table(
    root: dict[str, object], name: str, kind: type[S], path: Path, faults: list[str]
) -> S | None:
    table = root.get(name, {})
    if not isinstance(table, dict):
        faults.append(f"{path}: {name}: is no table; write [{name}] on a line of its own")
        return None
    return read_table(kind, table, f"{path}: [{name}]", faults)


def read_operational(root: dict[str, object], path: Path, faults: list[str]) -> OperationalLogin:
    """Return what ``[operational]`` says, adding what is wrong with it to ``faults``."""
    table = _table(root, "operational", OperationalTable, path, faults)
    where = f"{path}: [operational]"
    if table is None or not (table.url or table.password_file):
        return OperationalLogin()
    password = LoginReader(path.parent, faults, []).secret(
        table.password_file, f"{where}: password_file"
    )
    example = "postgresql+psycopg://agrigate@127.0.0.1:5432/agrigate"
    try:
        url = urlsplit(table.url)
        _ = url.port
    except ValueError as exc:
        faults.append(f"{where}: url: {exc}; write {example}")
        return OperationalLogin()
    if url.password is not None:
        faults.append(f"{where}: url: holds a password; put it into a file, name it password_file")
    elif url.scheme != "postgresql+psycopg" or not url.path.strip("/"):
        faults.append(f"{where}: url: {table.url!r} names no database; write {example}")
    return OperationalLogin(table.url, password or "")


def read_policies(root: dict[str, object], path: Path, faults: list[str]) -> tuple[Policy, ...]:
    """Return the policies of ``[[policy]]``, adding what is wrong with them to ``faults``."""
    tables = root.get("policy", [])
    if not isinstance(tables, list):
        faults.append(f"{path}: [[policy]]: write each as a table in double brackets")
        return ()
    try:
        return tuple(load_policies(tables, str(path)))
    except ConfigError as exc:
        faults += exc.faults
        return ()


def read_targets(root: dict[str, object], path: Path, faults: list[str]) -> tuple[Target, ...]:
    """Return the ``[[target]]`` tables, adding what is wrong with them to ``faults``."""
    tables = root.get("target", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.append(f"{path}: target: is no list of tables; write [[target]]")
        return ()
    try:
        return tuple(load_targets(tables, str(path), path.parent))
    except ConfigError as exc:
        faults += exc.faults
        return ()


def read_deadlines(root: dict[str, object], path: Path, faults: list[str]) -> Rules:
    """Return what ``[deadlines]`` says, adding what is wrong with it to ``faults``."""
    table = _table(root, "deadlines", DeadlinesTable, path, faults)
    if table is None:
        return Rules()
    lengths = parse_lengths(table.lengths, f"{path}: [deadlines]: lengths", faults)
    if not table.calendar:
        return Rules(lengths)
    file = path.parent / table.calendar
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        faults.append(f"{path}: [deadlines]: calendar: {file} cannot be read: {exc}")
        return Rules(lengths)
    return Rules(lengths, parse_supplement(text, str(file), faults))


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
