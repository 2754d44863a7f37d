"""Packs of 100 readings from many stations: spool → mosquitto → inbox → judged → DuckDB, with receipts."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from bench import county, sender
from bench.machine import load
from bench.processes import BenchError, child, mosquitto, python, until
from gateway.wire import PACK_MAX_RECORDS
from ingest.batch import TakenPack
from ingest.decode import Decoder, SeriesIndex

FLOOR_GROUP = 32  # packs decoded at a time for the floor, about what one commit holds


def decode_floor(packs: int) -> float:
    """Return readings per processor second of decoding alone, of packs like those sent: the ratio's base."""
    bodies = county.bodies(packs, time.time_ns() // 1_000_000 - 5_000 * packs)
    now_ms = time.time_ns() // 1_000_000
    decoder = Decoder(SeriesIndex())
    taken = [
        TakenPack(n, "bench-000", "E", n, now_ms, body) for n, body in enumerate(bodies, start=1)
    ]
    started = time.process_time()
    for i in range(0, packs, FLOOR_GROUP):
        decoder.decode(taken[i : i + FLOOR_GROUP])
    return packs * PACK_MAX_RECORDS / (time.process_time() - started)


def one_run(stations: int, packs: int) -> dict[str, object]:
    """Send ``packs`` full packs of each of ``stations``; return rates and the processor seconds of each process."""
    with tempfile.TemporaryDirectory(prefix="bench-link-") as name:
        directory = Path(name)
        codes = county.station_codes(stations)
        keys = {code: county.public_key(directory, code) for code in codes}
        sender.fill(directory, codes, packs)
        total = stations * packs
        with mosquitto(directory) as (broker, port):
            files = county.write_server(directory, keys, county.device_paths(), broker_port=port)
            with county.server(files) as server:
                county.wait_ready(files, server)
                before = (broker.cpu_s(), server.cpu_s())
                argv = python("bench.sender", name, str(port), "0", "0", *codes)
                with child("sender", argv, directory) as senders:
                    edge_s = 0.0

                    def receipted() -> bool:
                        nonlocal edge_s
                        if senders.process.poll() is not None:
                            return True
                        edge_s = senders.cpu_s()
                        return False

                    until(receipted, server, "receipt all packs", within_s=180.0)
                    if senders.process.returncode:
                        raise BenchError(senders.log.read_text("utf-8")[-2000:])
                    sent = json.loads(senders.log.read_text("utf-8"))

                def stored() -> bool:
                    now = files.metrics()
                    return (
                        now["store_readings"] == total * PACK_MAX_RECORDS
                        and not now['ingest_consumer_behind_packs{consumer="judge"}']
                    )

                until(stored, server, "store and judge all packs", within_s=120.0, every_s=0.1)
                # The senders' interpreter starts first: their own clock says when the first of them connected.
                seconds = time.time() - sent["started_ms"] / 1000
                outcomes = {
                    k: v for k, v in files.metrics().items() if "ingest_packs_total" in k and v
                }
                after = (broker.cpu_s(), server.cpu_s())
    readings = total * PACK_MAX_RECORDS
    server_s = after[1] - before[1]
    return {
        "readings_per_server_cpu_s": round(readings / server_s),
        "readings_per_s": round(readings / seconds),
        "receipted_per_s": round(readings / sent["seconds"]),
        "seconds": round(seconds, 2),
        "sent_per_pack": round(sent["published"] / total, 3),
        "outcomes": outcomes,
        "cpu_s": {
            "server": round(server_s, 2),
            "broker": round(after[0] - before[0], 2),
            "senders": round(edge_s, 2),
        },
    }


def measure(*, quick: bool) -> dict[str, object]:
    """Return the result of all runs."""
    stations, packs, runs = (40, 50, 2) if quick else (200, 50, 3)
    floor = statistics.median(decode_floor(300) for _ in range(3))
    before = load()
    results = [one_run(stations, packs) for _ in range(runs)]
    rates = [float(str(run["readings_per_s"])) for run in results]
    per_cpu = statistics.median(float(str(run["readings_per_server_cpu_s"])) for run in results)
    return {
        "what": f"{stations} stations × {packs} packs of {PACK_MAX_RECORDS} readings",
        "load_before": before,
        "decode_floor_readings_per_cpu_s": round(floor),
        "readings_per_s": round(statistics.median(rates)),
        "readings_per_s_min": round(min(rates)),
        "readings_per_s_max": round(max(rates)),
        "ratios": {"server_cpu_to_decode_floor": round(per_cpu / floor, 3)},
        "runs": results,
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
