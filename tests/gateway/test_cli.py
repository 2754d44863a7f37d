from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from gateway import agent_status, app
from gateway.agent_status import AgentStatus, StationStatus
from gateway.cli import edge
from gateway.schedule import Clock
from tests.gateway.conftest import edge_toml, free_port

if TYPE_CHECKING:
    from pathlib import Path


def test_check_of_a_good_file_changes_nothing(tmp_path: Path) -> None:
    file = edge_toml(tmp_path, broker=1883, meter=502)
    result = CliRunner().invoke(edge, ["-c", str(file), "--check"])
    assert result.exit_code == 0
    assert "1 stations, 1 devices" in result.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["edge.toml"]


def test_check_lists_every_fault_and_ends_with_2(tmp_path: Path) -> None:
    file = edge_toml(tmp_path, broker=0, meter=0)
    file.write_text(file.read_text().replace("hl-001", "HL/001"))
    result = CliRunner().invoke(edge, ["-c", str(file), "--check"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 3
    assert "Traceback" not in result.output


def test_once_ends_with_1_when_a_device_is_silent(tmp_path: Path) -> None:
    file = edge_toml(tmp_path, broker=1883, meter=free_port())
    result = CliRunner().invoke(edge, ["-c", str(file), "--once"])
    assert result.exit_code == 1
    assert "LinkError" in result.output


def test_a_second_agent_is_told_which_process_holds_the_directory(tmp_path: Path) -> None:
    file = edge_toml(tmp_path, broker=1883, meter=502)
    with app.only_agent(tmp_path / "data"):
        result = CliRunner().invoke(edge, ["-c", str(file)])
    assert result.exit_code == 1
    assert f"process {os.getpid()}" in result.stderr


def test_status_has_the_tick_when_all_is_well_and_not_when_it_is_stale(tmp_path: Path) -> None:
    file = edge_toml(tmp_path, broker=1883, meter=502)
    result = CliRunner().invoke(edge, ["status", "-c", str(file)])
    assert result.exit_code == 1
    assert "data_dir" in result.stderr

    station = StationStatus(
        code="hl-001",
        connected=True,
        queue=0,
        oldest_unreceipted_ms=None,
        last_receipt_ms=Clock().wall_ms(),
        clock_offset_ms=0,
        alarms=[],
        devices=[],
    )
    status = AgentStatus(
        pid=os.getpid(), at_ms=Clock().wall_ms(), running=True, version="1", stations=[station]
    )
    (tmp_path / "data").mkdir()
    agent_status.write(tmp_path / "data", status)
    for arguments in (["status", "-c", str(file)], ["-c", str(file), "status"]):
        result = CliRunner().invoke(edge, arguments)
        assert result.exit_code == 0
        assert result.output.startswith("✓")

    agent_status.write(
        tmp_path / "data",
        AgentStatus(pid=os.getpid(), at_ms=1, running=True, version="1", stations=[station]),
    )
    result = CliRunner().invoke(edge, ["status", "-c", str(file)])
    assert result.exit_code == 1
    assert result.output.startswith("✗")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, "采集程序"),
        ([], {"LC_ALL": "", "LANG": "en_GB.UTF-8"}, "agent"),
        (["--lang", "zh"], {"LC_ALL": "C.UTF-8"}, "采集程序"),
        (["--lang", "en"], {"LC_ALL": "zh_CN.UTF-8"}, "agent"),
    ],
)
def test_status_speaks_the_language_asked_for(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    file = edge_toml(tmp_path, broker=1883, meter=502)
    (tmp_path / "data").mkdir()
    agent_status.write(
        tmp_path / "data", AgentStatus(pid=1, at_ms=1, running=False, version="1", stations=[])
    )
    command = ["status", "-c", str(file), *arguments]
    result = CliRunner(env={"LC_MESSAGES": "", **environment}).invoke(edge, command)
    assert result.output.startswith(f"✗ {said}")


def test_status_of_a_missing_configuration(tmp_path: Path) -> None:
    result = CliRunner().invoke(edge, ["status", "-c", str(tmp_path / "no.toml")])
    assert result.exit_code == 2
    assert "no such file" in result.stderr
