"""What every test may ask for: a real broker, a free port, a part that must be installed."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.influxdb import Influx


def require(program: str) -> str:
    """Return where ``program`` is; without it skip the test, and fail it in CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed; CI must have it")
        pytest.skip(f"{program} is not installed")
    return found


def free_port() -> int:
    """Return a port that nobody listens on, outside of those that connections of other tests are given."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(arrived: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait until ``arrived`` says so; the bound is there to end a test that hangs."""
    deadline = time.monotonic() + within_s
    while not arrived():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Mosquitto:
    """One mosquitto on a port of its own; it can be killed and started again."""

    def __init__(self, program: str, directory: Path, settings: str = "") -> None:
        self._program = program
        self._config = directory / "mosquitto.conf"
        self.port = free_port()
        access = settings or "allow_anonymous true"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{access}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "mosquitto ended at once"
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(require("mosquitto"), tmp_path)
    broker.start()
    yield broker
    broker.kill()


class Postgres:
    """A PostgreSQL server of our own on a free port, as an unprivileged user; it can be killed and started again."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._directory = Path(tempfile.mkdtemp(prefix="agrigate-pg-", dir="/tmp"))
        # The server refuses root.
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres", "postgres")
        else:
            self._as = []
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._clean: list[str] = []
        initdb = [str(programs / "initdb"), "-D", str(self._directory / "data"), "-U", "agrigate"]
        # Not C: an order of text that is not that of its bytes must hurt nobody.
        locale = ["-E", "UTF8", "--locale=C", "--locale-provider=icu", "--icu-locale=zh-CN"]
        made = subprocess.run(
            [*self._as, *initdb, *locale, "-A", "trust", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/tmp",
        )
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "max_connections": 200,
            "shared_buffers": "32MB",
            "wal_level": "minimal",
            "max_wal_senders": 0,
            "track_commit_timestamp": "on",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self._process = subprocess.Popen(
            [
                *self._as,
                str(self._programs / "postgres"),
                "-D",
                f"{self._directory}/data",
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/tmp",
        )
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "postgres ended at once"
        ask = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ask, check=False).returncode == 0

    def kill(self) -> None:
        """End it at once, as a crash does; its children follow."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://agrigate@127.0.0.1:{self.port}/{name}"

    def new(self, *, migrated: bool = False) -> str:
        """Return the URL of a database without rows; of a migrated one, one that was given back may come again."""
        if migrated and self._clean:
            return self._clean.pop()
        name = f"t{next(self._names)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {'migrated' if migrated else 'template0'}")
        return self.url(name)

    def give_back(self, url: str, *, migrated: bool) -> None:
        name = url.rpartition("/")[2]
        if not migrated:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")
            return
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        # Quicker than dropping: each drop waits for a checkpoint.
        self.sql(
            "DO $$ DECLARE one text; used bool; BEGIN FOR one IN SELECT tablename FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP"
            " EXECUTE format('SELECT EXISTS (SELECT FROM %I)', one) INTO used; IF used THEN"
            " EXECUTE format('TRUNCATE %I RESTART IDENTITY CASCADE', one); END IF; END LOOP; END $$",
            name,
        )
        self._clean.append(url)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg  # noqa: PLC0415 - where it is not installed nothing asks for it

        url = self.url(database).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(require("initdb"))]
    return found[-1].parent


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Callable[[], Postgres]]:
    """Make servers that a test may kill."""
    servers: list[Postgres] = []

    def make() -> Postgres:
        pytest.importorskip("psycopg")
        servers.append(Postgres(_postgres_programs()))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.remove()


@pytest.fixture(scope="session")
def postgres(own_postgres: Callable[[], Postgres]) -> Postgres:
    """The server that all tests share, each with databases of its own."""
    import alerts.tables  # noqa: F401, PLC0415 - the schema is all tables
    from ingest.operational import Operational  # noqa: PLC0415

    server = own_postgres()
    server.sql("CREATE DATABASE migrated TEMPLATE template0")
    template = Operational(server.url("migrated"))
    template.migrate()
    template.close()
    return server


class Databases:
    """Databases of one engine by the path that SQLite would have."""

    def __init__(self, postgres: Postgres | None, *, migrated: bool = True) -> None:
        self.is_postgres = postgres is not None
        self._postgres = postgres
        self._migrated = migrated
        self._urls: dict[Path, str] = {}

    def url(self, path: Path) -> str:
        """Return the database for ``path``, the same each time; on PostgreSQL the schema is there already."""
        if self._postgres is None:
            return f"sqlite:///{path}"
        if path not in self._urls:
            self._urls[path] = self._postgres.new(migrated=self._migrated)
        return self._urls[path]

    def remove(self) -> None:
        for url in self._urls.values():
            assert self._postgres is not None
            self._postgres.give_back(url, migrated=self._migrated)


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Databases on either engine: a test that asks for this runs once on each."""
    on_postgres = request.param == "postgresql"
    made = Databases(request.getfixturevalue("postgres") if on_postgres else None)
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """As ``databases``, without a schema."""
    on_postgres = request.param == "postgresql"
    server = request.getfixturevalue("postgres") if on_postgres else None
    made = Databases(server, migrated=False)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """The InfluxDB that all tests share, each with databases of its own."""
    from tests.influxdb import Influx  # noqa: PLC0415 - it takes ``require`` from here

    server = Influx(tmp_path_factory.mktemp("influx"))
    server.start()
    yield server
    server.close()
