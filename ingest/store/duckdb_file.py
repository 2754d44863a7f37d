"""The store's main file: its tables, opening it, the step from an older schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from ingest.store.reading_store import Level

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

SCHEMA_VERSION = 2
MEMORY_LIMIT = "64MB"  # DuckDB would take four fifths of the machine for its cache
READINGS = "readings"
KINDS = (READINGS, *(level.value for level in Level))

READING_COLUMNS = """series_id INTEGER NOT NULL, t_ms BIGINT NOT NULL, v DOUBLE, q UTINYINT NOT NULL,
    flags UINTEGER NOT NULL, received_ms BIGINT NOT NULL, inbox_pos BIGINT NOT NULL, dup INTEGER NOT NULL"""
# One partial aggregate: of a bucket there may be several, which are merged when it is asked for.
ROLLUP_COLUMNS = """series_id INTEGER NOT NULL, t_ms BIGINT NOT NULL, low DOUBLE, high DOUBLE, total DOUBLE,
    valued INTEGER NOT NULL, n INTEGER NOT NULL, good INTEGER NOT NULL"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (schema_version INTEGER NOT NULL, inbox_pos BIGINT NOT NULL);
INSERT INTO meta SELECT {SCHEMA_VERSION}, 0 WHERE NOT EXISTS (SELECT * FROM meta);
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, station VARCHAR NOT NULL, device VARCHAR NOT NULL, indicator VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS rolled (inbox_pos BIGINT NOT NULL, at_ms BIGINT NOT NULL, parts BIGINT NOT NULL);
INSERT INTO rolled SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT * FROM rolled);
CREATE TABLE IF NOT EXISTS latest (
    series_id INTEGER NOT NULL, t_ms BIGINT NOT NULL, v DOUBLE, q UTINYINT NOT NULL, n BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS parts (
    name VARCHAR NOT NULL, kind VARCHAR NOT NULL, month_ms BIGINT NOT NULL, low_ms BIGINT NOT NULL,
    high_ms BIGINT NOT NULL, n BIGINT NOT NULL, kept VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS live (generation INTEGER NOT NULL, since_ms BIGINT NOT NULL);
"""  # noqa: S608 - a constant
_FIRST = "INSERT INTO live SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM live)"


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


def columns(kind: str) -> str:
    """Return the column definitions of readings, or of a level's roll-ups."""
    return READING_COLUMNS if kind == READINGS else ROLLUP_COLUMNS


def live_table(kind: str, generation: int) -> str:
    """Return the name of a table that is appended to, or was lately; the first has the plain name, as in schema 1."""
    return kind if generation == 0 else f"{kind}_{generation}"


def create_live(db: DuckDBPyConnection, generation: int) -> None:
    """Make the tables of a generation."""
    for kind in KINDS:
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {live_table(kind, generation)} ({columns(kind)})"
        ).fetchall()


def open_main(path: Path) -> DuckDBPyConnection:
    """Open or make the main file in the newest schema; raise StoreError when it cannot be used."""
    try:
        db = duckdb.connect(path, config={"memory_limit": MEMORY_LIMIT})
    except duckdb.Error as exc:
        raise StoreError(f"{path}: {exc}; restore a backup or move the file away") from exc
    try:
        _check_version(db, path)
        db.execute("BEGIN").fetchall()
        db.execute(_SCHEMA).fetchall()
        if not db.execute("SELECT * FROM live").fetchall():
            create_live(db, 0)
            db.execute(_FIRST).fetchall()
        db.execute(
            "UPDATE meta SET schema_version = ? WHERE schema_version < ?", [SCHEMA_VERSION] * 2
        )
        db.execute("COMMIT").fetchall()
        _widen_flags(db)
    except duckdb.Error as exc:
        db.close()
        raise StoreError(f"{path}: {exc}; restore a backup or move the file away") from exc
    except StoreError:
        db.close()
        raise
    return db


def _check_version(db: DuckDBPyConnection, path: Path) -> None:
    """Before anything is written: a newer store is not ours to change."""
    if not db.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'meta'").fetchall():
        return
    [(version,)] = db.execute("SELECT schema_version FROM meta").fetchall()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: store of schema {version}, this server knows {SCHEMA_VERSION}; use the newer server"
        )


def _widen_flags(db: DuckDBPyConnection) -> None:
    """Make room for the bits of today in a file whose flags were eight."""
    tables = db.execute(
        "SELECT table_name FROM duckdb_columns() WHERE column_name = 'flags' AND data_type <> 'UINTEGER'"
        " AND database_name = current_database()"
    ).fetchall()
    for (table,) in tables:
        db.execute(f"ALTER TABLE {table} ALTER flags TYPE UINTEGER").fetchall()


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
