"""An instrument is unplugged while its alert is open: the alert stays open and says that its data is stale."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway import keys
from tests.conftest import Mosquitto, free_port, until
from tests.faults.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mosquitto

EDGE = """
[agent]
data_dir = "edge"
[broker]
host = "127.0.0.1"
port = {mqtt}
allow_plaintext = true
[[station]]
code = "hl-001"
[[station.device]]
path = "canal/ph"
driver = "modbus"
host = "127.0.0.1"
port = {modbus}
unit_id = 1
poll_interval_s = 0.5
points = [{{ indicator = "water_ph", address = 0, type = "u16", scale = "0.75", unit = "[pH]" }}]
"""


@contextlib.contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, *argv], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def instrument(port: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A Modbus TCP server whose registers all say 12: a pH of 9 by the scale above."""
    return running("-m", "bench.modbus", "1", str(port))


def test_an_open_exceedance_of_an_unplugged_device_stays_open_and_is_stale(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    server = ServerProcess(tmp_path, mosquitto.port)
    server.config.write_text(server.config.read_text() + "[technical]\nstale_after_s = 1\n")
    home = tmp_path / "edge" / "hl-001"
    home.mkdir(parents=True)
    registry = tmp_path / "registry.toml"
    known = keys.public_text(server.key)
    ours = keys.public_text(keys.load_or_create(home / "agent.key"))
    registry.write_text(registry.read_text("utf-8").replace(known, ours), "utf-8")
    modbus = free_port()
    edge = tmp_path / "edge.toml"
    edge.write_text(EDGE.format(mqtt=mosquitto.port, modbus=modbus))

    def alert() -> dict:
        found = server.api("/alerts?kind=limit")["alerts"]
        return found[0] if found else {}

    server.start()
    try:
        with running("-m", "agrigate", "edge", "-c", str(edge)):
            with instrument(modbus):
                until(alert)
                assert alert()["flags"] == []
            until(lambda: "data_stale" in alert()["flags"], within_s=60)
            assert alert()["state"] == "suspected"
            with instrument(modbus):
                until(lambda: alert()["flags"] == [], within_s=60)
            assert alert()["state"] == "suspected"
        log = server.api(f"/alerts/{alert()['alert_id']}")["transitions"]
        said = [row["reason"] for row in log if row["event"] == "alert.updated"]
        assert said == ["数据中断 | no data any more", "数据恢复 | data again"]
    finally:
        server.kill()
