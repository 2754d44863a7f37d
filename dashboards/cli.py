"""``agrigate serve``: the server side."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import structlog

from dashboards import server_config
from dashboards.roles import Role
from drivers.errors import ConfigError

EXIT_FAILED = 1
EXIT_CONFIG = 2

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("server.toml"),
    show_default=True,
    help="The server's configuration.",
)


def load_config(file: Path) -> server_config.ServerConfig:
    """Return the configuration; with a faulty one say all that is wrong, and end with 2."""
    try:
        return server_config.load(file)
    except ConfigError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)


@click.command()
@config_option
@click.option(
    "--check", is_flag=True, help="Say all that is wrong with the configuration, and end."
)
@click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default=str(Role.ALL),
    show_default=True,
    help="One part as a process of its own; needs PostgreSQL and InfluxDB.",
)
def serve(file: Path, role: str, *, check: bool) -> None:
    """Run the server: ingest, judge, store, alerts, pages."""
    from dashboards import serve as process  # noqa: PLC0415 - --help and --check stay quick
    from ingest.registry import files  # noqa: PLC0415

    config = load_config(file)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        if check:
            registry = files.load(config.registry)
            process.catalogue_of(config)
            process.check_role(config, Role(role))
            click.echo(f"{file}: good: {len(registry.stations)} stations")
            return
        process.run(config, Role(role))
    except ConfigError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)
    except process.ServeError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_FAILED)
