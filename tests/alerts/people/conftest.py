"""A real HTTP server that speaks as robots do, and targets that lead to it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from ulid import ULID

from alerts.alert import Alert
from alerts.delivery.payload import Occasion, Place, data_of
from alerts.people.config import sync_targets
from alerts.people.kinds import Robot
from alerts.people.notices import PENDING, News, RoutedTarget, enqueue, enqueue_many
from alerts.people.sender import PeopleSender
from alerts.people.targets import CONFIG, Target
from alerts.states import State
from alerts.tables import alerts, messages, notices
from alerts.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOON_MS = 1_777_608_000_000  # 2026-05-01 12:00 in China
VAULT = Vault(Fernet.generate_key())
OK = {"errcode": 0, "errmsg": "ok"}


@dataclass
class RobotServer:
    """Answers every POST with the next of ``answers``, or with ``always``; keeps what it got."""

    port: int = 0
    always: dict[str, object] | bytes = field(default_factory=lambda: OK)
    answers: list[dict[str, object] | bytes] = field(default_factory=list)
    status: int = 200
    headers: str = ""
    got: list[tuple[str, dict[str, object]]] = field(default_factory=list)  # path, body
    hold: asyncio.Event | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                int(line.partition(":")[2])
                for line in head.splitlines()
                if line.lower().startswith("content-length:")
            )
            body = await reader.readexactly(length)
            self.got.append((head.split(" ")[1], json.loads(body)))
            if self.hold is not None:
                await self.hold.wait()
            answer = self.answers.pop(0) if self.answers else self.always
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            writer.write(
                f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(content)}\r\n{self.headers}"
                "connection: close\r\n\r\n".encode()
                + content
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def texts(self) -> list[str]:
        return [str(body["markdown"]["content"]) for _, body in self.got]


@asynccontextmanager
async def robot_server() -> AsyncIterator[RobotServer]:
    robot = RobotServer()
    server = await asyncio.start_server(robot.handle, "127.0.0.1", 0)
    robot.port = server.sockets[0].getsockname()[1]
    try:
        yield robot
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def robot() -> AsyncIterator[RobotServer]:
    async with robot_server() as server:
        yield server


@dataclass
class Clock:
    now_ms: int = NOON_MS

    def __call__(self) -> int:
        return self.now_ms


class People:
    """A database with targets and notices, and the sender over it."""

    def __init__(self, operational) -> None:
        self.operational = operational
        self.clock = Clock()
        self._targets: list[Target] = []
        self._number = 0

    def add_target(self, url: str, **changes) -> Target:
        settings = changes.pop("settings", None) or Robot(url=url, allow_http=True)
        made = Target(
            **{
                "id": f"t{len(self._targets) + 1}",
                "kind": "wecom",
                "name": "县监管群",
                "settings": settings,
                "source": CONFIG,
                **changes,
            }
        )
        self._targets.append(made)
        sync_targets(self.operational, self._targets, VAULT)
        return made

    def sender(self, **changes) -> PeopleSender:
        return PeopleSender(
            self.operational,
            VAULT,
            **{"now_ms": self.clock, "public_url": "https://nj.example", **changes},
        )

    def tell(self, to="t1", event="alert.suspected", *, group="", repeat=False, **changes) -> str:
        """Keep one event of an alert of its own (or of ``alert_id``) to be told; return the alert's id."""
        alert = self.alert(**changes)
        with self.operational.write() as connection:
            self.keep(connection, [alert])
            enqueue(
                connection,
                [RoutedTarget(to, group, repeat)],
                alert,
                event,
                snapshot(alert, event),
                self.clock(),
            )
        return alert.alert_id

    def tell_many(self, count: int, to="t1", **changes) -> None:
        made = [self.alert(**changes) for _ in range(count)]
        said = snapshot(made[0])
        with self.operational.write() as connection:
            self.keep(connection, made)
            news = [
                News(
                    [RoutedTarget(to)],
                    alert,
                    "alert.suspected",
                    {**said, "alert_id": alert.alert_id},
                )
                for alert in made
            ]
            assert enqueue_many(connection, news, self.clock()) == count

    def pending(self) -> int:
        with self.operational.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).where(notices.c.state == PENDING))

    def alert(self, **changes) -> Alert:
        self._number += 1
        values = {
            "alert_id": str(ULID()),
            "dedup_key": f"{self._number:064d}",
            "kind": "test",
            "rule_id": "r",
            "state": State.SUSPECTED,
            "seq": 1,
            "severity": "major",
            "certainty": "screening",
            "station": "hl-001",
            "device": "tester1",
            "plot_id": "p1",
            "region_code": "440811",
            "indicator": "carbofuran",
            "product_name": "豇豆",
            "sample_no": f"S-{self._number:04d}",
            "value": 0.35,
            "unit": "mg/kg",
            "citation": {
                "standard": "GB 2763-2021",
                "clause": "4.66",
                "comparator": ">",
                "limit": 0.02,
                "unit": "mg/kg",
                "verified": True,
            },
            "evidence": {},
            "first_seen_ms": self.clock(),
            "last_seen_ms": self.clock(),
            "occurrence_count": 1,
            "flags": [],
            "raised_ms": self.clock(),
            "changed_ms": self.clock(),
            "purpose": "supervision",
            "sampling_stage": "base",
        }
        return Alert(**{**values, **changes})

    @staticmethod
    def keep(connection, made) -> None:
        first = alerts.c.alert_id == made[0].alert_id
        known = set(connection.scalars(sa.select(alerts.c.alert_id).where(first)))
        fresh = [alert.to_row() for alert in made if alert.alert_id not in known]
        if fresh:
            connection.execute(sa.insert(alerts), fresh)

    def rows(self, table):
        with self.operational.read() as connection:
            return connection.execute(sa.select(table).order_by(table.c.id)).mappings().all()

    def states(self):
        return [row["state"] for row in self.rows(notices)]

    def messages(self):
        return self.rows(messages)


def snapshot(
    alert: Alert, event: str = "alert.suspected", reason: str = "", **said
) -> dict[str, object]:
    """Return the ``data`` of the webhook that tells the same."""
    occasion = Occasion("e", event, "", reason, alert.changed_ms, said)
    place = Place("湖光站", "Huguang")
    names = ("克百威", "carbofuran")
    data = data_of(alert, occasion, incarnation="i", place=place, names=names)
    return json.loads(msgspec.json.encode(data))


@pytest.fixture
def people(operational) -> People:
    return People(operational)


@asynccontextmanager
async def running(sender: PeopleSender) -> AsyncIterator[PeopleSender]:
    """Run the sender meanwhile."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sender.run())
        try:
            yield sender
        finally:
            task.cancel()


async def eventually(done, within_s: float = 20.0) -> None:
    """Wait until ``done()``; the bound ends a test that hangs."""
    async with asyncio.timeout(within_s):
        while not done():  # noqa: ASYNC110 - what is waited for is a row of a database
            await asyncio.sleep(0.02)
