"""Receivers of a storm in one process: live ones that answer at once, a slow one, a robot; what came is kept in memory.

They parse no more of HTTP than our sender writes, for they share two cores with what is measured; signatures are not
verified here (tests/test_example_receiver.py does).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

SLOW_S = 3.0
_DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
_TAKEN = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n{"errcode":0,"errmsg":""}'
_ID, _TIME = b"webhook-id: ", b'"time":"'


class Kept:
    """What one receiver got: id and event time (as sent), receive time (UTC ms)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int]] = []

    def note(self, head: bytes, body: bytes) -> None:
        """Keep one request."""
        id_, at = head.find(_ID), body.find(_TIME)
        self.rows.append(
            (
                head[id_ + len(_ID) : head.find(b"\r\n", id_)].decode("ascii") if id_ >= 0 else "",
                body[at + len(_TIME) : at + len(_TIME) + 24].decode("ascii") if at >= 0 else "",
                time.time_ns() // 1_000_000,
            )
        )


class Connection(asyncio.Protocol):
    """One kept-alive connection; answers in the order of the requests."""

    def __init__(self, kept: Kept, reply: bytes, after_s: float) -> None:
        self._kept, self._reply, self._after_s = kept, reply, after_s
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = head.find(b"content-length: ")
            size = int(head[length + 16 :].split(b"\r\n", 1)[0]) if length >= 0 else 0
            if len(self._held) < end + 4 + size:
                return
            self._kept.note(self._held[:end], self._held[end + 4 : end + 4 + size])
            self._held = self._held[end + 4 + size :]
            if self._after_s:
                asyncio.get_running_loop().call_later(self._after_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        transport = self._transport
        if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
            transport.write(self._reply)


async def serve(live: int) -> list[Kept]:
    """Print the ports (live ones, the slow one, the robot), serve until SIGTERM; return what came to each."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    kinds = [(_DONE, 0.0)] * live + [(_DONE, SLOW_S), (_TAKEN, 0.0)]
    kept = [Kept() for _ in kinds]
    ports = []
    for one, (reply, after_s) in zip(kept, kinds, strict=True):
        made = await loop.create_server(
            lambda one=one, reply=reply, after_s=after_s: Connection(one, reply, after_s),  # type: ignore[misc]
            "127.0.0.1",
            0,
        )
        ports.append(made.sockets[0].getsockname()[1])
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await ended.wait()
    return kept


if __name__ == "__main__":
    came = asyncio.run(serve(int(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps([one.rows for one in came]), "utf-8")
