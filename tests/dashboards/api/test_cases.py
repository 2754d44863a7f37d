"""The case of an alert over HTTP, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
import sqlalchemy as sa

from alerts.cases.calendar import Calendar
from alerts.casework import Deadlines
from alerts.tables import alerts, case_steps, cases
from tests.conftest import databases  # noqa: F401 - on both engines

NOBODY = "01JDWZ0000000000000000000Z"
UNKNOWN = next(year for year in range(2026, 2200) if not Calendar().has(year))
NOTICE = {"type": "快检结果告知书", "no": "1号", "sha256": "a" * 64}


def at(text):
    return int(datetime.fromisoformat(f"{text}+08:00").timestamp() * 1000)


@pytest.fixture
def now(county):
    """Set what time it is, as ``now["is"]``."""
    clock = {"is": at("2026-09-30 10:00")}
    county.sources = replace(county.sources, now_ms=lambda: clock["is"])
    return clock


@pytest.fixture
async def client(county, connect, now):  # noqa: ARG001 - the app has its clock
    async with connect(county.app()) as client:
        yield client


@pytest.fixture
def suspect(county):
    def make(**row):
        return county.add_alert(
            **{
                "kind": "test",
                "certainty": "screening",
                "purpose": "supervision",
                "sampling_stage": "base",
                "sample_no": "s1",
                "first_seen_ms": at("2026-09-30 08:00"),
                **row,
            }
        )

    return make


@pytest.fixture
def post(client, key):
    async def send(alert_id, **body):
        reply = await client.get(f"/api/v1/alerts/{alert_id}/case")
        seq = reply.json()["alert_seq"] if reply.status_code == 200 else 1
        return await client.post(
            f"/api/v1/alerts/{alert_id}/case/steps",
            json={"seq": seq, "actor": "李四", **body},
            headers={"X-API-Key": key},
        )

    return send


async def test_without_a_case_the_next_steps_are_named(client, suspect):
    alert_id = suspect()
    reply = (await client.get(f"/api/v1/alerts/{alert_id}/case")).json()
    assert reply["next"][0] == {
        "step": "notice_served",
        "title_zh": "结果告知书送达",
        "title_en": "Notice served",
        "first": True,
        "needs": [
            {
                "field": "document.type",
                "title_zh": "文书种类",
                "title_en": "type of the document",
                "kind": "text",
                "choices": [],
                "required": True,
            },
            {
                "field": "document.no",
                "title_zh": "文书编号",
                "title_en": "number of the document",
                "kind": "text",
                "choices": [],
                "required": True,
            },
        ],
    }
    del reply["next"]
    assert reply == {
        "alert_id": alert_id,
        "alert_seq": 1,
        "alert_state": "suspected",
        "case_id": None,
        "side": "",
        "opened_at": None,
        "closed_at": None,
        "steps": [],
        "clocks": [],
    }


async def test_a_notice_starts_the_four_hours(client, county, suspect, post, now, key):
    alert_id = suspect()
    reply = await post(
        alert_id, step="notice_served", at="2026-09-30T09:30:00+08:00", note="当面", document=NOTICE
    )
    assert reply.status_code == 200, reply.text
    case = reply.json()
    assert (case["side"], case["alert_seq"]) == ("farm", 2)
    assert case["steps"] == [
        {
            "step": "notice_served",
            "title_zh": "结果告知书送达",
            "title_en": "Notice served",
            "at": "2026-09-30T09:30:00+08:00",
            "recorded_at": "2026-09-30T10:00:00+08:00",
            "actor": f"李四 ({key.split('_')[1]})",
            "note": "当面",
            "document": NOTICE,
            "data": {"result": "rapid"},
            "alert_seq": 2,
        }
    ]
    [clock] = case["clocks"]
    clock.pop("id")
    assert clock == {
        "name": "objection_rapid",
        "title_zh": "快检结果异议",
        "title_en": "Objection to the rapid result",
        "basis": "农产品质量安全法 第五十一条",
        "who": "party",
        "length": "4 h",
        "started_at": "2026-09-30T09:30:00+08:00",
        "due_at": "2026-09-30T13:30:00+08:00",
        "missing_year": None,
        "message_zh": "",
        "message_en": "",
        "remaining_s": 3.5 * 3600,
        "state": "running",
        "ended_at": None,
        "ended_by": "",
        "overdue_at": None,
        "days": [],
    }
    assert county.sender_wakes == [1]
    now["is"] = at("2026-09-30 13:31")
    assert Deadlines(county.operational).look(now["is"])
    [clock] = (await client.get(f"/api/v1/alerts/{alert_id}/case")).json()["clocks"]
    assert (clock["state"], clock["remaining_s"]) == ("overdue", -60)
    assert clock["overdue_at"] == "2026-09-30T13:31:00+08:00"


async def test_working_days_are_shown_day_by_day(suspect, post):
    alert_id = suspect(state="confirmed", certainty="confirmatory")
    case = (await post(alert_id, step="notice_served", document=NOTICE)).json()
    [clock] = case["clocks"]
    assert clock["due_at"] == "2026-10-14T00:00:00+08:00"
    assert [(day["date"][5:], day["number"], day["reason_zh"]) for day in clock["days"]] == [
        *((f"10-0{day}", None, "国庆节") for day in range(1, 8)),
        ("10-08", 1, "工作日"),
        ("10-09", 2, "工作日"),
        ("10-10", 3, "调休上班（国庆节）"),
        ("10-11", None, "周日"),
        ("10-12", 4, "工作日"),
        ("10-13", 5, "工作日"),
    ]
    assert clock["days"][9]["reason_en"] == "make-up workday (National Day)"
    assert not clock["days"][0]["counted"]


async def test_a_missing_year_is_said(suspect, post, now):
    now["is"] = at(f"{UNKNOWN - 1}-12-31 10:00")
    alert_id = suspect(state="confirmed", certainty="confirmatory")
    [clock] = (await post(alert_id, step="notice_served", document=NOTICE)).json()["clocks"]
    assert (clock["state"], clock["due_at"], clock["remaining_s"]) == ("running", None, None)
    assert clock["missing_year"] == UNKNOWN
    assert clock["message_zh"] == f"{UNKNOWN} 年节假日表未发布/缺失：期限待定"


async def test_clocks_by_what_is_due_first(client, suspect, post, now):
    now["is"] = at("2026-09-30 10:00")
    later = suspect(state="confirmed", certainty="confirmatory")
    soon, first = suspect(), suspect()
    await post(later, step="notice_served", document=NOTICE)
    await post(soon, step="notice_served", document=NOTICE)
    await post(first, step="notice_served", document=NOTICE, at="2026-09-30T09:00:00+08:00")

    async def page(**query):
        reply = (await client.get("/api/v1/clocks", params=query)).json()
        return [row["alert_id"] for row in reply["clocks"]], reply["next"]

    found, cursor = await page(limit=2)
    assert found == [first, soon]
    assert await page(limit=2, after=cursor) == ([later], None)
    assert await page(state="overdue") == ([], None)
    now["is"] = at("2026-09-30 13:30")
    assert (await page(state="overdue"))[0] == [first]
    assert (await page())[0] == [soon, later]
    reply = (await client.get("/api/v1/clocks")).json()
    assert reply["calendar_to_year"] == UNKNOWN - 1
    row = reply["clocks"][0]
    assert (row["station"], row["sample_no"], row["clock"]["name"]) == (
        "hl-001",
        "s1",
        "objection_rapid",
    )


async def test_refusals_name_what_is_legal_and_change_nothing(client, county, suspect, post, key):
    alert_id = suspect()
    url = f"/api/v1/alerts/{alert_id}/case/steps"
    good = {"step": "notice_served", "document": NOTICE}
    bodies = [
        ({"step": "objection", "note": "x"}, 409, "only after notice_served"),
        ({**good, "seq": 7}, 409, "no longer at seq 7"),
        ({"step": "lunch"}, 422, "is no step"),
        ({"step": "notice_served"}, 422, "document.type: is missing"),
        ({**good, "at": "2026-09-30T11:00:00+08:00"}, 422, "in the future"),
        ({**good, "at": "2026-09-30T07:00:00+08:00"}, 422, "before the alert"),
        ({**good, "at": "yesterday"}, 422, "at: 'yesterday'"),
        ({**good, "colour": "red"}, 422, "colour"),
        ({**good, "data": {"colour": "red"}}, 422, "data.colour"),
        ({**good, "document": {**NOTICE, "sha256": "x"}}, 422, "document.sha256"),
        ({**good, "note": "n" * 2001}, 422, "note"),
    ]
    for body, status, said in bodies:
        reply = await post(alert_id, **body)
        assert (reply.status_code, said in reply.json()["detail"]) == (status, True), reply.text
    reply = await post(alert_id, step="objection", note="x")
    assert reply.json()["legal"] == ["notice_served", "evidence_preserved"]
    assert reply.headers["content-type"] == "application/problem+json"
    assert (await post(NOBODY, **good)).status_code == 404
    assert (await client.get(f"/api/v1/alerts/{NOBODY}/case")).status_code == 404
    assert (await client.post(url, json={**good, "seq": 1})).status_code == 401
    double = '{"seq": 1, "step": "hold", "step": "notice_served"}'
    reply = await client.post(
        url, content=double, headers={"X-API-Key": key, "content-type": "application/json"}
    )
    assert reply.status_code == 422
    assert (await client.get("/api/v1/clocks", params={"after": "9"})).status_code == 422
    with county.operational.read() as connection:
        assert connection.scalar(sa.select(alerts.c.seq)) == 1
        for table in (cases, case_steps):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0
