"""``python -m demo.chaos.proxy``: a bad network between agents, server and broker, in a process of its own.

It reads orders from stdin, one JSON object per line: ``{"link": "edge-1", "set": {"stalled": true}}`` changes what a
link suffers. It dies with its stdin. What it did to PUBLISH packets goes to ``--counts`` as JSON, once a second.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from demo.chaos import frames

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 16 * 1024
COUNTS_EVERY_S = 1.0
REORDER_S = (0.02, 0.6)
DELAY_S = (1.0, 8.0)


class Condition(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a link suffers now; probabilities are per PUBLISH."""

    down: bool = False
    stalled: bool = False
    bytes_per_s: float = 0.0
    latency_s: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0


class Order(msgspec.Struct):
    """One line of stdin."""

    link: str
    set: dict[str, bool | float]


@dataclass(eq=False, slots=True)
class _Connection:
    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    welcome: bool = False
    """The broker has said CONNACK: before it, nothing may be put in between."""


@dataclass(slots=True)
class Link:
    """One way to the broker: a port to connect to, and what is suffered on it."""

    name: str
    upstream: int
    rng: random.Random
    condition: Condition = field(default_factory=Condition)
    counts: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _open: list[_Connection] = field(default_factory=list)

    def suffer(self, changes: dict[str, bool | float]) -> None:
        """Change the condition; a link that goes down cuts what is open."""
        now = msgspec.to_builtins(self.condition)
        self.condition = msgspec.convert({**now, **changes}, Condition)
        self._changed.set()
        self._changed = asyncio.Event()
        if self.condition.down:
            for connection in tuple(self._open):
                _abort(connection)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        if self.condition.down:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, up_writer)
        self._open.append(connection)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(connection, reader, up=True), name="up")
                pumps.create_task(self._pump(connection, up_reader, up=False), name="down")
        finally:
            self._open.remove(connection)
            _abort(connection)

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, *, up: bool
    ) -> None:
        splitter = frames.Splitter()
        try:
            while data := await reader.read(CHUNK):
                await self._hold_back(len(data))
                for packet in splitter.feed(data):
                    self._pass(connection, packet, up=up)
                await (connection.broker if up else connection.client).drain()
        except (OSError, frames.NotMqttError):
            pass
        finally:
            _abort(connection)  # one side is gone: the other has nobody to speak to

    async def _hold_back(self, size: int) -> None:
        while self.condition.stalled:
            await self._changed.wait()
        wait_s = self.condition.latency_s
        if self.condition.bytes_per_s:
            wait_s += size / self.condition.bytes_per_s
        if wait_s:
            await asyncio.sleep(wait_s)

    def _pass(self, connection: _Connection, packet: bytes, *, up: bool) -> None:
        forward = connection.broker if up else connection.client
        if frames.kind(packet) == frames.CONNACK:
            connection.welcome = True
        if frames.kind(packet) != frames.PUBLISH:
            forward.write(packet)
            return
        self.counts["seen"] += 1
        suffers, dice = self.condition, self.rng
        if dice.random() < suffers.drop:
            self.counts["dropped"] += 1
            identifier = frames.packet_id(packet)
            if identifier is not None:  # acknowledged, then lost: what a killed broker does
                (connection.client if up else connection.broker).write(frames.puback(identifier))
            return
        if dice.random() < suffers.duplicate:
            self.counts["duplicated"] += 1
            self._later(dice.uniform(0, REORDER_S[1]), connection, frames.as_qos0(packet), up=up)
        for what, chance, bounds in (
            ("reordered", suffers.reorder, REORDER_S),
            ("delayed", suffers.delay, DELAY_S),
        ):
            if dice.random() < chance:
                self.counts[what] += 1
                self._later(dice.uniform(*bounds), connection, packet, up=up)
                return
        forward.write(packet)

    def _later(self, delay_s: float, connection: _Connection, packet: bytes, *, up: bool) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._release, connection, packet, up)

    def _release(self, connection: _Connection, packet: bytes, up: bool) -> None:  # noqa: FBT001
        """Send a packet that was held back; when its connection is gone, on the one that is there now."""
        if connection not in self._open:
            following = [c for c in self._open if c.welcome]
            if not following:
                self.counts["died_waiting"] += 1
                return
            connection, packet = following[-1], frames.as_qos0(packet)
            self.counts["next_connection"] += 1
        (connection.broker if up else connection.client).write(packet)


def _abort(connection: _Connection) -> None:
    connection.client.transport.abort()
    connection.broker.transport.abort()


async def run(links: Sequence[tuple[str, int]], upstream: int, counts: Path, seed: int) -> None:
    """Serve ``links`` (name, port) until stdin ends."""
    loop = asyncio.get_running_loop()
    by_name = {
        name: Link(name, upstream, random.Random(f"{seed} {name}"))  # noqa: S311 - repeatable
        for name, _ in links
    }
    servers = [
        await asyncio.start_server(by_name[name].serve, "127.0.0.1", port) for name, port in links
    ]
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(_keep_counts(by_name, counts), name="counts")
        async for line in orders:
            order = msgspec.json.decode(line, type=Order)
            by_name[order.link].suffer(order.set)
        writing.cancel()
    for server in servers:
        server.close()


async def _keep_counts(links: dict[str, Link], path: Path) -> None:
    while True:
        total: Counter[str] = Counter()
        for link in links.values():
            total += link.counts
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(dict(total)))
        fresh.replace(path)
        await asyncio.sleep(COUNTS_EVERY_S)


@click.command()
@click.option("--upstream", type=int, required=True, help="The broker's port.")
@click.option("--link", "links", type=(str, int), multiple=True, required=True)
@click.option("--counts", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=int, default=1)
def main(upstream: int, links: tuple[tuple[str, int], ...], counts: Path, seed: int) -> None:
    """Carry MQTT to the broker on 127.0.0.1, as badly as stdin says."""
    asyncio.run(run(links, upstream, counts, seed))


if __name__ == "__main__":
    main()
