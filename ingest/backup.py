"""Backup and restore of a data directory: consistent copies with a manifest, whole or not there.

The inbox is copied last, so that no cursor of a copy lies beyond it: after a restore the consumers catch up from the
inbox, and the inbox from the stations.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import msgspec

from ingest import inbox
from ingest.store import duckdb_parts, duckdb_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORMAT = 1
MANIFEST = "manifest.json"
OPERATIONAL, READINGS, INBOX = "operational.db", "readings.duckdb", "inbox.db"
PARTS = READINGS + duckdb_parts.FOLDER_SUFFIX
BESIDE = ("pki", "enrolment", "evidence-keys")  # folders, and the files below, when they are there
BESIDE_FILES = ("*.enrolment.toml", "master.key")
LOCK = "lock"
STAGING = "restoring"
UNFINISHED = "restore-unfinished"  # while it stands, the directory is a mixture
ASIDE = "before-restore-"
STEP_PAGES = 512  # at a time: a reader that holds a snapshot disturbs nobody for long
_COUNTED = ("alerts", "alert_transitions", "tests", "findings", "outbox", "events")

BACKUP_OF_POSTGRESQL = (
    "the operational data is in PostgreSQL: back it up with pg_dump, then the inbox; "
    "docs/postgresql.md has both lines"
)
RESTORE_OF_POSTGRESQL = (
    "the operational data is in PostgreSQL: bring it back with pg_restore, then the inbox; "
    "docs/postgresql.md says how"
)


class BackupError(Exception):
    """A backup cannot be written, or is not good; the message says why and what to do."""


class BackupBusyError(BackupError):
    """Another backup is being written."""


class Kept(msgspec.Struct, frozen=True):
    """One file of a backup."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds; it is written last."""

    format: int
    made_ms: int
    files: list[Kept]
    inbox_schema: int
    store_schema: int
    operational_revision: str
    inbox_pos: int
    judge_cursor: int
    store_cursor: int
    counts: dict[str, int]


class Backups:
    """Writes backups of a running server, one at a time, below the directory that was configured for them."""

    def __init__(
        self,
        data_dir: Path,
        below: Path | None,
        copy_readings: Callable[[Path], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._data_dir = data_dir
        self._below = below
        self._copy_readings = copy_readings
        self._now_ms = now_ms
        self._one = threading.Lock()

    def write(self, directory: str) -> Manifest:
        """Write a backup to ``directory``, absolute or below the configured one; raise BackupError."""
        if self._below is None:
            raise BackupError("this server has no backup_dir in [server]; set it, or use --offline")
        below = self._below.resolve()
        target = (below / directory).resolve()
        if below not in target.parents:
            raise BackupError(f"{directory}: must lie below backup_dir, {below}")
        if not self._one.acquire(blocking=False):
            raise BackupBusyError("another backup is being written; wait for it")
        try:
            return back_up(self._data_dir, target, self._copy_readings, self._now_ms())
        finally:
            self._one.release()


def back_up(
    data_dir: Path, target: Path, copy_readings: Callable[[Path], None], made_ms: int
) -> Manifest:
    """Copy ``data_dir`` to the new directory ``target`` while it is in use; raise BackupError.

    ``copy_readings`` writes a copy of the store to a path. Until all is on disk the directory is called ``….part``.
    """
    if target.exists():
        raise BackupError(f"{target}: exists already; name a new directory")
    part = target.with_name(f"{target.name}.part")
    try:
        _clear(part)
        part.mkdir(mode=0o700, parents=True)
        _need_room(data_dir, part)
        _copy_sqlite(data_dir / OPERATIONAL, part / OPERATIONAL)
        copy_readings(part / READINGS)
        _copy_sqlite(data_dir / INBOX, part / INBOX)
        _copy_beside(data_dir, part)
        manifest = _describe(part, made_ms)
        (part / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        for path in part.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        _sync_tree(part)
        part.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error, duckdb.Error) as exc:
        raise BackupError(f"{target}: {exc}; nothing is kept under that name") from exc
    return manifest


def copy_stopped_readings(data_dir: Path) -> Callable[[Path], None]:
    """Return what copies the store of a server that is stopped."""

    def copy(path: Path) -> None:
        store = duckdb_store.DuckDBStore(data_dir / READINGS)
        try:
            store.back_up(path)
        finally:
            store.close()

    return copy


def _clear(part: Path) -> None:
    """Remove what a backup that was killed has left; refuse what is something else."""
    if not part.exists():
        return
    ours = {OPERATIONAL, READINGS, INBOX, MANIFEST, *BESIDE}
    others = [
        entry.name
        for entry in part.iterdir()
        if entry.name not in ours
        and entry.name.split("-")[0] not in ours
        and not entry.name.startswith(READINGS)
        and not any(entry.match(pattern) for pattern in BESIDE_FILES)
    ]
    if others:
        raise BackupError(f"{part}: holds {others[0]}, which is no part of a backup; move it away")
    shutil.rmtree(part)


def _need_room(data_dir: Path, part: Path) -> None:
    files = [data_dir / name for name in (OPERATIONAL, READINGS, INBOX)]
    files += (data_dir / PARTS).glob("*")
    size = sum(file.stat().st_size for file in files if file.exists())
    free = shutil.disk_usage(part).free
    if free < size:
        raise BackupError(f"{part.parent}: {free} bytes are free, the backup needs {size}")


def _copy_sqlite(source: Path, copy: Path) -> None:
    """Copy one state; the read transaction keeps writers from starting the copy over."""
    with closing(inbox.read_only(source)) as reader, closing(sqlite3.connect(copy)) as writer:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(writer, pages=STEP_PAGES, sleep=0.001)
        writer.execute(
            "PRAGMA journal_mode=DELETE"
        )  # no files beside it; the server sets WAL again


def _copy_beside(data_dir: Path, part: Path) -> None:
    for name in BESIDE:
        if (data_dir / name).is_dir():
            shutil.copytree(data_dir / name, part / name)
    for pattern in BESIDE_FILES:
        for file in data_dir.glob(pattern):
            shutil.copy2(file, part / file.name)


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _describe(part: Path, made_ms: int) -> Manifest:
    kept = [
        Kept(str(path.relative_to(part)), path.stat().st_size, _sha256(path))
        for path in _files(part)
    ]
    with closing(inbox.read_only(part / OPERATIONAL)) as db:
        (revision,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
        judged = db.execute("SELECT inbox_pos FROM cursors WHERE consumer = 'judge'").fetchone()
        counts = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
            for table in _COUNTED
        }
    with closing(inbox.read_only(part / INBOX)) as db:
        (inbox_schema,) = db.execute("PRAGMA user_version").fetchone()
        (pos,) = db.execute(
            "SELECT max(value, (SELECT coalesce(max(pos), 0) FROM packs)) FROM counters"
            " WHERE name = 'pos'"
        ).fetchone()
        (counts["packs"],) = db.execute("SELECT count(*) FROM packs").fetchone()
    store_schema, stored, counts["readings"] = duckdb_store.describe(part / READINGS)
    return Manifest(
        format=FORMAT,
        made_ms=made_ms,
        files=kept,
        inbox_schema=inbox_schema,
        store_schema=store_schema,
        operational_revision=revision,
        inbox_pos=pos,
        judge_cursor=judged[0] if judged else 0,
        store_cursor=stored,
        counts=counts,
    )


# ---------------------------------------------------------------- restore


def check(directory: Path) -> Manifest:
    """Check every file of a backup against its manifest, and the databases in themselves; raise BackupError."""
    try:
        raw = (directory / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(raw, type=Manifest)
    except OSError as exc:
        raise BackupError(f"{directory}: is no whole backup: {exc}") from exc
    except msgspec.MsgspecError as exc:
        raise BackupError(f"{directory / MANIFEST}: cannot be read: {exc}") from exc
    if manifest.format != FORMAT:
        raise BackupError(
            f"{directory}: backup of format {manifest.format}, this program knows {FORMAT}"
        )
    missing = {OPERATIONAL, READINGS, INBOX} - {kept.name for kept in manifest.files}
    if missing:
        raise BackupError(f"{directory / MANIFEST}: names no {min(missing)}")
    for kept in manifest.files:
        _check_file(directory, kept)
    try:
        for name in (OPERATIONAL, INBOX):
            with closing(inbox.read_only(directory / name)) as db:
                (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise BackupError(f"{directory / name}: integrity_check: {found}")
        described = _describe(directory, manifest.made_ms)
    except (sqlite3.Error, duckdb.Error) as exc:
        raise BackupError(f"{directory}: {exc}") from exc
    for name, count in manifest.counts.items():
        if described.counts.get(name) != count:
            raise BackupError(
                f"{directory}: holds {described.counts.get(name)} {name}, the manifest says {count}"
            )
    return manifest


def _check_file(directory: Path, kept: Kept) -> None:
    path = directory / kept.name
    if directory.resolve() not in path.resolve().parents:
        raise BackupError(f"{directory / MANIFEST}: {kept.name}: leads out of the backup")
    if not path.is_file():
        raise BackupError(f"{path}: is missing")
    if path.stat().st_size != kept.size or _sha256(path) != kept.sha256:
        raise BackupError(f"{path}: is not the file that was backed up: its hash differs")


def restore(
    directory: Path,
    data_dir: Path,
    *,
    stamp: str,
    replace: bool,
    prepare: Callable[[Path], None],
) -> Path | None:
    """Put the checked backup ``directory`` into ``data_dir``, whose lock the caller holds; raise BackupError.

    What is there is moved into a folder named with ``stamp`` when ``replace`` is set; return that folder. ``prepare``
    is called with the copies before they take their places.
    """
    manifest = check(directory)
    old = [
        entry
        for entry in data_dir.iterdir()
        if entry.name not in (LOCK, STAGING, UNFINISHED) and not entry.name.startswith(ASIDE)
    ]
    if old and not replace:
        raise BackupError(
            f"{data_dir}: is not empty ({min(entry.name for entry in old)}); --replace moves it aside"
        )
    staging = data_dir / STAGING
    try:
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(mode=0o700)
        for kept in manifest.files:
            copy = staging / kept.name
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(directory / kept.name, copy)
            copy.chmod(0o600)
            _check_file(staging, kept)
        prepare(staging)
        _sync_tree(staging)
        (data_dir / UNFINISHED).touch()
        _sync(data_dir)
        aside = _move_aside(old, data_dir / f"{ASIDE}{stamp}")
        for entry in sorted(staging.iterdir()):
            entry.rename(data_dir / entry.name)
        staging.rmdir()
        _sync(data_dir)
        (data_dir / UNFINISHED).unlink()
        _sync(data_dir)
    except OSError as exc:
        raise BackupError(f"{data_dir}: {exc}") from exc
    return aside


def _move_aside(old: list[Path], aside: Path) -> Path | None:
    if not old:
        return None
    aside.mkdir(mode=0o700)
    for entry in old:
        entry.rename(aside / entry.name)
    _sync(aside)
    return aside


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
