"""What a station's gateway gets once: the enrolment file, made with a new credential of the broker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.broker import ENROLMENT_FORMAT, BrokerLogin, Enrolment, Tls
from ingest.registry import credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

# Names at the broker that would also do as station codes.
RESERVED = frozenset({"agri-probe", "agri-probe-other"})


class EnrolmentError(Exception):
    """The station cannot be enrolled as asked; the message says what to do."""


class Authority(Protocol):
    """Who signs certificates for the broker's clients."""

    @property
    def ca_pem(self) -> str:
        """The certificate that every client trusts."""
        ...

    def issue_client(self, name: str, days: int = 825) -> tuple[str, str, str]:
        """Return certificate, key (PEM) and serial for a client of that common name."""
        ...

    def revoke(self, serial: str) -> None:
        """Put a certificate on the revocation list."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """How stations reach the broker, and who signs for it (opened when it is needed)."""

    host: str
    port: int
    authority: Callable[[], Authority]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A new credential; the enrolment holds its secrets and is kept nowhere."""

    enrolment: Enrolment
    certificate_serial: str
    renewed: bool


def enrol_station(
    db: sa.Connection, site: Site, code: str, *, certificate: bool, renew: bool, now_ms: int
) -> Enrolled:
    """Give the registered station ``code`` a credential, with ``renew`` in place of the one it has.

    Raises EnrolmentError when it has one already, or when its code is a name of the server's own.
    """
    before = credentials.find(db, code)
    if code in RESERVED or (before is not None and before.station is None):
        raise EnrolmentError(f"{code!r} is a name of the server's own at the broker; take another")
    stands = before is not None and before.revoked_ms is None
    if stands and not renew:
        raise EnrolmentError(
            f"station {code!r} has a credential already; renew (--renew) makes a new one and ends that"
        )
    authority = site.authority()
    tls, serial = Tls(authority.ca_pem), ""
    if certificate:
        certificate_pem, key_pem, serial = authority.issue_client(code)
        tls = Tls(authority.ca_pem, certificate_pem, key_pem)
    password = credentials.new_password()
    credentials.put(
        db,
        credentials.Credential(
            username=code,
            station=code,
            password_hash=credentials.hash_password(password),
            certificate_serial=serial,
            created_ms=now_ms,
        ),
    )
    if before is not None and before.certificate_serial:
        authority.revoke(before.certificate_serial)  # last: what fails before it ends nothing
    login = BrokerLogin(site.host, site.port, code, password, tls)
    return Enrolled(Enrolment("station", code, login), serial, renewed=stands)


def encode_enrolment(enrolment: Enrolment) -> str:
    """Return the text of an enrolment file, as ``gateway.broker.read_enrolment`` reads it."""
    login = enrolment.login
    tls = login.tls
    fields: dict[str, str | int] = {
        "format": ENROLMENT_FORMAT,
        "role": enrolment.role,
        "code": enrolment.code,
        "host": login.host,
        "port": login.port,
        "protocol": login.protocol,
        "username": login.username or "",
        "password": login.password or "",
        "ca": tls.ca_pem if tls else "",
        "certificate": tls.certificate_pem if tls else "",
        "key": tls.key_pem if tls else "",
        "probe_username": (enrolment.probe.username if enrolment.probe else None) or "",
        "probe_password": (enrolment.probe.password if enrolment.probe else None) or "",
    }
    return "".join(f"{name} = {_value(value)}\n" for name, value in fields.items() if value != "")


def _value(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if value.startswith("-----BEGIN ") and "\\" not in value and '"""' not in value:
        return f'"""\n{value}"""'  # PEM stays readable
    # What JSON escapes is a part of what TOML does; only DEL is left over.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
