"""Cases R1 to R4 of the fault list: the server killed at the worst moments; nothing is lost, nothing counts twice."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.faults.server_process import BAD_PH, GOOD_PH, ServerProcess, Station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto
SCRIPT = ("-m", "tests.faults.killed_server")
PACKS = 6


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    yield server
    server.kill()


@pytest.fixture
def station(server: ServerProcess, mosquitto: Mosquitto) -> Iterator[Station]:
    station = Station(mosquitto.port, server.key)
    yield station
    station.close()


def send_until_dead(server: ServerProcess, station: Station) -> None:
    """Deliver one pack at a time to a server that dies on the way."""
    process = server.process
    assert process is not None
    station.at()
    for seq in range(1, len(station.bodies) + 1):
        if process.poll() is None:
            station.send(seq)
            # Two packs in one commit would make it another one that dies.
            until(lambda: station.receipt(0.1) is not None or process.poll() is not None)
    assert server.ended() == -signal.SIGKILL


def everything_once(server: ServerProcess, station: Station) -> None:
    """Start the server as it is, deliver the rest: I1, I2, I3 and I6."""
    told = max((receipt.seq for receipt in station.receipts), default=0)
    kept = server.rows("SELECT count(*) FROM packs", "inbox.db")[0][0]
    assert kept >= told, "a receipt was given for what is not in the inbox"
    server.start()
    station.deliver()
    until(lambda: server.stored() == len(station.bodies) and server.is_judged())
    assert server.rows("SELECT state, occurrence_count FROM alerts") == [("suspected", 1)]
    assert server.rows("SELECT count(*) FROM alert_transitions") == [(1,)]
    assert server.rows("SELECT endpoint_id, count(*) FROM outbox") == [("county", 1)]
    assert server.terminate() == 0
    assert server.readings() == [(n, 0) for n in range(len(station.bodies))]
    for name in ("inbox.db", "operational.db"):
        assert server.rows("PRAGMA integrity_check", name) == [("ok",)]


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        pytest.param("before_commit", 2, id="r01_before_commit"),
        pytest.param("after_commit", 3, id="r02_after_commit"),
        pytest.param("before_receipts", 3, id="r02_before_receipts"),
    ],
)
def test_r01_r02_killed_at_the_commit(
    server: ServerProcess, station: Station, tmp_path: Path, point: str, kept: int
) -> None:
    for n in range(PACKS):
        station.add(BAD_PH if n == 2 else GOOD_PH)
    server.start(*SCRIPT, point, str(tmp_path / "go"))
    send_until_dead(server, station)
    assert server.rows("SELECT count(*) FROM packs", "inbox.db") == [(kept,)]
    assert max(receipt.seq for receipt in station.receipts) == 2
    everything_once(server, station)


def test_r03_killed_after_the_receipt_before_the_judge(
    server: ServerProcess, station: Station, tmp_path: Path
) -> None:
    station.add(BAD_PH)
    server.start(*SCRIPT, "before_judging", str(tmp_path / "go"))
    station.deliver()
    assert server.rows("SELECT count(*) FROM alerts") == [(0,)]
    (tmp_path / "go").touch()
    assert server.ended() == -signal.SIGKILL
    everything_once(server, station)


def test_r04_killed_in_the_judges_transaction(
    server: ServerProcess, station: Station, tmp_path: Path
) -> None:
    station.add(BAD_PH)
    server.start(*SCRIPT, "mid_judging", str(tmp_path / "go"))
    station.at()
    station.send(1)
    assert server.ended() == -signal.SIGKILL
    for table in ("alerts", "alert_transitions", "outbox", "findings", "events"):
        assert server.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    everything_once(server, station)
