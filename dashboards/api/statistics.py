"""How often alerts were wrong: what officers dismissed and laboratories refuted, of what was raised."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import case, func, select

from alerts.states import State
from alerts.tables import alerts
from dashboards.access import SourcesOf
from dashboards.api.errors import READING
from dashboards.api.models import Ms, Shape

DAY_MS = 24 * 3_600_000

router = APIRouter(tags=["statistics"])

By = Literal["indicator", "device", "rule", "station"]


class FalseAlarmRow(Shape):
    """One indicator, device, rule or station."""

    key: str
    station: str = Field(description="Of a device; blank otherwise")
    name_zh: str = Field(description="Of an indicator; blank otherwise")
    name_en: str
    raised: int
    dismissed: int = Field(description="Set aside by an officer as a false alarm")
    refuted: int = Field(description="The confirmatory test was within the limit")
    confirmed: int = Field(description="Confirmed, and whatever came of it then")
    false_rate: float | None = Field(
        description="(dismissed + refuted) / those that were decided; null when none was"
    )


class FalseAlarms(Shape):
    """False alarms of a period, most false ones first."""

    by: By
    since_ms: Ms
    until_ms: Ms
    rows: list[FalseAlarmRow]


@router.get("/statistics/false-alarms", summary="How often alerts were wrong", responses=READING)
def false_alarms(
    sources: SourcesOf,
    by: Annotated[By, Query(description="One row for each of these")] = "indicator",
    days: Annotated[int, Query(ge=1, le=3660, description="Raised within so many days")] = 90,
) -> FalseAlarms:
    """Return counts of alerts on limits and tests that were raised, dismissed, refuted and confirmed."""
    now_ms = sources.now_ms()
    since_ms = now_ms - days * DAY_MS
    c = alerts.c
    column = {
        "indicator": c.indicator,
        "device": c.device,
        "rule": c.rule_id,
        "station": c.station,
    }[by]
    station = c.station if by == "device" else None
    keys = [column] if station is None else [column, station]
    proven = (State.CONFIRMED, State.HANDED_OVER, State.IN_ENFORCEMENT, State.CLOSED)
    dismissed = func.sum(case((c.state == State.DISMISSED, 1), else_=0))
    refuted = func.sum(case((c.state == State.REFUTED, 1), else_=0))
    confirmed = func.sum(case((c.state.in_(proven), 1), else_=0))
    query = (
        select(*keys, func.count(), dismissed, refuted, confirmed)
        .where(c.kind.in_(("limit", "test")), c.raised_ms >= since_ms)
        .group_by(*keys)
        .order_by((dismissed + refuted).desc(), func.count().desc(), *keys)
        .limit(200)
    )
    with sources.operational.read() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    rows = []
    for row in found:
        key, where = str(row[0]), str(row[1]) if station is not None else ""
        raised, wrong, denied, right = (int(count) for count in row[-4:])
        zh, en = sources.names(key) if by == "indicator" else ("", "")
        decided = wrong + denied + right
        rows.append(
            FalseAlarmRow(
                key=key,
                station=where,
                name_zh=zh,
                name_en=en,
                raised=raised,
                dismissed=wrong,
                refuted=denied,
                confirmed=right,
                false_rate=(wrong + denied) / decided if decided else None,
            )
        )
    return FalseAlarms(by=by, since_ms=since_ms, until_ms=now_ms, rows=rows)
