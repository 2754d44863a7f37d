"""The server killed between the commit and the PUBACK: each message of a publisher is stored exactly once."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.faults.server_process import BAD_PH, GOOD_PH, T0_MS, ServerProcess
from tests.ingest.test_subscriber import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto
SCRIPT = ("-m", "tests.faults.killed_server")
MESSAGES = 6
TOPIC = "agri/v1/hl-001/senml/canal/ph"


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    with server.config.open("a") as config:
        config.write("[publishers]\nmqtt = true\n")
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("point", "kept"), [("before_commit", 2), ("after_commit", 3), ("before_receipts", 3)]
)
def test_killed_around_the_commit_each_message_is_stored_once(
    server: ServerProcess, mosquitto: Mosquitto, tmp_path: Path, point: str, kept: int
) -> None:
    server.start(*SCRIPT, point, str(tmp_path / "go"))
    until(lambda: connected_twice(server))
    device = Publisher(mosquitto.port)
    for n in range(MESSAGES):
        value = BAD_PH if n == 2 else GOOD_PH
        record = {"n": "water_ph", "t": (T0_MS + n) / 1000, "v": value}
        device.publish(TOPIC, json.dumps([record]).encode())
        if n < 3:  # one group each
            until(lambda n=n: server.process.poll() is not None or taken(server) > n)
    assert server.ended() == -signal.SIGKILL
    assert taken(server) == kept
    server.start()
    until(lambda: server.stored() == MESSAGES and server.is_judged())
    assert server.rows("SELECT state, occurrence_count FROM alerts") == [("suspected", 1)]
    (alert,) = server.api("/alerts")["alerts"]
    evidence = server.api(f"/alerts/{alert['alert_id']}")["evidence"]
    assert evidence["pack"]["topic"] == TOPIC
    assert json.loads(evidence["pack"]["body"])[0]["v"] == BAD_PH
    device.close()
    assert server.terminate() == 0
    assert server.readings() == [(n, 0) for n in range(MESSAGES)]


def connected_twice(server: ServerProcess) -> bool:
    return server.log.read_text().count("broker_connected") >= 2


def taken(server: ServerProcess) -> int:
    return server.rows("SELECT count(*) FROM packs", "inbox.db")[0][0]
