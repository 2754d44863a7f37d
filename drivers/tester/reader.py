"""What every reader of a rapid tester's bytes offers, and what it yields."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from drivers.errors import FrameError

MAX_RAW_BYTES = 8 * 1024  # what a record may carry as ``raw``
MAX_FEED_BYTES = 64 * 1024
"""Feed no more than this before taking what was found: it bounds the queue."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One test as the instrument said it.

    ``pairs`` are (label, value as written): labels of the instrument, folded (``text.folded``), or names of fields
    (``words.FIELDS``). ``raw`` has the bytes, at most ``MAX_RAW_BYTES``; ``flags`` are quality flags that only the
    reader can know.
    """

    pairs: tuple[tuple[str, str], ...]
    raw: bytes
    text: str = ""
    damaged: bool = False
    """Some bytes are no text in the instrument's character set; they stand as U+FFFD."""
    flags: tuple[str, ...] = ()


class Reader(Protocol):
    """A byte stream to records (sans-IO). What it says does not depend on how the stream was cut.

    ``feed`` bytes, then take with ``next`` until it returns None. The memory it holds is bounded.
    """

    @property
    def is_open(self) -> bool:
        """Whether something has begun that only more bytes, or ``silence``, will end."""
        ...

    def feed(self, data: bytes) -> None:
        """Take what the line sent."""
        ...

    def silence(self) -> None:
        """The line fell silent, the file or the body ended: what is there is whole."""
        ...

    def next(self) -> RawRecord | None:
        """Return the next record, None when there is none yet; raise FrameError (``raw``) for a block that is none."""
        ...

    def next_reply(self) -> bytes | None:
        """Return the next whole answer, record or not (a greeting, a count, an end word); for a dialogue."""
        ...


class Found:
    """The queue between a reader's bytes and its taker."""

    def __init__(self) -> None:
        self._found: deque[RawRecord | FrameError] = deque()
        self._replies: deque[bytes] = deque(maxlen=64)

    def record(self, record: RawRecord) -> None:
        """Add a record."""
        self._found.append(record)

    def refuse(self, what: str, raw: bytes | bytearray) -> None:
        """Add a block that is no record, with its first bytes."""
        self._found.append(FrameError(what, raw=bytes(raw[:MAX_RAW_BYTES])))

    def reply(self, answer: bytes) -> None:
        """Add a whole answer, record or not; when nobody asks, the oldest are let go."""
        self._replies.append(answer)

    def next(self) -> RawRecord | None:
        """As ``Reader.next``."""
        if not self._found:
            return None
        found = self._found.popleft()
        try:
            if isinstance(found, FrameError):
                raise found
            return found
        finally:
            del found  # an error that its own traceback holds would wait for the collector

    def next_reply(self) -> bytes | None:
        """As ``Reader.next_reply``."""
        return self._replies.popleft() if self._replies else None
