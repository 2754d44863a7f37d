"""The server's time, steps of the wall clock, and one real agent whose clock is set under its feet (R18)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway import agent_status, wire
from gateway.bus import POLL_AT_MOST_S
from gateway.clock import (
    KEEP_SAMPLE_S,
    ServerClock,
    clock_alarms,
    clock_trust,
)
from gateway.packer import LINGER_S
from gateway.schedule import Clock
from gateway.wall_watch import STEP_DOUBT_S, WallWatch
from gateway.wire import ClockTrust
from tests.conftest import require
from tests.gateway.conftest import edge_toml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import Meter, Server

ROOT = Path(__file__).parents[2]
NOW_MS = 1_795_000_000_000
HOUR_S, YEAR_S = 3600, 365 * 86_400
STEPS_S = {
    "+1 h": HOUR_S,
    "-1 h": -HOUR_S,
    "-1 y": -YEAR_S,
    "+1 y": YEAR_S,
    "2000": 946_684_800 - NOW_MS // 1000,
    "1970": 60 - NOW_MS // 1000,
    "NTP": 3,
}


@dataclass
class Hands:
    """Two clocks that the test moves."""

    now: float = 5_000.0
    set_by_s: float = 0.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall_ms=self.wall_ms)

    def wall_ms(self) -> int:
        return NOW_MS + round((self.now - 5_000.0 + self.set_by_s) * 1000)

    def true_ms(self) -> int:
        return NOW_MS + round((self.now - 5_000.0) * 1000)


@pytest.fixture
def hands() -> Hands:
    return Hands()


# ---- trust and alarms


def test_clock_trust() -> None:
    assert clock_trust(0, None) is ClockTrust.UNSET
    assert clock_trust(NOW_MS, None) is ClockTrust.FREE
    assert clock_trust(NOW_MS, -4_999) is ClockTrust.SYNC
    assert clock_trust(NOW_MS, 5_001) is ClockTrust.FREE
    assert clock_trust(NOW_MS, 0, stepped=True) is ClockTrust.FREE
    assert clock_trust(0, 0, stepped=True) is ClockTrust.UNSET


def test_the_alarm_begins_beyond_5_minutes_either_way() -> None:
    assert clock_alarms(NOW_MS, None) == set()
    assert clock_alarms(NOW_MS, 300_000) == set()
    assert clock_alarms(NOW_MS, -300_001) == {"clock_off"}
    assert clock_alarms(NOW_MS, 300_001) == {"clock_off"}
    assert clock_alarms(1_000, NOW_MS) == {"clock_unset"}


# ---- the server's time


def test_the_offset_is_known_at_once_when_the_wall_clock_is_set(hands: Hands) -> None:
    server = ServerClock()
    assert server.offset_ms(hands.wall_ms(), hands.now) is None
    server.heard(hands.true_ms(), hands.now, 0.0)
    for set_by_s in STEPS_S.values():
        hands.now += 60.0
        hands.set_by_s = set_by_s
        assert server.offset_ms(hands.wall_ms(), hands.now) == -set_by_s * 1000
    hands.set_by_s = 0.0
    assert server.offset_ms(hands.wall_ms(), hands.now) == 0


def test_the_quickest_receipt_of_the_last_minutes_counts(hands: Hands) -> None:
    server = ServerClock()

    def heard(on_its_way_s: float, round_trip_s: float | None) -> int | None:
        hands.now += 1.0
        stamped_ms = hands.true_ms() - round(on_its_way_s * 1000)
        assert server.heard(stamped_ms, hands.now, round_trip_s) == 0
        return server.offset_ms(hands.wall_ms(), hands.now)

    assert heard(3.0, 4.0) == -1_000  # half of four seconds, where it was three
    assert heard(0.05, 0.1) == 0
    assert heard(30.0, None) == 0  # a receipt that lay in the broker says nothing
    assert heard(3.0, 4.0) == 0
    hands.now += KEEP_SAMPLE_S
    assert heard(0.9, 1.0) == -400  # the good one is old: crystals drift


def test_a_server_whose_clock_was_set_is_believed(hands: Hands) -> None:
    server = ServerClock()
    server.heard(hands.true_ms(), hands.now, 0.1)
    hands.now += 1.0
    assert server.heard(hands.true_ms() - 600_000, hands.now, 0.1) == pytest.approx(-600_000, abs=1)
    assert server.offset_ms(hands.wall_ms(), hands.now) == pytest.approx(-600_000, abs=100)
    hands.now += 1.0
    assert server.heard(hands.true_ms(), hands.now, 0.1) == pytest.approx(600_000, abs=1)


# ---- steps


@pytest.mark.parametrize("set_by_s", STEPS_S.values(), ids=STEPS_S)
def test_a_step_is_said_once_with_its_size_and_the_packs_that_span_it_are_free(
    hands: Hands, set_by_s: float
) -> None:
    watch = WallWatch(hands.clock())
    wall_ms = watch.watched().wall_ms
    with capture_logs() as lines:
        for _ in range(100):
            hands.now += 0.1
            wall_ms()
            assert not watch.just_stepped()
        hands.set_by_s = set_by_s
        for _ in range(100):
            hands.now += 0.1
            wall_ms()
            assert watch.just_stepped()
    assert [(line["event"], line["by_s"]) for line in lines] == [("clock_stepped", set_by_s)]
    hands.now += STEP_DOUBT_S
    assert not watch.just_stepped()


def test_a_leap_second_and_slewing_are_no_step(hands: Hands) -> None:
    watch = WallWatch(hands.clock())
    with capture_logs() as lines:
        watch.wall_ms()
        hands.set_by_s = -1.0  # the wall clock repeats a second
        watch.wall_ms()
        for _ in range(10_000):
            hands.now += 1.0
            hands.set_by_s += 500e-6
            watch.wall_ms()
    assert (lines, watch.steps) == ([], 0)
    server = ServerClock()
    server.heard(hands.true_ms(), hands.now, 0.0)
    for off_s, trust in ((-1.0, ClockTrust.SYNC), (5.5, ClockTrust.FREE)):
        hands.set_by_s = off_s  # what slewing adds up to is seen against the server
        offset_ms = server.offset_ms(hands.wall_ms(), hands.now)
        assert clock_trust(hands.wall_ms(), offset_ms) is trust


def test_two_clocks_read_far_apart_are_not_compared(hands: Hands) -> None:
    def wall_ms() -> int:
        hands.now += 10.0  # the thread was put aside between the two
        return hands.wall_ms()

    watch = WallWatch(Clock(monotonic=lambda: hands.now, wall_ms=wall_ms))
    for _ in range(3):
        watch.wall_ms()
    assert watch.steps == 0


# ---- a real agent


class Fake:
    """What libfaketime is told: seconds that the wall clock is off, read anew at each look."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faketime"
        self.off_s = 0.0
        self.set(0)

    def set(self, off_s: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_s:+}\n")
        new.replace(self._file)
        self.off_s = off_s

    def environment(self) -> dict[str, str]:
        require("faketime")
        [library] = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))[:1]
        return {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # s; without it each look at the clock reads the file
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@asynccontextmanager
async def agent_under(fake: Fake, file: Path, log: Path) -> AsyncIterator[None]:
    code = "from gateway.cli import edge; edge()"
    with log.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            "-c",
            str(file),
            cwd=ROOT,
            env=fake.environment(),
            stderr=err,
        )
    try:
        yield
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.mosquitto
async def test_an_agent_whose_clock_is_set_mid_run(
    tmp_path: Path, meter: Meter, server: Server
) -> None:
    """Behaviour 10: no poll more or less, no reading outside the real interval that is not flagged, none lost."""
    fake, log = Fake(tmp_path), tmp_path / "log"
    interval_s = 0.05
    file = edge_toml(tmp_path, broker=server.port, meter=meter.port, poll_interval_s=interval_s)
    began_ms, began = time.time_ns() // 1_000_000, time.monotonic()
    steps = [HOUR_S, -HOUR_S, 0, -YEAR_S, YEAR_S, 946_684_800 - time.time(), 60 - time.time(), 0]
    alarms: list[set[str]] = []
    async with agent_under(fake, file, log):
        await server.until_readings(20)
        for off_s in steps:
            fake.set(off_s)
            status = await written(tmp_path / "data", fake)
            await server.until_readings(meter.served + 10)
            alarms.append({a for a in status.stations[0].alarms if a.startswith("clock")})
            text, _ = agent_status.render(status, agent_status.age_ms(status, Clock()), alive=True)
            assert "has not written" not in text
    ended_ms, ended = time.time_ns() // 1_000_000, time.monotonic()

    values = [v for _, v in server.readings if v is not None]
    assert values == [float(n) for n in range(1, len(values) + 1)]  # none missing, none twice
    assert len(values) in {meter.served, meter.served - 1}
    assert meter.served <= (ended - began) / interval_s + 2  # a clock set forward makes no poll

    untrue = 0
    for t_ms, trust in stamps(server):
        if not began_ms - 1_000 <= t_ms <= ended_ms + 1_000:
            untrue += 1
            assert trust is not ClockTrust.SYNC
    assert untrue >= 10 * 6
    assert {trust for _, trust in stamps(server)} == set(ClockTrust)
    off, good, unset = {"clock_off"}, set[str](), {"clock_unset"}
    assert alarms == [off, off, good, off, off, unset, unset, good]
    lines = log.read_text()
    assert lines.count("clock_stepped") == len(steps)
    assert "task_crashed" not in lines


async def written(directory: Path, fake: Fake) -> agent_status.AgentStatus:
    """Return a status that was written under the clock as it is set now."""
    async with asyncio.timeout(30):
        while True:
            status = agent_status.read(directory)
            if abs(status.at_ms / 1000 - time.time() - fake.off_s) < 60:
                return status
            await asyncio.sleep(0.05)


def stamps(server: Server) -> list[tuple[float, ClockTrust]]:
    found = []
    for pack in server.taken:
        body, base = wire.decode_body(pack.body), 0.0
        for record in body.readings or ():
            base = record.bt if record.bt is not None else base
            found.append(((base + record.t) * 1000, body.clk))
    return found


def test_the_doubt_after_a_step_outlasts_the_longest_poll() -> None:
    assert STEP_DOUBT_S > POLL_AT_MOST_S + LINGER_S
