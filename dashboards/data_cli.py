"""``agrigate backup``, ``restore`` and ``inbox``: a server's data directory in a person's hands."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx

from dashboards.cli import config_option, load_config

if TYPE_CHECKING:
    from dashboards.server_config import ServerConfig

CONNECT_S = 10.0


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="The server is stopped: copy its files directly.")
@click.argument("directory", type=click.Path(path_type=Path))
def backup(file: Path, directory: Path, *, offline: bool) -> None:
    """Write a backup into the new DIRECTORY; a running server does it, below its backup_dir."""
    from ingest.backup import BACKUP_OF_POSTGRESQL  # noqa: PLC0415 - --help stays quick

    config = load_config(file)
    if config.operational.url:
        raise click.ClickException(BACKUP_OF_POSTGRESQL)
    target = directory.absolute()
    counts = _back_up_stopped(config, target) if offline else _ask_for_backup(config, target)
    click.echo(f"{target}: whole")
    click.echo("  ".join(f"{name} {count}" for name, count in sorted(counts.items())))


def _back_up_stopped(config: ServerConfig, target: Path) -> dict[str, int]:
    from dashboards.serve import ServeError, now_ms, only_one  # noqa: PLC0415 - --help stays quick
    from ingest.backup import BackupError, back_up, copy_stopped_readings  # noqa: PLC0415
    from ingest.store.duckdb_store import StoreError  # noqa: PLC0415

    data_dir = config.data_dir
    try:
        with only_one(data_dir):
            return back_up(data_dir, target, copy_stopped_readings(data_dir), now_ms()).counts
    except (ServeError, BackupError, StoreError) as exc:
        raise click.ClickException(str(exc)) from exc


def _ask_for_backup(config: ServerConfig, target: Path) -> dict[str, int]:
    if config.api_key_file is None or not config.api_key_file.is_file():
        raise click.ClickException(
            "[server] api_key_file: is needed to ask the running server; or stop it and use --offline"
        )
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{config.port}/api/v1/backup"
    headers = {"X-API-Key": config.api_key_file.read_text("ascii").strip()}
    # However large the data: the answer comes when all is on disk.
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    try:
        with httpx.Client(headers=headers, timeout=timeout, trust_env=False) as client:
            response = client.post(url, json={"directory": str(target)})
            answer = response.json()
    except httpx.HTTPError as exc:
        raise click.ClickException(
            f"{url}: {exc}; does the server run? A stopped one needs --offline"
        ) from exc
    except ValueError as exc:
        raise click.ClickException(f"{url}: answers, but is no Agrigate server") from exc
    if response.is_error:
        raise click.ClickException(f"{response.status_code}: {answer.get('detail')}")
    return dict(answer["counts"])


@click.command()
@config_option
@click.option("--replace", is_flag=True, help="Move what is in the data directory aside.")
@click.argument("directory", type=click.Path(path_type=Path))
def restore(file: Path, directory: Path, *, replace: bool) -> None:
    """Check the backup in DIRECTORY and put it into the data directory; the server must be stopped."""
    from alerts import restored  # noqa: PLC0415 - --help stays quick
    from dashboards.serve import ServeError, only_one  # noqa: PLC0415
    from ingest import backup as backups  # noqa: PLC0415

    config = load_config(file)
    if config.operational.url:
        raise click.ClickException(backups.RESTORE_OF_POSTGRESQL)
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")

    def prepare(copies: Path) -> None:
        restored.prepare(copies / backups.OPERATIONAL)

    try:
        with only_one(config.data_dir):
            aside = backups.restore(
                directory, config.data_dir, stamp=stamp, replace=replace, prepare=prepare
            )
    except (ServeError, backups.BackupError, restored.ChainBrokenError) as exc:
        raise click.ClickException(str(exc)) from exc
    if aside is not None:
        click.echo(f"{aside}: what was there before")
    click.echo(
        f"{config.data_dir}: restored; start the server, the stations send again what is newer"
    )


@click.group()
def inbox() -> None:
    """Check every pack in the inbox, or make its file small again."""


@inbox.command()
@config_option
def verify(file: Path) -> None:
    """Read every pack, beside a running server too; exit with 1 when one is not what was taken."""
    from ingest import inbox as inboxes  # noqa: PLC0415 - --help stays quick
    from ingest.backup import INBOX  # noqa: PLC0415

    path = load_config(file).data_dir / INBOX
    try:
        found = inboxes.verify(path)
    except inboxes.InboxError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(
        f"{path}: {found.packs} packs of {found.epochs} epochs,"
        f" {found.bytes_unpacked} bytes in {found.bytes_packed}"
    )
    for bad in found.bad:
        click.echo(f"{bad.station}/{bad.epoch}/{bad.seq}: {bad.reason}", err=True)
    for fault in found.faults:
        click.echo(fault, err=True)
    if not found.is_good:
        raise click.exceptions.Exit(1)


@inbox.command()
@config_option
def compact(file: Path) -> None:
    """Rewrite the inbox' file without its gaps; the server must be stopped."""
    from dashboards.serve import ServeError, only_one  # noqa: PLC0415 - --help stays quick
    from ingest import inbox as inboxes  # noqa: PLC0415
    from ingest.backup import INBOX  # noqa: PLC0415

    config = load_config(file)
    path = config.data_dir / INBOX
    if not path.is_file():
        raise click.ClickException(f"{path}: is not there")
    try:
        with only_one(config.data_dir):
            before, after = inboxes.compact(path)
    except (ServeError, inboxes.InboxError) as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"{path}: {before} bytes before, {after} now")
