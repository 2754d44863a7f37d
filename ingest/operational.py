"""The operational database: one writer at a time, many readers, migrations at start; SQLite or PostgreSQL.

SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once, so all writes and checkpoints
go through one connection; readers are read-only.

PostgreSQL serves several processes. There every write transaction begins with one advisory lock, so writers come one
after the other as in SQLite: the hash chain over the log has one end, and numbers of rows become visible in their
order (PostgreSQL lets go of the lock after the commit can be seen), so that whoever reads "after number n" skips
nothing that commits later. Readers see one snapshot and cannot write.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic.command
import alembic.config
import alembic.script
import sqlalchemy as sa

from ingest.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSIENT: tuple[type[sa.exc.SQLAlchemyError], ...] = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.InternalError,  # a server that has just become a standby refuses writes with it
    sa.exc.TimeoutError,  # no connection became free
)
"""Errors after which the same transaction may be tried again."""

CONNECT_S = 5
WRITER_LOCK = (0x6167, 0)  # "ag"; roles have the numbers after it
_TIMEOUT_S = 30  # of a statement, of a wait for a lock, of a transaction that does nothing
# Both ends notice within half a minute that the other is gone without a word.
_KEEPALIVES = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_SETTINGS = {
    "client_encoding": "UTF8",
    "client_min_messages": "error",
    "timezone": "UTC",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class SchemaError(Exception):
    """The database cannot be used as it is; the message says why and what to do."""


class Operational:
    """Access to the operational database; safe to share between threads.

    ``write()`` gives a transaction on the only writer connection (others wait), ``read()`` a read-only connection.
    ``url`` is SQLAlchemy's; ``password`` is kept out of it. ``name`` is how PostgreSQL lists the connections.
    """

    def __init__(self, url: str, *, password: str = "", name: str = "agrigate") -> None:
        self.url = url
        self.name = name
        self._dsn = sa.make_url(url)
        if password:
            self._dsn = self._dsn.set(password=password)
        self.is_shared = self._dsn.get_backend_name() == "postgresql"
        """Whether several processes may use it at once."""
        self._lock = threading.RLock()
        common: dict[str, Any] = {"poolclass": sa.QueuePool}
        writing: dict[str, Any] = {}
        reading: dict[str, Any] = {}
        if self.is_shared:
            common |= {"pool_pre_ping": True, "json_serializer": _json}
            writing["connect_args"] = self.connect_args(
                lock_timeout=f"{_TIMEOUT_S}s", target="read-write"
            )
            reading["connect_args"] = self.connect_args(
                default_transaction_read_only="on",
                default_transaction_isolation=r"repeatable\ read",
            )
        self._write_engine = sa.create_engine(
            self._dsn, pool_size=1, max_overflow=0, **common, **writing
        )
        self._read_engine = sa.create_engine(self._dsn, pool_size=8, **common, **reading)
        if not self.is_shared:
            sa.event.listen(self._write_engine, "connect", _prepare_writer)
            sa.event.listen(self._read_engine, "connect", _prepare_reader)

    def connect_args(self, *, target: str = "any", **settings: str) -> dict[str, Any]:
        """Return what psycopg needs beside the URL: patience, signs of life, the session's settings."""
        limits = dict.fromkeys(
            ("statement_timeout", "idle_in_transaction_session_timeout"), f"{_TIMEOUT_S}s"
        )
        options = [str(self._dsn.query.get("options", ""))]
        options += [f"-c {key}={value}" for key, value in (_SETTINGS | limits | settings).items()]
        return {
            "connect_timeout": CONNECT_S,
            "application_name": self.name,
            "target_session_attrs": target,
            "options": " ".join(options).strip(),
            **_KEEPALIVES,
        }

    def connection_parameters(self) -> dict[str, Any]:
        """Return what ``psycopg.connect`` takes for a connection of one's own to the server that takes writes."""
        _, parameters = self._write_engine.dialect.create_connect_args(self._dsn)
        return {**parameters, **self.connect_args(target="read-write")}

    def migrate(self) -> None:
        """Bring the schema to the newest version, all of it or nothing; raise SchemaError when that cannot be."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        known = [
            str(one.revision)
            for one in alembic.script.ScriptDirectory.from_config(config).walk_revisions()
        ]
        with self.write() as connection:
            if self.is_shared:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                _check_encoding(connection)
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 begins none for DDL
            _check_version(connection, known)
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")
            _check_whole(connection)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give the writer connection in a transaction: commit at the end, roll back on an exception."""
        with self._lock, self._write_engine.begin() as connection:
            if self.is_shared:
                # In its own statement: what follows sees everything that the holder before us committed.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(*WRITER_LOCK)))
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a read-only connection (one snapshot per transaction)."""
        with self._read_engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._read_engine.dispose()
        self._write_engine.dispose()


def _json(value: object) -> str:
    """Return JSON that PostgreSQL takes: a number that is none becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))


def _check_encoding(connection: sa.Connection) -> None:
    encoding = connection.scalar(sa.text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise SchemaError(f"the database is in {encoding}; make one with ENCODING 'UTF8'")


def _check_version(connection: sa.Connection, known: list[str]) -> None:
    """Raise SchemaError for a schema that no migration of ours leads on from."""
    there = set(sa.inspect(connection).get_table_names())
    versions: list[str] = []
    if "alembic_version" in there:
        versions = list(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))
    if len(versions) > 1:
        raise SchemaError(f"the schema has {len(versions)} versions at once; restore a backup")
    if not versions:
        ours = sorted(there & set(metadata.tables))
        if ours:
            raise SchemaError(
                f"has a table {ours[0]} but no schema version: half-made, or of another program;"
                " restore a backup, or use an empty database"
            )
    elif versions[0] not in known:
        raise SchemaError(
            f"the schema, version {versions[0]}, is from a newer server (this one knows up to"
            f" {known[0]}); install that one"
        )


def _check_whole(connection: sa.Connection) -> None:
    """Raise SchemaError when something of the newest schema is not there."""
    inspector = sa.inspect(connection)
    held = {
        str(name): {column["name"] for column in columns}
        for (_, name), columns in inspector.get_multi_columns().items()
    }
    for table in metadata.sorted_tables:
        missing = [name for name in table.c.keys() if name not in held.get(table.name, ())]  # noqa: SIM118
        if missing:
            raise SchemaError(
                f"{table.name}.{missing[0]} is missing though the schema says it is whole;"
                " restore a backup"
            )


def _prepare_writer(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI connection
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_reader(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI connection
    cursor = connection.cursor()
    for pragma in ("query_only=ON", "wal_autocheckpoint=0", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
