"""The OpenAPI description of the API, as JSON; ``python -m dashboards.openapi`` writes it to standard output."""

from __future__ import annotations

import json
import sys

from dashboards.app import bare_app


def openapi_json() -> str:
    """Return the description; it depends on the code alone."""
    return json.dumps(bare_app().openapi(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_json())
