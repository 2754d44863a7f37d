"""The sender of messages to people against a real server that answers as robots do, on both engines."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
import sqlalchemy as sa

from alerts.delivery.suspension import suspend
from alerts.people import digest
from alerts.people import sender as sender_module
from alerts.people.notices import FAILED, PENDING, SENT
from alerts.people.operators import SuspensionWatch, enqueue_operator
from alerts.people.pace import BACK_OFF_S, MAX_ATTEMPTS
from alerts.people.retention import KEEP_MS, NoticeRetention
from alerts.people.sender import PeopleSender, written
from alerts.states import State
from alerts.tables import endpoints, notices
from tests.alerts.people.conftest import eventually, robot_server, running

MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
def short_breath(monkeypatch):
    monkeypatch.setattr(sender_module, "BREATH_S", 0.01)
    monkeypatch.setattr(sender_module, "BREATHS", 0)


async def test_first_notice_of_a_quiet_target_goes_at_once_and_later_ones_are_collected(
    people, robot
):
    people.add_target(f"http://127.0.0.1:{robot.port}/r", digest_s=60)
    people.tell(sample_no="S-first")
    async with running(people.sender()) as sender:
        await eventually(lambda: people.states() == [SENT])
        for _ in range(3):
            people.tell(sample_no="S-later")
        sender.wake()
        await eventually(lambda: sender._lanes["t1"].pace.sent)
        assert len(robot.got) == 1
        people.clock.now_ms += 61_000
        sender.wake()
        await eventually(lambda: people.states() == [SENT] * 4)
    assert len(robot.got) == 2
    assert "告警 3 条" in robot.texts()[1]
    assert [row["notices"] for row in people.messages()] == [1, 3]


async def test_an_error_code_in_a_200_is_a_failure_and_is_tried_again_later(people, robot):
    """D7: the robot says 200 and takes nothing."""
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    robot.answers = [{"errcode": 93000, "errmsg": "invalid webhook url"}]
    people.tell()
    async with running(people.sender()) as sender:
        await eventually(people.messages)
        row = people.rows(notices)[0]
        assert (row["state"], row["attempts"], row["message_id"]) == (PENDING, 1, "")
        assert row["due_ms"] == people.clock.now_ms + BACK_OFF_S[0] * 1000
        assert "93000" in row["error"]
        people.clock.now_ms += MINUTE_MS
        sender.wake()
        await eventually(lambda: people.states() == [SENT])
    assert [row["delivered"] for row in people.messages()] == [False, True]
    assert people.messages()[0]["status_code"] == 200


async def test_a_robot_that_has_enough_is_left_alone(people, robot):
    """D7: 45009; DingTalk is deaf for ten minutes after 130101."""
    people.add_target(f"http://127.0.0.1:{robot.port}/r", kind="dingtalk")
    robot.answers = [{"errcode": 130101, "errmsg": "send too fast"}]
    people.tell()
    async with running(people.sender()) as sender:
        await eventually(people.messages)
        people.clock.now_ms += 9 * MINUTE_MS
        people.tell()
        sender.wake()
        await asyncio.sleep(0.1)
        assert len(robot.got) == 1
        people.clock.now_ms += 2 * MINUTE_MS
        sender.wake()
        await eventually(lambda: people.states() == [SENT, SENT])
    assert len(robot.got) == 2


async def test_attempts_are_bounded_and_operators_are_told(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/bad")
    async with robot_server() as other:
        people.add_target(f"http://127.0.0.1:{other.port}/r", operator=True, digest_s=0)
        robot.always = {"errcode": 93000, "errmsg": "no"}
        people.tell()
        async with running(people.sender()) as sender:
            for attempt in range(1, MAX_ATTEMPTS + 1):
                await eventually(
                    lambda wanted=attempt: people.rows(notices)[0]["attempts"] == wanted
                )
                people.clock.now_ms += 9 * 3_600_000
                sender.wake()
            assert people.rows(notices)[0]["state"] == FAILED
            await eventually(lambda: len(other.got) == 1)
    assert len(robot.got) == MAX_ATTEMPTS
    assert "t1 连续发送失败" in other.texts()[0]


async def test_ten_thousand_notices_in_a_minute_stay_within_the_rate(people, robot, monkeypatch):
    people.add_target(f"http://127.0.0.1:{robot.port}/r", rate_per_min=6, digest_s=0)
    read = []
    monkeypatch.setattr(
        sender_module, "written", lambda *args: read.append(args[1]) or written(*args)
    )
    began_ms = people.clock.now_ms
    people.tell()
    async with running(people.sender()) as sender:
        await eventually(lambda: len(robot.got) == 1)
        for second in range(10):
            people.tell_many(1_000, severity="critical" if second == 9 else "warning")
            people.clock.now_ms += 6_000
            sender.wake()
            await asyncio.sleep(0.02)
        while people.pending():
            people.clock.now_ms += 5_000
            sender.wake()
            await asyncio.sleep(0.05)
    sent = [row["at_ms"] for row in people.messages()]
    for start in sent:
        assert sum(start <= at < start + MINUTE_MS for at in sent) <= 6
    assert len(sent) <= 1 + 6 * (people.clock.now_ms - began_ms) // MINUTE_MS + 6
    assert sum(row["notices"] for row in people.messages()) == 10_001
    assert all(len(text.encode()) <= 4096 for text in robot.texts())
    assert max(len(job.told) for job in read) <= digest.PAGE  # read in pages, counted by SQL
    assert any("…另有" in text and "https://nj.example/alerts" in text for text in robot.texts())
    assert "危急" in robot.texts()[-1] or any("危急 1000" in text for text in robot.texts())


async def test_changes_of_one_alert_meet_as_the_newest(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    alert_id = people.tell()
    people.tell(alert_id=alert_id, state=State.RETEST_ORDERED, seq=2, event="alert.retest_ordered")
    people.tell(alert_id=alert_id, state=State.CONFIRMED, seq=3, event="alert.confirmed")
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT] * 3)
    (text,) = robot.texts()
    assert "告警 1 条" in text
    assert "超标已确证" in text
    assert "疑似" not in text


async def test_groups_are_messages_of_their_own_while_the_rate_allows(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r", rate_per_min=2)
    for group in ("north", "south", "east"):
        people.tell(group=group, product_name=group)
    people.tell(group="east", severity="critical", product_name="east")
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT] * 4)
    first, second = robot.texts()
    assert "告警 2 条：危急 1 · 严重 1" in first
    assert "north" not in first
    assert "north" in second
    assert "south" in second


async def test_quiet_hours_hold_all_but_critical_until_they_end(people, robot):
    people.clock.now_ms += 11 * 3_600_000  # 23:00 in China
    people.add_target(f"http://127.0.0.1:{robot.port}/r", quiet={"from": "22:00", "to": "07:00"})
    people.tell(product_name="寻常")
    people.tell(product_name="要紧", severity="critical")
    async with running(people.sender()) as sender:
        await eventually(lambda: people.states() == [PENDING, SENT])
        people.clock.now_ms += 7 * 3_600_000  # 06:00: past midnight, still quiet
        sender.wake()
        await asyncio.sleep(0.1)
        assert len(robot.got) == 1
        people.clock.now_ms += 3_600_000
        sender.wake()
        await eventually(lambda: people.states() == [SENT, SENT])
    assert "寻常" not in robot.texts()[0]
    assert "寻常" in robot.texts()[1]


async def test_killed_between_send_and_mark_it_is_told_again(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    people.tell(sample_no="S-7")
    robot.hold = asyncio.Event()  # it has the message, and we never hear of it
    async with running(people.sender()):
        await eventually(lambda: robot.got)
    assert people.states() == [PENDING]
    assert people.rows(notices)[0]["message_id"] != ""
    held, robot.hold = robot.hold, None
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT])
    held.set()
    assert len(robot.got) == 2
    assert all("S-7" in text for text in robot.texts())


async def test_a_claim_whose_commit_was_not_answered_is_let_go(people, robot, monkeypatch):
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    people.tell()
    look, failed = PeopleSender._look, []

    def lost(self):
        turn = look(self)
        if turn.jobs and not failed:
            failed.append(turn)
            for lane in self._lanes.values():
                lane.busy = False  # as when the transaction itself had failed
            raise sa.exc.OperationalError(
                "commit", {}, sqlite3.OperationalError("database is locked")
            )
        return turn

    monkeypatch.setattr(PeopleSender, "_look", lost)
    monkeypatch.setattr(sender_module, "TRY_AGAIN_S", 0.01)
    monkeypatch.setattr(sender_module, "passes", lambda _exc: True)
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT])
    assert failed


def test_old_notices_go_and_waiting_ones_stay(people):
    people.add_target("http://127.0.0.1:9/r")
    for _ in range(3):
        people.tell()
    with people.operational.write() as connection:
        connection.execute(sa.update(notices).where(notices.c.id != 2).values(state=SENT))
    retention = NoticeRetention(people.operational)
    retention.look(people.clock() + KEEP_MS - 1)
    assert len(people.states()) == 3
    NoticeRetention(people.operational).look(people.clock() + KEEP_MS + 1)
    assert people.states() == [PENDING]


async def test_the_rate_survives_a_restart(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r", rate_per_min=1, digest_s=0)
    people.tell()
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT])
    people.tell()
    people.clock.now_ms += 30_000
    async with running(people.sender()) as sender:
        await asyncio.sleep(0.2)
        assert len(robot.got) == 1
        people.clock.now_ms += 32_000
        sender.wake()
        await eventually(lambda: people.states() == [SENT, SENT])


async def test_a_target_that_hangs_delays_no_other(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    async with robot_server() as other:
        people.add_target(f"http://127.0.0.1:{other.port}/r")
        robot.hold = asyncio.Event()
        people.tell("t1")
        people.tell("t2")
        async with running(people.sender()):
            await eventually(lambda: SENT in people.states() and robot.got)
            assert len(other.got) == 1
        robot.hold.set()


async def test_what_waits_for_a_target_that_is_gone_is_dropped(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r")
    people.tell()
    people._targets.clear()
    people.add_target(f"http://127.0.0.1:{robot.port}/r", id="t2")
    people.tell("t2")
    async with running(people.sender()):
        await eventually(lambda: people.states() == ["dropped", SENT])


async def test_a_suspended_endpoint_is_told_to_operators_once(people, robot):
    people.add_target(f"http://127.0.0.1:{robot.port}/r", operator=True, digest_s=0)
    people.add_target(f"http://127.0.0.1:{robot.port}/other")
    watch = SuspensionWatch(people.operational)
    assert not watch.look(people.clock())
    with people.operational.write() as connection:
        connection.execute(
            sa.insert(endpoints).values(
                id="county", name="c", url="https://c.example/", active=True
            )
        )
        assert suspend(connection, "county", "every attempt has failed for five days", 1)
    assert watch.look(people.clock())
    assert not SuspensionWatch(people.operational).look(people.clock())
    async with running(people.sender()):
        await eventually(lambda: people.states() == [SENT])
    assert "推送端点 county 已停用" in robot.texts()[0]
    assert "运维通知 1 条" in robot.texts()[0]


def test_operators_get_only_texts_that_exist(people):
    with people.operational.write() as connection, pytest.raises(ValueError, match="no such text"):
        enqueue_operator(connection, ["t1"], "nonsense", {}, 1)
