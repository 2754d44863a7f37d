"""The judge as a consumer of the inbox: one transaction per batch, its cursor inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from ingest import tables
from ingest.batch import Series
from ingest.judge.catalogue.tables import clean
from ingest.judge.inserts import insert_new, insert_new_keys
from ingest.judge.readings.batches import ReadingJudge
from ingest.judge.readings.companions import Companions
from ingest.judge.readings.sensors import FaultySensors
from ingest.judge.readings.series import SeriesTable
from ingest.judge.readings.spans import spans
from ingest.judge.records.records import RecordJudge
from ingest.judge.refused import pack_by_pack, without_records

if TYPE_CHECKING:
    from ingest.batch import Batch
    from ingest.judge.catalogue.catalogue import Catalogue
    from ingest.judge.findings import Finding, FindingSink
    from ingest.judge.readings.series import Contexts
    from ingest.judge.readings.spans import LimitSpan
    from ingest.operational import Operational

log = structlog.get_logger()

CONSUMER = "judge"
PRUNE_EVERY_MS = 60_000  # of receive time
_FINDING_COLUMNS = tuple(c.name for c in tables.findings.columns if c.name != "alert_id")


class Judge:
    """Judges batches and hands what is new to ``sink``, in the transaction that moves its cursor.

    ``handle`` is for one thread; ``cursor`` and ``limits_for`` may be called from any. ``retention_ms`` is how late a
    reading may come: companions that none of those needs are removed; None keeps them all.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        registry: Contexts,
        operational: Operational,
        sink: FindingSink,
        *,
        retention_ms: int | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._operational = operational
        self._sink = sink
        self._companions = Companions()
        self._sensors = FaultySensors()
        self._table = SeriesTable(catalogue, registry)
        self._readings = ReadingJudge(self._table, self._companions)
        self._records = RecordJudge(catalogue, registry)
        self._retention_ms = retention_ms
        self._prune_due_ms = 0

    def cursor(self) -> int:
        """Return the inbox position of the last pack judged, 0 at first."""
        with self._operational.read() as connection:
            return _cursor(connection)

    def handle(self, batch: Batch) -> None:
        """Judge what of ``batch`` lies behind the cursor: all of it is committed, or nothing.

        Raises what the database or the sink raises; the batch may then be handed in again. A pack with something that
        the database does not take is quarantined as a whole.
        """
        if not batch.packs:
            return
        try:
            self._handle(batch)
        except sa.exc.DataError as exc:
            if len(batch.packs) == 1:
                log.warning("pack_refused", pos=batch.packs[0].pos, error=str(exc.orig))
                self._handle(without_records(batch, f"the database refused it: {exc.orig}"))
                return
            for one in pack_by_pack(batch):
                self.handle(one)

    def _handle(self, batch: Batch) -> None:
        committed = False
        try:
            with self._operational.write() as connection:
                done = _cursor(connection)
                if batch.cursor > done:
                    self._judge(connection, batch, done)
                    self._tidy(connection, batch.packs[-1].received_ms)
                    _set_cursor(connection, batch.cursor)
            committed = True
        finally:
            if not committed:
                self._companions.forget()
                self._sensors.forget()

    def limits_for(self, series: Series, start_ms: int, end_ms: int) -> list[LimitSpan]:
        """Return the limits that held for ``series`` in start ≤ t < end, each with its span; for the trend."""
        plot = self._registry.context(series.station, series.device)
        with self._operational.read() as connection:
            return spans(
                self._catalogue, connection, self._companions, series, plot, start_ms, end_ms
            )

    def _judge(self, connection: sa.Connection, batch: Batch, done: int) -> None:
        fresh = batch.inbox_pos > done  # (n,)
        self._table.update(batch.series)
        self._sensors.keep(connection, batch, fresh)
        self._readings.keep_companions(connection, batch, fresh)
        found = self._readings.findings(connection, batch, fresh)
        found += self._records.store(
            connection, [item for item in batch.tests if item.pack.pos > done]
        )
        found.sort(key=_place)
        new = _store_findings(connection, found)
        _quarantine(connection, batch, done)
        replaced = self._records.replaced
        if replaced:
            self._sink.replaced(connection, replaced, batch.packs[-1].received_ms)
            # What was corrected before it came is evidence and raises nothing.
            new = [finding for finding in new if finding.record_id not in replaced]
        # A series that raises its alert in this very batch may also recover in it.
        raised = {Series(f.station, f.device, f.indicator) for f in new if f.clearable}
        observations = self._readings.observations(
            connection, batch, fresh, raised.union(self._sink.watched())
        )
        if new or observations:
            self._sink.apply(connection, new, observations, batch.packs[-1].received_ms)

    def _tidy(self, connection: sa.Connection, received_ms: int) -> None:
        """Remove a group of companions whose time is over, once a minute; measured by what comes, not by a clock."""
        if self._retention_ms is None or received_ms < self._prune_due_ms:
            return
        self._prune_due_ms = received_ms + PRUNE_EVERY_MS
        self._companions.prune(connection, received_ms - self._retention_ms)


def _place(finding: Finding) -> tuple[int, int]:
    return finding.inbox_pos, finding.position


def _cursor(connection: sa.Connection) -> int:
    table = tables.cursors
    held = sa.select(table.c.inbox_pos).where(table.c.consumer == CONSUMER)
    return connection.execute(held).scalar() or 0


def _set_cursor(connection: sa.Connection, position: int) -> None:
    insert_new(connection, tables.cursors, [{"consumer": CONSUMER, "inbox_pos": 0}])
    connection.execute(
        sa.update(tables.cursors)
        .where(tables.cursors.c.consumer == CONSUMER)
        .values(inbox_pos=position)
    )


def _store_findings(connection: sa.Connection, found: list[Finding]) -> list[Finding]:
    """Insert findings and return those that are new, in order."""
    by_id = {finding.finding_id: finding for finding in reversed(found)}
    rows = [
        {name: getattr(finding, name) for name in _FINDING_COLUMNS} for finding in by_id.values()
    ]
    new = insert_new_keys(connection, tables.findings, "finding_id", rows)
    return [f for f in found if f.finding_id in new and by_id[f.finding_id] is f]


def _quarantine(connection: sa.Connection, batch: Batch, done: int) -> None:
    rows = [
        {
            "station": fault.pack.station,
            "epoch": fault.pack.epoch,
            "seq": fault.pack.seq,
            "position": fault.position,
            "inbox_pos": fault.pack.pos,
            "field": clean(fault.field, 200),
            "reason": clean(fault.reason, 1000),
            "at_ms": fault.pack.received_ms,
        }
        for fault in batch.faults
        if fault.pack.pos > done
    ]
    insert_new(connection, tables.quarantine, rows)
