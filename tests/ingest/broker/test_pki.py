"""The private authority: what it issues verifies, what it revokes is listed, and it is never made anew by accident."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509 import verification

from ingest.broker.pki import (
    Authority,
    PkiError,
    belong_together,
    hosts_of,
    not_after_ms,
    serial_of,
)


def loaded(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def test_it_is_made_once_and_read_again(tmp_path):
    first = Authority.open(tmp_path / "pki")
    assert Authority.open(tmp_path / "pki").ca_pem == first.ca_pem
    assert stat.S_IMODE((tmp_path / "pki" / "ca.key").stat().st_mode) == 0o600
    years = (first.expires_ms / 1000 - datetime.now(UTC).timestamp()) / 86_400 / 365.25
    assert 9.9 < years < 10.1
    assert Authority.open(tmp_path / "other").ca_pem != first.ca_pem


def test_a_servers_certificate_is_good_for_its_names_only(tmp_path):
    authority = Authority.open(tmp_path)
    certificate, key = authority.issue_server(["mqtt.county.example", "10.0.0.1", "fd00::1"])
    assert hosts_of(certificate) == {"mqtt.county.example", "10.0.0.1", "fd00::1"}
    assert belong_together(certificate, key)
    assert authority.issued(certificate)
    store = verification.Store([loaded(authority.ca_pem)])
    builder = verification.PolicyBuilder().store(store)
    good = builder.build_server_verifier(x509.DNSName("mqtt.county.example"))
    assert good.verify(loaded(certificate), [])
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example")).verify(loaded(certificate), [])
    with pytest.raises(ValueError, match="host name"):
        authority.issue_server([])


def test_a_clients_certificate_bears_its_name_and_cannot_serve(tmp_path):
    authority = Authority.open(tmp_path)
    certificate, key, serial = authority.issue_client("hl-001", days=30)
    assert loaded(certificate).subject.rfc4514_string() == "CN=hl-001"
    assert serial == serial_of(certificate)
    assert belong_together(certificate, key)
    end = datetime.now(UTC) + timedelta(days=30)
    assert abs(not_after_ms(certificate) / 1000 - end.timestamp()) < 60
    [usage] = loaded(certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH
    assert hosts_of(certificate) == set()


def test_what_is_revoked_stays_revoked(tmp_path):
    authority = Authority.open(tmp_path)
    serials = [authority.issue_client(f"hl-00{n}")[2] for n in (1, 2, 3)]
    authority.revoke(serials[0])
    Authority.open(tmp_path).revoke(serials[1])
    authority.revoke(serials[0])
    crl = x509.load_pem_x509_crl(authority.crl_pem().encode())
    assert {f"{one.serial_number:x}" for one in crl} == set(serials[:2]) == authority.revoked()
    assert crl.is_signature_valid(loaded(authority.ca_pem).public_key())
    assert crl.next_update_utc >= loaded(authority.ca_pem).not_valid_after_utc
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    again = x509.load_pem_x509_crl(authority.crl_pem().encode())
    assert again.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number


def test_a_strangers_certificate_is_not_ours(tmp_path):
    certificate, key = Authority.open(tmp_path / "a").issue_server(["x.example"])
    other, other_key = Authority.open(tmp_path / "b").issue_server(["x.example"])
    assert not Authority.open(tmp_path / "a").issued(other)
    assert not Authority.open(tmp_path / "a").issued("nothing")
    assert not belong_together(certificate, other_key)
    assert not belong_together(certificate, "")
    assert key != other_key


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ca.key", None, "is missing"),
        ("ca.key", "", "no private key"),
        ("ca.crt", "garbage", "no certificate"),
        ("crl.pem", "garbage", "no revocation list"),
    ],
)
def test_a_damaged_authority_is_an_error_and_nothing_is_made_in_its_place(
    tmp_path, file, content, said
):
    Authority.open(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    with pytest.raises(PkiError, match=said) as caught:
        Authority.open(tmp_path).crl_pem()
    assert str(tmp_path / file) in str(caught.value)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_cut_off_after_the_key_it_goes_on_with_that_key(tmp_path):
    Authority.open(tmp_path)
    key = (tmp_path / "ca.key").read_bytes()
    for name in ("ca.crt", "crl.pem"):
        (tmp_path / name).unlink()
    authority = Authority.open(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == key
    assert authority.issued(authority.issue_server(["x.example"])[0])
