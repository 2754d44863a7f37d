"""Policies as configured: the ``[[policy]]`` tables of the server's TOML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from alerts.policies.policy import Policy
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def load_policies(tables: Iterable[Mapping[str, object]], file: str) -> list[Policy]:
    """Return the policies of the ``[[policy]]`` tables, in order; raise ConfigError with every fault."""
    found: list[Policy] = []
    faults: list[str] = []
    for number, table in enumerate(tables, 1):
        where = f"{file}: [[policy]] {table.get('id', number)}:"
        try:
            policy = msgspec.convert(table, Policy)
        except msgspec.ValidationError as exc:
            faults.append(f"{where} {exc}")
            continue
        faults += [f"{where} {fault}" for fault in policy.match.faults()]
        if policy.id in {other.id for other in found}:
            faults.append(f"{where} id: used twice")
        found.append(policy)
    if faults:
        raise ConfigError(faults)
    return found
