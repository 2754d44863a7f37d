"""One series between two times, with the limits that held."""

from dataclasses import asdict
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query
from sqlalchemy import select

from dashboards.access import SourcesOf
from dashboards.api.errors import READING, documented
from dashboards.api.models import Bucket, FlagBit, LimitRow, Point, Readings
from dashboards.api.nearest import nearest
from dashboards.api.times import parse_time
from dashboards.names import indicator_name
from dashboards.sources import Sources
from ingest import batch
from ingest.batch import Series
from ingest.store.levels import RAW_SPAN_MS, choose
from ingest.store.reading_store import Level, Points, Trend
from ingest.tables import stations

DAY_MS = 86_400_000
MAX_POINTS = 20_000
FLAG_BITS = [
    FlagBit(bit=bit, name=name, zh=zh, en=en)
    for bit, name, zh, en in (
        (batch.LATE, "late", "补传", "late"),
        (batch.CLOCK_SUSPECT, "clock_suspect", "时钟存疑", "clock suspect"),
        (batch.OUT_OF_ORDER, "out_of_order", "乱序", "out of order"),
        (batch.BAD_READING, "bad_reading", "读数失败", "bad reading"),
        (batch.GROSS_RANGE, "gross_range", "超出物理量程", "outside the physical range"),
        (batch.CLOCK_FREE, "clock_free", "时钟未与服务器核对", "clock not confirmed"),
        (batch.SPIKE, "spike", "突跳", "spike"),
        (batch.RATE, "rate", "变化过快", "changes too fast"),
        (batch.FLAT, "flat", "数值不动", "flat line"),
        (batch.GAP, "gap", "中断后首个读数", "first after a gap"),
        (batch.MODEL_RANGE, "model_range", "超出型号量程", "outside the model's range"),
        (batch.SITE_RANGE, "site_range", "超出现场范围", "outside the site's range"),
        (batch.MAINTENANCE, "maintenance", "维护时段", "maintenance window"),
        (batch.CALIBRATION, "calibration", "校准时段", "calibration window"),
        (batch.SENTINEL, "sentinel", "仪器故障码", "the instrument's fault code"),
    )
]

router = APIRouter(tags=["readings"])


@router.get(
    "/readings", summary="One series between two times", responses=READING | documented(404)
)
def readings(
    sources: SourcesOf,
    station: Annotated[str, Query(min_length=1, max_length=40, description="Station code")],
    device: Annotated[str, Query(min_length=1, max_length=80, description="Device path")],
    indicator: Annotated[str, Query(min_length=1, max_length=80, description="Catalogue code")],
    start: Annotated[
        str | None,
        Query(description="From this time: RFC 3339 with offset, or UTC ms; else a day before end"),
    ] = None,
    end: Annotated[
        str | None, Query(description="Before this time, in the same forms; now when left out")
    ] = None,
    max_points: Annotated[
        int,
        Query(
            ge=2,
            le=MAX_POINTS,
            description="Of more, lowest and highest of each bucket, or the finest roll-up that fits",
        ),
    ] = 2000,
) -> Readings:
    """Return readings with start ≤ t < end, oldest first, thinned; or, when there are too many, their roll-ups."""
    start_ms, end_ms = _range(start, end, sources.now_ms())
    series = Series(station, device, indicator)
    count = days = None
    if end_ms - start_ms > RAW_SPAN_MS:
        days = sources.readings.trend(series, start_ms=start_ms, end_ms=end_ms, level=Level.DAY)
        count = int(days.count.sum())
    level = choose(
        start_ms,
        end_ms,
        max_points,
        now_ms=sources.now_ms(),
        retention=sources.retention,
        count=count,
    )
    points: list[Point] = []
    buckets: list[Bucket] = []
    if level is None:
        read = sources.readings.query(
            series, start_ms=start_ms, end_ms=end_ms, max_points=max_points
        )
        points, total = _rows(read), read.total
    else:
        if days is None or level is not Level.DAY:
            days = sources.readings.trend(series, start_ms=start_ms, end_ms=end_ms, level=level)
        buckets, total = _buckets(days), int(days.count.sum())
    returned = len(points) + len(buckets)
    if total == 0:
        _check_known(sources, series)
    name = indicator_name(indicator)
    return Readings(
        station=station,
        device=device,
        indicator=indicator,
        name_zh=name.zh,
        name_en=name.en,
        unit=name.unit,
        decimals=name.decimals,
        start_ms=start_ms,
        end_ms=end_ms,
        total=total,
        returned=returned,
        downsampling=level.value if level else "none" if returned == total else "min_max",
        points=points,
        buckets=buckets,
        flag_bits=FLAG_BITS,
        limits=[LimitRow(**asdict(span)) for span in sources.limits(series, start_ms, end_ms)],
    )


def _range(start: str | None, end: str | None, now_ms: int) -> tuple[int, int]:
    try:
        end_ms = now_ms + 1 if end is None else parse_time("end", end)
        start_ms = end_ms - DAY_MS if start is None else parse_time("start", start)
    except ValueError as exc:
        raise HTTPException(422, str(exc)) from exc
    if start_ms >= end_ms:
        raise HTTPException(422, f"start: {start_ms} is not before end, {end_ms}")
    return start_ms, end_ms


def _rows(points: Points) -> list[Point]:
    values = points.v.astype(object)  # (n,)
    values[~np.isfinite(points.v)] = None
    columns = (points.t_ms, values, points.q, points.flags)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _buckets(trend: Trend) -> list[Bucket]:
    columns = [trend.start_ms.tolist()]
    for values in (trend.minimum, trend.mean, trend.maximum):
        column = values.astype(object)  # (n,)
        column[~np.isfinite(values)] = None
        columns.append(column.tolist())
    return list(zip(*columns, trend.count.tolist(), trend.good.tolist(), strict=True))


def _check_known(sources: Sources, series: Series) -> None:
    """Raise 404 when nothing was ever stored under this name."""
    known = {
        (row.series.device, row.series.indicator) for row in sources.readings.latest(series.station)
    }
    if (series.device, series.indicator) in known:
        return
    if known:
        names = [f"{device}/{indicator}" for device, indicator in sorted(known)]
        asked = f"{series.device}/{series.indicator}"
        raise HTTPException(404, nearest(f"series of station {series.station}", asked, names))
    with sources.operational.read() as connection:
        codes = connection.scalars(select(stations.c.code)).all()
    if series.station not in codes:
        raise HTTPException(404, nearest("station", series.station, codes))
    raise HTTPException(404, f"station {series.station} has no readings yet")
