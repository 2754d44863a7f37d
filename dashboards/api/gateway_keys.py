"""Deciding about a station's gateway keys."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from fastapi import APIRouter, HTTPException
from sqlalchemy import Connection

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import WRITING
from dashboards.api.models import GatewayKey, StationDetail
from dashboards.api.stations import Code, check_registered, detail
from dashboards.api.strict import StrictRoute
from dashboards.keys import ApiKey
from dashboards.sources import Sources
from ingest.registry import decisions

writing = APIRouter(tags=["stations"], route_class=StrictRoute)
log = structlog.get_logger()


@writing.post("/stations/{code}/keys/approve", summary="Approve a gateway key", responses=WRITING)
def approve_key(code: Code, body: GatewayKey, sources: SourcesOf, key: Writer) -> StationDetail:
    """Let the first gateway of a station deliver; 409 while another key is approved."""
    with _deciding(sources, code) as connection:
        decisions.approve(connection, code, body.key)
    return _decided(sources, "gateway_key_approved", code, body, key)


@writing.post(
    "/stations/{code}/keys/replace", summary="Let a new gateway take over", responses=WRITING
)
def replace_key(code: Code, body: GatewayKey, sources: SourcesOf, key: Writer) -> StationDetail:
    """Approve the key of a swapped gateway; the key before it may still deliver what it began until now."""
    with _deciding(sources, code) as connection:
        decisions.replace(connection, code, body.key, sources.now_ms())
    return _decided(sources, "gateway_key_replaced", code, body, key)


@writing.post("/stations/{code}/keys/refuse", summary="Refuse a gateway key", responses=WRITING)
def refuse_key(code: Code, body: GatewayKey, sources: SourcesOf, key: Writer) -> StationDetail:
    """Take nothing more from a key that is stolen or foreign."""
    with _deciding(sources, code) as connection:
        decisions.refuse(connection, code, body.key)
    return _decided(sources, "gateway_key_refused", code, body, key)


@contextmanager
def _deciding(sources: Sources, code: str) -> Iterator[Connection]:
    try:
        with sources.operational.write() as connection:
            check_registered(connection, code)
            yield connection
    except decisions.UnknownKeyError as exc:
        raise HTTPException(404, str(exc)) from exc
    except decisions.KeyConflictError as exc:
        raise HTTPException(409, str(exc)) from exc


def _decided(
    sources: Sources, event: str, code: str, body: GatewayKey, key: ApiKey
) -> StationDetail:
    sources.wake.notify()
    log.info(event, station=code, key=body.key, actor=f"{key.name} ({key.id})")
    return detail(sources, code)
