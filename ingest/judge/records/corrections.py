"""Records that complete or correct another: the last counts, the ones before it stay as evidence."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from drivers.records import TestRecord

_CHUNK = 500  # ids of one query
_GENERATIONS = 32
"""So often a record may be corrected before the oldest is lost sight of."""

WITHDRAWN = "withdrawn"
"""Flag of a record that withdraws the one it points to; ``value_text`` says why, ``tester`` who."""

_T = tables.tests
IN_FORCE: sa.ColumnElement[bool] = _T.c.superseded_by.is_(None)
"""True of tests that count."""


def is_correction(record: TestRecord) -> bool:
    """Whether ``record`` tells of a first test again; a repeat names the first test too, and is a test of its own."""
    return bool(record.parent_record_id) and record.attempt == 0


def is_withdrawal(record: TestRecord) -> bool:
    """Whether ``record`` says that the one it points to is to count no more, and puts nothing in its place."""
    return bool(record.parent_record_id) and WITHDRAWN in record.quality_flags


@dataclass(frozen=True, slots=True)
class _Kin:
    """A stored record, its parent and its place in what the edge said."""

    record_id: str
    station: str
    parent: str | None
    attempt: int
    place: tuple[str, int, int]
    superseded_by: str | None


def supersede(connection: sa.Connection, rows: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Mark what the stored ``rows`` (record id, parent) supersede, and what supersedes them if it came before them.

    A record supersedes its parent when both are of one station and one attempt: a repeat does not. Of several
    corrections of one record the one that the edge made last counts.

    Returns what counts no more -> what counts instead.
    """
    rows = list(rows)
    ids = [record_id for record_id, _ in rows]
    wanted = {parent for _, parent in rows if parent} | set(_parents_in(connection, ids))
    if not wanted:
        return {}
    held = _family(connection, wanted)
    updates = [
        {"of_record": one.record_id, "by_record": last}
        for family in _families(held)
        for one, last in _ranked(family)
        if one.superseded_by != last
    ]
    if updates:
        connection.execute(
            sa.update(_T)
            .where(_T.c.record_id == sa.bindparam("of_record"))
            .values(superseded_by=sa.bindparam("by_record")),
            updates,
        )
    return {str(one["of_record"]): one["by_record"] for one in updates if one["by_record"]}


def _parents_in(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Return those of ``ids`` that a stored record names as its parent."""
    found: list[str] = []
    for chunk in _chunks(ids):
        query = sa.select(_T.c.parent_record_id).where(_T.c.parent_record_id.in_(chunk))
        found += connection.execute(query).scalars()
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _family(connection: sa.Connection, wanted: set[str]) -> dict[str, _Kin]:
    """Return the records of ``wanted``, their parents, their children, and so on."""
    held: dict[str, _Kin] = {}
    asked: set[str] = set()
    for _ in range(_GENERATIONS):
        new = wanted - asked
        if not new:
            break
        asked |= new
        for chunk in _chunks(sorted(new)):
            query = sa.select(
                _T.c.record_id,
                _T.c.station,
                _T.c.parent_record_id,
                _T.c.attempt,
                _T.c.epoch,
                _T.c.seq,
                _T.c.position,
                _T.c.superseded_by,
            ).where(_T.c.record_id.in_(chunk) | _T.c.parent_record_id.in_(chunk))
            for record_id, station, parent, attempt, *place, by in connection.execute(query):
                kin = _Kin(record_id, station, parent, attempt, tuple(place), by)
                held[record_id] = kin
                wanted |= {record_id, parent} if parent else {record_id}
    return held


def _families(held: dict[str, _Kin]) -> list[list[_Kin]]:
    """Return the records that correct each other, put together."""
    beside: dict[str, set[str]] = defaultdict(set)
    for one in held.values():
        parent = _corrected(held, one)
        if parent is not None:
            beside[one.record_id].add(parent)
            beside[parent].add(one.record_id)
    families: list[list[_Kin]] = []
    done: set[str] = set()
    for start in held:
        if start in done:
            continue
        family: list[_Kin] = []
        open_ = [start]
        done.add(start)
        while open_:
            record_id = open_.pop()
            family.append(held[record_id])
            open_ += beside[record_id] - done
            done |= beside[record_id]
        families.append(family)
    return families


def _corrected(held: dict[str, _Kin], one: _Kin) -> str | None:
    """Return the stored record that ``one`` corrects."""
    parent = held.get(one.parent or "")
    if parent is None or parent is one:
        return None
    same = (parent.station, parent.attempt) == (one.station, one.attempt)
    return parent.record_id if same else None


def _ranked(family: Sequence[_Kin]) -> list[tuple[_Kin, str | None]]:
    """Return each record with the one that supersedes it."""
    corrected = {one.parent for one in family if one.parent != one.record_id}
    leaves = [one for one in family if one.record_id not in corrected]
    last = max(leaves or family, key=lambda one: one.place)
    return [(one, None if one is last else last.record_id) for one in family]
