"""How ``server.toml`` names the broker."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from dashboards import server_config
from dashboards.serve import catalogue_of
from drivers.errors import ConfigError
from gateway.broker import Tls
from ingest.judge.catalogue.catalogue import standard_catalogue
from tests.certificates import Authority
from tests.gateway.test_broker import enrolment

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '[server]\ndata_dir = "data"\n[registry]\nfile = "registry.toml"\n[broker]\n'
PLAIN = 'host = "h"\nport = 1883\n'


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def load(tmp_path: Path, broker: str) -> server_config.ServerConfig:
    file = tmp_path / "server.toml"
    file.write_text(HEAD + broker, "utf-8")
    return server_config.load(file)


def faults(tmp_path: Path, broker: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, broker)
    return list(caught.value.faults)


def test_an_anonymous_broker_needs_no_probe(tmp_path: Path) -> None:
    read = load(tmp_path, PLAIN)
    assert (read.probe, read.open_broker, read.broker.protocol) == (None, False, "5")


def test_a_username_needs_tls_and_the_probe(tmp_path: Path) -> None:
    found = faults(tmp_path, PLAIN + 'username = "agri_ingest"\n')
    assert len(found) == 2
    assert "ca_file: is missing" in found[0]
    assert "probe_username: is missing" in found[1]


def test_open_says_that_there_is_no_access_control(tmp_path: Path) -> None:
    read = load(tmp_path, PLAIN + 'username = "u"\nallow_plaintext = true\nopen = true\n')
    assert (read.probe, read.open_broker) == (None, True)


def test_the_probe_has_its_own_account_and_no_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "ca.crt").write_text(authority.pem)
    authority.sign("agri_ingest").write(tmp_path, "ingest")
    (tmp_path / "probe").write_text("p\n")
    (tmp_path / "probe").chmod(0o600)
    read = load(
        tmp_path,
        PLAIN + 'username = "agri_ingest"\nca_file = "ca.crt"\ncertificate_file = "ingest.crt"\n'
        'key_file = "ingest.key"\nprobe_username = "agri-probe"\nprobe_password_file = "probe"\n',
    )
    assert read.probe is not None
    assert (read.probe.username, read.probe.password) == ("agri-probe", "p")
    assert read.probe.tls == Tls(authority.pem)
    assert read.broker.tls is not None
    assert read.broker.tls.certificate_pem
    assert read.warnings == ()


def ingest(authority: Authority, **more: object) -> str:
    fields: dict[str, object] = {"role": "ingest", "code": None, "probe_username": "agri-probe"}
    return enrolment(authority, **(fields | more))


def test_an_enrolment_file_says_it_all(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "ingest.enrolment.toml").write_text(ingest(authority))
    read = load(tmp_path, 'enrolment = "ingest.enrolment.toml"\n')
    assert read.broker.host == "mqtt.county.example"
    assert read.probe is not None
    assert read.probe.username == "agri-probe"
    [warning] = read.warnings
    assert "chmod 600" in warning


def test_an_enrolment_of_a_station_or_without_probe_is_a_fault(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "e.toml").write_text(enrolment(authority))
    assert "is of station hl-001" in faults(tmp_path, 'enrolment = "e.toml"\n')[0]
    (tmp_path / "e.toml").write_text(ingest(authority, probe_username=None))
    assert "probe_username: is missing" in faults(tmp_path, 'enrolment = "e.toml"\n')[0]
    assert load(tmp_path, 'enrolment = "e.toml"\nopen = true\n').open_broker


def test_enrolment_and_host_exclude_each_other(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "e.toml").write_text(ingest(authority))
    assert any("host" in fault for fault in faults(tmp_path, PLAIN + 'enrolment = "e.toml"\n'))


def test_the_countys_own_tables_are_found_beside_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, PLAIN).standards is None
    read = load(tmp_path, PLAIN + '[judge]\nstandards = "limits"\n')
    assert read.standards == tmp_path / "limits"
    assert catalogue_of(load(tmp_path, PLAIN)) is standard_catalogue()


def test_faults_of_the_countys_own_tables_are_faults_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "site_limits.csv").write_text("x\n")
    config = load(tmp_path, PLAIN + '[judge]\nstandards = "limits"\n')
    with pytest.raises(ConfigError) as caught:
        catalogue_of(config)
    [fault] = caught.value.faults
    assert fault.startswith(f"{tmp_path / 'limits'}: site_limits.csv:1: the columns must be")


def test_a_postgresql_has_its_password_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("s3cret\n")
    (tmp_path / "word").chmod(0o600)
    url = "postgresql+psycopg://agrigate@127.0.0.1/agrigate"
    table = f'[operational]\nurl = "{url}"\npassword_file = "word"\n'
    read = load(tmp_path, PLAIN + table).operational
    assert (read.url, read.password) == (url, "s3cret")
    assert "s3cret" not in repr(read)
    assert load(tmp_path, PLAIN).operational.url == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://a:b@127.0.0.1/agrigate", "holds a password"),
        ("postgresql://a@127.0.0.1/agrigate", "names no database; write postgresql+psycopg://"),
        ("postgresql+psycopg://a@127.0.0.1", "names no database"),
        ("postgresql+psycopg://a@127.0.0.1:x/b", "Port could not be cast"),
    ],
)
def test_a_wrong_url_is_named_in_one_line(tmp_path: Path, url: str, said: str) -> None:
    (fault,) = faults(tmp_path, PLAIN + f'[operational]\nurl = "{url}"\n')
    assert "[operational]: url: " in fault
    assert said in fault


def test_deadlines_and_calendar_are_read(tmp_path: Path) -> None:
    (tmp_path / "holidays.toml").write_text("[calendar]\nholidays = [2026-11-25]\n", "utf-8")
    table = '[deadlines]\ncalendar = "holidays.toml"\nlengths = { retest = "5 wd" }\n'
    read = load(tmp_path, PLAIN + table).deadlines
    assert str(read.length("retest", "farm")) == "5 wd"
    assert not read.calendar.day(date(2026, 11, 25)).works


def test_wrong_deadlines_are_refused_all_at_once(tmp_path: Path) -> None:
    table = '[deadlines]\ncalendar = "nowhere.toml"\nlengths = { lunch = "1 h" }\n'
    found = faults(tmp_path, PLAIN + table)
    assert len(found) == 2
    assert "lunch: no such clock" in found[0]
    assert "nowhere.toml cannot be read" in found[1]
