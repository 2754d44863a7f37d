"""Walking the hash chains of what happened to alerts and of who administered what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from alerts.administration import row_hash
from alerts.chain import GENESIS, LogRow
from alerts.tables import administration_log, alert_transitions, alerts

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Audit:
    """How one log stands: rows that were read, the hash of the last one, and the first fault; blank when whole."""

    log: str
    rows: int
    head: str
    fault: str = ""


def audit(connection: sa.Connection) -> list[Audit]:
    """Return how the log of transitions and the log of administration stand."""
    return [_transitions(connection), _administration(connection)]


def _transitions(connection: sa.Connection) -> Audit:
    name, count, previous = "alert_transitions", 0, GENESIS
    newest: dict[str, int] = {}
    for row in _rows(connection, alert_transitions):
        kept = LogRow(**{key: value for key, value in row.items() if key != "id"})
        where = f"row {row['id']}: alert {kept.alert_id} seq {kept.seq}"
        if kept.prev_hash != previous:
            return Audit(name, count, previous, f"{where}: does not follow the row before it")
        if kept.hash != kept.computed_hash():
            return Audit(name, count, previous, f"{where}: was changed; its hash is another")
        if kept.seq != newest.get(kept.alert_id, 0) + 1:
            return Audit(name, count, previous, f"{where}: a row before it is missing")
        newest[kept.alert_id] = kept.seq
        previous, count = kept.hash, count + 1
    for alert_id, seq in connection.execute(sa.select(alerts.c.alert_id, alerts.c.seq)):
        if newest.get(alert_id, 0) != seq:
            fault = f"alert {alert_id}: is at seq {seq}, the log ends at {newest.get(alert_id, 0)}"
            return Audit(name, count, previous, fault)
    return Audit(name, count, previous)


def _administration(connection: sa.Connection) -> Audit:
    name, count, previous = "administration_log", 0, GENESIS
    for row in _rows(connection, administration_log):
        where = f"row {row['id']}: {row['action']} {row['subject']}"
        if row["prev_hash"] != previous:
            return Audit(name, count, previous, f"{where}: does not follow the row before it")
        if row["hash"] != row_hash(dict(row)):
            return Audit(name, count, previous, f"{where}: was changed; its hash is another")
        previous, count = str(row["hash"]), count + 1
    return Audit(name, count, previous)


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[sa.RowMapping]:
    last = 0
    while True:
        query = sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(_PAGE)
        page = connection.execute(query).mappings().all()
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]["id"]
