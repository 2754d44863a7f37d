"""Cases R14 to R16 of the fault list: the disk is slow, full, read-only, or the files are taken away."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.wire import ReceiptState
from tests.conftest import require, until
from tests.faults.server_process import BAD_PH, GOOD_PH, ServerProcess, Station

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto
MB = 1024 * 1024


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


def delivered_and_stored(server: ServerProcess, station: Station) -> None:
    until(lambda: server.ask("/readyz") == 200, within_s=60)
    station.deliver()
    until(lambda: server.stored() == len(station.bodies) and server.is_judged(), within_s=60)


def everything_once(server: ServerProcess, station: Station) -> None:
    delivered_and_stored(server, station)
    for name in ("inbox.db", "operational.db"):
        assert server.rows("PRAGMA integrity_check", name) == [("ok",)]


# ---------------------------------------------------------------- a small disk


class SmallDisk:
    """A tmpfs that only the server sees; from here it is reached through the server's root."""

    SIZE_MB = 64

    def __init__(self, server: ServerProcess) -> None:
        unshare = require("unshare")
        allowed = subprocess.run([unshare, "-Urm", "true"], capture_output=True, check=False)
        if allowed.returncode:
            if os.environ.get("CI") == "true":
                pytest.fail("no user namespaces here; CI must allow them")
            pytest.skip("no user namespaces here")
        self._server = server
        server.data.mkdir()
        script = f'mount -t tmpfs -o size={self.SIZE_MB}m none "$0" && exec "$@"'
        server.prefix = (unshare, "-Urm", "sh", "-c", script, str(server.data))

    def start(self) -> None:
        process = self._server.start()
        self._server.enter = (require("nsenter"), "-t", str(process.pid), "-U", "-m")
        self.place = Path(f"/proc/{process.pid}/root{self._server.data}")

    def fill(self, leave_bytes: int = 0) -> None:
        state = os.statvfs(self.place)
        wanted = state.f_bavail * state.f_frsize - leave_bytes
        with (self.place / "filler").open("ab") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), wanted)

    def free(self) -> None:
        (self.place / "filler").unlink()

    @contextlib.contextmanager
    def locked(self, database: str) -> Iterator[None]:
        """Hold the write lock of a database meanwhile."""
        script = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            " db.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
        )
        path = str(self._server.data / database)
        holder = subprocess.Popen(
            [*self._server.enter, sys.executable, "-c", script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            yield


@pytest.fixture
def disk(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[tuple[SmallDisk, ServerProcess]]:
    server = ServerProcess(tmp_path, mosquitto.port, reserve_mb=16)
    disk = SmallDisk(server)
    disk.start()
    yield disk, server
    server.kill()


def test_r15_taking_stops_before_the_disk_is_full_and_goes_on_when_there_is_room(
    disk: tuple[SmallDisk, ServerProcess], mosquitto: Mosquitto
) -> None:
    small, server = disk
    station = Station(mosquitto.port, server.key)
    for _ in range(5):
        station.add()
    delivered_and_stored(server, station)
    small.fill(leave_bytes=10 * MB)
    until(lambda: server.ask("/readyz") == 503)
    reason = httpx.get(f"http://127.0.0.1:{server.http}/readyz", trust_env=False).json()["detail"]
    assert "disk: nearly full" in reason
    station.add()
    station.drain()
    station.send(6)
    receipt = station.receipt(20)
    assert receipt is not None
    assert (receipt.seq, receipt.state) == (5, ReceiptState.HOLD)
    small.free()
    everything_once(server, station)
    assert server.log.read_text().count("disk_nearly_full") == 1
    station.close()


def test_r15_on_a_full_disk_an_alert_and_its_webhook_are_still_written(
    disk: tuple[SmallDisk, ServerProcess], mosquitto: Mosquitto
) -> None:
    """What was taken before is judged into the room that was set aside; other writes are told no."""
    small, server = disk
    station = Station(mosquitto.port, server.key)
    station.add()
    delivered_and_stored(server, station)
    with small.locked("operational.db"):  # the judge has to wait
        station.add(BAD_PH)
        station.deliver()
        small.fill()
    until(lambda: server.rows("SELECT count(*) FROM outbox") == [(1,)], within_s=60)
    assert server.rows("SELECT state FROM alerts") == [("suspected",)]
    assert "ballast_released" in server.log.read_text()
    small.fill()
    (alert,) = server.rows("SELECT alert_id FROM alerts")[0]
    key = (server.directory / "api-key").read_text().strip()
    reply = httpx.post(
        f"http://127.0.0.1:{server.http}/api/v1/alerts/{alert}/ack",
        json={"actor": "张三" * 10},
        headers={"X-API-Key": key},
        trust_env=False,
    )
    assert (reply.status_code, "disk is full" in reply.json()["detail"]) == (507, True)
    small.free()
    everything_once(server, station)
    until((small.place / "ballast").exists)
    station.close()


def test_r15_no_receipt_while_a_file_may_not_grow(server: ServerProcess, station: Station) -> None:
    """The limit hits inbox, store and operational database at once; all of them go on afterwards."""
    station.add()
    process = server.start()
    delivered_and_stored(server, station)
    largest = max(path.stat().st_size for path in server.data.iterdir() if path.name != "ballast")
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    for n in range(30):
        station.add(BAD_PH if n == 20 else GOOD_PH, pad=40_000)
    rng = os.urandom(20_000).hex().encode()
    station.bodies[1] = station.bodies[1].replace(b" " * 40_000, b"") + b" "
    station.bodies[2] = b'{"readings":[],"pad":"' + rng * 2 + b'"}'
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (min(largest, 64 * 1024), hard))
    station.drain()
    for seq in range(2, 12):
        station.send(seq)
    until(lambda: "inbox_not_written" in server.log.read_text(), within_s=60)
    kept = server.rows("SELECT max(seq) FROM packs", "inbox.db")[0][0]
    station.drain()
    assert max(receipt.seq for receipt in station.receipts) <= kept
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    until(lambda: server.ask("/readyz") == 200, within_s=60)
    station.deliver()
    until(lambda: server.stored() == len(station.bodies) - 1 and server.is_judged(), within_s=60)
    assert server.terminate() == 0
    assert server.readings() == [(n, 0) for n in range(len(station.bodies)) if n != 2]
    assert server.rows("SELECT occurrence_count FROM alerts") == [(1,)]


def test_r14_no_receipt_while_another_connection_holds_the_inbox(
    server: ServerProcess, station: Station
) -> None:
    station.add()
    server.start()
    delivered_and_stored(server, station)
    station.add()
    with closing(sqlite3.connect(server.data / "inbox.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        station.drain()
        station.send(2)
        until(lambda: "inbox_not_written" in server.log.read_text(), within_s=60)
        assert station.receipt(0) is None
        assert server.ask("/readyz") == 503
        other.execute("ROLLBACK")
    everything_once(server, station)


# ---------------------------------------------------------------- R16


@pytest.mark.parametrize("name", ["inbox.db", "operational.db", "readings.duckdb"])
def test_r16_a_file_deleted_under_the_server_ends_it(
    server: ServerProcess, station: Station, name: str
) -> None:
    station.add()
    server.start()
    delivered_and_stored(server, station)
    (server.data / name).unlink()
    assert server.ended() == 1
    assert f"{name}: is gone or was replaced" in server.log.read_text()


def test_r16_a_read_only_directory_is_said_at_the_start(
    server: ServerProcess, station: Station
) -> None:
    station.add()
    server.start()
    delivered_and_stored(server, station)
    assert server.terminate() == 0
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    unshare = require("unshare")
    server.prefix = (unshare, "-Urm", "sh", "-c", script, str(server.data))
    server.start(wait=False)
    assert server.ended() == 1
    assert str(server.data) in server.log.read_text().splitlines()[-1]
