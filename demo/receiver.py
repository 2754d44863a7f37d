"""The reference receiver of webhooks: verifies, remembers, answers, then processes (specs/alerting.md §4).

It imports nothing of Agrigate: an integrator can copy this file. The order of its steps is what matters:

1. verify the signature over the raw body in constant time, then the timestamp (±5 minutes);
2. put the ``webhook-id`` into a table with a unique key that is kept at least 30 days, together with the body;
3. answer 204; an id that is already there is answered 200 and has no effect;
4. process afterwards: here, one JSON line per event in a journal, and per alert the newest (incarnation, seq).

Whatever is wrong with a request is answered 401 and never 500.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click
import h11

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

TOLERANCE_S = 5 * 60
KEEP_S = (
    31 * 24 * 3600
)  # retries and replays carry fresh timestamps: ids must be remembered for weeks
MAX_HEAD = 32 * 1024
MAX_BODY = 256 * 1024
REQUEST_TIMEOUT_S = 15.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS webhook (
  id TEXT PRIMARY KEY, received_s REAL NOT NULL, body BLOB NOT NULL, journaled INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhook_received ON webhook (received_s);
CREATE INDEX IF NOT EXISTS webhook_open ON webhook (journaled) WHERE journaled = 0;
CREATE TABLE IF NOT EXISTS alert (
  id TEXT PRIMARY KEY, incarnation TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
"""


class Rejected(Exception):  # noqa: N818 - an outcome, not a fault
    """A request that must not be trusted."""


class _Data(TypedDict):
    alert_id: str
    incarnation: str
    seq: int
    state: str


class _Event(TypedDict):
    type: str
    data: _Data


def verified_id(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> str:
    """Return the webhook id of an authentic request; ``headers`` have lower-case names. Raises only Rejected."""
    webhook_id = headers.get("webhook-id", "")
    stamp = headers.get("webhook-timestamp", "")
    if not (webhook_id.isascii() and stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        message = "webhook-id or webhook-timestamp is missing or malformed"
        raise Rejected(message)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{stamp}.".encode("ascii") + body
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    # Compare the text: a garbage header is then only unequal, it never fails to decode.
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    if not any(hmac.compare_digest(entry, expected) for entry in given):
        message = "no signature matches"
        raise Rejected(message)
    if abs(now_s - int(stamp)) > TOLERANCE_S:
        message = "webhook-timestamp is too far away"
        raise Rejected(message)
    return webhook_id


class Ledger:
    """What was received: SQLite for ids, bodies and the newest state per alert, and a journal of JSON lines.

    Safe to share between threads.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._db = sqlite3.connect(
            journal.with_suffix(".db"), isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def admit(self, webhook_id: str, body: bytes, now_s: float) -> bool:
        """Store a verified webhook durably; False when its id is already known."""
        with self._lock:
            self._db.execute("DELETE FROM webhook WHERE received_s < ?", (now_s - KEEP_S,))
            done = self._db.execute(
                "INSERT OR IGNORE INTO webhook (id, received_s, body) VALUES (?, ?, ?)",
                (webhook_id, now_s, body),
            )
            return done.rowcount == 1

    def process(self, *, recovering: bool = False) -> int:
        """Journal what was admitted and not journaled yet; return how many events.

        ``recovering``, once at the start: lines that a process which died here had written are not written again.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT id, received_s, body FROM webhook WHERE NOT journaled ORDER BY received_s, id"
            ).fetchall()
            written = self._written_ids() if recovering and rows else set()
            lines = [
                _line(webhook_id, received_s, body)
                for webhook_id, received_s, body in rows
                if webhook_id not in written
            ]
            if lines:
                # Half a surrogate pair goes out as the escape that it came in as.
                with self._journal.open(
                    "a", encoding="utf-8", errors="backslashreplace"
                ) as journal:
                    journal.writelines(lines)
            self._db.execute("BEGIN")
            for webhook_id, _, body in rows:
                self._keep_newest(body)
                self._db.execute("UPDATE webhook SET journaled = 1 WHERE id = ?", (webhook_id,))
            self._db.execute("COMMIT")
            return len(rows)

    def newest(self, alert_id: str) -> tuple[int, str] | None:
        """Return (seq, state) of the newest snapshot of an alert."""
        with self._lock:
            row = self._db.execute(
                "SELECT seq, state FROM alert WHERE id = ?", (alert_id,)
            ).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _written_ids(self) -> set[str]:
        """Return the ids in the last lines of the journal."""
        if not self._journal.exists():
            return set()
        with self._journal.open("rb") as lines:
            lines.seek(max(0, self._journal.stat().st_size - 4 * MAX_BODY))
            tail = lines.read().decode("utf-8", "replace").splitlines()
        return {webhook_id for line in tail if (webhook_id := _id_of(line))}

    def _keep_newest(self, body: bytes) -> None:
        event = _event(body)
        if event is None:
            return
        data = event["data"]
        self._db.execute(
            "INSERT INTO alert (id, incarnation, seq, state, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, seq = excluded.seq,"
            " state = excluded.state, body = excluded.body"
            " WHERE (excluded.incarnation, excluded.seq) > (alert.incarnation, alert.seq)",
            (data["alert_id"], data["incarnation"], data["seq"], data["state"], body),
        )


def _line(webhook_id: str, received_s: float, body: bytes) -> str:
    entry = {
        "webhook_id": webhook_id,
        "received_ms": round(received_s * 1000),
        "sha256": hashlib.sha256(body).hexdigest(),
        "event": _event(body),
    }
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def _id_of(line: str) -> str:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return ""
    return str(entry.get("webhook_id", "")) if isinstance(entry, dict) else ""


def _event(body: bytes) -> _Event | None:
    """Return the event if it is one of an alert; a signed body of another kind is journaled without it."""
    try:
        event = json.loads(body)
        data = event["data"]
        words = (data["alert_id"], data["incarnation"], data["state"])
        seq = data["seq"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    good = all(isinstance(word, str) and word.isascii() for word in words)
    return event if good and isinstance(seq, int) and 0 <= seq < 2**53 else None


class Receiver:
    """An HTTP server for webhooks on 127.0.0.1; ``async with`` starts it and gives its URL."""

    def __init__(
        self,
        *,
        secret: str,
        journal: Path,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = Ledger(journal)
        self._secret = secret
        self._port = port
        self._clock = clock
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        await asyncio.to_thread(self.ledger.process, recovering=True)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        await self._tasks.__aenter__()
        self._start(self._journal_news(), "journal")
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/hook"

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        await asyncio.to_thread(self.ledger.process)
        self.ledger.close()

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._start(self._serve(reader, writer), "webhook connection")

    async def _journal_news(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.to_thread(self.ledger.process)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except OSError:  # TimeoutError is one
            return  # the sender went away or was too slow: it will try again
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        while connection.our_state is h11.IDLE:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await _read_request(connection, reader)
                if request is None:
                    return
                status = await self._judge(*request)
            except (h11.RemoteProtocolError, Rejected):
                status = 401
            reply = h11.Response(status_code=status, headers=[("content-length", "0")], reason=b"")
            writer.write(
                (connection.send(reply) or b"") + (connection.send(h11.EndOfMessage()) or b"")
            )
            await writer.drain()
            if connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                connection.start_next_cycle()
        await _drain(reader, writer)

    async def _judge(self, headers: dict[str, str], body: bytes) -> int:
        now_s = self._clock()
        webhook_id = verified_id(self._secret, headers, body, now_s)
        try:
            new = await asyncio.to_thread(self.ledger.admit, webhook_id, body, now_s)
        except sqlite3.Error:
            return 503  # not stored, so not acknowledged: the sender tries again
        self._news.set()
        return 204 if new else 200


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[dict[str, str], bytes] | None:
    """Read one request: headers (lower case) and body; None when the sender closed before one."""
    headers: dict[str, str] = {}
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                raise Rejected
            connection.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            if event.method != b"POST":
                raise Rejected
            for name, value in event.headers:
                if name.startswith(b"webhook-") and name.decode("ascii") in headers:
                    raise Rejected
                headers[name.decode("ascii")] = value.decode("latin-1")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise Rejected
        elif isinstance(event, h11.EndOfMessage):
            return headers, body
        else:
            return None


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read off what a rejected sender still sends, within bounds: a reset would take our answer away from it."""
    if writer.can_write_eof():
        writer.write_eof()
    left = 4 * 1024 * 1024
    async with asyncio.timeout(1):
        while left > 0 and (chunk := await reader.read(65_536)):
            left -= len(chunk)


async def _run(port: int, secret: str, journal: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Receiver(secret=secret, journal=journal, port=port) as url:
        click.echo(f"listening on {url}")
        await stop.wait()


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="0 takes a free one.")
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Holds whsec_….",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="JSON lines of verified events; a .db of the same name beside it remembers the ids.",
)
def main(port: int, secret_file: Path, journal: Path) -> None:
    """Receive, verify and journal webhooks on 127.0.0.1 until interrupted."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_run(port, secret_file.read_text("ascii").strip(), journal))


if __name__ == "__main__":
    main()
