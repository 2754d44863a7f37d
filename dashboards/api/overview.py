"""The numbers of the first page."""

from fastapi import APIRouter
from sqlalchemy import Connection, and_, case, func, select

from alerts.tables import alerts
from dashboards.access import SourcesOf
from dashboards.api.errors import READING
from dashboards.api.models import Overview
from dashboards.api.stations import BEAT_MS
from dashboards.api.times import local_time, shanghai_day
from ingest.tables import station_state, stations, tests

SUSPECT_STATES = ("suspected", "retest_ordered")
EXCEEDANCE_STATES = ("confirmed", "handed_over", "in_enforcement")
RAPID = ("inhibition", "qualitative")
QUANTITATIVE = ("quantitative",)
COUNTED = ("pass", "suspect", "exceed")

router = APIRouter(tags=["overview"])


@router.get("/overview", summary="The numbers of the first page", responses=READING)
def overview(sources: SourcesOf) -> Overview:
    """Count today's tests, open alerts, stations and readings."""
    now_ms = sources.now_ms()
    with sources.operational.read() as connection:
        total, counted = _tests(connection, now_ms)
        states = _alert_states(connection)
        online, registered = _stations(connection, now_ms)
    return Overview(
        tests_today=total,
        suspects_open=sum(states.get(state, 0) for state in SUSPECT_STATES),
        exceedances_open=sum(states.get(state, 0) for state in EXCEEDANCE_STATES),
        stations_online=online,
        stations_total=registered,
        pass_rate_rapid=_pass_rate(counted, RAPID),
        pass_rate_quantitative=_pass_rate(counted, QUANTITATIVE),
        readings_total=sources.readings.count(),
        generated_at=local_time(now_ms).isoformat(timespec="milliseconds"),
    )


def _tests(connection: Connection, now_ms: int) -> tuple[int, dict[tuple[str, str], int]]:
    """Return today's tests, and by (result kind, verdict) those that count in a rate.

    A sample is repeated when it was positive: only the last valid attempt counts
    (rapid_test_record §3.7).
    """
    start_ms, end_ms = shanghai_day(now_ms)
    sample = case((tests.c.sample_no == "", tests.c.record_id), else_=tests.c.sample_no)
    valid_attempt = case((tests.c.verdict.in_(COUNTED), tests.c.attempt))
    today = (
        select(
            tests.c.result_kind,
            tests.c.verdict,
            tests.c.attempt,
            func.max(valid_attempt)
            .over(partition_by=(tests.c.station, sample, tests.c.parameter))
            .label("last_attempt"),
        )
        .where(tests.c.tested_ms >= start_ms, tests.c.tested_ms < end_ms)
        .subquery()
    )
    is_last = case((today.c.attempt == today.c.last_attempt, 1), else_=0)
    query = select(today.c.result_kind, today.c.verdict, func.count(), func.sum(is_last)).group_by(
        today.c.result_kind, today.c.verdict
    )
    total, counted = 0, {}
    for kind, verdict, rows, last in connection.execute(query):
        total += rows
        counted[kind, verdict] = int(last)
    return total, counted


def _pass_rate(counted: dict[tuple[str, str], int], kinds: tuple[str, ...]) -> float | None:
    passed = sum(counted.get((kind, "pass"), 0) for kind in kinds)
    valid = sum(counted.get((kind, verdict), 0) for kind in kinds for verdict in COUNTED)
    return passed / valid if valid else None


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
