"""Modbus TCP over pymodbus: one connection, its transactions, and what a broken one means."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import DecodePDU, ModbusPDU

from drivers.errors import FrameError, LinkError
from drivers.modbus.config import MAX_TIMEOUT_S
from drivers.modbus.frames import Frame, mbap, mbap_frame
from drivers.modbus.link import Answer, refusal

if TYPE_CHECKING:
    from drivers.modbus.lines import Line, TcpLine

_SILENT_BEFORE_RECONNECT = 3  # a half-open connection looks like a silent device
_IDLE_S = (
    60.0  # a connection that was idle for so long may have been dropped on the way without a word
)

# pymodbus logs each miss as an error; here a miss is an exception, logged once by whoever owns the device.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


class _Request(ModbusPDU):
    """Any request, its bytes untouched: pymodbus refuses to build some that probes need (count 0)."""

    def __init__(self, unit: int, pdu: bytes) -> None:
        super().__init__(dev_id=unit)
        self.function_code = pdu[0]
        self._data = pdu[1:]

    def encode(self) -> bytes:
        return self._data


class _Reply(ModbusPDU):
    """Any reply, its bytes untouched: pymodbus takes a short or long byte count for what it finds."""

    pdu: bytes = b""


class _AnyReply(DecodePDU):
    """Hand every reply on; what pymodbus cannot decode would otherwise end as a traceback in the event loop."""

    def decode(self, frame: bytes) -> ModbusPDU:
        reply = _Reply()
        reply.function_code = frame[0]
        reply.pdu = bytes(frame)
        return reply


class TcpLink:
    """The connection to one host and port."""

    def __init__(self, line: TcpLine) -> None:
        self._line = line
        self._client: AsyncModbusTcpClient | None = None
        self._waiting = False
        self._silent = 0
        self._alive_at = float("-inf")
        self.request = b""

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
        """Send ``pdu`` and return the answer with its transaction; see ``Link``."""
        del exact  # transactions tell late answers apart
        if line.framing != "tcp":
            raise LinkError(
                f"{line.bus} speaks Modbus TCP for another device; one line has one framing"
            )
        client = await self._connected(timeout_s)
        self._waiting = True
        loop = asyncio.get_running_loop()
        was_idle = loop.time() - self._alive_at > _IDLE_S
        try:
            async with asyncio.timeout(timeout_s):
                # pymodbus compares the unit itself, but takes any answer to unit 0.
                answer = await client.execute(False, _Request(unit, pdu))  # noqa: FBT003 - so it is declared
        except TimeoutError:
            self._silent += 1
            if was_idle or self._silent >= _SILENT_BEFORE_RECONNECT:
                await self.close()
            raise LinkError(
                f"unit {unit} at {self._line.bus} did not answer in {timeout_s} s"
            ) from None
        except (ModbusException, OSError) as exc:
            await self.close()
            raise LinkError(f"{self._line.bus}: {exc}") from exc
        finally:
            self._waiting = False
        self._silent = 0
        self._alive_at = loop.time()
        reply_pdu = answer.pdu if isinstance(answer, _Reply) else b""
        reply = mbap(Frame(answer.dev_id, reply_pdu, answer.transaction_id))
        sent = mbap_frame(self.request)
        right_unit = reply_unit is None or answer.dev_id == reply_unit
        if not right_unit or answer.transaction_id != sent.transaction:
            # pymodbus lets unit 0 and transaction 0 pass; a foreign reply may have been one.
            await self.close()
            raise FrameError("the answer of another unit or transaction", raw=reply)
        return Answer(self.request, reply, reply_pdu)

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            await asyncio.sleep(0)  # asyncio closes the socket one turn later

    async def _connected(self, timeout_s: float) -> AsyncModbusTcpClient:
        client = self._client
        if client is not None and client.connected:
            return client
        await self.close()
        client = AsyncModbusTcpClient(
            self._line.host,
            port=self._line.port,
            retries=0,  # pymodbus retries inside its lock and would hold up the whole bus
            reconnect_delay=0,  # the next poll reconnects
            timeout=2 * MAX_TIMEOUT_S,  # ours is per device and always shorter
            trace_packet=self._on_packet,
            trace_connect=self._on_connection,
        )
        client.ctx.framer.decoder = _AnyReply(is_server=False)
        self._client = client
        self._silent = 0
        try:
            async with asyncio.timeout(timeout_s):
                if await client.connect():
                    self._alive_at = asyncio.get_running_loop().time()
                    return client
                why = await self._why_not()
        except TimeoutError:
            why = f"no connection within {timeout_s} s"
        await self.close()
        raise LinkError(f"{self._line.bus}: {why}")

    async def _why_not(self) -> str:
        """Return why there is no connection; pymodbus tells nobody."""
        try:
            _, writer = await asyncio.open_connection(self._line.host, self._line.port)
        except OSError as exc:
            return refusal(exc)
        writer.close()
        return "no connection"

    def _on_packet(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001 - pymodbus calls it so
        if sending:
            self.request = bytes(data)
        return data

    def _on_connection(self, up: bool) -> None:  # noqa: FBT001 - pymodbus calls it so
        """End the wait at once when the device hangs up; pymodbus would sit out its timeout."""
        if up or not self._waiting or self._client is None:
            return
        future = self._client.ctx.response_future
        if not future.done():
            future.set_exception(ConnectionException("the device closed the connection"))
