"""Refusals as RFC 9457 problems: what was wrong, where, what to do; further members say what would be possible."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from fastapi import Request

MEDIA_TYPE = "application/problem+json"
STALE = "stale"  # the member ``code``: it was changed by somebody else meanwhile; read it again


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it so
    """A request that is refused; nothing was changed."""

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more


async def problem_reply(_request: Request, exc: Exception) -> JSONResponse:
    """Answer with the problem."""
    if not isinstance(exc, Problem):
        raise TypeError("this handler is for Problem") from exc
    return JSONResponse(
        {
            "type": "about:blank",
            "title": HTTPStatus(exc.status).phrase,
            "status": exc.status,
            "detail": exc.detail,
            **exc.more,
        },
        status_code=exc.status,
        media_type=MEDIA_TYPE,
    )
