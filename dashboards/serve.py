"""The server process: builds every part, starts them in order, stops them in the opposite order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sqlite3
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import alembic.util
import duckdb
import sqlalchemy as sa
import structlog
from ulid import ULID

from alerts.outbox import sync_endpoints
from alerts.raising import AlertRaiser
from alerts.sender import Sender
from dashboards.app import create_app
from dashboards.keys import check_key, create_key
from dashboards.metrics import Metrics
from dashboards.names import names_of, product_names_of
from dashboards.serving import DashboardServer
from dashboards.signal import EventSignal
from dashboards.sources import Sources
from dashboards.standards import Standards
from drivers.errors import ConfigError
from ingest.backup import INBOX, OPERATIONAL, READINGS, UNFINISHED, Backups
from ingest.broker.pki import Authority
from ingest.broker.probe import AccessProbe
from ingest.consumers import Consumer
from ingest.decode import SeriesIndex
from ingest.disk import MB, DiskError, Room, passes
from ingest.inbox import Inbox, InboxError
from ingest.judge.catalogue.catalogue import Catalogue, load, standard_catalogue
from ingest.judge.consumer import Judge
from ingest.judge.errors import CatalogueError
from ingest.operational import Operational
from ingest.registry import files
from ingest.registry.enrolment import Site
from ingest.registry.live import Registry
from ingest.service import DAY_MS, IngestService
from ingest.stations import StationWatch
from ingest.store.duckdb_store import DuckDBStore, StoreError
from ingest.store.stage import StoreStage
from ingest.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dashboards.server_config import ServerConfig

log = structlog.get_logger()


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


async def serve(config: ServerConfig) -> None:
    """Run until SIGTERM or SIGINT; raise ServeError or ConfigError when a part cannot start or fails."""
    with only_one(config.data_dir), ExitStack() as stack:
        check_restored(config.data_dir)
        pages = stack.enter_context(listen(config.host, config.port))
        registry_file = files.load(config.registry)
        catalogue = catalogue_of(config)
        operational = Operational(f"sqlite:///{config.data_dir / OPERATIONAL}")
        stack.callback(operational.close)
        operational.migrate()
        files.sync(operational, registry_file, now_ms())
        sync_endpoints(operational, config.webhooks, now_ms())
        _provide_key(operational, config)
        inbox = Inbox.open(config.data_dir / INBOX)
        stack.callback(inbox.close)
        store = DuckDBStore(config.data_dir / READINGS)
        stack.callback(store.close)
        await _Server(config, catalogue, operational, inbox, store).run(pages)


def catalogue_of(config: ServerConfig) -> Catalogue:
    """Return the limits that this server judges by; raise ConfigError with every fault of the county's own tables."""
    if config.standards is None:
        return standard_catalogue()
    try:
        return load(config.standards)
    except CatalogueError as exc:
        raise ConfigError([f"{config.standards}: {fault}" for fault in exc.faults]) from exc


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
        return AccessProbe(config.broker, config.probe)
    log.warning(
        "broker_open",
        host=config.broker.host,
        todo="anybody may write anything there: only for trying out, see docs/broker.md",
    )
    return None


class _Server:
    """The wired parts of one server process."""

    def __init__(
        self,
        config: ServerConfig,
        catalogue: Catalogue,
        operational: Operational,
        inbox: Inbox,
        store: DuckDBStore,
    ) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        names = names_of(catalogue.names)
        registry = Registry(operational)
        signal_ = EventSignal()
        self._sender = Sender(operational, config.webhooks)

        def woken() -> None:
            signal_.notify()
            self._sender.wake()

        data_dir = config.data_dir
        room = Room(
            data_dir,
            reserve_bytes=config.disk_reserve_mb * MB,
            files=[data_dir / name for name in (OPERATIONAL, READINGS, INBOX)],
        )
        raiser = AlertRaiser(names=names, on_commit=woken)
        with operational.read() as connection:
            raiser.load(connection)
        judge = Judge(
            catalogue,
            registry,
            operational,
            raiser,
            retention_ms=config.retention_days * DAY_MS,
        )
        index = SeriesIndex()
        consumers = [
            Consumer(
                "judge",
                judge,
                inbox,
                index,
                transient=(sa.exc.OperationalError,),
                passes=passes,
                relieve=room.relieve,
                after=raiser.wake,
                on_failure=self._fail,
                paces=True,
                thresholds=registry.quality,
            ),
            Consumer(
                "store",
                StoreStage(store),
                inbox,
                index,
                transient=(duckdb.Error,),
                on_failure=self._fail,
                thresholds=registry.quality,
            ),
        ]
        life = str(ULID())
        subscriber = Subscriber(config.broker, now_ms, _access_probe(config))
        watch = StationWatch(
            operational,
            now_ms=now_ms,
            connected_since_ms=lambda: subscriber.connected_since_ms,
            after=signal_.notify,
            on_failure=self._fail,
        )
        self._ingest = IngestService(
            subscriber=subscriber,
            inbox=inbox,
            registry=registry,
            consumers=consumers,
            watch=watch,
            index=index,
            store=life,
            retention_days=config.retention_days,
            now_ms=now_ms,
            on_failure=self._fail,
            room=room,
        )
        metrics = Metrics(
            self._ingest,
            store,
            subscriber,
            inbox=inbox,
            operational=operational,
            data_dir=config.data_dir,
            login=config.broker,
            life=life,
            now_ms=now_ms,
        )
        self._web = DashboardServer(
            create_app(
                Sources(
                    operational=operational,
                    readings=store,
                    inbox=inbox,
                    limits=judge.limits_for,
                    names=names,
                    products=product_names_of(catalogue.names),
                    standards=Standards(catalogue),
                    windows_changed=registry.quality.refresh,
                    metrics=metrics.text,
                    ready=metrics.not_ready,
                    now_ms=now_ms,
                    loopback_only_reads=config.is_loopback,
                    wake=signal_,
                    wake_sender=self._sender.wake,
                    back_up=Backups(data_dir, config.backup_dir, store.back_up, now_ms).write,
                    site=_site(config),
                )
            ),
            host=config.host,
            port=config.port,
        )

    def _fail(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self, pages: socket.socket) -> None:
        """Run every part until a signal or a failure; ``pages`` listens for the web server."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        try:
            self._ingest.start()
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._sender.run(), name="webhooks")
                web = tasks.create_task(self._serve_pages(pages), name="pages")
                await self._stop.wait()
                self._web.should_exit = True
                await web
                sender.cancel()
        finally:
            await asyncio.to_thread(self._ingest.stop)
        failure = self._ingest.first_failure()
        if failure is not None:
            raise ServeError(f"stopped: {failure!r}; the log has the details") from failure

    async def _serve_pages(self, pages: socket.socket) -> None:
        await self._web.serve(sockets=[pages])
        self._stop.set()


def run(config: ServerConfig) -> None:
    """Run the server in this process; raise ServeError with what is wrong."""
    try:
        asyncio.run(serve(config))
    except (InboxError, StoreError, DiskError) as exc:
        raise ServeError(str(exc)) from exc
    except alembic.util.CommandError as exc:
        database = config.data_dir / OPERATIONAL
        raise ServeError(f"{database}: {exc}; is it from a newer server?") from exc
    except (sa.exc.SQLAlchemyError, sqlite3.Error, duckdb.Error, OSError) as exc:
        raise ServeError(f"{config.data_dir}: {exc}") from exc
