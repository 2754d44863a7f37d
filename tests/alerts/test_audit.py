"""The log of alerts and the log of administration: whole, changed in any column, cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from alerts.actions import acknowledge
from alerts.administration import note
from alerts.audit import audit
from alerts.raising import AlertRaiser
from alerts.tables import administration_log, alert_transitions, alerts

if TYPE_CHECKING:
    from ingest.operational import Operational

NOW_MS = 1_780_000_000_000
CHANGED = {
    sa.String: "x",
    sa.Text: "x",
    sa.BigInteger: 7,
    sa.Integer: 7,
    sa.JSON: {"x": 1},
}


@pytest.fixture
def logs(operational: Operational, judge, finding) -> Operational:
    judge(AlertRaiser(), [finding(), finding(device="plot2/water")])
    with operational.read() as connection:
        alert_id = connection.scalars(sa.select(alerts.c.alert_id)).first()
    acknowledge(operational, alert_id, "li", at_ms=NOW_MS)
    with operational.write() as connection:
        for n in range(2):
            note(
                connection, actor="li", action="key.rotated", subject=f"e{n}", data={}, at_ms=NOW_MS
            )
    return operational


def faults(operational: Operational) -> list[str]:
    with operational.read() as connection:
        return [log.fault for log in audit(connection) if log.fault]


def test_what_was_written_is_whole(logs: Operational) -> None:
    with logs.read() as connection:
        found = audit(connection)
    assert [(log.rows, log.fault) for log in found] == [(3, ""), (2, "")]


@pytest.mark.parametrize("table", [alert_transitions, administration_log], ids=lambda t: t.name)
def test_a_change_in_any_column_names_its_row(logs: Operational, table: sa.Table) -> None:
    for column in table.columns:
        if column.name in {"id", "alert_id"}:  # the primary key, and a foreign one
            continue
        with logs.write() as connection:
            newest = connection.execute(sa.select(table).order_by(table.c.id.desc())).first()
            value = next(v for kind, v in CHANGED.items() if isinstance(column.type, kind))
            of_row = sa.update(table).where(table.c.id == newest.id)
            connection.execute(of_row.values({column: value}))
        (fault,) = faults(logs)
        assert f"row {newest.id}" in fault, column.name
        with logs.write() as connection:
            connection.execute(of_row.values({column: getattr(newest, column.name)}))
        assert faults(logs) == []


def test_rows_that_were_taken_out_are_missed(logs: Operational) -> None:
    with logs.write() as connection:
        first = connection.scalar(sa.select(sa.func.min(alert_transitions.c.id)))
        connection.execute(sa.delete(alert_transitions).where(alert_transitions.c.id == first))
    assert "does not follow" in faults(logs)[0]


def test_a_log_that_was_cut_at_its_end_is_missed(logs: Operational) -> None:
    with logs.write() as connection:
        last = connection.scalar(sa.select(sa.func.max(alert_transitions.c.id)))
        connection.execute(sa.delete(alert_transitions).where(alert_transitions.c.id == last))
    assert "the log ends at" in faults(logs)[0]
