"""Windows of maintenance and calibration on a station's devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, cast

import structlog
from fastapi import APIRouter, HTTPException, Path
from sqlalchemy import Connection, select

from dashboards.access import SourcesOf, Writer
from dashboards.api.errors import READING, WRITING, documented
from dashboards.api.models import SetWindow, WindowList, WindowRow
from dashboards.api.nearest import nearest
from dashboards.api.stations import Code, check_registered
from dashboards.api.strict import StrictRoute
from dashboards.api.times import parse_time
from dashboards.sources import Sources
from ingest.registry import windows
from ingest.tables import devices

router = APIRouter(tags=["stations"])
writing = APIRouter(tags=["stations"], route_class=StrictRoute)
log = structlog.get_logger()

_FIELDS = {"from_ms": "from", "to_ms": "to", "set_by": "actor"}
_ORDER = ("active", "upcoming", "past", "cancelled")


@router.get(
    "/stations/{code}/windows",
    summary="Maintenance and calibration of a station's devices",
    responses=READING | documented(404),
)
def window_list(code: Code, sources: SourcesOf) -> WindowList:
    """Return every window of a station."""
    with sources.operational.read() as connection:
        check_registered(connection, code)
        return _list(connection, code, sources.now_ms())


@writing.post("/stations/{code}/windows", summary="Set a window on a device", responses=WRITING)
def set_window(code: Code, body: SetWindow, sources: SourcesOf, key: Writer) -> WindowList:
    """Set a window: what is measured in it is kept, and neither raises nor clears anything."""
    now_ms = sources.now_ms()
    from_ms, to_ms = _time("from", body.from_), _time("to", body.to)
    with _writing(sources, code) as connection:
        paths = connection.scalars(select(devices.c.path).where(devices.c.station == code)).all()
        if body.device not in paths:
            raise HTTPException(404, nearest(f"device of station {code}", body.device, paths))
        made = windows.add(
            connection,
            station=code,
            device=body.device,
            kind=body.kind,
            from_ms=from_ms,
            to_ms=to_ms,
            note=body.note,
            set_by=body.actor or key.name,
            now_ms=now_ms,
        )
        reply = _list(connection, code, now_ms)
    _changed(sources)
    log.info("window_set", station=code, window=made.id, actor=f"{made.set_by} ({key.id})")
    return reply


@writing.delete(
    "/stations/{code}/windows/{window_id}", summary="Cancel a window", responses=WRITING
)
def cancel_window(
    code: Code,
    window_id: Annotated[str, Path(max_length=26, description="Id of the window")],
    sources: SourcesOf,
    key: Writer,
) -> WindowList:
    """Cancel a window: what is judged from now on is judged as ever."""
    now_ms = sources.now_ms()
    with _writing(sources, code) as connection:
        windows.cancel(connection, window_id, station=code, now_ms=now_ms)
        reply = _list(connection, code, now_ms)
    _changed(sources)
    log.info("window_cancelled", station=code, window=window_id, actor=f"{key.name} ({key.id})")
    return reply


@contextmanager
def _writing(sources: Sources, code: str) -> Iterator[Connection]:
    try:
        with sources.operational.write() as connection:
            check_registered(connection, code)
            yield connection
    except windows.UnknownWindowError as exc:
        raise HTTPException(404, exc.reason) from exc
    except windows.WindowError as exc:
        field = _FIELDS.get(exc.field, exc.field)
        raise HTTPException(422, f"{field}: {exc.reason}".replace("from_ms", "from")) from exc


def _changed(sources: Sources) -> None:
    sources.windows_changed()
    sources.wake.notify()


def _time(name: str, text: str) -> int:
    try:
        return parse_time(name, text)
    except ValueError as exc:
        raise HTTPException(422, str(exc)) from exc


def _list(connection: Connection, code: str, now_ms: int) -> WindowList:
    names = dict(
        connection.execute(
            select(devices.c.path, devices.c.name).where(devices.c.station == code)
        ).all()
    )
    found = windows.listed(connection, station=code, with_cancelled=True)
    rows = [_row(window, names.get(window.device, ""), now_ms) for window in found]
    return WindowList(windows=sorted(rows, key=lambda row: _ORDER.index(row.state)))


def _row(window: windows.Window, device_name: str, now_ms: int) -> WindowRow:
    return WindowRow(
        id=window.id,
        station=window.station,
        device=window.device,
        device_name=device_name,
        kind=cast("Literal['maintenance', 'calibration']", window.kind),
        from_ms=window.from_ms,
        to_ms=window.to_ms,
        note=window.note,
        set_by=window.set_by,
        set_ms=window.set_ms,
        cancelled_ms=window.cancelled_ms,
        state=_state(window, now_ms),
    )


def _state(
    window: windows.Window, now_ms: int
) -> Literal["upcoming", "active", "past", "cancelled"]:
    if window.cancelled_ms is not None:
        return "cancelled"
    if now_ms < window.from_ms:
        return "upcoming"
    return "active" if now_ms < window.to_ms else "past"
