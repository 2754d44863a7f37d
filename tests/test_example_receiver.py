"""The example receiver of docs/receiver as a process of its own: D9, both kinds of keys, the public verifier."""

from __future__ import annotations

import base64
import json
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from alerts.delivery.challenge import verify_body
from alerts.delivery.signing import Signer, new_private_key, new_secret, public_of, sign_all

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "docs" / "receiver"
SECRET, PRIVATE = new_secret(), new_private_key()
SIGNERS = (Signer.of(SECRET), Signer.of(PRIVATE))
BODY = json.dumps(
    {
        "type": "alert.suspected",
        "data": {"alert_id": "a", "incarnation": "i", "seq": 1, "note": "镉超标"},
    }
).encode()

# What a receiver may do with the public key alone, in a process that cannot see the rest of this repository.
VERIFY_ALONE = """
import base64, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
request = json.load(sys.stdin)
headers = request["headers"]
signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + base64.b64decode(request["body"])
entries = dict(entry.split(",") for entry in headers["webhook-signature"].split(" "))
key = Ed25519PublicKey.from_public_bytes(base64.b64decode(request["public"].removeprefix("whpk_")))
key.verify(base64.b64decode(entries["v1a"]), signed)
assert not {"alerts", "drivers", "gateway", "ingest", "dashboards"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("receiver")
    database = folder / "webhooks.db"
    keys = ["--key", SECRET, "--key", public_of(PRIVATE)]
    with subprocess.Popen(
        [sys.executable, "-I", FOLDER / "receiver.py", "--database", database, *keys],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), database
        process.kill()


def headers_of(
    body: bytes, webhook_id: str, *, age_s: int = 0, signers: tuple[Signer, ...] = SIGNERS
) -> dict[str, str]:
    stamp = int(time.time()) - age_s
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign_all(signers, webhook_id, stamp, body),
    }


def post(url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(url, content=body, headers=headers, trust_env=False)


def kept(database: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(database)) as db:
        return dict(db.execute("SELECT id, body FROM webhook"))


def test_d9_the_same_again_is_200_and_has_no_effect(running: tuple[str, Path]) -> None:
    url, database = running
    assert post(url, BODY, headers_of(BODY, "evt_1")).status_code == 204
    assert post(url, BODY, headers_of(BODY, "evt_1", age_s=60)).status_code == 200
    assert kept(database)["evt_1"] == BODY


@pytest.mark.parametrize("signer", SIGNERS, ids=["hmac", "ed25519"])
def test_either_key_alone_is_enough(running: tuple[str, Path], signer: Signer) -> None:
    webhook_id = f"evt_alone_{'hmac' if signer is SIGNERS[0] else 'ed'}"
    headers = headers_of(BODY, webhook_id, signers=(signer,))
    headers["webhook-signature"] = "v9z,AAAA " + headers["webhook-signature"]
    assert post(running[0], BODY, headers).status_code == 204


def test_d9_whatever_is_wrong_is_401_and_never_500(running: tuple[str, Path]) -> None:
    url, database = running
    good = headers_of(BODY, "evt_bad")
    signature = good["webhook-signature"]
    wrong = [
        (BODY + b" ", good),
        (BODY, {**good, "webhook-id": "evt_swapped"}),
        (BODY, headers_of(BODY, "evt_bad", age_s=301)),
        (BODY, headers_of(BODY, "evt_bad", age_s=-310)),
        (BODY, headers_of(BODY, "evt_bad", signers=(Signer.of(new_private_key()),))),
        *((BODY, {k: v for k, v in good.items() if k != name}) for name in good),
        *(
            (BODY, {**good, "webhook-signature": text})
            for text in ("", "v1", "v1,", "v1a,!!!", "v1a,AAAA", signature[:30], "v1," + "A" * 4000)
        ),
        *((BODY, {**good, "webhook-timestamp": text}) for text in ("soon", "-1", "1e9", "9" * 40)),
    ]
    assert [post(url, body, headers).status_code for body, headers in wrong] == [401] * len(wrong)
    assert "evt_bad" not in kept(database)


def test_d9_a_head_of_two_megabytes_is_401(running: tuple[str, Path]) -> None:
    port = int(running[0].rsplit(":", 1)[1].strip("/"))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            raw.sendall(b"POST / HTTP/1.1\r\nwebhook-id: " + b"A" * 2_000_000 + b"\r\n\r\n")
            answer = raw.recv(100)
        except ConnectionError:
            answer = b""  # it was cut while we wrote: refused all the same
    assert answer == b"" or answer.startswith(b"HTTP/1.1 401")
    assert post(running[0], BODY, headers_of(BODY, "evt_after")).status_code == 204


def test_a_challenge_is_answered_with_its_nonce(running: tuple[str, Path]) -> None:
    body = verify_body("county", "n0nce", int(time.time() * 1000))
    reply = post(running[0], body, headers_of(body, "evt_challenge"))
    assert (reply.status_code, reply.json()) == (200, {"nonce": "n0nce"})


def test_the_public_package_verifies_what_we_sign() -> None:
    headers = headers_of(BODY, "evt_1")
    assert Webhook(SECRET).verify(BODY.decode(), headers) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY.decode() + " ", headers)


def test_plain_cryptography_verifies_what_we_sign_in_a_process_without_us(tmp_path: Path) -> None:
    def alone(body: bytes) -> subprocess.CompletedProcess[str]:
        request = {
            "headers": headers_of(BODY, "evt_1"),
            "body": base64.b64encode(body).decode(),
            "public": public_of(PRIVATE),
        }
        command = [sys.executable, "-I", "-c", VERIFY_ALONE]
        text = json.dumps(request)
        return subprocess.run(
            command, input=text, text=True, capture_output=True, check=False, cwd=tmp_path
        )

    assert alone(BODY).returncode == 0, alone(BODY).stderr
    assert "InvalidSignature" in alone(BODY + b" ").stderr
