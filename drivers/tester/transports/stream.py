"""An instrument at the end of one byte stream: a serial port, or a TCP connection that we open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from drivers.errors import LinkError
from drivers.tester.transports.intake import CHUNK_BYTES, Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drivers.records import TestRecord
    from drivers.session import Refused
    from drivers.tester.transports.intake import Instrument


class Line(Protocol):
    """A stream that can be opened."""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open it; raise OSError when that fails (pyserial's errors are OSErrors)."""
        ...


class OpenLine:
    """An open line with the errors of one instrument: everything that can go wrong is a LinkError."""

    def __init__(self, instrument: Instrument, line: Line) -> None:
        self._who = f"{instrument.path}: {instrument.bus}"
        self._line = line
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Open the line."""
        try:
            self._reader, self._writer = await self._line.open()
        except OSError as exc:
            raise LinkError(f"{self._who}: {exc}") from exc

    async def read(self, within_s: float | None) -> bytes:
        """Return what came, b"" when nothing did for ``within_s`` seconds; raise LinkError at the end of the link."""
        if self._reader is None:
            raise LinkError(f"{self._who}: not open")
        try:
            async with asyncio.timeout(within_s):
                data = await self._reader.read(CHUNK_BYTES)
        except TimeoutError:
            return b""
        except OSError as exc:
            raise LinkError(f"{self._who}: {exc}") from exc
        if not data:
            raise LinkError(f"{self._who}: the other end has closed")
        return data

    async def write(self, data: bytes, within_s: float) -> None:
        """Send ``data``."""
        if self._writer is None:
            raise LinkError(f"{self._who}: not open")
        try:
            self._writer.write(data)
            async with asyncio.timeout(within_s):
                await self._writer.drain()
        except OSError as exc:  # TimeoutError is one
            raise LinkError(f"{self._who}: {str(exc) or 'cannot be written'}") from exc

    async def close(self) -> None:
        """Close the line; a second call does nothing."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            return  # it was gone before


class StreamSession:
    """Listens to one stream; a record that has no end of its own ends with ``idle_s`` of silence."""

    def __init__(self, instrument: Instrument, line: Line) -> None:
        self._instrument = instrument
        self._line = OpenLine(instrument, line)

    async def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield what comes; raise LinkError when the link cannot be opened or is gone."""
        await self._line.open()
        intake = Intake(self._instrument)
        while True:
            try:
                data = await self._line.read(self._instrument.idle_s if intake.is_open else None)
            except LinkError:
                # What a dying link has delivered is delivered: half a slip is refused with its bytes, not forgotten.
                for item in intake.silence():
                    yield item
                raise
            for item in intake.feed(data) if data else intake.silence():
                yield item

    async def acknowledge(self, record: TestRecord) -> None:
        """Do nothing: a printer port has no word for it."""

    async def close(self) -> None:
        """Close the link; a second call does nothing."""
        await self._line.close()
