"""Editions of standards and their periods of force (``editions.csv``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.limits import FOREVER_MS
from ingest.judge.tables import day_end_ms, day_start_ms, read_table

if TYPE_CHECKING:
    from pathlib import Path

_EDITION_COLUMNS = (
    "standard",
    "title_zh",
    "effective_from",
    "effective_to",
    "replaced_by",
    "files",
)


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of a standard and its period of force (UTC ms, half open)."""

    standard: str
    title_zh: str
    from_ms: int
    to_ms: int


def load_editions(directory: Path, faults: list[str]) -> dict[str, Edition]:
    """Return the editions by standard; note every fault."""
    editions: dict[str, Edition] = {}
    path = directory / "editions.csv"
    for row in read_table(path, _EDITION_COLUMNS, faults, with_source=False):
        start, end = row.date("effective_from"), row.date("effective_to")
        if start is None:
            if not row["effective_from"]:
                row.fault("effective_from", "is needed")
            continue
        if end is not None and end < start:
            row.fault("effective_to", f"{end} is before {start}")
        if row["standard"] in editions:
            row.fault("standard", f"duplicate: {row['standard']!r} stands above")
        editions[row["standard"]] = Edition(
            row["standard"],
            row["title_zh"],
            day_start_ms(start),
            FOREVER_MS if end is None else day_end_ms(end),
        )
    return editions
