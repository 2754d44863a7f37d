"""What a triggered probe wants around a read: write, wait, read; as request bytes and checked answers (pure)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from drivers.errors import DeviceError, FrameError
from drivers.modbus.frames import EXCEPTIONS, read_reply

READ_FUNCTIONS = (3, 4)
WRITE_FUNCTIONS = (5, 6, 16)
COIL_ON = 0xFF00  # Modbus application protocol V1.1b3 §6.5


class Action(StrEnum):
    """What a step does; ``points`` is the place where the device's points are read."""

    WRITE = "write"
    WAIT = "wait"
    READ = "read"
    POINTS = "points"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a poll.

    ``read`` asks for ``count`` registers (0 is legal: some probes start so) and drops them; ``write`` uses function
    5 (``values`` holds 0 or 1), 6 or 16. The answer to an ``optional`` step may stay out or be old.
    """

    do: Action
    function: int = 0
    address: int = 0
    count: int = 0
    values: tuple[int, ...] = ()
    wait_ms: int = 0
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse a step that cannot be asked."""
        if self.do is Action.READ and self.function not in READ_FUNCTIONS:
            raise ValueError(f"function {self.function} does not read registers; use 3 or 4")
        if self.do is Action.WRITE and self.function not in WRITE_FUNCTIONS:
            raise ValueError(f"function {self.function} does not write; use 5, 6 or 16")
        if self.do is Action.WRITE and self.function != 16 and len(self.values) != 1:
            raise ValueError(f"function {self.function} writes one value, not {len(self.values)}")
        if self.do is Action.WRITE and self.function == 5 and self.values[0] not in (0, 1):
            raise ValueError("a coil is 0 or 1")
        if (self.do is Action.WAIT) != (self.wait_ms > 0):
            raise ValueError("wait_ms belongs to a wait, and a wait needs it")

    @property
    def asks(self) -> bool:
        """Whether the step sends a request."""
        return self.do in (Action.READ, Action.WRITE)

    def pdu(self) -> bytes:
        """Return the request.

        >>> Step(Action.READ, function=3, address=0x2500).pdu().hex(" ")
        '03 25 00 00 00'
        >>> Step(Action.WRITE, function=16, address=0x1C00).pdu().hex(" ")
        '10 1c 00 00 00 00'
        """
        if self.do is Action.READ:
            return struct.pack(">BHH", self.function, self.address, self.count)
        if self.function == 16:
            count = len(self.values)
            head = struct.pack(">BHHB", 16, self.address, count, 2 * count)
            return head + struct.pack(f">{count}H", *self.values)
        value = COIL_ON * self.values[0] if self.function == 5 else self.values[0]
        return struct.pack(">BHH", self.function, self.address, value)

    def check(self, reply: bytes) -> None:
        """Raise DeviceError when the device refused the step, FrameError when ``reply`` does not answer it."""
        if self.do is Action.READ:
            read_reply(reply, self.function, self.count)
            return
        if len(reply) == 2 and reply[0] == self.function | 0x80:
            name = EXCEPTIONS.get(reply[1], f"exception_{reply[1]}")
            raise DeviceError(f"the device refused: {name} (exception {reply[1]})", code=reply[1])
        if reply != self.pdu()[:5]:
            raise FrameError("the reply does not repeat what was written", raw=reply)


def around_points(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps before and after the read of the points; without a ``points`` step all are before.

    >>> around_points((Step(Action.WAIT, wait_ms=10), Step(Action.POINTS)))[1]
    ()
    """
    for i, step in enumerate(steps):
        if step.do is Action.POINTS:
            return steps[:i], steps[i + 1 :]
    return steps, ()


def duration_ms(steps: tuple[Step, ...]) -> int:
    """Return how long the steps wait, without the answers."""
    return sum(step.wait_ms for step in steps)
