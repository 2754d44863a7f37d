"""What is different between two catalogues: rows added, removed, changed, and periods of force that moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.judge.catalogue.editions import family

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from ingest.judge.catalogue.entries import Entry

_SAID = ("comparator", "limit", "unit", "kind", "temporary", "verified")


@dataclass(frozen=True, slots=True)
class Change:
    """A row that both have, and the fields that differ."""

    old: Entry
    new: Entry
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A period of force that moved, for ``rows`` rows of a standard; times are (from, to) in UTC ms."""

    standard: str
    old: tuple[int, int]
    new: tuple[int, int]
    rows: int


@dataclass(frozen=True, slots=True)
class Added:
    """A row that only the new one has; ``before`` is that of an earlier edition on the same thing."""

    entry: Entry
    before: Entry | None


@dataclass(frozen=True, slots=True)
class Differences:
    """Everything that differs."""

    added: list[Added]
    removed: list[Entry]
    changed: list[Change]
    moved: list[Moved]

    @property
    def is_empty(self) -> bool:
        """Whether both hold the same rows."""
        return not (self.added or self.removed or self.changed or self.moved)


def differences(old: Sequence[Entry], new: Sequence[Entry]) -> Differences:
    """Compare the rows of two catalogues; a row is known again by its standard and what it is about."""
    pairs, removed, added = _paired(old, new, _key)
    changed: list[Change] = []
    moved: dict[tuple[str, tuple[int, int], tuple[int, int]], int] = {}
    for before, after in pairs:
        fields = tuple(name for name in _SAID if getattr(before, name) != getattr(after, name))
        if fields:
            changed.append(Change(before, after, fields))
        spans = (before.from_ms, before.to_ms), (after.from_ms, after.to_ms)
        if spans[0] != spans[1]:
            place = (after.standard, *spans)
            moved[place] = moved.get(place, 0) + 1
    earlier: dict[Hashable, Entry] = {}
    for entry in sorted(old, key=_start):
        earlier[_family_key(entry)] = entry
    return Differences(
        [Added(entry, earlier.get(_family_key(entry))) for entry in added],
        removed,
        changed,
        [Moved(*place, rows) for place, rows in moved.items()],
    )


def _paired(
    old: Iterable[Entry], new: Iterable[Entry], key: Callable[[Entry], Hashable]
) -> tuple[list[tuple[Entry, Entry]], list[Entry], list[Entry]]:
    """Return pairs of one key, in order, and what is left of both."""
    waiting: dict[Hashable, list[Entry]] = {}
    for entry in old:
        waiting.setdefault(key(entry), []).append(entry)
    pairs, added = [], []
    for entry in new:
        held = waiting.get(key(entry))
        if held:
            pairs.append((held.pop(0), entry))
        else:
            added.append(entry)
    return pairs, [entry for held in waiting.values() for entry in held], added


def _key(entry: Entry) -> Hashable:
    return (entry.standard, *_about(entry))


def _family_key(entry: Entry) -> Hashable:
    return (family(entry.standard), *_about(entry))


def _about(entry: Entry) -> tuple[Hashable, ...]:
    # What a row compares with is no part of what it is about; the words of a cut-off name its number.
    words = "" if entry.level == "cut_off" else entry.table_clause
    said = (entry.medium, entry.level, entry.subject, entry.product_zh, words)
    return (*said, entry.conditions_zh if entry.kind != "presence" else "")


def _start(entry: Entry) -> int:
    return entry.from_ms
