"""Case R13: an InfluxDB that stands still, is killed and comes back empty, under load through a real server."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest.decode import ArrivalOrder, Decoder, SeriesIndex
from ingest.detect.flags import QualityFlags
from ingest.detect.thresholds import NoThresholds
from ingest.inbox import Inbox
from tests.conftest import until
from tests.faults.server_process import BAD_PH, GOOD_PH, T0_MS, ServerProcess, Station
from tests.influxdb import Influx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def own_influx(tmp_path: Path) -> Iterator[Influx]:
    influx = Influx(tmp_path / "influx")
    influx.start()
    influx.database("farm")
    yield influx
    influx.close()


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto, own_influx: Influx) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    with server.config.open("a") as config:
        config.write(
            f'[store]\nkind = "influxdb"\nurl = "{own_influx.url}"\ndatabase = "farm"\ntimeout_s = 1\n'
        )
    server.start()
    yield server
    server.kill()


class Load:
    """A station that delivers packs all the time; every tenth is a breach."""

    def __init__(self, port: int, server: ServerProcess) -> None:
        self._station = Station(port, server.key)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.values: list[float] = []
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            for _ in range(20):
                value = BAD_PH if len(self.values) % 10 == 9 else GOOD_PH + len(self.values) / 1e6
                self._station.add(value)
                self.values.append(value)
            self._station.deliver()
            self._over.wait(0.05)

    @property
    def delivered(self) -> int:
        return self._station.receipts[-1].seq if self._station.receipts else 0

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._station.deliver()
        self._station.close()


def metric(server: ServerProcess, name: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{server.http}/metrics", trust_env=False).text
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def findings(server: ServerProcess) -> int:
    [(count,)] = server.rows("SELECT count(*) FROM findings WHERE verdict = 'exceed'")
    return count


Row = tuple[int, float, int, str | None, int, int]


def rows_there(influx: Influx) -> list[Row]:
    """Return time, value, place, dup, quality and flags of each."""
    told = influx.run('SELECT v, inbox_pos, dup, q, flags FROM "reading"', db="farm", epoch="ms")
    [result] = json.loads(told)["results"]
    return [tuple(row) for row in result["series"][0]["values"]] if "series" in result else []


def rows_of_inbox(server: ServerProcess) -> list[Row]:
    """Return what an undisturbed store would hold: all packs decoded and flagged in one go."""
    inbox = Inbox.open_read_only(server.data / "inbox.db")
    packs = inbox.read_after(0, 10**9)
    inbox.close()
    order = ArrivalOrder()
    batch = order.flag(Decoder(SeriesIndex()).decode(packs))
    batch = QualityFlags(NoThresholds()).flag(batch, order.by_series)
    columns = (batch.t_ms, batch.v, batch.inbox_pos, batch.q, batch.flags)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(t, v, pos, None, q, flags) for t, v, pos, q, flags in rows]


def alerts_flow(server: ServerProcess, load: Load) -> None:
    """Wait until twenty more breaches were delivered and found, by a server that says its store is down."""
    before, delivered = findings(server), load.delivered
    until(lambda: findings(server) >= before + 20, within_s=60)
    assert load.delivered > delivered  # receipts leave as ever


STALLED = 'ingest_consumer_stalled{consumer="store"}'
BEHIND = 'ingest_consumer_behind_packs{consumer="store"}'


def stand_still_and_come_back_empty(
    server: ServerProcess, mosquitto: Mosquitto, influx: Influx, for_s: float
) -> None:
    load = Load(mosquitto.port, server)
    try:
        until(lambda: len(rows_there(influx)) > 50)
        influx.pause()
        until(lambda: metric(server, STALLED) == 1)
        until(lambda: server.ask("/readyz") == 503)
        alerts_flow(server, load)
        time.sleep(for_s / 2)  # the fault is its length
        influx.kill()
        alerts_flow(server, load)
        time.sleep(for_s / 2)
        assert metric(server, BEHIND) > 0
        influx.empty()
        influx.start()
        alerts_flow(server, load)  # the database is missing: that is no success
        assert metric(server, STALLED) == 1
        influx.database("farm")
        until(lambda: metric(server, STALLED) == 0, within_s=120)
    finally:
        load.end()
    until(lambda: metric(server, BEHIND) == 0 and server.is_judged(), within_s=120)
    assert server.ask("/readyz") == 200
    expected = [(T0_MS + n, value, n + 1, None) for n, value in enumerate(load.values)]
    there = rows_there(influx)
    assert [row[:4] for row in there] == expected
    assert there == rows_of_inbox(server)
    [(packs,)] = server.rows("SELECT count(*) FROM packs", "inbox.db")
    assert (packs, server.stored()) == (len(expected), len(expected))
    assert findings(server) == len(expected) // 10


def test_r13_stopped_killed_and_empty_the_store_equals_the_inbox_again(
    server: ServerProcess, mosquitto: Mosquitto, own_influx: Influx
) -> None:
    stand_still_and_come_back_empty(server, mosquitto, own_influx, 1)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_r13_for_ten_minutes(
    server: ServerProcess, mosquitto: Mosquitto, own_influx: Influx
) -> None:
    stand_still_and_come_back_empty(server, mosquitto, own_influx, 600)


def test_a_server_whose_influxdb_is_away_at_the_start_begins_all_the_same(
    server: ServerProcess, mosquitto: Mosquitto, own_influx: Influx
) -> None:
    assert server.terminate() == 0
    own_influx.kill()
    server.start(wait=False)
    until(lambda: server.ask("/healthz") == 200)
    load = Load(mosquitto.port, server)
    try:
        until(lambda: findings(server) >= 5)
        assert metric(server, STALLED) == 1
        assert server.ask("/api/v1/overview") == 200
        asked = "station=hl-001&device=canal/ph&indicator=water_ph&from=2026-05-01T00:00:00Z&to=2026-05-02T00:00:00Z"
        assert server.ask(f"/api/v1/readings?{asked}") == 503
        own_influx.start()
        until(lambda: metric(server, STALLED) == 0)
    finally:
        load.end()
    until(lambda: metric(server, BEHIND) == 0)
    assert [v for _, v, *_ in rows_there(own_influx)] == load.values
