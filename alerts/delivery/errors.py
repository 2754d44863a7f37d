"""Why a change of an endpoint is refused."""

from __future__ import annotations


class EndpointError(Exception):
    """Nothing was changed; ``status`` is that of HTTP, ``more`` what would be possible."""

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.more = more
