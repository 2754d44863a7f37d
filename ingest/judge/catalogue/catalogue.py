"""The limit catalogue: the tables under ``standards/`` as checked rows, nothing loaded by half."""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.judge.catalogue.cut_offs import RAPID_COLUMNS, CutOff, load_cut_offs
from ingest.judge.catalogue.device_words import DeviceSays, load_device_words
from ingest.judge.catalogue.editions import EDITIONS, Edition, load_editions
from ingest.judge.catalogue.limit_tables import LIMIT_TABLES, group_rules, load_limits
from ingest.judge.catalogue.method_rules import MethodRules, load_method_rules, product_words
from ingest.judge.catalogue.names import Names, load_names
from ingest.judge.catalogue.notices import BAN_COLUMNS, BanRow, check_ban_scopes, load_bans
from ingest.judge.catalogue.residue_rows import read_residue_rows
from ingest.judge.catalogue.residue_tables import load_residues
from ingest.judge.catalogue.site_limits import SITE_PREFIX, check_site_limits, load_site_limits
from ingest.judge.catalogue.tables import Directories, read_table
from ingest.judge.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingest.judge.catalogue.limits import Limit
    from ingest.judge.catalogue.residues import Residues
    from ingest.judge.catalogue.tables import Row

STANDARDS = Path(__file__).parents[1] / "standards"
"""The tables that ship with the project."""

_RAPID_PREFIX = "rapid_tests"
_OF_EDITIONS = (
    *(table.prefix for table in LIMIT_TABLES),
    "mrl_gb2763_",
    "mrl_gb31650_",
    _RAPID_PREFIX,
)
_PREFIXES = (*_OF_EDITIONS, SITE_PREFIX)


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
    residues: Residues
    method_rules: MethodRules
    device_words: Mapping[str, DeviceSays]

    def limits(self) -> Iterator[Limit]:
        """Yield every numeric limit on a reading."""
        return itertools.chain.from_iterable(itertools.chain.from_iterable(self.rules.values()))


def load(directory: Path = STANDARDS) -> Catalogue:
    """Read and check the shipped tables with those in ``directory`` over them; raise CatalogueError with all faults."""
    faults: list[str] = []
    directories = Directories(STANDARDS, directory)
    _check_names(directories, faults)
    editions = load_editions(directories, faults)
    _check_files(directories, editions, faults)
    limits: list[Limit] = []
    for table in LIMIT_TABLES:
        for file in directories.names(table.prefix):
            limits += load_limits(table, file, directories, editions, faults)
    for file in directories.names(SITE_PREFIX):
        limits += load_site_limits(file, directories, editions, faults)
    rules = group_rules(limits, faults)
    check_site_limits(limits, faults)
    rapid: list[Row] = []
    for file in directories.names(_RAPID_PREFIX):
        rapid += read_table(directories / file, RAPID_COLUMNS, faults)
    cut_offs = load_cut_offs(rapid, editions)
    notices = read_table(directories / "banned_substances.csv", BAN_COLUMNS, faults)
    bans = load_bans(directories, notices, faults)
    residue_rows = read_residue_rows(directories, faults)
    names = load_names(directories, notices, rapid, residue_rows, faults)
    residues = load_residues(residue_rows, directories, editions, names, faults)
    check_ban_scopes(directories, product_words(names), faults)
    method_rules = load_method_rules(directories, rapid, editions, names, faults)
    device_words = load_device_words(directories, faults)
    if faults:
        raise CatalogueError(list(dict.fromkeys(faults)))
    return Catalogue(
        _version(directories),
        editions,
        rules,
        tuple(cut_offs),
        bans,
        names,
        residues,
        method_rules,
        device_words,
    )


def _check_names(directories: Directories, faults: list[str]) -> None:
    """Note files that nothing reads; a slip in a name must not leave a county without its limits."""
    mine = directories.overlay
    if not mine.is_dir():
        faults.append(f"{mine}: is no directory")
        return
    if not any(mine.glob("*.csv")):
        faults.append(f"{mine}: holds no table (*.csv)")
    shipped = {path.name for path in directories.shipped.glob("*.csv")}
    faults += [
        f"{name}: nothing reads it; a table's name begins with {', '.join(_PREFIXES)}"
        for name in sorted({path.name for path in mine.glob("*.csv")} - shipped)
        if not name.startswith(_PREFIXES)
    ]


def _check_files(
    directories: Directories, editions: Mapping[str, Edition], faults: list[str]
) -> None:
    """Note editions whose tables are not there, and tables of no edition."""
    there = set(directories.names())
    named: set[str] = set()
    for edition in editions.values():
        named.update(edition.files)
        faults += [
            f"{edition.place}: files: {file} is not there"
            for file in edition.files
            if file not in there
        ]
    for name in sorted(there - named):
        if name.startswith(_OF_EDITIONS):
            faults.append(f"{name}: no line of editions.csv names it in files")


def _version(directories: Directories) -> str:
    digest = hashlib.sha256()
    for name in directories.names():
        for path in directories.both(name) if name == EDITIONS else [directories / name]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def standard_catalogue() -> Catalogue:
    """Return the catalogue that ships with the project; read at the first call."""
    return load()
