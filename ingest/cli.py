"""``agrigate judge``: JSON lines with context in, verdicts with citation out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from ingest.judge.catalogue.catalogue import load
from ingest.judge.errors import CatalogueError
from ingest.judge.lines import judge_lines

EXIT_CONFIG = 2


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--standards",
    type=click.Path(path_type=Path),
    help="Directory of tables that go over the shipped ones: later editions, limits of your own.",
)
def judge(file: BinaryIO, standards: Path | None) -> None:
    """Judge readings and tests: one JSON object a line in FILE (or standard input), one verdict a line out."""
    try:
        catalogue = None if standards is None else load(standards)
    except CatalogueError as exc:
        click.echo("\n".join(exc.faults), err=True)
        sys.exit(EXIT_CONFIG)
    for line in judge_lines(file, catalogue=catalogue):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
