from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway import agent_status
from gateway.agent_status import AgentStatus, StationStatus
from gateway.errors import NoStatusError
from gateway.schedule import Clock
from gateway.wire import DeviceSeen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import FakeTime

NOW = 1_763_900_000_000


def station(**changes: object) -> StationStatus:
    good = StationStatus(
        code="hl-001",
        connected=True,
        queue=0,
        oldest_unreceipted_ms=None,
        last_receipt_ms=NOW - 3_000,
        clock_offset_ms=10,
        alarms=[],
        devices=[DeviceSeen("plot3/soil1", NOW - 2_000, ok=True)],
    )
    return msgspec.structs.replace(good, **changes)


def status(*stations: StationStatus, **changes: object) -> AgentStatus:
    good = AgentStatus(
        pid=os.getpid(), at_ms=NOW - 1_000, running=True, version="1.0", stations=list(stations)
    )
    return msgspec.structs.replace(good, **changes)


def test_all_well_has_the_tick_on_every_line() -> None:
    text, well = agent_status.render(status(station()), 1_000, alive=True)
    assert well
    lines = text.splitlines()
    assert len(lines) == 3
    assert all(line.strip().startswith("✓") for line in lines)
    assert "hl-001" in lines[1]
    assert "last receipt 3 s ago" in lines[1]
    assert "plot3/soil1" in lines[2]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"connected": False}, "not connected"),
        (
            {"queue": 7, "oldest_unreceipted_ms": NOW - 300_000},
            "7 packs wait for a receipt, the oldest for 5 min",
        ),
        ({"alarms": ["spool_full"]}, "spool_full"),
        (
            {"devices": [DeviceSeen("plot3/soil1", NOW - 120_000, ok=False)]},
            "does not answer; last seen 2 min ago",
        ),
        ({"devices": [DeviceSeen("plot3/soil1", None, ok=False)]}, "never answered"),
    ],
)
def test_what_is_wrong_is_said_and_takes_the_tick_away(
    changed: dict[str, object], said: str
) -> None:
    text, well = agent_status.render(
        status(station(**changed), station(code="hl-002")), 1_000, alive=True
    )
    assert not well
    assert said in text
    lines = text.splitlines()
    assert lines[0].startswith("✗")
    assert lines[1].startswith("✗ hl-001")
    assert any(line.startswith("✓ hl-002") for line in lines)


def test_a_young_queue_is_no_fault() -> None:
    text, well = agent_status.render(
        status(station(queue=2, oldest_unreceipted_ms=NOW - 500)), 1_000, alive=True
    )
    assert well
    assert "2 packs" in text


def test_stale_dead_and_stopped_say_so() -> None:
    stale, well = agent_status.render(status(station()), 60_000, alive=True)
    assert not well
    assert "has not written its status for 60 s" in stale
    dead, well = agent_status.render(status(station()), 1_000, alive=False)
    assert not well
    assert "is gone" in dead
    stopped, well = agent_status.render(status(station(), running=False), 1_000, alive=False)
    assert not well
    assert "stopped" in stopped


def test_crashes_are_shown() -> None:
    text, _ = agent_status.render(status(station(), crashes={"bus x": 2}), 1_000, alive=True)
    assert "bus x crashed 2 times" in text


def test_chinese_has_every_line() -> None:
    wrong = station(
        connected=False,
        queue=7,
        oldest_unreceipted_ms=NOW - 300_000,
        clock_offset_ms=-400_000,
        alarms=["clock_off", "of_a_later_version"],
        devices=[DeviceSeen("plot3/soil1", NOW - 120_000, ok=False)],
    )
    text, well = agent_status.render(status(wrong), 1_000, alive=True, lang="zh")
    assert not well
    lines = text.splitlines()
    assert lines[0].startswith("✗ 采集程序 1.0 正在运行")
    assert "未连接到消息服务器 · 7 个数据包等待回执，最早的已等 5 分钟" in lines[1]
    assert "告警：clock_off（时钟偏差超过 5 分钟）、of_a_later_version" in lines[1]
    assert "服务器时钟比本机快 -400 秒" in lines[1]
    assert lines[2] == "    ✗ plot3/soil1  无应答；最近应答在 2 分钟前"


def test_both_languages_say_the_same_things() -> None:
    english, chinese = agent_status.TEXT["en"], agent_status.TEXT["zh"]
    assert english.keys() == chinese.keys()
    for key in english:
        holes = [sorted(re.findall(r"{(\w+)}", text[key])) for text in (english, chinese)]
        assert holes[0] == holes[1], key


@pytest.mark.parametrize("set_by_s", [3600, -3600, -365 * 86_400, 365 * 86_400])
def test_the_age_of_a_status_does_not_follow_a_clock_that_is_set(set_by_s: int) -> None:
    written = status(
        station(), at_ms=NOW, at_up_ms=round(time.monotonic() * 1000), boot=agent_status.boot_id()
    )
    later = Clock(
        monotonic=lambda: time.monotonic() + 7.0, wall_ms=lambda: NOW + 7_000 + set_by_s * 1000
    )
    assert 7_000 <= agent_status.age_ms(written, later) < 60_000
    other_boot = msgspec.structs.replace(written, boot="another")
    assert agent_status.age_ms(other_boot, later) == max(0, 7_000 + set_by_s * 1000)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    agent_status.write(tmp_path, status(station()))
    assert agent_status.read(tmp_path) == status(station())
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoStatusError, match="data_dir"):
        agent_status.read(tmp_path)
    (tmp_path / "status.json").write_bytes(b'{"pid":')
    with pytest.raises(NoStatusError, match="cannot be read"):
        agent_status.read(tmp_path)


def test_a_process_that_ended_is_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert not agent_status.is_alive(process.pid)
    assert agent_status.is_alive(os.getpid())


async def test_a_change_is_written_without_waiting_for_the_next_round(
    tmp_path: Path, fake_time: FakeTime
) -> None:
    changed = asyncio.Event()
    collected = asyncio.Queue[None]()

    async def collect() -> AgentStatus:
        collected.put_nowait(None)
        return status(station())

    async with asyncio.timeout(4), asyncio.TaskGroup() as group:  # a round is 5 s
        task = group.create_task(
            agent_status.keep_written(tmp_path, collect, changed, clock=fake_time.clock())
        )
        await collected.get()
        changed.set()
        await collected.get()
        task.cancel()
    assert agent_status.read(tmp_path).running


async def test_a_status_that_cannot_be_written_is_said_once_and_ends_nothing(
    tmp_path: Path, fake_time: FakeTime
) -> None:
    changed = asyncio.Event()
    collected = asyncio.Queue[None]()
    gone = tmp_path / "gone"

    async def collect() -> AgentStatus:
        collected.put_nowait(None)
        changed.set()
        return status(station())

    with capture_logs() as logs:
        async with asyncio.timeout(4), asyncio.TaskGroup() as group:
            task = group.create_task(
                agent_status.keep_written(gone, collect, changed, clock=fake_time.clock())
            )
            for _ in range(3):
                await collected.get()
            gone.mkdir()
            for _ in range(2):
                await collected.get()
            task.cancel()
    assert [entry["event"] for entry in logs] == ["status_not_written"]
    assert agent_status.read(gone).running
