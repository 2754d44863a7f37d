"""The keys that sign evidence packs: ed25519, in files beside the database; earlier ones stay, so old packs verify."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ulid import ULID

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = "evidence-keys"  # in the data directory


class EvidenceKeyError(Exception):
    """A key file cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class EvidenceKey:
    """One key; its id is a ULID of when it was made. The newest signs."""

    id: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def made_ms(self) -> int:
        """When it was made, UTC ms."""
        return ULID.from_str(self.id).milliseconds

    def public_pem(self) -> str:
        """Return the public key as PEM (SubjectPublicKeyInfo), as openssl reads it."""
        return (
            self.private.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode("ascii")
        )


class EvidenceKeys:
    """The key files of one server."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY

    def all(self) -> list[EvidenceKey]:
        """Return every key, the oldest first; raise EvidenceKeyError for a damaged file."""
        return [_read(file) for file in sorted(self._directory.glob("*.pem"))]

    def current(self) -> EvidenceKey:
        """Return the key that signs; the first is made when there is none."""
        found = self.all()
        return found[-1] if found else self.rotate()

    def rotate(self) -> EvidenceKey:
        """Make a key that signs from now on, readable by its owner only."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = EvidenceKey(str(ULID()), Ed25519PrivateKey.generate())
        file = self._directory / f"{key.id}.pem"
        content = key.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        fresh = file.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.rename(file)
        return key


def _read(file: Path) -> EvidenceKey:
    try:
        private = serialization.load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError) as exc:
        raise EvidenceKeyError(f"{file}: not an unencrypted private key: {exc}") from exc
    if not isinstance(private, Ed25519PrivateKey):
        raise EvidenceKeyError(f"{file}: not an ed25519 key")
    return EvidenceKey(file.stem, private)
