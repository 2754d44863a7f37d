"""Why a target is refused."""

from __future__ import annotations


class TargetError(Exception):
    """Nothing was changed; ``status`` is that of HTTP, ``field`` what is wrong, ``more`` what would be possible."""

    def __init__(self, status: int, detail: str, *, field: str = "", **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.more = more
