"""What one message says: readings, tests, and a fault for each record that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.records import TestRecord

WHOLE = -1  # the place of a fault that concerns the message as a whole
MAX_TESTS = 500  # of one message


class RecordError(ValueError):
    """A record that cannot be used; ``field`` names the part that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Value:
    """One reading: ``value`` is finite and in the catalogue's unit, ``position`` its record's place in the message."""

    position: int
    device: str
    indicator: str
    t_ms: float  # UTC, not rounded yet
    value: float


@dataclass(slots=True)
class Parsed:
    """A message taken apart; a record is in exactly one of the three, or has nothing but bases."""

    values: list[Value] = field(default_factory=list)
    tests: list[tuple[int, TestRecord]] = field(default_factory=list)
    faults: list[tuple[int, str, str]] = field(default_factory=list)  # position, field, reason

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def refuse(self, position: int, error: RecordError) -> None:
        """Book a fault."""
        self.faults.append((position, error.field, str(error)))


@dataclass(frozen=True, slots=True)
class Context:
    """Whose message it is: ``device`` is blank where the message itself names its devices."""

    station: str
    device: str
    received_ms: int


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a message and what they are as strict JSON, or the ``JsonError`` that says why they are none."""

    raw: bytes
    document: object
