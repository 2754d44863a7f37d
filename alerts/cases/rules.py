"""What a county may set of its cases: lengths of clocks, and dates that the calendar's library lacks.

Every process that writes transitions needs them: they are kept in the database.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from alerts.cases.calendar import Calendar, Supplement
from alerts.cases.clocks import BY_NAME, FARM, MARKET
from alerts.cases.lengths import Length
from alerts.tables import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "case_rules"


class CalendarTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[calendar]`` of a supplement: days off and make-up workdays."""

    holidays: list[date] = []
    workdays: list[date] = []


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    calendar: CalendarTable


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    lengths: dict[str, str] = {}
    holidays: list[date] = []
    workdays: list[date] = []


@dataclass(frozen=True, slots=True)
class Rules:
    """Lengths that replace those of the table (``name``, or ``name.market``), and dates over the library's."""

    lengths: Mapping[str, Length] = field(default_factory=dict)
    supplement: Supplement = field(default_factory=Supplement)
    calendar: Calendar = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Build the calendar."""
        object.__setattr__(self, "calendar", Calendar(self.supplement))

    def length(self, clock: str, side: str) -> Length:
        """Return how long a clock runs on one side."""
        keys = (f"{clock}.{side}", clock) if side == MARKET else (clock,)
        given = (self.lengths[key] for key in keys if key in self.lengths)
        return next(given, BY_NAME[clock].length_for(side))


def parse_lengths(table: Mapping[str, str], where: str, faults: list[str]) -> dict[str, Length]:
    """Return the lengths of ``[deadlines]``, adding what is wrong to ``faults``."""
    lengths = {}
    for key, text in table.items():
        clock, _, side = key.partition(".")
        if clock not in BY_NAME or side not in {"", FARM, MARKET}:
            faults.append(f"{where}: {key}: no such clock; known: {', '.join(BY_NAME)}")
            continue
        try:
            lengths[clock if side == FARM else key] = Length.parse(text)
        except ValueError as exc:
            faults.append(f"{where}: {key}: {exc}")
    return lengths


def parse_supplement(text: str, file: str, faults: list[str]) -> Supplement:
    """Return the dates of a supplement (TOML), adding what is wrong with it to ``faults``."""
    try:
        table = msgspec.toml.decode(text, type=_File).calendar
    except msgspec.DecodeError as exc:
        faults.append(f"{file}: {exc}")
        return Supplement()
    supplement = Supplement(frozenset(table.holidays), frozenset(table.workdays))
    faults += [f"{file}: [calendar]: {fault}" for fault in supplement.faults()]
    return supplement


def keep(connection: sa.Connection, rules: Rules) -> None:
    """Write the rules to where every process finds them."""
    stored = _Stored(
        lengths={name: str(length) for name, length in sorted(rules.lengths.items())},
        holidays=sorted(rules.supplement.holidays),
        workdays=sorted(rules.supplement.workdays),
    )
    connection.execute(sa.delete(settings).where(settings.c.name == NAME))
    connection.execute(
        sa.insert(settings).values(name=NAME, value=msgspec.json.encode(stored).decode())
    )


def rules_of(connection: sa.Connection) -> Rules:
    """Return the rules that hold now."""
    found = connection.scalar(sa.select(settings.c.value).where(settings.c.name == NAME))
    return _rules(found or "{}")


@functools.lru_cache(maxsize=8)
def _rules(text: str) -> Rules:
    stored = msgspec.json.decode(text, type=_Stored)
    return Rules(
        {name: Length.parse(length) for name, length in stored.lengths.items()},
        Supplement(frozenset(stored.holidays), frozenset(stored.workdays)),
    )
