"""``agrigate store``: look after the store of readings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dashboards.cli import EXIT_FAILED, config_option, load_config

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def store() -> None:
    """Look after the store of readings."""


@store.command("check")
@config_option
def check_store(file: Path) -> None:
    """Say in one line what is wrong with the store, or that all is well; ends with 0 well, 1 wrong, 2 configuration."""
    from ingest.store.influx.check import CheckError, check  # noqa: PLC0415 - --help stays quick
    from ingest.store.influx.server import InfluxServer  # noqa: PLC0415

    config = load_config(file)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    if config.store is None:
        click.echo(
            f"{config.data_dir}: good: readings are kept here by DuckDB, no server is needed"
        )
        return
    server = InfluxServer(config.store)
    try:
        click.echo(check(server))
    except CheckError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_FAILED)
    finally:
        server.close()
