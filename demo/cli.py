"""``agrigate demo``: a county on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from demo.orchestrator import run_demo


@click.command()
@click.option(
    "--for",
    "duration_s",
    type=float,
    help="End after this many seconds with the balance of the journals.",
)
@click.option("--port", default=8080, show_default=True, help="Where the pages are served.")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True
)
@click.option(
    "--broker",
    default="embedded",
    show_default=True,
    help="embedded, or mqtt://host:port of a running one.",
)
def demo(duration_s: float | None, port: int, directory: Path, broker: str) -> None:
    """Run simulated devices, edge agents, a broker, the server and a webhook receiver."""
    sys.exit(run_demo(directory=directory, port=port, duration_s=duration_s, broker=broker))
