from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bench import edge, edge_peers

if TYPE_CHECKING:
    from pathlib import Path


def test_lateness_is_against_a_schedule_without_drift() -> None:
    on_time = [10.0 + n for n in range(100)]
    late = [*on_time[:50], 60.3, *on_time[51:]]
    assert edge.lateness([on_time], 1.0)["max_lateness_ms"] == 0
    assert edge.lateness([on_time, late], 1.0)["max_lateness_ms"] == pytest.approx(300)
    assert edge.lateness([on_time, late], 1.0)["p50_lateness_ms"] == 0
    drifting = [10.0 + 1.01 * n for n in range(100)]
    assert edge.lateness([drifting], 1.0)["max_lateness_ms"] == pytest.approx(990)
    missed = [*on_time[:50], *on_time[52:]]
    assert edge.lateness([missed], 1.0)["max_lateness_ms"] == 0
    assert edge.lateness([], 1.0) == {}


def test_a_missed_poll_is_one_that_did_not_come_in_time() -> None:
    on_time = [10.2 + n for n in range(10)]
    assert edge_peers.missed([on_time], 1, 10.0, 20.0) == 0
    assert edge_peers.missed([[*on_time[:4], *on_time[6:]]], 1, 10.0, 20.0) == 2
    assert edge_peers.missed([on_time[:-1]], 1, 10.0, 19.5) == 0
    assert edge_peers.missed([[10.2 + 1.34 * n for n in range(8)]], 1, 10.0, 20.0) == 2
    assert edge_peers.missed([on_time], 2, 10.0, 20.0) == 10
    assert edge_peers.missed([on_time[5:]], 1, 10.0, 20.0) == 5


def test_without_the_peer_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(edge_peers.VENV, raising=False)
    result = CliRunner().invoke(edge_peers.main, [])
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert "not installed" in line
    assert edge_peers.VENV in line


def test_both_get_the_same_registers(tmp_path: Path) -> None:
    defaults = tmp_path / "lib/python3/site-packages/thingsboard_gateway/config"
    defaults.mkdir(parents=True)
    (defaults / "tb_gateway.json").write_text('{"thingsboard": {}, "connectors": []}')
    (defaults / "logs.json").write_text("{}")
    command = tmp_path / "bin/thingsboard-gateway"
    settings = edge_peers.write_peer(command, tmp_path, 1883, [5001, 5002], one_block=False)
    slaves = json.loads((settings / "modbus.json").read_text())["master"]["slaves"]
    assert [slave["port"] for slave in slaves] == [5001, 5002]
    asked = [(tag["address"], tag["objectsCount"]) for tag in slaves[0]["timeseries"]]
    assert asked == [(n, 1) for n in range(edge.REGISTERS)]
    assert edge.edge_toml(["p/0"], [5001], 1883, 1.0).count("address = ") == edge.REGISTERS
