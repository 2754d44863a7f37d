"""``python -m demo.chaos --seconds 600 --seed N``: faults for a while, then the account; exit 0 when all is well."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path

import click

from bench.machine import machine
from demo.chaos import report
from demo.chaos.run import READINGS_PER_S, run
from demo.processes import DemoError


@click.command()
@click.option("--seconds", type=click.FloatRange(min=30), default=600.0, show_default=True)
@click.option("--seed", type=int, default=None, help="Default: the time.")
@click.option("--readings", type=int, default=None, help="To serve, about; default 2200 a second.")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path(".chaos"))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--keep", is_flag=True, help="Leave the directory of a good run too.")
def main(
    seconds: float,
    seed: int | None,
    readings: int | None,
    directory: Path,
    json_file: Path | None,
    *,
    keep: bool,
) -> None:
    """Run agents, a broker and a server under faults for a while, and count every value."""
    seed = int(time.time()) if seed is None else seed
    readings = readings or round(READINGS_PER_S * seconds)
    home = directory.resolve() / f"seed-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    begun = time.monotonic()

    def say(text: str) -> None:
        line = f"{time.monotonic() - begun:7.1f}  {text}"
        click.echo(line)
        with (home / "run.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    say(f"seed {seed}, {seconds:g} s")
    try:
        result = asyncio.run(run(home, seconds=seconds, seed=seed, readings=readings, say=say))
    except DemoError as exc:
        click.echo(f"chaos: {exc}", err=True)
        sys.exit(1)
    facts = machine()
    click.echo("\n".join(report.lines(result, facts)))
    report.save(json_file or home / "result.json", result, facts)
    if not result.well:
        click.echo(
            f"NOT well; everything is in {home}; again: python -m demo.chaos"
            f" --seconds {seconds:g} --seed {seed} --readings {readings}"
        )
        sys.exit(1)
    click.echo("all is well")
    if not keep:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
