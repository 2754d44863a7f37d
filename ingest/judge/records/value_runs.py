"""The same number again and again from one instrument: shown to the county, not held against anybody (§3.16)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest import tables
from ingest.judge.catalogue.tables import clean
from ingest.judge.records.corrections import is_correction

if TYPE_CHECKING:
    from ingest.batch import TestItem

DUPLICATE_VALUE_RUN = "duplicate_value_run"
RUN = 5
"""So many samples in a row with the same number make a run."""

_MOST_SERIES = 10_000


@dataclass(slots=True)
class _Run:
    value: str = ""
    samples: dict[str, str] = field(default_factory=dict)
    """Record id -> sample number of the records in the run, at most RUN."""


class ValueRuns:
    """The last numbers of each instrument and parameter, read from the store when first asked for."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str], _Run] = {}

    def is_run(self, connection: sa.Connection, item: TestItem, record_id: str) -> bool:
        """Tell whether the record is at least the fifth in a row with its number; a sample's repeats do not count."""
        record = item.record
        if record.value is None or not record.value.is_finite() or is_correction(record):
            return False
        key = (item.pack.station, clean(record.device_id, 80), clean(record.parameter, 80))
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= _MOST_SERIES:
                self._runs.clear()
            run = self._runs[key] = _read(connection, key)
        _add(run, record_id, clean(record.sample_no, 60), str(record.value)[:40])
        return len(run.samples) >= RUN


def _add(run: _Run, record_id: str, sample_no: str, value: str) -> None:
    if value != run.value:
        run.value, run.samples = value, {}
    if record_id in run.samples or (sample_no and sample_no in run.samples.values()):
        return
    run.samples[record_id] = sample_no
    if len(run.samples) > RUN:
        del run.samples[next(iter(run.samples))]


def _read(connection: sa.Connection, key: tuple[str, str, str]) -> _Run:
    station, device, parameter = key
    table = tables.tests
    rows = connection.execute(
        sa.select(table.c.record_id, table.c.sample_no, table.c.value)
        .where(
            table.c.station == station,
            table.c.device == device,
            table.c.parameter == parameter,
            table.c.value.is_not(None),
            table.c.parent_record_id.is_(None) | (table.c.attempt > 0),  # no correction
        )
        .order_by(table.c.inbox_pos.desc(), table.c.position.desc())
        .limit(RUN * 2)
    )
    run = _Run()
    for record_id, sample_no, value in reversed(rows.all()):
        _add(run, record_id, sample_no, value)
    return run
