"""Who the broker lets in: one name, a hash of its password, the serial of its certificate."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest.tables import broker_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

ITERATIONS = 101  # what mosquitto_passwd writes; the password is 192 bits of chance, so more would buy nothing
SALT_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One row of what the broker's password file is made of; ``station`` is None for the server's own."""

    username: str
    station: str | None
    password_hash: str
    certificate_serial: str = ""
    created_ms: int
    revoked_ms: int | None = None


def new_password() -> str:
    """Return a password of 32 characters that nobody can guess."""
    return secrets.token_urlsafe(24)


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Return ``password`` as mosquitto's password file has it: ``$7$``, PBKDF2-SHA512.

    >>> hash_password("secret", base64.b64decode("vX6sYgrPObfd8rqb"))[:40]
    '$7$101$vX6sYgrPObfd8rqb$1izb26z4AHrZDjsf'
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${_base64(salt)}${_base64(digest)}"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def find(db: sa.Connection, username: str) -> Credential | None:
    """Return the credential of ``username``, None when there never was one."""
    query = sa.select(broker_credentials).where(broker_credentials.c.username == username)
    row = db.execute(query).mappings().one_or_none()
    return None if row is None else Credential(**row)


def standing(db: sa.Connection) -> Sequence[Credential]:
    """Return every credential that was not revoked, by name."""
    query = (
        sa.select(broker_credentials)
        .where(broker_credentials.c.revoked_ms.is_(None))
        .order_by(broker_credentials.c.username)
    )
    return [Credential(**row) for row in db.execute(query).mappings()]


def put(db: sa.Connection, credential: Credential) -> None:
    """Store ``credential``; the one of the same name goes."""
    mine = broker_credentials.c.username == credential.username
    db.execute(sa.delete(broker_credentials).where(mine))
    db.execute(sa.insert(broker_credentials).values(asdict(credential)))


def revoke(db: sa.Connection, username: str, now_ms: int) -> None:
    """Let ``username`` in no more; the row stays, so that its certificate can be named."""
    db.execute(
        sa.update(broker_credentials)
        .where(broker_credentials.c.username == username, broker_credentials.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms)
    )


def revoked_serials(db: sa.Connection) -> Sequence[str]:
    """Return the certificates, by serial, of credentials that were revoked."""
    query = (
        sa.select(broker_credentials.c.certificate_serial)
        .where(broker_credentials.c.revoked_ms.is_not(None))
        .where(broker_credentials.c.certificate_serial != "")
    )
    return list(db.scalars(query))
