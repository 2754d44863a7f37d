"""``agrigate describe``: schemas, AsyncAPI and OpenAPI written from the types."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dashboards.asyncapi import asyncapi
from dashboards.openapi import openapi_json
from dashboards.schemas import schemas


def files() -> dict[str, str]:
    """Return every file by its path under the directory."""
    return {
        "openapi.json": openapi_json(),
        "asyncapi.json": _text(asyncapi()),
        **{f"schemas/{name}.json": _text(schema) for name, schema in schemas().items()},
    }


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def describe(directory: Path) -> None:
    """Write JSON Schemas, the edge link (AsyncAPI) and the HTTP API (OpenAPI) into DIRECTORY."""
    for name, text in files().items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        click.echo(str(file))
