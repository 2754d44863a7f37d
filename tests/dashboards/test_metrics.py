"""The metrics of a real server process under load: what must balance does, at every scrape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from gateway import keys, wire
from gateway.wire import EpochState, Lane
from tests.conftest import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mosquitto

ROOT = Path(__file__).parents[2]
SCRAPES = 60
WINDOW = 400  # messages not yet acknowledged by the broker
AHEAD = 600  # messages not yet received by ingest: the broker drops what is over 1000
EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAA1"
NOT_JSON = b"this is no body"
READINGS = [{"bn": "a/", "bt": 1_777_600_000.0, "n": "soil_ph", "v": 6.5}] + [
    {"n": "soil_ph", "t": i, "v": 6.5 + i / 100} for i in range(1, 40)
]
BODY = json.dumps({"readings": READINGS, "clk": "sync"}).encode()

Scrape = dict[tuple[str, tuple[str, ...]], float]


class Server:
    """``agrigate serve`` as people start it."""

    def __init__(self, directory: Path, broker_port: int) -> None:
        self._directory = directory
        self.port = free_port()
        self.key = Ed25519PrivateKey.generate()
        (directory / "registry.toml").write_text(
            '[[region]]\ncode = "640122"\nname = "x"\n'
            + "".join(
                f'[[station]]\ncode = "{code}"\nname = "{code}"\nregion = "640122"\n'
                for code in ("hl-001", "hl-002")
            ),
            "utf-8",
        )
        (directory / "server.toml").write_text(
            f'[server]\ndata_dir = "data"\nport = {self.port}\napi_key_file = "api-key"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {broker_port}\nopen = true\n'
            '[registry]\nfile = "registry.toml"\n',
            "utf-8",
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agrigate", "serve", "-c", self._directory / "server.toml"],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
            )
        until(self._ready, within_s=60)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text("utf-8")
        try:
            return self.http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def scrape(self) -> Scrape:
        text = self.http.get("/metrics").raise_for_status().text
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def approve(self) -> None:
        api_key = (self._directory / "api-key").read_text("ascii").strip()
        reply = self.http.post(
            "/api/v1/stations/hl-001/keys/approve",
            json={"key": keys.public_text(self.key)},
            headers={"X-API-Key": api_key},
        )
        assert reply.status_code == 200, reply.text


class Load:
    """Publishes packs of every kind until it is told to end, and knows how many of each."""

    def __init__(self, port: int, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.sent = dict.fromkeys(("taken", "duplicate", "out_of_order", "damaged", "pending"), 0)
        self.quarantined = 0
        self.seq = 0
        self.received = 0  # by ingest, as it last said
        self.ended = threading.Event()
        self._window = threading.Semaphore(WINDOW)
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda *_: self._ready.set()
        self._client.max_inflight_messages_set(WINDOW)
        self._client.on_publish = lambda *_: self._window.release()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)
        self._thread = threading.Thread(target=self._run)

    def status(self) -> None:
        lanes = {Lane.READINGS: [EpochState(EPOCH, 1, 1)]}
        signed = wire.status_signing_bytes("hl-001", "s1", lanes)
        status = wire.Status(
            online=True,
            session="s1",
            queue=3,
            lanes=lanes,
            key=keys.public_text(self._key),
            sig=keys.sign(self._key, signed),
            alarms=["spool_full"],
        )
        self._publish("status", wire.encode_status(status))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        for _ in range(WINDOW):  # every message is with the broker
            assert self._window.acquire(timeout=30)
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, leaf: str, payload: bytes, station: str = "hl-001") -> None:
        assert self._window.acquire(timeout=30)
        self._client.publish(f"agri/v1/{station}/{leaf}", payload, qos=1)

    def _pack(self, outcome: str, seq: int, body: bytes, station: str = "hl-001") -> None:
        self.sent[outcome] += 1
        self._publish("up", wire.encode_pack(EPOCH, seq, 1, 1, body), station)

    def _run(self) -> None:
        while not self.ended.is_set():
            if sum(self.sent.values()) - self.received > AHEAD:
                self.ended.wait(0.001)
                continue
            for _ in range(20):
                self.seq += 1
                self._pack("taken", self.seq, BODY)
            self.seq += 1
            self.quarantined += 1
            self._pack("taken", self.seq, NOT_JSON)
            self._pack("duplicate", self.seq - 3, BODY)
            self._pack("out_of_order", self.seq + 2, BODY)
            self._pack("pending", 1, BODY, "hl-002")
            self.sent["damaged"] += 1
            self._publish("up", b"agri1 no header\n{}")


@pytest.fixture
def server(tmp_path, mosquitto) -> Iterator[Server]:
    server = Server(tmp_path, mosquitto.port)
    yield server
    server.http.close()
    server.kill()


@pytest.fixture
def load(mosquitto, server) -> Iterator[Load]:
    load = Load(mosquitto.port, server.key)
    yield load
    if not load.ended.is_set():
        load.stop()


def total(scrape: Scrape, name: str, *labels: str) -> float:
    return sum(
        value
        for (one, values), value in scrape.items()
        if one == name and set(labels) <= set(values)
    )


def assert_balances(scrape: Scrape) -> None:
    outcomes = total(scrape, "ingest_packs_total")
    waiting = scrape["ingest_waiting_packs", ()]
    assert scrape["ingest_received_total", ()] == outcomes + waiting
    assert waiting >= 0
    taken = scrape["ingest_packs_total", ("taken",)]
    for consumer in ("judge", "store"):
        behind = scrape["ingest_consumer_behind_packs", (consumer,)]
        before = scrape["ingest_consumer_behind_at_start_packs", (consumer,)]
        assert taken + before == total(scrape, "ingest_consumer_packs_total", consumer) + behind
        assert behind >= 0


def test_the_counters_balance_at_every_scrape_of_a_server_under_load(server, load):
    """Behaviour 15: what was read is stored, dropped for a reason that is counted, or queued; at each scrape."""
    server.start()
    load.status()
    until(lambda: server.scrape()["gateway_keys_pending", ()] == 1)
    server.approve()

    def online() -> bool:  # ingest looks at its keys once a second
        load.status()
        return server.scrape()["stations", ("online",)] == 1

    until(online)
    load.start()
    scrapes = []
    while len(scrapes) < SCRAPES:
        scrapes.append(server.scrape())
        load.received = int(scrapes[-1]["ingest_received_total", ()])
    load.stop()
    for scrape in scrapes:
        assert_balances(scrape)
    # It was busy: a balance of an idle server says nothing.
    assert len({s["ingest_received_total", ()] for s in scrapes}) > SCRAPES // 2
    assert any(s["ingest_waiting_packs", ()] for s in scrapes)
    assert any(s["ingest_consumer_behind_packs", ("store",)] for s in scrapes)

    messages = sum(load.sent.values())
    until(lambda: server.scrape()["ingest_received_total", ()] == messages)
    until(lambda: server.scrape()["ingest_waiting_packs", ()] == 0)
    until(lambda: total(server.scrape(), "ingest_consumer_behind_packs") == 0)
    last = server.scrape()
    assert_balances(last)
    assert {name: last["ingest_packs_total", (name,)] for name in load.sent} == load.sent
    for consumer in ("judge", "store"):
        handled = [
            last["ingest_consumer_packs_total", (consumer, o)] for o in ("stored", "quarantined")
        ]
        assert handled == [load.sent["taken"] - load.quarantined, load.quarantined]
    surroundings(last, load)

    server.kill()  # and the counters of a new life begin where the inbox stands
    server.start()
    again = server.scrape()
    assert_balances(again)
    assert again["ingest_inbox_packs", ()] == load.sent["taken"]
    lives = [name for (kind, name) in (*last, *again) if kind == "ingest_store_life"]
    assert len(set(lives)) == 2


def surroundings(scrape: Scrape, load: Load) -> None:
    assert scrape["ingest_broker_connected", ()] == 1
    assert scrape["ingest_inbox_packs", ()] == load.sent["taken"]
    assert scrape["ingest_inbox_bytes", ()] > 0
    assert scrape["ingest_disk_free_bytes", ()] > 0
    good = load.sent["taken"] - load.quarantined
    assert scrape["store_readings", ()] == good * len(READINGS)
    assert scrape["ingest_hold", ("readings",)] == scrape["ingest_hold", ("all",)] == 0
    assert scrape["ingest_consumer_lag_seconds", ("store",)] == 0
    assert scrape["ingest_consumer_stalled", ("judge",)] == 0
    assert 0 < scrape["ingest_commit_seconds_count", ()] <= load.sent["taken"]
    assert (
        scrape["ingest_commit_seconds_bucket", ("+Inf",)]
        == (scrape["ingest_commit_seconds_count", ()])
    )
    assert scrape["stations", ("never",)] == 1
    assert scrape["stations_alarmed", ("spool_full",)] == 1
    assert scrape["stations_queue_packs", ()] == 3
    assert scrape["alerts_outbox_pending", ()] == 0
    assert scrape["gateway_keys_pending", ()] == 0
    for reason in ("gap", "cap", "corrupt"):
        assert scrape["ingest_losses_total", (reason,)] == 0
