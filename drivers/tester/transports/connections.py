"""A listening socket with a bounded number of connections that all end when it closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

END_WITHIN_S = 0.5


class Connections:
    """Runs ``serve`` for each connection, at most ``most`` at once; one more is hung up on and counted."""

    def __init__(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        *,
        most: int,
        limit_bytes: int,
    ) -> None:
        self._serve = serve
        self._most = most
        self._limit_bytes = limit_bytes
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.turned_away = 0

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port; raise OSError when the address cannot be used."""
        self._server = await asyncio.start_server(
            self._accepted, host, port, limit=self._limit_bytes
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and end every connection; a second call does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        # An aborted connection ends its task by itself: nobody has to swallow a cancellation.
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(self._open, timeout=END_WITHIN_S)
        for task in self._open:
            task.cancel()
        await server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None or len(self._open) >= self._most:
            self.turned_away += 1
            writer.transport.abort()
            return
        self._open[task] = writer
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError):
            pass  # the other side hung up; what it has sent is with ``serve`` already
        finally:
            del self._open[task]
            writer.close()


def peer_of(writer: asyncio.StreamWriter) -> str:
    """Return the address at the other end, without its port.

    >>> import types
    >>> peer_of(types.SimpleNamespace(get_extra_info=lambda _: ("192.0.2.7", 40000)))
    '192.0.2.7'
    """
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else "unknown"
