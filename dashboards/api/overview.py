"""The numbers of the first page."""

from fastapi import APIRouter
from sqlalchemy import Connection, and_, case, func, select

from alerts.tables import alerts
from dashboards.access import SourcesOf
from dashboards.api.errors import READING
from dashboards.api.models import Overview
from dashboards.api.samples import QUANTITATIVE, RAPID, samples_of_day
from dashboards.api.stations import BEAT_MS
from dashboards.api.times import local_time, shanghai_day
from ingest.judge.records.corrections import IN_FORCE
from ingest.tables import station_state, stations, tests

SUSPECT_STATES = ("suspected", "retest_ordered")
EXCEEDANCE_STATES = ("confirmed", "handed_over", "in_enforcement")

router = APIRouter(tags=["overview"])


@router.get("/overview", summary="The numbers of the first page", responses=READING)
def overview(sources: SourcesOf) -> Overview:
    """Count today's tests, open alerts, stations and readings."""
    now_ms = sources.now_ms()
    with sources.operational.read() as connection:
        total = _tests_today(connection, now_ms)
        samples = samples_of_day(connection, sources.standards.catalogue.names, now_ms)
        states = _alert_states(connection)
        online, registered = _stations(connection, now_ms)
    rapid, quantitative = samples.rate(RAPID), samples.rate(QUANTITATIVE)
    return Overview(
        tests_today=total,
        suspects_open=sum(states.get(state, 0) for state in SUSPECT_STATES),
        exceedances_open=sum(states.get(state, 0) for state in EXCEEDANCE_STATES),
        stations_online=online,
        stations_total=registered,
        pass_rate_rapid=rapid.passed,
        samples_rapid=rapid.valid,
        undetermined_rapid=rapid.undetermined,
        pass_rate_quantitative=quantitative.passed,
        samples_quantitative=quantitative.valid,
        undetermined_quantitative=quantitative.undetermined,
        readings_total=sources.readings.count(),
        generated_at=local_time(now_ms).isoformat(timespec="milliseconds"),
    )


def _tests_today(connection: Connection, now_ms: int) -> int:
    start_ms, end_ms = shanghai_day(now_ms)
    query = select(func.count()).where(
        tests.c.tested_ms >= start_ms, tests.c.tested_ms < end_ms, IN_FORCE
    )
    return connection.execute(query).scalar_one()


def _alert_states(connection: Connection) -> dict[str, int]:
    query = (
        select(alerts.c.state, func.count())
        .where(alerts.c.state.in_(SUSPECT_STATES + EXCEEDANCE_STATES))
        .group_by(alerts.c.state)
    )
    return dict(connection.execute(query).all())


def _stations(connection: Connection, now_ms: int) -> tuple[int, int]:
    """Return (online, registered)."""
    alive = and_(station_state.c.online, station_state.c.seen_ms >= now_ms - BEAT_MS)
    query = select(func.count(case((alive, 1))), func.count()).select_from(
        stations.outerjoin(station_state, station_state.c.station == stations.c.code)
    )
    online, registered = connection.execute(query).one()
    return online, registered
