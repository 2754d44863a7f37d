"""Login, enrolment file and certificates, as they are read."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING

import pytest

from gateway import reconnect
from gateway.broker import BrokerLogin, Tls, certificate_alarms, read_enrolment, tls_context
from gateway.reconnect import reconnect_delay_s, renew_after_s
from tests.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.broker import Enrolment

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def end_ms(signed_days: float, authority: Authority) -> tuple[Tls, int]:
    """A login's TLS whose client certificate ends in so many days; and when that is."""
    ours = authority.sign("hl-001", ends=signed_days)
    tls = Tls(authority.pem, ours.certificate_pem, ours.key_pem)
    return tls, int(ours.certificate.not_valid_after_utc.timestamp() * 1000)


def enrolment(authority: Authority, **more: object) -> str:
    ours = authority.sign("hl-001")
    fields: dict[str, object] = {
        "format": 1,
        "role": "station",
        "code": "hl-001",
        "host": "mqtt.county.example",
        "port": 8883,
        "protocol": "5",
        "username": "hl-001",
        "password": "s3cret-w0rd",
        "ca": authority.pem,
        "certificate": ours.certificate_pem,
        "key": ours.key_pem,
        **more,
    }
    return "".join(
        f'{name} = """{value}"""\n' if isinstance(value, str) else f"{name} = {value}\n"
        for name, value in fields.items()
        if value is not None
    )


def read(tmp_path: Path, text: str, *, mode: int = 0o600) -> tuple[Enrolment | None, list[str]]:
    file = tmp_path / "hl-001.enrolment.toml"
    file.write_text(text, "utf-8")
    file.chmod(mode)
    faults: list[str] = []
    read = read_enrolment(file, faults)
    assert all(fault.startswith(str(file)) for fault in faults)
    return read, [fault.removeprefix(f"{file}: ") for fault in faults]


def test_an_enrolment_is_read_and_shows_no_secret(tmp_path: Path, authority: Authority) -> None:
    got, faults = read(tmp_path, enrolment(authority))
    assert faults == []
    assert got is not None
    assert (got.code, got.login.host, got.login.username) == (
        "hl-001",
        "mqtt.county.example",
        "hl-001",
    )
    assert got.login.password == "s3cret-w0rd"
    assert got.warnings == ()
    assert "s3cret" not in repr(got)
    assert "PRIVATE KEY" not in repr(got)


def test_the_enrolment_of_ingest_has_the_probe(tmp_path: Path, authority: Authority) -> None:
    text = enrolment(
        authority, role="ingest", code=None, probe_username="agri-probe", probe_password="p"
    )
    got, _ = read(tmp_path, text)
    assert got is not None
    assert got.probe is not None
    assert (got.probe.username, got.probe.password) == ("agri-probe", "p")
    assert got.probe.tls == Tls(authority.pem)


CASES = [
    ("newer", {"format": 2}, "format: 2 is from a newer server"),
    ("older", {"format": 0}, "format: 0 is none"),
    ("no host", {"host": None}, "host: is missing"),
    ("no ca", {"ca": None}, "ca: is missing"),
    ("unknown key", {"usrname": "x"}, "did you mean username?"),
    ("ca is no PEM", {"ca": "x"}, "ca: is no certificate in PEM"),
    ("certificate is no PEM", {"certificate": "x"}, "certificate: is no certificate in PEM"),
    ("key is no PEM", {"key": "x"}, "key: is no private key in PEM"),
    ("key alone", {"certificate": None}, "certificate: is missing"),
    ("station without code", {"code": None}, "code: stands in the file of a station"),
    ("protocol", {"protocol": "4"}, "protocol: Invalid enum value '4'"),
]


@pytest.mark.parametrize(
    ("change", "said"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_fault_of_an_enrolment(
    tmp_path: Path, authority: Authority, change: dict[str, object], said: str
) -> None:
    got, faults = read(tmp_path, enrolment(authority, **change))
    assert got is None
    [fault] = faults
    assert said in fault


def test_an_enrolment_from_a_newer_server_is_judged_by_nothing_else(
    tmp_path: Path, authority: Authority
) -> None:
    _, faults = read(tmp_path, enrolment(authority, format=2, ca=None, novelty="x"))
    [fault] = faults
    assert "update it" in fault


def test_all_faults_of_an_enrolment_come_at_once(tmp_path: Path, authority: Authority) -> None:
    _, faults = read(tmp_path, enrolment(authority, port=0, username="", role="boss"))
    assert [fault.split(":")[0] for fault in faults] == ["role", "port", "username"]


def test_a_key_that_does_not_fit_the_certificate(tmp_path: Path, authority: Authority) -> None:
    other = authority.sign("hl-001")
    _, faults = read(tmp_path, enrolment(authority, key=other.key_pem))
    assert "key: does not fit the certificate; both must be of one pair" in faults


def test_no_enrolment_file_and_one_that_is_no_toml(tmp_path: Path) -> None:
    faults: list[str] = []
    assert read_enrolment(tmp_path / "none", faults) is None
    assert "no such file" in faults[0]
    assert "not TOML" in read(tmp_path, "-----BEGIN")[1][0]


def test_an_enrolment_that_others_can_read_is_a_warning(
    tmp_path: Path, authority: Authority
) -> None:
    got, faults = read(tmp_path, enrolment(authority), mode=0o644)
    assert faults == []
    assert got is not None
    assert "chmod 600" in got.warnings[0]


@pytest.mark.parametrize(
    ("begins", "ends", "said"), [(-9, -1, "expired on"), (1, 9, "is not valid before")]
)
def test_a_certificate_out_of_its_time_is_a_warning(
    tmp_path: Path, authority: Authority, begins: float, ends: float, said: str
) -> None:
    ours = authority.sign("hl-001", begins=begins, ends=ends)
    text = enrolment(authority, certificate=ours.certificate_pem, key=ours.key_pem)
    got, faults = read(tmp_path, text)
    assert faults == []
    assert got is not None
    assert said in got.warnings[0]


# ---- TLS


def test_the_context_trusts_only_the_ca_and_checks_the_name(authority: Authority) -> None:
    ours = authority.sign("hl-001")
    context = tls_context(Tls(authority.pem, ours.certificate_pem, ours.key_pem))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert [dict(one[0] for one in ca["subject"]) for ca in context.get_ca_certs()] == [  # type: ignore[misc, index, union-attr]
        {"commonName": "test CA"}
    ]


def test_the_key_reaches_ssl_without_a_file(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    ours = authority.sign("hl-001")
    tls_context(Tls(authority.pem, ours.certificate_pem, ours.key_pem))
    assert list(tmp_path.iterdir()) == []


# ---- alarms


@pytest.mark.parametrize(
    ("days", "alarm"),
    [
        (30.1, None),
        (29.9, "certificate_30d"),
        (7.1, "certificate_30d"),
        (6.9, "certificate_7d"),
        (1.1, "certificate_7d"),
        (0.9, "certificate_1d"),
        (-0.1, "certificate_expired"),
    ],
)
def test_s2_certificate_alarms(authority: Authority, days: float, alarm: str | None) -> None:
    tls, end = end_ms(365, authority)
    [*got] = certificate_alarms(tls, int(end - days * DAY_MS))
    assert [one.name for one in got] == ([alarm] if alarm else [])
    assert all(one.certificate == "client certificate" for one in got)


def test_s2_alarms_of_the_ca_and_of_the_broker() -> None:
    short = Authority(days=5)
    tls = Tls(short.pem)
    ends = int(short.sign("x", ends=5).certificate.not_valid_after_utc.timestamp() * 1000)
    now = ends - 5 * DAY_MS
    got = certificate_alarms(tls, now, now + DAY_MS // 2)
    assert [(one.certificate, one.name) for one in got] == [
        ("ca", "certificate_7d"),
        ("broker's certificate", "certificate_1d"),
    ]


def test_s2_a_session_lives_a_day_at_most_and_no_longer_than_a_certificate(
    authority: Authority,
) -> None:
    rng = random.Random(1)
    tls, end = end_ms(365, authority)
    now = end - 100 * DAY_MS
    assert 0.9 * 86_400 <= renew_after_s(now, None, None, rng) <= 86_400
    assert renew_after_s(now, tls, None, rng) <= 86_400
    for certificate, peer in ((tls, None), (None, end)):
        # A new session before the end, so that a certificate renewed meanwhile is taken up without a gap …
        assert 10_000 - 3_600 <= renew_after_s(end - 10_000_000, certificate, peer, rng) < 10_000
        # … and never one beyond it.
        assert renew_after_s(end - 60_000, certificate, peer, rng) == 60.0
        # It ended between the handshake and now.
        assert renew_after_s(end + 1, certificate, peer, rng) == 1.0
        # Our clock is wrong, or the handshake would have failed: no session after session.
        assert renew_after_s(end + DAY_MS, certificate, peer, rng) > reconnect.RENEW_AFTER_S / 2


def test_a_county_of_500_does_not_return_in_one_second() -> None:
    for failures in (1, 2, 5):
        moments = sorted(
            reconnect_delay_s(failures, random.Random(n), first_s=5.0, max_s=60.0)
            for n in range(500)
        )
        busiest = max(sum(1 for m in moments if at <= m < at + 1) for at in moments)
        assert busiest <= 150
        assert moments[-1] <= 60.0


def test_login_shows_no_secret() -> None:
    assert "s3cret" not in repr(BrokerLogin("h", 1, "u", "s3cret", Tls("ca", "crt", "s3cret")))
