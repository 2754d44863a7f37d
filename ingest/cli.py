"""``agrigate judge``: JSON lines with context in, verdicts with citation out."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from ingest.judge.lines import judge_lines


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
def judge(file: BinaryIO) -> None:
    """Judge readings and tests: one JSON object a line in FILE (or standard input), one verdict a line out."""
    for line in judge_lines(file):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
