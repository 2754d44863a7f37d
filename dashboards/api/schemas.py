"""JSON Schemas (draft 2020-12) of what crosses the border of alerting, each with its version in its name."""

from typing import Annotated

from fastapi import APIRouter, Path

from dashboards.api.endpoint_shapes import SchemaList, SchemaRow
from dashboards.api.errors import READING, documented
from dashboards.api.models import Json
from dashboards.api.problems import Problem
from dashboards.schemas import published

router = APIRouter(tags=["schemas"])


@router.get("/schemas", summary="Schemas by name", responses=READING)
def schema_list() -> SchemaList:
    """Return the names; what is published under a name changes by additions only."""
    return SchemaList(
        schemas=[SchemaRow(name=name, url=f"/api/v1/schemas/{name}") for name in published()]
    )


@router.get("/schemas/{name}", summary="One schema", responses=READING | documented(404))
def one_schema(name: Annotated[str, Path(max_length=60, description="Such as alert.v1")]) -> Json:
    """Return a schema."""
    found = published()
    if name not in found:
        raise Problem(404, f"no schema {name!r}; there are {', '.join(found)}")
    return found[name]
