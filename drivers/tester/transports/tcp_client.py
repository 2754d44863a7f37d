"""A tester, or a serial server in front of one, that we connect to."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

CONNECT_WITHIN_S = 10.0
# A tester says nothing for days: only these tell a cut cable from a quiet one, after about two minutes.
KEEP_IDLE_S, KEEP_EVERY_S, KEEP_TRIES = 60, 15, 4


@dataclass(frozen=True, slots=True)
class TcpLine:
    """A TCP server to connect to."""

    host: str
    port: int

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; raise OSError, also when nobody answers in 10 s."""
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(self.host, self.port)
        raw = writer.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_EVERY_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_TRIES)
        return reader, writer
