"""Targets as configured: the ``[[target]]`` tables of the server's TOML file, and the table that follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from alerts.people.errors import TargetError
from alerts.people.kinds import ROBOTS, Kind, Language, settings_of
from alerts.people.targets import CONFIG, Target, drop_waiting, row_of
from alerts.tables import targets
from alerts.vault import VaultError
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from alerts.vault import Vault
    from ingest.operational import Operational

DEFAULT_PER_MIN = 18  # of the 20 that robots take


class TargetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[target]]`` table, as written; files are relative to the configuration file.

    Robots have ``url_file`` (their address is a secret) and ``secret_file``, with ``allow_http`` for a gateway on a
    closed network; ``smtp`` has ``host`` to ``ca_file``; ``apprise`` has ``url_file``. ``quiet`` is
    ``{ from = "22:00", to = "07:00" }``; an ``operator`` is told of the server's own faults.
    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    kind: Kind
    name: Annotated[str, Meta(max_length=120)] = ""
    language: Language = "zh"
    rate_per_min: int = DEFAULT_PER_MIN
    digest_s: int = 60
    quiet: dict[str, str] = {}
    operator: bool = False
    url_file: str = ""
    secret_file: str = ""
    allow_http: bool = False
    host: str = ""
    port: int = 465
    security: str = "tls"
    username: str = ""
    password_file: str = ""
    sender: str = ""
    to: list[str] = []
    ca_file: str = ""


def load_targets(
    tables: Iterable[Mapping[str, object]], file: str, directory: Path
) -> list[Target]:
    """Return the targets of the ``[[target]]`` tables; raise ConfigError listing every fault of ``file``."""
    found: list[Target] = []
    faults: list[str] = []
    for number, table in enumerate(tables, 1):
        where = f"{file}: [[target]] {table.get('id', number)}:"
        try:
            row = msgspec.convert(table, TargetTable)
            if row.id in {target.id for target in found}:
                faults.append(f"{where} id: used twice")
            found.append(_target(row, directory))
        except (msgspec.ValidationError, TargetError, OSError, UnicodeDecodeError) as exc:
            faults.append(f"{where} {exc}")
    if faults:
        raise ConfigError(faults)
    return found


def sync_targets(operational: Operational, configured: Sequence[Target], vault: Vault) -> None:
    """Make the table follow the configuration; those that are no longer configured stay for their history.

    A target of the API whose id the file now takes becomes the file's.
    """
    with operational.write() as connection:
        rows = {row["id"]: row for row in connection.execute(sa.select(targets)).mappings()}
        gone = [
            id_
            for id_, row in rows.items()
            if row["source"] == CONFIG
            and row["active"]
            and id_ not in {one.id for one in configured}
        ]
        if gone:
            connection.execute(
                sa.update(targets)
                .where(targets.c.id.in_(gone))
                .values(active=False, version=targets.c.version + 1)
            )
            drop_waiting(connection, gone)
        for target in configured:
            values = row_of(target, vault)
            row = rows.get(target.id)
            if row is None:
                connection.execute(sa.insert(targets).values(**values))
            elif not _same(row, values, vault):
                values["version"] = row["version"] + 1
                connection.execute(
                    sa.update(targets).where(targets.c.id == target.id).values(**values)
                )


def _same(row: sa.RowMapping, values: Mapping[str, object], vault: Vault) -> bool:
    plain = [name for name in values if name not in {"settings", "version"}]
    if any(row[name] != values[name] for name in plain):
        return False
    try:
        return vault.unseal(row["settings"]) == vault.unseal(str(values["settings"]))
    except VaultError:
        return False  # sealed with a master key that is lost: the file has it all


def _target(row: TargetTable, directory: Path) -> Target:
    return Target(
        id=row.id,
        kind=row.kind,
        name=row.name or row.id,
        settings=settings_of(row.kind, _settings(row, directory)),
        language=row.language,
        rate_per_min=row.rate_per_min,
        digest_s=row.digest_s,
        quiet=row.quiet,
        operator=row.operator,
        source=CONFIG,
    )


def _settings(row: TargetTable, directory: Path) -> dict[str, object]:
    def read(name: str, field: str) -> str:
        if not name:
            raise TargetError(422, f"{field}: is missing", field=field)
        return (directory / name).read_text("utf-8").strip()

    if row.kind in ROBOTS:
        robot = {"url": read(row.url_file, "url_file"), "allow_http": row.allow_http}
        return robot | ({"secret": read(row.secret_file, "secret_file")} if row.secret_file else {})
    if row.kind == "apprise":
        return {"url": read(row.url_file, "url_file")}
    return {
        "host": row.host,
        "port": row.port,
        "security": row.security,
        "username": row.username,
        "password": read(row.password_file, "password_file") if row.password_file else "",
        "sender": row.sender,
        "to": row.to,
        "ca": read(row.ca_file, "ca_file") if row.ca_file else "",
    }
