from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
import pytest
from structlog.testing import capture_logs

from drivers.records import Reading, TestRecord
from gateway import uplink as uplink_module
from gateway import wire
from gateway.broker import BrokerLogin
from gateway.schedule import Clock
from gateway.station import StationAgent
from gateway.uplink import Uplink
from gateway.wire import Lane
from tests.gateway.conftest import Server, cancelled, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.broker_faults import Fault
    from tests.gateway.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto


def body(number: int) -> tuple[Lane, bytes, int]:
    reading = Reading("plot1/soil", "soil_ph", 1_763_900_000_000 + number, float(number))
    return Lane.READINGS, wire.encode_readings([reading]), 1


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[StationAgent]:
    agent = await StationAgent.open(
        "hl-001",
        tmp_path / "hl-001",
        cap_bytes=64 << 20,
        version="1.0",
        seen=list,
        clock=Clock(),
        rng=random.Random(1),
    )
    yield agent
    await agent.close()


def new_uplink(agent: StationAgent, port: int, changed: asyncio.Event | None = None) -> Uplink:
    return Uplink(
        agent,
        BrokerLogin("127.0.0.1", port),
        clock=Clock(),
        rng=random.Random(2),
        on_change=(changed or asyncio.Event()).set,
    )


async def until_connected(uplink: Uplink, changed: asyncio.Event, *, connected: bool) -> None:
    async with asyncio.timeout(15):
        while uplink.connected is not connected:
            changed.clear()
            await changed.wait()


@asynccontextmanager
async def running(uplink: Uplink) -> AsyncIterator[None]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(uplink.run())
        yield
        uplink.stop()


async def until(agent: StationAgent, *, queue: int) -> None:
    async with asyncio.timeout(20):
        while True:
            agent.receipted.clear()
            if (await agent.state()).queue == queue:
                return
            await agent.receipted.wait()


async def test_a_backlog_and_live_packs_arrive_once_and_in_order(
    agent: StationAgent, server: Server
) -> None:
    await agent.append([body(n) for n in range(200)])
    async with running(new_uplink(agent, server.port)):
        await server.until_readings(200)
        for number in range(200, 230):
            await agent.append([body(number)])
        await until(agent, queue=0)
    assert [v for _, v in server.readings] == [float(n) for n in range(230)]


async def test_a_test_overtakes_a_backlog_of_readings(agent: StationAgent, server: Server) -> None:
    await agent.append([body(n) for n in range(300)])
    record = TestRecord(
        record_id="r1", dedup_key="r1", tested_at="2026-05-01T08:00:00Z", device_id="t1"
    )
    await agent.append([(Lane.TESTS, wire.encode_tests([record]), 1)])
    async with running(new_uplink(agent, server.port)):
        await until(agent, queue=0)
    kinds = [b"tests" in pack.body for pack in server.taken]
    assert kinds.index(True) <= 1
    assert server.tests == ["r1"]


async def test_stopping_says_goodbye_and_leaves_a_retained_status(
    agent: StationAgent, server: Server
) -> None:
    async with running(new_uplink(agent, server.port)):
        await server.until_status(online=True)
    status = await server.until_status(online=False)
    assert status.session == wire.decode_status(agent.will).session
    assert status.key  # not the will of a broken connection: an orderly farewell is a whole status
    async with aiomqtt.Client("127.0.0.1", server.port) as late:
        await late.subscribe("agri/v1/+/status", qos=1)
        message = await anext(late.messages)
    assert message.retain
    assert isinstance(message.payload, bytes)
    assert not wire.decode_status(message.payload).online


async def test_garbage_on_the_ack_topic_is_counted_logged_once_and_harmless(
    agent: StationAgent, server: Server
) -> None:
    uplink = new_uplink(agent, server.port)
    garbage = [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"epoch":1}',
        os.urandom(300),
        b'{"epoch":"x","seq":-1}',
    ]
    with capture_logs() as logs:
        async with running(uplink):
            await server.until_status(online=True)
            async with aiomqtt.Client("127.0.0.1", server.port) as stranger:
                for payload in garbage:
                    await stranger.publish("agri/v1/hl-001/ack", payload, qos=1)
            await agent.append([body(1)])
            await until(agent, queue=0)
    lines = [log for log in logs if log["event"] == "receipt_unreadable"]
    assert len(lines) == 1
    assert lines[0]["topic"] == "agri/v1/hl-001/ack"
    assert uplink.garbage_receipts == len(garbage)
    assert uplink.connections == 1


async def test_a_broker_that_dies_and_returns_is_found_again_and_nothing_is_lost(
    agent: StationAgent,
    mosquitto: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(uplink_module, "RECONNECT_FIRST_S", 0.05)
    changed = asyncio.Event()
    uplink = new_uplink(agent, mosquitto.port, changed)
    with capture_logs() as logs:
        async with running(uplink):
            await until_connected(uplink, changed, connected=True)
            await agent.append(
                [body(n) for n in range(50)]
            )  # the broker takes them, no server is there
            mosquitto.kill()
            await until_connected(uplink, changed, connected=False)
            await agent.append([body(n) for n in range(50, 60)])
            mosquitto.start()
            await serve_until_empty(mosquitto.port, agent)
    events = [log["event"] for log in logs if log["event"].startswith("uplink")]
    assert events == ["uplink_connected", "uplink_down", "uplink_connected"]
    gc.collect()
    assert not caplog.records, "asyncio or paho complained"


async def serve_until_empty(port: int, agent: StationAgent) -> None:
    server = Server(port)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run(ready))
        await ready.wait()
        await until(agent, queue=0)
        await cancelled(task)
    assert [v for _, v in server.readings] == [float(n) for n in range(60)]


async def test_an_unreachable_broker_is_reported_once(
    agent: StationAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "RECONNECT_FIRST_S", 0.01)
    monkeypatch.setattr(uplink_module, "RECONNECT_MAX_S", 0.02)
    uplink = new_uplink(agent, free_port())
    tried = asyncio.Semaphore(0)
    original = uplink._one_connection

    async def counted() -> Fault | None:
        tried.release()
        return await original()

    monkeypatch.setattr(uplink, "_one_connection", counted)
    with capture_logs() as logs:
        async with running(uplink):
            for _ in range(4):
                await tried.acquire()
    (line,) = [log for log in logs if log["event"] == "uplink_down"]
    assert "refused" in line["reason"].lower()


async def test_a_peer_that_accepts_and_says_nothing_leaves_no_socket_behind(
    agent: StationAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "CONNACK_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        uplink = new_uplink(agent, silent.getsockname()[1])
        async with running(uplink):
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            with connection:
                connection.settimeout(0)
                async with asyncio.timeout(10):
                    while await asyncio.get_running_loop().sock_recv(connection, 4096):
                        continue  # until the agent closes its end
