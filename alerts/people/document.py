"""A message before it is written in the way of one kind of target: a title, blocks of lines, links. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PER_LINE = 64  # bytes that a kind of target may wrap around a line
_FOR_THE_REST = 600  # bytes kept free for the line that says how many more there are


@dataclass(frozen=True, slots=True)
class Line:
    """Words without markup; with ``url`` they are a link."""

    text: str
    url: str = ""


Block = tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What one message says; ``told`` of its alerts are named, the others are counted in its last block."""

    title: str
    blocks: tuple[Block, ...]
    told: int = 0

    def plain(self) -> str:
        """Return it as text, with the links written out."""
        paragraphs = (
            "\n".join(f"{line.text} {line.url}" if line.url else line.text for line in block)
            for block in self.blocks
        )
        return f"{self.title}\n\n" + "\n\n".join(paragraphs) + "\n"

    def markdown(self, line_end: str = "\n") -> str:
        """Return it as the markdown that robots know: bold title, links."""
        lines = [f"**{self.title}**"]
        for block in self.blocks:
            lines.append("")
            lines += [f"[{line.text}]({line.url})" if line.url else line.text for line in block]
        return line_end.join(lines)


def fitted(
    title: str, blocks: Sequence[Block], total: int, size: int, rest: Callable[[int], Block]
) -> Document:
    """Return as many ``blocks`` as ``size`` bytes hold, then what ``rest`` says of how many of ``total`` are left.

    The first block is always there, cut when it must be.
    """
    left = size - _cost((Line(title),)) - _FOR_THE_REST
    kept: list[Block] = []
    for block in blocks:
        cost = _cost(block)
        if cost > left:
            break
        kept.append(block)
        left -= cost
    if not kept and blocks:
        kept.append(_cut(blocks[0], left))
    more = total - len(kept)
    told = len(kept)
    if more > 0:
        kept.append(rest(more))
    return Document(title, tuple(kept), told)


def _cost(block: Block) -> int:
    return sum(
        len(msgspec.json.encode(line.text)) + len(line.url.encode()) + _PER_LINE for line in block
    )


def _cut(block: Block, left: int) -> Block:
    lines: list[Line] = []
    for line in block:
        left -= _cost((line,))
        if left < 0:
            break
        lines.append(line)
    return (*lines, Line("…"))
