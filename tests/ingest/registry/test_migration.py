"""A database of the version before enrolment is brought forward with its keys, and can go back."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa

import ingest.operational
from ingest import tables
from ingest.operational import Operational
from ingest.registry.live import Registry


def migrate(operational, direction, revision):
    config = alembic.config.Config()
    migrations = Path(ingest.operational.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))
    with operational.write() as connection:
        config.attributes["connection"] = connection
        getattr(alembic.command, direction)(config, revision)


def test_keys_that_were_approved_stay_so_forward_and_back(tmp_path):
    operational = Operational(f"sqlite:///{tmp_path / 'operational.db'}")
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
