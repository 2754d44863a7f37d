"""Which products a restriction or a test method takes in: groups and names as a table lists them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ingest.judge.catalogue.tables import Row


class Reach(Enum):
    """Whether a scope takes a product in; OPEN when its words leave that to a person."""

    INSIDE = "inside"
    OPEN = "open"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class ProductScope:
    """Patterns of names and groups; the nearest name counts, and what nothing names is outside."""

    inside: tuple[str, ...]
    open: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def reach(self, names: Sequence[str]) -> Reach:
        """Return whether the scope takes in a product of these names, the nearest first; OPEN for no names."""
        if not names:
            return Reach.OPEN
        for name in names:
            for patterns, reach in (
                (self.outside, Reach.OUTSIDE),
                (self.open, Reach.OPEN),
                (self.inside, Reach.INSIDE),
            ):
                if any(fnmatchcase(name, pattern) for pattern in patterns):
                    return reach
        return Reach.OUTSIDE


def read_scope(row: Row) -> ProductScope:
    """Return the scope in the columns ``inside``, ``open`` and ``outside`` (separated by ;)."""
    return ProductScope(_patterns(row["inside"]), _patterns(row["open"]), _patterns(row["outside"]))


def check_scope(row: Row, known: Collection[str]) -> None:
    """Note a fault for every pattern that matches none of the ``known`` names and groups."""
    for column in ("inside", "open", "outside"):
        for pattern in _patterns(row[column]):
            if pattern not in known and not any(fnmatchcase(name, pattern) for name in known):
                row.fault(column, f"{pattern!r} is no known product or group")


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(";"))))
