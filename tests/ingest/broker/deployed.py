"""A broker as ``agrigate deploy mosquitto`` sets it up, and clients that come to it."""

from __future__ import annotations

import queue
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import paho.mqtt.client as mqtt
import sqlalchemy as sa
from click.testing import CliRunner
from paho.mqtt.enums import CallbackAPIVersion

from agrigate import main
from gateway.broker import BrokerLogin, Enrolment, read_enrolment, tls_context
from ingest import tables
from ingest.broker.pki import Authority
from ingest.broker.probe import AccessProbe
from ingest.operational import Operational
from ingest.registry import credentials
from ingest.registry.enrolment import Site, enrol_station
from tests.conftest import free_port, require, until
from tests.ingest.test_service import Edge, Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = 1_777_600_000_000
HOST = "localhost"


class County:
    """A server's directory with stations, their logins, and the broker that was deployed for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "broker"
        self.data = directory / "data"
        self.port = free_port()
        self.config = directory / "server.toml"
        self.config.write_text(
            '[server]\ndata_dir = "data"\n[broker]\nenrolment = "data/ingest.enrolment.toml"\n'
            f'[deploy]\nhost = "{HOST}"\nport = {self.port}\n[registry]\nfile = "registry.toml"\n'
        )
        self.data.mkdir()
        self.enrolled: dict[str, BrokerLogin] = {}
        self.server: Server
        self._process: subprocess.Popen[bytes] | None = None

    def change(self, act: Callable[[sa.Connection], object]) -> object:
        operational = Operational(f"sqlite:///{self.data / 'operational.db'}")
        try:
            operational.migrate()
            with operational.write() as db:
                return act(db)
        finally:
            operational.close()

    def enrol(self, code: str, *, certificate: bool = False) -> BrokerLogin:
        site = Site(HOST, self.port, lambda: Authority.open(self.data / "pki"))

        def act(db: sa.Connection) -> BrokerLogin:
            if db.scalar(sa.select(tables.stations.c.code).filter_by(code=code)) is None:
                row = {"code": code, "name": code, "region_code": "640122"}
                db.execute(sa.insert(tables.stations).values(row))
            enrolled = enrol_station(
                db, site, code, certificate=certificate, renew=True, now_ms=NOW
            )
            return enrolled.enrolment.login

        login = self.change(act)
        assert isinstance(login, BrokerLogin)
        self.enrolled[code] = login
        return login

    def remove(self, code: str) -> None:
        self.change(lambda db: credentials.revoke(db, code, NOW))

    def deploy(self, *options: str, out: Path | None = None) -> str:
        argv = ["deploy", "mosquitto", "-c", str(self.config), "--offline", "--user", "root"]
        argv += ["--out", str(out or self.out), *options]
        done = CliRunner().invoke(main, argv, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def refused(self, *options: str) -> str:
        argv = ["deploy", "mosquitto", "-c", str(self.config), "--offline", "--out", str(self.out)]
        done = CliRunner().invoke(main, [*argv, *options], catch_exceptions=False)
        assert done.exit_code != 0
        return done.output

    @property
    def ingest(self) -> Enrolment:
        faults: list[str] = []
        enrolment = read_enrolment(self.data / "ingest.enrolment.toml", faults)
        assert enrolment is not None, faults
        assert (faults, enrolment.warnings, enrolment.role) == ([], (), "ingest")
        return enrolment

    def probe(self, *, publishers: bool = False) -> AccessProbe:
        enrolment = self.ingest
        assert enrolment.probe is not None
        return AccessProbe(enrolment.login, enrolment.probe, publishers=publishers, budget_s=3)

    # ---- the broker

    def conf(self) -> str:
        """The configuration as written, for this user and on loopback only."""
        text = (self.out / "agrigate.conf").read_text("utf-8")
        assert f"\nlistener {self.port}\n" in text
        text = text.replace(f"listener {self.port}\n", f"listener {self.port} 127.0.0.1\n")
        return f"user {self.out.owner()}\n{text}"

    def start(self, conf: str | None = None) -> None:
        assert self.try_start(conf), self.log()

    def try_start(self, conf: str | None = None) -> bool:
        """Start mosquitto; False when it ends instead of listening."""
        file = self.directory / "mosquitto.conf"
        file.write_text(self.conf() if conf is None else conf)
        with (self.directory / "mosquitto.log").open("wb") as log:
            self._process = subprocess.Popen(
                [require("mosquitto"), "-c", str(file)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while self._process.poll() is None:
            assert time.monotonic() < deadline, "mosquitto neither listens nor ends"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                # It listens before it has its signal handlers: a SIGHUP would end it until it says so.
                until(lambda: " running" in self.log())
                return True
        return False

    def reload(self) -> None:
        assert self._process is not None
        before = self.log().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        until(lambda: self.log().count("Reloading config") > before)

    def log(self) -> str:
        return (self.directory / "mosquitto.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Client:
    """One paho client; ``refused`` says why it is not let in."""

    def __init__(self, login: BrokerLogin, *, client_id: str = "") -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.answer: object = None
        self._event = threading.Event()
        protocol = mqtt.MQTTv5 if login.protocol == "5" else mqtt.MQTTv311
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=protocol, reconnect_on_failure=False
        )
        self.client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            self.client.tls_set_context(tls_context(login.tls))
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self._answered(reason)
        self.client.on_disconnect = lambda *_: self._event.set()
        self.client.on_subscribe = lambda *_: self._event.set()
        self.client.on_message = lambda _c, _u, m: self.messages.put((m.topic, m.payload))
        self._login = login

    def _answered(self, reason: object) -> None:
        self.answer = reason
        self._event.set()

    def connect(self) -> bool:
        """Connect; False when the broker does not want it."""
        try:
            self.client.connect(self._login.host, self._login.port, keepalive=20)
        except (OSError, ssl.SSLError):
            return False
        self.client.loop_start()
        assert self._event.wait(10)
        return self.answer is not None and not self.answer.is_failure  # type: ignore[attr-defined]

    def subscribe(self, *topics: str) -> None:
        self._event.clear()
        self.client.subscribe([(topic, 1) for topic in topics])
        assert self._event.wait(10)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        sent = self.client.publish(topic, payload, qos=1, retain=retain)
        until(lambda: sent.is_published() or not self.client.is_connected())

    def until(self, payload: bytes) -> list[tuple[str, bytes]]:
        """Return what came before ``payload``."""
        before = []
        while (message := self.messages.get(timeout=10))[1] != payload:
            before.append(message)
        return before

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client.on_connect = self.client.on_disconnect = None
        self.client.on_subscribe = self.client.on_message = None


def let_in(login: BrokerLogin) -> bool:
    client = Client(login)
    try:
        return client.connect()
    finally:
        client.close()


class Gateway(Edge):
    """A station that delivers, with its own login."""

    def __init__(self, login: BrokerLogin) -> None:  # not Edge's: that one connects in the clear
        self.received = queue.Queue()
        self._client = Client(login, client_id=f"agri-{login.username}")
        self.client = self._client.client
        self.client.on_message = lambda _c, _u, message: self.received.put(message.payload)
        assert self._client.connect()
        self._client.subscribe(f"agri/v1/{login.username}/ack")

    def close(self) -> None:
        self._client.close()


def ingest_of(county: County) -> Server:
    """Ingest with the login and the probe that were deployed."""
    server = Server(county.data, county.port)
    server.subscriber._login = county.ingest.login
    server.subscriber._guard = county.probe()
    return server


# ---- packets that no library would make


def text(raw: bytes) -> bytes:
    return struct.pack(">H", len(raw)) + raw


def packet(first: int, body: bytes, *, announced: int | None = None) -> bytes:
    length, head = len(body) if announced is None else announced, b""
    while True:
        length, digit = divmod(length, 128)
        head += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([first]) + head + body


def connect_packet(login: BrokerLogin) -> bytes:
    names = text((login.username or "").encode()) + text((login.password or "").encode())
    return packet(0x10, text(b"MQTT") + bytes([4, 0xC2, 0, 20]) + text(b"raw") + names)


class Raw:
    """A station's TLS connection that is in, for packets made by hand."""

    def __init__(self, login: BrokerLogin) -> None:
        assert login.tls is not None
        plain = socket.create_connection((HOST, login.port), timeout=10)
        self.socket = tls_context(login.tls).wrap_socket(plain, server_hostname=HOST)
        self.socket.sendall(connect_packet(login))
        assert self.socket.recv(4) == b"\x20\x02\x00\x00"

    def send_and_close(self, *packets: bytes) -> bytes:
        """Send, say goodbye, return what the broker still said; it may hang up at any time."""
        said = b""
        try:
            for one in packets:
                self.socket.sendall(one)
            while part := self.socket.recv(4096):
                said += part
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.socket.close()
        return said


def with_password(login: BrokerLogin, username: str | None, password: str | None) -> BrokerLogin:
    return replace(login, username=username, password=password)


def without(acl: str, pattern: str) -> str:
    return re.sub(rf"(?m)^{pattern}.*\n", "", acl)
