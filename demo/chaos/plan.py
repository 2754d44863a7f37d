"""Which faults strike whom, when, and for how long: all from one seed (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

SERVER, BROKER = "server", "broker"


class Kind(StrEnum):
    """What can go wrong."""

    KILL_AGENT = "kill_agent"
    KILL_SIMULATOR = "kill_simulator"
    KILL_BROKER = "kill_broker"
    KILL_SERVER = "kill_server"
    CUT = "cut"
    STALL = "stall"
    BANDWIDTH = "bandwidth"
    LATENCY = "latency"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"
    DROP = "drop"
    CLOCK_FORWARD = "clock_plus_1h"
    CLOCK_BACK = "clock_minus_1h"
    CLOCK_YEAR = "clock_minus_1y"
    DISK_AGENT = "disk_full_agent"
    DISK_SERVER = "disk_full_server"
    OUTAGE = "outage"
    RESTORE_SPOOL = "restore_spool"
    RESTORE_SERVER = "restore_server"


# How often each, and for how many seconds (for a kill: how long until it is started again).
_MIX: dict[Kind, tuple[int, float, float]] = {
    Kind.KILL_AGENT: (14, 0.0, 3.0),
    Kind.KILL_SIMULATOR: (9, 0.0, 3.0),
    Kind.KILL_BROKER: (4, 0.0, 4.0),
    Kind.KILL_SERVER: (3, 0.0, 4.0),
    Kind.CUT: (16, 0.0, 6.0),
    Kind.STALL: (9, 1.0, 9.0),
    Kind.BANDWIDTH: (8, 3.0, 12.0),
    Kind.LATENCY: (8, 3.0, 12.0),
    Kind.DUPLICATE: (9, 3.0, 10.0),
    Kind.REORDER: (9, 3.0, 10.0),
    Kind.DELAY: (9, 3.0, 10.0),
    Kind.DROP: (9, 3.0, 10.0),
    Kind.CLOCK_FORWARD: (6, 2.0, 12.0),
    Kind.CLOCK_BACK: (6, 2.0, 12.0),
    Kind.CLOCK_YEAR: (5, 2.0, 12.0),
    Kind.DISK_AGENT: (6, 1.0, 6.0),
    Kind.DISK_SERVER: (2, 1.0, 6.0),
    Kind.OUTAGE: (2, 25.0, 32.0),
    Kind.RESTORE_SPOOL: (3, 0.0, 0.0),
    Kind.RESTORE_SERVER: (2, 0.0, 2.0),
}
_OF_LINK = frozenset(
    {
        Kind.CUT,
        Kind.STALL,
        Kind.BANDWIDTH,
        Kind.LATENCY,
        Kind.DUPLICATE,
        Kind.REORDER,
        Kind.DELAY,
        Kind.DROP,
    }
)
_OF_SERVER = frozenset({Kind.KILL_SERVER, Kind.DISK_SERVER, Kind.RESTORE_SERVER})
_NEEDS_HISTORY = frozenset({Kind.RESTORE_SPOOL, Kind.RESTORE_SERVER})
SERVER_LINK_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``at_s`` after the start, for ``duration_s``; ``amount`` is in the kind's own measure."""

    at_s: float
    kind: Kind
    target: str
    duration_s: float
    amount: float = 0.0


def faults_in(seconds: float) -> int:
    """Return how many faults a run of ``seconds`` gets.

    >>> faults_in(60), faults_in(600)
    (32, 240)
    """
    return max(32, math.ceil(seconds * 0.4))


def plan(
    rng: Random, *, seconds: float, agents: Sequence[str], capped: Sequence[str]
) -> list[Fault]:
    """Return the faults of a run in order of time: each kind at least once, the rest as the mix has it."""
    kinds = list(Kind)
    weights = [_MIX[kind][0] for kind in kinds]
    drawn = kinds + rng.choices(kinds, weights, k=faults_in(seconds) - len(kinds))
    faults = []
    for kind in drawn:
        _, shortest, longest = _MIX[kind]
        duration_s = rng.uniform(shortest, longest)
        earliest, latest = 2.0, seconds - 3.0
        if kind in _NEEDS_HISTORY:
            earliest, latest = seconds * 0.5, seconds * 0.9
        elif kind is Kind.OUTAGE:
            latest = max(earliest + 1, seconds - duration_s)
        faults.append(
            Fault(
                rng.uniform(earliest, latest),
                kind,
                _target(rng, kind, agents, capped),
                duration_s,
                _amount(rng, kind),
            )
        )
    return sorted(faults, key=lambda fault: fault.at_s)


def _target(rng: Random, kind: Kind, agents: Sequence[str], capped: Sequence[str]) -> str:
    if kind in _OF_SERVER:
        return SERVER
    if kind is Kind.KILL_BROKER:
        return BROKER
    if kind is Kind.OUTAGE:
        return rng.choice(capped)
    if kind in _OF_LINK and rng.random() < SERVER_LINK_SHARE:
        return SERVER
    return rng.choice(agents)


def _amount(rng: Random, kind: Kind) -> float:
    match kind:
        case Kind.BANDWIDTH:
            return rng.uniform(3_000, 30_000)  # bytes/s; an agent makes about 15,000
        case Kind.LATENCY:
            return rng.uniform(0.1, 1.5)  # s
        case Kind.DUPLICATE | Kind.REORDER | Kind.DELAY | Kind.DROP:
            return rng.uniform(0.05, 0.5)  # of all PUBLISH
        case Kind.CLOCK_FORWARD:
            return 3_600_000  # ms
        case Kind.CLOCK_BACK:
            return -3_600_000
        case Kind.CLOCK_YEAR:
            return -365 * 24 * 3_600_000
        case Kind.DISK_AGENT | Kind.DISK_SERVER:
            return float(rng.random() < 0.5)  # 1: files keep what they have; 0: not even that
        case _:
            return 0.0
