"""Ends a reply whose client takes nothing of it: what waits for one client stays bounded in size and in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from anyio import BrokenResourceError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE_S = 60.0

log = structlog.get_logger()


class SlowClientError(Exception):
    """The client has taken nothing for ``PATIENCE_S``."""


class SlowClients:
    """Lets go of a client that does not read; one of the live stream goes on later, after its last event."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch how its reply is taken."""
        let_go = False

        async def send_in_time(message: Message) -> None:
            nonlocal let_go
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await send(message)
            except TimeoutError:
                let_go = True
                raise SlowClientError from None

        try:
            await self._app(scope, receive, send_in_time)
        except* (SlowClientError, BrokenResourceError):  # the latter: what a stream ends with
            if not let_go:
                raise
            log.info("slow_client_ended", path=scope.get("path", ""))
