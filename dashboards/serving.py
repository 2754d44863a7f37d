"""The web server; it ends the open streams before it waits for connections to close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

from dashboards.live import EventTail

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

GRACE_S = 5


class DashboardServer(uvicorn.Server):
    """uvicorn, with streams that end when the server is told to stop."""

    def __init__(self, app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Prepare; ``await server.serve()`` runs it until ``server.should_exit`` is set."""
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._tail = app.state.tail

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; a stream that never ends would otherwise hold the server for its grace time."""
        if isinstance(self._tail, EventTail):
            self._tail.close()
        await super().shutdown(sockets)
