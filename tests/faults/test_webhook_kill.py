"""The sender killed with SIGKILL between commit and send, and between send and record: same id and bytes again."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.outbox import Outgoing, enqueue_many, receivers
from alerts.delivery.sender import Sender
from alerts.delivery.signing import new_private_key, public_of
from alerts.tables import alerts, outbox
from alerts.vault import Vault
from ingest.operational import Operational
from tests.conftest import Databases, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "alerts" / "delivery" / "killed_sender.py"
ALERT = "01JDWZ0000000000000000000A"
BODY = b'{"type":"alert.suspected","data":{"alert_id":"a","incarnation":"i","seq":1}}'
KEY, PRIVATE = Fernet.generate_key(), new_private_key()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The example receiver, as a process of its own."""
    program, database = ROOT / "docs" / "receiver" / "receiver.py", tmp_path / "webhooks.db"
    command = [sys.executable, "-I", program, "--database", database, "--key", public_of(PRIVATE)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), database
        process.kill()


def kept(database: Path) -> list[tuple[str, bytes]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute("SELECT id, body FROM webhook").fetchall()


def prepare(operational: Operational, url: str) -> None:
    row = WebhookEndpoint("county", "C", url, PRIVATE, allow_http=True)
    sync_endpoints(operational, [row], 0, Vault(KEY))
    now = time.time_ns() // 1_000_000
    texts = ("dedup_key", "rule_id", "station", "device", "indicator", "unit")
    alert = {
        **dict.fromkeys(texts, "x"),
        "alert_id": ALERT,
        "kind": "limit",
        "state": "suspected",
        "severity": "major",
        "certainty": "sensor",
        "seq": 1,
        "citation": {},
        "evidence": {},
        "flags": [],
        **dict.fromkeys(("first_seen_ms", "last_seen_ms", "raised_ms", "changed_ms"), now),
        "occurrence_count": 1,
    }
    with operational.write() as connection:
        connection.execute(sa.insert(alerts).values(alert))
        (to,) = receivers(connection)
        one = Outgoing(to, ALERT, 1, "01JDWZ0000000000000000000E", "alert.suspected", BODY, now)
        enqueue_many(connection, [one])


async def deliver(operational: Operational) -> None:
    """What the next start does, once the lease of the one that died has ended."""

    def ahead() -> int:
        return time.time_ns() // 1_000_000 + 31_000

    def arrived() -> bool:
        with operational.read() as connection:
            return connection.scalar(sa.select(outbox.c.state)) == "delivered"

    sender = Sender(operational, Vault(KEY), now_ms=ahead)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sender.run())
        await asyncio.to_thread(until, arrived)
        running.cancel()


@pytest.mark.parametrize(
    ("point", "there"), [("before_send", 0), ("after_send", 1), ("before_record", 1)]
)
async def test_a_sender_killed_on_the_way_sends_the_same_id_and_bytes_and_one_is_kept(
    tmp_path: Path, databases: Databases, receiver: tuple[str, Path], point: str, there: int
) -> None:
    url, database = receiver
    address = databases.url(tmp_path / "operational.db")
    operational = Operational(address)
    try:
        operational.migrate()
        prepare(operational, url)
        command = [sys.executable, PROGRAM, point, address, KEY.decode()]
        died = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            check=False,
            timeout=60,
            capture_output=True,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr
        before = kept(database)
        assert len(before) == there
        with operational.read() as connection:
            row = connection.execute(sa.select(outbox)).one()
        assert (row.state, row.attempts) == ("pending", 0)
        await deliver(operational)
        assert kept(database) == [(row.webhook_id, BODY)]
        assert before in ([], kept(database))
    finally:
        operational.close()
