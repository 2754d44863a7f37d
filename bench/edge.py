"""The edge agent: memory at rest, and processor, memory and missed polls with a thousand instruments at 1 Hz."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

from bench import county
from bench.machine import load
from bench.processes import REPO, Child, child, mosquitto, python, until
from drivers import indicators

REGISTERS = 20
SAMPLE_S = 0.25
STATION = "bench-edge"


def measure(*, quick: bool) -> dict[str, object]:
    """Return memory at rest and a run with many instruments, into a real server."""
    # Whole seconds: every device is due just as often.
    devices, window_s = (200, 8.0) if quick else (1000, 30.0)
    before = load()
    idle = _run(1, 1.0 if quick else 5.0, interval_s=60.0)
    busy = _run(devices, window_s, interval_s=1.0)
    return {
        "what": f"{devices} Modbus TCP devices × {REGISTERS} registers at 1 Hz for {window_s:.0f} s; idle: one device",
        "load_before": before,
        "idle_rss_mb": idle["rss_mb"],
        "idle_cpu_share": idle["cpu_share"],
        **busy,
        # Against the simulator's own work for the same polls, in the same seconds.
        "ratios": {
            "simulator_to_agent_cpu": round(
                float(str(busy["simulator_cpu_share"])) / float(str(busy["cpu_share"])), 3
            )
        },
    }


def _run(devices: int, window_s: float, *, interval_s: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="bench-edge-") as name:
        directory = Path(name)
        paths = [f"p/{n}" for n in range(devices)]
        key = county.public_key(directory / "data", STATION)
        with mosquitto(directory) as (_, port):
            files = county.write_server(directory, {STATION: key}, paths, broker_port=port)
            with county.server(files) as server:
                county.wait_ready(files, server)
                simulator = subprocess.Popen(
                    python("bench.modbus", str(devices)),
                    cwd=REPO,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                try:
                    return _watch(
                        directory, files, server, simulator, paths, port, window_s, interval_s
                    )
                finally:
                    simulator.kill()
                    simulator.communicate()


def polls(simulator: subprocess.Popen[bytes]) -> int:
    """Return how many requests the simulator answered."""
    return int(answer(simulator, b""))


def answer(simulator: subprocess.Popen[bytes], question: bytes) -> bytes:
    """Return the simulator's line about ``question``; see ``bench.modbus.run``."""
    assert simulator.stdin is not None
    assert simulator.stdout is not None
    simulator.stdin.write(question + b"\n")
    simulator.stdin.flush()
    return simulator.stdout.readline()


def lateness(arrivals: list[list[float]], interval_s: float) -> dict[str, float]:
    """Return how late polls came, in ms: against a schedule without drift that begins with each device's earliest poll.

    A poll's number is that of the one before it and the intervals between them, rounded.
    """
    late: list[float] = []
    for times in arrivals:
        number, phases = 0, []
        for i, at in enumerate(times):
            if i:
                number += max(1, round((at - times[i - 1]) / interval_s))
            phases.append(at - number * interval_s)
        late += [phase - min(phases) for phase in phases]
    late.sort()
    if not late:
        return {}

    def at_share(share: float) -> float:
        return round(1000 * late[min(len(late) - 1, int(share * len(late)))], 1)

    return {
        "p50_lateness_ms": at_share(0.5),
        "p99_lateness_ms": at_share(0.99),
        "max_lateness_ms": at_share(1.0),
    }


def _watch(
    directory: Path,
    files: county.ServerFiles,
    server: Child,
    simulator: subprocess.Popen[bytes],
    paths: list[str],
    broker_port: int,
    window_s: float,
    interval_s: float,
) -> dict[str, object]:
    assert simulator.stdout is not None
    ports = json.loads(simulator.stdout.readline())
    config = directory / "edge.toml"
    config.write_text(edge_toml(paths, ports, broker_port, interval_s), "utf-8")
    simulated = Child("simulator", simulator, directory / "none")
    with child("edge", python("agrigate", "edge", "-c", str(config)), directory) as agent:
        until(
            lambda: polls(simulator) >= len(paths),
            agent,
            "poll every device",
            within_s=60.0,
            every_s=0.1,
        )
        time.sleep(2.0)  # a thousand first connections are behind it
        answer(simulator, b"watch")
        asked, started = polls(simulator), time.monotonic()
        cpu = (agent.cpu_s(), simulated.cpu_s(), server.cpu_s())
        quiet_s, taken, moved = 0.0, -1.0, started
        while (now := time.monotonic()) - started < window_s:
            inbox = files.metrics()["ingest_inbox_packs"]
            if inbox != taken:
                quiet_s, taken, moved = max(quiet_s, now - moved), inbox, now
            agent.check()
            time.sleep(min(SAMPLE_S, max(0.0, started + window_s - time.monotonic())))
        served = polls(simulator) - asked
        seconds = time.monotonic() - started
        late = lateness(json.loads(answer(simulator, b"arrivals")), interval_s)
        shares = [
            round((after - before) / seconds, 3)
            for before, after in zip(
                cpu, (agent.cpu_s(), simulated.cpu_s(), server.cpu_s()), strict=True
            )
        ]
        return {
            "polls_per_s": round(served / seconds, 1),
            "missed_polls": max(0, round(len(paths) * window_s) - served)
            if interval_s == 1.0
            else 0,
            **(late if interval_s == 1.0 else {}),
            "rss_mb": agent.rss_mb(),
            "cpu_share": shares[0],
            "simulator_cpu_share": shares[1],
            "server_cpu_share": shares[2],
            "longest_without_a_pack_s": round(max(quiet_s, time.monotonic() - moved), 2),
        }


def edge_toml(paths: list[str], ports: list[int], broker_port: int, interval_s: float) -> str:
    """Return a configuration with a device of ``REGISTERS`` points for each path and port."""
    codes = [i.code for i in indicators.catalogue().values() if i.unit == "mg/L"][:REGISTERS]
    points = ", ".join(
        f'{{ indicator = "{code}", address = {n}, type = "u16", unit = "mg/L" }}'
        for n, code in enumerate(codes)
    )
    parts = [
        f'[agent]\ndata_dir = "data"\n\n[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n\n'
        f'[[station]]\ncode = "{STATION}"\n'
    ]
    parts += [
        f'[[station.device]]\npath = "{path}"\ndriver = "modbus"\nhost = "127.0.0.1"\nport = {port}\nunit_id = 1\n'
        f"poll_interval_s = {interval_s}\npoints = [{points}]\n"
        for path, port in zip(paths, ports, strict=True)
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv), indent=1))
