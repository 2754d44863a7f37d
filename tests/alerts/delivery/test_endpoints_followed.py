"""The sender follows the table of endpoints; keys rotate (D8), replays keep their order, failures suspend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from alerts.delivery import keys
from alerts.delivery.administering import Administration
from alerts.delivery.booking import FAILING_MS
from alerts.delivery.breaker import CLOSE_TOGETHER_MS, FAILURES, OPEN_MS, Breaker
from alerts.delivery.errors import EndpointError
from alerts.delivery.guard import Guard
from alerts.delivery.replay import Which, replay
from alerts.delivery.signing import verify
from alerts.errors import VerificationError
from alerts.raising import AlertRaiser
from alerts.tables import administration_log, delivery_attempts, endpoint_keys, endpoints, outbox
from ingest.tables import events
from tests.alerts.delivery.test_sender import (
    OK,
    SECRET,
    START_MS,
    VAULT,
    has_attempts,
    hook,
    reply,
    sending,
    state_is,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.operational import Operational

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Judge = "Callable[..., AlertRaiser]"


@pytest.fixture
def administration(operational: Operational) -> Administration:
    return Administration(operational, VAULT, Guard())


async def test_d8_both_keys_sign_while_they_overlap_then_only_the_new(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(reply("500 No"), OK) as there, sending(operational, there.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        await asyncio.to_thread(judge, raiser, [finding()])
        await setup.until(has_attempts(1))

        def rotate() -> keys.NewKey:  # in the middle of a retry
            with operational.write() as connection:
                return keys.rotate(
                    connection, VAULT, "e0", keys.HMAC, setup.clock.now, overlap_ms=HOUR_MS
                )

        new = await asyncio.to_thread(rotate)
        assert "whsec_" not in repr(new)
        setup.forward_to_next()
        await setup.until(state_is("delivered"))
        (first, body), (second, again) = there.requests
        assert body == again
        assert verify(SECRET, first, body, START_MS / 1000)
        for secret in (SECRET, new.secret):
            assert verify(secret, second, body, setup.clock.now / 1000)
        assert len(second["webhook-signature"].split()) == 2
        setup.clock.now += HOUR_MS
        await asyncio.to_thread(judge, raiser, [finding(device="plot2/water")])
        await setup.until(has_attempts(3))
        await setup.until(state_is("delivered"))
        third, body = there.requests[2]
        assert verify(new.secret, third, body, setup.clock.now / 1000)
        with pytest.raises(VerificationError):
            verify(SECRET, third, body, setup.clock.now / 1000)
        with operational.read() as connection:
            query = sa.select(delivery_attempts.c.key_ids).order_by(delivery_attempts.c.id)
            used = [len(ids) for ids in connection.scalars(query)]
            assert used == [1, 2, 1]
            stored = " ".join(connection.scalars(sa.select(endpoint_keys.c.secret)))
            assert "whsec_" not in stored


def test_d8_a_leaked_key_ends_now_and_five_sign_at_most(operational: Operational) -> None:
    with operational.write() as connection:
        connection.execute(
            sa.insert(endpoints).values(id="e", name="e", url="https://x.example/", active=True)
        )
        keys.add(connection, VAULT, "e", keys.ED25519, 0)
        for number in range(1, 5):
            keys.rotate(connection, VAULT, "e", keys.ED25519, number)
        assert len(keys.signers(connection, VAULT, ["e"], 5)["e"]) == keys.MAX_LIVE
        with pytest.raises(EndpointError, match="5 keys"):
            keys.rotate(connection, VAULT, "e", keys.ED25519, 5)
        new = keys.rotate(connection, VAULT, "e", keys.ED25519, 5, revoke_old_now=True)
        assert [one.key_id for one in keys.signers(connection, VAULT, ["e"], 6)["e"]] == [new.id]
        with pytest.raises(EndpointError, match="only key"):
            keys.revoke(connection, "e", new.id, 6)
        for hours in (0, 721):
            with pytest.raises(EndpointError, match="overlap"):
                keys.rotate(connection, VAULT, "e", "hmac", 6, overlap_ms=hours * HOUR_MS)


async def test_an_endpoint_that_comes_while_the_sender_runs_is_served_and_one_that_goes_is_not(
    operational: Operational,
    judge: Callable,
    finding: Callable,
    administration: Administration,
) -> None:
    async with hook(OK) as first, hook(OK) as second, sending(operational, first.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)

        def add() -> None:
            with operational.write() as connection:
                row = {"id": "late", "name": "L", "url": second.url, "active": True}
                more = {"allow_http": True, "source": "config"}
                connection.execute(sa.insert(endpoints).values(**row, **more))
                keys.add(connection, VAULT, "late", keys.ED25519, 0)

        await asyncio.to_thread(add)
        await asyncio.to_thread(judge, raiser, [finding()])
        await setup.until(has_attempts(2))
        assert second.requests[0][0]["webhook-signature"].startswith("v1a,")
        await asyncio.to_thread(
            administration.suspend, "late", "it moves", actor="li", now_ms=setup.clock.now
        )
        await asyncio.to_thread(judge, raiser, [finding(device="plot2/water")])
        await setup.until(has_attempts(3))
        assert (len(first.requests), len(second.requests)) == (2, 1)
        states = {row.endpoint_id: row.state for row in setup.rows()[2:]}
        assert states == {"e0": "delivered", "late": "undelivered"}
        await asyncio.to_thread(administration.resume, "late", actor="li", now_ms=setup.clock.now)
        setup.sender.wake()
        await setup.until(state_is("delivered"))
        assert len(second.requests) == 2


def test_an_endpoint_of_the_api_gets_nothing_before_it_is_verified(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    with operational.write() as connection:
        row = {"id": "new", "name": "N", "url": "https://x.example/", "active": True}
        connection.execute(sa.insert(endpoints).values(**row, source="api"))
    judge(AlertRaiser(), [finding()])
    with operational.write() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(outbox)) == 0
        connection.execute(sa.update(endpoints).values(verified_ms=1))
    judge(AlertRaiser(), [finding(device="plot2/water")])
    with operational.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(outbox)) == 1


async def test_d2_a_replay_sends_all_in_order_with_the_same_ids_and_bytes(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(reply("422 No")) as down, hook(OK) as up:
        async with sending(operational, down.url) as setup:
            raiser = AlertRaiser(on_commit=setup.sender.wake)
            items = [finding(device=f"plot{n}/water") for n in range(12)]
            await asyncio.to_thread(judge, raiser, items)
            for count in (12, 24, 36):
                await setup.until(has_attempts(count))
                if count < 36:
                    setup.forward_to_next()
            await setup.until(state_is("undelivered"))
        async with sending(operational, up.url) as setup:
            which = Which(since_ms=0, undelivered=True)
            done = await asyncio.to_thread(
                lambda: replay(operational, "e0", which, actor="li", now_ms=setup.clock.now)
            )
            assert (done.events, done.left) == (12, 0)
            setup.sender.wake()
            await setup.until(state_is("delivered"))
            rows = setup.rows()
            assert [h["webhook-id"] for h, _ in up.requests] == [row.webhook_id for row in rows]
            assert [body for _, body in up.requests] == [row.body for row in rows]
            assert {(h["x-replay"], h["x-attempt"]) for h, _ in up.requests} == {("1", "1")}
            sent = {(h["webhook-id"], body) for h, body in down.requests}
            assert sent == {(h["webhook-id"], body) for h, body in up.requests}
    with operational.read() as connection:
        log = administration_log.c
        noted = connection.execute(
            sa.select(log.actor, log.data).where(log.action == "event.replayed")
        )
        assert [(row.actor, row.data["events"]) for row in noted] == [("li", 12)]


async def test_a_replay_that_fails_leaves_a_delivered_event_delivered(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(OK, reply("410 Gone")) as there, sending(operational, there.url) as setup:
        await asyncio.to_thread(judge, AlertRaiser(on_commit=setup.sender.wake), [finding()])
        await setup.until(state_is("delivered"))
        which = Which(webhook_id=setup.rows()[0].webhook_id)
        await asyncio.to_thread(
            lambda: replay(operational, "e0", which, actor="li", now_ms=setup.clock.now)
        )
        setup.sender.wake()
        await setup.until(has_attempts(2))
        assert setup.rows()[0].state == "delivered"


async def test_five_days_of_failures_suspend_and_the_operator_is_told_elsewhere(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(reply("500 No")) as there, sending(operational, there.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        for day in range(6):
            before = len(setup.attempts())
            setup.clock.now = max(setup.clock.now, START_MS + day * DAY_MS)
            await asyncio.to_thread(
                judge, raiser, [finding(device=f"plot{day}/water")], None, setup.clock.now
            )
            await setup.until(has_attempts(before + 1))
        await setup.until(state_is("undelivered"))
        assert setup.clock.now - START_MS >= FAILING_MS
        with operational.read() as connection:
            query = sa.select(events.c.data).where(events.c.type == "endpoint")
            (told,) = connection.scalars(query)
            assert (told["endpoint_id"], told["what"]) == ("e0", "suspended")
            assert "five days" in told["reason"]
            log = administration_log.c.action
            assert "endpoint.suspended" in list(connection.scalars(sa.select(log)))


async def test_a_failure_after_months_of_silence_proves_no_five_days(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(reply("422 No")) as there, sending(operational, there.url) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        await asyncio.to_thread(judge, raiser, [finding()])
        for count in (1, 2):
            await setup.until(has_attempts(count))
            setup.forward_to_next()
        await setup.until(state_is("undelivered"))
        setup.clock.now += 60 * DAY_MS
        late = [finding(device="plot2/water")]
        await asyncio.to_thread(judge, raiser, late, None, setup.clock.now)
        await setup.until(has_attempts(4))
        with operational.read() as connection:
            row = connection.execute(sa.select(endpoints)).one()
            assert (row.suspended_ms, row.failing_since_ms) == (None, setup.clock.now)


async def test_the_rate_of_an_endpoint_is_kept(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    async with hook(OK) as there, sending(operational, there.url, rate_per_min=6) as setup:
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        items = [finding(device=f"plot{n}/water") for n in range(3)]
        await asyncio.to_thread(judge, raiser, items)
        for count in (1, 2, 3):
            await setup.until(has_attempts(count))
            setup.clock.now += 9_999
            setup.sender.wake()
            await asyncio.sleep(0.05)
            assert len(there.requests) == count
            setup.clock.now += 1
            setup.sender.wake()
        times = [row.at_ms - START_MS for row in setup.attempts()]
        assert times == [0, 10_000, 20_000]


async def test_a_long_queue_at_a_dead_receiver_is_probed_by_one_and_none_is_counted_unsent(
    operational: Operational, judge: Callable, finding: Callable
) -> None:
    most = FAILURES + 3  # what was under way when it opened ends
    async with (
        hook(*[reply("500 No")] * (most + 1), OK) as there,
        sending(operational, there.url) as setup,
    ):
        raiser = AlertRaiser(on_commit=setup.sender.wake)
        items = [finding(device=f"plot{n}/water") for n in range(130)]
        await asyncio.to_thread(judge, raiser, items)
        await setup.until(has_attempts(FAILURES))
        await asyncio.sleep(0.1)
        sent = len(there.requests)
        assert FAILURES <= sent <= most
        await setup.until(has_attempts(sent))
        assert sum(row.attempts for row in setup.rows()) == sent
        setup.clock.now += OPEN_MS
        setup.sender.wake()
        await setup.until(has_attempts(sent + 1))
        await asyncio.sleep(0.1)
        assert len(there.requests) == sent + 1
        for _ in range(8):
            setup.clock.now += OPEN_MS
            setup.sender.wake()
            await asyncio.sleep(0.05)
        await setup.until(state_is("delivered"))


def test_the_breaker_counts_only_failures_close_together() -> None:
    breaker = Breaker()
    for number in range(3 * FAILURES):
        breaker.failed(number * (CLOSE_TOGETHER_MS + 1))
    assert not breaker.is_probing
    for number in range(FAILURES):
        breaker.failed(10**9 + number)
    opened = 10**9 + FAILURES - 1
    assert breaker.open_until(opened) == opened + OPEN_MS
    assert breaker.open_until(opened - 1) == 0  # the clock was set back
    assert breaker.open_until(opened + OPEN_MS) == 0
    breaker.succeeded()
    assert not breaker.is_probing


def test_the_vault_is_asked_and_nothing_secret_is_in_the_table(operational: Operational) -> None:
    with operational.read() as connection:
        for table in (endpoints, endpoint_keys):
            for row in connection.execute(sa.select(table)):
                assert b"whsec_" not in msgspec.json.encode(tuple(str(x) for x in row))
