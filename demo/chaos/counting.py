"""``python -m demo.chaos.counting sim.json``: Modbus TCP devices whose every value is the count of their replies.

A reply is in the journal before it leaves, so a kill can lose the reply but never the account of it; counts go on
where the journal ends. SIGUSR1 makes the devices silent for good.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from demo.chaos.load import BREACH, Device, Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

_MBAP = struct.Struct(">HHHB")
_READ = struct.Struct(">BHH")
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _NO_TARGET = 1, 2, 0x0B


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One reply: count ``n`` of a device; ``over`` lists the places of the indicators that breach their limits."""

    ms: int
    device: str
    n: int
    over: list[int] = []


def read_journal(path: Path) -> Iterator[Served]:
    """Yield every whole line."""
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(Served)
    data = path.read_bytes()
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        yield decoder.decode(line)


@dataclass(slots=True)
class Counter:
    """One device: answers a read of all its registers with the next count."""

    device: Device
    start_ms: int
    n: int = 0
    _count: int = field(init=False)

    def __post_init__(self) -> None:
        self._count = len(self.device.indicators)

    def next(self, ms: int) -> tuple[Served, bytes]:
        """Return the next reply: what the journal says of it, and its registers."""
        self.n += 1
        elapsed_s = (ms - self.start_ms) / 1000
        over = [
            self.device.indicators.index(e.indicator)
            for e in self.device.episodes
            if e.start_s <= elapsed_s < e.end_s
        ]
        numbers = [self.n] * self._count
        for place in over:
            numbers[place] += BREACH
        served = Served(ms=ms, device=self.device.path, n=self.n, over=over)
        return served, struct.pack(f">{self._count}I", *numbers)

    def answer(self, pdu: bytes, ms: int) -> tuple[Served | None, bytes]:
        """Return what to write down and the reply to one request."""
        if len(pdu) != _READ.size or pdu[0] != 3:
            return None, bytes([pdu[0] | 0x80, _ILLEGAL_FUNCTION])
        _, address, count = _READ.unpack(pdu)
        if (address, count) != (0, 2 * self._count):
            return None, bytes([pdu[0] | 0x80, _ILLEGAL_ADDRESS])
        served, data = self.next(ms)
        return served, bytes([3, len(data)]) + data


class Counting:
    """One TCP port with its counters."""

    def __init__(self, config: Simulator) -> None:
        path = Path(config.journal)
        self._counters = {d.unit_id: Counter(d, config.start_ms) for d in config.devices}
        by_path = {counter.device.path: counter for counter in self._counters.values()}
        _drop_torn_line(path)
        for served in read_journal(path):
            by_path[served.device].n = served.n
        self._journal = path.open("ab", buffering=0)
        self._quiet = False

    def quiet(self) -> None:
        """Answer no more."""
        self._quiet = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests in turn."""
        try:
            while True:
                head = await reader.readexactly(_MBAP.size)
                transaction, protocol, length, unit = _MBAP.unpack(head)
                if protocol != 0 or not 2 <= length <= 254:
                    return
                pdu = await reader.readexactly(length - 1)
                if self._quiet:
                    continue
                counter = self._counters.get(unit)
                if counter is None:
                    served, reply = None, bytes([pdu[0] | 0x80, _NO_TARGET])
                else:
                    served, reply = counter.answer(pdu, time.time_ns() // 1_000_000)
                if served is not None:
                    self._journal.write(msgspec.json.encode(served) + b"\n")
                writer.write(_MBAP.pack(transaction, 0, len(reply) + 1, unit) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _drop_torn_line(path: Path) -> None:
    """Take off a last line that was cut: what follows must not be glued to it."""
    if path.exists():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)


async def run(config: Simulator) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    counting = Counting(config)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, counting.quiet)
    server = await asyncio.start_server(counting.serve, "127.0.0.1", config.port)
    await stop.wait()
    server.close()
    counting.close()


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Run the counting instruments of PATH."""
    asyncio.run(run(msgspec.json.decode(path.read_bytes(), type=Simulator)))


if __name__ == "__main__":
    main()
