"""Stations with their state, devices and gateway keys."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from fastapi import APIRouter, HTTPException, Path
from sqlalchemy import Connection, RowMapping, func, select

from alerts.tables import OPEN_STATES, alerts
from dashboards.access import SourcesOf
from dashboards.api.errors import READING, documented
from dashboards.api.models import (
    DeviceRow,
    KeyRow,
    KeyState,
    LossRow,
    SeriesRow,
    StationDetail,
    StationList,
    StationRow,
    StationState,
)
from dashboards.api.nearest import nearest
from dashboards.names import indicator_name
from dashboards.sources import Sources
from ingest.intake import Loss
from ingest.store.reading_store import Latest
from ingest.tables import bases, devices, gateway_keys, plots, regions, station_state, stations

BEAT_MS = 3 * 60_000  # three intervals of the status
STALE_MS = 24 * 3_600_000

Code = Annotated[str, Path(max_length=40, description="Station code")]

router = APIRouter(tags=["stations"])


@router.get("/stations", summary="All stations with their state", responses=READING)
def station_list(sources: SourcesOf) -> StationList:
    """Return every registered station, by code."""
    losses: dict[str, list[Loss]] = defaultdict(list)
    for loss in sources.inbox.losses(None):
        losses[loss.station].append(loss)
    with sources.operational.read() as connection:
        rows = _rows(connection, None)
        counts = _Counts(connection)
    now_ms = sources.now_ms()
    return StationList(
        stations=[_station_row(row, counts, losses.get(row["code"], ()), now_ms) for row in rows]
    )


@router.get(
    "/stations/{code}",
    summary="One station with its devices",
    responses=READING | documented(404),
)
def station(code: Code, sources: SourcesOf) -> StationDetail:
    """Return a station, the last reading of each series, its losses and gateway keys."""
    return detail(sources, code)


def state_of(seen_ms: int | None, now_ms: int, *, online: bool | None) -> StationState:
    """Return the state of a station from its last beat.

    >>> state_of(0, 180_000, online=True), state_of(0, 180_001, online=True)
    ('online', 'stale')
    """
    if seen_ms is None:
        return "never"
    age_ms = now_ms - seen_ms
    if online and age_ms <= BEAT_MS:
        return "online"
    return "stale" if age_ms <= STALE_MS else "offline"


class _Counts:
    """What is counted by station, for all stations in one statement each."""

    def __init__(self, connection: Connection) -> None:
        registered = select(devices.c.station, func.count()).group_by(devices.c.station)
        standing = (
            select(alerts.c.station, func.count())
            .where(alerts.c.state.in_(OPEN_STATES))
            .group_by(alerts.c.station)
        )
        self.devices: dict[str, int] = dict(connection.execute(registered).all())
        self.open_alerts: dict[str, int] = dict(connection.execute(standing).all())
        self.keys: dict[str, set[str]] = defaultdict(set)
        for code, state in connection.execute(select(gateway_keys.c.station, gateway_keys.c.state)):
            self.keys[code].add(state)

    def key_state(self, code: str) -> KeyState:
        states = self.keys.get(code, ())
        if "approved" in states:
            return "approved"
        return "pending" if "pending" in states else "none"

    def key_alarms(self, code: str) -> list[str]:
        return ["duplicate_gateway"] if {"approved", "pending"} <= self.keys[code] else []


def _rows(connection: Connection, code: str | None) -> Sequence[RowMapping]:
    query = (
        select(
            stations,
            regions.c.name.label("region_name"),
            regions.c.name_en.label("region_name_en"),
            bases.c.name.label("base_name"),
            *(column for column in station_state.c if column.name != "station"),
        )
        .outerjoin(regions, regions.c.code == stations.c.region_code)
        .outerjoin(bases, bases.c.id == stations.c.base_id)
        .outerjoin(station_state, station_state.c.station == stations.c.code)
        .order_by(stations.c.code)
    )
    if code is not None:
        query = query.where(stations.c.code == code)
    return connection.execute(query).mappings().all()


def _station_row(
    row: RowMapping, counts: _Counts, losses: Sequence[Loss], now_ms: int
) -> StationRow:
    reported = row["devices"] or []  # [{"path", "seen_ms", "ok"}] of the last status
    return StationRow(
        code=row["code"],
        name=row["name"],
        name_en=row["name_en"],
        station_type=row["station_type"],
        region_code=row["region_code"],
        region_name=row["region_name"] or "",
        region_name_en=row["region_name_en"] or "",
        lon=row["lon"],
        lat=row["lat"],
        base_name=row["base_name"] or "",
        state=state_of(row["seen_ms"], now_ms, online=row["online"]),
        seen_ms=row["seen_ms"],
        key_state=counts.key_state(row["code"]),
        queue=row["queue"] or 0,
        oldest_unreceipted_ms=row["oldest_unreceipted_ms"],
        clock_offset_ms=row["clock_offset_ms"],
        version=row["version"] or "",
        devices_ok=sum(bool(device.get("ok")) for device in reported),
        devices_total=max(counts.devices.get(row["code"], 0), len(reported)),
        open_alerts=counts.open_alerts.get(row["code"], 0),
        lost=sum(max(loss.readings, 0) for loss in losses if loss.reason != "gap"),
        gaps=sum(loss.reason == "gap" for loss in losses),
        alarms=[*(row["alarms"] or []), *counts.key_alarms(row["code"])],
    )


def detail(sources: Sources, code: str) -> StationDetail:
    """Return one station with its devices, losses and keys; raise 404 when it is not registered."""
    losses = sources.inbox.losses(code)
    with sources.operational.read() as connection:
        rows = _rows(connection, code)
        if not rows:
            raise _unknown(connection, code)
        row = _station_row(rows[0], _Counts(connection), losses, sources.now_ms())
        keys = connection.execute(
            select(*(column for column in gateway_keys.c if column.name != "station"))
            .where(gateway_keys.c.station == code)
            .order_by(gateway_keys.c.first_seen_ms, gateway_keys.c.key)
        ).mappings()
        key_rows = [KeyRow(**key) for key in keys]
        registered = connection.execute(
            select(devices, plots.c.name.label("plot_name"))
            .outerjoin(plots, plots.c.id == devices.c.plot_id)
            .where(devices.c.station == code)
            .order_by(devices.c.path)
        ).mappings()
        device_rows = _device_rows(
            registered.all(), rows[0]["devices"] or [], sources.readings.latest(code)
        )
    return StationDetail(
        **dict(row),
        devices=device_rows,
        losses=[_loss_row(loss) for loss in losses],
        keys=key_rows,
    )


def check_registered(connection: Connection, code: str) -> None:
    """Raise 404, with the codes that come nearest, when there is no station ``code``."""
    if connection.scalar(select(stations.c.code).where(stations.c.code == code)) is None:
        raise _unknown(connection, code)


def _unknown(connection: Connection, code: str) -> HTTPException:
    codes = connection.scalars(select(stations.c.code)).all()
    return HTTPException(404, nearest("station", code, codes))


def _device_rows(
    registered: Sequence[RowMapping],
    reported: Sequence[Mapping[str, object]],
    latest: Sequence[Latest],
) -> list[DeviceRow]:
    """Return the registered devices, then those that only the edge or the store knows."""
    by_path = {row["path"]: row for row in registered}
    status = {str(device.get("path", "")): device for device in reported}
    series: dict[str, list[SeriesRow]] = defaultdict(list)
    for reading in sorted(latest, key=lambda row: row.series.indicator):
        series[reading.series.device].append(_series_row(reading))
    rows = []
    for path in dict.fromkeys([*by_path, *sorted(status), *sorted(series)]):
        known = by_path.get(path)
        seen_ms = status.get(path, {}).get("seen_ms")
        rows.append(
            DeviceRow(
                path=path,
                name=known["name"] if known else path,
                model=known["model"] if known else "",
                serial_no=known["serial_no"] if known else "",
                plot_id=known["plot_id"] if known else None,
                plot_name=known["plot_name"] if known else None,
                seen_ms=seen_ms if isinstance(seen_ms, int) else None,
                ok=bool(status.get(path, {}).get("ok")),
                series=series.get(path, []),
            )
        )
    return rows


def _series_row(reading: Latest) -> SeriesRow:
    name = indicator_name(reading.series.indicator)
    return SeriesRow(
        indicator=reading.series.indicator,
        name_zh=name.zh,
        name_en=name.en,
        unit=name.unit,
        decimals=name.decimals,
        t_ms=reading.t_ms,
        v=None if math.isnan(reading.v) else float(reading.v),
        q=int(reading.q),
        count=reading.count,
    )


def _loss_row(loss: Loss) -> LossRow:
    return LossRow(
        epoch=loss.epoch,
        from_seq=loss.from_seq,
        through_seq=loss.through_seq,
        readings=loss.readings,
        reason=cast("Literal['gap', 'cap', 'corrupt']", loss.reason),
        at_ms=loss.at_ms,
    )
