"""Cases R17 and R20: power loss, and two of one kind at once."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.spool import Spool
from ingest.inbox import Inbox
from ingest.operational import Operational

if TYPE_CHECKING:
    from pathlib import Path

FULL = 2  # PRAGMA synchronous: the WAL is flushed at each commit


def test_r17_every_file_that_acknowledges_is_flushed_at_each_commit(tmp_path: Path) -> None:
    """A machine that loses power cannot be had here; what it relies on can be looked at."""
    spool = Spool.open(tmp_path / "spool.db", cap_bytes=2**20, new_id=lambda: "E")
    inbox = Inbox.open(tmp_path / "inbox.db")
    operational = Operational(f"sqlite:///{tmp_path / 'operational.db'}")
    with operational.write() as connection:
        (level,) = connection.exec_driver_sql("PRAGMA synchronous").one()
        (mode,) = connection.exec_driver_sql("PRAGMA journal_mode").one()
    assert (level, mode) == (FULL, "wal")
    for database in (spool._db, inbox._writer):
        assert database.execute("PRAGMA synchronous").fetchone() == (FULL,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    spool.close()
    inbox.close()
    operational.close()


def test_r20_a_pack_can_be_in_the_inbox_once_whoever_writes_it(tmp_path: Path) -> None:
    inbox = Inbox.open(tmp_path / "inbox.db")
    inbox.close()
    database = sqlite3.connect(tmp_path / "inbox.db")
    indexes = database.execute("PRAGMA index_list(packs)").fetchall()
    unique = [name for _, name, is_unique, *_ in indexes if is_unique]
    columns = [
        [column for _, _, column in database.execute(f"PRAGMA index_info({name})")]
        for name in unique
    ]
    database.close()
    assert ["epoch", "station", "seq"] in columns


@pytest.mark.parametrize("table", ["findings", "outbox"])
def test_r20_effects_have_a_unique_key(tmp_path: Path, table: str) -> None:
    operational = Operational(f"sqlite:///{tmp_path / 'operational.db'}")
    operational.migrate()
    operational.close()
    database = sqlite3.connect(tmp_path / "operational.db")
    (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    indexes = database.execute(f"PRAGMA index_list({table})").fetchall()
    database.close()
    assert any(is_unique for _, _, is_unique, *_ in indexes), sql
