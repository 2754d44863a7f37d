"""``agrigate audit``: whether the logs of the operational database are what was written."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dashboards.cli import EXIT_FAILED, config_option, load_config

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def audit() -> None:
    """Check the hash chains of the logs."""


@audit.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per log.")
def verify(file: Path, *, as_json: bool) -> None:
    """Walk the log of alerts and the log of administration; ends with 1 and names the first bad row.

    The head printed for each log, noted elsewhere, shows later that nothing before it was cut off.
    """
    import msgspec  # noqa: PLC0415 - --help stays quick
    import sqlalchemy as sa  # noqa: PLC0415

    from alerts.audit import audit as walk  # noqa: PLC0415
    from dashboards.serve import open_operational  # noqa: PLC0415

    config = load_config(file)
    operational = open_operational(config)
    try:
        with operational.read() as connection:
            found = walk(connection)
    except sa.exc.SQLAlchemyError as exc:
        raise click.ClickException(f"the operational database cannot be read: {exc}") from exc
    finally:
        operational.close()
    for log in found:
        if as_json:
            click.echo(msgspec.json.encode(asdict(log)).decode())
        elif log.fault:
            click.echo(f"{log.log}: {log.fault}", err=True)
        else:
            click.echo(f"{log.log}: whole, {log.rows} rows, head {log.head}")
    if any(log.fault for log in found):
        sys.exit(EXIT_FAILED)
