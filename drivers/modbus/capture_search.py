"""Frames in a recording, whatever tells them: the search, and the bytes that belong to none (pure).

What is said does not depend on how the recording was cut, and memory is bounded whatever the bytes are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from drivers.modbus.captured import MAX_BAD_BYTES, STEP_BYTES, Asked, Captured

if TYPE_CHECKING:
    from collections.abc import Iterator


class CaptureSearch(ABC):
    """Goes through a recording: ``feed`` bytes, then ``end``; each yields what has become certain.

    A framing says where a frame ends, what one says, and what is wrong with bytes that are none.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # bytes of the buffer that are dealt with
        self._base = 0  # offset of the buffer's first byte
        self._bad = bytearray()
        self._asked = Asked()

    def feed(self, data: bytes) -> Iterator[Captured]:
        """Take the next bytes of the recording; yield what they complete."""
        for start in range(0, len(data), STEP_BYTES):
            self._grow(data[start : start + STEP_BYTES])
            yield from self._search(ended=False)
            self._forget()

    def end(self) -> Iterator[Captured]:
        """Say what is left when the recording ends."""
        yield from self._search(ended=True)
        yield from self._end_bad(ended=True)

    @abstractmethod
    def _frame(self, *, ended: bool) -> int | None:
        """Return the length of the frame that begins here, 0 for none; None when more bytes are needed."""

    @abstractmethod
    def _opened(self, raw: bytes, offset: int) -> Captured:
        """Return what the frame ``raw`` says."""

    @abstractmethod
    def _refused(self, run: bytes, *, ended: bool) -> Iterator[tuple[int, str, int]]:
        """Yield (length, what is wrong, at which byte) of the pieces of ``run``, which belongs to no frame."""

    def _grow(self, piece: bytes) -> None:
        self._buffer += piece

    def _forget(self) -> None:
        """Let go what is dealt with."""
        del self._buffer[: self._at]
        self._base += self._at
        self._at = 0

    def _search(self, *, ended: bool) -> Iterator[Captured]:
        buffer = self._buffer
        while self._at < len(buffer):
            length = self._frame(ended=ended)
            if length is None:
                return
            if not length:
                self._bad.append(buffer[self._at])
                self._at += 1
                if len(self._bad) == MAX_BAD_BYTES:
                    yield from self._end_bad(ended=False)
                continue
            yield from self._end_bad(ended=False)
            raw = bytes(buffer[self._at : self._at + length])
            offset = self._base + self._at
            self._at += length
            yield self._opened(raw, offset)

    def _end_bad(self, *, ended: bool) -> Iterator[Captured]:
        if not self._bad:
            return
        run = bytes(self._bad)
        self._bad.clear()
        offset = self._base + self._at - len(run)
        for size, error, fault in self._refused(run, ended=ended):
            piece, run = run[:size], run[size:]
            yield Captured(
                good=False,
                offset=offset,
                bytes=piece.hex(" "),
                error=error,
                fault_at=offset + fault,
            )
            offset += size
