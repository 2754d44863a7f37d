"""``python -m demo.simulators -c sim.toml``: run the instruments; SIGUSR1 makes them quiet, SIGTERM ends them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from demo.simulators.config import SimConfig, load
from demo.simulators.plant import Plant
from drivers.errors import ConfigError

QUIET_MARK = "quiet"


async def run(config: SimConfig, *, listing: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; on SIGUSR1 stop serving and leave ``quiet`` in the journal directory.

    With ``listing`` each instrument is said with where it listens.
    """
    stop, hush = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, hush.set)
    mark = config.journal_dir / QUIET_MARK
    mark.unlink(missing_ok=True)
    async with Plant(config) as plant, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(plant.run(), name="instruments")
        hushing = tasks.create_task(_hush(plant, hush, mark), name="quiet")
        if listing:
            for line in plant.listing():
                click.echo(line)
        ports = " ".join(str(port) for port in plant.ports)
        click.echo(f"simulators ready: modbus {ports}; printers {len(plant.printers)}")
        await stop.wait()
        await plant.quiet()
        running.cancel()
        hushing.cancel()


async def _hush(plant: Plant, hush: asyncio.Event, mark: Path) -> None:
    await hush.wait()
    await plant.quiet()
    mark.touch()  # noqa: ASYNC240 - one small file, and nothing else is going on
    click.echo("quiet")


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
)
def main(path: Path) -> None:
    """Run the simulated instruments of PATH."""
    try:
        config = load(path)
    except ConfigError as exc:
        raise click.ClickException(str(exc)) from exc
    asyncio.run(run(config))


if __name__ == "__main__":
    main()
