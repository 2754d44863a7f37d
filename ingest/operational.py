"""The operational database: one writer connection, many readers, migrations at start.

SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once, so all writes and checkpoints
go through one connection; readers are read-only. On another engine both are ordinary pools.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic.command
import alembic.config
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator


class Operational:
    """Access to the operational database; safe to share between threads.

    ``write()`` gives a transaction on the only writer connection (others wait), ``read()`` a read-only connection.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.RLock()
        self._write_engine = sa.create_engine(
            url, pool_size=1, max_overflow=0, poolclass=sa.QueuePool
        )
        self._read_engine = sa.create_engine(url, pool_size=8, poolclass=sa.QueuePool)
        if self._write_engine.dialect.name == "sqlite":
            sa.event.listen(self._write_engine, "connect", _prepare_writer)
            sa.event.listen(self._read_engine, "connect", _prepare_reader)

    def migrate(self) -> None:
        """Bring the schema to the newest version; a half-done or unknown version raises."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._write_engine.begin() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Give the writer connection in a transaction: commit at the end, roll back on an exception."""
        with self._lock, self._write_engine.begin() as connection:
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
