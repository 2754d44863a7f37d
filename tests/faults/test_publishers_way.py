"""From a device without an agent to the alert, and from the alert back to the very bytes, in a real server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import until
from tests.faults.server_process import BAD_PH, GOOD_PH, T0_MS, ServerProcess
from tests.ingest.test_subscriber import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto
TOPIC = "agri/v1/hl-001/raw/canal/ph"
MAPPING = """
[publishers]
mqtt = true
[[mapping]]
name = "vendor"
device = "canal/ph"
time = "at"
[mapping.values]
water_ph = "p.ph"
"""
UPLOAD = {
    "ybbh": "26050101",
    "ybmc": "韭菜",
    "jcxm": "农药残留",
    "jcdt": "2026-05-01 09:30:12",
    "jcz": "63.2",
    "szdw": "%",
    "jgpd": "不合格",
    "xlbz": "GB/T 5009.199-2003",
}


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    with server.config.open("a") as config:
        config.write(MAPPING)
    server.start()
    yield server
    server.kill()


def post(server: ServerProcess, key: str, body: bytes) -> httpx.Response:
    url = f"http://127.0.0.1:{server.http}/api/v1/records"
    return httpx.post(url, content=body, headers={"X-API-Key": key}, trust_env=False)


def key_of(server: ServerProcess, device: str) -> str:
    api_key = (server.directory / "api-key").read_text().strip()
    reply = httpx.post(
        f"http://127.0.0.1:{server.http}/api/v1/stations/hl-001/record-keys",
        json={"name": "野外", "device": device},
        headers={"X-API-Key": api_key},
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["key"]


def evidence(server: ServerProcess, device: str) -> dict:
    """Wait for an alert of a device and return what it stands on."""
    found: list[dict] = []

    def raised() -> bool:
        found[:] = [one for one in server.api("/alerts")["alerts"] if one["device"] == device]
        return bool(found)

    until(raised)
    return server.api(f"/alerts/{found[0]['alert_id']}")["evidence"]


def test_from_the_alert_back_to_the_bytes_of_a_vendors_json_and_of_http(
    server: ServerProcess, mosquitto: Mosquitto
) -> None:
    device = Publisher(mosquitto.port)
    raw = [
        json.dumps({"at": T0_MS / 1000 + n, "p": {"ph": v}}) for n, v in enumerate((7.1, BAD_PH))
    ]
    for body in raw:
        device.publish(TOPIC, body.encode())
    pack = evidence(server, "canal/ph")["pack"]
    assert (pack["topic"], pack["body"]) == (TOPIC, raw[1])
    device.close()

    bench = key_of(server, "bench/inbox")
    body = json.dumps({"count": 1, "details": [UPLOAD]}, ensure_ascii=False).encode("gbk")
    reply = post(server, bench, body)
    assert (reply.status_code, reply.json()["accepted"]) == (200, 1)
    assert post(server, bench, body).json() == reply.json()
    pack = evidence(server, "bench/inbox")["pack"]
    assert pack["topic"] == "agri/v1/hl-001/records/bench/inbox"
    assert reply.json()["sha256"] == pack["sha256"]
    (test,) = server.api("/tests")["tests"]
    assert test["sample_no"] == "26050101"

    own = key_of(server, "canal/ph")
    senml = json.dumps([{"n": "water_ph", "t": T0_MS / 1000 + 9, "v": GOOD_PH}]).encode()
    assert post(server, own, senml).json()["accepted"] == 1
    until(lambda: server.stored() == 3 and server.is_judged())
    metrics = httpx.get(f"http://127.0.0.1:{server.http}/metrics", trust_env=False).text
    assert re.search(r"^ingest_publishers_connected 1\.0$", metrics, re.MULTILINE)
    assert server.terminate() == 0


def test_a_server_that_cannot_hear_publishers_is_not_ready(
    server: ServerProcess, mosquitto: Mosquitto
) -> None:
    mosquitto.kill()
    until(lambda: server.ask("/readyz") == 503)
    reply = httpx.get(f"http://127.0.0.1:{server.http}/readyz", trust_env=False)
    assert "publishers: " in reply.json()["detail"]
    mosquitto.start()
    until(lambda: server.ask("/readyz") == 200)
    server.terminate()
