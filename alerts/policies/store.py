"""Policies and silences in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import sqlalchemy as sa

from alerts.policies.policy import Checked, Known, Match, Policy, check
from alerts.tables import endpoints, policies, silences, targets
from ingest.tables import bases, stations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.operational import Operational

CONFIG, API = "config", "api"
Scope = Literal["people", "all"]


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is told of alerts that ``match`` means from ``starts_ms`` to ``ends_ms``; ``all``: endpoints neither."""

    id: str
    match: Match
    scope: Scope
    starts_ms: int
    ends_ms: int


class SilenceText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the column ``matchers`` holds."""

    match: Match
    scope: Scope = "people"


def active_policies(connection: sa.Connection) -> list[Policy]:
    """Return the policies that are asked, in order: those of the configuration file first."""
    c = policies.c
    query = sa.select(c.document).where(c.active).order_by(c.source.desc(), c.position, c.id)
    return [msgspec.convert(row.document, Policy) for row in connection.execute(query)]


def active_silences(connection: sa.Connection, now_ms: int) -> list[Silence]:
    """Return the silences that hold now."""
    c = silences.c
    query = sa.select(silences).where(
        c.starts_ms <= now_ms, c.ends_ms > now_ms, c.ended_ms.is_(None)
    )
    return [_silence(row) for row in connection.execute(query).mappings()]


def _silence(row: sa.RowMapping) -> Silence:
    text = msgspec.convert(row["matchers"], SilenceText)
    return Silence(
        id=row["id"],
        match=text.match,
        scope=text.scope,
        starts_ms=row["starts_ms"],
        ends_ms=row["ends_ms"],
    )


def known(connection: sa.Connection) -> Known:
    """Return what policies may name."""
    c = endpoints.c
    sent_to = sa.and_(
        c.active,
        c.suspended_ms.is_(None),
        sa.or_(c.source == CONFIG, c.verified_ms.is_not(None)),
    )
    regions = sa.union(sa.select(stations.c.region_code), sa.select(bases.c.region_code))
    return Known(
        endpoints={row[0]: bool(row[1]) for row in connection.execute(sa.select(c.id, sent_to))},
        targets={
            row.id: row.active
            for row in connection.execute(sa.select(targets.c.id, targets.c.active))
        },
        regions=frozenset(connection.scalars(regions)) - {""},
        stations=frozenset(connection.scalars(sa.select(stations.c.code))),
    )


def sync_policies(operational: Operational, configured: Sequence[Policy], now_ms: int) -> None:
    """Make the table follow the configuration file; policies made over the API stay."""
    with operational.write() as connection:
        connection.execute(sa.delete(policies).where(policies.c.source == CONFIG))
        taken = set(connection.scalars(sa.select(policies.c.id)))
        for position, policy in enumerate(configured):
            if policy.id in taken:
                connection.execute(sa.delete(policies).where(policies.c.id == policy.id))
            connection.execute(
                sa.insert(policies).values(
                    id=policy.id,
                    position=position,
                    document=msgspec.to_builtins(policy),
                    active=True,
                    source=CONFIG,
                    changed_by="server.toml",
                    changed_ms=now_ms,
                )
            )


def check_all(connection: sa.Connection) -> dict[str, Checked]:
    """Return for each policy that is asked what is wrong with it; those that are well are left out."""
    there = known(connection)
    before: list[Policy] = []
    found: dict[str, Checked] = {}
    for policy in active_policies(connection):
        checked = check(policy, before, there)
        if checked.faults or checked.warnings:
            found[policy.id] = checked
        before.append(policy)
    return found
