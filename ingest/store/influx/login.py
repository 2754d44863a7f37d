"""Where an InfluxDB is, and who we are there; imports nothing, so that reading a configuration stays quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxLogin:
    """Where readings are kept; 2 and 3 are told ``bucket``, ``org`` and a token, 1 a database and a user."""

    url: str
    bucket: str = ""
    org: str = ""
    token: str = field(default="", repr=False)
    database: str = ""
    retention_policy: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    secret_file: Path | None = None
    """Where token or password were read; read again when the server does not know them any more."""
    gzip: bool = True
    ca_file: Path | None = None
    timeout_s: float = 10.0

    @property
    def wanted_bucket(self) -> str:
        """The bucket to write to; of version 1 ``database/retention policy``."""
        if self.bucket:
            return self.bucket
        policy = f"/{self.retention_policy}" if self.retention_policy else ""
        return f"{self.database}{policy}"

    @property
    def asked_database(self) -> str:
        """The database that ``/query`` is asked about."""
        return self.database or self.bucket

    @property
    def secret(self) -> str:
        """The token, or the password."""
        return self.password if self.username else self.token

    def with_secret(self, secret: str) -> InfluxLogin:
        """Return it with another token or password."""
        if self.username:
            return replace(self, password=secret)
        return replace(self, token=secret)

    @property
    def place(self) -> str:
        """What a person recognises it by."""
        return f"{self.url} {self.wanted_bucket}"
