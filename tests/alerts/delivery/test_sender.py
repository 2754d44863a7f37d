"""The sender against real HTTP servers on this machine: answers of every kind, and crashes between send and record."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from alerts.delivery import sender as sender_module
from alerts.delivery.config import WebhookEndpoint
from alerts.delivery.configured import sync_endpoints
from alerts.delivery.outbox import LEASE_MS, Turn, take_turn
from alerts.delivery.sender import Sender, SenderLimits
from alerts.delivery.signing import new_secret, verify
from alerts.raising import AlertRaiser
from alerts.tables import delivery_attempts, endpoints, outbox
from alerts.vault import Vault
from demo.receiver import Receiver
from ingest.judge.findings import Finding
from ingest.tables import events

if TYPE_CHECKING:
    from pathlib import Path

    from alerts.delivery.booking import Settled
    from ingest.operational import Operational

VAULT = Vault(Fernet.generate_key())
START_MS = 1_763_870_401_000  # when the findings of these tests are received
SECRET = new_secret()

Judge = Callable[..., AlertRaiser]
Make = Callable[..., Finding]


@dataclass
class Clock:
    now: int = START_MS

    def __call__(self) -> int:
        return self.now


@dataclass
class Hook:
    """A scripted receiver: each request takes the next script, the last one stays."""

    scripts: list[bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]]
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = h11.Connection(h11.SERVER)
            headers: dict[str, str] = {}
            body = b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    headers = {n.decode(): v.decode() for n, v in event.headers}
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
            self.requests.append((headers, body))
            async with self.arrived:
                self.arrived.notify_all()
            if isinstance(script, bytes):
                writer.write(script)
                await writer.drain()
            else:
                await script(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def has(self, count: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)


def reply(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        *headers,
        f"content-length: {len(body)}",
        "connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


OK = reply("200 OK", body=b"thanks")


@asynccontextmanager
async def hook(
    *scripts: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Hook]:
    made = Hook(list(scripts))
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await made.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield made
    finally:
        server.close()
        ending = list(running)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)


@dataclass
class Setup:
    """A database with one endpoint per URL, and a sender on them under a clock that only the test moves."""

    operational: Operational
    sender: Sender
    clock: Clock

    async def until(self, check: Callable[[sa.Connection], bool]) -> None:
        """Wait for a state of the database (readiness, bounded by the test's time limit)."""

        def holds() -> bool:
            with self.operational.read() as connection:
                return check(connection)

        async with asyncio.timeout(60):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.01)

    def rows(self) -> list[sa.Row]:
        with self.operational.read() as connection:
            return list(connection.execute(sa.select(outbox).order_by(outbox.c.id)))

    def attempts(self) -> list[sa.Row]:
        with self.operational.read() as connection:
            return list(
                connection.execute(sa.select(delivery_attempts).order_by(delivery_attempts.c.id))
            )

    def forward_to_next(self) -> None:
        """Move the clock to when the only waiting row is due, and wake the sender as nothing else would now."""
        self.clock.now = min(row.next_ms for row in self.rows() if row.state == "pending")
        self.sender.wake()


def has_attempts(count: int) -> Callable[[sa.Connection], bool]:
    return lambda c: c.scalar(sa.select(sa.func.count()).select_from(delivery_attempts)) >= count


def state_is(state: str) -> Callable[[sa.Connection], bool]:
    return lambda c: set(c.scalars(sa.select(outbox.c.state))) == {state}


@asynccontextmanager
async def sending(
    operational: Operational,
    *urls: str,
    limits: SenderLimits | None = None,
    clock: Clock | None = None,
    **settings: object,
) -> AsyncIterator[Setup]:
    clock = clock or Clock()
    rows = [
        WebhookEndpoint(f"e{n}", f"E{n}", url, SECRET, allow_http=True, **settings)
        for n, url in enumerate(urls)
    ]
    await asyncio.to_thread(sync_endpoints, operational, rows, clock.now, VAULT)
    sender = Sender(operational, VAULT, now_ms=clock, jitter=lambda: 0.0, limits=limits)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sender.run())
        try:
            yield Setup(operational, sender, clock)
        finally:
            task.cancel()


async def test_what_is_committed_is_sent_at_the_wake(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(OK) as there, sending(operational, there.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        await asyncio.to_thread(judge, raiser, [finding()])
        await setup.until(state_is("delivered"))
        ((headers, body),) = there.requests
        row = setup.rows()[0]
        assert body == row.body
        assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert (headers["x-attempt"], headers["x-replay"]) == ("1", "0")
        assert verify(SECRET, headers, body, START_MS / 1000) == row.webhook_id
        (attempt,) = setup.attempts()
        assert (attempt.status_code, attempt.error, attempt.response) == (200, "", "thanks")
        with operational.read() as connection:
            query = sa.select(events.c.data).where(events.c.type == "delivery")
            assert connection.scalars(query).one()["state"] == "delivered"


async def test_what_waits_from_before_the_start_is_sent(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(OK) as there:
        async with sending(operational, there.url):
            pass
        judge(AlertRaiser(), [finding()])
        async with sending(operational, there.url) as setup:
            await setup.until(state_is("delivered"))


async def test_a_failure_is_retried_with_the_same_id_and_bytes(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(reply("500 Oops"), OK) as there, sending(operational, there.url) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(has_attempts(1))
        assert setup.rows()[0].next_ms == START_MS + 5000
        setup.forward_to_next()
        await setup.until(state_is("delivered"))
        (first, body_1), (second, body_2) = there.requests
        assert body_1 == body_2
        assert first["webhook-id"] == second["webhook-id"]
        assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 5
        assert second["webhook-signature"] != first["webhook-signature"]
        assert second["x-attempt"] == "2"


async def test_a_receiver_down_for_days_sees_the_exact_schedule_then_the_event_is_kept(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(reply("503 Down")) as there, sending(operational, there.url) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        for count in range(1, 10):
            await setup.until(has_attempts(count))
            setup.forward_to_next()
        await setup.until(state_is("undelivered"))
        times = [row.at_ms for row in setup.attempts()]
        gaps = [(b - a) // 1000 for a, b in itertools.pairwise(times)]
        assert gaps == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
        assert len({body for _, body in there.requests}) == 1


YEAR_MS = 365 * 24 * 3_600_000


@pytest.mark.parametrize("step_ms", [-YEAR_MS, YEAR_MS], ids=["back a year", "on a year"])
async def test_r18_a_clock_that_is_set_holds_no_retry_up(
    operational: Operational, judge: Judge, finding: Make, step_ms: int
) -> None:
    async with hook(reply("503 Down"), OK) as there, sending(operational, there.url) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(has_attempts(1))
        setup.clock.now += step_ms
        setup.sender.wake()
        await setup.until(state_is("delivered"))
        (first, _), (second, _) = there.requests
        assert first["webhook-id"] == second["webhook-id"]


async def test_gone_suspends_the_endpoint_and_keeps_its_events(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(reply("410 Gone"), OK) as there:
        async with sending(operational, there.url) as setup:
            raiser = AlertRaiser(on_commit=setup.sender.wake)
            judge(raiser, [finding()])
            await setup.until(state_is("undelivered"))
            judge(raiser, [finding(device="plot2/water")])
            assert [row.state for row in setup.rows()] == ["undelivered"] * 2
            with operational.read() as connection:
                assert connection.scalar(sa.select(endpoints.c.suspended_ms)) is not None
            assert len(there.requests) == 1
        async with sending(operational, there.url) as setup:  # the operator starts the server again
            await setup.until(state_is("delivered"))
            assert len(there.requests) == 3


async def test_retry_after_quiets_the_whole_endpoint(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with (
        hook(reply("429 Slow down", "retry-after: 600"), OK) as there,
        sending(operational, there.url, concurrency=1) as setup,
    ):
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        judge(raiser, [finding(), finding(device="plot2/water")])
        await setup.until(has_attempts(1))
        setup.clock.now += 599_999
        setup.sender.wake()
        judge(raiser, [finding(device="plot3/water")])
        assert [row.state for row in setup.rows()] == ["pending"] * 3
        assert len(there.requests) == 1
        setup.clock.now += 1
        setup.sender.wake()
        await setup.until(state_is("delivered"))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirects_are_failures_and_never_followed(
    operational: Operational, judge: Judge, finding: Make, status: str
) -> None:
    async with hook(OK) as other:
        async with (
            hook(reply(status, f"location: {other.url}")) as there,
            sending(operational, there.url) as setup,
        ):
            judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
            await setup.until(has_attempts(1))
            assert setup.rows()[0].state == "pending"
            assert len(there.requests) == 1
        assert other.requests == []


async def never(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()
    writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


async def close_midway(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    await writer.drain()


async def nonsense(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 what is this\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("script", [never, drip, close_midway, nonsense])
async def test_a_receiver_that_does_not_answer_is_cut(
    operational: Operational, judge: Judge, finding: Make, script: Callable[..., Awaitable[None]]
) -> None:
    limits = SenderLimits(connect_s=0.3, total_s=0.3)
    async with hook(script) as there, sending(operational, there.url, limits=limits) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(has_attempts(1))
        (attempt,) = setup.attempts()
        assert attempt.status_code is None
        assert attempt.error
        assert setup.rows()[0].state == "pending"


async def test_an_endless_body_is_cut_at_four_kilobytes_and_made_harmless(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<b>\x00\x1b[31m\xff\xe8\xb6\x85"
        )
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with hook(endless) as there, sending(operational, there.url) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(state_is("delivered"))
        response = setup.attempts()[0].response
        assert response.startswith("<b>\\x00\\x1b[31m\\xff超xxx")
        assert len(response) < 4200


async def test_nobody_listening_is_retried(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with hook(OK) as there:
        url = there.url
    async with sending(operational, url) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(has_attempts(1))
        assert "ClientConnectorError" in setup.attempts()[0].error


async def test_a_dead_endpoint_delays_no_other(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    async with (
        hook(never) as dead,
        hook(OK) as alive,
        sending(operational, dead.url, alive.url, limits=SenderLimits(total_s=200)) as setup,
    ):
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        items = [finding(device=f"plot{n}/water") for n in range(40)]
        await asyncio.to_thread(judge, raiser, items)
        async with asyncio.timeout(60):  # the dead one holds its four attempts for longer
            await alive.has(40)
        await dead.has(4)
        assert len(dead.requests) == 4


async def test_a_crash_between_send_and_record_sends_the_same_id_and_bytes_again(
    operational: Operational, judge: Judge, finding: Make, tmp_path: Path
) -> None:
    clock = Clock()
    receiver = Receiver(
        secret=SECRET, journal=tmp_path / "received.jsonl", clock=lambda: clock() / 1000
    )
    async with receiver as url:
        async with hook(never) as there, sending(operational, there.url, clock=clock) as setup:
            judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
            await there.has(1)  # it has the request; we die before the answer is booked
        ((headers, body),) = there.requests
        async with sending(operational, url, clock=clock) as setup:
            assert setup.attempts() == []
            row = setup.rows()[0]
            assert (row.state, row.locked_until_ms) == ("pending", START_MS + LEASE_MS)
            clock.now += LEASE_MS
            setup.sender.wake()
            await setup.until(state_is("delivered"))
            assert (row.webhook_id, row.body) == (headers["webhook-id"], body)


async def test_the_reference_receiver_keeps_one_of_two(
    operational: Operational, judge: Judge, finding: Make, tmp_path: Path
) -> None:
    clock = Clock()
    journal = tmp_path / "received.jsonl"
    receiver = Receiver(secret=SECRET, journal=journal, clock=lambda: clock() / 1000)
    async with receiver as url, sending(operational, url, clock=clock) as setup:
        judge(AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(state_is("delivered"))
        with operational.write() as connection:  # as if the record of the first send had been lost
            connection.execute(sa.update(outbox).values(state="pending", attempts=0))
        setup.sender.wake()
        await setup.until(has_attempts(2))
        assert [row.status_code for row in setup.attempts()] == [204, 200]
    assert len(journal.read_text().splitlines()) == 1


def test_two_senders_never_lease_the_same_row(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    row = WebhookEndpoint("e0", "E", "http://127.0.0.1:1/", SECRET, allow_http=True)
    sync_endpoints(operational, [row], 0)
    judge(AlertRaiser(), [finding(device=f"plot{n}/water") for n in range(6)])
    clock = Clock(START_MS + 1000)
    first = take_turn(operational, [], [], {"e0": 4}, clock)
    second = take_turn(operational, [], [], {"e0": 4}, clock)
    ids = [{job.outbox_id for job in turn.jobs["e0"]} for turn in (first, second)]
    assert [len(some) for some in ids] == [4, 2]
    assert not ids[0] & ids[1]
    assert second.due_ms["e0"] == clock.now + LEASE_MS


def test_an_endpoint_that_left_the_configuration_gets_no_more_events(
    operational: Operational, judge: Judge, finding: Make
) -> None:
    rows = [
        WebhookEndpoint(name, name, "http://127.0.0.1:1/", SECRET, allow_http=True) for name in "ab"
    ]
    sync_endpoints(operational, rows, 0)
    sync_endpoints(operational, rows[:1], 0)
    judge(AlertRaiser(), [finding()])
    with operational.read() as connection:
        assert list(connection.scalars(sa.select(outbox.c.endpoint_id))) == ["a"]


async def test_while_the_database_is_away_what_ended_is_kept_and_booked_later(
    operational: Operational, judge: Judge, finding: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "TRY_AGAIN_S", 0.01)
    refused: list[int] = []

    def away_when_booking(database: Operational, settled: Sequence[Settled], *more: object) -> Turn:
        if settled and len(refused) < 3:
            refused.append(len(settled))
            raise sa.exc.OperationalError("INSERT", {}, OSError("server closed the connection"))
        return take_turn(database, settled, *more)

    monkeypatch.setattr(sender_module, "take_turn", away_when_booking)
    async with hook(OK) as there, sending(operational, there.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        await asyncio.to_thread(judge, raiser, [finding()])
        await setup.until(state_is("delivered"))
        assert refused == [1, 1, 1]
        assert len(setup.attempts()) == len(there.requests) == 1
