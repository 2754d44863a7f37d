"""A real server killed between the inbox and the pairing: after its next start the suspect is refuted, once."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import until
from tests.faults.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mosquitto

pytestmark = [pytest.mark.mosquitto, pytest.mark.slow]  # short: test_killed_between_… of the API
SCRIPT = ("-m", "tests.alerts.laboratory.killed_pairing")


@pytest.fixture
def server(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, mosquitto.port)
    yield server
    server.kill()


@pytest.mark.parametrize("point", ["before_pairing", "within_pairing"])
def test_killed_before_the_pairing_it_is_paired_once(server: ServerProcess, point: str) -> None:
    server.start(*SCRIPT, point)
    device = post(server, "/stations/hl-001/record-keys", {"name": "bench"})["key"]
    tested = datetime.now(UTC) - timedelta(hours=1)
    record = {
        "record_id": "screen-1",
        "dedup_key": "screen-1",
        "tested_at": tested.isoformat(),
        "device_id": "bench",
        "sample_no": "s1",
        "product_name": "普通白菜",
        "parameter": "克百威",
        "method": "colloidal_gold",
        "result_kind": "qualitative",
        "screen_result": "positive",
    }
    post(server, "/records", {"tests": [record]}, device)
    until(lambda: server.rows("SELECT state FROM alerts") == [("suspected",)])
    results = [
        {"indicator": name, "value": "ND", "unit": "mg/kg", "lod": "0.001"}
        for name in ("carbofuran", "3-hydroxycarbofuran")
    ]
    report = {
        "station": "hl-001",
        "sample_no": "s1",
        "laboratory": "省中心",
        "report_no": "1",
        "method": "lc_ms",
        "complete": True,
        "reported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "results": results,
    }
    post(server, "/laboratory/reports", report)
    assert server.ended() == -signal.SIGKILL
    assert server.rows("SELECT state FROM alerts") == [("suspected",)]
    server.start()
    until(lambda: server.rows("SELECT state FROM alerts") == [("refuted",)])
    assert post(server, "/laboratory/reports", report)["state"] == "known"
    log = server.rows("SELECT to_state FROM alert_transitions ORDER BY id")
    assert log == [("suspected",), ("refuted",)]
    assert server.terminate() == 0


def post(server: ServerProcess, path: str, body: dict, key: str = "") -> dict:
    key = key or (server.directory / "api-key").read_text().strip()
    reply = httpx.post(
        f"http://127.0.0.1:{server.http}/api/v1{path}",
        json=body,
        headers={"X-API-Key": key},
        trust_env=False,
    )
    assert reply.is_success, reply.text
    return reply.json()
