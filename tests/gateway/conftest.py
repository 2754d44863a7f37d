"""A small server that follows the link's rules, and clocks that tests move."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from gateway import wire
from gateway.schedule import Clock
from tests.conftest import Mosquitto, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = ["Mosquitto", "free_port"]  # as the tests beside this file know them

STORE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass
class Server:
    """The server's side of the link: takes packs in order, answers packs and statuses with receipts."""

    port: int
    taken: list[wire.Pack] = field(default_factory=list)
    statuses: list[tuple[bool, wire.Status]] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)
    answering: bool = True

    async def run(self, ready: asyncio.Event) -> None:
        async with aiomqtt.Client("127.0.0.1", self.port, identifier="server") as client:
            await client.subscribe([("agri/v1/+/up", 1), ("agri/v1/+/status", 1)])
            ready.set()
            async for message in client.messages:
                station, leaf = wire.split_topic(str(message.topic))
                assert isinstance(message.payload, bytes)
                if leaf == "up":
                    epochs = [self._take(wire.decode_pack(message.payload))]
                else:
                    epochs = self._note(
                        wire.decode_status(message.payload), retained=message.retain
                    )
                if self.answering:
                    for epoch in epochs:
                        await client.publish(
                            wire.topic(station, "ack"), self._receipt(epoch), qos=1
                        )
                async with self.progress:
                    self.progress.notify_all()

    def _take(self, pack: wire.Pack) -> str:
        if pack.seq == self.last.get(pack.epoch, 0) + 1:
            self.last[pack.epoch] = pack.seq
            self.taken.append(pack)
        return pack.epoch

    def _note(self, status: wire.Status, *, retained: bool) -> list[str]:
        self.statuses.append((retained, status))
        return [] if retained else [e.epoch for held in status.lanes.values() for e in held]

    def _receipt(self, epoch: str) -> bytes:
        return wire.encode_receipt(
            wire.Receipt(
                epoch=epoch,
                seq=self.last.get(epoch, 0),
                store=STORE,
                now_ms=time.time_ns() // 1_000_000,
            )
        )

    @property
    def readings(self) -> list[tuple[str, float | None]]:
        """(indicator, value) of every reading taken, in order."""
        return [
            (record.n, record.v)
            for pack in self.taken
            for record in wire.decode_body(pack.body).readings or ()
        ]

    @property
    def tests(self) -> list[str]:
        """Record ids of every test taken, in order."""
        return [
            record.record_id
            for pack in self.taken
            for record in wire.decode_body(pack.body).tests or ()
        ]

    async def until(self, arrived: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.progress:
            await self.progress.wait_for(arrived)

    async def until_readings(self, count: int) -> None:
        await self.until(lambda: len(self.readings) >= count)

    async def until_status(self, *, online: bool) -> wire.Status:
        await self.until(lambda: any(status.online is online for _, status in self.statuses))
        return next(status for _, status in reversed(self.statuses) if status.online is online)


async def cancelled(task: asyncio.Task[None]) -> None:
    """End ``task``: Python 3.11 can lose a cancellation that meets the end of a wait_for (in publish)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


@pytest.fixture
async def server(mosquitto: Mosquitto) -> AsyncIterator[Server]:
    server = Server(mosquitto.port)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run(ready))
        async with asyncio.timeout(10):
            await ready.wait()
        yield server
        await cancelled(task)


class FakeTime:
    """A clock that moves only when somebody sleeps on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)

    def clock(self) -> Clock:
        return Clock(
            monotonic=lambda: self.now,
            wall_ms=lambda: 1_763_900_000_000 + round((self.now - 1000.0) * 1000),
            sleep=self._sleep,
        )


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@dataclass
class Meter:
    """A Modbus TCP device whose register 0 counts the requests; every register reads the same number."""

    port: int = 0
    served: int = 0
    silent: bool = False
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until_served(self, count: int) -> None:
        async with asyncio.timeout(30), self.progress:
            await self.progress.wait_for(lambda: self.served >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6]) - 1)
                if self.silent:
                    continue
                self.served += 1
                count = int.from_bytes(pdu[3:5])
                body = bytes([pdu[0], 2 * count]) + self.served.to_bytes(2) * count
                writer.write(head[:4] + (len(body) + 1).to_bytes(2) + head[6:7] + body)
                await writer.drain()
                async with self.progress:
                    self.progress.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def meter() -> AsyncIterator[Meter]:
    meter = Meter()
    server = await asyncio.start_server(meter.serve, "127.0.0.1", 0)
    meter.port = server.sockets[0].getsockname()[1]
    async with server:
        yield meter
        server.close()


def edge_toml(directory: Path, *, broker: int, meter: int, poll_interval_s: float = 0.05) -> Path:
    """Write a configuration of one station with one device that has one point."""
    file = directory / "edge.toml"
    file.write_text(
        f"""
[agent]
data_dir = "data"
[broker]
host = "127.0.0.1"
port = {broker}
[[station]]
code = "hl-001"
[[station.device]]
path = "pond/meter"
driver = "modbus"
host = "127.0.0.1"
port = {meter}
unit_id = 1
poll_interval_s = {poll_interval_s}
timeout_s = 1.0
points = [{{ indicator = "soil_moisture_counts", address = 0, type = "u16", unit = "1" }}]
"""
    )
    return file
