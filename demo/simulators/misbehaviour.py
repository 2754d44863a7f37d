"""What an instrument does wrong on command, per device and per request; seeded, so that a run can be repeated."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Misbehaviour(StrEnum):
    """One way in which an answer goes wrong."""

    SILENCE = "silence"
    """No answer at all."""
    LATE = "late"
    """The right answer ``late_s`` after the request; the line carries other requests meanwhile."""
    WRONG_UNIT = "wrong_unit"
    """A sound answer of another unit id, with wrong data."""
    WRONG_FUNCTION = "wrong_function"
    """A sound answer to another function, with wrong data."""
    WRONG_BYTE_COUNT = "wrong_byte_count"
    """A sound frame whose data are fewer or more than was asked, or than its byte count says."""
    WRONG_TRANSACTION = "wrong_transaction"
    """A sound Modbus TCP answer to another request, with wrong data."""
    NOISE = "noise"
    """Random bytes, then the right answer."""
    ECHO = "echo"
    """The request comes back, then the right answer: a half-duplex adapter."""
    CLIPPED = "clipped"
    """The right answer without its first byte: a line driver released late."""
    ONE_BYTE_WRITES = "one_byte_writes"
    """The right answer byte by byte, ``drip_s`` apart."""
    GLUED = "glued"
    """The answer before once more and the right one, or two slips, in one write without a gap."""
    CRC_ERROR = "crc_error"
    """The right answer with one bit of its check wrong."""
    EXCEPTION = "exception"
    """A refusal: ``exception_code`` of the control, or 4."""
    HANG_UP = "hang_up"
    """Half of the answer, then the line goes away."""
    TRUNCATED = "truncated"
    """The answer ends in the middle, and the line stays."""
    DOUBLED_START = "doubled_start"
    """The start byte of each record twice (met on LZ-4000T)."""
    RESENT_DAY = "resent_day"
    """Every record of the day once more in the same answer, or the slips of the day printed again."""
    GBK_CUT = "gbk_cut"
    """A text cut in the middle of a two-byte character."""
    SENTINEL = "sentinel"
    """"No result" in place of the number."""
    CLOCK_RESET = "clock_reset"
    """The device's clock after battery loss: 2011-01-01."""
    FULL_WIDTH = "full_width"
    """Full-width digits, signs and blanks in printed text."""


M = Misbehaviour
_ANY_LINE = {
    M.SILENCE,
    M.LATE,
    M.NOISE,
    M.ECHO,
    M.CLIPPED,
    M.ONE_BYTE_WRITES,
    M.GLUED,
    M.HANG_UP,
    M.TRUNCATED,
}
MODBUS_SERIAL = frozenset(
    _ANY_LINE | {M.WRONG_UNIT, M.WRONG_FUNCTION, M.WRONG_BYTE_COUNT, M.CRC_ERROR, M.EXCEPTION},
)
"""What an instrument behind RTU or ASCII framing can do."""
MODBUS_TCP = frozenset(MODBUS_SERIAL - {M.CRC_ERROR} | {M.WRONG_TRANSACTION})
"""What an instrument behind Modbus TCP framing can do."""
TESTER = frozenset(_ANY_LINE | {M.RESENT_DAY, M.SENTINEL, M.CLOCK_RESET})
"""What every rapid tester can do; profiles add to it."""
READABLE = frozenset({M.NOISE, M.ECHO, M.CLIPPED, M.ONE_BYTE_WRITES, M.GLUED})
"""A good reader may get the right value out of these; out of all others never."""


@dataclass(slots=True)
class Fault:
    """``kind`` happens to a request with ``probability``, after ``after`` requests, at most ``count`` times."""

    kind: Misbehaviour
    probability: float = 1.0
    count: int | None = None
    after: int = 0
    happened: int = 0

    def strikes(self, request_no: int, random: Random) -> bool:
        """Whether it happens to request ``request_no`` (from 0); counts itself."""
        if request_no < self.after or (self.count is not None and self.happened >= self.count):
            return False
        if self.probability < 1.0 and random.random() >= self.probability:
            return False
        self.happened += 1
        return True


def _seeded() -> Random:
    return Random(1)  # noqa: S311 - a simulation


@dataclass(slots=True)
class Control:
    """What a test may do to one instrument; the fields take effect with the next request.

    >>> control = Control()
    >>> control.misbehave(Misbehaviour.LATE, count=1)
    >>> [control.next(), control.next()]
    [<Misbehaviour.LATE: 'late'>, None]
    """

    frozen: bool = False
    """Serve the last sample again."""
    silent: bool = False
    """Take requests and never answer."""
    delay_s: float = 0.0
    """Wait before each answer, the line with it."""
    hang_up: bool = False
    """Close the connection instead of answering."""
    exception_code: int | None = None
    """Answer with this Modbus exception."""
    refused: frozenset[int] = frozenset()
    """Registers that the instrument refuses: a block that touches one gets exception 2."""
    late_s: float = 1.5
    drip_s: float = 0.001
    faults: list[Fault] = field(default_factory=list)
    script: deque[Misbehaviour | None] = field(default_factory=deque)
    """What happens to the next requests, one each, before the faults are asked."""
    random: Random = field(default_factory=_seeded)
    requests: int = 0
    """Requests taken so far."""

    def misbehave(
        self,
        kind: Misbehaviour,
        *,
        probability: float = 1.0,
        count: int | None = None,
        after: int = 0,
    ) -> None:
        """Add a fault; ``after`` counts from now."""
        self.faults.append(Fault(kind, probability, count, self.requests + after))

    def behave(self, script: Iterable[Misbehaviour | None] = ()) -> None:
        """Drop every fault; the next requests follow ``script``, then all is well."""
        self.faults.clear()
        self.script = deque(script)

    def next(self) -> Misbehaviour | None:
        """Return what happens to the request that has just come."""
        number, self.requests = self.requests, self.requests + 1
        if self.script:
            return self.script.popleft()
        return next((f.kind for f in self.faults if f.strikes(number, self.random)), None)
