"""What a person decides about a gateway key: approve it, let it take over, refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from ingest.tables import gateway_keys as k

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnknownKeyError(Exception):
    """The station never showed this key."""


class KeyConflictError(Exception):
    """Not possible as the keys stand; the message says what is."""


def states(db: sa.Connection, station: str) -> dict[str, str]:
    """Return the state of every key of ``station``."""
    query = sa.select(k.c.key, k.c.state).where(k.c.station == station)
    return dict(db.execute(query).all())


def approve(db: sa.Connection, station: str, key: str) -> None:
    """Let ``key`` deliver; KeyConflictError while another key is approved, UnknownKeyError for one never shown."""
    others = _others_approved(_known(db, station, key), key)
    if others:
        raise KeyConflictError(
            f"station {station!r} has an approved key, {others[0]}; if the gateway was swapped:"
            f" agrigate station replace {station} {key}"
        )
    _set(db, station, key, "approved", None)


def replace(db: sa.Connection, station: str, key: str, now_ms: int) -> list[str]:
    """Let ``key`` deliver in place of the approved one, which keeps its epochs up to now; return who was replaced.

    Raises KeyConflictError when none is approved, UnknownKeyError for a key never shown.
    """
    known = _known(db, station, key)
    others = _others_approved(known, key)
    if not others and known[key] != "approved":
        raise KeyConflictError(
            f"station {station!r} has no approved key to replace: agrigate station approve {station} {key}"
        )
    for other in others:
        _set(db, station, other, "replaced", now_ms)
    _set(db, station, key, "approved", None)
    return others


def refuse(db: sa.Connection, station: str, key: str) -> None:
    """Take nothing more from ``key``, stolen or foreign; UnknownKeyError for one never shown."""
    _known(db, station, key)
    _set(db, station, key, "refused", None)


def _known(db: sa.Connection, station: str, key: str) -> Mapping[str, str]:
    known = states(db, station)
    if key not in known:
        raise UnknownKeyError(
            f"station {station!r} has shown no gateway key {key!r}; start its agent first"
        )
    return known


def _others_approved(known: Mapping[str, str], key: str) -> list[str]:
    return [other for other, state in known.items() if state == "approved" and other != key]


def _set(db: sa.Connection, station: str, key: str, state: str, replaced_ms: int | None) -> None:
    db.execute(
        sa.update(k)
        .where(k.c.station == station, k.c.key == key)
        .values(state=state, replaced_ms=replaced_ms)
    )
