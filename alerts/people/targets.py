"""Targets: who is told, in which language, how often, when not; their settings are sealed and never given back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast, get_args

import msgspec
import sqlalchemy as sa

from alerts.administration import note
from alerts.people.errors import TargetError
from alerts.people.kinds import (
    BOUNDS,
    SET,
    Kind,
    Language,
    Mail,
    Robot,
    Settings,
    check_reach,
    settings_of,
)
from alerts.people.notices import DROPPED, PENDING
from alerts.people.quiet import Quiet
from alerts.tables import messages, notices, targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts.delivery.guard import Allowance
    from alerts.vault import Vault

CONFIG, API = "config", "api"
MAX_DIGEST_S = 86_400
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PLAIN = ("name", "language", "rate_per_min", "digest_s", "quiet", "operator", "active")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target, its settings open; they never show in a representation."""

    id: str
    kind: Kind
    name: str
    settings: Settings = field(repr=False)
    language: Language = "zh"
    rate_per_min: int = 20
    digest_s: int = 60
    quiet: Mapping[str, str] = field(default_factory=dict)
    operator: bool = False
    active: bool = True
    source: str = API
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be; TargetError names the field."""
        if not _ID.fullmatch(self.id):
            raise TargetError(422, "id: 1 to 40 letters, digits, - and _", field="id")
        if self.language not in get_args(Language):
            raise TargetError(422, "language: zh, en or both", field="language")
        most = BOUNDS[self.kind].per_min
        if not 1 <= self.rate_per_min <= most:
            raise TargetError(
                422, f"rate_per_min: 1 to {most} for {self.kind}", field="rate_per_min"
            )
        if not 0 <= self.digest_s <= MAX_DIGEST_S:
            raise TargetError(422, f"digest_s: 0 to {MAX_DIGEST_S}", field="digest_s")
        try:
            Quiet.parse(self.quiet)
        except ValueError as exc:
            raise TargetError(422, f"quiet: {exc}", field="quiet") from exc

    @property
    def trusted(self) -> bool:
        """Whether it stands in the server's own file."""
        return self.source == CONFIG

    @property
    def size(self) -> int:
        """Bytes of a message's text."""
        return BOUNDS[self.kind].size

    def shown(self) -> dict[str, object]:
        """Return what may be shown of it: everything but secrets."""
        plain = {name: getattr(self, name) for name in ("id", "kind", *_PLAIN, "source", "version")}
        return {**plain, "quiet": dict(self.quiet), "settings": self.settings.masked()}


def load(
    connection: sa.Connection, vault: Vault, target_id: str | None = None, *, active: bool = False
) -> list[Target]:
    """Return the targets by id, all of them or one; VaultError when another master key sealed their settings."""
    query = sa.select(targets).order_by(targets.c.id)
    if target_id is not None:
        query = query.where(targets.c.id == target_id)
    if active:
        query = query.where(targets.c.active)
    return [opened(row, vault) for row in connection.execute(query).mappings()]


def opened(row: sa.RowMapping, vault: Vault) -> Target:
    """Return the target of a row."""
    table = msgspec.json.decode(vault.unseal(row["settings"]), type=dict[str, object])
    kept = {name: row[name] for name in ("id", *_PLAIN, "source", "version")}
    kind = cast("Kind", row["kind"])
    return Target(kind=kind, settings=settings_of(kind, table), **kept)


def one(connection: sa.Connection, vault: Vault, target_id: str) -> Target:
    """Return one target; TargetError 404 when there is none."""
    found = load(connection, vault, target_id)
    if not found:
        raise TargetError(404, f"no target {target_id!r}")
    return found[0]


def create(
    connection: sa.Connection,
    vault: Vault,
    target: Target,
    allowances: Sequence[Allowance],
    *,
    actor: str,
    at_ms: int,
) -> Target:
    """Add a target of the API; raise TargetError for one that is there, or that reaches where it may not."""
    check_reach(target.kind, target.settings, tuple(allowances))
    if connection.scalar(sa.select(targets.c.id).where(targets.c.id == target.id)):
        raise TargetError(409, f"target {target.id!r} is there already; change it", field="id")
    connection.execute(sa.insert(targets).values(**row_of(target, vault)))
    _note(connection, "target.created", target, actor, at_ms)
    return target


def change(
    connection: sa.Connection,
    vault: Vault,
    target_id: str,
    version: int,
    changes: Mapping[str, object],
    allowances: Sequence[Allowance],
    *,
    actor: str,
    at_ms: int,
) -> Target:
    """Change a target of the API that is at ``version``; a secret given back as it was shown stays as it is."""
    before = _own(one(connection, vault, target_id), version)
    wanted = dict(changes)
    given = wanted.pop("settings", None)
    settings = before.settings
    if isinstance(given, dict):
        settings = settings_of(before.kind, _filled(given, before.settings))
        check_reach(before.kind, settings, tuple(allowances))
    fresh = {name: value for name, value in wanted.items() if name in _PLAIN}
    after = replace(before, **fresh, settings=settings, version=version + 1)  # type: ignore[arg-type]
    connection.execute(
        sa.update(targets).where(targets.c.id == target_id).values(**row_of(after, vault))
    )
    _note(connection, "target.changed", after, actor, at_ms)
    return after


def remove(
    connection: sa.Connection, vault: Vault, target_id: str, version: int, *, actor: str, at_ms: int
) -> None:
    """Take away a target of the API: with history it stays, inactive; what waits for it is dropped."""
    before = _own(one(connection, vault, target_id), version)
    drop_waiting(connection, [target_id])
    told = connection.scalar(
        sa.select(notices.c.id).where(notices.c.target_id == target_id).limit(1)
    )
    sent = connection.scalar(
        sa.select(messages.c.id).where(messages.c.target_id == target_id).limit(1)
    )
    here = targets.c.id == target_id
    if told is None and sent is None:
        connection.execute(sa.delete(targets).where(here))
    else:
        connection.execute(sa.update(targets).where(here).values(active=False, version=version + 1))
    _note(connection, "target.removed", before, actor, at_ms)


def drop_waiting(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Let go of what waits for targets that are told nothing any more."""
    connection.execute(
        sa.update(notices)
        .where(notices.c.target_id.in_(ids), notices.c.state == PENDING)
        .values(state=DROPPED, error="the target is not active")
    )


def row_of(target: Target, vault: Vault) -> dict[str, object]:
    """Return the row of the table, its settings sealed."""
    row = {name: getattr(target, name) for name in ("id", "kind", *_PLAIN, "source", "version")}
    sealed = vault.seal(msgspec.json.encode(target.settings).decode())
    return {**row, "quiet": dict(target.quiet), "settings": sealed}


def _own(target: Target, version: int) -> Target:
    if target.trusted:
        raise TargetError(409, f"target {target.id!r} stands in the server's file; change it there")
    if target.version != version:
        raise TargetError(
            409,
            f"target {target.id!r} is at version {target.version}; look at it again",
            field="version",
            version=target.version,
        )
    return target


def _filled(given: Mapping[str, object], before: Settings) -> dict[str, object]:
    """Return ``given`` with the secrets that it shows masked taken from ``before``."""
    kept = msgspec.to_builtins(before)
    masked = before.masked()
    held = {name for name, value in given.items() if value == masked.get(name) and _hidden(value)}
    if isinstance(before, Robot) and "url" not in given:
        held.add("url")
    if isinstance(before, Mail) and held & {"username", "password"}:
        moved = [
            name
            for name in ("host", "port", "security", "ca")
            if given.get(name, kept[name]) != kept[name]
        ]
        if moved:  # a login must not follow to a server that its owner has not named
            raise TargetError(
                422,
                f"settings.password: give username and password again: {moved[0]} is another",
                field="settings.password",
            )
    return {**given, **{name: kept[name] for name in held}}


def _hidden(value: object) -> bool:
    return any(SET in str(one) for one in value) if isinstance(value, list) else SET in str(value)


def _note(connection: sa.Connection, action: str, target: Target, actor: str, at_ms: int) -> None:
    note(
        connection,
        actor=actor,
        action=action,
        subject=target.id,
        data=target.shown(),
        at_ms=at_ms,
    )
