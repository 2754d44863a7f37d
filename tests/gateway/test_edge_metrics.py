"""The agent's metrics: the balance holds at every scrape; nothing is loaded without a port."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import app, config, edge_metrics
from gateway.agent_status import AgentStatus, LaneBalance, StationStatus
from gateway.errors import MetricsPortError
from tests.conftest import require
from tests.conftest import until as wait_until
from tests.gateway.conftest import Mosquitto, Server, cancelled, edge_toml, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.conftest import Meter

ROOT = Path(__file__).parents[2]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(port: int) -> Samples:
    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return answer.read().decode()

    return parsed(await asyncio.to_thread(get))


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted({"station": "hl-001", **labels}.items()))]


def difference(samples: Samples, lane: str) -> float:
    def of(name: str) -> float:
        return value(samples, f"agrigate_edge_records_{name}", lane=lane)

    lost = sum(
        number
        for (name, labels), number in samples.items()
        if name == "agrigate_edge_records_lost_total" and ("lane", lane) in labels
    )
    came = of("taken_total") + of("queued_at_start")
    went = of("receipted_total") - of("reopened_total") + lost
    return came - went - of("queued") - of("packing")


def with_metrics(file: Path, port: int) -> Path:
    file.write_text(file.read_text().replace("[agent]", f"[agent]\nmetrics_port = {port}"))
    return file


def test_families_of_a_moment() -> None:
    status = AgentStatus(
        pid=1,
        at_ms=10_000,
        running=True,
        version="1",
        crashes={"bus x": 2},
        stations=[
            StationStatus(
                code="hl-001",
                connected=True,
                queue=3,
                oldest_unreceipted_ms=7_500,
                last_receipt_ms=9_000,
                clock_offset_ms=-1_500,
                alarms=["clock_off"],
                devices=[],
                receipts=5,
                server_says="key_pending",
                lanes={"tests": LaneBalance(taken=9, receipted=4, lost={"cap": 2}, queued=3)},
                certificates={"client": 1_800_000_000_000},
            )
        ],
    )
    assert status.stations[0].lanes["tests"].difference == 0
    got = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in edge_metrics.families(status)
        for sample in family.samples
    }
    assert difference(got, "tests") == 0
    assert value(got, "agrigate_edge_oldest_unreceipted_seconds") == 2.5
    assert value(got, "agrigate_edge_clock_offset_seconds") == -1.5
    assert value(got, "agrigate_edge_alarm", alarm="clock_off") == 1
    assert value(got, "agrigate_edge_server_says", state="key_pending") == 1
    assert value(got, "agrigate_edge_server_says", state="delivering") == 0
    expiry = "agrigate_edge_certificate_expiry_timestamp_seconds"
    assert value(got, expiry, certificate="client") == 1_800_000_000
    assert got["agrigate_edge_crashes_total", (("task", "bus x"),)] == 2


def test_every_metric_is_described() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8").split("## Edge agent")[1]
    said = re.findall(r"^\| `(agrigate_edge_[a-z_]+)` \| (counter|gauge) \|", page, re.MULTILINE)
    empty = AgentStatus(pid=1, at_ms=0, running=True, version="1", stations=[])
    made = {
        (family.name + "_total" if family.type == "counter" else family.name, family.type)
        for family in edge_metrics.families(empty)
    }
    assert set(said) == made | {("agrigate_edge_answered", "gauge")}


@pytest.mark.mosquitto
async def test_the_balance_holds_at_every_scrape_while_the_broker_comes_and_goes(
    tmp_path: Path, meter: Meter, request: pytest.FixtureRequest
) -> None:
    broker = Mosquitto(require("mosquitto"), tmp_path)
    request.addfinalizer(broker.kill)
    port = free_port()
    file = edge_toml(tmp_path, broker=broker.port, meter=meter.port, poll_interval_s=0.02)
    edge = config.load(with_metrics(file, port))
    server, stop, scrapes = Server(broker.port), asyncio.Event(), 0

    async def until(good: Callable[[Samples], bool], *, at_least: int) -> Samples:
        nonlocal scrapes
        count = 0
        async with asyncio.timeout(60):
            while True:
                samples = await scrape(port)
                scrapes, count = scrapes + 1, count + 1
                assert samples["agrigate_edge_answered", ()] == 1
                for lane in ("readings", "tests"):
                    assert difference(samples, lane) == 0
                if count >= at_least and good(samples):
                    return samples

    def queue(samples: Samples) -> float:
        return value(samples, "agrigate_edge_records_queued", lane="readings")

    def up(samples: Samples) -> bool:
        return value(samples, "agrigate_edge_connected") == 1

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(app.run(edge, stop=stop))
        await asyncio.to_thread(wait_until, lambda: listens(port))
        await until(lambda s: not up(s) and queue(s) > 0, at_least=8)
        broker.start()
        async with asyncio.TaskGroup() as serving:
            task = serving.create_task(server.run(asyncio.Event()))
            await until(lambda s: up(s) and queue(s) < 30, at_least=10)
            await cancelled(task)
        broker.kill()
        away = await until(lambda s: not up(s) and queue(s) > 20, at_least=10)
        broker.start()
        async with asyncio.TaskGroup() as serving:
            task = serving.create_task(server.run(asyncio.Event()))
            back = await until(lambda s: up(s) and queue(s) < 20, at_least=10)
            await cancelled(task)
        stop.set()
    assert scrapes >= 30
    taken = "agrigate_edge_records_taken_total"
    assert value(back, taken, lane="readings") > value(away, taken, lane="readings") > 0
    assert value(back, "agrigate_edge_connections_total") >= 2
    assert value(back, "agrigate_edge_receipts_total") > 0
    device = "pond/meter"
    assert value(back, "agrigate_edge_device_up", device=device) == 1
    assert value(back, "agrigate_edge_polls_total", device=device, outcome="answered") > 0
    assert not listens(port)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_a_loop_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_metrics, "ANSWER_WITHIN_S", 0.05)
    port = free_port()

    async def never() -> AgentStatus:
        await asyncio.Event().wait()
        raise AssertionError

    async with edge_metrics.served(port, never):
        assert await scrape(port) == {("agrigate_edge_answered", ()): 0.0}


async def test_it_listens_on_this_machine_only_and_a_taken_port_is_one_line(
    tmp_path: Path, meter: Meter
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        file = edge_toml(tmp_path, broker=free_port(), meter=meter.port)
        edge = config.load(with_metrics(file, port))
        with pytest.raises(MetricsPortError, match=rf"metrics_port: 127.0.0.1:{port} .*in use"):
            await app.run(edge, stop=asyncio.Event())
    assert edge_metrics.HOST == "127.0.0.1"


async def test_without_a_port_nothing_is_loaded() -> None:
    code = "import sys, gateway.app, gateway.cli; sys.exit('prometheus_client' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    assert await process.wait() == 0
    assert config.Agent(data_dir="x").metrics_port == 0
