"""Spool files of other versions of the agent (R23)."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway import spool_file, spool_open, wire
from gateway.spool import SpoolError
from gateway.spool_file import SCHEMA_VERSION, LossReason, prepare
from gateway.wire import EpochState, Lane, Lost, LostReason
from tests.gateway.test_spool import NOW, STORE, agrees_with_disk, fill, held, open_spool, run_of

SPOOLS = Path(__file__).parent / "spools"
TESTS, READINGS = "01KB0000000000000000000001", "01KB0000000000000000000002"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of schema 1 with packs queued."""
    db = sqlite3.connect(tmp_path / "spool.db")
    db.executescript((SPOOLS / "schema1.sql").read_text())
    db.execute("PRAGMA journal_mode=WAL")
    db.close()
    return tmp_path / "spool.db"


def test_an_older_file_is_upgraded_with_what_is_queued(old: Path) -> None:
    spool = open_spool(old)
    assert spool.alarms == set()
    assert spool.states() == {
        Lane.TESTS: [EpochState(TESTS, 1, 8)],
        Lane.READINGS: [EpochState(READINGS, 1, 40)],
    }
    assert (spool.store, spool.epochs[TESTS].acked) == (STORE, 3)
    lost = wire.peek_lost(held(spool, READINGS)[0][1])
    assert lost is not None
    assert lost == Lost(1, lost.through, 2 * lost.through, LostReason.CAP)
    assert spool.lost_ever == {(Lane.READINGS, LossReason.CAP): lost.readings}
    assert len(held(spool, READINGS)) == 40 - lost.through + 1
    assert spool.queue_length() == 5 + 40 - lost.through + 1
    agrees_with_disk(spool)
    assert fill(spool, 1) not in {TESTS, READINGS}
    spool.close()
    spool = open_spool(old)
    assert run_of(spool, READINGS) == (1, 40)
    assert spool.lost_ever == {(Lane.READINGS, LossReason.CAP): lost.readings}
    spool.close()


def test_an_upgrade_that_fails_leaves_the_older_file_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        half = spool_file.UPGRADES[1] + "INSERT INTO nowhere VALUES (1);"
        patch.setitem(spool_file.UPGRADES, 1, half)
        with pytest.raises(SpoolError, match="no such table: nowhere"):
            open_spool(old)
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert "lost" not in {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    db.close()
    spool = open_spool(old)
    assert run_of(spool, TESTS) == (1, 8)
    spool.close()


def test_upgraded_and_new_files_have_the_same_tables(old: Path) -> None:
    upgraded, new = sqlite3.connect(old), sqlite3.connect(":memory:")
    for db in (upgraded, new):
        prepare(db)
    tables = [
        sorted(r[0] for r in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))
        for db in (upgraded, new)
    ]
    assert tables[0] == tables[1]
    for db in (upgraded, new):
        db.close()


def test_a_damaged_older_file_is_salvaged_into_a_new_one(old: Path) -> None:
    raw = bytearray(old.read_bytes())
    raw[:100] = b"x" * 100
    old.write_bytes(raw)
    spool = open_spool(old)
    assert run_of(spool, READINGS) == (1, 40)
    assert run_of(spool, TESTS) == (1, 8)
    assert spool.alarms == {"spool_corrupt"}
    spool.close()


def test_a_newer_file_is_left_as_it_is_and_the_newer_agent_delivers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.db"
    newer = SCHEMA_VERSION + 1
    with monkeypatch.context() as patch:
        for module in (spool_file, spool_open):
            patch.setattr(module, "SCHEMA_VERSION", newer)
        spool = open_spool(path)
        epoch = fill(spool, 5)
        spool.close()
    before = path.read_bytes()
    shutil.copytree(tmp_path, tmp_path / "kept", ignore=shutil.ignore_patterns("*.reserve"))
    with pytest.raises(SpoolError) as caught:
        open_spool(path)
    assert str(caught.value) == (
        f"{path}: spool of schema {newer}, this agent knows {SCHEMA_VERSION}:"
        " use the newer agent, it delivers what is queued"
    )
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob("spool.d*")) == ["spool.db"]
    with monkeypatch.context() as patch:
        for module in (spool_file, spool_open):
            patch.setattr(module, "SCHEMA_VERSION", newer)
        spool = open_spool(path)
        spool.append(Lane.READINGS, b"{}", 1, NOW)
        assert run_of(spool, epoch) == (1, 5)
        spool.close()
