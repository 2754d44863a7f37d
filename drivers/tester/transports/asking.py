"""An instrument that speaks when asked: its days again and again, each record stored once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from drivers.records import TestRecord
from drivers.tester.dialogue import Conversation
from drivers.tester.transports.cursor import Cursor
from drivers.tester.transports.intake import Intake
from drivers.tester.transports.stream import OpenLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from drivers.session import Refused
    from drivers.tester.dialogue import Dialogue
    from drivers.tester.transports.intake import Instrument
    from drivers.tester.transports.stream import Line

WRITE_WITHIN_S = 5.0
CLOCK_AHEAD = "clock_suspect"

log = structlog.get_logger()


class AskingSession:
    """Walks the profile's dialogue every ``every_s`` seconds, with one day of overlap."""

    def __init__(
        self,
        instrument: Instrument,
        line: Line,
        dialogue: Dialogue,
        now_ms: Callable[[], int],
        *,
        every_s: float,
    ) -> None:
        self._instrument = instrument
        self._line = OpenLine(instrument, line)
        self._dialogue = dialogue
        self._now_ms = now_ms
        self._every_s = every_s
        self._cursor = Cursor(None)
        self._acknowledged: TestRecord | None = None
        self._clock_said = False

    def keep_in(self, directory: Path) -> None:
        """Keep the cursor in ``directory``."""
        name = self._instrument.path.replace("/", "~")
        self._cursor = Cursor(directory / f"{name}.cursor.json")

    async def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield what is new; raise LinkError when the instrument does not answer.

        A record that is stored already, and says the same, is passed over.
        """
        await self._line.open()
        while True:
            async for item in self._ask():
                yield item
            await self._rest()

    async def acknowledge(self, record: TestRecord) -> None:
        """``record`` is on disk: the cursor may pass it."""
        self._acknowledged = record

    async def close(self) -> None:
        """Close the link; a second call does nothing."""
        await self._line.close()

    async def _ask(self) -> AsyncIterator[TestRecord | Refused]:
        intake = Intake(self._instrument)
        try:
            conversation = Conversation(
                self._dialogue, intake.reader, self._now_ms(), self._cursor.since_ms
            )
            while not conversation.done:
                if out := conversation.take():
                    await self._line.write(out, WRITE_WITHIN_S)
                data = await self._line.read(conversation.wait_s)
                if data:
                    conversation.feed(data)
                else:
                    conversation.silence()
                async for item in self._new(intake):
                    yield item
        finally:
            await asyncio.to_thread(self._cursor.save)

    async def _new(self, intake: Intake) -> AsyncIterator[TestRecord | Refused]:
        for item in intake.take():
            if not isinstance(item, TestRecord):
                yield item
                continue
            self._compare_clock(item)
            if self._cursor.knows(item):
                continue
            yield item
            if self._acknowledged is item:
                self._cursor.stored(item, self._now_ms())

    async def _rest(self) -> None:
        """Wait for the next round; what the instrument says meanwhile is nobody's answer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._every_s
        while (left := until - loop.time()) > 0:
            await self._line.read(left)

    def _compare_clock(self, record: TestRecord) -> None:
        """Say once when the device's clock cannot be right; the record keeps its time and a flag."""
        wrong = CLOCK_AHEAD in record.quality_flags
        if wrong and not self._clock_said:
            log.warning(
                "tester_clock_wrong",
                device=self._instrument.path,
                device_time=record.tested_at,
                edge_ms=self._now_ms(),
            )
        self._clock_said = self._clock_said or wrong
