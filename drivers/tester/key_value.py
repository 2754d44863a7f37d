"""Printed slips of ``label: value`` lines, one test each (sans-IO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from drivers.tester.printer import Block, BlockEnd, PrinterReader
from drivers.tester.reader import RawRecord
from drivers.tester.text import split_line

if TYPE_CHECKING:
    from collections.abc import Iterator


class KeyValueTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``key_value``: where a slip begins and ends."""

    block_end: list[BlockEnd] = msgspec.field(default_factory=lambda: list(BlockEnd))
    start_label: str = "样品编号"
    end_label: str = ""


class KeyValueReader(PrinterReader):
    """A block with at least one label is a record; titles alone are none."""

    def __init__(self, options: KeyValueTable, *, charset: str = "auto") -> None:
        super().__init__(
            charset=charset,
            ends=frozenset(options.block_end),
            start_label=options.start_label,
            end_label=options.end_label,
        )

    def records(self, block: Block) -> Iterator[RawRecord]:
        """Yield the slip in ``block``."""
        pairs = tuple(pair for line in block.text.split("\n") if (pair := split_line(line)))
        if pairs:
            yield RawRecord(pairs, block.raw, block.text, block.damaged)
