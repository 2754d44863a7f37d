"""The printer tap: testers connect to us as to a network printer (port 9100) and print."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from drivers.errors import LinkError
from drivers.session import Refused
from drivers.tester.transports.connections import Connections, peer_of
from drivers.tester.transports.handover import Handover, HandoverClosedError
from drivers.tester.transports.intake import CHUNK_BYTES, Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from drivers.records import TestRecord
    from drivers.tester.transports.intake import Instrument

MAX_CONNECTIONS = 16
MAX_CONNECTION_BYTES = 4 * 1024 * 1024  # a roll of slips; whoever sends more is no tester
IDLE_S = 300.0
_STATUS_ASKED = re.compile(rb"\x10\x04[\x01-\x04]")
_ONLINE = b"\x12"  # ESC/POS DLE EOT n: bits 1 and 4 are always set, the others say what is wrong


class TcpServerSession:
    """Takes what several testers print at once; each connection is a stream of its own."""

    def __init__(
        self, instrument: Instrument, host: str, port: int, *, max_bytes: int = MAX_CONNECTION_BYTES
    ) -> None:
        self._instrument = instrument
        self._host = host
        self._port = port
        self._max_bytes = max_bytes
        self._handover = Handover()
        self._connections = Connections(
            self._serve, most=MAX_CONNECTIONS, limit_bytes=2 * CHUNK_BYTES
        )

    async def records(self) -> AsyncIterator[TestRecord | Refused]:
        """Yield what is printed; raise LinkError when the address cannot be listened on."""
        try:
            await self._connections.open(self._host, self._port)
        except OSError as exc:
            raise LinkError(f"{self._instrument.path}: {self._instrument.bus}: {exc}") from exc
        async for item in self._handover.items():
            yield item

    async def acknowledge(self, record: TestRecord) -> None:
        """Count ``record`` as stored; a printer has no word for it."""
        self._handover.acknowledge(record)

    async def close(self) -> None:
        """End all connections; a second call does nothing."""
        self._handover.close()
        await self._connections.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer)
        intake = Intake(self._instrument, peer)
        taken = 0
        idle_s = 0.0
        try:
            while idle_s < IDLE_S:
                wait_s = self._instrument.idle_s if intake.is_open else IDLE_S
                try:
                    async with asyncio.timeout(wait_s):
                        data = await reader.read(CHUNK_BYTES)
                except TimeoutError:
                    idle_s += wait_s
                    await self._offer(intake.silence())
                    continue
                idle_s = 0.0
                if not data:
                    break
                taken += len(data)
                if taken > self._max_bytes:
                    refused = Refused(
                        data, f"more than {self._max_bytes} bytes on one connection", peer
                    )
                    await self._offer([*intake.silence(), refused])
                    return
                await self._offer(intake.feed(data))
                for _ in _STATUS_ASKED.finditer(data):
                    writer.write(_ONLINE)
                await writer.drain()
            await self._offer(intake.silence())
        except HandoverClosedError:
            return  # the agent ends
        except OSError:
            # The connection broke: what had come is whole or is refused, as at an orderly end.
            await self._offer_the_rest(intake)

    async def _offer_the_rest(self, intake: Intake) -> None:
        try:
            await self._offer(intake.silence())
        except HandoverClosedError:
            return

    async def _offer(self, items: Iterable[TestRecord | Refused]) -> None:
        for item in items:
            await self._handover.offer(item)
