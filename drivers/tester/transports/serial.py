"""A tester on a serial port of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A serial port; ``line_format`` as 8N1. A by-path or by-id name finds the same socket again after unplugging."""

    port: str
    baud: int
    line_format: str

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the port for us alone: a second reader would take half of each slip."""
        import serial  # noqa: PLC0415 - only an agent with a serial tester pays for it
        import serial_asyncio_fast  # noqa: PLC0415

        parity = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}
        opened: tuple[
            asyncio.StreamReader, asyncio.StreamWriter
        ] = await serial_asyncio_fast.open_serial_connection(
            url=self.port,
            baudrate=self.baud,
            bytesize=int(self.line_format[0]),
            parity=parity[self.line_format[1]],
            stopbits=int(self.line_format[2]),
            exclusive=True,
        )
        return opened
