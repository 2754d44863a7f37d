"""The server process: builds every part, starts them in order, stops them in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sqlite3
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import alembic.util
import duckdb
import sqlalchemy as sa
import structlog
import uvloop
from ulid import ULID

from alerts import clusters
from alerts.cases import rules as case_rules
from alerts.clockwork import Clockwork
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.guard import Guard
from alerts.delivery.sender import Sender
from alerts.evidence.keys import EvidenceKeys
from alerts.evidence.retention import packs_to_keep, readings_to_keep
from alerts.people.config import sync_targets
from alerts.people.sender import PeopleSender
from alerts.policies.store import check_all, sync_policies
from alerts.raising import AlertRaiser
from alerts.vault import MASTER_KEY, Vault, VaultError
from dashboards.app import create_app, create_health_app
from dashboards.county_metrics import CountyMetrics, OutboxMetrics, text_of, unreachable
from dashboards.duties import duties
from dashboards.inbox_reader import InboxReader
from dashboards.keys import check_key, create_key
from dashboards.limits_shown import Limits
from dashboards.metrics import Metrics
from dashboards.names import names_of, product_names_of
from dashboards.reading_stores import OpenedStore, open_store, unread
from dashboards.roles import Role, missing
from dashboards.serving import DashboardServer
from dashboards.signal import EventSignal
from dashboards.sources import Health, Sources
from dashboards.standards import Standards
from drivers.errors import ConfigError
from ingest.backup import (
    BACKUP_OF_POSTGRESQL,
    INBOX,
    OPERATIONAL,
    READINGS,
    UNFINISHED,
    BackupError,
    Backups,
)
from ingest.broker.pki import Authority
from ingest.broker.probe import AccessProbe
from ingest.consumers import Consumer
from ingest.decode import SeriesIndex
from ingest.disk import MB, DiskError, Room, passes
from ingest.door import Door
from ingest.inbox import Inbox, InboxError
from ingest.judge.catalogue.catalogue import Catalogue, load, standard_catalogue
from ingest.judge.consumer import Judge
from ingest.judge.errors import CatalogueError
from ingest.operational import TRANSIENT, Operational, SchemaError
from ingest.publisher_subscriber import PublisherSubscriber
from ingest.publishers.reader import MessageReader
from ingest.registry import files
from ingest.registry.enrolment import Site
from ingest.registry.live import Registry
from ingest.service import DAY_MS, IngestService
from ingest.stations import StationWatch
from ingest.store.duckdb_store import StoreError
from ingest.store.stage import StoreStage
from ingest.subscriber import Subscriber
from ingest.upkeep import StoreUpkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from prometheus_client.registry import Collector

    from dashboards.server_config import ServerConfig
    from ingest.backup import Manifest
    from ingest.batch import Series
    from ingest.judge.readings.spans import LimitSpan
    from ingest.wakeups import Wakeups

log = structlog.get_logger()

REGISTRY_EVERY_S = 10.0


class ServeError(Exception):
    """The server cannot start or had to stop; the message says why and what to do."""


def now_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory's lock, before anything connects; raise ServeError when another process has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise ServeError(f"{data_dir}: another server uses it; stop that one first") from exc
        yield


def check_restored(data_dir: Path) -> None:
    """Raise ServeError when a restore into the data directory was begun and not finished."""
    if (data_dir / UNFINISHED).exists():
        raise ServeError(
            f"{data_dir}: a restore was not finished; run agrigate restore --replace again"
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens for the pages; raise ServeError when the address cannot be had."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as exc:
        raise ServeError(
            f"{host}:{port}: {exc.strerror or exc}; set another host or port in [server]"
        ) from exc


async def serve(config: ServerConfig, role: Role = Role.ALL) -> None:
    """Run until SIGTERM or SIGINT; raise ServeError or ConfigError when a part cannot start or fails."""
    check_role(config, role)
    with ExitStack() as stack:
        if role.takes:
            stack.enter_context(only_one(config.data_dir))
            check_restored(config.data_dir)
        pages = stack.enter_context(listen(config.host, port_of(config, role)))
        registry_file = files.load(config.registry) if role.takes else None
        catalogue = catalogue_of(config)
        life = str(ULID())
        operational = open_operational(config, name=f"agrigate {role} {life}")
        stack.callback(operational.close)
        wakeups = _claimed(operational, role)
        if wakeups is not None:
            stack.callback(wakeups.stop)
        operational.migrate()
        config.data_dir.mkdir(parents=True, exist_ok=True)
        vault = Vault.open(config.data_dir / MASTER_KEY)
        if registry_file is not None:
            files.sync(operational, registry_file, now_ms())
        if role.sends:
            sync_endpoints(operational, config.webhooks, now_ms(), vault)
            sync_targets(operational, config.targets, vault)
            sync_policies(operational, config.policies, now_ms())
            _warn_of_policies(operational)
            with operational.write() as connection:
                case_rules.keep(connection, config.deadlines)
                clusters.keep(connection, config.clusters)
        if role.shows:
            _provide_key(operational, config)
        inbox: Inbox | InboxReader = (
            Inbox.open(config.data_dir / INBOX)
            if role.takes
            else InboxReader(config.data_dir / INBOX)
        )
        stack.callback(inbox.close)
        store = None
        if role.takes or role.shows:
            store = open_store(config, operational, shows_only=not role.takes)
        if store is not None:
            stack.callback(store.readings.close)
        parts = _Parts(config, role, catalogue, operational, inbox, store, wakeups, life, vault)
        await _Server(parts).run(pages)


def check_role(config: ServerConfig, role: Role) -> None:
    """Raise ServeError when ``role`` needs databases that several processes can share, and they are not there."""
    kind = "duckdb" if config.store is None else "influxdb"
    lacking = missing(role, operational_url=config.operational.url, store_kind=kind)
    if lacking:
        raise ServeError(f"{lacking}; see docs/roles.md, or leave --role away")


def port_of(config: ServerConfig, role: Role) -> int:
    """Return where a process of ``role`` answers."""
    return {Role.INGEST: config.ingest_port, Role.ALERTS: config.alerts_port}.get(role, config.port)


def open_operational(config: ServerConfig, *, name: str = "agrigate") -> Operational:
    """Return the operational database of the configuration; raise ServeError when its driver is not installed."""
    login = config.operational
    if not login.url:
        return Operational(f"sqlite:///{config.data_dir / OPERATIONAL}")
    try:
        return Operational(login.url, password=login.password, name=name)
    except ImportError as exc:
        raise ServeError(f"{exc}: PostgreSQL needs pip install 'agrigate[postgresql]'") from exc
    except sa.exc.ArgumentError as exc:
        raise ServeError(f"[operational] url: {exc}") from exc


def place_of(config: ServerConfig) -> str:
    """Return the operational database as a message names it."""
    return config.operational.url or str(config.data_dir / OPERATIONAL)


def _claimed(operational: Operational, role: Role) -> Wakeups | None:
    """Take the roles of this process on a database that others may use, too; raise ServeError when one is taken."""
    if not operational.is_shared:
        return None
    import psycopg  # noqa: PLC0415 - installed where PostgreSQL is used

    from ingest.wakeups import RoleTakenError, Wakeups  # noqa: PLC0415

    wakeups = Wakeups(operational, role.guarded)
    try:
        wakeups.claim()
    except RoleTakenError as exc:
        raise ServeError(str(exc)) from exc
    except psycopg.Error as exc:
        raise ServeError(f"{operational.url}: {' '.join(str(exc).split())}") from exc
    return wakeups


def catalogue_of(config: ServerConfig) -> Catalogue:
    """Return the limits that this server judges by; raise ConfigError with every fault of the county's own tables."""
    if config.standards is None:
        return standard_catalogue()
    try:
        return load(config.standards)
    except CatalogueError as exc:
        raise ConfigError([f"{config.standards}: {fault}" for fault in exc.faults]) from exc


def _warn_of_policies(operational: Operational) -> None:
    """Say in the log what the policies would not route as they are meant to."""
    with operational.read() as connection:
        for policy_id, checked in check_all(connection).items():
            for fault in (*checked.faults, *checked.warnings):
                log.warning("policy", id=policy_id, what=fault)


def _provide_key(operational: Operational, config: ServerConfig) -> None:
    """Make an API key in the configured file when there is none; say so when the one there opens nothing."""
    file = config.api_key_file
    if file is None:
        return
    if file.exists():
        if check_key(operational, file.read_text(encoding="utf-8").strip()) is None:
            log.warning(
                "api_key_unknown",
                file=str(file),
                todo="it is of another database: delete the file, the next start writes a new key",
            )
        return
    # The file first: a key that could not be written down would stay valid, known to nobody.
    fresh = file.with_name(f"{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(create_key(operational, "server.toml") + "\n")
    fresh.rename(file)


def _site(config: ServerConfig) -> Site | None:
    if config.deploy is None:
        return None
    pki = config.data_dir / "pki"
    return Site(config.deploy.host, config.deploy.port, lambda: Authority.open(pki))


def _access_probe(config: ServerConfig) -> AccessProbe | None:
    if config.probe is not None and not config.open_broker:
        return AccessProbe(config.broker, config.probe, publishers=config.publishers_mqtt)
    log.warning(
        "broker_open",
        host=config.broker.host,
        todo="anybody may write anything there: only for trying out, see docs/broker.md",
    )
    return None


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a process of one role stands on, opened."""

    config: ServerConfig
    role: Role
    catalogue: Catalogue
    operational: Operational
    inbox: Inbox | InboxReader
    store: OpenedStore | None
    wakeups: Wakeups | None
    life: str
    vault: Vault


class _Server:
    """The wired parts of one server process."""

    def __init__(self, parts: _Parts) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._parts = parts
        self._signal = EventSignal()
        self._sender = (
            Sender(parts.operational, parts.vault, guard=Guard(parts.config.egress))
            if parts.role.sends
            else None
        )
        self._people = (
            PeopleSender(
                parts.operational,
                parts.vault,
                public_url=parts.config.public_url,
                guard=Guard(parts.config.egress),
            )
            if parts.role.sends
            else None
        )
        self._clockwork = (
            Clockwork(
                duties(
                    parts.operational,
                    names_of(parts.catalogue.names),
                    self._store_troubles,
                    parts.config.patience,
                ),
                now_ms=now_ms,
                wake=self._woken,
                on_failure=self._fail,
            )
            if parts.role.sends
            else None
        )
        self._registry = Registry(parts.operational)
        self._judge: Judge | None = None
        self._ingest: IngestService | None = None
        self._door: Door | None = None
        self._metrics: Metrics | None = None
        if isinstance(parts.inbox, Inbox) and parts.store is not None:
            self._take(parts.inbox, parts.store)
        if parts.role.shows and parts.store is not None:
            app = create_app(self._sources(parts.store), door=self._door)
        else:
            app = create_health_app(
                Health(
                    operational=parts.operational,
                    metrics=self._metrics_text,
                    ready=self._not_ready,
                    loopback_only_reads=parts.config.is_loopback,
                ),
                door=self._door,
            )
        self._web = DashboardServer(
            app, host=parts.config.host, port=port_of(parts.config, parts.role)
        )

    def _take(self, inbox: Inbox, store: OpenedStore) -> None:
        """Wire everything from the broker to the store."""
        config, operational, registry = self._parts.config, self._parts.operational, self._registry
        data_dir = config.data_dir
        own = [INBOX]
        if not operational.is_shared:
            own.append(OPERATIONAL)
        if config.store is None:
            own.append(READINGS)
        room = Room(
            data_dir,
            reserve_bytes=config.disk_reserve_mb * MB,
            files=[data_dir / name for name in own],
        )
        raiser = AlertRaiser(names=names_of(self._parts.catalogue.names), on_commit=self._woken)
        with operational.read() as connection:
            raiser.load(connection)
        self._judge = judge = Judge(
            self._parts.catalogue,
            registry,
            operational,
            raiser,
            retention_ms=config.retention_days * DAY_MS,
        )
        reader = MessageReader(config.mappings)
        index = SeriesIndex(reader)
        consumers = [
            Consumer(
                "judge",
                judge,
                inbox,
                index,
                transient=TRANSIENT,
                passes=passes,
                relieve=room.relieve,
                after=raiser.wake,
                on_failure=self._fail,
                paces=True,
                thresholds=registry.quality,
            ),
            Consumer(
                "store",
                StoreStage(store.readings),
                inbox,
                index,
                transient=store.transient,
                passes=store.passes,
                pause_s=store.pause_s,
                on_failure=self._fail,
                thresholds=registry.quality,
            ),
        ]
        subscriber = Subscriber(config.broker, now_ms, _access_probe(config))
        watch = StationWatch(
            operational,
            now_ms=now_ms,
            connected_since_ms=lambda: subscriber.connected_since_ms,
            after=self._signal.notify,
            on_failure=self._fail,
        )
        publishers = self._publishers(subscriber)
        self._ingest = IngestService(
            subscriber=subscriber,
            inbox=inbox,
            registry=registry,
            consumers=consumers,
            watch=watch,
            index=index,
            store=self._parts.life,
            retention_days=config.retention_days,
            now_ms=now_ms,
            on_failure=self._fail,
            room=room,
            publishers=publishers,
            evidence=lambda: packs_to_keep(operational),
            upkeep=StoreUpkeep(
                store.readings,
                lambda: readings_to_keep(operational),
                now_ms=now_ms,
                transient=(*store.transient, *TRANSIENT),
                on_failure=self._fail,
            ),
        )
        self._door = Door(self._ingest, reader, now_ms)
        self._metrics = Metrics(
            self._ingest,
            store.readings,
            subscriber,
            inbox=inbox,
            operational=operational,
            data_dir=data_dir,
            login=config.broker,
            life=self._parts.life,
            now_ms=now_ms,
            beside=self._collectors(),
            publishers=publishers,
        )

    def _publishers(self, beside: Subscriber) -> PublisherSubscriber | None:
        """Return what listens to devices without an agent, where that is asked for."""
        if not self._parts.config.publishers_mqtt:
            return None

        def holding() -> str | None:
            return (self._ingest and self._ingest.holding()) or None

        return PublisherSubscriber(self._parts.config.broker, now_ms, beside, holding)

    def _sources(self, store: OpenedStore) -> Sources:
        """Return what the pages ask."""
        parts, config = self._parts, self._parts.config
        return Sources(
            operational=parts.operational,
            readings=store.readings,
            retention=config.retention,
            inbox=parts.inbox,
            limits=self._limits(),
            names=names_of(parts.catalogue.names),
            products=product_names_of(parts.catalogue.names),
            standards=Standards(parts.catalogue),
            windows_changed=self._registry.quality.refresh,
            metrics=self._metrics_text,
            ready=self._not_ready,
            now_ms=now_ms,
            loopback_only_reads=config.is_loopback,
            wake=self._signal,
            wake_sender=self._woken,
            back_up=self._back_up(store),
            site=_site(config) if self._has_authority() else None,
            evidence_keys=EvidenceKeys(config.data_dir),
            vault=parts.vault,
            guard=Guard(config.egress),
        )

    def _limits(self) -> Callable[[Series, int, int], Sequence[LimitSpan]]:
        if self._judge is not None:
            return self._judge.limits_for
        return Limits(self._parts.catalogue, self._registry, self._parts.operational).of

    def _has_authority(self) -> bool:
        """Whether the private authority is here: making another beside it would lock stations out."""
        return self._parts.role.takes or (self._parts.config.data_dir / INBOX).exists()

    def _back_up(self, store: OpenedStore) -> Callable[[str], Manifest]:
        config = self._parts.config
        if not self._parts.operational.is_shared:
            return Backups(config.data_dir, config.backup_dir, store.back_up, now_ms).write

        def refuse(_directory: str) -> Manifest:
            raise BackupError(BACKUP_OF_POSTGRESQL)

        return refuse

    def _collectors(self) -> list[Collector]:
        """Return the metrics that are read from the operational database."""
        operational, role = self._parts.operational, self._parts.role
        found: list[Collector] = []
        if role.shows:
            found.append(CountyMetrics(operational, now_ms))
        if role.sends:
            found.append(OutboxMetrics(operational))
        return found

    def _metrics_text(self) -> str:
        return text_of(*self._collectors()) if self._metrics is None else self._metrics.text()

    def _not_ready(self) -> list[str]:
        reasons = [] if self._metrics is None else self._metrics.not_ready()
        if self._parts.operational.is_shared:
            reasons += unreachable(self._parts.operational)
        if self._ingest is None and self._parts.store is not None:
            reasons += unread(self._parts.store)
        return reasons

    def _store_troubles(self) -> list[str]:
        """Return what keeps readings from being stored; in a process that stores nothing, nothing."""
        if self._ingest is None:
            return []
        return [
            f"{c.name}: stalled" for c in self._ingest.consumers if c.failing and c.name == "store"
        ]

    def _woken(self) -> None:
        self._signal.notify()
        if self._sender is not None:
            self._sender.wake()
        if self._people is not None:
            self._people.wake()

    def _fail(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self, pages: socket.socket) -> None:
        """Run every part until a signal or a failure; ``pages`` listens for the web server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        wakeups = self._parts.wakeups
        try:
            if self._ingest is not None:
                self._ingest.start()
            if wakeups is not None:
                wakeups.start(on_wake=self._woken, on_failure=self._fail)
            if self._clockwork is not None:
                self._clockwork.start()
            async with asyncio.TaskGroup() as tasks:
                web = tasks.create_task(self._serve_pages(pages), name="pages")
                beside = self._beside(tasks)
                await self._stop.wait()
                self._web.should_exit = True
                await web
                for task in beside:
                    task.cancel()
        finally:
            if self._clockwork is not None:
                await asyncio.to_thread(self._clockwork.stop)
            if wakeups is not None:
                await asyncio.to_thread(wakeups.stop)
            if self._ingest is not None:
                await asyncio.to_thread(self._ingest.stop)
        failure = self._first_failure()
        if failure is not None:
            raise ServeError(f"stopped: {failure!r}; the log has the details") from failure

    def _beside(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Begin what runs beside the pages until it is cancelled."""
        begun = [
            tasks.create_task(part.run(), name=name)
            for part, name in ((self._sender, "webhooks"), (self._people, "people"))
            if part is not None
        ]
        if self._ingest is None and self._parts.role.shows:
            begun.append(tasks.create_task(self._follow_registry(), name="registry"))
        return begun

    def _first_failure(self) -> BaseException | None:
        ingest, beside = self._ingest, (self._parts.wakeups, self._clockwork)
        failures = [None if ingest is None else ingest.first_failure()]
        failures += [part.failure for part in beside if part is not None]
        return next((failure for failure in failures if failure is not None), None)

    async def _serve_pages(self, pages: socket.socket) -> None:
        await self._web.serve(sockets=[pages])
        self._stop.set()

    async def _follow_registry(self) -> None:
        """Read again what the ingest process registers, in a process that shows it only."""
        lost = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REGISTRY_EVERY_S):
                    await self._stop.wait()
                return
            try:
                await asyncio.to_thread(self._registry.reload)
            except TRANSIENT as exc:
                if not lost:
                    log.warning("registry_not_read", error=str(exc))
                lost = True
            else:
                lost = False


def run(config: ServerConfig, role: Role = Role.ALL) -> None:
    """Run the server, or one role of it, in this process; raise ServeError with what is wrong."""
    try:
        # Thousands of webhooks a second: libuv's loop costs a third less than asyncio's own.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, role))
    except (InboxError, StoreError, DiskError, VaultError) as exc:
        raise ServeError(str(exc)) from exc
    except (SchemaError, alembic.util.CommandError) as exc:
        raise ServeError(f"{place_of(config)}: {exc}") from exc
    except (sa.exc.SQLAlchemyError, sqlite3.Error, duckdb.Error, OSError) as exc:
        raise ServeError(f"{config.data_dir}: {exc}") from exc
