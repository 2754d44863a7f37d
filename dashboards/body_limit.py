"""Refuses large bodies: by their declared length, or while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from alerts.laboratory.limits import MAX_SHEET_BYTES
from gateway import wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024  # the largest body is a dismissal with its reason
RECORDS_PATH = "/api/v1/records"
IMPORT_PATH = "/api/v1/laboratory/import"
MAX_RECORDS_BYTES = wire.MAX_BODY_BYTES  # what one row of the inbox holds

_LIMITS = {RECORDS_PATH: MAX_RECORDS_BYTES, IMPORT_PATH: MAX_SHEET_BYTES}


class BodyLimit:
    """Answers 413 in the words of the API (``max_body_size`` of FastAPI answers plain text)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _LIMITS.get(scope["path"], MAX_BODY_BYTES)
        too_large = f"the body is larger than {limit} bytes"
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > limit:
            await JSONResponse({"detail": too_large}, status_code=413)(scope, receive, send)
            return
        size = 0

        async def receive_counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413, too_large)
            return message

        await self._app(scope, receive_counted, send)
