"""A route whose JSON bodies have no duplicate keys, no NaN and no infinity."""

import json
from collections.abc import Callable, Coroutine

from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictRequest(Request):
    """``json`` keeps only the last of two equal keys; here the second is an error."""

    async def json(self) -> object:
        """Return the body; raise JSONDecodeError for what RFC 8259 leaves open or forbids."""
        if not hasattr(self, "_json"):
            text = (await self.body()).decode("utf-8")
            self._json = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        return self._json


class StrictRoute(APIRoute):
    """Parses bodies with StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        """Wrap each request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise json.JSONDecodeError("duplicate key", "", 0)
    return found


def _refuse(constant: str) -> object:
    raise json.JSONDecodeError(f"{constant} is not JSON", "", 0)
