"""A real server process on a real broker, and a station that delivers until it is receipted."""

from __future__ import annotations

import json
import queue
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.chaos.stored import store as stored
from gateway import keys, wire
from gateway.wire import EpochState, Lane
from tests.conftest import free_port, until
from tests.ingest.test_subscriber import Publisher

ROOT = Path(__file__).parents[2]
EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAA1"
T0_MS = 1_777_600_000_000
GOOD_PH, BAD_PH = 7.2, 4.9
REGISTRY = """
[[region]]
code = "640122"
name = "贺兰县"
[[subject]]
id = "s"
name = "合作社"
type = "cooperative"
region = "640122"
[[base]]
id = "b"
subject = "s"
name = "基地"
region = "640122"
[[plot]]
id = "canal"
base = "b"
name = "支渠"
water_use = "irrigation"
crop = "paddy"
[[station]]
code = "hl-001"
name = "站"
region = "640122"
key = "{key}"
[[device]]
station = "hl-001"
path = "canal/ph"
name = "pH"
plot = "canal"
"""
SERVER = """
[server]
data_dir = "{data}"
port = {http}
api_key_file = "api-key"
backup_dir = "backups"
disk_reserve_mb = {reserve}
[broker]
host = "127.0.0.1"
port = {mqtt}
open = true
[registry]
file = "registry.toml"
[[webhook]]
id = "county"
url = "http://127.0.0.1:{hook}/"
secret_file = "secret"
allow_http = true
"""


class ServerProcess:
    """``agrigate serve`` in a directory of its own; ``data`` may lie elsewhere."""

    def __init__(
        self, directory: Path, mqtt: int, *, data: Path | None = None, reserve_mb: int = 1
    ) -> None:
        self.directory = directory
        self.data = data or directory / "data"
        self.key = Ed25519PrivateKey.generate()
        self.http = free_port()
        self.config = directory / "server.toml"
        registry = REGISTRY.format(key=keys.public_text(self.key))
        (directory / "registry.toml").write_text(registry, "utf-8")
        (directory / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        self.config.write_text(
            SERVER.format(
                data=self.data, http=self.http, mqtt=mqtt, hook=free_port(), reserve=reserve_mb
            )
        )
        self.log = directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()  # a command that becomes the server
        self.enter: tuple[str, ...] = ()  # a command that sees the files as the server does

    def start(self, *argv: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start ``agrigate serve``, or ``argv`` instead, with the configuration behind it."""
        command = argv or ("-m", "agrigate", "serve", "-c")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, *command, str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        if wait:
            until(self.is_ready, within_s=60)
        return self.process

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.ask("/readyz") == 200

    def ask(self, path: str) -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{self.http}{path}", trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def api(self, path: str) -> dict:
        address = f"http://127.0.0.1:{self.http}/api/v1{path}"
        return httpx.get(address, trust_env=False).json()

    def ended(self, within_s: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(within_s)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run ``agrigate`` with the server's configuration."""
        command = [sys.executable, "-m", "agrigate", *argv, "-c", str(self.config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def rows(self, sql: str, database: str = "operational.db") -> list[tuple]:
        if self.enter:
            script = (
                "import json, sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=10);"
                " print(json.dumps(db.execute(sys.argv[2]).fetchall())); db.close()"
            )
            command = [*self.enter, sys.executable, "-c", script, str(self.data / database), sql]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return [tuple(row) for row in json.loads(done.stdout)]
        with closing(sqlite3.connect(self.data / database, timeout=10)) as db:
            return db.execute(sql).fetchall()

    def readings(self) -> list[tuple[int, int]]:
        """(ms since the start, dup) of every reading in the store of a server that is stopped."""
        series = stored(self.data / "readings.duckdb").values()
        return sorted(
            (t_ms - T0_MS, dup)
            for one in series
            for t_ms, dup in zip(one.t_ms.tolist(), one.dup.tolist(), strict=True)
        )

    def stored(self) -> int:
        return int(self.api("/overview")["readings_total"])

    def is_judged(self) -> bool:
        """Whether the judge has had all that was taken."""
        (taken,) = self.rows("SELECT value FROM counters", "inbox.db")[0]
        judged = self.rows("SELECT inbox_pos FROM cursors WHERE consumer = 'judge'")
        return bool(judged) and judged[0][0] == taken


class Station(Publisher):
    """Keeps every pack for ever and delivers them in order, again and again, until they are receipted."""

    def __init__(self, port: int, key: Ed25519PrivateKey) -> None:
        super().__init__(port, "agri/v1/hl-001/ack")
        self._key = key
        self.bodies: list[bytes] = []
        self.receipts: list[wire.Receipt] = []

    def add(self, value: float = GOOD_PH, *, pad: int = 0) -> None:
        at_s = (T0_MS + len(self.bodies)) / 1000
        body = {"readings": [{"n": "canal/ph/water_ph", "t": at_s, "v": value}]}
        self.bodies.append(json.dumps(body, separators=(",", ":")).encode() + b" " * pad)

    def status(self) -> None:
        lanes = {Lane.READINGS: [EpochState(EPOCH, 1, len(self.bodies))]}
        sig = keys.sign(self._key, wire.status_signing_bytes("hl-001", "s1", lanes))
        key = keys.public_text(self._key)
        status = wire.Status(online=True, session="s1", lanes=lanes, key=key, sig=sig)
        self.publish("agri/v1/hl-001/status", wire.encode_status(status))

    def send(self, seq: int) -> None:
        body = self.bodies[seq - 1]
        self.publish("agri/v1/hl-001/up", wire.encode_pack(EPOCH, seq, 1, T0_MS, body))

    def receipt(self, timeout_s: float) -> wire.Receipt | None:
        try:
            receipt = wire.decode_receipt(self.received.get(timeout=timeout_s))
        except queue.Empty:
            return None
        self.receipts.append(receipt)
        return receipt

    def drain(self) -> None:
        while self.receipt(0) is not None:
            continue

    def at(self) -> int:
        """Ask where the server is; a status may be lost with the server."""
        self.drain()
        while True:
            self.status()
            receipt = self.receipt(2)
            if receipt is not None:
                return receipt.seq

    def deliver(self) -> None:
        """Return when all packs are receipted."""
        while (at := self.at()) < len(self.bodies):
            for seq in range(at + 1, len(self.bodies) + 1):
                self.send(seq)
            while at < len(self.bodies):
                receipt = self.receipt(2)
                if receipt is None:
                    break
                at = receipt.seq
