"""The bad network does to PUBLISH packets what it is told, and to nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from demo.chaos import frames, proxy
from demo.chaos.proxy import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT = bytes.fromhex("100c00044d5154540402003c0000")
CONNACK = bytes.fromhex("20020000")


def publish(number: int, qos: int = 1) -> bytes:
    identifier = number.to_bytes(2, "big") if qos else b""
    rest = b"\x00\x01t" + identifier + b"n%d" % number
    return bytes([0x30 | qos << 1, len(rest)]) + rest


class Broker:
    """Takes connections, keeps what came, answers CONNECT."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        splitter = frames.Splitter()
        try:
            while data := await reader.read(4096):
                for packet in splitter.feed(data):
                    self.packets.append(packet)
                    if packet == CONNECT:
                        writer.write(CONNACK)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def payloads(self) -> list[int]:
        return [
            int(p[p.index(b"n") + 1 :]) for p in self.packets if frames.kind(p) == frames.PUBLISH
        ]


class Rig:
    def __init__(self, link: Link, broker: Broker, port: int) -> None:
        self.link, self.broker, self.port = link, broker, port
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.clients.append(writer)
        writer.write(CONNECT)
        assert await reader.readexactly(4) == CONNACK
        return reader, writer


@contextlib.asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    broker = Broker()
    upstream = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    link = Link("edge-1", upstream.sockets[0].getsockname()[1], random.Random(1))
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    made = Rig(link, broker, server.sockets[0].getsockname()[1])
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        server.close()
        upstream.close()
        for writer in [*made.clients, *broker.writers]:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(0.05)


async def until(ready) -> None:
    while not ready():  # noqa: ASYNC110 - what is waited for is in plain lists
        await asyncio.sleep(0.01)


async def test_a_good_link_changes_nothing() -> None:
    async with rig() as bad:
        _, writer = await bad.connect()
        sent = [publish(n) for n in range(1, 40)]
        data = b"".join(sent)
        for n in range(0, len(data), 7):  # packets cut anywhere
            writer.write(data[n : n + 7])
            await writer.drain()
        await until(lambda: len(bad.broker.packets) == 40)
        assert bad.broker.packets[1:] == sent
        assert bad.link.counts == {"seen": 39}


async def test_a_dropped_packet_is_acknowledged_to_its_sender_and_never_comes() -> None:
    async with rig() as bad:
        reader, writer = await bad.connect()
        bad.link.suffer({"drop": 1.0})
        writer.write(publish(7))
        assert await reader.readexactly(4) == frames.puback(7)
        bad.link.suffer({"drop": 0.0})
        writer.write(publish(8))
        await until(lambda: bad.broker.payloads() == [8])
        assert bad.link.counts == {"seen": 2, "dropped": 1}


async def test_a_receipt_can_be_dropped_too() -> None:
    async with rig() as bad:
        reader, _ = await bad.connect()
        bad.link.suffer({"drop": 1.0})
        bad.broker.writers[0].write(publish(9))
        await until(lambda: frames.puback(9) in bad.broker.packets)
        bad.link.suffer({"drop": 0.0})
        bad.broker.writers[0].write(publish(10))
        assert await reader.readexactly(len(publish(10))) == publish(10)


async def test_a_duplicate_is_the_same_message_twice() -> None:
    async with rig() as bad:
        _, writer = await bad.connect()
        bad.link.suffer({"duplicate": 1.0})
        writer.write(publish(5))
        await until(lambda: bad.broker.payloads() == [5, 5])
        assert bad.broker.packets[1:] == [publish(5), frames.as_qos0(publish(5))]


async def test_later_packets_overtake_one_that_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy, "REORDER_S", (0.2, 0.2))
    async with rig() as bad:
        _, writer = await bad.connect()
        bad.link.suffer({"reorder": 1.0})
        writer.write(publish(1))
        await until(lambda: bad.link.counts["reordered"] == 1)
        bad.link.suffer({"reorder": 0.0})
        writer.write(publish(2))
        await until(lambda: len(bad.broker.payloads()) == 2)
        assert bad.broker.payloads() == [2, 1]


async def test_a_delayed_packet_comes_on_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy, "DELAY_S", (0.3, 0.3))
    async with rig() as bad:
        _, writer = await bad.connect()
        bad.link.suffer({"delay": 1.0})
        writer.write(publish(3))
        await until(lambda: bad.link.counts["delayed"] == 1)
        bad.link.suffer({"delay": 0.0, "down": True})
        bad.link.suffer({"down": False})
        await bad.connect()
        await until(lambda: bad.broker.payloads() == [3])
        assert bad.broker.packets[-1] == frames.as_qos0(publish(3))
        assert bad.link.counts["next_connection"] == 1


async def test_a_link_that_is_down_cuts_and_refuses() -> None:
    async with rig() as bad:
        reader, _ = await bad.connect()
        bad.link.suffer({"down": True})
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""
        other, writer = await asyncio.open_connection("127.0.0.1", bad.port)
        bad.clients.append(writer)
        with contextlib.suppress(ConnectionError):
            assert await other.read(1) == b""
        bad.link.suffer({"down": False})
        await bad.connect()


async def test_nothing_passes_a_stalled_link_until_it_goes_on() -> None:
    async with rig() as bad:
        _, writer = await bad.connect()
        bad.link.suffer({"stalled": True})
        writer.write(publish(1))
        await writer.drain()
        await asyncio.sleep(0.1)
        assert bad.broker.payloads() == []
        bad.link.suffer({"stalled": False})
        await until(lambda: bad.broker.payloads() == [1])


async def test_a_narrow_link_takes_its_time() -> None:
    async with rig() as bad:
        _, writer = await bad.connect()
        bad.link.suffer({"bytes_per_s": 100.0})
        begun = asyncio.get_running_loop().time()
        writer.write(b"".join(publish(n) for n in range(1, 6)))  # 40 bytes
        await until(lambda: len(bad.broker.payloads()) == 5)
        assert asyncio.get_running_loop().time() - begun > 0.3


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="fall"):
        Link("edge-1", 1, random.Random(1)).suffer({"fall": 1.0})
