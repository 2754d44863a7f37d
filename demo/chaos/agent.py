"""``python -m demo.chaos.agent -c edge.toml``: the agent, with a wall clock that a file sets and a spool cap in bytes.

Everything else is ``agrigate edge``: the clock goes in where tests put theirs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
import sys
import time
from pathlib import Path

import click
import structlog

from gateway import app, config
from gateway.errors import AgentError
from gateway.schedule import Clock
from gateway.spool import SpoolError

LOOK_EVERY_S = 0.1


class ShiftedWall:
    """The wall clock plus the milliseconds that stand in a file; no file is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_ms = 0
        self._look_at = 0.0

    def __call__(self) -> int:
        """Return UTC milliseconds as this machine would have them."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            try:
                self._offset_ms = int(self._path.read_text("ascii"))
            except (FileNotFoundError, ValueError):  # being written
                return time.time_ns() // 1_000_000 + self._offset_ms
        return time.time_ns() // 1_000_000 + self._offset_ms


async def run(edge: config.EdgeConfig, offset_file: Path) -> None:
    """Run the agent until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.run(edge, stop=stop, clock=Clock(wall_ms=ShiftedWall(offset_file)))


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True)
@click.option("--wall-offset", type=click.Path(path_type=Path), required=True)
@click.option("--cap-bytes", type=int, default=0, help="Of the spool; 0: as configured.")
def main(path: Path, wall_offset: Path, cap_bytes: int) -> None:
    """Run the agent of PATH."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for library in ("pymodbus", "mqtt"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    edge = config.load(path)
    if cap_bytes:
        edge = dataclasses.replace(edge, spool_cap_bytes=cap_bytes)
    try:
        asyncio.run(run(edge, wall_offset))
    except (AgentError, SpoolError) as exc:
        click.echo(str(exc), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
