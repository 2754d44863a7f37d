"""What a restored database needs before it is used: an unbroken chain, an incarnation of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from ulid import ULID

from alerts.chain import LogRow, first_break
from alerts.tables import alert_transitions, settings
from alerts.transitions import INCARNATION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ChainBrokenError(Exception):
    """The log of alerts was changed after it was written; the message names the row."""


def prepare(database: Path) -> None:
    """Check the hash chain of the database at ``database`` and give it a new incarnation; raise ChainBrokenError.

    Receivers order an alert's events by (incarnation, seq): numbers given before the restore are given again.
    """
    engine = sa.create_engine(f"sqlite:///{database}")
    try:
        with engine.begin() as connection:
            broken = first_break(_log(connection))
            if broken is not None:
                raise ChainBrokenError(
                    f"{database}: the log of alert {broken.alert_id} does not follow at seq {broken.seq}"
                )
            connection.execute(sa.delete(settings).where(settings.c.name == INCARNATION))
            connection.execute(sa.insert(settings).values(name=INCARNATION, value=str(ULID())))
    finally:
        engine.dispose()


def _log(connection: sa.Connection) -> Iterator[LogRow]:
    names = tuple(column.name for column in alert_transitions.c if column.name != "id")
    query = sa.select(alert_transitions).order_by(alert_transitions.c.id)
    for row in connection.execute(query).mappings():
        yield LogRow(**{name: row[name] for name in names})
