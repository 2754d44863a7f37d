"""Enrolling a station over HTTP: what is registered, what is answered once, what is kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from gateway.broker import read_enrolment
from ingest.broker.pki import Authority
from ingest.registry.enrolment import Site
from ingest.tables import broker_credentials, stations
from tests.conftest import databases  # noqa: F401 - on both engines

STATION = "hl-001"
BODY = {"code": STATION, "name": "一号站", "region_code": "640122"}


@pytest.fixture
def pki(tmp_path):
    return tmp_path / "pki"


@pytest.fixture
async def enrol(county, connect, key, pki):
    """Return a call of ``POST /stations``, of a server that has a [deploy] table."""
    site = Site("mqtt.county.example", 8883, lambda: Authority.open(pki))
    async with connect(county.app(site=site)) as client:

        async def post(api_key=key, **changes):
            headers = {"X-API-Key": api_key} if api_key else {}
            return await client.post("/api/v1/stations", json=BODY | changes, headers=headers)

        yield post


def rows(county, table):
    with county.operational.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def read(tmp_path, response):
    file = tmp_path / "answer.toml"
    file.write_text(response.json()["enrolment"], "utf-8")
    file.chmod(0o600)
    faults: list[str] = []
    enrolment = read_enrolment(file, faults)
    assert faults == []
    return enrolment


async def test_a_new_station_is_registered_and_its_file_answered(county, enrol, tmp_path):
    county.add_place()
    seen = county.sources.wake.generation
    more = {"name_en": "One", "station_type": "lab", "base_id": "b1", "lon": 106.5, "lat": 38}
    response = await enrol(**more)
    assert response.status_code == 200
    assert rows(county, stations) == [BODY | more]
    enrolment = read(tmp_path, response)
    assert (enrolment.role, enrolment.code) == ("station", STATION)
    login = enrolment.login
    assert (login.host, login.port, login.username) == ("mqtt.county.example", 8883, STATION)
    assert login.tls.certificate_pem == ""
    assert county.sources.wake.generation != seen
    assert response.headers["cache-control"] == "no-store"


async def test_the_password_is_answered_once_and_neither_kept_nor_logged(county, enrol, tmp_path):
    with capture_logs() as logs:
        response = await enrol(certificate=True)
    login = read(tmp_path, response).login
    (tmp_path / "answer.toml").unlink()
    [line] = [line for line in logs if line["event"] == "station_enrolled"]
    assert line["actor"].startswith("county office")
    for secret in (login.password, login.tls.key_pem.splitlines()[1]):
        assert secret not in str(logs)
        for file in tmp_path.rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file
    [credential] = rows(county, broker_credentials)
    assert credential["password_hash"].startswith("$7$101$")
    again = await enrol()
    assert again.status_code == 409
    assert "renew" in again.json()["detail"]
    assert rows(county, broker_credentials) == [credential]


async def test_a_station_of_the_registry_file_gets_a_credential_and_stays_as_it_is(county, enrol):
    county.add_station(name="从文件")
    before = rows(county, stations)
    response = await enrol(name="", region_code="")
    assert response.status_code == 200
    assert rows(county, stations) == before
    assert [row["station"] for row in rows(county, broker_credentials)] == [STATION]


async def test_a_renewal_ends_the_credential_before(county, enrol, pki):
    first = (await enrol(certificate=True)).json()
    second = (await enrol(certificate=True, renew=True)).json()
    assert (first["renewed"], second["renewed"]) == (False, True)
    assert first["enrolment"] != second["enrolment"]
    [credential] = rows(county, broker_credentials)
    assert credential["certificate_serial"] == second["certificate_serial"]
    assert Authority.open(pki).revoked() == {first["certificate_serial"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": "HL/1"}, "code"),
        ({"code": "hl"}, "code"),
        ({"code": "-hl-001"}, "code"),
        ({"name": ""}, "name: is missing"),
        ({"name": " "}, "name: is missing"),
        ({"region_code": ""}, "region_code: is missing"),
        ({"region_code": "6401"}, "region_code"),
        ({"base_id": "b2"}, "no base 'b2'"),
        ({"lon": 181.0}, "lon"),
        ({"lat": "38"}, "lat"),
        ({"certificate": "yes"}, "certificate"),
        ({"password": "mine"}, "password"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_made(county, enrol, changes, said):
    county.add_place()
    response = await enrol(**changes)
    assert response.status_code == 422
    assert said in response.json()["detail"]
    assert rows(county, stations) == rows(county, broker_credentials) == []


async def test_a_name_of_the_servers_own_is_no_station(county, enrol):
    response = await enrol(code="agri-probe")
    assert response.status_code == 409
    assert rows(county, stations) == []


async def test_without_an_api_key_nobody_is_enrolled(county, enrol):
    assert (await enrol(api_key=None)).status_code == 401
    assert rows(county, stations) == []


async def test_a_server_that_does_not_know_its_brokers_name_says_so(county, client, key):
    response = await client.post("/api/v1/stations", json=BODY, headers={"X-API-Key": key})
    assert response.status_code == 409
    assert "[deploy]" in response.json()["detail"]
    assert rows(county, stations) == []


async def test_a_damaged_authority_is_named_and_nothing_is_made(county, enrol, pki):
    pki.mkdir()
    (pki / "ca.crt").write_text("?")
    response = await enrol()
    assert response.status_code == 409
    assert "ca.crt" in response.json()["detail"]
    assert rows(county, stations) == []
