"""The limit catalogue: the tables under ``standards/`` as checked rows, nothing loaded by half."""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.judge.cut_offs import RAPID_COLUMNS, CutOff, load_cut_offs
from ingest.judge.editions import Edition, load_editions
from ingest.judge.errors import CatalogueError
from ingest.judge.limit_tables import LIMIT_TABLES, group_rules, load_limits
from ingest.judge.names import Names, load_names
from ingest.judge.notices import BAN_COLUMNS, BanRow, load_bans
from ingest.judge.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingest.judge.limits import Limit

STANDARDS = Path(__file__).with_name("standards")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the judge knows of standards; immutable.

    ``rules`` maps an indicator to its rules; a rule is the rows of one rule id and comparator, of which at most one
    applies.
    """

    version: str
    editions: Mapping[str, Edition]
    rules: Mapping[str, tuple[tuple[Limit, ...], ...]]
    cut_offs: tuple[CutOff, ...]
    bans: Mapping[str, tuple[BanRow, ...]]
    names: Names

    def limits(self) -> Iterator[Limit]:
        """Yield every numeric limit on a reading."""
        return itertools.chain.from_iterable(itertools.chain.from_iterable(self.rules.values()))


def load(directory: Path = STANDARDS) -> Catalogue:
    """Read and check every table in ``directory``; raise CatalogueError listing all faults."""
    faults: list[str] = []
    editions = load_editions(directory, faults)
    limits: list[Limit] = []
    for table in LIMIT_TABLES:
        limits += load_limits(table, directory, editions, faults)
    rules = group_rules(limits, faults)
    rapid = read_table(directory / "rapid_tests.csv", RAPID_COLUMNS, faults)
    cut_offs = load_cut_offs(rapid, editions)
    notices = read_table(directory / "banned_substances.csv", BAN_COLUMNS, faults)
    bans = load_bans(directory, notices, faults)
    names = load_names(directory, notices, rapid, faults)
    if faults:
        raise CatalogueError(faults)
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.csv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return Catalogue(digest.hexdigest()[:12], editions, rules, tuple(cut_offs), bans, names)


@functools.cache
def standard_catalogue() -> Catalogue:
    """Return the catalogue that ships with the project; read at the first call."""
    return load()
