"""``agrigate deploy mosquitto``: what it writes, what it keeps, what it refuses, and what a reload then does."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest
from paho.mqtt.enums import MQTTErrorCode

from dashboards.serve import only_one
from ingest.broker import mosquitto as files
from ingest.broker.pki import Authority, hosts_of, serial_of
from tests.conftest import until
from tests.ingest.broker.deployed import Client, County, let_in

FILES = ("agrigate.acl", "agrigate.conf", "agrigate.passwd", "ca.crt", "server.crt", "server.key")


def contents(county: County) -> dict[str, bytes]:
    return {name: (county.out / name).read_bytes() for name in FILES}


def conf_of(county: County) -> dict[str, str]:
    lines = (county.out / "agrigate.conf").read_text("utf-8").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {key: value for key, value in pairs}  # noqa: C416 - each key once, or the test is wrong


def test_before_the_first_start_of_a_server_it_works_offline(county):
    said = county.deploy()
    conf = conf_of(county)
    assert conf["listener"] == str(county.port)
    assert (conf["allow_anonymous"], conf["max_packet_size"]) == ("false", "262144")
    assert (conf["tls_version"], conf["require_certificate"]) == ("tlsv1.2", "false")
    for key in ("cafile", "certfile", "keyfile", "password_file", "acl_file"):
        assert conf[key].startswith(f"{county.out}/")
    for name in ("agrigate.passwd", "server.key", "agrigate.acl"):
        assert stat.S_IMODE((county.out / name).stat().st_mode) == 0o600
    secret = county.data / "ingest.enrolment.toml"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert f"include_dir {county.out}" in said
    assert f'enrolment = "{secret}"' in said
    enrolment = county.ingest
    assert enrolment.probe is not None
    assert (enrolment.login.username, enrolment.probe.username) == ("agri_ingest", "agri-probe")
    passwd = (county.out / "agrigate.passwd").read_text()
    assert [line.partition(":")[0] for line in passwd.splitlines()] == ["agri-probe", "agri_ingest"]
    assert all(line.partition(":")[2].startswith("$7$") for line in passwd.splitlines())


def test_a_deploy_without_changes_changes_nothing(county):
    county.enrol("hl-001")
    county.deploy()
    before, login = contents(county), county.ingest
    said = county.deploy()
    assert "nothing but the revocation list written" in said
    assert "restart" not in said
    assert contents(county) == before
    assert county.ingest == login


def test_it_says_who_came_and_who_went(county):
    county.enrol("hl-001")
    assert "stations let in: hl-001\n" in county.deploy()
    county.enrol("hl-002")
    county.remove("hl-001")
    said = county.deploy()
    assert "stations let in: hl-002\n" in said
    assert "stations let in no more: hl-001\n" in said
    assert "reload mosquitto" in said
    assert "hl-001" not in (county.out / "agrigate.passwd").read_text()


def test_the_servers_certificate_is_new_only_when_it_must_be(county, monkeypatch):
    county.deploy()
    first = (county.out / "server.crt").read_text()
    said = county.deploy("--host", "localhost", "--host", "10.1.2.3")
    second = (county.out / "server.crt").read_text()
    assert "new: server.crt" in said
    assert hosts_of(second) == {"localhost", "10.1.2.3"}
    assert first != second
    monkeypatch.setattr(files, "RENEW_DAYS", 826)
    said = county.deploy("--host", "10.1.2.3", "--host", "localhost")
    assert "new: agri_ingest, server.crt" in said
    assert (county.out / "server.crt").read_text() != second


def test_passwords_of_the_server_are_kept_until_they_are_renewed(county):
    county.deploy()
    before = county.ingest
    county.deploy("--port", str(county.port + 1))
    assert county.ingest.login.port == county.port + 1
    assert county.ingest.login.password == before.login.password
    said = county.deploy("--renew-ingest")
    after = county.ingest
    assert after.login.password != before.login.password
    assert after.probe != before.probe
    assert "restart agrigate serve" in said
    assert before.login.tls is not None
    revoked = Authority.open(county.data / "pki").revoked()
    assert serial_of(before.login.tls.certificate_pem) in revoked


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_it_did_not_write_is_not_written_over(county, name):
    county.out.mkdir()
    (county.out / name).write_text("mine")
    assert f"{county.out / name}: is not ours; move it away" in county.refused()
    assert [file.name for file in county.out.iterdir()] == [name]
    assert (county.out / name).read_text() == "mine"


def test_a_file_that_was_changed_by_hand_is_not_written_over(county):
    county.deploy()
    file = county.out / "agrigate.acl"
    file.write_text(f"{file.read_text()}# a word of mine\n")
    assert f"{file}: was changed since the last deploy" in county.refused()
    assert file.read_text().endswith("# a word of mine\n")
    file.unlink()
    county.deploy()


def test_cut_off_between_two_files_the_next_deploy_goes_on(county, monkeypatch):
    county.deploy()
    county.enrol("hl-001")
    write, count = files.pki.write_atomically, 0

    def dying(file, content, mode=0o644):
        nonlocal count
        count += file.parent == county.out
        if count > 4:
            raise OSError(28, "No space left on device", str(file))
        write(file, content, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files.pki, "write_atomically", dying)
        assert "No space left on device" in county.refused("--max-connections", "7")
    assert "stations let in: hl-001\n" in county.deploy()


def test_what_is_wrong_is_said_in_one_line(county, tmp_path):
    with only_one(county.data):
        assert "another server uses it" in county.refused()
    assert "--host localhost is missing" in county.refused("--host", "other.example")
    assert "no paths with blanks" in county.refused("--persistence", str(tmp_path / "a b"))
    county.deploy()
    (county.data / "ingest.enrolment.toml").write_text("format = 9\n")
    assert "--renew-ingest" in county.refused()
    county.deploy("--renew-ingest")
    (county.data / "pki" / "ca.key").unlink()
    assert "ca.key: is missing" in county.refused()


def test_persistence_is_off_or_where_it_was_said(county, tmp_path):
    county.deploy()
    assert conf_of(county)["persistence"] == "false"
    said = county.deploy("--persistence", str(tmp_path))
    assert "restart mosquitto" in said
    conf = conf_of(county)
    assert conf["persistence"] == "true"
    assert conf["persistence_location"] == f"{tmp_path}/"


# ---------------------------------------------------------------- what the broker does with it


@pytest.mark.mosquitto
def test_the_configuration_can_be_included_beside_debians(county, tmp_path):
    county.deploy()
    included = tmp_path / "conf.d"
    included.mkdir()
    (included / "agrigate.conf").write_text(county.conf().partition("\n")[2])
    (tmp_path / "lib").mkdir()
    debians = f"user {county.out.owner()}\npersistence true\npersistence_location {tmp_path}/lib/\n"
    county.start(f"{debians}include_dir {included}\n")
    assert county.probe()() is None


@pytest.mark.mosquitto
def test_a_station_that_is_added_is_let_in_after_a_reload_and_one_removed_is_refused(county):
    one = county.enrol("hl-001")
    county.deploy()
    county.start()
    assert let_in(one)
    stays = Client(one, client_id="stays")
    assert stays.connect()
    two = county.enrol("hl-002")
    assert not let_in(two)
    county.remove("hl-001")
    county.deploy()
    county.reload()
    until(lambda: let_in(two))
    assert not let_in(one)
    until(lambda: not stays.client.is_connected())
    stays.close()


@pytest.mark.mosquitto
def test_s1_without_a_certificate_or_with_a_revoked_one_nobody_gets_in(county):
    login = county.enrol("hl-001", certificate=True)
    county.deploy("--require-certificate")
    county.start()
    assert county.probe()() is None
    assert let_in(login)
    assert login.tls is not None
    assert not let_in(replace(login, tls=replace(login.tls, certificate_pem="", key_pem="")))
    stolen = login
    renewed = county.enrol("hl-001", certificate=True)
    county.deploy("--require-certificate")
    county.reload()
    until(lambda: let_in(renewed))
    assert not let_in(replace(renewed, tls=stolen.tls))
    stranger = Authority.open(county.directory / "stranger").issue_client("hl-001")
    assert not let_in(
        replace(renewed, tls=replace(login.tls, certificate_pem=stranger[0], key_pem=stranger[1]))
    )
    assert county.probe()() is None


@pytest.mark.mosquitto
def test_s1_a_new_server_certificate_is_shown_after_a_reload(county):
    county.deploy()
    county.start()
    client = Client(county.ingest.login)
    assert client.connect()
    before = (county.out / "server.crt").read_text()
    county.deploy("--host", "localhost", "--host", "127.0.0.1")
    county.reload()
    login = replace(county.ingest.login, host="127.0.0.1")
    until(lambda: let_in(login))
    assert (county.out / "server.crt").read_text() != before
    assert client.client.publish("agri/v1/hl-001/ack", b"x").rc is MQTTErrorCode.MQTT_ERR_SUCCESS
    client.close()
