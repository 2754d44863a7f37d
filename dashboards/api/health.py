"""What a supervisor and Prometheus ask, at the root."""

from fastapi import APIRouter, Depends, HTTPException, Response

from dashboards.access import HealthOf, reader
from dashboards.api.errors import documented, documented_json
from dashboards.api.models import Healthy, Ready

router = APIRouter(tags=["health"])

_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz", summary="The process answers")
def healthz() -> Healthy:
    """Answer."""
    return Healthy(status="ok")


@router.get("/readyz", summary="All parts run", responses=documented(503))
def readyz(sources: HealthOf) -> Ready:
    """Answer 503 with the reasons while a part is not ready."""
    reasons = sources.ready()
    if reasons:
        raise HTTPException(503, "; ".join(reasons))
    return Ready(status="ready")


@router.get(
    "/metrics",
    summary="Counters, Prometheus text format",
    dependencies=[Depends(reader)],
    response_class=Response,
    responses={
        200: {"content": {_METRICS: {"schema": {"type": "string"}}}},
        **documented_json(401, 403),
    },
)
def metrics(sources: HealthOf) -> Response:
    """Return all counters."""
    return Response(sources.metrics(), media_type=_METRICS)
