"""Receipts of a regulator's system, each endpoint with a key of its own and for its own alerts only."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request

from alerts import business_receipts
from alerts.delivery.errors import EndpointError
from alerts.delivery.keys import receipt_key
from alerts.errors import IllegalTransition
from dashboards.access import SourcesOf
from dashboards.api.endpoint_shapes import NewReceipt, ReceiptReply
from dashboards.api.errors import WRITING
from dashboards.api.problems import Problem
from dashboards.api.strict import StrictRoute
from dashboards.api.times import parse_time
from dashboards.rate import Rate

writing = APIRouter(tags=["receipts"], route_class=StrictRoute)

_strangers = Rate(per_s=1.0, burst=20, now_s=time.monotonic)


def endpoint_of(request: Request, sources: SourcesOf) -> str:
    """Return whose receipt key came (X-API-Key or bearer); 401 for any other, 429 for who keeps trying."""
    token = request.headers.get("authorization", "")
    bearer = token[7:] if token[:7].lower() == "bearer " else ""
    text = request.headers.get("x-api-key") or bearer
    with sources.operational.read() as connection:
        found = receipt_key(connection, text.strip(), sources.now_ms())
    if found is not None:
        return found[0]
    caller = request.client.host if request.client else ""
    if wait_s := _strangers.wait_s(f"{sources.operational.url} {caller}"):
        raise Problem(429, f"too many wrong keys; try again in {wait_s:.0f} s")
    challenge = {"WWW-Authenticate": "Bearer"}
    raise HTTPException(401, "a receipt key of the endpoint is needed", headers=challenge)


@writing.post(
    "/receipts",
    summary="What an endpoint says of an alert",
    responses=WRITING,
    openapi_extra={"security": [{"APIKeyHeader": []}, {"HTTPBearer": []}]},
)
def give_receipt(
    body: NewReceipt, sources: SourcesOf, endpoint_id: Annotated[str, Depends(endpoint_of)]
) -> ReceiptReply:
    """Record a receipt; accepted and rejected move an alert that was handed over. The same again has no effect."""
    now_ms = sources.now_ms()
    try:
        at_ms = now_ms if body.at is None else parse_time("at", body.at)
        said = business_receipts.Receipt(**{**body.model_dump(exclude={"at"}), "at_ms": at_ms})
        taken = business_receipts.take(
            sources.operational, endpoint_id, said, now_ms=now_ms, names=sources.names
        )
    except ValueError as exc:
        raise Problem(422, str(exc), field="at") from exc
    except EndpointError as exc:
        raise Problem(exc.status, str(exc), **exc.more) from exc
    except IllegalTransition as exc:
        raise Problem(409, str(exc), legal=list(exc.legal)) from exc
    sources.wake.notify()
    sources.wake_sender()
    return ReceiptReply(
        alert_id=body.alert_id, repeated=taken.repeated, state=taken.state, seq=taken.seq
    )
