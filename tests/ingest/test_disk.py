"""Room on the disk and errors of the databases, one by one; the whole server on a full disk is in ``tests/faults``."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from ingest import disk
from ingest.disk import DiskError, Room, is_full, passes

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024


def error_of(db: sqlite3.Connection, *statements: str) -> sqlite3.Error:
    *before, last = statements
    for statement in before:
        db.execute(statement)
    with pytest.raises(sqlite3.Error) as caught:
        db.execute(last)
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
    return path


def test_a_locked_database_passes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path, 0)) as second:
        first.execute("BEGIN IMMEDIATE")
        locked = error_of(second, "BEGIN IMMEDIATE")
    assert (passes(locked), is_full(locked)) == (True, False)


def test_a_full_one_passes_and_is_full_also_behind_sqlalchemy(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA max_page_count = 2")
        full = error_of(db, "INSERT INTO t VALUES (zeroblob(100000))")
    assert (passes(full), is_full(full)) == (True, True)
    wrapped = sa.exc.OperationalError("INSERT", {}, full)
    assert (passes(wrapped), is_full(wrapped)) == (True, True)


def test_r16_a_read_only_one_does_not_pass(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        read_only = error_of(db, "PRAGMA query_only = ON", "INSERT INTO t VALUES (1)")
    assert (passes(read_only), is_full(read_only)) == (False, False)


def test_an_error_of_another_engine_may_pass() -> None:
    assert passes(ValueError("timeout"))
    assert not is_full(ValueError("timeout"))


# ---- the room


class Disk:
    """What the file system answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free_mb = 100.0
        self.flags = 0
        monkeypatch.setattr(disk.os, "statvfs", self._answer)

    def _answer(self, _path: object) -> SimpleNamespace:
        return SimpleNamespace(f_flag=self.flags, f_bavail=int(self.free_mb * 1024), f_frsize=1024)


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_below_the_reserve_it_is_low_until_there_is_clearly_more(
    tmp_path: Path, drive: Disk
) -> None:
    room = Room(tmp_path, reserve_bytes=16 * MB)
    seen = []
    with capture_logs() as logs:
        for free in (16.1, 15.9, 12.0, 17.9, 18.0, 100.0):
            drive.free_mb = free
            room.look()
            seen.append(room.low)
    assert seen == [False, True, True, True, False, False]
    assert [entry["event"] for entry in logs] == ["disk_nearly_full", "disk_has_room"]


def test_the_ballast_is_set_aside_given_up_and_made_again(tmp_path: Path, drive: Disk) -> None:
    room = Room(tmp_path, reserve_bytes=16 * MB)
    ballast = tmp_path / disk.BALLAST
    assert ballast.stat().st_blocks * 512 >= 4 * MB  # real blocks, not a hole
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("CREATE TABLE t (a)")
        db.execute("PRAGMA max_page_count = 2")
        full = error_of(db, "INSERT INTO t VALUES (zeroblob(100000))")
    room.relieve(ValueError("no error of the disk"))
    assert ballast.exists()
    room.relieve(full)
    room.relieve(full)
    assert not ballast.exists()
    drive.free_mb = 10
    room.look()
    assert not ballast.exists()
    drive.free_mb = 100
    room.look()
    assert ballast.exists()


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.usefixtures("drive")
def test_r16_a_file_that_is_gone_is_said(tmp_path: Path, replaced: bool) -> None:  # noqa: FBT001
    file = tmp_path / "operational.db"
    file.touch()
    room = Room(tmp_path, reserve_bytes=MB, files=[file])
    room.look()
    file.rename(tmp_path / "elsewhere")
    if replaced:
        file.touch()
    with pytest.raises(DiskError, match=r"operational\.db: is gone or was replaced"):
        room.look()


def test_r16_a_file_system_mounted_read_only_is_said(tmp_path: Path, drive: Disk) -> None:
    room = Room(tmp_path, reserve_bytes=MB)
    drive.flags = os.ST_RDONLY
    with pytest.raises(DiskError, match="is read-only"):
        room.look()
