"""The serial port that a rapid tester prints on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import serial
import serial_asyncio_fast
import structlog

from drivers.errors import FrameError, LinkError
from drivers.slip.config import SlipDevice
from drivers.slip.points import record_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from drivers.records import TestRecord
    from drivers.session import DeviceConfig

_CHUNK_BYTES = 1024
_LOGGED_BYTES = 512
_PARITY = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}

log = structlog.get_logger()


class SlipSession:
    """Listens to one serial port; ``refused`` counts the blocks that were no test."""

    def __init__(self, device: SlipDevice, now_ms: Callable[[], int]) -> None:
        self._device = device
        self._now_ms = now_ms
        self._reader = device.reader()
        self._writer: asyncio.StreamWriter | None = None
        self.refused = 0

    async def records(self) -> AsyncIterator[TestRecord]:
        """Yield a record per slip; raise LinkError when the port cannot be opened or is gone.

        A block that is no test is logged with its bytes, counted, and passed over.
        """
        stream = await self._open()
        while True:
            data = await self._read(stream)
            if data is None:
                self._reader.silence()
            else:
                self._reader.receive(data)
            for record in self._records():
                yield record

    async def acknowledge(self, record: TestRecord) -> None:
        """Do nothing: a printer port has no word for it."""

    async def close(self) -> None:
        """Close the port; a second call does nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except (OSError, serial.SerialException):
                return  # the port was gone before

    async def _open(self) -> asyncio.StreamReader:
        device = self._device
        try:
            stream, self._writer = await serial_asyncio_fast.open_serial_connection(
                url=device.serial,
                baudrate=device.baud,
                bytesize=int(device.format[0]),
                parity=_PARITY[device.format[1]],
                stopbits=int(device.format[2]),
                exclusive=True,  # a second reader would take half of each slip
            )
        except (OSError, serial.SerialException) as exc:
            raise LinkError(f"{device.path}: {device.bus}: {exc}") from exc
        return stream

    async def _read(self, stream: asyncio.StreamReader) -> bytes | None:
        """Return what came, or None when an open block's line fell silent; raise LinkError at the end of the link."""
        device = self._device
        try:
            if not self._reader.is_open:
                data = await stream.read(_CHUNK_BYTES)
            else:
                async with asyncio.timeout(device.idle_s):
                    data = await stream.read(_CHUNK_BYTES)
        except TimeoutError:
            return None
        except (OSError, serial.SerialException) as exc:
            raise LinkError(f"{device.path}: {device.bus}: {exc}") from exc
        if not data:
            raise LinkError(f"{device.path}: {device.bus}: the port is gone")
        return data

    def _records(self) -> Iterator[TestRecord]:
        """Yield the records of what has arrived; refused blocks in their turn."""
        while True:
            try:
                slip = self._reader.next_slip()
                if slip is None:
                    return
                record = record_of(slip, self._device, self._now_ms())
            except FrameError as exc:
                self._refuse(exc)
            else:
                yield record

    def _refuse(self, exc: FrameError) -> None:
        self.refused += 1
        log.warning(
            "slip_refused",
            device=self._device.path,
            reason=str(exc),
            raw=exc.raw[:_LOGGED_BYTES].hex(),
            refused=self.refused,
        )


def open_session(device: DeviceConfig, now_ms: Callable[[], int]) -> SlipSession:
    """Return a session on the device's port; it opens with the first record asked for."""
    if not isinstance(device, SlipDevice):
        raise TypeError(f"{device.path} is not a slip printer")
    return SlipSession(device, now_ms)
