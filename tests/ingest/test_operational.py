"""The operational database on either engine, and what only PostgreSQL can do wrong: order, failover, refused text."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import alembic.command
import pytest
import sqlalchemy as sa

import alerts.tables  # noqa: F401 - the schema is all tables
from ingest import tables
from ingest.disk import passes
from ingest.operational import TRANSIENT, Operational, SchemaError
from tests.conftest import until


def event(db: sa.Connection, name: str) -> int:
    row = {"at_ms": 1, "type": "test", "station": name, "data": {}}
    return db.execute(sa.insert(tables.events).values(row).returning(tables.events.c.id)).scalar()


def events(operational: Operational) -> list[tuple[int, str]]:
    query = sa.select(tables.events.c.id, tables.events.c.station).order_by(tables.events.c.id)
    with operational.read() as db:
        return [tuple(row) for row in db.execute(query)]


@pytest.fixture
def opened(tmp_path, databases):
    """Open the same database, each time as another process would."""
    with ExitStack() as stack:

        def make() -> Operational:
            operational = Operational(databases.url(tmp_path / "operational.db"))
            stack.callback(operational.close)
            return operational

        make().migrate()
        yield make


def test_numbers_of_events_become_visible_in_their_order(opened):
    first, second, reader = opened(), opened(), opened()
    entered, seen = threading.Event(), []

    def late() -> None:
        entered.set()
        with second.write() as db:
            event(db, "late")

    other = threading.Thread(target=late)
    with first.write() as db:
        event(db, "early")
        other.start()
        entered.wait()
        time.sleep(0.2)  # for a writer that does not wait, to overtake us
        seen.append(events(reader))
        event(db, "early too")
    other.join()
    seen.append(events(reader))
    assert seen[0] == []
    assert [name for _, name in seen[1]] == ["early", "early too", "late"]


def test_two_writers_lose_no_update(opened):
    databases = [opened()]
    databases.append(opened() if databases[0].is_shared else databases[0])
    with databases[0].write() as db:
        db.execute(sa.insert(tables.cursors).values(consumer="c", inbox_pos=0))

    def count(operational: Operational) -> None:
        for _ in range(25):
            with operational.write() as db:
                held = db.scalar(sa.select(tables.cursors.c.inbox_pos))
                db.execute(sa.update(tables.cursors).values(inbox_pos=held + 1))

    threads = [threading.Thread(target=count, args=(one,)) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with databases[0].read() as db:
        assert db.scalar(sa.select(tables.cursors.c.inbox_pos)) == 50


def test_a_reader_cannot_write(opened):
    with opened().read() as db, pytest.raises(sa.exc.DBAPIError, match=r"(?i)read-?only"):
        event(db, "x")


def test_what_failed_leaves_nothing(opened):
    operational = opened()
    with pytest.raises(ZeroDivisionError), operational.write() as db:
        event(db, str(1 // (event(db, "x") - event(db, "y") + 1)))
    assert events(operational) == []


def test_a_newer_schema_is_refused_in_one_line(opened):
    operational = opened()
    with operational.write() as db:
        known = db.scalar(sa.text("SELECT version_num FROM alembic_version"))
        db.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(SchemaError, match=f"9999.* newer server .*{known}") as caught:
            operational.migrate()
        assert "\n" not in str(caught.value)
    finally:
        with operational.write() as db:
            db.execute(sa.text(f"UPDATE alembic_version SET version_num = '{known}'"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE alembic_version", "no schema version"),
        ("ALTER TABLE stations DROP COLUMN lon", "stations.lon is missing"),
        ("DROP TABLE quarantine", "quarantine.id is missing"),
        ("INSERT INTO alembic_version VALUES ('0003')", "2 versions at once"),
    ],
)
def test_a_half_made_schema_is_refused_in_one_line(tmp_path, empty_databases, damage, said):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        db.execute(sa.text(damage))
    with pytest.raises(SchemaError, match=said) as caught:
        operational.migrate()
    assert "\n" not in str(caught.value)
    operational.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path, empty_databases, monkeypatch):
    operational = Operational(empty_databases.url(tmp_path / "operational.db"))
    upgrade = alembic.command.upgrade

    def cut_short(config, _revision):
        upgrade(config, "0003")
        raise InterruptedError

    monkeypatch.setattr(alembic.command, "upgrade", cut_short)
    with pytest.raises(InterruptedError):
        operational.migrate()
    with operational.read() as db:
        assert sa.inspect(db).get_table_names() == []
    monkeypatch.undo()
    operational.migrate()
    operational.close()


# ---- PostgreSQL


@pytest.fixture
def on_postgres(postgres):
    url = postgres.new(migrated=True)
    operational = Operational(url)
    yield operational
    operational.close()
    postgres.give_back(url, migrated=True)


def test_a_reader_sees_one_state(on_postgres):
    with on_postgres.read() as db:
        query = sa.select(sa.func.count()).select_from(tables.events)
        before = db.scalar(query)
        with on_postgres.write() as other:
            event(other, "x")
        assert db.scalar(query) == before
    with on_postgres.read() as db:
        assert db.scalar(query) == before + 1


def test_a_number_that_is_none_is_null_in_json(on_postgres):
    with on_postgres.write() as db:
        row = {"at_ms": 1, "type": "t", "station": "s", "data": {"v": float("nan"), "w": 1.5}}
        db.execute(sa.insert(tables.events).values(row))
        assert db.scalar(sa.select(tables.events.c.data)) == {"v": None, "w": 1.5}


def test_the_password_stands_nowhere(postgres):
    operational = Operational(postgres.url("postgres"), password="s3cret-word")
    assert operational.connection_parameters()["password"] == "s3cret-word"
    assert "s3cret" not in operational.url + repr(operational)
    operational.close()


def test_a_database_in_another_encoding_is_refused(postgres):
    postgres.sql(
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc"
    )
    operational = Operational(postgres.url("latin"))
    with pytest.raises(SchemaError, match=r"SQL_ASCII.*UTF8"):
        operational.migrate()
    operational.close()


def test_a_killed_server_is_a_passing_error_and_then_all_goes_on(own_postgres):
    server = own_postgres()
    operational = Operational(server.new())
    operational.migrate()
    with operational.write() as db:
        event(db, "before")
    with pytest.raises(TRANSIENT) as caught, operational.write() as db:
        _ = event(db, "lost"), server.kill()
    assert passes(caught.value)
    with pytest.raises(TRANSIENT) as caught, operational.read() as db:
        db.execute(sa.select(1))
    assert passes(caught.value)
    server.start()
    with operational.write() as db:
        event(db, "after")
    assert [name for _, name in events(operational)] == ["before", "after"]
    operational.close()
    server.kill()


def test_a_standby_is_a_passing_error(on_postgres):
    """A primary that was made a standby refuses writes on connections that it has kept."""
    with pytest.raises(TRANSIENT) as caught, on_postgres.write() as db:
        _ = db.execute(sa.text("SET TRANSACTION READ ONLY")), event(db, "x")
    assert passes(caught.value)


def test_a_writer_that_waits_too_long_gets_a_passing_error(on_postgres, monkeypatch):
    monkeypatch.setattr("ingest.operational._TIMEOUT_S", 1)
    other = Operational(on_postgres.url)
    with on_postgres.write(), pytest.raises(TRANSIENT) as caught, other.write():
        pass
    assert passes(caught.value)
    other.close()


# ---- wake-ups


@pytest.fixture
def process(on_postgres):
    """Start what one process listens with; return it and how often it was woken."""
    from ingest.wakeups import Wakeups  # noqa: PLC0415 - needs psycopg

    with ExitStack() as stack:

        def make(*roles: str, name: str) -> tuple[Wakeups, list[float]]:
            operational = Operational(on_postgres.url, name=name)
            stack.callback(operational.close)
            wakeups, woken = Wakeups(operational, roles), []
            stack.callback(wakeups.stop)
            wakeups.claim()
            wakeups.start(on_wake=lambda: woken.append(time.monotonic()))
            until(lambda: woken)
            woken.clear()
            return wakeups, woken

        yield make


def test_a_commit_of_events_wakes_other_processes_at_once(on_postgres, process):
    _, woken = process(name="one")
    with on_postgres.write() as db:
        event(db, "x")
        time.sleep(0.2)
        assert not woken
    until(lambda: woken, within_s=5)


def test_what_writes_no_event_wakes_nobody(on_postgres, process):
    _, woken = process(name="one")
    with on_postgres.write() as db:
        db.execute(sa.insert(tables.cursors).values(consumer="c", inbox_pos=0))
    with on_postgres.write() as db:
        event(db, "x")
    until(lambda: woken)
    assert len(woken) == 1


def test_one_process_has_a_role(process, monkeypatch):
    from ingest.wakeups import RoleTakenError  # noqa: PLC0415

    monkeypatch.setattr("ingest.wakeups.CLAIM_S", 0.2)
    first, _ = process("ingest", name="agrigate ingest A")
    process("alerts", name="agrigate alerts B")
    process("web", name="agrigate web C")
    process("web", name="agrigate web D")
    with pytest.raises(RoleTakenError, match=r"role ingest: .*agrigate ingest A at 127\.0\.0\.1"):
        process("ingest", name="agrigate ingest E")
    first.stop()
    process("ingest", name="agrigate ingest F")


def test_a_lost_connection_is_polled_for_and_comes_back(postgres, on_postgres, process):
    wakeups, woken = process("ingest", name="agrigate ingest A")
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'agrigate ingest A'"
    )
    until(lambda: not wakeups.is_listening)
    until(lambda: woken)  # looks without being told
    until(lambda: wakeups.is_listening)
    until(lambda: len(woken) >= 2)  # and once more for what was missed
    woken.clear()
    with on_postgres.write() as db:
        event(db, "x")
    until(lambda: woken)


def test_a_role_that_another_took_meanwhile_ends_the_process(postgres, process, monkeypatch):
    from ingest.wakeups import RoleTakenError, Wakeups  # noqa: PLC0415

    monkeypatch.setattr("ingest.wakeups.CLAIM_S", 0.2)
    monkeypatch.setattr(Wakeups, "_run", _quiet(Wakeups._run, RoleTakenError))
    first, _ = process("ingest", name="agrigate ingest A")
    reconnect, gate = first._reconnect, threading.Event()
    first._reconnect = lambda: (gate.wait(), reconnect())
    postgres.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'agrigate ingest A'"
    )
    until(lambda: not first.is_listening)
    process("ingest", name="agrigate ingest B")
    gate.set()
    until(lambda: first.failure is not None)
    assert isinstance(first.failure, RoleTakenError)


def _quiet(run, kind):
    def quiet(self):
        try:
            run(self)
        except kind:
            return

    return quiet
