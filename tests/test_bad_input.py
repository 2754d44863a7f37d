"""Everything wrong that can be typed or sent: a clear message, the bytes kept, the rest flows."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ulid import ULID

from dashboards.server_config import TABLES
from gateway import keys, wire
from gateway.wire import EpochState, Lane, Lost, LostReason
from tests.conftest import Mosquitto, free_port, require, until
from tests.ingest.test_subscriber import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[1]
AGRIGATE = (sys.executable, "-m", "agrigate")
KEY, WAITING, STRANGER = (Ed25519PrivateKey.generate() for _ in range(3))
YEAR_S = 365 * 24 * 3600

REGISTRY = f"""
[[region]]
code = "640122"
name = "贺兰县"
[[station]]
code = "hl-001"
name = "一号站"
region = "640122"
key = "{keys.public_text(KEY)}"
[[station]]
code = "hl-002"
name = "二号站"
region = "640122"
[[device]]
station = "hl-001"
path = "soil1"
name = "土壤一号"
"""


def run(*arguments: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGRIGATE, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ---- what is typed


def server_toml(directory: Path, *, mqtt: int, http: int, more: str = "") -> Path:
    (directory / "registry.toml").write_text(REGISTRY, "utf-8")
    file = directory / "server.toml"
    file.write_text(
        f"""
[server]
data_dir = "data"
port = {http}
api_key_file = "api-key"
[broker]
host = "127.0.0.1"
port = {mqtt}
[registry]
file = "registry.toml"
{more}
""",
        "utf-8",
    )
    return file


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_server_toml_says_all_its_faults_at_once(tmp_path, arguments):
    file = server_toml(tmp_path, mqtt=1, http=1, more="[inbx]\n[inbox]\nretention_day = 90\n")
    file.write_text(
        file.read_text("utf-8").replace("[server]\n", '[server]\nprot = 80\nhost = ""\n')
    )
    done = run("serve", "-c", str(file), *arguments)
    assert done.returncode == 2
    assert sorted(done.stderr.splitlines()) == [
        f"{file}: [inbox]: retention_day: unknown key; did you mean retention_days?",
        f"{file}: [inbx]: unknown table; known: {', '.join(TABLES)}",
        f"{file}: [server]: host: Expected `str` of length >= 1",
        f"{file}: [server]: prot: unknown key; did you mean port?",
    ]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_registry_toml_says_all_its_faults_at_once(tmp_path, arguments):
    file = server_toml(tmp_path, mqtt=1, http=free_port())
    registry = tmp_path / "registry.toml"
    bad = REGISTRY.replace('code = "hl-002"', 'code = "hl/002"').replace(
        'path = "soil1"', 'path = "soil1"\ncolour = "red"'
    )
    registry.write_text(bad, "utf-8")
    done = run("serve", "-c", str(file), *arguments)
    assert done.returncode == 2
    code, colour = done.stderr.splitlines()
    assert code.startswith(f"{registry}: [[station]] #2: code: Expected `str` matching regex")
    assert colour.startswith(f"{registry}: [[device]] #1: colour: unknown key; known: station")


def test_an_edge_toml_says_all_its_faults_at_once(tmp_path):
    file = tmp_path / "edge.toml"
    file.write_text(
        """
[agent]
data_dir = "data"
data_dirr = "x"
[broker]
host = "127.0.0.1"
port = 70000
[spol]
[[station]]
code = "hl/001"
"""
    )
    for arguments in ((), ("--check",)):
        done = run("edge", "-c", str(file), *arguments)
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert len(lines) == 4
        text = "\n".join(lines)
        for said in (
            "[agent]: data_dirr: unknown key; did you mean data_dir?",
            "[broker]: port: Expected `int` <= 65535",
            "[spol]: unknown table; did you mean spool?",
            "[station hl/001]: code: 'hl/001' is no station code",
        ):
            assert f"{file}: {said}" in text
    assert not (tmp_path / "data").exists()


def test_a_password_without_its_name_or_file_is_named(tmp_path):
    file = server_toml(tmp_path, mqtt=1, http=1)
    text = file.read_text("utf-8")
    file.write_text(text.replace("[broker]\n", '[broker]\npassword_file = "none"\n'), "utf-8")
    done = run("serve", "-c", str(file), "--check")
    assert done.returncode == 2
    assert "[broker]: username: is missing" in done.stderr
    assert "[broker]: password_file: " in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "-c", str(server_toml(tmp_path, mqtt=1, http=port)))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"127.0.0.1:{port}: ")
    assert "[server]" in line


@pytest.mark.parametrize("name", ["inbox.db", "operational.db", "readings.duckdb"])
def test_a_damaged_file_of_the_server_is_named(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(b"this is no database " * 999)
    done = run("serve", "-c", str(server_toml(tmp_path, mqtt=1, http=free_port())))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "data") in done.stderr


# ---- what is sent


class Process:
    """A real ``agrigate serve`` beside a real mosquitto, and a gateway written by hand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker = Mosquitto(require("mosquitto"), directory)
        self.broker.start()
        self.http = free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        keep = "[retention]\nreadings_days = 0"  # what a broken clock says is looked at, too
        file = server_toml(directory, mqtt=self.broker.port, http=self.http, more=keep)
        self.log = directory / "server.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*AGRIGATE, "serve", "-c", str(file)],
                cwd=REPO,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=20)
        self.epochs: dict[str, tuple[str, Ed25519PrivateKey]] = {}
        self.seqs: dict[str, int] = {}

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8")
        try:
            return self.client.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def connect(self) -> None:
        until(self.ready)
        self.edge = Publisher(self.broker.port, "agri/v1/+/ack")
        self.begin("hl-001", KEY)

    def close(self) -> None:
        if hasattr(self, "edge"):
            self.edge.close()
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.broker.kill()
        assert code == 0, self.log.read_text("utf-8")

    # ---- as a gateway

    def begin(self, station: str, key: Ed25519PrivateKey) -> None:
        self.epochs[station] = (str(ULID()), key)
        self.seqs[station] = 0
        self.status(station)

    def status(self, station: str) -> None:
        epoch, key = self.epochs[station]
        lanes = {Lane.READINGS: [EpochState(epoch, 1, self.seqs[station])]}
        sig = keys.sign(key, wire.status_signing_bytes(station, "s1", lanes))
        status = wire.Status(
            online=True, session="s1", lanes=lanes, key=keys.public_text(key), sig=sig
        )
        self.edge.publish(f"agri/v1/{station}/status", wire.encode_status(status))

    def receipt(self, station: str, seq: int) -> wire.Receipt:
        """Wait for a receipt of ``seq`` or a later one."""
        while True:
            receipt = wire.decode_receipt(self.edge.received.get(timeout=30))
            if receipt.epoch == self.epochs[station][0] and receipt.seq >= seq:
                return receipt

    def send(self, body: bytes | dict[str, object], station: str = "hl-001") -> None:
        """Send the next pack of a station and wait until the inbox has it."""
        epoch, _ = self.epochs[station]
        self.seqs[station] += 1
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        payload = wire.encode_pack(epoch, self.seqs[station], 1, int(time.time() * 1000), data)
        self.edge.publish(f"agri/v1/{station}/up", payload)
        self.receipt(station, self.seqs[station])

    # ---- as somebody who looks

    def get(self, path: str, **parameters: object) -> dict[str, list[dict[str, object]]]:
        response = self.client.get(f"/api/v1{path}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def points(
        self, indicator: str, station: str = "hl-001", *, around_s: float | None = None
    ) -> list[list[object]]:
        """Return the readings of two hours around a time, now when it is not given."""
        at_s = time.time() if around_s is None else around_s
        span = {"start": max(int(at_s - 3600), 0) * 1000, "end": int(at_s + 3600) * 1000}
        series = {"station": station, "device": "soil1", "indicator": indicator}
        return self.get("/readings", **series, **span)["points"]

    def quarantined(self, **match: object) -> dict[str, object]:
        """Wait for an entry of the quarantine list that has all of ``match``."""
        found: list[dict[str, object]] = []

        def look() -> bool:
            rows = self.get("/quarantine")["quarantine"]
            found[:] = [row for row in rows if match.items() <= row.items()]
            return bool(found)

        until(look)
        return found[0]

    def flows(self, station: str = "hl-001") -> None:
        """Send a good pack and find its reading by the API."""
        at_ms = int(time.time() * 1000)
        self.send({"readings": [good("soil_ph", at_ms / 1000)]}, station)
        until(lambda: any(point[0] == at_ms for point in self.points("soil_ph", station)))
        assert self.process.poll() is None


def good(indicator: str, at_s: float, value: float = 6.5, **more: object) -> dict[str, object]:
    return {"n": f"soil1/{indicator}", "t": at_s, "v": value, **more}


@pytest.fixture(scope="module")
def county(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("county"))
    try:
        process.connect()
        yield process
    finally:
        process.close()


EPOCH = "01KAAAAAAAAAAAAAAAAAAAAAAA"
WHOLE = wire.encode_pack(EPOCH, 1, 1, 1, b'{"readings":[]}')


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("leaf", "payload", "field", "said"),
    [
        ("up", b"garbage", "header", "no LF"),
        ("up", WHOLE.replace(b"agri1", b"agri9"), "header", "newer than the server"),
        ("up", WHOLE.replace(b" 1 1 1 ", b" 1 x 1 "), "header.oldest", "plain decimal"),
        ("up", WHOLE[:-1] + b" ", "header.hash", "does not match"),
        ("up", WHOLE + b" ", "header.len", "the body has 16"),
        ("up", wire.encode_pack(EPOCH, 1, 1, 1, b"x" * (300 << 10)), "body", "more than 131072"),
        ("status", b"garbage", "status", "malformed"),
        ("status", b'{"online":true}', "status", "missing required field `session`"),
        ("status", b'{"online":true,"session":"s"}', "status.sig", "does not match the key"),
        ("status", b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "status", "nested too deeply"),
    ],
)
def test_a_message_that_is_none_of_ours_is_kept_with_its_reason(county, leaf, payload, field, said):
    topic = f"agri/v1/hl-001/{leaf}"
    county.edge.publish(topic, payload)
    first = base64.b64encode(payload[:2048]).decode()
    row = county.quarantined(kind="message", topic=topic, field=field, payload=first)
    assert said in row["reason"]
    assert row["size"] == len(payload)
    with sqlite3.connect(county.directory / "data" / "inbox.db") as inbox:
        kept = {
            p for (p,) in inbox.execute("SELECT payload FROM damaged WHERE topic = ?", (topic,))
        }
    inbox.close()
    assert payload in kept
    county.flows()


@pytest.mark.mosquitto
def test_a_station_code_that_is_none_is_named(county):
    county.edge.publish("agri/v1/HL 001/up", WHOLE)
    row = county.quarantined(kind="message", topic="agri/v1/HL 001/up")
    assert row["field"] == "topic"
    assert "station code 'HL 001' must match" in row["reason"]
    county.flows()


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b'{"readings":[', "body", "truncated"),
        (b'{"readings":[{"n":"soil1/soil_ph","v":NaN}]}', "body", "malformed"),
        (b"\xff\xfe\x00", "body", ""),
        (
            b'{"lost":{"from":1,"through":9,"readings":1,"reason":"cap"}}',
            "lost.through",
            "9 is not",
        ),
        (b'{"readings":[],"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "body", "too deeply"),
        (b'{"lost":{"from":1,"through":1,"readings":1,"reason":"\xff"}}', "body", "utf-8"),
    ],
)
def test_a_body_that_does_not_decode_is_taken_kept_and_named(county, body, field, said):
    county.send(body)
    seq = county.seqs["hl-001"]
    row = county.quarantined(kind="pack", seq=seq, field=field)
    assert said in row["reason"]
    assert (row["station"], row["topic"]) == ("hl-001", "agri/v1/hl-001/up")
    assert base64.b64decode(row["payload"]) == body[:2048]
    pack = county.get(f"/packs/hl-001/{county.epochs['hl-001'][0]}/{seq}")
    assert [q["field"] for q in pack["quarantined"]] == [field]
    county.flows()


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("bad", "field", "said"),
    [
        (good("soil_ph", 1.7e9, u="Cel"), "u", "convert at the edge"),
        (good("soil_phh", 1.7e9), "n", "did you mean soil_ph"),
        (good("soil_ph", 1e200), "t", "UTC seconds"),
        ({"n": "soil1/soil_ph", "t": 1.7e9, "v": "6.5"}, "readings", "$.v"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_and_its_neighbours_arrive(county, bad, field, said):
    at_ms = int(time.time() * 1000)
    county.send(
        {"readings": [good("soil_ec", at_ms / 1000), bad, good("soil_moisture", at_ms / 1000)]}
    )
    row = county.quarantined(kind="record", seq=county.seqs["hl-001"])
    assert (row["position"], row["field"]) == (1, field)
    assert said in row["reason"]
    for indicator in ("soil_ec", "soil_moisture"):
        until(lambda name=indicator: any(p[0] == at_ms for p in county.points(name)))
    county.flows()


@pytest.mark.mosquitto
def test_readings_of_1970_and_next_year_are_kept_and_flagged(county):
    next_year = round(time.time()) + YEAR_S
    county.send({"readings": [good("soil_n", 5.0, 11.0), good("soil_n", next_year, 12.0)]})
    until(lambda: len(county.points("soil_n", around_s=next_year)) == 1)
    old, new = (county.points("soil_n", around_s=at_s)[0] for at_s in (5.0, next_year))
    assert (old[0], old[1], new[0], new[1]) == (5000, 11.0, next_year * 1000, 12.0)
    assert old[3] & 2
    assert new[3] & 2
    county.flows()


@pytest.mark.mosquitto
def test_a_lost_range_is_shown_at_the_station(county):
    epoch, _ = county.epochs["hl-001"]
    first = county.seqs["hl-001"] + 1
    county.seqs["hl-001"] += 3
    body = wire.encode_lost(Lost(first, first + 2, 40, LostReason.CAP))
    county.edge.publish("agri/v1/hl-001/up", wire.encode_pack(epoch, first + 2, 1, 1, body))
    county.receipt("hl-001", first + 2)
    losses = county.get("/stations/hl-001")["losses"]
    assert {"from_seq": first, "through_seq": first + 2, "reason": "cap"}.items() <= losses[
        0
    ].items()
    county.flows()


@pytest.mark.mosquitto
def test_a_test_with_an_absurd_value_does_not_stop_the_judge(county):
    record = {
        "record_id": "absurd",
        "dedup_key": "absurd",
        "tested_at": "2026-05-01T08:00:00+08:00",
        "device_id": "t1",
        "value": "1e999999",
        "result_kind": "quantitative",
    }
    county.send({"tests": [record, {**record, "record_id": "r2", "dedup_key": "r2", "value": "x"}]})
    county.quarantined(kind="record", seq=county.seqs["hl-001"], position=1)
    county.flows()


@pytest.mark.mosquitto
def test_an_unapproved_station_waits_is_listed_and_flows_once_approved(county):
    county.begin("hl-002", WAITING)
    assert county.receipt("hl-002", 0).state is wire.ReceiptState.PENDING
    waiting = {"key": keys.public_text(WAITING), "state": "pending"}

    def listed() -> bool:
        keys_ = county.get("/stations/hl-002")["keys"]
        return any(waiting.items() <= key.items() for key in keys_)

    until(listed)
    assert "gateway_key_pending" in county.log.read_text("utf-8")
    without = run("station", "--url", county.url, "approve", "hl-002")
    assert without.returncode == 1
    assert "401" in without.stderr
    key_file = str(county.directory / "api-key")
    done = run("station", "--url", county.url, "--key-file", key_file, "approve", "hl-002")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"hl-002: approved {waiting['key']}\n"
    while county.receipt("hl-002", 0).state is not wire.ReceiptState.OK:
        continue
    county.flows("hl-002")
    listing = run("station", "--url", county.url, "list")
    assert "approved" in next(x for x in listing.stdout.splitlines() if x.startswith("hl-002"))


@pytest.mark.mosquitto
def test_a_second_gateway_on_a_code_is_reported_and_shut_out(county):
    own = county.epochs["hl-001"], county.seqs["hl-001"]
    county.begin("hl-001", STRANGER)
    assert county.receipt("hl-001", 0).state is wire.ReceiptState.PENDING
    until(lambda: "duplicate_gateway" in county.log.read_text("utf-8"))
    county.epochs["hl-001"], county.seqs["hl-001"] = own
    county.flows()


@pytest.mark.mosquitto
def test_a_station_that_is_not_registered_is_named_in_the_log(county):
    county.begin("xx-999", STRANGER)
    assert county.receipt("xx-999", 0).state is wire.ReceiptState.PENDING
    until(lambda: "station_unknown" in county.log.read_text("utf-8"))
    line = next(x for x in county.log.read_text("utf-8").splitlines() if "station_unknown" in x)
    assert "xx-999" in line
    assert "registry" in line
    assert county.client.get("/api/v1/stations/xx-999").status_code == 404
    county.flows()
