"""Editions of standards and their periods of force (``editions.csv``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.limits import FOREVER_MS
from ingest.judge.catalogue.tables import day_end_ms, day_start_ms, read_table

if TYPE_CHECKING:
    from ingest.judge.catalogue.tables import Directories

EDITIONS = "editions.csv"
_COLUMNS = (
    "standard",
    "title_zh",
    "effective_from",
    "effective_to",
    "replaced_by",
    "files",
)
_YEAR = re.compile(r"-[0-9]{4}$")


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of a standard and its period of force (UTC ms, half open); ``files`` are names of its tables."""

    standard: str
    title_zh: str
    from_ms: int
    to_ms: int
    files: tuple[str, ...] = ()
    place: str = ""
    verified: bool = False
    replaced_by: str = ""


def family(standard: str) -> str:
    """Return what all editions of a standard have in common, as it begins their rule ids.

    >>> family("GB 15618-2018"), family("GB/T 5009.199-2003"), family("DB64/T 1234-2027")
    ('gb15618', 'gbt5009.199', 'db64t1234')
    """
    return re.sub(r"[\s/]", "", _YEAR.sub("", standard)).lower()


def load_editions(directories: Directories, faults: list[str]) -> dict[str, Edition]:
    """Return the editions by standard; note every fault.

    This one table is laid over the shipped one line by line: a line replaces that of the same standard, so that the
    next edition of one standard is written without copying all the others.
    """
    editions: dict[str, Edition] = {}
    for path in directories.both(EDITIONS):
        here: set[str] = set()
        for row in read_table(path, _COLUMNS, faults, with_source=False):
            standard = row["standard"]
            if not standard:
                row.fault("standard", "is needed")
            if standard in here:
                row.fault("standard", f"duplicate: {standard!r} stands above")
            here.add(standard)
            start, end = row.start("effective_from"), row.date("effective_to")
            if start is None:
                continue
            if end is not None and end < start:
                row.fault("effective_to", f"{end} is before {start}")
            files = tuple(f"{stem.strip()}.csv" for stem in row["files"].split(";") if stem.strip())
            editions[standard] = Edition(
                standard=standard,
                title_zh=row["title_zh"],
                from_ms=day_start_ms(start),
                to_ms=FOREVER_MS if end is None else day_end_ms(end),
                files=files,
                place=row.place,
                verified=row.verified,
                replaced_by=row["replaced_by"],
            )
    return editions
