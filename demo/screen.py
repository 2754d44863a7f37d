"""One terminal: lines that stay, a block redrawn below them; plain lines where there is no terminal."""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN_EVERY_S = 10.0


def clip(text: str, columns: int) -> str:
    """Return ``text`` cut to ``columns`` of a terminal, where a Chinese character takes two.

    >>> clip("贺兰县 demo", 5)
    '贺兰'
    """
    width = 0
    for i, letter in enumerate(text):
        width += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if width > columns:
            return text[:i]
    return text


class Screen:
    """Prints; ``columns`` is the width of the terminal, None when there is none."""

    def __init__(self, columns: int | None) -> None:
        self._columns = columns
        self._drawn: list[str] = []
        self._last_plain_s = -PLAIN_EVERY_S

    def line(self, text: str) -> None:
        """Print a line that stays."""
        drawn = self._drawn
        self._erase()
        click.echo(text)
        self._draw(drawn)

    def block(self, lines: Sequence[str]) -> None:
        """Redraw the block; without a terminal it is printed every ten seconds at most."""
        if self._columns is None:
            if lines and time.monotonic() - self._last_plain_s >= PLAIN_EVERY_S:
                self._last_plain_s = time.monotonic()
                click.echo("\n".join(line for line in lines if line))
            return
        fitted = [clip(line, self._columns - 1) for line in lines]
        if fitted != self._drawn:
            self._erase()
            self._draw(fitted)

    def release(self) -> None:
        """Leave the block where it is; what follows comes below it."""
        self._drawn = []

    def _erase(self) -> None:
        if self._drawn:
            click.echo(f"\x1b[{len(self._drawn)}A\x1b[J", nl=False, color=True)
            self._drawn = []

    def _draw(self, lines: Sequence[str]) -> None:
        for line in lines:
            click.echo(line)
        self._drawn = list(lines)
