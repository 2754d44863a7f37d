"""Agents, broker and server under every kind of fault: nothing missing, nothing doubled, losses booked as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from demo.chaos import report
from demo.chaos.account import Account
from demo.chaos.plan import Kind
from demo.chaos.run import READINGS_PER_S, Result, run
from tests.conftest import require

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mosquitto


async def chaos(directory: Path, seconds: float, seed: int) -> Result:
    require("mosquitto")
    said: list[str] = []
    result = await run(
        directory,
        seconds=seconds,
        seed=seed,
        readings=round(READINGS_PER_S * seconds),
        say=said.append,
    )
    text = "\n".join([*said, *report.lines(result, {})])
    assert result.well, text
    return result


async def test_a_minute_of_every_fault(tmp_path: Path) -> None:
    result = await chaos(tmp_path, 60, seed=1)
    assert sum(result.injected.values()) >= 25
    account = result.account
    assert account.accepted > 60_000
    assert account.dropped_packs  # an outage long enough to lose something was staged
    assert account.alerts_expected > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_ten_minutes_of_faults(tmp_path: Path, seed: int) -> None:
    result = await chaos(tmp_path, 600, seed)
    assert sum(result.injected.values()) >= 200
    assert result.account.stored >= 1_000_000


def good(**changes: object) -> Result:
    base: dict[str, object] = {
        "seed": 1,
        "seconds": 60.0,
        "injected": {kind.value: 1 for kind in Kind},
        "frames": {},
        "account": Account(),
        "drain_s": 1.0,
        "peak_mb": {},
        "ended": {},
        "skipped": [],
    }
    return Result(**(base | changes))


def test_a_run_is_well_only_when_everything_is() -> None:
    assert good().well
    assert not good(account=Account(missing=1)).well
    assert not good(wrong=["no alarm came"]).well
    assert not good(ended={"server": [1]}).well
    assert not good(injected={"cut": 200}).well
    assert "doubled 1" in "\n".join(report.lines(good(account=Account(alerts_doubled=1)), {}))
