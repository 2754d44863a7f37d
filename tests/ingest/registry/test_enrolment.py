"""The enrolment file: what the server writes is what the agent reads; who gets one."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import BrokerLogin, Enrolment, Tls, read_enrolment
from ingest import tables
from ingest.broker.pki import Authority
from ingest.operational import Operational
from ingest.registry import credentials
from ingest.registry.credentials import Credential
from ingest.registry.enrolment import (
    EnrolmentError,
    Site,
    encode_enrolment,
    enrol_station,
)

HOST = "mqtt.county.example"
NOW = 1_777_600_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.open(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def site(authority):
    return Site(HOST, 8883, lambda: authority)


@pytest.fixture
def operational(tmp_path, databases):
    operational = Operational(databases.url(tmp_path / "operational.db"))
    operational.migrate()
    with operational.write() as db:
        for code in ("hl-001", "agri-probe"):
            db.execute(
                sa.insert(tables.stations).values(code=code, name=code, region_code="640122")
            )
    yield operational
    operational.close()


def read(directory, text):
    file = directory / "x.enrolment.toml"
    file.write_text(text, "utf-8")
    file.chmod(0o600)
    faults: list[str] = []
    enrolment = read_enrolment(file, faults)
    assert faults == []
    return enrolment


def enrol(operational, site, code="hl-001", *, certificate=False, renew=False):
    with operational.write() as db:
        return enrol_station(db, site, code, certificate=certificate, renew=renew, now_ms=NOW)


def stored(operational, code="hl-001"):
    with operational.read() as db:
        return credentials.find(db, code)


@pytest.mark.parametrize("certificate", [False, True])
def test_what_is_written_is_what_the_agent_reads(operational, site, tmp_path, certificate):
    enrolled = enrol(operational, site, certificate=certificate)
    enrolment = read(tmp_path, encode_enrolment(enrolled.enrolment))
    assert enrolment == enrolled.enrolment
    assert (enrolment.role, enrolment.code, enrolment.warnings) == ("station", "hl-001", ())
    assert (enrolment.login.host, enrolment.login.port) == (HOST, 8883)
    assert enrolment.login.username == "hl-001"
    assert bool(enrolment.login.tls.certificate_pem) is certificate


def test_the_file_of_ingest_is_read_as_it_was_written(authority, tmp_path):
    tls = Tls(authority.ca_pem, *authority.issue_client("agri_ingest")[:2])
    login = BrokerLogin(HOST, 8883, "agri_ingest", "geheim", tls)
    probe = BrokerLogin(HOST, 8883, "agri-probe", "auch geheim", Tls(authority.ca_pem))
    enrolment = Enrolment("ingest", "", login, probe)
    assert read(tmp_path, encode_enrolment(enrolment)) == enrolment


@given(password=st.text(min_size=1).filter(lambda text: text.isprintable() or "\x7f" in text))
def test_any_password_survives(authority, tmp_path_factory, password):
    login = BrokerLogin(HOST, 1, "hl-001", password, Tls(authority.ca_pem), "3.1.1")
    directory = tmp_path_factory.mktemp("e")
    read_back = read(directory, encode_enrolment(Enrolment("station", "hl-001", login)))
    assert (read_back.login.password, read_back.login.protocol) == (password, "3.1.1")


def test_the_password_is_kept_as_a_hash_only(operational, site, tmp_path):
    enrolled = enrol(operational, site)
    password = enrolled.enrolment.login.password
    assert password not in repr(enrolled)
    credential = stored(operational)
    assert password not in repr(credential)
    salt = credential.password_hash.split("$")[3]
    assert len(salt) == 16
    for file in tmp_path.iterdir():
        assert password.encode() not in file.read_bytes()


def test_a_station_with_a_credential_gets_another_only_when_it_is_renewed(
    operational, site, authority
):
    first = enrol(operational, site, certificate=True)
    before = stored(operational)
    assert before.certificate_serial == first.certificate_serial != ""
    with pytest.raises(EnrolmentError, match="has a credential already; renew"):
        enrol(operational, site)
    assert stored(operational) == before
    assert first.certificate_serial not in authority.revoked()
    second = enrol(operational, site, renew=True)
    assert second.renewed
    assert second.enrolment.login.password != first.enrolment.login.password
    assert stored(operational).password_hash != before.password_hash
    assert stored(operational).certificate_serial == ""
    assert first.certificate_serial in authority.revoked()


def test_after_a_revocation_no_renewal_need_be_asked_for(operational, site):
    enrol(operational, site)
    with operational.write() as db:
        credentials.revoke(db, "hl-001", NOW)
    assert not enrol(operational, site).renewed
    assert stored(operational).revoked_ms is None


def test_what_fails_leaves_the_credential_that_was(operational, site):
    enrol(operational, site, certificate=True)
    before = stored(operational)

    class Broken:
        ca_pem = site.authority().ca_pem

        def issue_client(self, name, days=825):
            return site.authority().issue_client(name, days)

        def revoke(self, _serial):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        enrol(operational, Site(HOST, 8883, Broken), renew=True)
    assert stored(operational) == before


def test_names_of_the_servers_own_are_no_stations(operational, site):
    with pytest.raises(EnrolmentError, match="of the server's own"):
        enrol(operational, site, "agri-probe", renew=True)
    with operational.write() as db:
        credentials.put(
            db, Credential(username="hl-001", station=None, password_hash="h", created_ms=1)
        )
    with pytest.raises(EnrolmentError, match="of the server's own"):
        enrol(operational, site, renew=True)
