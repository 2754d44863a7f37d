"""What is known of each station's gateway: last status, online or not, keys seen, what is wrong.

Silence is measured on the monotonic clock: a step of the server's clock calls nobody offline.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
import structlog

from ingest import tables
from ingest.judge.catalogue.tables import clean
from ingest.operational import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.intake import LiveStatus
    from ingest.operational import Operational

log = structlog.get_logger()

STATUS_EVERY_S = 60.0
OFFLINE_AFTER_S = 3 * STATUS_EVERY_S
CLONED_WITHIN_S = 600.0
TURNS = (
    5  # of two sessions of one key; a restart is one, a status that came late makes it three more
)
CLOCK_OFF_MS = 300_000
CLOCK_STEP_MS = 5_000  # more than NTP slews between two looks
WRITE_EVERY_S = 0.5
PENDING_KEYS_MAX = 20  # per station; more are somebody guessing
GATEWAY_CLONED = "gateway_cloned"
QUEUE_MAX = 2**31 - 1  # what the column takes
UNKNOWN_MAX = 1000  # stations not registered that are named in the log once only


@dataclass(slots=True)
class _Heard:
    """What the monotonic clock says of one station."""

    at_s: float
    turns: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=TURNS))
    """The last sessions in the order they began to speak, and when."""
    cloned_s: float | None = None
    """When two sessions last spoke in turn."""

    def speaks(self, session: str, now_s: float) -> None:
        self.at_s = now_s
        if self.turns and self.turns[-1][0] == session:
            return
        self.turns.append((session, now_s))
        names = [name for name, _ in self.turns]
        in_turn = len(names) == TURNS and names[:-2] == names[2:]
        if in_turn and now_s - self.turns[0][1] < CLONED_WITHIN_S:
            self.cloned_s = now_s

    def cloned(self, now_s: float) -> bool:
        if self.cloned_s is not None and now_s - self.cloned_s >= CLONED_WITHIN_S:
            self.cloned_s = None
        return self.cloned_s is not None


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._operational = operational
        self._now_ms = now_ms
        self._connected_since_ms = connected_since_ms
        self._after = after
        self._on_failure = on_failure
        self._monotonic = monotonic
        self._heard: dict[str, _Heard] = {}
        self._connected: tuple[int, float] | None = None  # this connection, and when we saw it
        self._clock_ms: float | None = None  # wall clock − monotonic
        self._alarms: dict[str, frozenset[str]] = {}
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
            now_s = self._monotonic()
            with self._lock:
                for live in statuses:
                    self._latest[live.station, live.approved] = live
                    if live.approved and live.status.key:  # not a will
                        heard = self._heard.setdefault(live.station, _Heard(now_s))
                        heard.speaks(live.status.session, now_s)
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
        clock_ms, alarms = self._now_ms() - self._monotonic() * 1000, dict(self._alarms)
        try:
            with self._operational.write() as db:
                self._follow_clock(db, clock_ms)
                changed = self._write(db, list(latest.values())) + self._silent(db)
        except sa.exc.DataError as exc:  # of one station; its next status comes within a minute
            log.warning("station_state_refused", error=str(exc.orig))
            self._alarms = alarms
            return
        except TRANSIENT as exc:
            log.warning("station_state_not_written", error=str(exc))
            with self._lock:
                self._latest = {**latest, **self._latest}
            self._alarms = alarms
            return
        self._clock_ms = clock_ms
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
                offset_ms = _clock_offset_ms(live)
                alarms = self._judged(live, offset_ms)
                row = {
                    "session": clean(status.session, 26),
                    "online": status.online,
                    "seen_ms": live.received_ms,
                    "version": clean(status.version, 40),
                    "queue": min(status.queue, QUEUE_MAX),
                    "oldest_unreceipted_ms": status.oldest_unreceipted_ms,
                    "disk_free": status.disk_free,
                    "clock_offset_ms": offset_ms,
                    "key_state": "approved",
                    "devices": msgspec.to_builtins(status.devices),
                    "alarms": alarms,
                }
                changed += self._note_alarms(db, live.station, frozenset(alarms))
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
        now_s, since_ms = self._monotonic(), self._connected_since_ms()
        if since_ms is None:
            self._connected = None
            return 0
        if self._connected is None or self._connected[0] != since_ms:
            self._connected = (since_ms, now_s)
        if now_s - self._connected[1] < OFFLINE_AFTER_S:
            return 0
        t = tables.station_state
        online = db.execute(sa.select(t.c.station).where(t.c.online)).scalars()
        with self._lock:
            stations = [
                station
                for station in online
                if station not in self._heard or now_s - self._heard[station].at_s > OFFLINE_AFTER_S
            ]
        for station in stations:
            db.execute(sa.update(t).where(t.c.station == station).values(online=False))
            self._changed(db, station, "offline")
        return len(stations)

    def _judged(self, live: LiveStatus, offset_ms: int | None) -> list[str]:
        """Return the gateway's own alarms with ours, each once."""
        alarms = live.status.alarms[:20]
        with self._lock:
            heard = self._heard.get(live.station)
            if heard is not None and heard.cloned(self._monotonic()):
                alarms.append(GATEWAY_CLONED)
        if offset_ms is not None and abs(offset_ms) > CLOCK_OFF_MS:
            alarms.append("clock_off")
        return list(dict.fromkeys(alarms))

    def _note_alarms(self, db: sa.Connection, station: str, alarms: frozenset[str]) -> int:
        """Say once what began and what ended; return how many."""
        before = self._alarms.get(station, frozenset())
        self._alarms[station] = alarms
        for alarm in sorted(alarms - before):
            if alarm == GATEWAY_CLONED:
                log.error(
                    GATEWAY_CLONED,
                    station=station,
                    todo="two agents run with one key: stop the copy, give it a key and a code of its own",
                )
                self._changed(db, station, GATEWAY_CLONED)
            else:
                log.warning("station_alarm", station=station, alarm=alarm)
        for alarm in sorted(before - alarms):
            log.info("station_alarm_ended", station=station, alarm=alarm)
        return len(alarms ^ before)

    def _follow_clock(self, db: sa.Connection, clock_ms: float) -> None:
        """Move the times of the last beats with a step of the server's clock: their age is what counts."""
        if self._clock_ms is None or abs(clock_ms - self._clock_ms) <= CLOCK_STEP_MS:
            return
        step_ms = round(clock_ms - self._clock_ms)
        log.warning("server_clock_stepped", step_ms=step_ms)
        t = tables.station_state
        db.execute(sa.update(t).where(t.c.online).values(seen_ms=t.c.seen_ms + step_ms))

    def _changed(self, db: sa.Connection, station: str, state: str) -> None:
        log.info("station_state", station=station, state=state)
        db.execute(
            sa.insert(tables.events).values(
                at_ms=self._now_ms(), type="station", station=station, data={"state": state}
            )
        )


def _clock_offset_ms(live: LiveStatus) -> int | None:
    """Return how far the gateway's clock is from ours: as it learned from receipts, else as its status shows."""
    if live.status.clock_offset_ms is not None or live.status.sent_ms == 0:
        return live.status.clock_offset_ms
    return live.status.sent_ms - live.received_ms
