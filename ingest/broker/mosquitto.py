"""The files that make mosquitto a broker for Agrigate: configuration, access list, passwords, certificates.

``deploy`` writes them again and again from what the registry holds; a file that it did not write is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.broker import BrokerLogin, Enrolment, Tls, read_enrolment
from ingest.broker import pki
from ingest.registry.credentials import hash_password, new_password
from ingest.registry.enrolment import encode_enrolment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INGEST = "agri_ingest"  # the underscore keeps it apart from station codes
PROBE = "agri-probe"  # looks like a station, so that it may do what a station may
ENROLMENT = "ingest.enrolment.toml"
CONF, ACL, PASSWD = "agrigate.conf", "agrigate.acl", "agrigate.passwd"
MANIFEST = "agrigate.deployed.json"
RENEW_DAYS = 60
DAY_MS = 86_400_000

CONF_TEXT = """\
# Written by "agrigate deploy mosquitto". Do not edit: the next deploy refuses to write over a change.
# Either the whole configuration (mosquitto -c {directory}/agrigate.conf), or included from one by
#   include_dir {directory}
# Its values for all listeners stand only here then; whoever sets them elsewhere, too, gets the last one read.

listener {port}
# At most so many clients at once; a station needs one. Above 1000, raise LimitNOFILE of the service, too.
max_connections {max_connections}
# Packs are small and each is waited for.
set_tcp_nodelay true

# TLS 1.2 or later. Without these three lines mosquitto would speak plaintext on this port.
tls_version tlsv1.2
cafile {directory}/ca.crt
certfile {directory}/server.crt
keyfile {directory}/server.key
{certificates}
# Everybody has a name and a password, and may do what the access list says; what it does not name is refused.
# They stand behind "listener", so that they hold with per_listener_settings true as well as false.
allow_anonymous false
password_file {directory}/agrigate.passwd
acl_file {directory}/agrigate.acl

# A pack has at most 128 KiB and a header line; mosquitto's own default is 256 MB.
max_packet_size 262144
# What waits for a slow client is bounded in bytes, not in messages. What is dropped beyond it comes again: the
# stations' spools are the queue.
max_queued_messages 0
max_queued_bytes 67108864
max_inflight_messages 1000
# A client that is gone is noticed within 1.5 times this; stations and server use 30 s. MQTT 5 clients are told.
max_keepalive 120

# Gateways need nothing that a broker keeps: their sessions are clean, a status is sent again each minute, and mosquitto
# writes to disk only every autosave_interval, so what a broker acknowledged can be gone. Receipts come from the server.
# Devices without a gateway (senml, raw) have no other queue than the broker's: for them, give --persistence DIR.
{persistence}
# Sessions of other clients on this broker that never came back.
persistent_client_expiration 7d
"""

WITH_CERTIFICATES = """\
# Who has no certificate of our authority, or a revoked one, gets no further than the handshake.
require_certificate true
crlfile {directory}/crl.pem
"""
WITHOUT_CERTIFICATES = """\
# Clients are known by their passwords; --require-certificate asks for a certificate as well.
require_certificate false
"""
WITH_PERSISTENCE = """\
# Kept across restarts, for other clients of this broker:
persistence true
persistence_location {location}/
autosave_interval 300
autosave_on_changes false
"""
WITHOUT_PERSISTENCE = """\
# Nothing is kept across restarts. For other clients of this broker: --persistence DIR.
persistence false
"""

ACL_TEXT = """\
# Written by "agrigate deploy mosquitto". Who may read and write what; a topic that is not named is refused.

# The server. It reads "ack", too: its probe proves with that that nobody else writes there.
user agri_ingest
topic read agri/v1/+/up
topic read agri/v1/+/status
topic read agri/v1/+/senml/#
topic read agri/v1/+/raw/#
topic readwrite agri/v1/+/ack

# A station: its user name is its code. "status" is also the topic of its will; "senml" and "raw" are for devices
# that know nothing of gateways and come with the station's name and password.
pattern write agri/v1/%u/up
pattern write agri/v1/%u/status
pattern write agri/v1/%u/senml/#
pattern write agri/v1/%u/raw/#
pattern read agri/v1/%u/ack
pattern read agri/v1/%u/cmd
"""


class DeployError(Exception):
    """Nothing was written over; the message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """How the broker is reached, and where it reads its files."""

    hosts: tuple[str, ...]
    directory: Path
    port: int = 8883
    require_certificate: bool = False
    max_connections: int = 1000
    persistence: Path | None = None


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who the broker lets in: password hashes of the stations by user name, and certificates to refuse."""

    stations: Mapping[str, str]
    revoked_serials: Sequence[str] = ()


@dataclass(slots=True)
class Deployed:
    """What a deploy did."""

    enrolment: Path
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    first: bool = False
    restart: bool = False
    server_expires_ms: int = 0
    ca_expires_ms: int = 0


def configuration(listener: Listener) -> str:
    """Return the text of ``agrigate.conf``."""
    directory = listener.directory
    certificates = WITH_CERTIFICATES if listener.require_certificate else WITHOUT_CERTIFICATES
    persistence = WITHOUT_PERSISTENCE if listener.persistence is None else WITH_PERSISTENCE
    return CONF_TEXT.format(
        directory=directory,
        port=listener.port,
        max_connections=listener.max_connections,
        certificates=certificates.format(directory=directory),
        persistence=persistence.format(location=listener.persistence),
    )


def password_file(hashes: Mapping[str, str]) -> str:
    """Return the text of ``agrigate.passwd``, by user name."""
    return "".join(f"{name}:{hashes[name]}\n" for name in sorted(hashes))


def deploy(
    listener: Listener, accounts: Accounts, data_dir: Path, *, now_ms: int, renew_ingest: bool
) -> Deployed:
    """Write all files to ``listener.directory`` and ingest's login to ``data_dir``.

    Raises DeployError when one of them is not ours to write, PkiError when the authority is damaged.
    """
    for text in (str(listener.directory), str(listener.persistence or "")):
        if any(character.isspace() for character in text):
            raise DeployError(f"{text!r}: mosquitto reads no paths with blanks; choose another")
    out = listener.directory
    out.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    manifest = _Manifest.read(out / MANIFEST)
    names = (CONF, ACL, PASSWD, "ca.crt", "server.crt", "server.key", "crl.pem")
    manifest.refuse_foreign(out, names)
    authority = pki.Authority.open(data_dir / "pki")
    done = Deployed(data_dir / ENROLMENT, first=manifest.first, ca_expires_ms=authority.expires_ms)
    ingest = _ingest_login(listener, authority, done, now_ms=now_ms, renew=renew_ingest)
    certificate, key = _server_certificate(listener, authority, done, now_ms)
    done.server_expires_ms = pki.not_after_ms(certificate)
    for serial in accounts.revoked_serials:
        authority.revoke(serial)
    own = {
        login.username or "": hash_password(login.password or "", _salt(login))
        for login in (ingest.login, ingest.probe)
        if login is not None
    }
    files = {
        CONF: configuration(listener),
        ACL: ACL_TEXT,
        PASSWD: password_file({**accounts.stations, **own}),
        "ca.crt": authority.ca_pem,
        "server.crt": certificate,
        "server.key": key,
        "crl.pem": authority.crl_pem(),
    }
    done.added = sorted(accounts.stations.keys() - manifest.stations)
    done.removed = sorted(manifest.stations - accounts.stations.keys())
    done.changed = [name for name, text in files.items() if not _holds(out / name, text)]
    done.restart = CONF in done.changed or "ca.crt" in done.changed
    # ingest first: with its login written down, a broker that knows it can be started.
    pki.write_atomically(done.enrolment, encode_enrolment(ingest).encode(), pki.SECRET)
    manifest.write_all(out, files, sorted(accounts.stations))
    return done


def hand_over(directory: Path, user: str) -> list[str]:
    """Give the secret files to ``user``, whom mosquitto runs as; return what a person must do for it."""
    secret = [str(directory / name) for name in (PASSWD, ACL, "server.key")]
    try:
        for file in secret:
            shutil.chown(file, user)
    except (LookupError, PermissionError):
        return [f"chown {user} {' '.join(secret)}"]
    return []


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text("utf-8") == text


def _salt(login: BrokerLogin) -> bytes:
    """Return a salt that stays while the password does, so that a deploy without changes changes nothing."""
    return hashlib.sha256(f"{login.username}\n{login.password}".encode()).digest()[:12]


def _ingest_login(
    listener: Listener, authority: pki.Authority, done: Deployed, *, now_ms: int, renew: bool
) -> Enrolment:
    host, port = listener.hosts[0], listener.port
    before = None
    if done.enrolment.exists():
        faults: list[str] = []
        before = read_enrolment(done.enrolment, faults)
        if before is None and not renew:
            raise DeployError(f"{faults[0]}; --renew-ingest makes a new one")
    tls = None if before is None or renew else before.login.tls
    if tls is None or not _stands(tls.certificate_pem, tls.key_pem, authority, now_ms):
        done.renewed.append(INGEST)
        certificate, key, _ = authority.issue_client(INGEST)
        tls = Tls(authority.ca_pem, certificate, key)
    else:
        tls = Tls(authority.ca_pem, tls.certificate_pem, tls.key_pem)
    password, probe_password = new_password(), new_password()
    if before is not None and not renew:
        password = before.login.password or password
        probe_password = (before.probe and before.probe.password) or probe_password
    if before is not None and renew and before.login.tls and before.login.tls.certificate_pem:
        authority.revoke(pki.serial_of(before.login.tls.certificate_pem))
    login = BrokerLogin(host, port, INGEST, password, tls)
    probe = BrokerLogin(host, port, PROBE, probe_password, Tls(authority.ca_pem))
    return Enrolment("ingest", "", login, probe)


def _server_certificate(
    listener: Listener, authority: pki.Authority, done: Deployed, now_ms: int
) -> tuple[str, str]:
    """Return the certificate that is there while it serves, else a new one."""
    try:
        certificate = (listener.directory / "server.crt").read_text("ascii")
        key = (listener.directory / "server.key").read_text("ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        certificate = key = ""
    if _stands(certificate, key, authority, now_ms) and pki.hosts_of(certificate) == set(
        listener.hosts
    ):
        return certificate, key
    done.renewed.append("server.crt")
    return authority.issue_server(listener.hosts)


def _stands(certificate: str, key: str, authority: pki.Authority, now_ms: int) -> bool:
    """Tell whether a certificate is of this authority, has its key, and is good for two months more."""
    return (
        pki.belong_together(certificate, key)
        and authority.issued(certificate)
        and pki.serial_of(certificate) not in authority.revoked()
        and pki.not_after_ms(certificate) - now_ms >= RENEW_DAYS * DAY_MS
    )


class _Manifest:
    """What was written the last time: by it a file of ours is told from a stranger's."""

    def __init__(self, file: Path, hashes: dict[str, list[str]], stations: list[str]) -> None:
        self._file = file
        self._hashes = hashes
        self.stations = set(stations)
        self.first = not hashes

    @classmethod
    def read(cls, file: Path) -> _Manifest:
        try:
            content = json.loads(file.read_text("utf-8"))
            return cls(file, dict(content["sha256"]), list(content["stations"]))
        except FileNotFoundError:
            return cls(file, {}, [])
        except (ValueError, KeyError, TypeError) as exc:
            raise DeployError(
                f"{file}: is not what a deploy wrote; move the whole directory away and deploy anew"
            ) from exc

    def refuse_foreign(self, directory: Path, names: Sequence[str]) -> None:
        """Raise DeployError when one of the files is there and is not as we left it."""
        for name in names:
            file = directory / name
            if file.exists() and _sha256(file.read_bytes()) not in self._hashes.get(name, []):
                known = (
                    "was changed since the last deploy" if name in self._hashes else "is not ours"
                )
                raise DeployError(f"{file}: {known}; move it away, and deploy again")

    def write_all(self, directory: Path, files: Mapping[str, str], stations: list[str]) -> None:
        """Write the files; cut off anywhere, the next deploy still knows each of them as ours."""
        fresh = {name: _sha256(text.encode()) for name, text in files.items()}
        self._write(
            {name: [*self._hashes.get(name, []), fresh[name]] for name in files}, self.stations
        )
        for name, text in files.items():
            mode = pki.SECRET if name in {PASSWD, ACL, "server.key"} else pki.PUBLIC
            owner = (directory / name).stat() if (directory / name).exists() else None
            pki.write_atomically(directory / name, text.encode(), mode)
            if owner is not None and os.geteuid() == 0:
                os.chown(directory / name, owner.st_uid, owner.st_gid)
        self._write({name: [digest] for name, digest in fresh.items()}, set(stations))

    def _write(self, hashes: dict[str, list[str]], stations: set[str]) -> None:
        text = json.dumps({"sha256": hashes, "stations": sorted(stations)}, indent=1)
        pki.write_atomically(self._file, f"{text}\n".encode(), pki.SECRET)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
