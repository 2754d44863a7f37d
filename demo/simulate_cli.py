"""``agrigate simulate``: run simulated instruments and say where each listens."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from demo.simulators.__main__ import run
from demo.simulators.config import load
from drivers.errors import ConfigError


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="sim.toml; docs/simulators.md describes it.",
)
@click.option("--check", is_flag=True, help="Only say what is wrong with the file.")
def simulate(path: Path, *, check: bool) -> None:
    """Run the instruments of a sim.toml until interrupted; each journal says what was served."""
    try:
        config = load(path)
    except ConfigError as exc:
        for fault in exc.faults:
            click.echo(fault, err=True)
        sys.exit(2)
    if check:
        click.echo(f"{path.name}: no faults")
        return
    try:
        asyncio.run(run(config, listing=True))
    except OSError as exc:
        raise click.ClickException(f"{path.name}: {exc}") from exc
