"""A database of an earlier version is brought forward with what it holds, and can go back."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import alerts.tables  # noqa: F401 - the schema is all tables
import ingest.operational
from ingest import tables
from ingest.operational import Operational
from ingest.registry.live import Registry


def migrate(operational, direction, revision):
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with operational.write() as connection:
        config.attributes["connection"] = connection
        getattr(alembic.command, direction)(config, revision)


def test_keys_that_were_approved_stay_so_forward_and_back(tmp_path, empty_databases):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    migrate(operational, "upgrade", "0001")
    with operational.write() as db:
        db.execute(sa.insert(tables.stations).values(code="hl-001", name="s", region_code="640122"))
        db.execute(sa.text("INSERT INTO gateway_keys VALUES ('hl-001', 'k', 'approved', 1)"))
    operational.migrate()
    assert Registry(operational).is_approved("hl-001", "k")
    with operational.read() as db:
        assert db.execute(sa.select(tables.broker_credentials)).all() == []
    migrate(operational, "downgrade", "0001")
    with operational.read() as db:
        rows = db.execute(sa.text("SELECT * FROM gateway_keys")).all()
        assert [tuple(row) for row in rows] == [("hl-001", "k", "approved", 1)]
    operational.close()


def test_plots_stay_forward_and_back(tmp_path, empty_databases):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    migrate(operational, "upgrade", "0002")
    with operational.write() as db:
        db.execute(sa.text("INSERT INTO subjects VALUES ('s1', 's', 'coop', '640122', '')"))
        db.execute(sa.text("INSERT INTO bases VALUES ('b1', 's1', 'b', '640122')"))
        db.execute(
            sa.text(
                "INSERT INTO plots (id, base_id, name, land_use, soil_ph) VALUES ('p1', 'b1', 'p', 'paddy', 6.5)"
            )
        )
        before = db.execute(sa.text("SELECT * FROM plots")).one()
    operational.migrate()
    with operational.read() as db:
        row = db.execute(sa.select(tables.plots)).one()
    assert (row.land_use, row.soil_ph) == ("paddy", 6.5)
    added = ("water", "salmonid", "shellfish", "ice_covered", "animal", "animal_age")
    assert {getattr(row, name) for name in added} == {""}
    migrate(operational, "downgrade", "0002")
    with operational.read() as db:
        assert db.execute(sa.text("SELECT * FROM plots")).one()._asdict() == before._asdict()
    operational.close()


def test_windows_and_quality_limits_come_and_go(tmp_path, empty_databases):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    migrate(operational, "upgrade", "0003")
    operational.migrate()
    names = {"device_windows", "quality_limits"}
    with operational.read() as db:
        for name in names:
            held = {c["name"] for c in sa.inspect(db).get_columns(name)}
            assert held == set(tables.metadata.tables[name].c.keys())
    migrate(operational, "downgrade", "0003")
    with operational.read() as db:
        assert not names & set(sa.inspect(db).get_table_names())
    operational.close()


def test_the_key_of_a_companion_and_the_indexes_come_and_go(tmp_path, empty_databases):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    migrate(operational, "upgrade", "0004")
    with operational.write() as db:
        for indicator in ("soil_ph", "water_do"):
            db.execute(
                sa.text("INSERT INTO companions VALUES ('p1', :indicator, 1, 6.5)"),
                {"indicator": indicator},
            )
    operational.migrate()
    with operational.write() as db:
        assert db.execute(sa.select(tables.companions)).all() == [("p1", "soil_ph", "", 1, 6.5)]
        row = {"plot_id": "p1", "indicator": "water_do", "t_ms": 1, "value": 6.0}
        for series in ("s/a", "s/b"):
            db.execute(sa.insert(tables.companions).values(series=series, **row))
        for name in ("companions", "tests"):
            wanted = tables.metadata.tables[name]
            held = {i["name"]: i["column_names"] for i in sa.inspect(db).get_indexes(name)}
            assert held == {i.name: [c.name for c in i.columns] for i in wanted.indexes}
            key = sa.inspect(db).get_pk_constraint(name)["constrained_columns"]
            assert sorted(key) == sorted(c.name for c in wanted.primary_key)
    migrate(operational, "downgrade", "0004")
    with operational.read() as db:
        rows = db.execute(sa.text("SELECT * FROM companions")).all()
        assert [tuple(one) for one in rows] == [("p1", "soil_ph", 1, 6.5)]
        assert "ix_companions_t_ms" not in {
            index["name"] for index in sa.inspect(db).get_indexes("companions")
        }
    operational.close()


MIGRATIONS = Path(ingest.operational.__file__).parent / "migrations"
VERSIONS = sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("0*.py"))


TAKEN_AWAY = {("endpoints", "secret")}  # in plain text; it is sealed in a table of its own


def same_default(_context, _inspected, column, held, _wanted, rendered):
    """Compare JSON as text, which PostgreSQL has no comparison for; leave the rest to Alembic."""
    if not isinstance(column.type, sa.JSON):
        return None
    return (held or "").removesuffix("::json").strip("'") != (rendered or "").strip("'")


def fill(db):
    """Put one row into every table as it is in this version; text, numbers and JSON by the column's type."""
    held = sa.MetaData()
    held.reflect(db)
    for table in held.sorted_tables:
        if table.name == "alembic_version":
            continue
        row = {}
        for column in table.columns:
            kind = column.type
            if isinstance(kind, sa.Boolean) or column.name in {"online", "active", "late"}:
                value = True
            elif isinstance(kind, sa.LargeBinary):
                value = b"{}"
            elif isinstance(kind, sa.JSON):
                value = {"k": [1, "值"]}
            elif isinstance(kind, sa.Integer | sa.Float | sa.Numeric):
                value = 1
            else:
                value = "值"
            row[column.name] = value
        db.execute(sa.insert(table).values(row))


def rows(db):
    held = sa.MetaData()
    held.reflect(db)
    return {
        table.name: [dict(row._mapping) for row in db.execute(sa.select(table))]
        for table in held.sorted_tables
        if table.name != "alembic_version"
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_released_schema_comes_forward_with_its_rows(tmp_path, empty_databases, version):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    migrate(operational, "upgrade", version)
    with operational.write() as db:
        fill(db)
        before = rows(db)
    operational.migrate()
    with operational.read() as db:
        after = rows(db)
    for name, (row,) in before.items():
        (now,) = after[name]
        left = {key: value for key, value in row.items() if (name, key) not in TAKEN_AWAY}
        assert {key: now[key] for key in left} == left, name
    operational.close()


def test_the_migrated_schema_is_that_of_the_tables(tmp_path, empty_databases):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.read() as db:
        exact = (
            empty_databases.is_postgres
        )  # SQLite tells neither types nor defaults as they were written
        context = MigrationContext.configure(
            db,
            opts={
                "compare_type": exact,
                "compare_server_default": same_default if exact else False,
            },
        )
        assert compare_metadata(context, tables.metadata) == []
    operational.close()
