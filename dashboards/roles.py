"""What one server process does: everything, or one part of it beside others on the same databases."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """A part of the server that may be a process of its own; ``ALL`` is the whole server in one."""

    INGEST = "ingest"
    ALERTS = "alerts"
    WEB = "web"
    ALL = "all"

    @property
    def takes(self) -> bool:
        """Takes packs, judges and stores them."""
        return self in {Role.INGEST, Role.ALL}

    @property
    def sends(self) -> bool:
        """Sends webhooks."""
        return self in {Role.ALERTS, Role.ALL}

    @property
    def shows(self) -> bool:
        """Serves pages, API and live stream."""
        return self in {Role.WEB, Role.ALL}

    @property
    def guarded(self) -> list[str]:
        """Roles that no other process on the same database may have at once."""
        return [str(one) for one in (Role.INGEST, Role.ALERTS) if self in {one, Role.ALL}]


def missing(role: Role, *, operational_url: str, store_kind: str) -> str:
    """Return what the configuration lacks for ``role`` as a process of its own; empty when nothing.

    >>> missing(Role.WEB, operational_url="", store_kind="influxdb")
    'role web: needs a PostgreSQL in [operational] url'
    >>> missing(Role.ALL, operational_url="", store_kind="duckdb")
    ''
    """
    if role is Role.ALL:
        return ""
    wanting = []
    if not operational_url:
        wanting.append("a PostgreSQL in [operational] url")
    if store_kind != "influxdb":
        wanting.append('kind = "influxdb" in [store]')
    return f"role {role}: needs {' and '.join(wanting)}" if wanting else ""
