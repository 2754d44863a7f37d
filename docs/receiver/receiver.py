"""A receiver of Agrigate's webhooks to start from: standard library and ``cryptography``, nothing of Agrigate.

    python receiver.py --port 9000 --database webhooks.db --key whpk_… [--key whsec_…]

What matters is the order of the steps:

1. verify the signature over the raw body, in constant time, then the timestamp (±5 minutes);
2. put the ``webhook-id`` into a table with a unique key, together with the body; keep it for at least 30 days;
3. answer 204. An id that is already there is answered 200 and has no effect;
4. work afterwards, from the table: of each alert keep the greatest (incarnation, seq).

Whatever is wrong with a request is answered 401, never 500. ``endpoint.verify`` is answered with its nonce.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TOLERANCE_S = 300
KEEP_S = 31 * 24 * 3600
MAX_BODY = 256 * 1024
MAX_SIGNATURES = 16


class Rejected(Exception):  # noqa: N818 - an outcome, not a fault
    """A request that must not be trusted."""


def verified_id(keys: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """Return the webhook-id of an authentic request; raise Rejected, and nothing else, for any other.

    ``keys`` are ``whpk_…`` (ed25519) and ``whsec_…`` (HMAC): all that may be in use while keys are rotated.
    """
    webhook_id, stamp = headers.get("webhook-id") or "", headers.get("webhook-timestamp") or ""
    given = (headers.get("webhook-signature") or "").split(" ")[:MAX_SIGNATURES]
    if not webhook_id or len(webhook_id) > 200 or not webhook_id.isascii():
        raise Rejected("webhook-id is missing or malformed")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Rejected("webhook-timestamp is missing or malformed")
    signed = f"{webhook_id}.{stamp}.".encode("ascii") + body
    matches = [_matches(key, entry, signed) for key in keys for entry in given]
    if not any(matches):
        raise Rejected("no signature matches")
    if abs(now_s - int(stamp)) > TOLERANCE_S:
        raise Rejected("webhook-timestamp is too far away")
    return webhook_id


def _matches(key: str, entry: str, signed: bytes) -> bool:
    version, _, text = entry.partition(",")
    kind, _, content = key.partition("_")
    if (version, kind) == ("v1", "whsec"):
        mac = hmac.new(base64.b64decode(content), signed, hashlib.sha256).digest()
        # The text is compared: nothing in a garbage header can fail to decode.
        return hmac.compare_digest(base64.b64encode(mac), text.encode("utf-8", "replace"))
    if (version, kind) == ("v1a", "whpk"):
        try:
            signature = base64.b64decode(text, validate=True)
            Ed25519PublicKey.from_public_bytes(base64.b64decode(content)).verify(signature, signed)
        except (ValueError, binascii.Error, InvalidSignature):
            return False
        return True
    return False  # a version of later: skipped


class Ledger:
    """Which ids were seen, and their bodies; safe to share between threads."""

    def __init__(self, file: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")  # 2xx means that it is on the disk
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS webhook"
            " (id TEXT PRIMARY KEY, received_s REAL NOT NULL, body BLOB NOT NULL)"
        )

    def admit(self, webhook_id: str, body: bytes, now_s: float) -> bool:
        """Keep a verified webhook; False when its id is known."""
        with self._lock:
            self._db.execute("DELETE FROM webhook WHERE received_s < ?", (now_s - KEEP_S,))
            done = self._db.execute(
                "INSERT OR IGNORE INTO webhook VALUES (?, ?, ?)", (webhook_id, now_s, body)
            )
            return done.rowcount == 1

    def newest(self) -> dict[str, dict[str, object]]:
        """Return the newest snapshot of each alert, whatever the order of arrival."""
        with self._lock:
            rows = self._db.execute("SELECT body FROM webhook").fetchall()
        found: dict[str, dict[str, object]] = {}
        for (body,) in rows:
            data = json.loads(body).get("data", {})
            before = found.get(str(data.get("alert_id")))
            if "seq" in data and (before is None or _rank(data) > _rank(before)):
                found[str(data["alert_id"])] = data
        return found

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()


def _rank(data: Mapping[str, object]) -> tuple[str, int]:
    return str(data["incarnation"]), int(str(data["seq"]))


def answer_to(body: bytes) -> bytes:
    """Return what is answered to a new event: the nonce of a challenge, else nothing."""
    try:
        event = json.loads(body)
        if event["type"] == "endpoint.verify":
            return json.dumps({"nonce": event["data"]["nonce"]}).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return b""
    return b""


def server(
    port: int, keys: Sequence[str], ledger: Ledger, clock: Callable[[], float] = time.time
) -> ThreadingHTTPServer:
    """Return a server on 127.0.0.1, ready for ``serve_forever``; TLS is for the proxy before it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def do_POST(self) -> None:
            body = self._body()
            if body is None:
                return
            now_s = clock()
            try:
                webhook_id = verified_id(keys, self.headers, body, now_s)
            except Rejected as exc:
                self._answer(401, str(exc).encode())
                return
            try:
                new = ledger.admit(webhook_id, body, now_s)
            except sqlite3.Error:
                self._answer(503, b"")  # not kept, so not acknowledged: it comes again
                return
            answer = answer_to(body)
            self._answer(200 if answer or not new else 204, answer)

        def _body(self) -> bytes | None:
            length = self.headers.get("content-length", "")
            if not (length.isascii() and length.isdigit()) or not 0 < int(length[:12]) <= MAX_BODY:
                self.close_connection = True
                self._answer(401, b"no body, or one too large")
                return None
            return self.rfile.read(int(length))

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            if status != 204:
                self.wfile.write(content)

        def send_error(
            self, code: int, message: str | None = None, explain: str | None = None
        ) -> None:
            """Answer what cannot even be parsed."""
            del code, message, explain
            self.close_connection = True
            self.request_version = "HTTP/1.1"
            self.requestline, self.command = "", "POST"
            self._answer(401, b"malformed")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Receive until interrupted."""
    parser = argparse.ArgumentParser(description="Receive, verify and keep webhooks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--database", default="webhooks.db")
    parser.add_argument("--key", action="append", required=True, help="whpk_… or whsec_…")
    given = parser.parse_args()
    ledger = Ledger(given.database)
    with server(given.port, given.key, ledger) as running:
        print(f"http://127.0.0.1:{running.server_address[1]}/", flush=True)  # noqa: T201
        running.serve_forever()


if __name__ == "__main__":
    main()
