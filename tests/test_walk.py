"""docs/walk.md as a recording: one reading through every part, each named function called, in the order named."""

from __future__ import annotations

import asyncio
import base64
import importlib
import re
import secrets
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from dashboards import server_config
from dashboards.serve import serve
from demo.receiver import Receiver
from gateway import app, config, keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

ROOT = Path(__file__).parents[1]
WALK = (ROOT / "docs" / "walk.md").read_text("utf-8")
STEP = re.compile(r"^\d+\. `([\w/]+\.py)::([\w.]+)`", re.MULTILINE)
# Where each section's path leaves another: the receipt, the judge and the store all begin behind section 2.
FOLLOWS = {1: None, 2: 1, 3: 2, 4: 2, 5: 4, 6: 2, 7: 6}

REGISTRY = """
region = [{{ code = "640122", name = "贺兰县" }}]
subject = [{{ id = "s", name = "示例合作社", type = "cooperative", region = "640122" }}]
base = [{{ id = "b", subject = "s", name = "示例基地", region = "640122" }}]
plot = [{{ id = "p", base = "b", name = "1号", water_use = "irrigation" }}]
station = [{{ code = "hl-001", name = "示例站", region = "640122", base = "b", key = "{key}" }}]
device = [{{ station = "hl-001", path = "canal/ph", name = "pH计", plot = "p" }}]
"""
SERVER = """
[server]
data_dir = "server"
port = {http}
[broker]
host = "127.0.0.1"
port = {mqtt}
protocol = "3.1.1"
open = true
[registry]
file = "registry.toml"
[[webhook]]
id = "county"
url = "{hook}"
secret_file = "secret"
allow_http = true
"""
EDGE = """
[agent]
data_dir = "agent"
[broker]
host = "127.0.0.1"
port = {mqtt}
protocol = "3.1.1"
[[station]]
code = "hl-001"
[[station.device]]
path = "canal/ph"
driver = "modbus"
host = "127.0.0.1"
port = {modbus}
unit_id = 1
poll_interval_s = 3600.0
points = [{{ indicator = "water_ph", address = 0, type = "u16", scale = 0.01, unit = "[pH]" }}]
"""


def sections() -> dict[int, list[tuple[str, str]]]:
    parts = re.split(r"^## (\d)\. .*$", WALK, flags=re.MULTILINE)
    return {int(n): STEP.findall(text) for n, text in zip(parts[1::2], parts[2::2], strict=True)}


def code_of(step: tuple[str, str]) -> CodeType:
    path, qualname = step
    found: object = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name in qualname.split("."):
        found = getattr(found, name)
    code: CodeType = found.__code__  # type: ignore[attr-defined]
    return code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - other processes give no event
            await asyncio.sleep(0.05)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def meter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pH meter over Modbus TCP: register 0 is 5.08, in hundredths."""
    try:
        while request := await reader.readexactly(12):
            transaction, _, _, unit, function = struct.unpack_from(">HHHBB", request)
            writer.write(struct.pack(">HHHBBBH", transaction, 0, 5, unit, function, 2, 508))
    except asyncio.IncompleteReadError:
        writer.close()


def write_files(directory: Path, *, mqtt: int, http: int, modbus: int, hook: str) -> None:
    (directory / "agent" / "hl-001").mkdir(parents=True)
    key = keys.public_text(keys.load_or_create(directory / "agent" / "hl-001" / "agent.key"))
    (directory / "registry.toml").write_text(REGISTRY.format(key=key), "utf-8")
    (directory / "server.toml").write_text(SERVER.format(http=http, mqtt=mqtt, hook=hook), "utf-8")
    (directory / "edge.toml").write_text(EDGE.format(mqtt=mqtt, modbus=modbus), "utf-8")


async def walk(directory: Path) -> dict[str, object]:
    """Send one reading through everything and return what the API says of it."""
    mqtt, http = free_port(), free_port()
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    (directory / "secret").write_text(secret)
    broker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.broker", "--port", str(mqtt), cwd=ROOT
    )
    instrument = await asyncio.start_server(meter, "127.0.0.1", 0)
    stop = asyncio.Event()
    try:
        async with (
            Receiver(secret=secret, journal=directory / "received.jsonl") as hook,
            asyncio.TaskGroup() as parts,
        ):
            modbus = instrument.sockets[0].getsockname()[1]
            write_files(directory, mqtt=mqtt, http=http, modbus=modbus, hook=hook)
            await until(lambda: accepts(mqtt))
            server = parts.create_task(serve(server_config.load(directory / "server.toml")))
            await until(lambda: accepts(http))
            agent = parts.create_task(app.run(config.load(directory / "edge.toml"), stop=stop))
            await until((directory / "received.jsonl").exists)
            async with httpx.AsyncClient(trust_env=False) as client:
                await until_delivered(client, f"http://127.0.0.1:{http}/api/v1")
                reply = await client.get(
                    f"http://127.0.0.1:{http}/api/v1/readings",
                    params={"station": "hl-001", "device": "canal/ph", "indicator": "water_ph"},
                )
            stop.set()
            await agent
            signal.raise_signal(signal.SIGTERM)
            await server
    finally:
        instrument.close()
        broker.terminate()
        await broker.wait()
    answer: dict[str, object] = reply.json()
    return answer


async def until_delivered(client: httpx.AsyncClient, api: str) -> None:
    """Return when the delivery is booked and the reading stored."""
    async with asyncio.timeout(60):
        while True:
            alerts = (await client.get(f"{api}/alerts")).json()["alerts"]
            if alerts and (await client.get(f"{api}/overview")).json()["readings_total"]:
                path = f"{api}/alerts/{alerts[0]['alert_id']}/deliveries"
                if (await client.get(path)).json()["deliveries"][0]["state"] == "delivered":
                    return
            await asyncio.sleep(0.05)


async def test_one_reading_passes_the_functions_of_the_walk_in_order(tmp_path: Path) -> None:
    wanted = {code_of(step): step for steps in sections().values() for step in steps}
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code in wanted:
            calls.append(wanted[frame.f_code])

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        answer = await walk(tmp_path)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    assert [value for _, value, _, _ in answer["points"]] == [5.08]  # type: ignore[attr-defined]
    ends = {None: 0}
    for number, steps in sections().items():
        place = ends[FOLLOWS[number]]
        for step in steps:
            assert step in calls, f"section {number}: {step} was not called"
            assert step in calls[place:], f"section {number}: {step} came before its turn"
            place = calls.index(step, place) + 1
        ends[number] = place


def test_the_walk_has_all_its_sections():
    assert list(sections()) == list(FOLLOWS)
    assert all(sections().values())
