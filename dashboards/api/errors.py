"""Errors as ``{"detail": "…"}``, always one text."""

import json
import sqlite3

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from dashboards.api.models import ErrorReply
from ingest.disk import is_full

_MEANING = {
    400: "The body is not JSON that can be read",
    401: "No valid API key",
    403: "Not from this machine, and no API key",
    404: "Not known",
    409: "Not possible in the present state",
    413: "The body is too large",
    422: "A parameter or field is wrong; it is named",
    503: "Not ready",
    507: "The disk is full: nothing was changed",
}


def documented(*codes: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI entries of error replies."""
    return {code: {"model": ErrorReply, "description": _MEANING[code]} for code in codes}


def documented_json(*codes: int) -> dict[int | str, dict[str, object]]:
    """Return the same for a route whose good reply is not JSON."""
    schema = {"$ref": f"#/components/schemas/{ErrorReply.__name__}"}
    return {
        code: {"description": _MEANING[code], "content": {"application/json": {"schema": schema}}}
        for code in codes
    }


READING = documented(401, 403, 422)
WRITING = documented(400, 401, 404, 409, 413, 422, 507)


async def wrong_parameter(_request: Request, exc: Exception) -> JSONResponse:
    """Answer 422, naming each parameter that is wrong."""
    if not isinstance(exc, RequestValidationError):
        raise TypeError("this handler is for RequestValidationError") from exc
    faults = []
    for error in exc.errors():
        place, *path = (str(part) for part in error["loc"])
        name = ".".join(path) if path else place
        given = error.get("input")
        shown = "" if isinstance(given, dict | list | None) else f", got {_short(given)}"
        faults.append(f"{name}: {error['msg']}{shown}")
    return JSONResponse({"detail": "; ".join(faults)}, status_code=422)


async def failed(_request: Request, _exc: Exception) -> JSONResponse:
    """Answer 500 without a word of what is inside; the server's log has the traceback."""
    return JSONResponse({"detail": "internal error; the server's log says more"}, status_code=500)


async def not_written(_request: Request, exc: Exception) -> JSONResponse:
    """Answer 507 when the database found no room, 503 when its server is away; any other error is one of ours."""
    if not is_full(exc):
        if isinstance(getattr(exc, "orig", None), sqlite3.Error):
            raise exc
        detail = "the operational database cannot be reached: nothing was changed; try again"
        return JSONResponse({"detail": detail}, status_code=503)
    detail = "the server's disk is full: nothing was changed; free disk space and try again"
    return JSONResponse({"detail": detail}, status_code=507)


async def not_taken(_request: Request, _exc: Exception) -> JSONResponse:
    """Answer 422 for a value that a column cannot hold, as a text with NUL."""
    return JSONResponse({"detail": "a value that the database does not take"}, status_code=422)


async def elsewhere(_request: Request, exc: Exception) -> JSONResponse:
    """Answer 503 for what only the machine of role ingest has."""
    return JSONResponse({"detail": str(exc)}, status_code=503)


async def store_away(_request: Request, _exc: Exception) -> JSONResponse:
    """Answer 503 while the store of readings does not answer; why stands in the server's log."""
    detail = "the store of readings does not answer: nothing is lost; agrigate store check says why"
    return JSONResponse({"detail": detail}, status_code=503)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:60] + "…"
