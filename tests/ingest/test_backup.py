"""Backups: consistent while the server writes, whole or not there, and what a restore does with them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts import restored
from alerts.chain import GENESIS, LogRow
from alerts.tables import alert_transitions
from alerts.transitions import incarnation_of
from ingest import backup
from ingest.backup import BackupBusyError, BackupError, Backups
from ingest.inbox import Inbox
from ingest.operational import Operational
from ingest.store.duckdb_store import DuckDBStore
from ingest.store.reading_store import Level
from tests.conftest import until
from tests.faults.server_process import BAD_PH, GOOD_PH, ROOT, ServerProcess, Station
from tests.ingest.store.test_reading_store_contract import ALL, A, Feed
from tests.ingest.test_inbox import staged, taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

NOW = 1_777_600_000_000


class Data:
    """A data directory with its databases open."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.operational = Operational(f"sqlite:///{directory / backup.OPERATIONAL}")
        self.operational.migrate()
        self.inbox = Inbox.open(directory / backup.INBOX)
        self.store = DuckDBStore(directory / backup.READINGS)
        (directory / "pki").mkdir()
        (directory / "pki" / "ca.key").write_text("secret")
        (directory / "master.key").write_text("key of keys")

    def back_up(self, target: Path) -> backup.Manifest:
        return backup.back_up(self.directory, target, self.store.back_up, NOW)

    def close(self) -> None:
        self.store.close()
        self.inbox.close()
        self.operational.close()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Data]:
    (tmp_path / "data").mkdir()
    data = Data(tmp_path / "data")
    data.inbox.commit(staged(*(taken(n) for n in range(1, 21))))
    yield data
    data.close()


def restore(directory: Path, into: Path, *, replace: bool = False) -> Path | None:
    into.mkdir(exist_ok=True)
    return backup.restore(
        directory,
        into,
        stamp="20260501T000000Z",
        replace=replace,
        prepare=lambda copies: restored.prepare(copies / backup.OPERATIONAL),
    )


def test_a_backup_holds_everything_and_says_what(data: Data, tmp_path: Path) -> None:
    manifest = data.back_up(tmp_path / "b")
    names = {kept.name for kept in manifest.files}
    assert names == {"operational.db", "readings.duckdb", "inbox.db", "pki/ca.key", "master.key"}
    assert (manifest.inbox_pos, manifest.counts["packs"]) == (20, 20)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "b").rglob("*.*")} == {0o600}
    assert backup.check(tmp_path / "b") == manifest
    assert not (tmp_path / "b.part").exists()


def test_the_sorted_parts_of_the_store_come_back_too(data: Data, tmp_path: Path) -> None:
    feed = Feed()
    for n in range(3):
        data.store.append(feed.batch([(A, NOW + (n * 9 + k) * 60_000, float(k)) for k in range(9)]))
        data.store.maintain(NOW + 2 * n * 86_400_000, ())
    manifest = data.back_up(tmp_path / "b")
    assert manifest.counts["readings"] == 27
    assert any(kept.name.startswith("readings.duckdb.parts/") for kept in manifest.files)
    assert backup.check(tmp_path / "b") == manifest
    restore(tmp_path / "b", tmp_path / "restored")
    with closing(DuckDBStore(tmp_path / "restored" / backup.READINGS)) as store:
        assert store.query(A, **ALL).total == 27
        trend = store.trend(A, start_ms=NOW, end_ms=NOW + 86_400_000, level=Level.DAY)
        assert trend.count.sum() == 27


def test_taking_goes_on_while_it_is_written_and_the_copy_is_one_state(
    data: Data, tmp_path: Path
) -> None:
    done, taken_until = threading.Event(), [20]

    def take() -> None:
        while not done.is_set():
            taken_until[0] += 1
            data.inbox.commit(staged(taken(taken_until[0], b"x" * 5000)))

    writer = threading.Thread(target=take)
    writer.start()
    try:
        until(lambda: taken_until[0] > 30)
        before = taken_until[0]
        manifest = data.back_up(tmp_path / "b")
    finally:
        done.set()
        writer.join()
    assert before - 1 <= manifest.inbox_pos <= taken_until[0]
    assert manifest.inbox_pos == manifest.counts["packs"]
    with closing(sqlite3.connect(tmp_path / "b" / "inbox.db")) as copy:
        assert copy.execute("SELECT max(last), max(seq) FROM watermarks, packs").fetchone() == (
            manifest.inbox_pos,
            manifest.inbox_pos,
        )


def test_the_inbox_is_copied_last(data: Data, tmp_path: Path) -> None:
    """What is taken while the store is copied is in the inbox' copy: no cursor lies beyond it."""

    def copy(path: Path) -> None:
        data.store.back_up(path)
        data.inbox.commit(staged(taken(21)))

    manifest = backup.back_up(data.directory, tmp_path / "b", copy, NOW)
    assert manifest.inbox_pos == 21
    assert manifest.store_cursor <= manifest.inbox_pos


def test_killed_half_way_it_leaves_nothing_that_looks_whole(data: Data, tmp_path: Path) -> None:
    """Case R6: the next try begins anew."""
    data.close()
    script = (
        "import os, pathlib, sys\n"
        "from ingest import backup\n"
        "data, target = map(pathlib.Path, sys.argv[1:])\n"
        "backup._copy_beside = lambda *_: os.kill(os.getpid(), 9)\n"
        "backup.back_up(data, target, backup.copy_stopped_readings(data), 1)\n"
    )
    target = tmp_path / "b"
    killed = subprocess.run(
        [sys.executable, "-c", script, str(data.directory), str(target)], cwd=ROOT, check=False
    )
    assert killed.returncode == -9
    assert not target.exists()
    assert (tmp_path / "b.part" / "inbox.db").exists()
    with pytest.raises(BackupError, match="is no whole backup"):
        backup.check(tmp_path / "b.part")
    copy = backup.copy_stopped_readings(data.directory)
    assert backup.back_up(data.directory, target, copy, NOW).counts["packs"] == 20
    assert not (tmp_path / "b.part").exists()


def test_what_is_no_leftover_of_ours_is_not_removed(data: Data, tmp_path: Path) -> None:
    (tmp_path / "b.part").mkdir()
    (tmp_path / "b.part" / "thesis.tex").touch()
    with pytest.raises(BackupError, match=r"thesis\.tex, which is no part of a backup"):
        data.back_up(tmp_path / "b")
    assert (tmp_path / "b.part" / "thesis.tex").exists()


def test_an_existing_directory_is_not_written_into(data: Data, tmp_path: Path) -> None:
    data.back_up(tmp_path / "b")
    with pytest.raises(BackupError, match="exists already"):
        data.back_up(tmp_path / "b")


def test_a_running_server_writes_below_its_backup_dir_only(data: Data, tmp_path: Path) -> None:
    backups = Backups(data.directory, tmp_path / "all", data.store.back_up, lambda: NOW)
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "out").symlink_to(tmp_path)
    for outside in ("../x", "/etc/x", "out/x", "."):
        with pytest.raises(BackupError, match="must lie below backup_dir"):
            backups.write(outside)
    assert backups.write("monday").counts["packs"] == 20
    assert (tmp_path / "all" / "monday" / "manifest.json").exists()
    none = Backups(data.directory, None, data.store.back_up, lambda: NOW)
    with pytest.raises(BackupError, match="has no backup_dir"):
        none.write("x")


def test_one_backup_at_a_time(data: Data, tmp_path: Path) -> None:
    seen = []

    def copy(path: Path) -> None:
        with pytest.raises(BackupBusyError):
            backups.write("second")
        seen.append(1)
        data.store.back_up(path)

    backups = Backups(data.directory, tmp_path / "all", copy, lambda: NOW)
    backups.write("first")
    assert seen


# ---------------------------------------------------------------- restore


@pytest.mark.parametrize("name", ["operational.db", "readings.duckdb", "inbox.db", "pki/ca.key"])
def test_one_changed_byte_is_found_before_anything_is_touched(
    data: Data, tmp_path: Path, name: str
) -> None:
    data.back_up(tmp_path / "b")
    content = bytearray((tmp_path / "b" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "b" / name).write_bytes(content)
    with pytest.raises(BackupError, match="its hash differs"):
        restore(tmp_path / "b", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_missing_file_and_a_changed_count_are_found(data: Data, tmp_path: Path) -> None:
    data.back_up(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["counts"]["packs"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="holds 20 packs, the manifest says 21"):
        restore(tmp_path / "b", tmp_path / "new")
    (tmp_path / "b" / "inbox.db").unlink()
    with pytest.raises(BackupError, match=r"inbox\.db: is missing"):
        restore(tmp_path / "b", tmp_path / "new")


def test_a_manifest_cannot_lead_out_of_the_backup(data: Data, tmp_path: Path) -> None:
    data.back_up(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"].append({"name": "../data/inbox.db", "size": 1, "sha256": ""})
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="leads out of the backup"):
        restore(tmp_path / "b", tmp_path / "new")


def test_a_directory_with_data_needs_replace_and_is_moved_aside(data: Data, tmp_path: Path) -> None:
    data.back_up(tmp_path / "b")
    data.inbox.commit(staged(taken(21)))
    data.close()
    with pytest.raises(BackupError, match=r"is not empty .*--replace"):
        restore(tmp_path / "b", data.directory)
    aside = restore(tmp_path / "b", data.directory, replace=True)
    assert aside == data.directory / "before-restore-20260501T000000Z"
    for directory, packs in ((data.directory, 20), (aside, 21)):
        with closing(sqlite3.connect(directory / "inbox.db")) as db:
            assert db.execute("SELECT count(*) FROM packs").fetchone() == (packs,)
    assert (data.directory / "pki" / "ca.key").read_text() == "secret"
    assert (data.directory / "master.key").read_text() == "key of keys"
    assert not (data.directory / backup.UNFINISHED).exists()


def test_a_restored_database_has_a_new_incarnation(data: Data, tmp_path: Path) -> None:
    """Case R21: receivers order (incarnation, seq); numbers given after the backup are given again."""
    with data.operational.write() as db:
        before = incarnation_of(db)
    data.back_up(tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "new")
    after = Operational(f"sqlite:///{tmp_path / 'new' / backup.OPERATIONAL}")
    with after.read() as db:
        assert incarnation_of(db) != before
    after.close()


def test_a_broken_chain_is_not_restored(data: Data, tmp_path: Path) -> None:
    row = LogRow("a1", 1, "", "suspected", "system", "", NOW, GENESIS, hash="0" * 64)
    with data.operational.write() as db:
        db.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
        values = {c.name: getattr(row, c.name) for c in alert_transitions.c if c.name != "id"}
        values["data"] = "{}"
        db.execute(sa.text("PRAGMA foreign_keys = OFF"))
    with closing(sqlite3.connect(data.directory / backup.OPERATIONAL)) as raw:
        columns = ", ".join(values)
        marks = ", ".join("?" * len(values))
        raw.execute(
            f"INSERT INTO alert_transitions ({columns}) VALUES ({marks})", tuple(values.values())
        )
        raw.commit()
    data.back_up(tmp_path / "b")
    with pytest.raises(restored.ChainBrokenError, match="does not follow at seq 1"):
        restore(tmp_path / "b", tmp_path / "new")
    assert not (tmp_path / "new" / "inbox.db").exists()


def test_killed_in_the_middle_it_is_noticed_and_can_be_done_again(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards.serve import ServeError, check_restored  # noqa: PLC0415

    data.back_up(tmp_path / "b")
    data.close()

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_move_aside", killed)
        with pytest.raises(KilledError):
            restore(tmp_path / "b", data.directory, replace=True)
    with pytest.raises(ServeError, match="a restore was not finished"):
        check_restored(data.directory)
    restore(tmp_path / "b", data.directory, replace=True)
    check_restored(data.directory)


# ---------------------------------------------------------------- end to end


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    yield server
    server.kill()


@pytest.fixture
def station(server: ServerProcess, mosquitto: Mosquitto) -> Iterator[Station]:
    station = Station(mosquitto.port, server.key)
    yield station
    station.close()


def settled(server: ServerProcess, station: Station) -> None:
    station.deliver()
    until(lambda: server.stored() == len(station.bodies) and server.is_judged())


@pytest.mark.mosquitto
def test_r21_run_back_up_run_on_kill_restore_run(
    server: ServerProcess, station: Station, tmp_path: Path
) -> None:
    """Every reading is in the store once, every alert there once and under the name it had before."""
    for n in range(40):
        station.add(BAD_PH if n == 10 else GOOD_PH)
    server.start()
    settled(server, station)
    life = station.receipts[-1].store
    done = server.run("backup", str(tmp_path / "backups" / "monday"))
    assert (done.returncode, "packs 40" in done.stdout) == (0, True), done.stderr

    for n in range(40):
        station.add(BAD_PH if n > 30 else GOOD_PH)
    settled(server, station)
    alerts = server.rows("SELECT alert_id FROM alerts ORDER BY alert_id")
    hooks = server.rows("SELECT webhook_id FROM outbox ORDER BY webhook_id")
    refused = server.run("restore", str(tmp_path / "backups" / "monday"), "--replace")
    assert (refused.returncode, "another server uses it" in refused.stderr) == (1, True)
    server.kill()

    done = server.run("restore", str(tmp_path / "backups" / "monday"), "--replace")
    assert done.returncode == 0, done.stderr
    server.start()
    settled(server, station)
    assert station.receipts[-1].store != life
    assert server.rows("SELECT alert_id FROM alerts ORDER BY alert_id") == alerts
    assert server.rows("SELECT webhook_id FROM outbox ORDER BY webhook_id") == hooks
    assert server.terminate() == 0
    assert server.readings() == [(n, 0) for n in range(80)]
    for name in ("inbox.db", "operational.db"):
        assert server.rows("PRAGMA integrity_check", name) == [("ok",)]
    restored.prepare(server.data / "operational.db")  # raises when the chain is broken
    assert server.run("inbox", "verify").returncode == 0
    whole = server.run("backup", str(tmp_path / "stopped"), "--offline")
    assert (whole.returncode, "readings 80" in whole.stdout) == (0, True), whole.stderr
