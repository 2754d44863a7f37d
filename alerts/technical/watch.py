"""Looks at what stations say of themselves: technical alerts open and resolve, open exceedances are marked stale."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.actions import act_within
from alerts.alert import DATA_STALE, Alert
from alerts.bilingual import both
from alerts.errors import AlertError
from alerts.keys import dedup_key
from alerts.states import LAW, SYSTEM, Facts, State, Trigger
from alerts.tables import alerts
from alerts.technical.conditions import (
    MINUTE_MS,
    SEVERITY,
    Condition,
    Patience,
    StationFacts,
    conditions_of,
)
from alerts.transitions import record
from ingest.tables import series_faults, station_state, stations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alerts.transitions import Names
    from ingest.operational import Operational

_TECHNICAL = tuple(SEVERITY)


class TechnicalWatch:
    """A duty; ``troubles`` says what is wrong with the server's own store, nothing when it is well."""

    def __init__(
        self,
        operational: Operational,
        names: Names,
        troubles: Callable[[], Sequence[str]] = tuple,
        patience: Patience = Patience(),  # noqa: B008 - it cannot change
    ) -> None:
        self._operational = operational
        self._names = names
        self._troubles = troubles
        self._patience = patience
        self._since: dict[Condition, int] = {}

    def look(self, now_ms: int) -> bool:
        """Open what has lasted, resolve what is over, mark and unmark open exceedances; return whether any changed."""
        with self._operational.read() as connection:
            facts = _facts(connection)
            places = connection.execute(sa.select(stations.c.code, stations.c.region_code))
            regions = {row.code: row.region_code for row in places}
            known = _open(connection)
            exceeding = _exceeding(connection)
            present = _faulty(connection, self._patience.sensor_fault_min * MINUTE_MS)
        for one in facts.values():
            present |= conditions_of(one, now_ms)
        present |= {Condition("store_down", "", "", what) for what in self._troubles()[:1]}
        self._since = {c: self._since.get(c, now_ms) for c in present}
        wanted = {_key(c): c for c in sorted(present) if self._has_lasted(c, now_ms)}
        still = {_key(c) for c in present}
        for key, condition in wanted.items():
            if key not in known:
                self._open(condition, key, regions.get(condition.station, ""), now_ms)
        over = [alert for key, alert in known.items() if key not in still]
        for alert in over:
            self._act(alert, Trigger.RESOLVE, both("状况已结束", "the condition has ended"), now_ms)
        stale = self._mark_stale(exceeding, facts, now_ms)
        return bool(over) or stale or any(key not in known for key in wanted)

    def _has_lasted(self, condition: Condition, now_ms: int) -> bool:
        return now_ms - self._since[condition] >= self._patience.hold_ms(condition.kind)

    def _open(self, condition: Condition, key: str, region: str, now_ms: int) -> None:
        alert = Alert(
            alert_id=str(ULID()),
            dedup_key=key,
            kind=condition.kind,
            rule_id=condition.kind,
            severity=SEVERITY[condition.kind],
            certainty="",
            station=condition.station,
            device=condition.device,
            plot_id="",
            region_code=region,
            indicator=condition.indicator,
            product_name="",
            sample_no="",
            value=None,
            unit="",
            citation={},
            evidence={"condition": condition.what} if condition.what else {},
            first_seen_ms=self._since[condition],
            last_seen_ms=now_ms,
            occurrence_count=1,
            flags=[],
            clearable=False,
            raised_ms=now_ms,
            changed_ms=now_ms,
        )
        facts = Facts(kind=condition.kind, reason=condition.what)
        change = alert.move(Trigger.OPEN, facts, now_ms)
        with self._operational.write() as connection:
            connection.execute(sa.insert(alerts).values(alert.to_row()))
            record(connection, [change], self._names)

    def _act(
        self,
        alert: Alert,
        trigger: Trigger,
        reason: str,
        now_ms: int,
        edit: Callable[[Alert], None] = lambda _: None,
    ) -> None:
        # Somebody may have moved the alert meanwhile: the next look sees it as it is then.
        with contextlib.suppress(AlertError), self._operational.write() as connection:
            act_within(
                connection,
                alert.alert_id,
                trigger,
                SYSTEM,
                reason,
                at_ms=now_ms,
                names=self._names,
                edit=edit,
            )

    def _mark_stale(
        self, exceeding: Sequence[Alert], facts: Mapping[str, StationFacts], now_ms: int
    ) -> bool:
        """Flag what is open and gets no data any more. It stays open: no data is no value within the limit."""
        changed = False
        for alert in exceeding:
            said = facts.get(alert.station)
            if said is None or (said.devices and alert.device not in said.devices):
                continue  # nobody tells of this device: it may send by itself
            silent = self._is_silent(said, alert.device, now_ms)
            if silent is None or silent == (DATA_STALE in alert.flags):
                continue
            reason = (
                both("数据中断", "no data any more") if silent else both("数据恢复", "data again")
            )
            self._act(alert, Trigger.UPDATE, reason, now_ms, _flagging(on=silent))
            changed = True
        return changed

    def _is_silent(self, said: StationFacts, device: str, now_ms: int) -> bool | None:
        """Tell whether no data has come for a while; None while that is not yet sure."""
        away = Condition("station_offline", said.station)
        mute = Condition("device_offline", said.station, device)
        since = min((self._since[c] for c in (away, mute) if c in self._since), default=None)
        if since is None:
            return False
        return True if now_ms - since >= self._patience.stale_after_s * 1000 else None


def _flagging(*, on: bool) -> Callable[[Alert], None]:
    def edit(alert: Alert) -> None:
        alert.flags = sorted({*alert.flags, DATA_STALE} if on else {*alert.flags} - {DATA_STALE})

    return edit


def _key(condition: Condition) -> str:
    target = (condition.station, condition.device)
    return dedup_key(condition.kind, target, condition.indicator, "")


def _faulty(connection: sa.Connection, least_ms: int) -> set[Condition]:
    """Return the sensors that have given nothing usable for ``least_ms`` of their readings' time."""
    f = series_faults.c
    query = sa.select(series_faults).where(f.last_ms - f.since_ms >= least_ms)
    return {
        Condition("sensor_fault", row.station, row.device, row.what, row.indicator)
        for row in connection.execute(query)
    }


def _facts(connection: sa.Connection) -> dict[str, StationFacts]:
    s = station_state
    query = sa.select(s.c.station, s.c.online, s.c.seen_ms, s.c.devices, s.c.alarms)
    return {
        row.station: StationFacts(
            station=row.station,
            online=row.online,
            seen_ms=row.seen_ms,
            devices={str(d["path"]): bool(d.get("ok")) for d in row.devices if d.get("path")},
            alarms=[str(alarm) for alarm in row.alarms],
        )
        for row in connection.execute(query)
    }


def _open(connection: sa.Connection) -> dict[str, Alert]:
    query = sa.select(alerts).where(alerts.c.state == State.OPEN, alerts.c.kind.in_(_TECHNICAL))
    found = (Alert.from_row(row) for row in connection.execute(query).mappings())
    return {alert.dedup_key: alert for alert in found}


def _exceeding(connection: sa.Connection) -> list[Alert]:
    query = sa.select(alerts).where(alerts.c.kind == "limit", alerts.c.state.in_(LAW))
    return [Alert.from_row(row) for row in connection.execute(query).mappings()]
