"""``agrigate store check``: one line that says what is wrong with an InfluxDB, tried on one that is."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from click.testing import CliRunner

from agrigate import main
from tests.conftest import free_port
from tests.influxdb import Influx
from tests.ingest.store.influx.answering import Answer, answering

CONFIG = """
[server]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = 1883
open = true
[registry]
file = "registry.toml"
"""


@pytest.fixture
def checked(tmp_path):
    """Return a function that writes [store] and runs the check."""

    def run(store: str) -> tuple[int, str]:
        for secret in ("token", "password"):
            (tmp_path / secret).touch(mode=0o600)
            (tmp_path / secret).write_text("secret")
        file = tmp_path / "server.toml"
        file.write_text(f"{CONFIG}\n[store]\n{store}\n")
        result = CliRunner().invoke(main, ["store", "check", "-c", str(file)])
        assert result.output.count("\n") == 1, result.output
        return result.exit_code, result.output

    return run


@pytest.fixture
def name(tmp_path) -> str:
    return tmp_path.name


def influx_at(url: str, name: str, more: str = "") -> str:
    return f'kind = "influxdb"\nurl = "{url}"\ndatabase = "{name}"\ntimeout_s = 2\n{more}'


def test_a_good_one_through_either_way_of_writing(checked, influx, name):
    influx.database(name)
    for url in (influx.url, influx.direct_url):
        code, said = checked(influx_at(url, name))
        assert (code, ": good: InfluxDB 1.6" in said, "read back in" in said) == (0, True, True)
    code, said = checked('kind = "duckdb"')
    assert (code, "good: readings are kept here by DuckDB" in said) == (0, True)


def test_unreachable_and_no_influxdb(checked):
    code, said = checked(influx_at(f"http://127.0.0.1:{free_port()}", "farm"))
    assert (code, "unreachable" in said, "refused" in said) == (1, True, True)
    with answering(lambda _: Answer(404, b"<html>not here</html>")) as web:
        code, said = checked(influx_at(web.url, "farm"))
    assert (code, "no InfluxDB" in said or "is an InfluxDB behind" in said) == (1, True)


def test_a_database_that_is_missing(checked, influx):
    code, said = checked(influx_at(influx.url, "nowhere"))
    assert (code, 'CREATE DATABASE "nowhere"' in said) == (1, True)


def test_types_of_another_program_and_a_bucket_that_forgets(checked, influx, name):
    influx.database(name)
    influx.write(name, "reading,station=x v=6i 0")
    code, said = checked(influx_at(influx.url, name))
    assert (code, "field v of measurement reading is integer there" in said) == (1, True)
    influx.run(f'ALTER RETENTION POLICY autogen ON "{name}" DURATION 52w')
    code, said = checked(influx_at(influx.url, name))
    assert (code, "the bucket forgets" in said) == (1, True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    server = Influx(tmp_path_factory.mktemp("guarded"), auth=True)
    try:
        server.start()
        server.run("CREATE USER root WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
        for statement in (
            "CREATE DATABASE farm",
            "CREATE USER reader WITH PASSWORD 'secret'",
            "GRANT READ ON farm TO reader",
        ):
            server.run(statement, u="root", p="secret")
        yield server
    finally:
        server.close()


def test_users_that_may_not(checked, guarded):
    password = 'password_file = "password"\n'
    code, said = checked(influx_at(guarded.url, "farm", f'username = "root"\n{password}'))
    assert (code, "good" in said) == (0, True)
    code, said = checked(influx_at(guarded.url, "farm", f'username = "reader"\n{password}'))
    assert (code, "read-only" in said) == (1, True)
    code, said = checked(influx_at(guarded.url, "farm", f'username = "nobody"\n{password}'))
    assert (code, "401" in said, "password is wrong" in said) == (1, True, True)
    code, said = checked(influx_at(guarded.url, "farm"))
    assert (code, "401" in said) == (1, True)


def two(ping: dict[str, str], query: Answer, write: Answer):
    """A server of version 2 that answers so."""

    def answer(request):
        if request.path == "/ping":
            return Answer(204, headers={"X-Influxdb-Version": "v2.7.10", **ping})
        return query if request.path == "/query" else write

    return answering(answer)


EMPTY = Answer(200, b'{"results":[{"statement_id":0}]}')


def test_of_version_2_a_missing_mapping_a_read_only_token_a_missing_bucket(checked):
    more = 'bucket = "farm"\norg = "county"\ntoken_file = "token"\nkind = "influxdb"\n'
    missing = Answer(404, b'{"code":"not found","message":"no dbrp mapping found"}')
    with two({}, missing, Answer(204)) as web:
        code, said = checked(f'{more}url = "{web.url}"')
    assert (code, "influx v1 dbrp create --default --db farm" in said) == (1, True)
    with two({}, EMPTY, Answer(403, b'{"message":"insufficient permissions"}')) as web:
        code, said = checked(f'{more}url = "{web.url}"')
    assert (code, "read-only" in said) == (1, True)
    with two({}, EMPTY, Answer(404, b'{"message":"bucket \\"farm\\" not found"}')) as web:
        code, said = checked(f'{more}url = "{web.url}"')
    assert (code, "create it, or name the right one" in said) == (1, True)
    with two({}, EMPTY, Answer(204)) as web:
        code, said = checked(f'{more}url = "{web.url}"')
    assert (code, "mapped to another bucket" in said) == (1, True)


def test_a_clock_that_is_wrong(checked, influx, name):
    influx.database(name)

    def answer(request):
        if request.path == "/ping":
            return Answer(204, headers={"Date": formatdate(time.time() + 3600, usegmt=True)})
        return None

    with answering(answer, influx.port) as web:
        code, said = checked(influx_at(web.url, name))
    assert (code, "its clock is +3600 s" in said or "its clock is +3599 s" in said) == (1, True)


def test_a_faulty_configuration_ends_with_2(checked):
    code, said = checked('kind = "influxdb"\nbucket = "b"\nurl = "influx:8086"')
    assert (code, "[store]: url:" in said) == (2, True)
