"""What is known of each station's gateway: last status, online or not, keys seen."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
import structlog

from ingest import tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.intake import LiveStatus
    from ingest.operational import Operational

log = structlog.get_logger()

STATUS_EVERY_MS = 60_000
OFFLINE_AFTER_MS = 3 * STATUS_EVERY_MS
WRITE_EVERY_S = 0.5
PENDING_KEYS_MAX = 20  # per station; more are somebody guessing
UNKNOWN_MAX = 1000  # stations not registered that are named in the log once only


class StationWatch:
    """Writes statuses in one transaction per half second, and says who went offline."""

    def __init__(
        self,
        operational: Operational,
        *,
        now_ms: Callable[[], int],
        connected_since_ms: Callable[[], int | None],
        after: Callable[[], None],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._operational = operational
        self._now_ms = now_ms
        self._connected_since_ms = connected_since_ms
        self._after = after
        self._on_failure = on_failure
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, bool], LiveStatus] = {}  # by station and approval
        self._unknown: set[str] = set()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stations", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is pending and end."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def offer(self, statuses: list[LiveStatus]) -> None:
        """Take live statuses and wills; of a station, the last counts, and the last of a gateway not approved."""
        if statuses:
            with self._lock:
                self._latest.update(((s.station, s.approved), s) for s in statuses)
            self._wanted.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wanted.wait(timeout=5.0)
                self._stopping.wait(WRITE_EVERY_S)
                self._wanted.clear()
                self.write()
            self.write()  # what came while the last one was under way
        except BaseException as exc:
            self.failure = exc
            log.exception("stations_failed")
            self._on_failure()
            raise

    def write(self) -> None:
        """Write what came, and mark stations offline that have been silent for three intervals."""
        with self._lock:
            latest, self._latest = self._latest, {}
        try:
            with self._operational.write() as db:
                changed = self._write(db, list(latest.values())) + self._silent(db)
        except sa.exc.OperationalError as exc:
            log.warning("station_state_not_written", error=str(exc.orig))
            with self._lock:
                self._latest = {**latest, **self._latest}
            return
        if changed:
            self._after()

    def _write(self, db: sa.Connection, statuses: list[LiveStatus]) -> int:
        t, s = tables.station_state, tables.stations
        registered = set(db.execute(sa.select(s.c.code)).scalars())
        online = {row.station: row.online for row in db.execute(sa.select(t.c.station, t.c.online))}
        changed = 0
        for live in statuses:
            status = live.status
            if not status.online and not status.key:  # a will: its session ended
                db.execute(sa.update(t).where(t.c.station == live.station).values(online=False))
            else:
                changed += self._note_key(db, live, known=live.station in registered)
                if not live.approved:
                    continue
                row = {
                    "session": status.session,
                    "online": status.online,
                    "seen_ms": live.received_ms,
                    "version": status.version[:40],
                    "queue": status.queue,
                    "oldest_unreceipted_ms": status.oldest_unreceipted_ms,
                    "disk_free": status.disk_free,
                    "clock_offset_ms": status.clock_offset_ms,
                    "key_state": "approved",
                    "devices": msgspec.to_builtins(status.devices),
                    "alarms": status.alarms[:20],
                }
                if live.station in online:
                    db.execute(sa.update(t).where(t.c.station == live.station).values(**row))
                else:
                    db.execute(sa.insert(t).values(station=live.station, **row))
            if online.get(live.station) != status.online:
                self._changed(db, live.station, "online" if status.online else "offline")
                changed += 1
            online[live.station] = status.online
        return changed

    def _note_key(self, db: sa.Connection, live: LiveStatus, *, known: bool) -> int:
        """Remember a key that is not approved, so that a person can approve it; return how many are new."""
        if live.approved:
            return 0
        if not known:
            if live.station not in self._unknown:
                log.warning("station_unknown", station=live.station, todo="add it to the registry")
            if len(self._unknown) < UNKNOWN_MAX:
                self._unknown.add(live.station)
            return 0
        k = tables.gateway_keys
        keys = dict(
            db.execute(sa.select(k.c.key, k.c.state).where(k.c.station == live.station)).fetchall()
        )
        if live.status.key in keys or len(keys) >= PENDING_KEYS_MAX:
            return 0
        db.execute(
            sa.insert(k).values(
                station=live.station,
                key=live.status.key,
                state="pending",
                first_seen_ms=live.received_ms,
            )
        )
        second = "approved" in keys.values()
        log.warning(
            "duplicate_gateway" if second else "gateway_key_pending",
            station=live.station,
            key=live.status.key,
            todo="approve it, or find out who uses this station's code",
        )
        self._changed(db, live.station, "duplicate_gateway" if second else "pending")
        return 1

    def _silent(self, db: sa.Connection) -> int:
        """Call stations offline, once ingest itself has been connected for three intervals."""
        now_ms, since_ms = self._now_ms(), self._connected_since_ms()
        if since_ms is None or now_ms - since_ms < OFFLINE_AFTER_MS:
            return 0
        t = tables.station_state
        silent = sa.and_(t.c.online, t.c.seen_ms < now_ms - OFFLINE_AFTER_MS)
        stations = list(db.execute(sa.select(t.c.station).where(silent)).scalars())
        for station in stations:
            db.execute(sa.update(t).where(t.c.station == station).values(online=False))
            self._changed(db, station, "offline")
        return len(stations)

    def _changed(self, db: sa.Connection, station: str, state: str) -> None:
        log.info("station_state", station=station, state=state)
        db.execute(
            sa.insert(tables.events).values(
                at_ms=self._now_ms(), type="station", station=station, data={"state": state}
            )
        )
