"""A Modbus TCP server for benchmarks: 16-bit registers that can be set, on as many ports as asked."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from dataclasses import dataclass, field

_MBAP = struct.Struct(">HHHB")


@dataclass(slots=True)
class Registers:
    """What a server answers with; ``served``: when (UTC s) a changed one was first read, by (unit, address)."""

    default: int = 12
    value: dict[tuple[int, int], int] = field(default_factory=dict)
    served: dict[tuple[int, int], float] = field(default_factory=dict)
    polls: int = 0
    arrivals: dict[int, list[float]] | None = None
    """By port: when (monotonic s) register 0 was asked for; None keeps nothing."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while True:
                head = await reader.readexactly(_MBAP.size)
                transaction, _, length, unit = _MBAP.unpack(head)
                pdu = await reader.readexactly(length - 1)
                address, count = struct.unpack_from(">HH", pdu, 1)
                self.polls += 1
                if self.arrivals is not None and address == 0:
                    port = writer.get_extra_info("sockname")[1]
                    self.arrivals.setdefault(port, []).append(time.monotonic())
                words = [self._read(unit, address + i) for i in range(count)]
                data = struct.pack(f">{count}H", *words)
                reply = bytes((pdu[0], len(data))) + data
                writer.write(_MBAP.pack(transaction, 0, len(reply) + 1, unit) + reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _read(self, unit: int, address: int) -> int:
        changed = self.value.get((unit, address))
        if changed is None:
            return self.default
        self.served.setdefault((unit, address), time.time())
        return changed


async def run(ports: int, first: int = 0) -> None:
    """Serve on ``ports`` free ports, or those from ``first`` on; print them as JSON, then an answer for each line read.

    A blank line: the number of polls. ``watch``: 0, and polls are timed from now on. ``arrivals``: their times by port.
    """
    registers = Registers()
    wanted = [first + i if first else 0 for i in range(ports)]
    servers = [await asyncio.start_server(registers.serve, "127.0.0.1", port) for port in wanted]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        match line.strip():
            case b"watch":
                registers.arrivals = {}
                print(0, flush=True)
            case b"arrivals":
                print(json.dumps(list((registers.arrivals or {}).values())), flush=True)
            case _:
                print(registers.polls, flush=True)


if __name__ == "__main__":
    asyncio.run(run(*map(int, sys.argv[1:])))
