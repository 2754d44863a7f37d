"""Cases R20 and R22 of the fault list: a second server, and the end of one that has much to do."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.faults.server_process import ServerProcess, Station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto


class Counting:
    """A broker that counts who connects, and answers nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.connects = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                other, _ = self._socket.accept()
            except OSError:
                return
            self.connects += 1
            other.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def counting() -> Iterator[Counting]:
    broker = Counting()
    yield broker
    broker.close()


def test_r20_a_second_server_is_refused_before_it_connects(
    tmp_path: Path, counting: Counting
) -> None:
    first = ServerProcess(tmp_path, 1)  # no broker listens there
    first.start(wait=False)
    try:
        until(lambda: first.ask("/healthz") == 200)
        (tmp_path / "second").mkdir()
        second = ServerProcess(tmp_path / "second", counting.port, data=first.data)
        second.start(wait=False)
        assert second.ended() == 1
        assert "another server uses it; stop that one first" in second.log.read_text()
        assert counting.connects == 0
        # It would have connected: the lock is what kept it away.
        assert first.terminate() == 0
        second.start(wait=False)
        until(lambda: counting.connects > 0)
        second.kill()
    finally:
        first.kill()


@pytest.mark.mosquitto
def test_r22_told_to_end_under_load_it_finishes_what_it_took(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    server = ServerProcess(tmp_path, mosquitto.port)
    station = Station(mosquitto.port, server.key)
    try:
        for _ in range(2000):
            station.add(pad=500)
        server.start()
        station.at()
        for seq in range(1, 2001):
            station.send(seq)
        assert station.receipt(20) is not None
        assert server.terminate() == 0  # a hang ends the wait, not a clock of this test
        station.drain()
        (kept,) = server.rows("SELECT max(seq) FROM packs", "inbox.db")[0]
        told = max(receipt.seq for receipt in station.receipts)
        assert 0 < told <= kept
        server.start()
        station.deliver()
        until(lambda: server.stored() == 2000 and server.is_judged())
        assert server.terminate() == 0
        assert server.readings() == [(n, 0) for n in range(2000)]
    finally:
        station.close()
        server.kill()
