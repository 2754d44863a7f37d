"""Every tester profile and transport to a verdict on the server: simulator, agent and server as people start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from demo.journal import TESTED, Tested, read_all
from demo.simulators.testers.analyser import FIRST_STRIP_ITEM, INHIBITION_ITEM, NITRITE_ITEM
from tests.conftest import free_port, until
from tests.dashboards.test_metrics import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.conftest import Mosquitto

ROOT = Path(__file__).parents[3]
SERIAL = ("lz4000t", "tl310", "dy3000", "ty16", "dy723pc")
RESULTS = 3
UPLOAD = {
    "count": 1,
    "jczbh": "1",
    "jcdw": "站",
    "details": [
        {
            "ybbh": "A7",
            "ybmc": "韭菜",
            "jcxm": "农药残留",
            "jcz": "63.2",
            "szdw": "%",
            "jgpd": "不合格",
            "xlbz": "GB/T 5009.199-2003",
            "bjdw": "示例合作社",
        }
    ],
}


class Station:
    """The instruments and the agent of one station."""

    def __init__(self, directory: Path, broker: int) -> None:
        self.directory = directory
        self.page, self.inbox = free_port(), free_port()
        reader, tap = free_port(), free_port()
        (directory / "drop").mkdir()
        (directory / "sim.toml").write_text(
            'journal_dir = "sim-journal"\n'
            + "".join(
                f'[[tester]]\nstation = "hl-001"\npath = "{name}"\nprofile = "{name}"\n'
                f'link = "ports/{name}"\nresults = {RESULTS}\ninterval_s = 0\n'
                for name in SERIAL
            )
            + f'[[tester]]\nstation = "hl-001"\npath = "dy6260"\nprofile = "dy6260"\n'
            f'listen = "127.0.0.1:{reader}"\nresults = {RESULTS}\ninterval_s = 0\n'
            f'[[tester]]\nstation = "hl-001"\npath = "tap"\nprofile = "slip"\n'
            f'connect = "127.0.0.1:{tap}"\ninterval_s = 1\n'
            f'[[tester]]\nstation = "hl-001"\npath = "drop"\nprofile = "ticket"\n'
            f'folder = "drop"\ninterval_s = 1\n',
            "utf-8",
        )
        items = "".join(
            f'{number} = {{ name = "{name}", kind = "{kind}", unit = "{unit}" }}\n'
            for number, name, kind, unit in (
                (INHIBITION_ITEM, "农药残留", "inhibition", "%"),
                (NITRITE_ITEM, "亚硝酸盐", "quantitative", "mg/kg"),
                (FIRST_STRIP_ITEM, "克伦特罗", "qualitative", ""),
                (FIRST_STRIP_ITEM + 1, "莱克多巴胺", "qualitative", ""),
                (FIRST_STRIP_ITEM + 2, "沙丁胺醇", "qualitative", ""),
            )
        )
        columns = "".join(
            f'[[station.device.fixed_width.columns]]\nname = "{name}"\nat = {at}\nwidth = {width}\n'
            for name, at, width in (
                ("channel", 0, 4),
                ("product_name", 6, 10),
                ("inhibition", 16, 6),
                ("verdict", 24, 4),
            )
        )
        device = '[[station.device]]\ndriver = "tester"\nask_every_s = 5.0\n'
        (directory / "edge.toml").write_text(
            f'[agent]\ndata_dir = "edge"\nlocal_port = {self.page}\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {broker}\n[[station]]\ncode = "hl-001"\n'
            + "".join(
                f'{device}path = "{name}"\nprofile = "{name}"\n'
                f'transport = {{ serial = "ports/{name}" }}\n'
                + (f"[station.device.items]\n{items}" if name == "dy3000" else "")
                for name in SERIAL
            )
            + f'{device}path = "dy6260"\nprofile = "dy6260"\n'
            f'transport = {{ tcp = "127.0.0.1:{reader}" }}\n'
            f'{device}path = "tap"\nreader = "key_value"\ntransport = {{ listen = {tap} }}\n'
            f'{device}path = "drop"\nreader = "fixed_width"\ntransport = {{ folder = "drop" }}\n'
            f"{columns}"
            f'{device}path = "up"\nprofile = "anhui"\n'
            f'transport = {{ http = "/up", port = {self.inbox} }}\n',
            "utf-8",
        )
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, command: str, config: str) -> None:
        with (self.directory / f"{command}.log").open("ab") as log:
            self._running[command] = subprocess.Popen(
                [sys.executable, str(ROOT / "agrigate.py"), command, "-c", config],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
            )

    def kill(self, command: str) -> None:
        process = self._running.pop(command, None)
        if process is not None:
            process.kill()
            process.wait()


@pytest.fixture
def station(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Station]:
    made = Station(tmp_path, mosquitto.port)
    yield made
    made.kill("edge")
    made.kill("simulate")


def told_by(server: Server) -> list[dict]:
    reply = server.http.get("/api/v1/tests", params={"limit": 500}).raise_for_status()
    return list(reply.json()["tests"])


@pytest.mark.mosquitto
@pytest.mark.timeout(180)
def test_each_profile_to_a_verdict_and_a_completion_counts_once(
    station: Station, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    server = Server(tmp_path, mosquitto.port)
    try:
        server.start()
        station.start("simulate", "sim.toml")
        until(lambda: all((tmp_path / "ports" / name).exists() for name in SERIAL), within_s=30)
        station.start("edge", "edge.toml")
        approve(server, tmp_path)
        until(lambda: answers(f"http://127.0.0.1:{station.inbox}/up"), within_s=30)
        devices = {*SERIAL, "dy6260", "tap", "drop", "up"}
        until(lambda: {row["device"] for row in told_by(server)} >= devices, within_s=60)
        asked = {*SERIAL, "dy6260"}

        def counted() -> Counter[str]:
            return Counter(row["device"] for row in told_by(server) if row["device"] in asked)

        told = {name: sum(row.profile == name for row in truth(tmp_path)) for name in sorted(asked)}
        assert all(told.values())
        until(lambda: counted() == told, within_s=30)
        (upload,) = [row for row in told_by(server) if row["device"] == "up"]
        assert (upload["verdict"], upload["value"]) == ("suspect", "63.2")

        # Whatever is killed, the days that are read again bring nothing twice.
        station.kill("edge")
        server.kill()
        forgotten = ("lz4000t", "dy723pc", "dy6260")  # the server alone knows what these told
        for name in forgotten:
            (tmp_path / "edge" / "hl-001" / f"{name}.cursor.json").unlink()
        server.start()
        station.start("edge", "edge.toml")
        until(lambda: asked_again(station, asked, forgotten), within_s=60)
        newest = {row["record_id"] for row in told_by(server)}
        until(lambda: {row["record_id"] for row in told_by(server)} > newest)  # taken in order
        assert counted() == told

        completes(server, station)
    finally:
        server.kill()
        server.http.close()


def approve(server: Server, directory: Path) -> None:
    """Approve the gateway's key as soon as it has spoken."""

    def approved() -> bool:
        (one,) = [
            one
            for one in server.http.get("/api/v1/stations").json()["stations"]
            if one["code"] == "hl-001"
        ]
        if one["key_state"] == "pending":
            keys = server.http.get("/api/v1/stations/hl-001").json()["keys"]
            headers = {"X-API-Key": (directory / "api-key").read_text("ascii").strip()}
            for key in keys:
                body = {"key": key["key"]}
                server.http.post("/api/v1/stations/hl-001/keys/approve", json=body, headers=headers)
        return bool(one["key_state"] == "approved")

    until(approved, within_s=30)


def answers(address: str) -> bool:
    """Upload until the agent takes it; the second time it is a duplicate."""
    details = UPLOAD["details"]
    assert isinstance(details, list)
    now = time.strftime("%Y-%m-%d 00:00:01", time.gmtime(time.time() + 8 * 3600))
    body = {**UPLOAD, "details": [details[0] | {"jcdt": now}]}
    try:
        return httpx.post(address, json=body, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def truth(directory: Path) -> list[Tested]:
    return read_all(directory / "sim-journal" / TESTED, Tested)


def asked_again(station: Station, asked: set[str], told: Iterable[str]) -> bool:
    """Whether each instrument answered the agent's new life, and those of ``told`` had something new to it."""
    try:
        state = httpx.get(f"http://127.0.0.1:{station.page}/api/state", trust_env=False).json()
    except httpx.TransportError:
        return False
    devices = {one["path"]: one for one in state["stations"][0]["devices"]}
    heard = all(devices[name]["ok"] for name in asked)
    return heard and all(devices[name]["seen_ms"] for name in told)


def completes(server: Server, station: Station) -> None:
    """Complete one test on the agent's page and find it once on the server."""
    before = len([row for row in told_by(server) if row["device"] == "tl310"])
    page = f"http://127.0.0.1:{station.page}"
    lines = httpx.get(f"{page}/api/records?station=hl-001", trust_env=False).json()["records"]
    parent = next(line["record"] for line in lines if line["record"]["device_id"] == "tl310")
    entry = {
        "station": "hl-001",
        "entry_id": "abcdef0123",
        "parent_record_id": parent["record_id"],
        "sample_no": "S-77",
        "product_name": "韭菜",
        "purpose": "self",
        "tested_subject_name": "示例合作社",
    }
    reply = httpx.post(
        f"{page}/api/records",
        content=json.dumps(entry),
        headers={"Content-Type": "application/json"},
        trust_env=False,
    )
    assert reply.status_code == 201, reply.text
    made = reply.json()["record"]["record_id"]

    def arrived() -> list[dict]:
        return [row for row in told_by(server) if row["record_id"] == made]

    until(arrived, within_s=30)
    rows = [row for row in told_by(server) if row["device"] == "tl310"]
    assert len(rows) == before
    assert parent["record_id"] not in {row["record_id"] for row in rows}
    sample = server.http.get(f"/api/v1/tests/{parent['record_id']}/sample").json()
    assert sample["sample_no"] == "S-77"
    assert {row["record_id"]: row["superseded_by"] for row in sample["tests"]} == {
        made: None,
        parent["record_id"]: made,
    }
