"""Findings become alerts: the judge's sink, working inside the judge's own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.alert import Alert
from alerts.laboratory.corrected import follow_corrections
from alerts.ledger import Ledger, Timing, chunks
from alerts.states import State
from alerts.tables import alerts as alerts_table
from alerts.transitions import indicator_names
from ingest.batch import Series
from ingest.tables import findings as findings_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence, Set

    from alerts.transitions import Names
    from ingest.judge.findings import Finding, Observation


class AlertRaiser:
    """Turns findings and observations into alerts (the judge's ``FindingSink``).

    Used by one thread: ``load`` once, then for each of the judge's transactions ``apply`` inside it and ``wake`` after
    its commit. ``on_commit`` is called by ``wake``; it wakes the webhook sender.
    """

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        names: Names = indicator_names,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._timing = timing or Timing()
        self._names = names
        self._on_commit = on_commit
        self._watched: dict[str, Series] = {}
        self._staged: dict[str, Series | None] | None = None

    def load(self, connection: sa.Connection) -> None:
        """Read which series have an alert that good values can clear."""
        self._staged = None
        rows = connection.execute(
            sa.select(alerts_table).where(
                alerts_table.c.state == State.SUSPECTED, alerts_table.c.clearable
            )
        )
        found = (Alert.from_row(row) for row in rows.mappings())
        self._watched = {alert.dedup_key: _series_of(alert) for alert in found}

    def watched(self) -> Set[Series]:
        """Return the series with an open alert that good values can clear; ``apply`` wants those as observations."""
        return frozenset(self._watched.values())

    def replaced(
        self, connection: sa.Connection, records: Mapping[str, str], received_ms: int
    ) -> None:
        """Supersede what rested on corrected or withdrawn records, in the caller's transaction."""
        follow_corrections(connection, records, received_ms, self._names)

    def apply(
        self,
        connection: sa.Connection,
        findings: Sequence[Finding],
        observations: Sequence[Observation],
        received_ms: int,
    ) -> None:
        """Raise, update, clear and reopen alerts in the caller's transaction, with log, outbox and events.

        The findings are already in their table; those that have an alert are passed over. ``received_ms`` dates the
        transitions. Raises StaleAlert when another process changed one of the alerts meanwhile.
        """
        if self._staged is not None:  # the transaction of the last call was not committed
            self.load(connection)
        fresh = list(_unraised(connection, findings))
        if not fresh and not observations:
            return
        ledger = Ledger(connection, self._timing, received_ms)
        ledger.read(fresh, observations)
        ledger.play(fresh, observations)
        ledger.write(self._names)
        self._staged = {
            key: None if alert is None else _series_of(alert)
            for key, alert in ledger.clearable_alerts().items()
        }

    def wake(self) -> None:
        """Take note that the transaction of the last ``apply`` was committed."""
        for key, watch in (self._staged or {}).items():
            if watch is None:
                self._watched.pop(key, None)
            else:
                self._watched[key] = watch
        self._staged = None
        self._on_commit()


def _series_of(alert: Alert) -> Series:
    return Series(alert.station, alert.device, alert.indicator)


def _unraised(connection: sa.Connection, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Yield each finding once, without those that already have an alert."""
    by_id = {finding.finding_id: finding for finding in findings}
    c = findings_table.c
    for chunk in chunks(list(by_id)):
        query = sa.select(c.finding_id).where(c.finding_id.in_(chunk), c.alert_id.is_not(None))
        for row in connection.execute(query):
            del by_id[row.finding_id]
    yield from by_id.values()
