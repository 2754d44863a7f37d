"""Packs of 100 readings from many stations into InfluxDB, and beside it a loader of lines made before.

Loader and server write the same points to the same influxd, one after the other, both on all of the machine's cores.
The loader has nothing else to do: no broker, receipts, inbox, judging, and its senders have ended before it starts.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import county, sender
from bench.machine import load
from bench.processes import BenchError, answers, child, free_port, mosquitto, python, until
from gateway.wire import PACK_MAX_RECORDS
from ingest.batch import PASS, TakenPack
from ingest.decode import Decoder, SeriesIndex
from ingest.store.influx.influx_store import LINES
from ingest.store.influx.line_protocol import LineProtocol, Rows
from ingest.store.influx.login import InfluxLogin
from ingest.store.influx.server import InfluxServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.processes import Child

_INFLUXD = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{directory}/meta"
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[logging]
level = "error"
"""
THREADS = 4  # of the loader: more than the cores


@contextmanager
def influxd(directory: Path) -> Iterator[tuple[Child, str]]:
    """Run an InfluxDB of Debian's; give it and its URL."""
    program = shutil.which("influxd")
    if program is None:
        raise BenchError("influxd is not installed: apt install influxdb")
    port, home = free_port(), directory / "influxd"
    home.mkdir()
    config = directory / "influxd.conf"
    config.write_text(_INFLUXD.format(directory=home, port=port, rpc=free_port()), "utf-8")
    with child("influxd", [program, "-config", str(config)], directory) as running:
        until(lambda: answers(port), running, "listen")
        yield running, f"http://127.0.0.1:{port}"


def make(url: str, database: str) -> InfluxLogin:
    """Make a database."""
    data = urllib.parse.urlencode({"q": f'CREATE DATABASE "{database}"'}).encode()
    urllib.request.urlopen(f"{url}/query", data=data, timeout=10).close()
    return InfluxLogin(url=url, database=database, gzip=False)


def stored(url: str, database: str) -> int:
    """Return how many readings a database holds."""
    query = urllib.parse.urlencode({"db": database, "q": 'SELECT count(q) FROM "reading"'})
    with urllib.request.urlopen(f"{url}/query?{query}", timeout=60) as reply:
        [result] = json.loads(reply.read())["results"]
    return int(result["series"][0]["values"][0][1]) if "series" in result else 0


def made_lines(codes: list[str], packs: int) -> list[bytes]:
    """Return the lines that a server writes of ``packs`` packs of each station, in requests of LINES."""
    bodies = county.bodies(packs, time.time_ns() // 1_000_000 - 5_000 * packs)
    decoder, encoder = Decoder(SeriesIndex()), LineProtocol()
    now_ms = time.time_ns() // 1_000_000
    requests, held = [], []
    taken = (
        TakenPack(0, code, "E", n, now_ms, body)
        for n, body in enumerate(bodies, start=1)
        for code in codes
    )
    for pos, pack in enumerate(taken, start=1):
        held.append(TakenPack(pos, pack.station, "E", pack.seq, now_ms, pack.body))
        if len(held) == LINES // PACK_MAX_RECORDS or pos == packs * len(codes):
            batch = decoder.decode(held)
            encoder.know(batch.series[len(encoder) :])
            rows = Rows(
                batch.series_id,
                batch.t_ms,
                batch.v,
                np.full(len(batch.v), PASS, np.uint8),
                batch.flags,
                batch.received_ms,
                batch.inbox_pos,
                np.zeros(len(batch.v), np.int32),
            )
            requests.append(encoder.encode(rows))
            held = []
    return requests


def loader(login: InfluxLogin, requests: list[bytes], threads: int) -> float:
    """Write ``requests`` from ``threads`` connections; return the seconds that took."""
    todo = iter(requests)
    turn = threading.Lock()

    def work() -> None:
        server = InfluxServer(login)
        while True:
            with turn:
                lines = next(todo, None)
            if lines is None:
                server.close()
                return
            server.write(lines)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.monotonic() - started


def one_run(stations: int, packs: int) -> dict[str, object]:
    """Load, then send; return both rates and the processor seconds of each process."""
    with tempfile.TemporaryDirectory(prefix="bench-influx-") as name:
        directory = Path(name)
        codes = county.station_codes(stations)
        keys = {code: county.public_key(directory, code) for code in codes}
        total = stations * packs * PACK_MAX_RECORDS
        with influxd(directory) as (influx, url):
            requests = made_lines(codes, packs)
            loaded: dict[int, float] = {}
            for threads in (1, THREADS):
                database = f"loaded{threads}"
                loaded[threads] = total / loader(make(url, database), requests, threads)
                if (count := stored(url, database)) != total:
                    raise BenchError(f"{count} of {total} readings are there")
            del requests
            make(url, "farm")
            sender.fill(directory, codes, packs)
            with mosquitto(directory) as (broker, port):
                store = (
                    f'[store]\nkind = "influxdb"\nurl = "{url}"\ndatabase = "farm"\ngzip = false\n'
                )
                files = county.write_server(
                    directory, keys, county.device_paths(), broker_port=port, webhook=store
                )
                with county.server(files) as server:
                    county.wait_ready(files, server)
                    parts = {"server": server, "broker": broker, "influxd": influx}
                    before = {part: one.cpu_s() for part, one in parts.items()}
                    argv = python("bench.sender", name, str(port), "0", "0", *codes)
                    with child("sender", argv, directory) as senders:
                        edge_s = 0.0

                        def receipted() -> bool:
                            nonlocal edge_s
                            if senders.process.poll() is not None:
                                return True
                            edge_s = senders.cpu_s()
                            return False

                        until(receipted, server, "receipt all packs", within_s=300.0)
                        if senders.process.returncode:
                            raise BenchError(senders.log.read_text("utf-8")[-2000:])
                        sent = json.loads(senders.log.read_text("utf-8"))

                    def done() -> bool:
                        now = files.metrics()
                        return (
                            now["store_readings"] == total
                            and not now['ingest_consumer_behind_packs{consumer="judge"}']
                        )

                    until(done, server, "store and judge", within_s=300.0, every_s=0.1)
                    seconds = time.time() - sent["started_ms"] / 1000
                    used = {
                        part: round(one.cpu_s() - before[part], 2) for part, one in parts.items()
                    }
                    if (count := stored(url, "farm")) != total:
                        raise BenchError(f"{count} of {total} readings are there")
    best = max(loaded.values())
    return {
        "readings_per_s": round(total / seconds),
        "receipted_per_s": round(total / sent["seconds"]),
        "loader_readings_per_s": {f"{n} connections": round(rate) for n, rate in loaded.items()},
        "to_loader": round(total / seconds / best, 3),
        "seconds": round(seconds, 2),
        "cpu_s": {**used, "senders": round(edge_s, 2)},
    }


def measure(*, quick: bool) -> dict[str, object]:
    """Return the result of all runs."""
    stations, packs, runs = (40, 50, 1) if quick else (200, 50, 3)
    before = load()
    results = [one_run(stations, packs) for _ in range(runs)]
    ratios = [float(str(run["to_loader"])) for run in results]
    rates = [float(str(run["readings_per_s"])) for run in results]
    return {
        "what": f"{stations} stations × {packs} packs of {PACK_MAX_RECORDS} readings into InfluxDB",
        "load_before": before,
        "readings_per_s": round(statistics.median(rates)),
        "ratios": {"to_loader": round(statistics.median(ratios), 3)},
        "runs": results,
    }
