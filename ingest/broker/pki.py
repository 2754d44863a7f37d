"""A private certificate authority in one directory: ``ca.key``, ``ca.crt``, ``crl.pem``.

ECDSA P-256 throughout. The server and ``agrigate deploy`` may use one directory at once: each change holds ``lock``.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CA_DAYS = 3653
LEAF_DAYS = 825  # verifiers of some systems take no longer one
BACKDATED = timedelta(days=1)  # a board whose clock is a little behind
SECRET, PUBLIC = 0o600, 0o644

PEM = serialization.Encoding.PEM


class PkiError(Exception):
    """The authority cannot be read or written; the message names the file and what to do."""


def write_atomically(file: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Put ``content`` in place of ``file`` in one step, durably; nobody ever sees a part of it."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.rename(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Authority:
    """Issues and revokes certificates of one installation."""

    def __init__(
        self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self._directory = directory
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, directory: Path) -> Authority:
        """Return the authority in ``directory``, made when there is none; raise PkiError when it is damaged."""
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(directory):
                if not (directory / "ca.crt").exists():
                    _make(directory)
                certificate, key = _read(directory)
                if not (directory / "crl.pem").exists():
                    _write_crl(directory, certificate, key, [])
        except OSError as exc:
            raise PkiError(f"{exc.filename or directory}: {exc.strerror}") from exc
        return cls(directory, certificate, key)

    @property
    def ca_pem(self) -> str:
        """The certificate that clients trust."""
        return self._certificate.public_bytes(PEM).decode()

    @property
    def expires_ms(self) -> int:
        """When the authority's own certificate ends, UTC milliseconds."""
        return int(self._certificate.not_valid_after_utc.timestamp() * 1000)

    def issue_server(self, hosts: Sequence[str], days: int = LEAF_DAYS) -> tuple[str, str]:
        """Return (certificate, key) as PEM for a server with these names and addresses."""
        if not hosts:
            raise ValueError("a server's certificate needs a host name")
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        certificate, key, _ = self._issue(hosts[0], days, ExtendedKeyUsageOID.SERVER_AUTH, names)
        return certificate, key

    def issue_client(self, name: str, days: int = LEAF_DAYS) -> tuple[str, str, str]:
        """Return (certificate, key, serial) for the client ``name``; the serial is in hexadecimal."""
        return self._issue(name, days, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issued(self, certificate_pem: str) -> bool:
        """Tell whether this authority signed the certificate."""
        try:
            x509.load_pem_x509_certificate(certificate_pem.encode()).verify_directly_issued_by(
                self._certificate
            )
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def revoke(self, serial: str) -> None:
        """Put a certificate on the revocation list, for good; once is enough."""
        with _locked(self._directory):
            revoked = _revoked(self._directory)
            if int(serial, 16) not in {one.serial_number for one in revoked}:
                entry = x509.RevokedCertificateBuilder(int(serial, 16), datetime.now(UTC)).build()
                _write_crl(self._directory, self._certificate, self._key, [*revoked, entry])

    def revoked(self) -> set[str]:
        """Serials on the revocation list, in hexadecimal."""
        return {f"{one.serial_number:x}" for one in _revoked(self._directory)}

    def crl_pem(self) -> str:
        """Return the revocation list, signed anew."""
        with _locked(self._directory):
            _write_crl(self._directory, self._certificate, self._key, _revoked(self._directory))
            return (self._directory / "crl.pem").read_text("ascii")

    def _issue(
        self,
        name: str,
        days: int,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None = None,
    ) -> tuple[str, str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder(serial_number=serial)
            .subject_name(_subject(name))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .not_valid_before(max(now - BACKDATED, self._certificate.not_valid_before_utc))
            .not_valid_after(min(now + timedelta(days=days), self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(PEM).decode(), _key_pem(key).decode(), f"{serial:x}"


def hosts_of(certificate_pem: str) -> set[str]:
    """Names and addresses that a server's certificate is good for."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def not_after_ms(certificate_pem: str) -> int:
    """When a certificate ends, UTC milliseconds; ValueError when it is none."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def serial_of(certificate_pem: str) -> str:
    """Return a certificate's serial in hexadecimal; ValueError when it is none."""
    return f"{x509.load_pem_x509_certificate(certificate_pem.encode()).serial_number:x}"


def belong_together(certificate_pem: str, key_pem: str) -> bool:
    """Tell whether the key is that of the certificate."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), None)
    except (ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(directory: Path) -> None:
    # The key first: a certificate without its key would pass for an authority and issue nothing.
    key_file = directory / "ca.key"
    if key_file.exists():
        key = _read_key(key_file)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomically(key_file, _key_pem(key), SECRET)
    now = datetime.now(UTC)
    # A name of its own: two authorities of one name confuse a client that meets both.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _subject(f"Agrigate CA {identifier.digest.hex()[:8]}")
    certificate = (
        x509.CertificateBuilder(serial_number=x509.random_serial_number())
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    write_atomically(directory / "ca.crt", certificate.public_bytes(PEM))


def _read(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    file = directory / "ca.crt"
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError as exc:
        raise PkiError(f"{file}: is no certificate; put back the one from a backup") from exc
    key = _read_key(directory / "ca.key")
    if certificate.public_key() != key.public_key():
        raise PkiError(
            f"{directory}: ca.key and ca.crt are not a pair; put back both from a backup"
        )
    return certificate, key


def _read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except FileNotFoundError as exc:
        raise PkiError(f"{file}: is missing; put it back from a backup") from exc
    except (ValueError, TypeError) as exc:
        raise PkiError(f"{file}: is no private key; put back the one from a backup") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{file}: is no key on an elliptic curve; put back the one from a backup")
    return key


def _revoked(directory: Path) -> list[x509.RevokedCertificate]:
    file = directory / "crl.pem"
    try:
        return list(x509.load_pem_x509_crl(file.read_bytes()))
    except (OSError, ValueError) as exc:
        # An empty list in its place would let every revoked certificate in again.
        raise PkiError(f"{file}: is no revocation list; put back the one from a backup") from exc


def _write_crl(
    directory: Path,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    revoked: Sequence[x509.RevokedCertificate],
) -> None:
    file = directory / "crl.pem"
    number = 1
    if file.exists():
        last = x509.load_pem_x509_crl(file.read_bytes())
        number = last.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(now)
        .next_update(max(certificate.not_valid_after_utc, now + timedelta(days=1)))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(entry)
    write_atomically(file, builder.sign(key, hashes.SHA256()).public_bytes(PEM))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
