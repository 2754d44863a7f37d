"""Commodities of GB 2763: which group each belongs to, and what the words of a table's row cover."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

FAT_BASIS = ",以脂肪中的残留量计"
"""Ends the words of a row whose limit is on the fat of the commodity."""

_EXCEPT = "除外"
_FORMS = ("(鲜)", "(干)")
_OPEN, _CLOSE = "([", ")]"
_AND = re.compile(r"以及|[和及]")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a row covers: the ``bases`` and all beneath them, without the ``excepted`` and all beneath those.

    A base has two names where a table says 稻谷/大米.
    """

    bases: tuple[str, ...]
    excepted: frozenset[str] = frozenset()
    fat_basis: bool = False


@dataclass(frozen=True, slots=True)
class Commodities:
    """The tree of commodities and groups by Chinese name; immutable."""

    names: Collection[str]
    parents: Mapping[str, str]

    def lineage(self, name: str) -> tuple[str, ...]:
        """Return ``name``, then the groups it belongs to, the nearest first."""
        found = [name]
        while (above := self.parents.get(found[-1])) is not None:
            found.append(above)
        return tuple(found)

    def forms(self, name: str) -> tuple[str, ...]:
        """Return the fresh and the dried commodity of a name that leaves the form open."""
        return tuple(form for end in _FORMS if (form := name + end) in self.names)

    def scope(self, text: str) -> Scope:
        """Return what the ``commodity_zh`` of a row covers; raise ValueError naming what is not a commodity."""
        text = unicodedata.normalize("NFKC", text)
        stripped = text.removesuffix(FAT_BASIS)
        base, excepted = split_exceptions(stripped)
        bases = (base,) if base in self.names else tuple(base.split("/"))
        unknown = [name for name in bases if name not in self.names]
        unknown += [name for name in excepted if not self._excepted(name)]
        if unknown:
            raise ValueError(f"{', '.join(map(repr, unknown))} is not a known commodity")
        left_out = frozenset(known for name in excepted for known in self._excepted(name))
        return Scope(bases, left_out, text != stripped)

    def _excepted(self, name: str) -> tuple[str, ...]:
        """Return the commodities an exception means: both forms, where the text leaves the form open."""
        if name in self.names:
            return (name, *self.forms(name))
        forms = self.forms(name)
        if forms:
            return forms
        parts = _AND.split(name)
        found = [self._excepted(part) for part in parts] if len(parts) > 1 else [()]
        return tuple(known for each in found for known in each) if all(found) else ()


def split_exceptions(text: str) -> tuple[str, tuple[str, ...]]:
    """Split the exceptions off the words of a row.

    >>> split_exceptions("蘑菇类(鲜)[双孢蘑菇(鲜)除外]")
    ('蘑菇类(鲜)', ('双孢蘑菇(鲜)',))
    >>> split_exceptions("柑橘类水果(柑、橘除外)"), split_exceptions("豌豆(干)")
    (('柑橘类水果', ('柑', '橘')), ('豌豆(干)', ()))
    """
    if not text.endswith(tuple(_EXCEPT + close for close in _CLOSE)):
        return text, ()
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += (text[at] in _CLOSE) - (text[at] in _OPEN)
        if depth == 0:
            inside = text[at + 1 : -1].removesuffix(_EXCEPT)
            return text[:at], tuple(inside.split("、"))
    return text, ()


def load_commodities(path: Path, names: Collection[str], faults: list[str]) -> Commodities:
    """Read the tree (child, parent) over the known ``names``; note strangers, second parents and circles."""
    parents: dict[str, str] = {}
    for row in read_table(path, ("child_zh", "parent_zh"), faults):
        child, parent = row["child_zh"], row["parent_zh"]
        for column in ("child_zh", "parent_zh"):
            if row[column] not in names:
                row.fault(column, f"{row[column]!r} is not a known commodity")
        if child in parents:
            row.fault("child_zh", f"{child!r} stands under {parents[child]!r} above")
            continue
        above: str | None = parent
        while above is not None and above != child:
            above = parents.get(above)
        if above == child:
            row.fault("parent_zh", f"{child!r} would stand above itself")
            continue
        parents[child] = parent
    return Commodities(names, parents)
