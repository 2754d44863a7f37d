"""One stream of one instrument: bytes in, records and refused bytes out (no I/O)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drivers.errors import FrameError
from drivers.session import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.records import TestRecord
    from drivers.tester.reader import RawRecord, Reader

CHUNK_BYTES = 1024
"""Bytes fed at once; a reader is emptied in between."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a transport must know of its device."""

    path: str
    bus: str
    idle_s: float
    """Silence that ends a record which has no other end."""
    reader: Callable[[], Reader]
    """Makes a fresh reader; every connection, file and body has its own."""
    record_of: Callable[[RawRecord], TestRecord]
    """Makes the record; raises FrameError for what is no test."""


class Intake:
    """Feeds a fresh reader of ``instrument`` and takes what it finds; ``origin`` goes with what is refused."""

    def __init__(self, instrument: Instrument, origin: str = "") -> None:
        self.reader = instrument.reader()
        self._record_of = instrument.record_of
        self._origin = origin

    @property
    def is_open(self) -> bool:
        """Whether something has begun that has not ended yet."""
        return self.reader.is_open

    def feed(self, data: bytes) -> Iterator[TestRecord | Refused]:
        """Yield what ``data`` completes, in order."""
        for start in range(0, len(data), CHUNK_BYTES):
            self.reader.feed(data[start : start + CHUNK_BYTES])
            yield from self.take()

    def silence(self) -> Iterator[TestRecord | Refused]:
        """Yield what is complete because nothing more comes."""
        self.reader.silence()
        yield from self.take()

    def take(self) -> Iterator[TestRecord | Refused]:
        """Yield what the reader has found."""
        while True:
            try:
                raw = self.reader.next()
                if raw is None:
                    return
                item: TestRecord | Refused = self._record_of(raw)
            except FrameError as exc:
                item = Refused(exc.raw, str(exc), self._origin)
            yield item
