"""The reference receiver: what it keeps, what it refuses, and that nothing makes it answer 500 (case D9)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from demo.receiver import KEEP_S, Ledger, Receiver, Rejected, verified_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOW = 1_763_900_000


def event(
    seq: int = 1, *, alert: str = "A1", state: str = "suspected", incarnation: str = "I1"
) -> bytes:
    data = {"alert_id": alert, "incarnation": incarnation, "seq": seq, "state": state}
    return json.dumps({"specversion": "1.0", "type": f"alert.{state}", "data": data}).encode()


def signed(body: bytes, webhook_id: str = "evt_1_county", at: int = NOW) -> dict[str, str]:
    """Sign independently of the code under test and of the sender's."""
    mac = hmac.new(bytes(range(32)), f"{webhook_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


class Here:
    """A running receiver and a client for it."""

    def __init__(
        self, url: str, receiver: Receiver, journal: Path, client: httpx.AsyncClient
    ) -> None:
        self.url, self.receiver, self.journal, self.client = url, receiver, journal, client

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        return (await self.client.post(self.url, content=body, headers=headers)).status_code

    def lines(self) -> list[dict]:
        self.receiver.ledger.process()
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    journal = tmp_path / "received.jsonl"
    receiver = Receiver(secret=SECRET, journal=journal, clock=lambda: NOW)
    async with receiver as url, httpx.AsyncClient(trust_env=False) as client:
        yield Here(url, receiver, journal, client)


async def test_a_verified_event_is_journaled(here: Here) -> None:
    body = event()
    assert await here.post(body, signed(body)) == 204
    (line,) = here.lines()
    assert line["webhook_id"] == "evt_1_county"
    assert line["event"] == json.loads(body)
    assert line["sha256"] == hashlib.sha256(body).hexdigest()


async def test_a_repeat_is_acknowledged_and_has_no_effect(here: Here) -> None:
    body = event()
    assert await here.post(body, signed(body)) == 204
    assert await here.post(body, signed(body, at=NOW + 60)) == 200
    assert len(here.lines()) == 1


async def test_ids_are_remembered_for_a_month_and_over_restarts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "j.jsonl")
    assert ledger.admit("evt_1", b"{}", 0)
    ledger.close()
    ledger = Ledger(tmp_path / "j.jsonl")
    assert not ledger.admit("evt_1", b"{}", 30 * 24 * 3600)
    assert ledger.admit("evt_1", b"{}", KEEP_S + 1)
    ledger.close()


async def test_an_older_snapshot_does_not_overwrite_a_newer_one(here: Here) -> None:
    for number, (seq, incarnation) in enumerate([(3, "I1"), (2, "I1"), (1, "I2")]):
        body = event(seq, incarnation=incarnation, state="confirmed" if seq == 3 else "suspected")
        assert await here.post(body, signed(body, f"evt_{number}")) == 204
        here.lines()
        assert (
            here.receiver.ledger.newest("A1")
            == [(3, "confirmed"), (3, "confirmed"), (1, "suspected")][number]
        )


async def test_one_good_signature_among_others_is_enough(here: Here) -> None:
    body = event()
    headers = signed(body)
    headers["webhook-signature"] = "v1a,AAAA v1,AAAA " + headers["webhook-signature"]
    assert await here.post(body, headers) == 204


BODY = event()
NO_EVENTS = (
    b"[]",
    b"nonsense",
    b"\xff",
    b'{"data":{}}',
    b'{"data":{"alert_id":1,"incarnation":"I","state":"s","seq":1}}',
    b'{"data":{"alert_id":"A","incarnation":"I","state":"s","seq":99999999999999999999}}',
    b'{"data":{"alert_id":"\\ud800","incarnation":"I","state":"s","seq":1}}',
    b"[" * 200_000,
)
GOOD = signed(BODY)["webhook-signature"]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        pytest.param(BODY, {"webhook-timestamp": str(NOW - 301)}, id="timestamp swapped"),
        pytest.param(BODY, signed(BODY, at=NOW - 301), id="old timestamp, well signed"),
        pytest.param(BODY, signed(BODY, at=NOW + 301), id="future timestamp, well signed"),
        pytest.param(BODY + b" ", {}, id="edited body"),
        pytest.param(b"", {}, id="no body"),
        pytest.param(BODY, {"webhook-id": "evt_2_county"}, id="swapped id"),
        pytest.param(BODY, {"webhook-id": ""}, id="empty id"),
        pytest.param(BODY, {"webhook-id": "evt.1"}, id="dotted id"),
        pytest.param(BODY, {"webhook-timestamp": "now"}, id="timestamp is a word"),
        pytest.param(BODY, {"webhook-timestamp": "9" * 400}, id="huge timestamp"),
        pytest.param(BODY, {"webhook-timestamp": "-1"}, id="negative timestamp"),
        pytest.param(BODY, {"webhook-timestamp": f"{NOW}.0"}, id="float timestamp"),
        pytest.param(BODY, {"webhook-signature": ""}, id="empty signature"),
        pytest.param(BODY, {"webhook-signature": GOOD[:-1]}, id="truncated signature"),
        pytest.param(BODY, {"webhook-signature": GOOD[:10]}, id="short signature"),
        pytest.param(BODY, {"webhook-signature": "v1"}, id="no comma"),
        pytest.param(BODY, {"webhook-signature": "v1,a,b,c"}, id="many commas"),
        pytest.param(BODY, {"webhook-signature": "v1,===="}, id="bad padding"),
        pytest.param(BODY, {"webhook-signature": GOOD.removeprefix("v1,")}, id="no version"),
        pytest.param(BODY, {"webhook-signature": "v2," + GOOD[3:]}, id="other version"),
        pytest.param(BODY, {"webhook-signature": "v1," * 5000}, id="long garbage"),
    ],
)
async def test_everything_wrong_is_401(here: Here, body: bytes, changes: dict[str, str]) -> None:
    assert await here.post(body, {**signed(BODY), **changes}) == 401
    assert here.lines() == []
    assert await here.post(BODY, signed(BODY)) == 204  # and it still serves


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_a_missing_header_is_401(here: Here, missing: str) -> None:
    headers = signed(BODY)
    del headers[missing]
    assert await here.post(BODY, headers) == 401


async def test_an_ambiguous_header_is_401(here: Here) -> None:
    headers = [*signed(BODY).items(), ("webhook-id", "evt_2_county")]
    reply = await here.client.post(here.url, content=BODY, headers=headers)
    assert reply.status_code == 401


async def test_get_is_401(here: Here) -> None:
    assert (await here.client.get(here.url)).status_code == 401


async def test_signed_text_that_is_no_event_harms_nothing(here: Here) -> None:
    for number, body in enumerate(NO_EVENTS):
        assert await here.post(body, signed(body, f"evt_{number}")) == 204
    assert [line["event"] for line in here.lines()] == [None] * len(NO_EVENTS)


async def test_half_a_surrogate_pair_is_journaled_as_it_came(here: Here) -> None:
    body = event()[:-1] + b',"x":"\\ud800"}'
    assert await here.post(body, signed(body)) == 204
    assert here.lines()[0]["event"] == json.loads(body)


async def raw(url: str, request: bytes) -> bytes:
    """Send bytes as they are and return the first line of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 2_000_000, id="2 MB header"
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", id="TLS hello"),
        pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n", id="negative length"
        ),
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\ncontent-length: 8\r\n\r\n",
            id="two lengths",
        ),
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" + b"a" * 3_000_000,
            id="3 MB body",
        ),
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            id="bad chunk",
        ),
        pytest.param(
            b"POST /hook HTTP/1.1\r\nhost: x\r\nwebhook-id: \xff\xfe\r\ncontent-length: 0\r\n\r\n",
            id="latin id",
        ),
    ],
)
async def test_abuse_of_http_is_401(here: Here, request_bytes: bytes) -> None:
    assert b" 401 " in await raw(here.url, request_bytes)
    assert await here.post(BODY, signed(BODY)) == 204


async def test_a_sender_that_vanishes_harms_nobody(here: Here) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(here.url).port)
    writer.write(b"POST /hook HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
    await writer.drain()
    writer.close()
    assert await here.post(BODY, signed(BODY)) == 204


async def test_what_cannot_be_stored_is_not_acknowledged(here: Here) -> None:
    here.receiver.ledger._db.execute("PRAGMA query_only=ON")
    assert await here.post(BODY, signed(BODY)) == 503
    here.receiver.ledger._db.execute("PRAGMA query_only=OFF")
    assert await here.post(BODY, signed(BODY)) == 204


async def test_a_crash_after_the_answer_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    ledger = Ledger(journal)
    ledger.admit("evt_1", event(1), 1.0)
    ledger.process()
    ledger.admit("evt_2", event(2), 2.0)
    ledger.close()
    with sqlite3.connect(journal.with_suffix(".db")) as db:  # died after the line, before the mark
        db.execute("UPDATE webhook SET journaled = 0 WHERE id = 'evt_1'")
    db.close()
    async with Receiver(secret=SECRET, journal=journal):
        pass
    assert [json.loads(line)["webhook_id"] for line in journal.read_text().splitlines()] == [
        "evt_1",
        "evt_2",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.fixed_dictionaries({}, optional=dict.fromkeys(signed(b""), st.text())),
    body=st.binary(),
)
def test_verification_only_ever_rejects(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Rejected):
        verified_id(SECRET, headers, body, NOW)


def test_it_agrees_with_the_public_package() -> None:
    now = int(time.time())
    headers = signed(BODY, at=now)
    assert verified_id(SECRET, headers, BODY, now) == "evt_1_county"
    assert Webhook(SECRET).verify(BODY, headers) == json.loads(BODY)


def test_as_a_process_it_journals_and_ends_on_sigterm(tmp_path: Path) -> None:
    secret, journal = tmp_path / "secret", tmp_path / "out" / "j.jsonl"
    secret.write_text(SECRET + "\n")
    command = [sys.executable, "-m", "demo.receiver", "--port", "0"]
    command += ["--secret-file", str(secret), "--journal", str(journal)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().split()[-1]
            headers = signed(BODY, at=int(time.time()))
            assert (
                httpx.post(url, content=BODY, headers=headers, trust_env=False).status_code == 204
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert len(journal.read_text().splitlines()) == 1


def test_it_imports_nothing_of_ours() -> None:
    code = (
        "import demo.receiver, sys; ours = {'drivers', 'gateway', 'ingest', 'alerts', 'dashboards'};"
        "sys.exit(bool(ours & {name.split('.')[0] for name in sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
