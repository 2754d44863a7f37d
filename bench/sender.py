"""Many stations' real ``Link`` and ``Spool`` in one process: what the edge does for each pack, without instruments.

Each station has an MQTT connection, key and spool of its own; the spools are full before the connections are made. One
thread and one selector serve all: 200 agents are 200 machines in a county, here they share what the server leaves.
"""

from __future__ import annotations

import functools
import json
import random
import selectors
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from ulid import ULID

from bench.county import DEVICES, INDICATORS, bodies
from gateway import keys, wire
from gateway.link import Facts, Link
from gateway.spool import Spool
from gateway.wire import PACK_MAX_RECORDS, Lane

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike

CAP_BYTES = 512 * 2**20
HOUSEKEEPING_S = 0.05
GIVE_UP_S = 120.0
COMMIT_PACKS = 5
SERIES = DEVICES * len(INDICATORS)


class Sender:
    """One station."""

    def __init__(self, code: str, home: Path, port: int) -> None:
        key = keys.load_or_create(home / "agent.key")
        self.spool = Spool.open(home / "spool.db", cap_bytes=CAP_BYTES, new_id=lambda: str(ULID()))
        self._code = code
        self._link = Link(
            code,
            self.spool,
            session=str(ULID()),
            public_key=keys.public_text(key),
            sign=functools.partial(keys.sign, key),
            version="bench",
            rng=random.Random(code),
        )
        self._port = port
        self._pushing = False
        self.wake_at = 0.0
        self.published = 0
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"agri-{code}")
        self.client.will_set(wire.topic(code, "status"), self._link.will, qos=1, retain=True)
        self.client.max_inflight_messages_set(64)
        self.client.on_connect = self._connected
        self.client.on_message = self._receipt

    def connect(self) -> None:
        """Open the connection; ``Link`` starts when the broker has granted it."""
        self.client.connect("127.0.0.1", self._port, keepalive=60)

    def socket(self) -> SocketLike:
        """Return the connection's socket; ends the process when it was lost: a run that reconnects measures nothing."""
        connected = self.client.socket()
        if connected is None:
            raise SystemExit(f"{self._code}: the broker closed the connection")
        return connected

    def _connected(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(wire.topic(self._code, "ack"), qos=1)
        self._link.connected(time.monotonic())
        self.push()

    def _receipt(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        receipt = wire.decode_receipt(bytes(message.payload))
        self._link.receipt(receipt, time.monotonic(), time.time_ns() // 1_000_000)
        self.push()

    def push(self) -> None:
        """Publish what the link hands out."""
        now = time.monotonic()
        for send in self._link.outgoing(now, time.time_ns() // 1_000_000, Facts()):
            self.client.publish(
                wire.topic(self._code, send.leaf), send.payload, 1, retain=send.retain
            )
            self.published += send.leaf == "up"
        wait_s = self._link.next_wakeup(now)
        self.wake_at = now + (1.0 if wait_s is None else max(wait_s, 0.01))


def fill(directory: Path, stations: list[str], packs: int) -> None:
    """Put ``packs`` full packs into the spool of each station."""
    start_ms = time.time_ns() // 1_000_000 - packs * 5_000
    full = bodies(packs, start_ms)
    for code in stations:
        spool = Spool.open(
            directory / code / "spool.db", cap_bytes=CAP_BYTES, new_id=lambda: str(ULID())
        )
        spool.append_many([(Lane.READINGS, body, PACK_MAX_RECORDS) for body in full], start_ms)
        spool.close()


class Senders:
    """All stations on one selector."""

    def __init__(self, directory: Path, stations: list[str], port: int) -> None:
        self.all = [Sender(code, directory / code, port) for code in stations]
        self._selector = selectors.DefaultSelector()
        self._due = 0.0

    def connect(self) -> None:
        """Open every connection."""
        for sender in self.all:
            sender.connect()
            self._selector.register(sender.socket(), selectors.EVENT_READ, sender)

    def turn(self) -> None:
        """Take what came, and now and then what is due."""
        for key, mask in self._selector.select(HOUSEKEEPING_S):
            sender = key.data
            if mask & selectors.EVENT_READ:
                sender.client.loop_read()
            if mask & selectors.EVENT_WRITE:
                sender.client.loop_write()
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + HOUSEKEEPING_S
        for sender in self.all:
            if now >= sender.wake_at:
                sender.push()
            sender.client.loop_misc()
            wanted = selectors.EVENT_READ
            if sender.client.want_write():
                wanted |= selectors.EVENT_WRITE
            self._selector.modify(sender.socket(), wanted, sender)

    def queue(self) -> int:
        """Packs without receipt."""
        return sum(sender.spool.queue_length() for sender in self.all)

    def close(self) -> None:
        """Leave the broker."""
        for sender in self.all:
            sender.client.disconnect()
            sender.spool.close()
        self._selector.close()


def drain(senders: Senders) -> dict[str, float]:
    """Send all that the spools hold; return seconds and packs published when every pack is receipted."""
    packs = senders.queue()
    started, wall_ms = time.monotonic(), time.time_ns() // 1_000_000
    senders.connect()
    while senders.queue():
        senders.turn()
        if time.monotonic() - started > GIVE_UP_S:
            raise SystemExit(f"{packs} packs are not receipted after {GIVE_UP_S:.0f} s")
    seconds = time.monotonic() - started
    published = sum(sender.published for sender in senders.all)
    return {
        "packs": packs,
        "published": published,
        "seconds": round(seconds, 3),
        "started_ms": wall_ms,
    }


def trickle(senders: Senders, packs_per_s: float, seconds: float) -> dict[str, float]:
    """Spool and send ``packs_per_s`` over all stations for ``seconds``; return what was sent and is still queued.

    A station commits some packs at a time, as an agent under load does.
    """
    each_s = len(senders.all) / packs_per_s
    start_ms = time.time_ns() // 1_000_000
    rounds = int(seconds / each_s / COMMIT_PACKS) + 1
    step_ms = max(1, round(each_s * 1000 * SERIES / PACK_MAX_RECORDS))
    ready = [
        (Lane.READINGS, body, PACK_MAX_RECORDS)
        for body in bodies(rounds * COMMIT_PACKS, start_ms, step_ms=step_ms)
    ]
    senders.connect()
    started, turns = time.monotonic(), 0
    while (now := time.monotonic()) - started < seconds:
        due = int((now - started) * packs_per_s / COMMIT_PACKS)
        while turns < due:
            done, which = divmod(turns, len(senders.all))
            sender = senders.all[which]
            some = ready[done * COMMIT_PACKS : (done + 1) * COMMIT_PACKS]
            sender.spool.append_many(some, time.time_ns() // 1_000_000)
            sender.push()
            turns += 1
        senders.turn()
    return {
        "packs": turns * COMMIT_PACKS,
        "queued": senders.queue(),
        "seconds": round(time.monotonic() - started, 3),
    }


def main(directory: str, port: str, packs_per_s: str, seconds: str, *stations: str) -> None:
    """Drain the spools, or trickle when a rate is given, and print the result as JSON."""
    senders = Senders(Path(directory), list(stations), int(port))
    rate = float(packs_per_s)
    result = trickle(senders, rate, float(seconds)) if rate else drain(senders)
    senders.close()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
