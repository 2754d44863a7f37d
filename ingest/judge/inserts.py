"""Insert rows that are not there yet, on either database engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, object]]
) -> None:
    """Insert ``rows``; one that breaks a unique rule is left out."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), list(rows))


def insert_new_keys(
    connection: sa.Connection, table: sa.Table, key: str, rows: Sequence[dict[str, object]]
) -> set[str]:
    """Insert ``rows`` as ``insert_new`` and return the values of column ``key`` that are new."""
    if not rows:
        return set()
    statement = _insert(connection, table).on_conflict_do_nothing().returning(table.c[key])
    return {str(value) for value in connection.execute(statement, list(rows)).scalars()}


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
