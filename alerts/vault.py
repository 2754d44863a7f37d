"""Secrets at rest: sealed with a master key that is kept in a file, outside the database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken

if TYPE_CHECKING:
    from pathlib import Path

MASTER_KEY = "master.key"  # in the data directory


class VaultError(Exception):
    """The master key is missing, damaged, or not the one that sealed this; the message says what to do."""


class Vault:
    """Seals and opens texts (Fernet: AES-128-CBC with HMAC-SHA256); a copy of the database alone opens nothing."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Read the master key at ``path``, or make one, readable by its owner only; VaultError if it is damaged."""
        try:
            return cls(path.read_bytes().strip())
        except FileNotFoundError:
            return cls(_make(path))
        except ValueError as exc:
            raise VaultError(f"{path}: not a master key; restore it from a backup") from exc

    def seal(self, text: str) -> str:
        """Return ``text`` encrypted."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def unseal(self, sealed: str) -> str:
        """Return what was sealed; raise VaultError when another master key sealed it."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as exc:
            raise VaultError(
                f"a secret was sealed with another {MASTER_KEY}; restore that file from a backup"
            ) from exc


def _make(path: Path) -> bytes:
    key = Fernet.generate_key()
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return key
