"""Windows of maintenance and calibration on a device: set, cancelled, listed.

What is measured in one is kept and raises or clears nothing. A window that is set later changes nothing that was
judged before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from ulid import ULID

from ingest import tables
from ingest.detect.flags import KINDS

LONGEST_MS = 366 * 24 * 3_600_000
NOTE_MAX, NAME_MAX = 500, 60
_EARLIEST_MS = 1_577_836_800_000  # 2020-01-01
_LATEST_MS = 2**47


class WindowError(ValueError):
    """A window cannot be set or cancelled; ``field`` says what is wrong, the message what to do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnknownWindowError(WindowError):
    """There is no window of this id at the station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Work on a device from ``from_ms`` up to, not including, ``to_ms`` (measured time, UTC ms)."""

    id: str
    station: str
    device: str
    kind: str
    from_ms: int
    to_ms: int
    note: str
    set_by: str
    set_ms: int
    cancelled_ms: int | None


def add(
    db: sa.Connection,
    *,
    station: str,
    device: str,
    kind: str,
    from_ms: int,
    to_ms: int,
    set_by: str,
    now_ms: int,
    note: str = "",
) -> Window:
    """Set a window; raise WindowError naming the first field that is wrong."""
    if kind not in KINDS:
        raise WindowError("kind", f"{kind!r}; known: {', '.join(KINDS)}")
    if not _EARLIEST_MS <= from_ms < _LATEST_MS:
        raise WindowError("from_ms", f"{from_ms} is no time: UTC milliseconds are expected")
    if not from_ms < to_ms <= from_ms + LONGEST_MS:
        raise WindowError("to_ms", "must be after from_ms, by 366 days at most")
    if not set_by.strip() or len(set_by) > NAME_MAX:
        raise WindowError("set_by", f"name who sets it, in {NAME_MAX} characters at most")
    if len(note) > NOTE_MAX:
        raise WindowError("note", f"{NOTE_MAX} characters at most")
    d = tables.devices
    query = sa.select(d.c.path).where(d.c.station == station, d.c.path == device)
    if db.execute(query).first() is None:
        raise WindowError("device", f"{device!r} is not registered at station {station!r}")
    window = Window(
        id=str(ULID.from_timestamp(now_ms / 1000)),
        station=station,
        device=device,
        kind=kind,
        from_ms=from_ms,
        to_ms=to_ms,
        note=note.strip(),
        set_by=set_by.strip(),
        set_ms=now_ms,
        cancelled_ms=None,
    )
    db.execute(sa.insert(tables.device_windows).values(asdict(window)))
    return window


def cancel(db: sa.Connection, window_id: str, *, station: str, now_ms: int) -> Window:
    """Cancel a window, for what is measured in it and judged from now on; once cancelled it stays as it is.

    Raises UnknownWindowError when the station has no such window.
    """
    table = tables.device_windows
    here = sa.and_(table.c.id == window_id, table.c.station == station)
    row = db.execute(sa.select(table).where(here)).first()
    if row is None:
        raise UnknownWindowError("id", f"no window {window_id!r} at station {station!r}")
    window = _window(row)
    if window.cancelled_ms is not None:
        return window
    db.execute(sa.update(table).where(here).values(cancelled_ms=now_ms))
    return replace(window, cancelled_ms=now_ms)


def listed(
    db: sa.Connection,
    *,
    station: str | None = None,
    device: str | None = None,
    with_cancelled: bool = False,
) -> list[Window]:
    """Return windows, the latest to begin first; of one station or device, or all."""
    table = tables.device_windows
    query = sa.select(table).order_by(table.c.from_ms.desc(), table.c.id.desc())
    if station is not None:
        query = query.where(table.c.station == station)
    if device is not None:
        query = query.where(table.c.device == device)
    if not with_cancelled:
        query = query.where(table.c.cancelled_ms.is_(None))
    return [_window(row) for row in db.execute(query)]


def _window(row: sa.Row[Any]) -> Window:
    return Window(
        id=row.id,
        station=row.station,
        device=row.device,
        kind=row.kind,
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        note=row.note,
        set_by=row.set_by,
        set_ms=row.set_ms,
        cancelled_ms=row.cancelled_ms,
    )
