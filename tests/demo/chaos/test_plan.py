"""The plan of faults follows from the seed alone and has each kind."""

from __future__ import annotations

import random

import pytest

from demo.chaos.plan import Fault, Kind, plan

AGENTS = [f"edge-{n}" for n in range(1, 7)]


def planned(seed: int, seconds: float) -> list[Fault]:
    return plan(random.Random(seed), seconds=seconds, agents=AGENTS, capped=AGENTS[-2:])


def test_the_same_seed_gives_the_same_faults() -> None:
    assert planned(7, 600) == planned(7, 600)
    assert planned(7, 600) != planned(8, 600)


@pytest.mark.parametrize("seconds", [60, 150, 600])
@pytest.mark.parametrize("seed", range(5))
def test_each_kind_strikes_within_the_time(seed: int, seconds: float) -> None:
    faults = planned(seed, seconds)
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(0 <= fault.at_s <= seconds for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at_s)


def test_there_are_enough_of_them() -> None:
    assert len(planned(1, 60)) >= 25
    assert len(planned(1, 600)) >= 200


def test_faults_strike_who_can_suffer_them() -> None:
    for fault in planned(3, 6000):
        match fault.kind:
            case Kind.KILL_BROKER:
                assert fault.target == "broker"
            case Kind.KILL_SERVER | Kind.DISK_SERVER | Kind.RESTORE_SERVER:
                assert fault.target == "server"
            case Kind.OUTAGE:
                assert fault.target in AGENTS[-2:]
            case Kind.KILL_AGENT | Kind.CLOCK_YEAR | Kind.DISK_AGENT | Kind.RESTORE_SPOOL:
                assert fault.target in AGENTS
            case _:
                assert fault.target in {*AGENTS, "server"}
