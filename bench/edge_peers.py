"""Our agent beside ``thingsboard-gateway`` on the same simulators: processor, memory, missed polls, lateness.

Each polls as many Modbus TCP devices × 20 registers at 1 Hz and publishes to a local broker. The peer is installed in
a virtual environment of its own (``BENCH_THINGSBOARD`` names it) and gets 20 named values a device; a second run gives
it one block of 20 registers a device, which it publishes as one value: the least work it can do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench import county, edge, page
from bench.machine import load, machine
from bench.processes import REPO, BenchError, Child, child, mosquitto, python, until

if TYPE_CHECKING:
    from collections.abc import Iterator

VENV = "BENCH_THINGSBOARD"
RESULT = Path(__file__).with_name("results") / "edge_peers.json"
NO_LIMIT = "0:0,"
_LIMITS = (
    "rateLimits",
    "dpRateLimits",
    "messagesRateLimits",
    "deviceMessagesRateLimits",
    "deviceRateLimits",
    "deviceDpRateLimits",
)
_SETTLE_S = 5.0


def program() -> Path | None:
    """Return the peer's command, None when it is not installed."""
    found = Path(os.environ.get(VENV, "")) / "bin" / "thingsboard-gateway"
    return found if os.environ.get(VENV) and found.exists() else None


def peer_versions(command: Path) -> dict[str, str]:
    """Return the versions of what the peer runs on."""
    script = (
        "import importlib.metadata as m, json, platform; print(json.dumps({'python': platform.python_version(), "
        "**{n: m.version(n) for n in ('thingsboard-gateway', 'tb-mqtt-client', 'pymodbus')}}))"
    )
    said = subprocess.run(
        [command.with_name("python"), "-c", script], capture_output=True, text=True, check=True
    ).stdout
    versions: dict[str, str] = json.loads(said)
    return versions


@dataclass(slots=True)
class Platform:
    """The other end of the peer's link: answers what it asks at the start, counts what it delivers."""

    messages: int = 0
    values: int = 0

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        """Be connected to the broker."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._on_message
        client.connect("127.0.0.1", port)
        client.subscribe("v1/#", 1)
        client.loop_start()
        try:
            yield
        finally:
            client.disconnect()
            client.loop_stop()

    def _on_message(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        topic = message.topic
        if "/rpc/request/" in topic:
            limits = {"maxPayloadSize": 1_000_000, "rateLimits": {}, "gatewayRateLimits": {}}
            answer = json.dumps({**limits, "maxInflightMessages": 100})
            client.publish(topic.replace("request", "response"), answer, 1)
        elif "/attributes/request/" in topic:
            client.publish(topic.replace("request", "response"), "{}", 1)
        elif topic == "v1/gateway/telemetry":
            self.messages += 1
            for rows in json.loads(message.payload).values():
                self.values += sum(len(row["values"]) for row in rows)


@contextmanager
def simulated(devices: int, directory: Path) -> Iterator[tuple[Child, list[int]]]:
    """Run the simulators; give them and their ports."""
    process = subprocess.Popen(
        python("bench.modbus", str(devices)),
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Child("simulator", process, directory / "none"), json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def missed(arrivals: list[list[float]], devices: int, started: float, ended: float) -> int:
    """Return how many polls at 1 Hz did not come, but for those less than 0.5 s late."""
    lacking = 0
    for times in arrivals:
        due = int(ended - 0.5 - times[0]) + 1
        lacking += max(0, due - len(times)) + max(0, int(times[0] - started))
    return lacking + (devices - len(arrivals)) * int(ended - started)


def watch(agent: Child, simulator: Child, devices: int, window_s: float) -> dict[str, object]:
    """Return what ``agent`` took over ``window_s``, once every device was polled."""
    asked = simulator.process
    edge.answer(asked, b"watch")
    until(
        lambda: len(json.loads(edge.answer(asked, b"arrivals"))) >= devices,
        agent,
        "poll every device",
        within_s=90.0,
        every_s=0.5,
    )
    time.sleep(_SETTLE_S)
    edge.answer(asked, b"watch")
    requests, cpu = edge.polls(asked), (agent.cpu_s(), simulator.cpu_s())
    started = time.monotonic()
    peak = 0.0
    while (left := started + window_s - time.monotonic()) > 0:
        agent.check()
        peak = max(peak, agent.rss_mb())
        time.sleep(min(0.5, left))
    ended = time.monotonic()
    arrivals: list[list[float]] = json.loads(edge.answer(asked, b"arrivals"))
    seconds = time.monotonic() - started
    requests = edge.polls(asked) - requests
    polls = sum(len(times) for times in arrivals)
    due = round(devices * window_s)
    return {
        "polls": polls,
        "due": due,
        "missed_polls": missed(arrivals, devices, started, ended),
        "requests_per_s": round(requests / seconds, 1),
        **edge.lateness(arrivals, 1.0),
        "cpu_share": round((agent.cpu_s() - cpu[0]) / seconds, 3),
        "simulator_cpu_share": round((simulator.cpu_s() - cpu[1]) / seconds, 3),
        "rss_mb": round(max(peak, agent.rss_mb()), 1),
    }


def ours(devices: int, window_s: float) -> dict[str, object]:
    """Run our agent against a real server."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        directory = Path(name)
        paths = [f"p/{n}" for n in range(devices)]
        key = county.public_key(directory / "data", edge.STATION)
        with mosquitto(directory) as (_, port):
            files = county.write_server(directory, {edge.STATION: key}, paths, broker_port=port)
            with (
                county.server(files) as server,
                simulated(devices, directory) as (simulator, ports),
            ):
                county.wait_ready(files, server)
                config = directory / "edge.toml"
                config.write_text(edge.edge_toml(paths, ports, port, 1.0), "utf-8")
                argv = python("agrigate", "edge", "-c", str(config))
                with child("edge", argv, directory) as agent:
                    return watch(agent, simulator, devices, window_s)


def peer(command: Path, devices: int, window_s: float, *, one_block: bool) -> dict[str, object]:
    """Run the peer against the least of a platform."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        directory = Path(name)
        with (
            mosquitto(directory) as (_, port),
            simulated(devices, directory) as (simulator, ports),
        ):
            platform = Platform()
            settings = write_peer(command, directory, port, ports, one_block=one_block)
            argv = ["env", "-C", str(directory), f"TB_GW_CONFIG_DIR={settings}", str(command)]
            with platform.listening(port), child("thingsboard-gateway", argv, directory) as agent:
                result = watch(agent, simulator, devices, window_s)
                return {**result, "values_delivered": platform.values}


def write_peer(
    command: Path, directory: Path, broker_port: int, ports: list[int], *, one_block: bool
) -> Path:
    """Write the peer's configuration: its own defaults, without rate limits and remote control."""
    settings = directory / "config"
    settings.mkdir()
    (defaults,) = command.parent.parent.glob("lib/python*/site-packages/thingsboard_gateway/config")
    core = json.loads((defaults / "tb_gateway.json").read_text("utf-8"))
    core["thingsboard"] |= {
        "host": "127.0.0.1",
        "port": broker_port,
        "remoteConfiguration": False,
        "security": {"type": "accessToken", "accessToken": "bench"},
        **dict.fromkeys(_LIMITS, NO_LIMIT),
    }
    core["connectors"] = [{"name": "modbus", "type": "modbus", "configuration": "modbus.json"}]
    (settings / "tb_gateway.json").write_text(json.dumps(core), "utf-8")
    (settings / "logs.json").write_text((defaults / "logs.json").read_text("utf-8"), "utf-8")
    block = {"tag": "r", "type": "bytes", "functionCode": 3, "objectsCount": edge.REGISTERS}
    tags = [{**block, "address": 0}]
    if not one_block:
        value = {"type": "16uint", "functionCode": 3, "objectsCount": 1}
        tags = [{"tag": f"r{n}", "address": n, **value} for n in range(edge.REGISTERS)]
    slaves = [
        {
            "host": "127.0.0.1",
            "port": port,
            "type": "tcp",
            "method": "socket",
            "unitId": 1,
            "deviceName": f"d{n}",
            "deviceType": "default",
            "timeout": 1,
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "retries": False,
            "retryOnEmpty": False,
            "retryOnInvalid": False,
            "pollPeriod": 1000,
            "connectAttemptTimeMs": 500,
            "connectAttemptCount": 5,
            "waitAfterFailedAttemptsMs": 30000,
            "attributes": [],
            "timeseries": tags,
            "attributeUpdates": [],
            "rpc": [],
        }
        for n, port in enumerate(ports)
    ]
    connector = {"name": "modbus", "master": {"slaves": slaves}}
    (settings / "modbus.json").write_text(json.dumps(connector), "utf-8")
    return settings


@click.command()
@click.option("--devices", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--window", type=click.FloatRange(5, 600), default=30.0, show_default=True)
@click.option("--save", is_flag=True, help="Keep the result in bench/results.")
def main(*, devices: int, window: float, save: bool) -> None:
    """Compare on loopback; one line and no result when the peer is not installed."""
    command = program()
    if command is None:
        click.echo(f"thingsboard-gateway is not installed: name its virtual environment in {VENV}")
        return
    try:
        result = {
            "what": f"{devices} Modbus TCP devices × {edge.REGISTERS} registers at 1 Hz for {window:.0f} s",
            "load_before": load(),
            "agrigate": ours(devices, window),
            "thingsboard_values": peer(command, devices, window, one_block=False),
            "thingsboard_one_block": peer(command, devices, window, one_block=True),
            "peer_versions": peer_versions(command),
            "load_after": load(),
            "machine": machine(),
        }
    except BenchError as exc:
        raise click.ClickException(str(exc)) from exc
    text = json.dumps(result, ensure_ascii=False, indent=2)
    click.echo(text)
    if save:
        RESULT.write_text(text + "\n", "utf-8")
        page.write()


if __name__ == "__main__":
    main()
    sys.exit(0)
