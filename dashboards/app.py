"""The HTTP application: routers, access, live stream, pages."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError

from dashboards.access import reader
from dashboards.api import (
    alert_decisions,
    alerts,
    backup,
    broker,
    cases,
    endpoints,
    enrolment,
    errors,
    events,
    evidence,
    gateway_keys,
    indicators,
    laboratory,
    limits,
    overview,
    packs,
    policies,
    quarantine,
    readings,
    receipts,
    record_keys,
    records,
    schemas,
    silences,
    stations,
    statistics,
    targets,
    tests,
    webhook_keys,
    windows,
)
from dashboards.api.health import router as health_router
from dashboards.api.problems import Problem, problem_reply
from dashboards.body_limit import BodyLimit
from dashboards.headers import SecurityHeaders
from dashboards.inbox_reader import InboxElsewhereError
from dashboards.live import EventTail
from dashboards.pages import STATIC, Pages
from dashboards.rate import Rate
from dashboards.slow_clients import SlowClients
from ingest.operational import TRANSIENT
from ingest.store.influx.errors import InfluxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import Lifespan

    from dashboards.sources import Health, Sources
    from ingest.door import Door

PREFIX = "/api/v1"
API_VERSION = "1.0.0"

_DESCRIPTION = """Readings, rapid tests, alerts with citation and evidence.

Times `*_ms` are UTC milliseconds. Reading needs no login from the server's own machine while it is
bound to loopback; every write needs `X-API-Key`. Errors are `{"detail": "…"}`."""


def create_app(sources: Sources, *, static: Path = STATIC, door: Door | None = None) -> FastAPI:
    """Build the application; its live stream runs while its lifespan does. ``door`` takes records where ingest runs."""
    tail = EventTail(sources.operational, sources.wake)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tail.run(), name="event-tail")
            yield
            tail.close()
            following.cancel()

    app = bare_app(lifespan)
    _take_records(app, door)
    app.state.sources = sources
    app.state.tail = tail
    app.mount("/", Pages(static), name="pages")
    return app


def _take_records(app: FastAPI, door: Door | None) -> None:
    app.state.records = door
    app.state.records_rate = Rate(per_s=records.PER_S, burst=records.BURST, now_s=time.monotonic)


def create_health_app(health: Health, *, door: Door | None = None) -> FastAPI:
    """Build what a process without pages answers: is it alive, is it ready, its counters; records, with a ``door``."""
    app = FastAPI(
        title="Agrigate",
        version=API_VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        exception_handlers={Exception: errors.failed},
    )
    app.add_middleware(SecurityHeaders)
    app.include_router(health_router)
    if door is not None:
        app.add_middleware(BodyLimit)
        app.include_router(records.router, prefix=PREFIX)
        for part in (records, laboratory):
            app.include_router(part.writing, prefix=PREFIX)
        app.add_exception_handler(Problem, problem_reply)
        app.add_exception_handler(RequestValidationError, errors.wrong_parameter)
    _take_records(app, door)
    app.state.sources = health
    app.state.tail = None
    return app


def bare_app(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Build the application without anything to answer from; enough to describe it."""
    app = FastAPI(
        title="Agrigate",
        version=API_VERSION,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # the usual pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            RequestValidationError: errors.wrong_parameter,
            **dict.fromkeys(TRANSIENT, errors.not_written),
            DataError: errors.not_taken,
            InboxElsewhereError: errors.elsewhere,
            InfluxError: errors.store_away,
            Problem: problem_reply,
            Exception: errors.failed,
        },
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(SlowClients)
    read_only = [Depends(reader)]
    for part in (
        overview,
        stations,
        readings,
        tests,
        alert_decisions,
        alerts,
        cases,
        laboratory,
        packs,
        policies,
        silences,
        statistics,
        quarantine,
        indicators,
        limits,
        targets,
        windows,
        evidence,
        events,
        endpoints,
        schemas,
    ):
        app.include_router(part.router, prefix=PREFIX, dependencies=read_only)
    for part in (
        enrolment,
        gateway_keys,
        record_keys,
        targets,
        windows,
        alert_decisions,
        alerts,
        cases,
        backup,
        broker,
        laboratory,
        records,
        endpoints,
        webhook_keys,
        receipts,
        policies,
        silences,
    ):
        app.include_router(part.writing, prefix=PREFIX)
    app.include_router(records.router, prefix=PREFIX)
    app.include_router(health_router)
    return app
