"""What a session asks of its bus: one request, its answer; three kinds of lines do it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from drivers.modbus.lines import Line


@dataclass(frozen=True, slots=True)
class Answer:
    """A request and its answer as on the wire, and the answer's PDU."""

    request: bytes
    reply: bytes
    pdu: bytes


class Link(Protocol):
    """One bus. Connects at the first exchange and again after it was lost; one exchange at a time."""

    request: bytes
    """The last request, as it went out."""

    async def exchange(
        self,
        line: Line,
        unit: int,
        pdu: bytes,
        timeout_s: float,
        *,
        reply_unit: int | None,
        exact: bool,
    ) -> Answer:
        """Send ``pdu`` to ``unit`` with the settings of ``line`` and return what ``reply_unit`` (None: anyone) answers.

        With ``exact`` the link puts no question of its own to the device. Raises LinkError when no answer came in time
        or the link is gone, FrameError when only an answer came that does not fit the request. An answer may still
        have a wrong byte count or be a refusal.
        """
        ...

    async def close(self) -> None:
        """Release the link; a second call does nothing."""
        ...


def refusal(exc: OSError) -> str:
    """Return why a connection was not made: asyncio says the address, not the reason."""
    if exc.errno is not None and exc.errno > 0:
        return f"no connection: {os.strerror(exc.errno)}"
    return f"no connection: {exc.strerror or exc}"
