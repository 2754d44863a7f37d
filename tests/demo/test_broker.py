"""The demo broker keeps retained messages, sends wills, and listens on loopback only."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from demo import processes
from demo.broker import broker_config
from demo.processes import PYTHON, Fleet, accepts, free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    fleet = Fleet(tmp_path)
    (number,) = free_ports(1)
    await fleet.start("broker", [*PYTHON, "demo.broker", "--port", str(number)])
    try:
        await fleet.wait_until("the broker", lambda: accepts(number), within_s=30)
        yield number
    finally:
        await fleet.stop("broker")


async def first(client: aiomqtt.Client) -> tuple[str, bytes, bool]:
    async with asyncio.timeout(20):
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            return message.topic.value, message.payload, message.retain
    raise AssertionError


async def test_retained_message_reaches_a_later_subscriber(port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish("agri/v1/hl-001/status", b"here", qos=1, retain=True)
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("agri/v1/+/status", qos=1)
        assert await first(client) == ("agri/v1/hl-001/status", b"here", True)


async def test_will_of_a_killed_client_is_sent(port: int) -> None:
    program = f"""
import asyncio, os, signal, aiomqtt
async def main():
    will = aiomqtt.Will("agri/v1/hl-001/status", b"gone", qos=1, retain=True)
    async with aiomqtt.Client("127.0.0.1", {port}, will=will) as client:
        await client.publish("ready", b"", qos=1)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("agri/v1/+/status", qos=1)
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program],
            cwd=processes.REPO,
            check=False,
            timeout=60,
        )
        assert (await first(client))[:2] == ("agri/v1/hl-001/status", b"gone")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.10", "::"])
def test_only_loopback(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        broker_config(host, 1883)
