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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while True:
                head = await reader.readexactly(_MBAP.size)
                transaction, _, length, unit = _MBAP.unpack(head)
                pdu = await reader.readexactly(length - 1)
                address, count = struct.unpack_from(">HH", pdu, 1)
                self.polls += 1
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


async def run(ports: int) -> None:
    """Serve on ``ports`` free ports; print them as JSON, then the number of polls for each line read."""
    registers = Registers()
    servers = [await asyncio.start_server(registers.serve, "127.0.0.1", 0) for _ in range(ports)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(registers.polls, flush=True)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
