"""How a process reaches its broker: login, TLS, enrolment file; read strictly, the secrets never shown.

There is no way from a login with TLS to a connection without it.
"""

from __future__ import annotations

import os
import ssl
import stat
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from drivers.device_table import read_table

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from typing_extensions import Buffer

Protocol = Literal["5", "3.1.1"]
ENROLMENT_FORMAT = 1
DAY_MS = 86_400_000
# From the most urgent on: an alarm stands when less than so many days are left.
ALARM_DAYS = (
    (0, "certificate_expired"),
    (1, "certificate_1d"),
    (7, "certificate_7d"),
    (30, "certificate_30d"),
)
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, slots=True)
class Tls:
    """What TLS needs, as PEM text: whom to trust, and our certificate with its key when there is one."""

    ca_pem: str
    certificate_pem: str = ""
    key_pem: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """How to reach the broker; password and key are never shown."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    protocol: Protocol = "5"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The content of an enrolment file; ``warnings`` are lines for a person, none of them a fault."""

    role: Literal["station", "ingest"]
    code: str
    login: BrokerLogin
    probe: BrokerLogin | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateAlarm:
    """A certificate that ends soon or has ended: ``certificate_7d`` and the like."""

    name: str
    certificate: str
    not_after_ms: int

    @property
    def ends(self) -> str:
        """The moment for a log line."""
        return datetime.fromtimestamp(self.not_after_ms / 1000, UTC).isoformat(timespec="minutes")


class _Socket(ssl.SSLSocket):
    """A socket that says why it ends.

    With TLS 1.3 the broker judges our certificate after our end of the handshake: its alert waits to be read while the
    CONNECT cannot be written any more. And after a failed handshake it is closed; paho leaves that to the collector.
    """

    def send(self, data: Buffer, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (ssl.SSLEOFError, BrokenPipeError, ConnectionResetError):
            self.recv(1)  # raises the alert, when there is one
            raise

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as ssl has it
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            self.close()
            raise


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a client context: TLS 1.2 or later, only ``tls.ca_pem`` trusted, host name checked.

    Raises ssl.SSLError when the PEM does not hold together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=tls.ca_pem)
    if tls.certificate_pem:
        # ssl reads files only; this one is in memory, so the key touches no disk.
        descriptor = os.memfd_create("client-certificate")
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{tls.certificate_pem}\n{tls.key_pem}\n")
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def certificate_alarms(
    tls: Tls, now_ms: int, peer_not_after_ms: int | None = None
) -> list[CertificateAlarm]:
    """Return the most urgent alarm of each certificate that has 30 days or less."""
    ends = [("ca", _first_end_ms(tls.ca_pem))]
    if tls.certificate_pem:
        ends.append(("client certificate", _first_end_ms(tls.certificate_pem)))
    if peer_not_after_ms is not None:
        ends.append(("broker's certificate", peer_not_after_ms))
    alarms = []
    for what, end_ms in ends:
        for days, name in ALARM_DAYS:
            if end_ms - now_ms <= days * DAY_MS:
                alarms.append(CertificateAlarm(name, what, end_ms))
                break
    return alarms


def not_after_ms(tls: Tls | None) -> int | None:
    """Return when our own certificate ends, UTC milliseconds; None without one."""
    return _first_end_ms(tls.certificate_pem) if tls is not None and tls.certificate_pem else None


def peer_not_after_ms(connection: ssl.SSLSocket) -> int | None:
    """Return when the certificate that the broker showed ends, UTC milliseconds."""
    certificate = connection.getpeercert() or {}
    end = certificate.get("notAfter")
    return ssl.cert_time_to_seconds(end) * 1000 if isinstance(end, str) else None


# ---- the [broker] table of both configurations


class LoginTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[broker]``: the MQTT broker; secrets stand in files of their own."""

    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    protocol: Protocol = "5"
    allow_plaintext: bool = False


class LoginReader:
    """Makes logins of what stands in one configuration; collects faults and warnings."""

    def __init__(self, directory: Path, faults: list[str], warnings: list[str]) -> None:
        self._directory = directory
        self._faults = faults
        self._warnings = warnings

    def login(self, table: LoginTable, where: str) -> BrokerLogin | None:
        """Read the files that ``table`` names; None after a fault. ``where`` begins each line."""
        before = len(self._faults)
        password = self.secret(table.password_file, f"{where}: password_file")
        if table.password_file and not table.username:
            self._faults.append(f"{where}: username: is missing; a password needs one")
        tls = self._tls(table, where)
        if tls is None and table.username and not table.allow_plaintext:
            self._faults.append(
                f"{where}: ca_file: is missing; a username without TLS is readable by everybody on the way:"
                " name the CA of the broker, or set allow_plaintext = true"
            )
        if len(self._faults) > before:
            return None
        return BrokerLogin(
            table.host, table.port, table.username or None, password, tls, table.protocol
        )

    def secret(self, name: str, where: str) -> str | None:
        """Return the one line that the file ``name`` holds; None for no name or after a fault."""
        if not name:
            return None
        text = self._text(name, where, secret=True)
        if text is None:
            return None
        text = text.strip("\r\n")
        if not text:
            self._faults.append(
                f"{where}: {self._directory / name} is empty; write the password into it"
            )
        return text or None

    def _tls(self, table: LoginTable, where: str) -> Tls | None:
        if not table.ca_file:
            for name in ("certificate_file", "key_file"):
                if getattr(table, name):
                    self._faults.append(f"{where}: {name}: needs ca_file, too: there is no TLS")
            return None
        ca = self._text(table.ca_file, f"{where}: ca_file")
        certificate = key = ""
        if table.certificate_file:
            certificate = self._text(table.certificate_file, f"{where}: certificate_file") or ""
        if table.key_file:
            key = self._text(table.key_file, f"{where}: key_file", secret=True) or ""
        if ca is None or bool(table.certificate_file) != bool(certificate):
            return None
        if bool(table.key_file) != bool(key):
            return None
        tls = Tls(ca, certificate, key)
        check_pem(tls, where, "_file", self._faults, self._warnings)
        return tls

    def _text(self, name: str, where: str, *, secret: bool = False) -> str | None:
        file = self._directory / name
        try:
            text = file.read_text(encoding="utf-8")
            if secret and file.stat().st_mode & READABLE_BY_OTHERS:
                self._warnings.append(f"{where}: {file} can be read by others; chmod 600 {file}")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
            self._faults.append(f"{where}: {file} cannot be read: {reason}")
            return None
        return text


# ---- the enrolment file


class EnrolmentFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the server writes for one station, or for ingest."""

    format: int
    role: Literal["station", "ingest"]
    host: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    username: Annotated[str, Meta(min_length=1)]
    password: Annotated[str, Meta(min_length=1)]
    ca: Annotated[str, Meta(min_length=1)]
    code: str = ""
    protocol: Protocol = "5"
    certificate: str = ""
    key: str = ""
    probe_username: str = ""
    probe_password: str = ""


def read_enrolment(path: Path, faults: list[str]) -> Enrolment | None:
    """Return what ``path`` holds, or None after adding its faults to ``faults``."""
    before = len(faults)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        readable = path.stat().st_mode & READABLE_BY_OTHERS
    except FileNotFoundError:
        faults.append(f"{path}: no such file; copy the enrolment file here from the server")
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        faults.append(f"{path}: cannot be read: {reason}")
        return None
    except tomllib.TOMLDecodeError as exc:
        faults.append(f"{path}: no enrolment file: not TOML: {exc}")
        return None
    version = table.get("format")
    if isinstance(version, int) and version > ENROLMENT_FORMAT:
        # Its other fields may mean anything: no more is said of them.
        faults.append(
            f"{path}: format: {version} is from a newer server, this program knows {ENROLMENT_FORMAT};"
            " update it, or make the enrolment file anew with the older server"
        )
        return None
    file = read_table(EnrolmentFile, table, str(path), faults)
    if file is None:
        return None
    tls = Tls(file.ca, file.certificate, file.key)
    warnings: list[str] = []
    if readable:
        warnings.append(f"{path}: can be read by others; chmod 600 {path}")
    check_pem(tls, str(path), "", faults, warnings)
    if file.format < 1:
        faults.append(f"{path}: format: {file.format} is none; known: {ENROLMENT_FORMAT}")
    if (file.role == "station") != bool(file.code):
        faults.append(f"{path}: code: stands in the file of a station, and only there")
    if len(faults) > before:
        return None
    login = BrokerLogin(file.host, file.port, file.username, file.password, tls, file.protocol)
    probe = None
    if file.probe_username:
        # The probe has no certificate of its own: the broker takes its identity from the password.
        probe = BrokerLogin(
            file.host,
            file.port,
            file.probe_username,
            file.probe_password or None,
            Tls(file.ca),
            file.protocol,
        )
    return Enrolment(file.role, file.code, login, probe, tuple(warnings))


# ---- PEM


def check_pem(tls: Tls, where: str, suffix: str, faults: list[str], warnings: list[str]) -> None:
    """Add what is wrong with the PEM texts; ``where`` and ``suffix`` make the field's name.

    An expired certificate is a warning: the agent must start, and say so, on a machine without a clock.
    """
    if bool(tls.certificate_pem) != bool(tls.key_pem):
        absent = "key" if tls.certificate_pem else "certificate"
        faults.append(f"{where}: {absent}{suffix}: is missing; certificate and key belong together")
    named = {"ca": tls.ca_pem, "certificate": tls.certificate_pem}
    for name, pem in named.items():
        if not pem:
            continue
        try:
            certificates = _certificates(pem)
        except ValueError:
            faults.append(f"{where}: {name}{suffix}: is no certificate in PEM")
            continue
        now = datetime.now(UTC)
        # Of our own chain only the leaf; of the CA whichever ends first.
        for certificate in certificates if name == "ca" else certificates[:1]:
            end, begin = certificate.not_valid_after_utc, certificate.not_valid_before_utc
            subject = certificate.subject.rfc4514_string()
            if end <= now:
                warnings.append(f"{where}: {name}{suffix}: {subject} expired on {end:%Y-%m-%d}")
            elif begin > now:
                warnings.append(
                    f"{where}: {name}{suffix}: {subject} is not valid before {begin:%Y-%m-%d};"
                    " is this machine's clock right?"
                )
    if tls.certificate_pem and tls.key_pem:
        _check_key(tls, f"{where}: key{suffix}", faults)


def _check_key(tls: Tls, where: str, faults: list[str]) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - seldom needed
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(tls.key_pem.encode(), password=None)
    except TypeError:
        faults.append(f"{where}: is encrypted; write the key without a passphrase, mode 0600")
        return
    except (ValueError, UnsupportedAlgorithm):
        faults.append(f"{where}: is no private key in PEM")
        return
    try:
        certified = _certificates(tls.certificate_pem)[0].public_key()
    except ValueError:
        return  # said already
    form = (
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )
    if key.public_key().public_bytes(*form) != certified.public_bytes(*form):
        faults.append(f"{where}: does not fit the certificate; both must be of one pair")


@lru_cache(maxsize=64)
def _first_end_ms(pem: str) -> int:
    ends = [certificate.not_valid_after_utc for certificate in _certificates(pem)]
    return int(min(ends).timestamp() * 1000)


def _certificates(pem: str) -> list[x509.Certificate]:
    """Return the certificates in ``pem``; raise ValueError when there is none."""
    from cryptography import x509  # noqa: PLC0415 - a login without TLS does not need it

    return x509.load_pem_x509_certificates(pem.encode())
